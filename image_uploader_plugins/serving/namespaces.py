# SPDX-License-Identifier: Apache-2.0
"""Whose image a client of a mirror asks for, where it says so.

containerd adds ``?ns=`` with the registry of an image to every request to a
server that is not that registry (its docs/hosts.md, "Registry Host Namespace").
"""

from __future__ import annotations

import re

from image_uploader_plugins.sources import image_name

_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_ARGUMENT = re.compile("(?:^|&)ns=([^&]*)")
# As containerd writes it: only the colon before the port may be encoded.
_HOST = re.compile(rf"(?=.{{1,255}}$)({_LABEL}(?:\.{_LABEL})*)(?:(?::|%3[Aa])([0-9]{{1,5}}))?")


def argument(query: str) -> str:
    """Return the first ``ns`` of a URL's query as it is, "" where there is none."""
    match = _ARGUMENT.search(query)
    return match[1] if match else ""


def registry(value: str) -> str | None:
    """Return the registry that a value of ``ns`` names, as names of images have it.

    Returns None for what is not in lower case or is no host by name, with or
    without a port: web servers, which answer the same, can neither change the
    case of a text nor write out an IPv6 address.
    """
    match = _HOST.fullmatch(value)
    if not match:
        return None
    return image_name.canonical(f"{match[1]}:{match[2]}" if match[2] else match[1])
