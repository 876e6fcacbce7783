"""Why MLflow failed, in one line that means something, with a remedy for that cause."""

from __future__ import annotations

import sqlite3

import pytest
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import DataError, OperationalError

from pipeline.system.errors import UnavailableError
from pipeline.tracking import causes
from pipeline.tracking.causes import call_error, lacks_endpoint

NOT_FOUND = """<!doctype html>
<html lang=en>
<title>404 Not Found</title>
<h1>Not Found</h1>
<p>The requested URL was not found on the server."""
MODELS = "/api/2.0/mlflow/logged-models/search"
AUTOFLUSH = (
    "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block if this autoflush is "
    "occurring prematurely)\n(psycopg2.errors.StringDataRightTruncation) value too long for type character "
    "varying(250)\n\n[SQL: INSERT INTO runs (run_uuid, name) VALUES (%(run_uuid)s)]\n[parameters: {'name': 'x'}]"
)


def below(driver: Exception, parameters: tuple[str, ...] = ()) -> Exception:
    """An error of a driver, as MLflow wraps that of SQLAlchemy."""
    kind = OperationalError if isinstance(driver, sqlite3.OperationalError) else DataError
    try:
        raise MlflowException(str(kind("INSERT", parameters, driver))) from kind("INSERT", parameters, driver)
    except MlflowException as error:
        return error


def rejected(code: str, message: str) -> MlflowException:
    return RestException({"error_code": code, "message": message})  # type: ignore[no-untyped-call]


def answered(status: int, body: str, endpoint: str = MODELS) -> MlflowException:
    return MlflowException(
        f"API request to endpoint {endpoint} failed with error code {status} != 200. Response body: '{body}'"
    )


@pytest.mark.parametrize(
    ("error", "received", "fix", "everything"),
    [
        (
            rejected("BAD_REQUEST", AUTOFLUSH),
            "(psycopg2.errors.StringDataRightTruncation) value too long for type character varying(250)",
            "see the log of the server",
            False,
        ),
        (below(ValueError("value too long")), "value too long", "see the log of the server", False),
        (below(sqlite3.OperationalError("database is locked")), "database is locked", "end the other program", True),
        (below(sqlite3.OperationalError("disk I/O error")), "disk I/O error", "check the disk", True),
        (
            below(sqlite3.DatabaseError("database disk image is malformed")),
            "database disk image is malformed",
            "restore mlruns/mlflow.db from a backup; without one, rename it",
            True,
        ),
        (answered(404, NOT_FOUND), f"the server answered 404 Not Found to {MODELS}", "MLflow 3", False),
        (
            answered(404, NOT_FOUND, "/api/2.0/mlflow/runs/create"),
            "the server answered 404 Not Found to /api/2.0/mlflow/runs/create",
            "tracking.uri",
            False,
        ),
        (
            answered(413, "<html><title>Too big &amp; more</title></html>"),
            "the server answered 413 Request Entity Too Large (Too big & more) to",
            "client_max_body_size",
            False,
        ),
        (answered(503, "busy"), "503 Service Unavailable", "start the server behind the proxy", False),
        (
            MlflowException(
                "API request to http://host:5000/api failed with exception HTTPConnectionPool(host='host'): Max "
                "retries exceeded with url: /api (Caused by ResponseError('too many 500 error responses'))"
            ),
            "the server answered 500 Internal Server Error",
            "log of the server",
            False,
        ),
        (
            MlflowException(
                "API request to http://host:5000/api failed with exception HTTPConnectionPool(host='host'): Max "
                "retries exceeded with url: /api (Caused by NewConnectionError('[Errno 111] Connection refused'))"
            ),
            "http://host:5000 does not answer: Connection refused",
            "start the server",
            True,
        ),
        (OSError(28, "No space left on device"), "No space left on device", "free some disk space", True),
        (PermissionError(13, "Permission denied", "mlruns/artifacts"), "Permission denied", "permissions", False),
        (
            MlflowException("The run 0 must be in the 'active' state. Current state is deleted."),
            "The run 0 must be in the 'active' state",
            "run the same command again",
            False,
        ),
        (MlflowException(""), "MlflowException", "the error above", False),
    ],
)
def test_a_cause_is_a_line_with_its_remedy(error: Exception, received: str, fix: str, everything: bool) -> None:
    message = call_error(error)
    assert received in message.received
    assert "\n" not in message.received
    assert "autoflush" not in message.received
    assert "<" not in message.received
    assert fix in str(message)
    assert isinstance(message, UnavailableError) == everything


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("an error nobody has seen before"),
        below(sqlite3.OperationalError("database is locked")),
        below(sqlite3.OperationalError("database or disk is full")),
        answered(500, "no"),
    ],
)
def test_a_database_that_may_be_intact_is_never_put_aside(error: Exception) -> None:
    assert "rename" not in str(call_error(error))
    assert "aside" not in str(call_error(error))


@pytest.mark.parametrize(
    "error",
    [
        rejected("BAD_REQUEST", "(psycopg2.errors.X) x [parameters: ('error', 'No space left on device')]"),
        rejected("BAD_REQUEST", "(psycopg2.errors.X) x\n[SQL: INSERT\nVALUES ('database is locked')]"),
        rejected("BAD_REQUEST", "(psycopg2.errors.X) x\nDETAIL:  Key (value)=(disk I/O error) already exists."),
        rejected("BAD_REQUEST", "(psycopg2.errors.X) x\nLINE 1: ... 'API request to http://x: 503 Server Error'"),
        below(sqlite3.IntegrityError("x"), parameters=("error", "out of memory")),
    ],
)
def test_a_value_that_an_error_quotes_is_not_its_cause(error: Exception) -> None:
    message = call_error(error)
    assert not isinstance(message, UnavailableError)
    assert message.received.endswith("x")
    assert "see the log of the server" in str(message)


@pytest.mark.parametrize("sign", causes.STORE_REMEDIES)
def test_a_remedy_names_a_file_of_this_machine_only_if_the_store_is_here(sign: str) -> None:
    for error in (rejected("TEMPORARILY_UNAVAILABLE", f"(sqlite3.X) {sign}"), answered(500, f"<p>{sign}")):
        message = call_error(error)
        assert isinstance(message, UnavailableError)
        assert sign in message.received
        assert "mlruns" not in str(message)
    here = call_error(below(sqlite3.OperationalError(sign)))
    assert isinstance(here, UnavailableError)
    assert causes.STORE_REMEDIES[sign] in str(here)


def test_a_method_that_a_server_lacks_is_not_a_model_that_it_lacks() -> None:
    assert lacks_endpoint(answered(404, NOT_FOUND))
    assert not lacks_endpoint(answered(500, NOT_FOUND))
    assert not lacks_endpoint(rejected("RESOURCE_DOES_NOT_EXIST", "no such model"))
