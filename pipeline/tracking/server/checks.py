"""The requirements of a tracking server, each checked before startup: packages, database, password and port."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from pipeline.system.errors import LabError
from pipeline.tracking.server.process import bound_port, is_taken

DATABASE = "LAB_DATABASE_URI"
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105 - the name of a variable, not a password
# MLflow's minimum password length, and the default password of earlier versions, which is public.
SHORTEST = 12
SHIPPED = "password1234"
# Connection pools in each worker: for runs, for models, and for users.
POOLS = 3
# Connections reserved for other clients of the database, such as backups and psql.
RESERVED = 10
# Maximum size of a pool. A worker never needs more connections.
LARGEST_POOL = 20
CONNECT_SECONDS = 5


def check_packages(artifacts: str) -> None:
    """Check that the packages needed by the server are installed.

    Raises:
        LabError: a package is missing.
    """
    needed = {"psycopg2": "psycopg2-binary", "flask_wtf": "mlflow[auth]"}
    if artifacts.startswith("s3://"):
        needed["boto3"] = "boto3"
    absent = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if absent:
        raise LabError(
            "A tracking server needs packages that are not installed.",
            expected=", ".join(needed.values()),
            received=f"no {', no '.join(absent)}",
            fix="make cluster",
        )


def database(environment: Mapping[str, str]) -> str:
    """Return the address of the database from the environment.

    Raises:
        LabError: it is missing or not a PostgreSQL address. The message does not show it, because it may contain a
            password, which cannot be located in a malformed address.
    """
    uri = environment.get(DATABASE, "")
    try:
        parts = urlsplit(uri)
        usable = parts.scheme == "postgresql" and bool(parts.hostname and parts.path.strip("/"))
        # A password in the query would not be removed from the address, which MLflow logs and writes to a file.
        usable = usable and (parts.port or 1) > 0 and "password" not in parts.query.lower()
    except ValueError:  # the port is not a number, or a bracket is not closed
        usable = False
    if usable:
        return uri
    received = "nothing"
    if uri:
        received = "something else (not shown, because it may contain a password)"
    raise LabError(
        f"{DATABASE} is not set to a PostgreSQL database.",
        expected=f"{DATABASE}=postgresql://USER:PASSWORD@HOST/DATABASE in the environment; percent-encode special "
        "characters in the password (/ as %2F, @ as %40); the password must not be a query parameter",
        received=received,
        fix="see deploy/README.md for how to create the database and its user",
    )


def without_password(uri: str) -> tuple[str, str | None]:
    """Split a PostgreSQL address into the address for SQLAlchemy without the password, and the password.

    Example:
        >>> without_password("postgresql://lab:p%40ss@127.0.0.1/lab")
        ('postgresql+psycopg2://lab@127.0.0.1/lab', 'p@ss')
    """
    parts = urlsplit(uri)
    # The part after the last @ is the host, whatever characters the password has.
    host = parts.netloc.rpartition("@")[2]
    if parts.username is not None:
        host = f"{parts.username}@{host}"
    address = parts._replace(scheme="postgresql+psycopg2", netloc=host).geturl()
    if parts.password is None:
        return address, None
    return address, unquote(parts.password)


def pool_size(uri: str, workers: int) -> int:
    """Return the maximum number of connections per pool such that the database has enough for all pools.

    MLflow's own pools grow to 15 connections. Four workers with three pools each could request 180 connections;
    PostgreSQL's default limit is 100, and it rejects the rest.

    Raises:
        LabError: the database does not answer, or has too few connections.
    """
    available = _max_connections(uri)
    size = (available - RESERVED) // (POOLS * workers)
    # A pool has a fixed part and an overflow of one connection (server.py), so it needs at least two.
    if size < 2:
        raise LabError(
            "The database allows too few connections for the number of workers.",
            expected=f"max_connections of at least {RESERVED + 2 * POOLS * workers} for {workers} workers",
            received=str(available),
            fix="start fewer workers, or raise max_connections in postgresql.conf",
        )
    return min(size, LARGEST_POOL)


def _max_connections(uri: str) -> int:
    """Return the maximum number of connections of the database."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    address, password = without_password(uri)
    options: dict[str, object] = {"connect_timeout": CONNECT_SECONDS}
    if password is not None:
        options["password"] = password
    engine = create_engine(address, connect_args=options)
    try:
        with engine.connect() as connection:
            return int(connection.execute(text("SHOW max_connections")).scalar_one())
    except SQLAlchemyError as error:
        # `orig` is the driver's error, without SQLAlchemy's links to its documentation.
        cause: object = error
        if isinstance(error, DBAPIError):
            cause = error.orig
        received = " ".join(str(cause).split())
        if password is not None:
            received = received.replace(password, "...")
        raise LabError(
            "Cannot connect to the database.",
            expected=f"PostgreSQL at {urlsplit(uri).netloc.rpartition('@')[2]}, with the user and password of "
            f"{DATABASE}",
            received=received,
            fix=f"start the database, or correct {DATABASE}",
        ) from None
    finally:
        engine.dispose()


def check_password(environment: Mapping[str, str]) -> None:
    """Check the administrator's initial password, if it is set; later starts do not need it.

    Raises:
        LabError: it is too short, or the default password of earlier versions of MLflow.
    """
    password = environment.get(ADMIN_PASSWORD)
    if password is None or (len(password) >= SHORTEST and password != SHIPPED):
        return
    received = f"{len(password)} characters"
    if password == SHIPPED:
        received = "MLflow's default password"
    raise LabError(
        f"{ADMIN_PASSWORD} is too weak for a server.",
        expected=f"at least {SHORTEST} characters, and not MLflow's default password",
        received=received,
        fix="choose another: openssl rand -base64 24",
    )


def check_port(host: str, port: int) -> None:
    """Check that a port is available.

    Raises:
        LabError: the port is in use, not permitted, or invalid.
    """
    try:
        bound_port(host, port)
    except (OSError, OverflowError) as error:
        received = str(error)
        fix = "use an address of this machine and a free port: --host 127.0.0.1 --port 5001"
        if isinstance(error, OSError) and is_taken(error):
            received = "the port is already in use"
            fix = "stop the program that uses it, or use another port: --port 5001"
        elif isinstance(error, PermissionError):
            fix = "use a port from 1024, which needs no administrator: --port 5001"
        raise LabError(
            f"The server cannot listen on {host} port {port}.",
            expected="a free port of this machine, 1024 to 65535",
            received=received,
            fix=fix,
        ) from None
