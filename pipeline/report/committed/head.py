"""What git's HEAD has: the files of a folder, and the profile that its studies were trained with."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

from pipeline.system.files import readable

# The profile of the studies that DVC trains, as `make reproduce PROFILE=small` writes it.
LISTS = "pipeline.yaml"
PROFILE = re.compile(r"^profile: *(\S+)", re.MULTILINE)


def committed_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder as git's HEAD has them, by their paths in it; empty without git or a commit."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "archive", "--format=tar", "HEAD", "."],  # noqa: S607 - the user's own git
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode != 0:
        return {}
    files = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                files[member.name.removeprefix("./")] = stream.read()
    return files


def other_profile(conf: Path) -> tuple[str, str] | None:
    """Return the profile in conf/pipeline.yaml and that in git's HEAD; None if they are the same, or one is missing."""
    file = conf / LISTS
    if not file.exists():
        return None
    with readable(f"conf/{LISTS}", expected="the settings for `dvc repro`", fix=f"restore conf/{LISTS} from git"):
        texts = (file.read_bytes(), committed_files(conf).get(LISTS, b""))
    now, before = (PROFILE.search(text.decode(errors="replace")) for text in texts)
    if now is None or before is None or now[1] == before[1]:
        return None
    return now[1], before[1]
