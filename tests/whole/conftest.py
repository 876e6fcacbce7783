"""The tracking server of a team, which takes ten seconds to start: a single one for all tests of this folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pipeline.system.project import PROJECT
from tests.support.team_server import TeamServer, team_server


@pytest.fixture(scope="session")
def server() -> Iterator[TeamServer]:
    """A server that goes by the name and by its own address; its variables are those of the file of the service."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for line in re.findall(r"^MLFLOW_SERVER_\w+=.*$", (PROJECT / "deploy" / "README.md").read_text(), re.MULTILINE):
            name, _, value = line.partition("=")
            patch.setenv(name, value + (",127.0.0.1:*" if "HOSTS" in name else ""))
        server = stack.enter_context(team_server())
        patch.undo()  # the server has them; other tests are to know nothing of it
        yield server
