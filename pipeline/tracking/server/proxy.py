"""The proxy through which browsers reach MLflow's server, such as that of JupyterHub; an option of `pipeline.ui`."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline.system.errors import LabError
from pipeline.tracking.server.process import HOST


@dataclass(frozen=True)
class Proxy:
    """A proxy through which browsers reach the server.

    Attributes:
        address: the address in the browser, without a slash at its end.
        origin: the beginning of the address up to the path.
        path: the path that requests have when they reach the server; empty if the proxy strips it.
    """

    address: str
    origin: str
    path: str

    def options(self) -> list[str]:
        """Return the options by which MLflow's server accepts what the proxy forwards."""
        host = urlsplit(self.origin).netloc
        options = ["--allowed-hosts", f"{host},{HOST}:*,localhost:*", "--cors-allowed-origins", self.origin]
        if self.path:
            options += ["--static-prefix", self.path]
        return options


def read_proxy(address: str, strips_path: bool) -> Proxy:
    """Read the address of a proxy.

    Args:
        address: the address in the browser.
        strips_path: whether the proxy removes the path of the address from the requests that it forwards.

    Raises:
        LabError: it is not an address with a host and, at most, a path.
    """
    url = urlsplit("")
    # ValueError: an address like http://[.
    with suppress(ValueError):
        url = urlsplit(address)
    if (
        url.scheme not in ("http", "https")
        or not url.hostname
        or "@" in url.netloc
        or re.search(r"[?#{}*,\s]", address)
    ):
        raise LabError(
            "The address of the proxy cannot be used.",
            expected="an address as in the browser, without a user, a ? or a #: https://HOST/PATH",
            received=address,
            fix="see the section on proxies in docs/machines.md",
        )
    path = url.path.rstrip("/")
    origin = f"{url.scheme}://{url.netloc}"
    address = f"{origin}{path}"
    if strips_path:
        path = ""
    return Proxy(address, origin, path)
