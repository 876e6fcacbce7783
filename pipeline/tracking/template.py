"""Make an empty local store by copying one: MLflow's migrations take four seconds of one core.

The template is made once for each version of MLflow, in the user's cache folder. It saves time only: one that is
missing or damaged is made again, and where there is no cache, or it cannot be written, there is none.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import platformdirs

from pipeline.system.files import short_hash, write_file

CACHE = "learning-rate-lab"
# RuntimeError: the user has no home folder, as in some containers.
NO_CACHE = (OSError, RuntimeError)


def new_store(file: Path, create: Callable[[Path], object]) -> None:
    """Make an empty store.

    Args:
        file: the database to write.
        create: lets MLflow make one, where there is no template.
    """
    # ValueError: it is not an empty store.
    with suppress(*NO_CACHE, sqlite3.Error, ValueError):
        shutil.copyfile(template_file(), file)
        _check(file)
        return
    file.unlink(missing_ok=True)
    create(file)
    with suppress(*NO_CACHE, sqlite3.Error):
        template = template_file()
        template.parent.mkdir(parents=True, exist_ok=True)
        write_file(template, lambda new: _copy_empty(file, new))


def template_file() -> Path:
    """Return the path of the template for the installed version of MLflow and its migrations.

    Raises:
        RuntimeError: the user has no home folder.
    """
    import mlflow

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    revisions = short_hash(" ".join(sorted(file.name for file in migrations.glob("*.py"))).encode())
    folder = platformdirs.user_cache_path(CACHE, appauthor=False)
    return folder / f"mlflow-{mlflow.__version__}-{revisions}.db"


def _check(file: Path) -> None:
    """Check that a copy is a whole store without experiments.

    Raises:
        ValueError: it is something else.
        sqlite3.Error: it is no database, or has not the tables of a store.
    """
    with closing(sqlite3.connect(file)) as store:
        [(whole,)] = store.execute("PRAGMA quick_check")
        [(revisions,)] = store.execute("SELECT COUNT(*) FROM alembic_version")
        [(rows,)] = store.execute("SELECT (SELECT COUNT(*) FROM experiments) + (SELECT COUNT(*) FROM runs)")
    if (whole, revisions, rows) != ("ok", 1, 0):
        raise ValueError(f"not an empty store: {file}")


def _copy_empty(file: Path, new: Path) -> None:
    """Copy a store that has no runs, without its experiments.

    MLflow gives a store the experiment Default when it opens it. This one has the location of its project.
    """
    with closing(sqlite3.connect(file)) as store, closing(sqlite3.connect(new)) as copy, copy:
        store.backup(copy)
        copy.execute("DELETE FROM experiments")
