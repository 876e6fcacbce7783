"""The requirements of a tracking server: anything missing or wrong is one message, which repeats no password."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from pipeline.system.errors import LabError
from pipeline.tracking.server.checks import (
    check_packages,
    check_password,
    check_port,
    database,
    pool_size,
    without_password,
)
from tests.support.flaky_server import free_port
from tests.support.postgres import FAST, postgres
from tests.support.team_server import needs_packages


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    needs_packages()
    with postgres([*FAST, "max_connections=40"]) as uri:
        yield uri


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///secret.db", "postgresql://", "postgresql://lab:secret@/lab",
        "postgresql://lab@host/lab?password=secret", "postgresql://lab:secret@host",
        "postgresql://lab:sec/ret@host/lab", "postgresql://lab:secret@host:99999/lab", "postgresql://[lab:secret",
    ],
)  # fmt: skip
def test_an_address_that_is_not_a_database_is_not_repeated(uri: str) -> None:
    with pytest.raises(LabError, match="is not set to a PostgreSQL database") as refusal:
        database({"LAB_DATABASE_URI": uri})
    assert "sec" not in str(refusal.value)


def test_a_database_that_does_not_answer() -> None:
    needs_packages()
    port = free_port()
    with pytest.raises(
        LabError, match=rf"Cannot connect to the database(.|\n)*127\.0\.0\.1:{port}(.|\n)*refused"
    ) as refusal:
        pool_size(f"postgresql://lab:sesame@127.0.0.1:{port}/lab", 1)
    assert "sesame" not in str(refusal.value)


def test_a_wrong_password_of_the_database(cluster: str) -> None:
    parts = urlsplit(cluster)
    wrong = cluster.replace(str(parts.password), "sesame")
    with pytest.raises(
        LabError, match=r"Cannot connect to the database(.|\n)*password authentication failed"
    ) as refusal:
        pool_size(wrong, 1)
    assert "sesame" not in str(refusal.value)


def test_workers_share_the_connections_of_the_database(cluster: str) -> None:
    """The cluster takes 40, of which 10 are for others; each worker has three pools."""
    assert [pool_size(cluster, workers) for workers in (1, 2, 5)] == [10, 5, 2]
    with pytest.raises(LabError, match=r"too few connections(.|\n)*at least 46 for 6 workers(.|\n)*received: 40"):
        pool_size(cluster, 6)


@pytest.mark.parametrize(
    ("password", "received"), [("password1234", "MLflow's default password"), ("short", "5 characters"), ("", "0")]
)
def test_a_first_password_that_is_too_weak(password: str, received: str) -> None:
    with pytest.raises(LabError, match=rf"too weak for a server(.|\n)*received: .*{received}"):
        check_password({"MLFLOW_AUTH_ADMIN_PASSWORD": password})


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LabError, match=r"no psycopg2-binary, no mlflow\[auth\]\n(.|\n)*make cluster"):
        check_packages("folder")
    with pytest.raises(LabError, match="no boto3"):
        check_packages("s3://bucket")


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(LabError, match=r"cannot listen(.|\n)*the port is already in use(.|\n)*--port"):
            check_port("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", -1), ("127.0.0.1", 65536), ("192.0.2.1", 5000)])
def test_a_host_or_port_that_does_not_exist(host: str, port: int) -> None:
    with pytest.raises(LabError, match=r"cannot listen(.|\n)*--port"):
        check_port(host, port)


def test_an_address_without_its_password() -> None:
    uri = "postgresql://lab:p%40ss%2Fword@[::1]:5433/lab?sslmode=require"
    assert without_password(uri) == ("postgresql+psycopg2://lab@[::1]:5433/lab?sslmode=require", "p@ss/word")
    assert without_password("postgresql://host/lab") == ("postgresql+psycopg2://host/lab", None)
