# SPDX-License-Identifier: Apache-2.0
"""The proxies of the environment, and who is asked without one.

Sources: curl(1) ("ENVIRONMENT"); golang.org/x/net/http/httpproxy, which podman
and skopeo use.
"""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse

from image_uploader_plugins.sources import trust

_PORTS = {"http": 80, "https": 443}
_BRACKETED = re.compile(r"\[([^]]*)\](?::([0-9]{1,5}))?")


def proxies(url: str) -> dict[str, str]:
    """Return the proxies by scheme, {} for a URL that is asked directly.

    Names of variables in lower case count more.  What is on this machine has none.
    """
    parts = urllib.parse.urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme, 0)
    exceptions = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if trust.is_loopback(parts.netloc) or is_excepted(parts.hostname or "", port, exceptions):
        return {}
    # Commands that ask nobody do without.
    from urllib.request import getproxies_environment  # noqa: PLC0415

    return getproxies_environment()


def proxy(url: str) -> str:
    """Return the proxy of a URL, "" for one that is asked directly."""
    found = proxies(url)
    return found.get(url.partition(":")[0]) or found.get("all", "")


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Return whether ``exceptions``, the value of no_proxy, has a host that is asked at a port.

    They are separated by commas or blanks, each with a port or for all ports:
    a name, which stands for all hosts below it, too; ``.name``, the same;
    ``*.name``, for those below it alone; an address; a network, as
    ``10.0.0.0/8``, which addresses are in and names never; or ``*`` for all.
    """
    host = host.lower().rstrip(".")
    return any(_fits(host, port, text) for text in re.split(r"[\s,]+", exceptions.lower()) if text)


def _fits(host: str, port: int, exception: str) -> bool:
    if exception == "*":
        return True
    address = trust.address(host)
    if "/" in exception:
        return address is not None and _has(exception, address)
    name, number = _split(exception)
    if number and number != str(port):
        return False
    if address is not None:
        return trust.address(name) == address
    if name.startswith("*."):
        return host.endswith(name[1:])
    name = name.lstrip(".").rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(exception: str) -> tuple[str, str]:
    """Return a name or an address, and its port or ""."""
    if bracketed := _BRACKETED.fullmatch(exception):
        return bracketed[1], bracketed[2] or ""
    if exception.count(":") > 1:  # of IPv6
        return exception, ""
    name, _, number = exception.partition(":")
    return name, number


def _has(network: str, address: trust.Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
