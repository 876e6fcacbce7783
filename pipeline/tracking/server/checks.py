"""The requirements of a tracking server, checked before it starts: packages, database, password and port."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from pipeline.system.errors import LabError
from pipeline.tracking.server.process import bound_port, is_taken

DATABASE = "LAB_DATABASE_URI"
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105 - the name of a variable, not a password
# MLflow's limit, and the default password of earlier versions, which everybody can look up.
SHORTEST = 12
SHIPPED = "password1234"
# Pools of connections in each worker: one each for runs, models and users.
POOLS = 3
# Connections left to other clients of the database, such as backups and psql.
RESERVED = 10
# A worker never needs more connections per pool than this.
LARGEST_POOL = 20
CONNECT_SECONDS = 5


def check_packages(artifacts: str) -> None:
    """Check that the packages that the server needs are installed.

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
    """Return the address of the database in the environment.

    Raises:
        LabError: there is none, or it is not the address of a PostgreSQL database. The message does not repeat it,
            because a password in a malformed address cannot be recognized.
    """
    uri = environment.get(DATABASE, "")
    try:
        parts = urlsplit(uri)
        usable = parts.scheme == "postgresql" and bool(parts.hostname and parts.path.strip("/"))
        # A password in the query would stay in the address, which MLflow logs and writes to a file.
        usable = usable and (parts.port or 1) > 0 and "password" not in parts.query.lower()
    except ValueError:  # the port is not a number, or a bracket is not closed
        usable = False
    if usable:
        return uri
    received = "nothing"
    if uri:
        received = "something else, which is not shown because it may contain a password"
    raise LabError(
        f"{DATABASE} is not the address of a PostgreSQL database.",
        expected=f"{DATABASE}=postgresql://USER:PASSWORD@HOST/DATABASE in the environment; with characters such as / "
        "or @ in the password written as %2F and %40, and no password after a question mark",
        received=received,
        fix="create a database and its user as described in deploy/README.md",
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
    """Return how many connections each pool of a worker may have, so that the database has enough for all of them.

    MLflow's own pools grow to 15 connections. Four workers with three pools each would ask PostgreSQL, whose default is
    100 connections, for 180; it refuses those above its limit.

    Raises:
        LabError: the database does not answer, or has too few connections.
    """
    available = _max_connections(uri)
    size = (available - RESERVED) // (POOLS * workers)
    # The server splits a pool into a fixed part and one connection of overflow, so that it needs at least two.
    if size < 2:
        raise LabError(
            "The database has too few connections for the number of workers.",
            expected=f"max_connections of at least {RESERVED + 2 * POOLS * workers} for {workers} workers",
            received=str(available),
            fix="start fewer workers, or raise max_connections in postgresql.conf",
        )
    return min(size, LARGEST_POOL)


def _max_connections(uri: str) -> int:
    """Ask the database how many connections it accepts."""
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
            "The connection to the database failed.",
            expected=f"PostgreSQL at {urlsplit(uri).netloc.rpartition('@')[2]}, with the user and password of "
            f"{DATABASE}",
            received=received,
            fix=f"start the database, or fix {DATABASE}",
        ) from None
    finally:
        engine.dispose()


def check_password(environment: Mapping[str, str]) -> None:
    """Check the administrator's first password, if there is one; later starts do not need it.

    Raises:
        LabError: it is too short, or the default of earlier versions of MLflow.
    """
    password = environment.get(ADMIN_PASSWORD)
    if password is None or (len(password) >= SHORTEST and password != SHIPPED):
        return
    received = f"{len(password)} characters"
    if password == SHIPPED:
        received = "the default password of MLflow"
    raise LabError(
        f"{ADMIN_PASSWORD} is too weak for a server.",
        expected=f"at least {SHORTEST} characters, and not a default password of MLflow",
        received=received,
        fix="choose another one: openssl rand -base64 24",
    )


def check_port(host: str, port: int) -> None:
    """Check that the server can listen on a port.

    Raises:
        LabError: the port is taken, not allowed, or not a port number.
    """
    try:
        bound_port(host, port)
    except (OSError, OverflowError) as error:
        received = str(error)
        if isinstance(error, OSError) and is_taken(error):
            received = "another program listens there"
        raise LabError(
            f"The server cannot listen on {host} port {port}.",
            expected="a free port of this machine, 1024 to 65535",
            received=received,
            fix="stop that program, or use another port: --port 5001",
        ) from None
