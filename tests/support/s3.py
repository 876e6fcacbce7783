"""An S3 endpoint on 127.0.0.1: moto's server, which checks keys and signatures as S3 does."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.support.flaky_server import free_port
from tests.support.services import missing

BUCKET = "lab"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True)
class Endpoint:
    """An S3 server with one bucket.

    Attributes:
        url: its address.
        bucket: the bucket's name.
        credentials: environment variables of a program that may use it.
    """

    url: str
    bucket: str
    credentials: dict[str, str]

    def client(self) -> Any:
        """Return a client of boto3 with these credentials."""
        return _client("s3", self.url, self.credentials)

    def keys(self) -> list[str]:
        """Return the names of all objects in the bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@contextmanager
def s3_endpoint(folder: Path) -> Iterator[Endpoint]:
    """Start the server with an empty bucket, and end it afterwards. Its output goes to a file in a folder.

    A key is created for it; from then on no other key is accepted.
    """
    for module, package in (("moto", "moto[server]"), ("s3fs", "dvc[s3]")):
        if importlib.util.find_spec(module) is None:
            missing(f"{package} (make cluster)")
    port = free_port()
    typed = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    url, log = f"http://127.0.0.1:{port}", folder / "s3.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(typed, stdout=stream, stderr=stream, start_new_session=True)
    try:
        while not _answers(f"{url}/moto-api/"):
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)
        yield Endpoint(url, BUCKET, _open_bucket(url, BUCKET))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _open_bucket(url: str, bucket: str) -> dict[str, str]:
    """Create the bucket and a user with a key, then require a key: at first the server accepts everybody."""
    anybody = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anybody", "AWS_DEFAULT_REGION": "us-east-1"}
    _client("s3", url, anybody).create_bucket(Bucket=bucket)
    users = _client("iam", url, anybody)
    users.create_user(UserName="team")
    users.put_user_policy(UserName="team", PolicyName="all", PolicyDocument=json.dumps(EVERYTHING))
    key = users.create_access_key(UserName="team")["AccessKey"]
    shut = Request(f"{url}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
    with urlopen(shut, timeout=30):
        pass
    return anybody | {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def _client(service: str, url: str, credentials: dict[str, str]) -> Any:
    boto3 = importlib.import_module("boto3")

    return boto3.client(
        service,
        endpoint_url=url,
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
        region_name=credentials["AWS_DEFAULT_REGION"],
    )
