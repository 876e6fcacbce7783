"""Why a call to MLflow failed, in one line, and what to do about it.

MLflow reports every failure as an `MlflowException` with a text. The reason is deep in that text: in the driver's error
below one of SQLAlchemy, in the JSON or HTML that a server answered, or in an exception of the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from http import HTTPStatus

from pipeline.system.errors import LabError, UnavailableError
from pipeline.system.remedies import remedy

# The environment variables from which MLflow's client reads the credentials for a server. They are never written to a
# file.
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
DATABASE = "mlruns/mlflow.db"
KEPT = f"keep {DATABASE}, which may be intact"
DAMAGED = f"restore {DATABASE} from a backup; without one, rename it and run python -m pipeline.rebuild"
OTHER_SCHEMA = (
    f"back up {DATABASE}, then run mlflow db upgrade sqlite:///{DATABASE}; if that does not know the version, a newer "
    "MLflow has written it: install that one"
)
# What the drivers and MLflow say, and what to do about it where the store is on this machine. The whole store is
# affected by these. Only a database that is no database any more is ever put aside: all others are intact.
STORE_REMEDIES = {
    "database is locked": f"end the other program that has {DATABASE} open",
    "disk is full": f"free some disk space and {KEPT}",
    "No space left on device": "free some disk space on the machine of the store",
    "readonly database": f"make mlruns/ and {DATABASE} writable for you and {KEPT}",
    "unable to open database file": f"make mlruns/ and {DATABASE} readable and writable for you and {KEPT}",
    "disk I/O error": f"check the disk and its free space and {KEPT}",
    "out of memory": f"end other programs, which use all memory and {KEPT}",
    "image is malformed": DAMAGED,
    "file is not a database": DAMAGED,
    "Can't locate revision": "a newer version of MLflow has written the store: install that version of MLflow",
    "out-of-date database schema": OTHER_SCHEMA,
    "too many clients": "raise max_connections of the database, or start fewer commands at a time",
    "server closed the connection": "start the database of the server again",
}
# The same where a server says it about its own database; those that are not here have the remedy above.
SERVER_REMEDIES = {
    "database is locked": "wait until the server is less busy, or end the other program that has its database open",
    "disk is full": "free some disk space on the machine of the server's database",
    "readonly database": "make the database of the server writable for the server",
    "unable to open database file": "make the database of the server readable and writable for the server",
    "disk I/O error": "check the disk of the server's database and its free space",
    "out of memory": "end other programs on the machine of the server's database, which use all memory",
    "image is malformed": "restore the database of the server from a backup",
    "file is not a database": "restore the database of the server from a backup",
    "Can't locate revision": "start the server with the newer version of MLflow that has written its database",
    "out-of-date database schema": "back up the database of the server, then run mlflow db upgrade with its address",
}
# What the answers of a server mean for a single item.
STATUS_REMEDIES = {
    403: "ask the owner of the experiment for the permission to edit it",
    413: "raise the limit of the size of a request in the proxy before the server (nginx: client_max_body_size)",
    429: "wait a minute: the server limits the number of requests",
}
LONGEST_LINE = 250
# The line that SQLAlchemy puts before the reason.
AUTOFLUSH = "(raised as a result of"
# What SQLAlchemy and PostgreSQL put after the reason. It quotes values, such as the text of an error that is recorded.
QUOTED = re.compile(r"\[SQL:|\[parameters:|\(Background on this error|^\s*(?:DETAIL|LINE \d+):", re.MULTILINE)


@dataclass(frozen=True)
class Cause:
    """The reason of a failure, what to do, whether the whole store is affected, and whether a server failed inside."""

    reason: str
    fix: str
    everything: bool = False
    in_server: bool = False


def call_error(error: Exception) -> LabError:
    """Return the message about a failed call: an `UnavailableError` if all other calls would fail too."""
    cause = cause_of(error)
    expected = "a writable store, or a tracking server that answers"
    if cause.everything:
        return UnavailableError("A call to MLflow failed.", expected=expected, received=cause.reason, fix=cause.fix)
    return LabError("A call to MLflow failed.", expected=expected, received=cause.reason, fix=cause.fix)


def cause_of(error: Exception) -> Cause:
    """Find out why MLflow failed."""
    text = _whole_text(error)
    if (isinstance(error, ValueError) and "MLFLOW_" in text) or "max_retries" in text:
        fix = "unset or correct the variable MLFLOW_... in the environment; docs/machines.md lists those in use"
        return Cause(_meaningful_line(text), fix, everything=True)
    remedies = STORE_REMEDIES
    if _is_from_server(error):
        remedies = STORE_REMEDIES | SERVER_REMEDIES
    for sign, fix in remedies.items():
        if sign in text:
            return Cause(_meaningful_line(text, sign), fix, everything=True)
    if "API request to" in text or _status(text) is not None:
        return _network_cause(text)
    if isinstance(error, OSError):
        return Cause(_meaningful_line(text), remedy(error))
    if re.search(r"must be in the 'active' state|(Run|Experiment|Model) .*not found", text):
        return Cause(_meaningful_line(text), "run the same command again, which writes what was deleted in MLflow")
    return Cause(_meaningful_line(text), "see the log of the server; for a store on this machine, the error above")


def lacks_endpoint(error: BaseException) -> bool:
    """Return whether a server does not know a method, as one of an earlier version of MLflow."""
    text = str(error)
    return (_status(text) == HTTPStatus.NOT_FOUND and "API request to endpoint" in text) or "ENDPOINT_NOT_FOUND" in text


def _is_from_server(error: BaseException) -> bool:
    """Return whether the text of an error is what a server answered."""
    # MLflow keeps the JSON of an answer in its error. An answer in another form is quoted.
    return hasattr(error, "json") or "API request to" in str(error)


def _whole_text(error: BaseException) -> str:
    """Return the text of an error, without the values that it quotes.

    The driver's error comes first, which SQLAlchemy and MLflow only quote.
    """
    texts = [QUOTED.split(str(one), maxsplit=1)[0].strip() for one in (*_drivers(error), error)]
    return "\n".join(filter(None, texts)) or type(error).__name__


def _drivers(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        driver = getattr(cause, "orig", None)
        if isinstance(driver, BaseException):
            yield driver
        cause = cause.__cause__


def _meaningful_line(text: str, sign: str = "") -> str:
    """Return the first line of a text that gives a reason: with `sign`, the one that contains it."""
    # A server puts the name of its error code before the text of the exception.
    lines = [re.sub(r"^[A-Z]+(_[A-Z]+)+: ", "", line.strip()) for line in text.splitlines()]
    for line in lines:
        if line and sign in line and not line.startswith(AUTOFLUSH):
            # A long line goes on with advice of its own.
            return line if len(line) <= LONGEST_LINE else line.partition(". ")[0]
    return lines[0]


def _status(text: str) -> int | None:
    """Return the HTTP status that a server answered, which MLflow gives only in its text."""
    found = re.search(r"error code (\d{3})\b|\b(\d{3}) (?:Client|Server) Error|too many (\d{3}) error responses", text)
    if not found:
        return None
    return int(next(group for group in found.groups() if group))


def _network_cause(text: str) -> Cause:
    """Explain a failed request: what the server answered, or why it did not."""
    status = _status(text)
    if status == HTTPStatus.UNAUTHORIZED:
        return _credentials_cause()
    if status == HTTPStatus.FORBIDDEN:
        return Cause(f"the user in {CREDENTIALS[0]} does not have permission (403)", STATUS_REMEDIES[403])
    if status is not None:
        return _answer_cause(text, status)
    request = re.search(r"API request to (\w+://[^/]+)", text)
    address = "the server"
    if request:
        address = request[1]
    reason = f"{address} does not answer"
    cause = re.search(r"\[Errno -?\d+\] ([^\"'()]+)", text) or re.search(r"Caused by (\w+)", text)
    if cause:
        reason = f"{reason}: {cause[1]}"
    if "SSL" in text:
        fix = "use the address in the certificate of the server; MLFLOW_TRACKING_SERVER_CERT_PATH names one's own"
        return Cause(reason, fix, everything=True)
    return Cause(reason, "start the server, or correct tracking.uri", everything=True)


def _credentials_cause() -> Cause:
    unset = " or ".join(name for name in CREDENTIALS if not os.environ.get(name))
    if unset:
        reason = f"the server requires a user and a password (401), but the environment does not set {unset}"
        return Cause(reason, f"set {' and '.join(CREDENTIALS)} in the environment", everything=True)
    reason = f"the server rejected the user and password in {' and '.join(CREDENTIALS)} (401)"
    return Cause(reason, "correct them in the environment", everything=True)


def _answer_cause(text: str, status: int) -> Cause:
    """Explain an answer that is an error: MLflow's own are JSON, those of a proxy or an unknown address are HTML."""
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    title = re.search(r"<title>(.*?)</title>", text, re.DOTALL | re.IGNORECASE)
    if title and unescape(title[1]).strip() not in phrase:
        phrase = f"{phrase} ({' '.join(unescape(title[1]).split())})"
    endpoint = re.search(r"API request to endpoint (\S+)|url: (\S+)|for url: (\S+)", text)
    where = ""
    if endpoint:
        where = f" to {next(group for group in endpoint.groups() if group)}"
    reason = f"the server answered {phrase}{where}"
    if status == HTTPStatus.NOT_FOUND and "logged-models" in where:
        return Cause(reason, "upgrade the server to MLflow 3: earlier versions cannot store models of runs")
    if status == HTTPStatus.NOT_FOUND:
        return Cause(reason, "use the address of an MLflow server of version 3 as tracking.uri")
    if status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
        return Cause(reason, "start the server behind the proxy, or wait until it is less busy")
    fix = STATUS_REMEDIES.get(status, "see the log of the server")
    return Cause(reason, fix, in_server=status >= HTTPStatus.INTERNAL_SERVER_ERROR)
