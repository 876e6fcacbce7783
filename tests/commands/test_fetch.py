"""Raw files arrive verified, from any source that has them, or not at all. No test uses the network."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from pipeline.config.data import IdxData
from pipeline.config.reading import read_data
from pipeline.data.raw import download, idx, sources
from pipeline.fetch import fetch
from pipeline.system.errors import LabError
from pipeline.system.files import atomic_folder
from pipeline.system.project import CONF, PROJECT

RANDOM = np.random.default_rng(1)
ARRAYS = {
    "train_images": RANDOM.integers(0, 256, (40, 5, 5), dtype=np.uint8),
    "train_labels": RANDOM.integers(0, 10, 40, dtype=np.uint8),
    "test_images": RANDOM.integers(0, 256, (9, 5, 5), dtype=np.uint8),
    "test_labels": RANDOM.integers(0, 10, 9, dtype=np.uint8),
}
FILES = {f"{role}-idx": idx.encode(array) for role, array in ARRAYS.items()}
HTML = b"<!DOCTYPE html><html><body>Please log in to the network</body></html>"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tiny(*listed: dict[str, Any], local_dir: Path | None = None) -> IdxData:
    files = {role: {"name": f"{role}-idx", "sha256": sha256(FILES[f"{role}-idx"])} for role in ARRAYS}
    return IdxData.model_validate(
        {
            "kind": "idx",
            "name": "tiny",
            "classes": 10,
            "local_dir": None if local_dir is None else str(local_dir),
            "files": files,
            "sources": listed,
        }
    )


def npz_source(url: str, checksum: str | None) -> dict[str, Any]:
    return {"kind": "npz", "location": url, "sha256": checksum, "members": {role: role for role in ARRAYS}}


def gzip_source(url: str) -> dict[str, Any]:
    return {"kind": "gzip_files", "location": url, "members": {role: f"{role}-idx.gz" for role in ARRAYS}}


def npm_source(checksum: str | None = None) -> dict[str, Any]:
    members = {role: f"package/data/{role}-idx" for role in ARRAYS}
    return {"kind": "npm", "location": "tiny-data@1.0.0", "sha256": checksum, "members": members}


def npz_bytes(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def tar_bytes(contents: dict[str, bytes], *links: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for link in links:
            archive.addfile(link)
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


PACKAGE = {f"package/data/{name}": content for name, content in FILES.items()}


def install(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an executable of that name first on PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def install_npm(tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install an npm that packs `archive` into the given folder."""
    (tmp_path / "package.bin").write_bytes(archive)
    script = f"""test "$1 $2 $3" = "pack tiny-data@1.0.0 --pack-destination" || exit 9
cp '{tmp_path}/package.bin' "$4/tiny-data-1.0.0.tgz" """
    install(tmp_path / "bin", "npm", script, monkeypatch)


class Server(ThreadingHTTPServer):
    """Serves `bodies` by path, and 404 for any other path; announces `extra` bytes more than it sends."""

    daemon_threads = True
    bodies: dict[str, bytes]
    extra = 0
    delay = 0.0
    requested: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.server.bodies.get(self.path)
        self.server.requested.append(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"") + self.server.extra))
        self.end_headers()
        self.wfile.write(body or b"")
        self.wfile.flush()
        time.sleep(self.server.delay)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is that of the base class
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server(("127.0.0.1", 0), Handler) as running:
        running.bodies, running.requested = {}, []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def assert_fetched(project: Path) -> None:
    folder = project / "data" / "raw" / "tiny"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def refused(data: IdxData, project: Path) -> str:
    """Return the message of a fetch that fails; it must leave data/raw empty."""
    with pytest.raises(LabError) as refusal:
        fetch(data, project)
    assert list((project / "data" / "raw").iterdir()) == []
    return str(refusal.value)


# --- data.local_dir, and files that exist already


@pytest.mark.parametrize("zipped", [False, True])
def test_local_dir(tmp_path: Path, zipped: bool) -> None:
    local = tmp_path / "mine"
    local.mkdir()
    for name, content in FILES.items():
        (local / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)
    fetch(tiny(local_dir=local), tmp_path)
    assert_fetched(tmp_path)


@pytest.mark.parametrize("wrong", [b"something else", HTML, FILES["test_labels-idx"][:-2], b"\x1f\x8b broken"])
def test_a_wrong_local_file_is_refused(tmp_path: Path, wrong: bytes) -> None:
    local = tmp_path / "mine"
    local.mkdir()
    for name, content in {**FILES, "test_labels-idx": wrong}.items():
        (local / name).write_bytes(content)
    message = refused(tiny(local_dir=local), tmp_path)
    assert f"{local}/test_labels-idx is not the file" in message
    assert sha256(FILES["test_labels-idx"]) in message


def test_an_incomplete_or_missing_local_dir(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train_images-idx").write_bytes(FILES["train_images-idx"])
    assert "train_labels-idx or train_labels-idx.gz" in refused(tiny(local_dir=tmp_path / "mine"), tmp_path)
    assert "no such folder" in refused(tiny(local_dir=tmp_path / "nowhere"), tmp_path)
    assert "that home folder does not exist" in refused(tiny(local_dir=Path("~no-such-user/x")), tmp_path)


def test_files_already_there_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data" / "raw" / "tiny"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    before = {file: file.stat().st_ino for file in folder.iterdir()}
    fetch(tiny(), tmp_path)
    assert "already" in capsys.readouterr().out
    assert {file: file.stat().st_ino for file in folder.iterdir()} == before


def test_a_corrupted_file_already_there_is_replaced(tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "data" / "raw" / "tiny"
    folder.mkdir(parents=True)
    (folder / "train_labels-idx").write_bytes(b"corrupted")
    server.bodies = {f"/{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    fetch(tiny(gzip_source(server.url)), tmp_path)
    assert_fetched(tmp_path)


# --- downloads


def test_npz(tmp_path: Path, server: Server) -> None:
    server.bodies["/tiny.npz"] = npz_bytes(**ARRAYS)
    fetch(tiny(npz_source(f"{server.url}/tiny.npz", sha256(server.bodies["/tiny.npz"]))), tmp_path)
    assert_fetched(tmp_path)


def test_gzip_files(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.bodies = {f"/below/{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    fetch(tiny(gzip_source(f"{server.url}/below/")), tmp_path)
    assert_fetched(tmp_path)
    out, err = capsys.readouterr()
    assert "gzip_files" in out
    assert "1,016 bytes" in out
    assert err == ""


def test_the_next_source_is_tried(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.bodies = {f"/{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    server.bodies["/tiny.npz"] = HTML
    fetch(tiny(npz_source(f"{server.url}/tiny.npz", "0" * 64), gzip_source(server.url)), tmp_path)
    assert_fetched(tmp_path)
    reasons = capsys.readouterr().err.splitlines()
    assert len(reasons) == 1
    assert "HTML page" in reasons[0]
    # A source is tried once more before the next one.
    assert server.requested.count("/tiny.npz") == 2


def test_wrong_npz_answers(tmp_path: Path, server: Server) -> None:
    good = npz_bytes(**ARRAYS)
    server.bodies = {
        "/other.npz": npz_bytes(**ARRAYS, another=np.zeros(3)),
        "/short.npz": good[: len(good) // 2],
        "/lacking.npz": npz_bytes(train_images=ARRAYS["train_images"]),
        "/floats.npz": npz_bytes(**{**ARRAYS, "train_images": ARRAYS["train_images"] / 255}),
        "/shuffled.npz": npz_bytes(**{**ARRAYS, "train_labels": ARRAYS["train_labels"][::-1]}),
    }
    wrong = [npz_source(f"{server.url}/{name}.npz", sha256(good)) for name in ("other", "short")]
    wrong += [npz_source(f"{server.url}/{name}.npz", None) for name in ("short", "lacking", "floats", "shuffled")]
    message = refused(tiny(*wrong), tmp_path).splitlines()
    assert "does not match the known hash" in message[1]
    assert "does not match the known hash" in message[2]
    assert "not an .npz file" in message[3]
    assert "train_labels.npy" in message[4]
    assert "float64" in message[5]
    assert f"train_labels-idx: SHA-256 is {sha256(idx.encode(ARRAYS['train_labels'][::-1]))}" in message[6]


def test_a_download_that_is_cut_short(tmp_path: Path, server: Server) -> None:
    server.extra = 1000
    server.bodies["/tiny.npz"] = npz_bytes(**ARRAYS)
    data = tiny(npz_source(f"{server.url}/tiny.npz", sha256(server.bodies["/tiny.npz"])))
    assert "IncompleteRead" in refused(data, tmp_path)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (HTML, "HTML page"),
        (gzip.compress(FILES["train_images-idx"])[:-30], "damaged or truncated gzip"),
        (gzip.compress(FILES["train_images-idx"][:-30]), "986 bytes, while its header announces 1,016"),
        (gzip.compress(FILES["test_images-idx"]), "SHA-256 is"),
        (None, "404"),
    ],
)
def test_wrong_gzip_answers(tmp_path: Path, server: Server, body: bytes | None, reason: str) -> None:
    server.bodies = {f"/{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    server.bodies.pop("/train_images-idx.gz")
    server.bodies |= {} if body is None else {"/train_images-idx.gz": body}
    assert reason in refused(tiny(gzip_source(server.url)), tmp_path)


def test_oversize_answers(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (download, sources):
        monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    server.bodies = {f"/{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    server.bodies["/train_images-idx.gz"] = gzip.compress(bytes(20_000_000))
    server.bodies["/large.npz"] = bytes(200_000)
    server.bodies["/bomb.npz"] = npz_bytes(**{**ARRAYS, "train_images": np.zeros((1000, 50, 50), np.uint8)})
    large = [npz_source(f"{server.url}/{name}.npz", None) for name in ("large", "bomb")]
    message = refused(tiny(*large, gzip_source(server.url)), tmp_path).splitlines()
    assert "the download is larger than 100,000 bytes" in message[1]
    assert "train_images is larger" in message[2]
    assert "the unpacked gzip file is larger" in message[3]


class Payload:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


def test_nothing_is_unpickled(tmp_path: Path, server: Server) -> None:
    trap = tmp_path / "sprung"
    server.bodies["/tiny.npz"] = npz_bytes(**{**ARRAYS, "train_labels": np.array([Payload(trap)], dtype=object)})
    checksum = sha256(server.bodies["/tiny.npz"])
    assert "allow_pickle" in refused(tiny(npz_source(f"{server.url}/tiny.npz", checksum)), tmp_path)
    assert not trap.exists()


# --- packages


def test_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = gzip.compress(tar_bytes(PACKAGE))
    install_npm(tmp_path, archive, monkeypatch)
    fetch(tiny(npm_source(sha256(archive))), tmp_path)
    assert_fetched(tmp_path)


def test_other_members_are_neither_extracted_nor_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    hostile = {"../../../outside": b"escaped", str(outside): b"escaped", **PACKAGE, "package/link/outside": b"escaped"}
    install_npm(tmp_path, gzip.compress(tar_bytes(hostile, link("package/link", str(tmp_path)))), monkeypatch)
    fetch(tiny(npm_source()), tmp_path)
    assert_fetched(tmp_path)
    assert not outside.exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_member_that_is_not_a_regular_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(FILES["train_images-idx"])
    others = {name: content for name, content in PACKAGE.items() if "train_images" not in name}
    archive = tar_bytes(others, link("package/data/train_images-idx", str(secret), kind))
    install_npm(tmp_path, gzip.compress(archive), monkeypatch)
    assert "not a regular file" in refused(tiny(npm_source()), tmp_path)


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (gzip.compress(tar_bytes({"package/readme": b"no data"})), "the package has no package/data/train_images-idx"),
        (gzip.compress(b"not a tar archive" * 100), "not a tar archive"),
        (gzip.compress(tar_bytes(PACKAGE))[:-40], "damaged or truncated gzip"),
        (gzip.compress(bytes(1_000_000)), "larger than 100,000 bytes"),
        (HTML, "not a tar archive"),
    ],
    ids=["without data", "no archive", "cut short", "too large", "a page"],
)
def test_wrong_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes, reason: str) -> None:
    for module in (download, sources):
        monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    install_npm(tmp_path, archive, monkeypatch)
    assert reason in refused(tiny(npm_source()), tmp_path)


def test_a_package_is_not_unpacked_before_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_npm(tmp_path, b"\x1f\x8b not really gzip", monkeypatch)
    assert f"expected {'0' * 64}" in refused(tiny(npm_source("0" * 64)), tmp_path)


def test_npm_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complaint = "npm warn old config\nnpm error code E404\nnpm error 404 Not Found - GET tiny-data\nnpm error A log of"
    install(tmp_path / "bin", "npm", f"echo '{complaint}' >&2; exit 1", monkeypatch)
    assert "npm error 404 Not Found - GET tiny-data" in refused(tiny(npm_source()), tmp_path)


def test_npm_that_gives_nothing_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "bin", "npm", "exit 0", monkeypatch)
    assert "expected one file that matches *.tgz, received 0" in refused(tiny(npm_source()), tmp_path)
    monkeypatch.setattr(sources, "COMMAND_SECONDS", 0.2)
    install(tmp_path / "bin", "npm", "exec sleep 60", monkeypatch)
    assert "npm did not finish within" in refused(tiny(npm_source()), tmp_path)


def debian_source(folder: str) -> dict[str, Any]:
    members = {role: f"{folder}/{role}-idx.gz" for role in ARRAYS}
    return {"kind": "debian", "location": "dataset-tiny", "members": members}


def test_an_installed_debian_package_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, content in FILES.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    fetch(tiny(debian_source(str(tmp_path))), tmp_path)
    assert_fetched(tmp_path)


def test_a_debian_package_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zipped = {f"./usr/share/tiny/{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    (tmp_path / "data.tar").write_bytes(tar_bytes(zipped))
    script = 'for last; do :; done; test "$1 $last" = "download dataset-tiny" && echo deb > dataset-tiny_1_all.deb'
    install(tmp_path / "bin", "apt-get", script, monkeypatch)
    script = f'test "$1" = --fsys-tarfile -a -f "$2" && cat {tmp_path}/data.tar'
    install(tmp_path / "bin", "dpkg-deb", script, monkeypatch)
    fetch(tiny(debian_source("/usr/share/tiny")), tmp_path)
    assert_fetched(tmp_path)

    install(tmp_path / "bin", "dpkg-deb", "exit 2", monkeypatch)
    assert "dpkg-deb cannot unpack" in refused(tiny(debian_source("/usr/share/tiny")), tmp_path / "again")
    install(tmp_path / "bin", "apt-get", "echo 'E: Unable to locate package dataset-tiny' >&2; exit 100", monkeypatch)
    message = refused(tiny(debian_source("/usr/share/tiny")), tmp_path / "again")
    assert "E: Unable to locate package dataset-tiny (try `apt-get update`)" in message


# --- no source works


def test_without_network_one_message_has_all_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("PATH", str(tmp_path))
    started = time.monotonic()
    unreachable = [
        npz_source("http://host.invalid/tiny.npz", "0" * 64),
        gzip_source("http://127.0.0.1:9"),
        npm_source(),
    ]
    message = refused(tiny(*unreachable, debian_source("/nowhere")), tmp_path)
    assert time.monotonic() - started < 30
    lines = message.splitlines()
    assert "any of its 4 sources" in lines[0]
    assert "host.invalid cannot be resolved" in lines[1]
    assert "127.0.0.1 is unreachable" in lines[2]
    assert "npm is not installed" in lines[3]
    assert "apt-get is not installed" in lines[4]
    assert "data.local_dir=PATH" in lines[5]
    assert len(lines) == 6


@pytest.mark.parametrize("url", ["no-scheme", "http://", "ftp://127.0.0.1:9/x", "http://127.0.0.1:99999/x"])
def test_a_location_that_is_not_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("no_proxy", "*")
    assert "could not be fetched" in refused(tiny(npz_source(url, None)), tmp_path)


def test_a_proxy_that_is_down_is_a_reason_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "does not answer" in refused(tiny(npz_source("http://host.invalid/x", None)), tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw").write_text("a file in the way")
    with pytest.raises(LabError, match="cannot be written"):
        fetch(tiny(), tmp_path)


def in_a_process(data: IdxData, project: Path, before: str) -> subprocess.Popen[str]:
    script = f"""
import json, sys
from pathlib import Path
from pipeline.config.data import IdxData
from pipeline.fetch import fetch
data = IdxData.model_validate(json.loads(sys.argv[1]))
{before}
fetch(data, Path(sys.argv[2]))
"""
    command = [sys.executable, "-c", script, json.dumps(data.model_dump(mode="json")), str(project)]
    return subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    local = tmp_path / "mine"
    local.mkdir()
    for name, content in FILES.items():
        (local / name).write_bytes(content)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))"
    with in_a_process(tiny(local_dir=local), tmp_path, limit) as process:
        _, err = process.communicate(timeout=60)
    assert "LabError" in err
    assert "cannot be written" in err
    assert list((tmp_path / "data" / "raw").iterdir()) == []


def test_an_interrupted_download_leaves_nothing(tmp_path: Path, server: Server) -> None:
    server.extra, server.delay = 1000, 20
    server.bodies["/tiny.npz"] = npz_bytes(**ARRAYS)
    # A process started by `make test &` ignores SIGINT.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    with in_a_process(tiny(npz_source(f"{server.url}/tiny.npz", None)), tmp_path, heard) as process:
        end = time.monotonic() + 30
        while not server.requested and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)
        assert list((tmp_path / "data" / "raw").iterdir()) != []
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert list((tmp_path / "data" / "raw").iterdir()) == []


def test_an_interrupted_write_keeps_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "tiny"
    folder.mkdir(parents=True)
    (folder / "old").write_text("kept")

    def interrupted() -> None:
        with atomic_folder(folder) as new:
            (new / "half").write_text("writ")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert [path.name for path in folder.iterdir()] == ["old"]


# --- conf and the command


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_conf_files_can_be_used(name: str) -> None:
    data = read_data(OmegaConf.create({"data": OmegaConf.load(CONF / "data" / f"{name}.yaml")}), "fetch")
    assert isinstance(data, IdxData)
    assert data.name == name
    assert len({file.sha256 for file in data.files.values()}) == 4
    assert len(data.sources) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "../elsewhere"}, "is a path"),
        ({"classes": "many"}, "data.classes"),
        ({"colour": 1}, "data.colour"),
        ({"kind": "sound"}, "kind"),
    ],
)
def test_a_conf_file_that_cannot_be_used(change: dict[str, Any], reason: str) -> None:
    config = OmegaConf.create({"data": tiny().model_dump() | change})
    with pytest.raises(LabError, match=reason):
        read_data(config, "fetch")


@pytest.mark.parametrize(
    ("name", "reason"), [("churn", "examples/churn.csv is on this machine"), ("iris", "sklearn:iris is installed")]
)
def test_what_is_here_already_is_not_fetched(name: str, reason: str) -> None:
    command = [sys.executable, "-m", "pipeline.fetch", f"data={name}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{name}: nothing to fetch, {reason}\n")


def test_a_table_needs_no_fetching() -> None:
    command = [sys.executable, "-m", "pipeline.fetch", "data=three_bits"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "nothing to fetch for three_bits: its table is in conf/data/three_bits.yaml" in done.stderr
    assert "Traceback" not in done.stderr
