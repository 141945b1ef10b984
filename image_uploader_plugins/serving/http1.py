# SPDX-License-Identifier: Apache-2.0
"""The head of an HTTP/1.1 request, by the grammar of RFC 9112 and never more loosely than nginx."""

from __future__ import annotations

import re
import urllib.parse
from typing import NamedTuple

# Bytes of a request's first line (nginx's limit), and of all its lines.
LINE = 8 * 1024
HEAD = 32 * 1024

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_END = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(rb"([A-Z_-]+) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
# RFC 3986, 3.2.2 and 3.2.3; never empty, and no two dots together, as nginx has it.
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?!.*\.\.)(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?"
)
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
# Without a fragment; an escape is two digits, and not of NUL.
_ORIGIN_FORM = re.compile(r"(/(?:[^?#%]|%(?!00)[0-9A-Fa-f]{2})*)(?:\?([^#]*))?")


class Refused(Exception):
    """A request that is answered with an error of ``status``, and after which nothing is read."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class Head(NamedTuple):
    """The part of a request before its body.

    ``path`` is decoded, one character a byte, as in WSGI; the names of
    ``fields`` are in lower case, and lines of one name are one list (RFC 9110,
    5.3).  ``length`` is the size of the body in bytes, None for one in chunks.
    """

    method: str
    path: str
    query: str
    version: str
    fields: dict[str, str]
    length: int | None

    @property
    def persistent(self) -> bool:
        """Return whether the client may send another request (RFC 9112, 9.3)."""
        options = self.list("connection")
        return "close" not in options and (self.version != "HTTP/1.0" or "keep-alive" in options)

    @property
    def waits(self) -> bool:
        """Return whether the client waits for a 100 before it sends the body (RFC 9110, 10.1.1)."""
        return self.length != 0 and "100-continue" in self.list("expect")

    def list(self, name: str) -> list[str]:
        """Return a field's comma-separated elements in lower case."""
        return [part.strip(" \t").lower() for part in self.fields.get(name, "").split(",")]


def end(received: bytes | bytearray, start: int = 0) -> int:
    """Return where the head in ``received`` ends, -1 if it goes on.

    There was no end before ``start``.  Raises Refused as soon as the first
    line is wrong, or anything too long.
    """
    line = received.find(b"\n", 0, LINE)
    if line < 0 and len(received) >= LINE:
        raise Refused(414, f"the first line of a request has more than {LINE} bytes")
    if line >= start:
        _request_line(bytes(received[:line]).removesuffix(b"\r"))
    match = _END.search(received, max(0, start - 2))
    if (match.end() if match else len(received)) > HEAD:
        raise Refused(431, f"the head of a request has more than {HEAD} bytes")
    return match.end() if match else -1


def parse(head: bytes) -> Head:
    """Read a whole head; raises Refused for what it may not be."""
    first, *lines = (line.removesuffix(b"\r") for line in head.split(b"\n")[:-2])
    method, path, query, version = _request_line(first)
    fields = _fields(lines)
    _check_host(fields.get("host"), version)
    values = {name: ", ".join(given) for name, given in fields.items()}
    return Head(method, path, query, version, values, _length(fields, version))


def _request_line(line: bytes) -> tuple[str, str, str, str]:
    """Split a request line into method, path, query and version (RFC 9112, 3)."""
    match = _REQUEST_LINE.fullmatch(line)
    if not match:
        raise Refused(400, "the first line is not METHOD TARGET HTTP/1.1")
    method, target, major, minor = (part.decode("ascii") for part in match.groups())
    path, query = _target(target)
    if major == "0":
        raise Refused(400, "HTTP/0.9 is not spoken here")
    if major != "1":
        raise Refused(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return method, path, query, "HTTP/1.0" if minor == "0" else "HTTP/1.1"


def _target(target: str) -> tuple[str, str]:
    """Return path and query of an origin-form or absolute-form (RFC 9112, 3.2)."""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute:
        if not _HOST.fullmatch(absolute[1]):
            raise Refused(400, "the target's host is no host")
        target = absolute[2] if absolute[2].startswith("/") else f"/{absolute[2]}"
    match = _ORIGIN_FORM.fullmatch(target)
    if not match:
        raise Refused(400, "the target is no path")
    return urllib.parse.unquote(match[1], "latin-1"), match[2] or ""


def _fields(lines: list[bytes]) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if not match:
            raise Refused(400, "a header line is not NAME: VALUE, or has control characters")
        name, value = (part.decode("latin-1") for part in match.groups())
        fields.setdefault(name.lower(), []).append(value.rstrip(" \t"))
    return fields


def _check_host(hosts: list[str] | None, version: str) -> None:
    """Raise Refused unless there is one host; HTTP/1.0 needs none (RFC 9112, 3.2)."""
    if hosts is None and version == "HTTP/1.0":
        return
    if hosts is None or len(hosts) != 1:
        raise Refused(400, "a request has exactly one line Host")
    if not _HOST.fullmatch(hosts[0]):
        raise Refused(400, "Host is no host")


def _length(fields: dict[str, list[str]], version: str) -> int | None:
    """Return the length of the body, None where it is chunked (RFC 9112, 6.1 and 6.3).

    Raises Refused for what could be read in two ways.
    """
    lengths, codings = fields.get("content-length"), fields.get("transfer-encoding")
    if codings is not None:
        if lengths or version == "HTTP/1.0" or len(codings) > 1:
            raise Refused(400, "Transfer-Encoding is there twice, with a length, or in HTTP/1.0")
        if codings[0].lower() != "chunked":
            raise Refused(501, "no Transfer-Encoding but chunked is known")
        return None
    if lengths is None:
        return 0
    values = {part.strip(" \t") for line in lengths for part in line.split(",")}
    text = values.pop()
    if values or not (text.isascii() and text.isdigit()):
        raise Refused(400, "Content-Length is not one number")
    return int(text.lstrip("0")[:18] or 0)
