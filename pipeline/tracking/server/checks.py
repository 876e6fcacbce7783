"""What a tracking server needs, each looked at before it starts: packages, database, password, port."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from pipeline.system.errors import LabError
from pipeline.tracking.server.process import bound_port, is_taken

DATABASE, ADMIN_PASSWORD = "LAB_DATABASE_URI", "MLFLOW_AUTH_ADMIN_PASSWORD"
SHORTEST, SHIPPED = 12, "password1234"
"""What MLflow asks of a password, and the one that earlier versions of it came with."""
ENGINES, RESERVED, MOST_POOL = 3, 10, 20
"""Pools of connections in each worker (runs, models, users); connections left to others; the most a pool is given."""
CONNECT_SECONDS = 5


def check_packages(artifacts: str) -> None:
    """See that what MLflow needs for this is installed.

    Raises:
        LabError: naming what is not.
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


def database(given: Mapping[str, str]) -> str:
    """The address of the database.

    Raises:
        LabError: there is none, or it is not PostgreSQL's; without repeating what may be a password.
    """
    uri = given.get(DATABASE, "")
    try:
        parts = urlsplit(uri)
        usable = parts.scheme == "postgresql" and bool(parts.hostname and parts.path.strip("/"))
        usable = usable and (parts.port or 1) > 0 and "password" not in parts.query.lower()
    except ValueError:  # no port, or brackets that do not close
        usable = False
    if not usable:
        raise LabError(
            f"{DATABASE} names no PostgreSQL database.",
            expected=f"{DATABASE}=postgresql://USER:PASSWORD@HOST/DATABASE in the environment; of a password with "
            "characters like / or @ each as %2F or %40; and none behind a question mark",
            received="nothing" if not uri else "something else, which is not shown as it may hold a password",
            fix="deploy/README.md says how to make a database and its user",
        )
    return uri


def without_password(uri: str) -> tuple[str, str | None]:
    """An address of PostgreSQL as SQLAlchemy wants it, with its driver and without its password; and the password."""
    parts = urlsplit(uri)
    user = "" if parts.username is None else f"{parts.username}@"
    address = parts._replace(scheme="postgresql+psycopg2", netloc=user + parts.netloc.rpartition("@")[2]).geturl()
    return address, None if parts.password is None else unquote(parts.password)


def pool_size(uri: str, workers: int) -> int:
    """How many connections each pool of a worker may have: as many as the database has for all of them.

    MLflow's own pools grow to 15. Four workers with three of them each ask PostgreSQL, whose default is 100, for 180,
    and it turns away what is above.

    Raises:
        LabError: the database does not answer, or has too few.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    address, password = without_password(uri)
    place = urlsplit(uri).netloc.rpartition("@")[2]
    known = {} if password is None else {"password": password}
    engine = create_engine(address, connect_args={"connect_timeout": CONNECT_SECONDS, **known})
    try:
        with engine.connect() as connection:
            most = int(connection.execute(text("SHOW max_connections")).scalar_one())
    except SQLAlchemyError as error:
        said = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        raise LabError(
            "The database does not let us in.",
            expected=f"PostgreSQL at {place}, with the user and password of {DATABASE}",
            received=said if password is None else said.replace(password, "..."),
            fix="start it, or mend the variable",
        ) from None
    finally:
        engine.dispose()
    size = (most - RESERVED) // (ENGINES * workers)
    if size < 2:
        raise LabError(
            "The database has too few connections for so many workers.",
            expected=f"max_connections of at least {RESERVED + 2 * ENGINES * workers} for {workers} workers",
            received=str(most),
            fix="start fewer workers, or raise max_connections in postgresql.conf",
        )
    return min(size, MOST_POOL)


def check_password(given: Mapping[str, str]) -> None:
    """Look at the administrator's first password, where one is given; later starts need none.

    Raises:
        LabError: it is too short, or the one that everybody knows.
    """
    password = given.get(ADMIN_PASSWORD)
    if password is None or (len(password) >= SHORTEST and password != SHIPPED):
        return
    raise LabError(
        f"{ADMIN_PASSWORD} is no password for a server.",
        expected=f"at least {SHORTEST} characters, and none that MLflow came with",
        received="the one that MLflow came with" if password == SHIPPED else f"{len(password)} characters",
        fix="choose another one: openssl rand -base64 24",
    )


def check_port(host: str, port: int) -> None:
    """See that a port can be had.

    Raises:
        LabError: it is taken, not allowed, or none.
    """
    try:
        bound_port(host, port)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and is_taken(error)
        raise LabError(
            f"The server cannot listen on {host} port {port}.",
            expected="a free port of this machine, 1024 to 65535",
            received="somebody else listens there" if taken else str(error),
            fix="end that program, or name another port: --port 5001",
        ) from None
