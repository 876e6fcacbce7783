"""What the environment may decide; tests/whole/test_environment.py trains in a hostile one."""

from __future__ import annotations

import os
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.utils import should_bypass_proxies

from pipeline.system import environment


def applied(**variables: str) -> dict[str, str]:
    """Return the environment after `apply` in one that has only these variables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(variables))
        environment.apply()
        return dict(os.environ)


def test_what_mlflow_reads_is_removed_unless_it_is_listed() -> None:
    import mlflow.environment_variables as known

    names = {str(value.name) for value in vars(known).values() if hasattr(value, "get_raw") and hasattr(value, "name")}
    assert len(names) > 100, "MLflow has moved its list of variables"
    left = {name for name in applied(**dict.fromkeys(names, "1")) if "MLFLOW_" in name}
    allowed = {name for name in names if name.startswith(environment.KEPT)}
    assert left - allowed == {name for name in environment.SET if name.startswith("MLFLOW_")}
    # Options of `mlflow server` that have a variable but are not in that list.
    assert not {"MLFLOW_STATIC_PREFIX", "MLFLOW_BACKEND_STORE_URI"} & set(
        applied(MLFLOW_STATIC_PREFIX="/x", MLFLOW_BACKEND_STORE_URI="sqlite:////nowhere")
    )


@pytest.mark.parametrize("name", environment.KEPT)
def test_what_is_kept_is_known_to_mlflow(name: str) -> None:
    import mlflow.environment_variables as known

    assert any(variable.startswith(name) for variable in vars(known))


@pytest.mark.parametrize(
    "name",
    [
        "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH",
        "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER",
        "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "MLFLOW_HTTP_POOL_MAXSIZE", "MLFLOW_HTTP_TCP_KEEPALIVE_IDLE",
        "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT", "MLFLOW_DOWNLOAD_CHUNK_TIMEOUT", "MLFLOW_ENABLE_MULTIPART_UPLOAD",
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE",
        "MLFLOW_S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "LAB_DATABASE_URI",
        "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_SERVER_ALLOWED_HOSTS",
        "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "https_proxy", "REQUESTS_CA_BUNDLE",
    ],
)  # fmt: skip
def test_credentials_certificates_and_resources_are_kept(name: str) -> None:
    assert applied(**{name: "mine"})[name] == "mine"


def test_what_is_set_is_set_whatever_it_was() -> None:
    assert applied(**dict.fromkeys(environment.SET, "mine")).items() >= environment.SET.items()
    assert not applied(**dict.fromkeys(environment.REMOVED, "mine")).keys() & set(environment.REMOVED)


@given(st.dictionaries(
    st.sampled_from([*environment.SET, *environment.REMOVED, *environment.DEFAULTS, "MLFLOW_RUN_ID", "no_proxy",
                     "NO_PROXY", "TMPDIR", "RAY_TMPDIR", "HOME"]),
    st.text("abc.,/* :", max_size=60),
))  # fmt: skip
def test_a_second_time_nothing_changes(variables: dict[str, str]) -> None:
    once = applied(**variables)
    assert applied(**once) == once


@pytest.mark.parametrize("exempt", ["", "*", "a.example.org, 10.0.0.1", "localhost", " "])
def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    for name, value in applied(http_proxy="http://proxy:3128", NO_PROXY=exempt).items():
        monkeypatch.setenv(name, value)
    for address in ("http://127.0.0.1:5000", "http://localhost:5000", "http://[::1]:5000"):
        assert should_bypass_proxies(address, no_proxy=None)
    assert should_bypass_proxies("http://b.example.org", no_proxy=None) == (exempt == "*")
    assert should_bypass_proxies("http://a.example.org", no_proxy=None) == exempt.startswith(("*", "a."))


def test_a_long_folder_for_temporary_files_is_not_for_the_sockets_of_ray() -> None:
    # The longest name that Ray adds, of 68 bytes: with the largest process id of Linux.
    added = len("/ray/session_2026-11-29_14-01-03_454444_4194304/sockets/plasma_store")
    assert environment.LONGEST_TMPDIR + added <= 103
    assert applied(TMPDIR="/tmp/" + "x" * 90)["RAY_TMPDIR"] == "/tmp"
    assert applied(TMPDIR="/" + "é" * 20)["RAY_TMPDIR"] == "/tmp"
    assert applied(TMPDIR="/" + "x" * 90, RAY_TMPDIR="/mine")["RAY_TMPDIR"] == "/mine"
    assert "RAY_TMPDIR" not in applied(TMPDIR="/scratch")


@pytest.mark.parametrize("options", [["error"], ["e::DeprecationWarning"], ["ignore", " error"]])
def test_a_warning_of_a_library_is_no_error(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    monkeypatch.setattr(sys, "warnoptions", options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "PYTHONWARNINGS" not in applied(PYTHONWARNINGS=",".join(options))
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_warnings_may_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert applied(PYTHONWARNINGS="default")["PYTHONWARNINGS"] == "default"
        assert warnings.filters[0][0] == "always"
