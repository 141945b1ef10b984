# SPDX-License-Identifier: Apache-2.0
"""A tree as a read-only registry without a web server beside it, as a WSGI application.

Answers what nginx and Apache answer with the configurations in etc/, from the
same files.  Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import gzip
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.views import documents, referrers
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.serving import cross_origin, namespaces, negotiation, ranges
from image_uploader_plugins.serving.content_cache import ContentCache
from image_uploader_plugins.serving.messages import Request, Response
from image_uploader_plugins.sources import image_name
from image_uploader_plugins.storage import NotFound, Reader, Where
from image_uploader_plugins.text import shown

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOG = logging.getLogger(__name__)

# Where the HTML page is; it is the only answer that is compressed.
_PAGES = ("/", "/index.html")
_PATH = re.compile(r"/v2/(.+)/(manifests|blobs|referrers|tags)/([^/]+)")
# Content by digest never changes; caches must ask again for anything else.
_FOR_EVER = "max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
# Bytes of manifests that are kept in memory, and of lists.
_KEPT = 8 * 1024 * 1024
# Manifests whose type is known without looking, and repositories whose paths are.
_KNOWN_TYPES = 4096
_KNOWN_NAMES = 1024
# The type of a manifest is tried in this order.
_TYPES = (
    *(media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST),
    *(media_types.OCI_INDEX, media_types.DOCKER_LIST),
    *(media_types.DOCKER_SCHEMA1_SIGNED, media_types.DOCKER_SCHEMA1),
)
_UNKNOWN = {
    "tags": ("NAME_UNKNOWN", "no such repository"),
    "manifests": ("MANIFEST_UNKNOWN", "no such manifest"),
    "blobs": ("BLOB_UNKNOWN", "no such blob"),
}


class TreeServer:
    """A WSGI application that serves the tree at ``root``.

    Every name in a URL is checked against its grammar before it becomes part
    of a path, and no symbolic link is followed on the way to a file.  Pages
    of ``allow_origins`` may read the answers in a browser, with "*" all.
    """

    def __init__(self, root: Path, allow_origins: Collection[str] = ()) -> None:
        self._files = Reader(root)
        self._allow_origins = frozenset(allow_origins)
        self._manifests: ContentCache[tuple[object, ...], bytes] = ContentCache(_KEPT)
        self._lists: ContentCache[tuple[object, ...], _Items] = ContentCache(_KEPT)
        self._types: dict[str, str] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        return self._finished(request, self._answer(request))(environ, start_response)

    def refuse(self, status: int, reason: str) -> WSGIApplication:
        """Return the answer, as a WSGI application, to what is no request of HTTP/1.1."""

        def refusal(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            answer = _error(status, "UNSUPPORTED", reason)
            return self._finished(Request(environ), answer)(environ, start_response)

        return refusal

    def _finished(self, request: Request, answer: Response) -> Response:
        answer.headers.update(self._common(request, answer.status))
        return answer

    def _common(self, request: Request, status: int) -> dict[str, str]:
        """Return the fields that every answer has."""
        _, kind, reference = _target(request.path)
        by_digest = kind in ("blobs", "manifests") and ":" in reference
        fixed = by_digest and status in (200, 206, 304)
        vary = ["Accept"] if kind == "manifests" and not by_digest else []
        vary += ["Accept-Encoding"] if request.path in _PAGES else []
        if self._allow_origins and cross_origin.ANY not in self._allow_origins:
            vary.append("Origin")
        return {
            "Docker-Distribution-Api-Version": "registry/2.0",
            "Cache-Control": _FOR_EVER if fixed else _ASK_AGAIN,
            **({"Vary": ", ".join(vary)} if vary else {}),
            **cross_origin.headers(self._allow_origins, request.field("HTTP_ORIGIN") or ""),
        }

    def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS" and self._allow_origins:
            return Response(204, cross_origin.PREFLIGHT)
        if request.method not in ("GET", "HEAD"):
            answer = _error(405, "UNSUPPORTED", "this registry is read-only")
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        try:
            return self._route(request)
        except NotFound:
            return _error(404, "UNSUPPORTED", "not part of the registry API")
        except errors.StorageDenied as e:
            LOG.warning("%s", e)
            return _error(403, "DENIED", "not served")
        except Exception as e:
            LOG.error("%.300r: %s: %s", request.path, type(e).__name__, e)
            return _error(500, "UNKNOWN", "the tree cannot be read")

    def _route(self, request: Request) -> Response:
        if request.path in _PAGES:
            return self._page(request)
        if request.path.rstrip("/") == "/v2":
            return self._file(request, layout.API_ROOT, media_types.JSON)
        if request.path == "/v2/_catalog":
            return self._catalog(request)
        name, kind, reference = _target(request.path)
        if not kind:
            raise NotFound(request.path)
        try:
            if kind in ("blobs", "referrers") or ":" in reference:
                Digest(reference)
        except errors.InvalidReference as e:
            return _error(400, "DIGEST_INVALID", str(e))
        found = self._named(request, name)
        if found is None:
            return self._no_repository(request, kind)
        return self._of_repository(request, found, kind, reference)

    def _of_repository(self, request: Request, name: str, kind: str, reference: str) -> Response:
        answer = {
            "tags": self._tags,
            "manifests": self._manifest,
            "blobs": self._blob,
            "referrers": self._referrers,
        }[kind]
        try:
            return answer(request, _layout(name), reference)
        except (NotFound, errors.InvalidReference):
            if kind == "referrers":
                return self._no_referrers(request)
            return _error(404, *_UNKNOWN[kind])

    def _named(self, request: Request, name: str) -> str | None:
        """Return the repository that is asked for; None where it is another registry's.

        Of a registry whose images have full names in this tree, a client that
        says whose image it wants (``ns``) gets those alone.  Of any other it
        gets the images whose names begin with no registry.
        """
        value = namespaces.argument(request.query)
        if not value:
            return name
        registry = namespaces.registry(value)
        if registry is None:
            return None
        prefix = image_name.prefix_of(registry)
        if image_name.is_registry(registry) and self._files.is_folder(layout.V2 / prefix):
            # In front of a mirror's path the client has already put it there.
            return name if name.startswith(f"{prefix}/") else f"{prefix}/{name}"
        first, slash, _ = name.partition("/")
        if slash and image_name.registry_of(first):
            return None
        with contextlib.suppress(errors.InvalidReference):
            return name if self._files.is_folder(_layout(name).top) else None
        return None

    def _no_repository(self, request: Request, kind: str) -> Response:
        """Answer where another registry's image is not sent."""
        if kind == "referrers":
            return self._no_referrers(request)
        return _error(404, "NAME_UNKNOWN", "no such repository of this registry")

    def _page(self, request: Request) -> Response:
        content, in_gzip = self._read(layout.PAGE), request.takes_gzip()
        content = _packed(content) if in_gzip else content
        answer = _text(request, content, "text/html; charset=utf-8")
        if in_gzip and answer.status < 400:
            answer.headers["Content-Encoding"] = "gzip"
        # The page has its policy in it; this is what a page cannot say itself.
        answer.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    def _blob(self, request: Request, repository: RepositoryLayout, reference: str) -> Response:
        digest = Digest(reference)
        for path in repository.blob_names(digest):
            with contextlib.suppress(NotFound):
                return self._file(request, path, media_types.OCTET_STREAM, digest)
        raise NotFound(repository.blob(digest, gzip=False))

    def _manifest(self, request: Request, repository: RepositoryLayout, reference: str) -> Response:
        if ":" in reference:
            digest = Digest(reference)
        else:
            digest = self._tagged(repository, Tag(reference), request.field("HTTP_ACCEPT") or "")
        known = self._types.get(digest.value)
        for media_type in (known, *_TYPES) if known else _TYPES:
            with contextlib.suppress(NotFound):
                path = repository.typed_manifest(digest, media_type)
                answer = self._file(request, path, media_type, digest, verify=True)
                self._remember(digest, media_type)
                return answer
        raise NotFound(repository.manifest(digest))

    def _remember(self, digest: Digest, media_type: str) -> None:
        if len(self._types) >= _KNOWN_TYPES:
            self._types.clear()
        self._types[digest.value] = media_type

    def _tagged(self, repository: RepositoryLayout, tag: Tag, accept: str) -> Digest:
        """Return the manifest that a tag leads to for a client that takes ``accept``."""
        link, default = repository.tag_link(tag), repository.default_link(tag)
        if not negotiation.takes_no_list(accept):
            return self._led(link)
        with contextlib.suppress(NotFound):
            return self._led(default)
        found = self._led(link)
        # A tag may come to lead to a list at any time. The default of a list is there before.
        with contextlib.suppress(NotFound):
            return self._led(default)
        return found

    def _led(self, link: str) -> Digest:
        """Return the manifest that a link leads to; raise NotFound where there is no link."""
        return Digest(self._files.readlink(link).name.removeprefix("."))

    def _catalog(self, request: Request) -> Response:
        def read() -> _Items:
            return self._items(layout.CATALOG, documents.parse_catalog, documents.catalog)

        return _listed(request, request.path, read, layout.is_item)

    def _tags(self, request: Request, repository: RepositoryLayout, reference: str) -> Response:
        if reference != "list":
            raise NotFound(reference)

        def read() -> _Items:
            parse = functools.partial(documents.parse_tags_list, repository.name)
            render = functools.partial(documents.tags_list, repository.name)
            return self._items(repository.tags_list, parse, render)

        value = namespaces.argument(request.query)
        where = f"{request.path}?ns={value}" if value else request.path
        return _listed(request, where, read, _is_tag)

    def _items(
        self,
        path: PurePosixPath,
        parse: Callable[[bytes], Collection[str]],
        render: Callable[[Iterable[str]], bytes],
    ) -> _Items:
        """Return a list.  It is read each time, but parsed only when it has changed.

        NOTE: size and times do not tell: two lists of one size may be written
        in one tick of the clock, the second into the inode of the first.
        """
        content = self._read(path)
        key = (path, hashlib.sha256(content).digest())

        def make() -> _Items:
            items = sorted(parse(content))
            return _Items(items, render(items), render)

        return self._lists.get(key, len(content), make)

    def _referrers(
        self, request: Request, repository: RepositoryLayout, reference: str
    ) -> Response:
        path = repository.referrers / reference / (_filter(request) or referrers.ALL)
        return self._index(request, path)

    def _no_referrers(self, request: Request) -> Response:
        return self._index(request, layout.NO_REFERRERS)

    def _index(self, request: Request, path: PurePosixPath) -> Response:
        answer = self._file(request, path, media_types.OCI_INDEX)
        if _filter(request):
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        return answer

    def _read(self, path: Where) -> bytes:
        with self._files.open(path) as file:
            return file.read()

    def _file(
        self,
        request: Request,
        path: Where,
        media_type: str,
        digest: Digest | None = None,
        *,
        verify: bool = False,
    ) -> Response:
        """Answer with a file: one with a ``digest`` piece by piece, or whole to be verified."""
        if digest is None:
            return _text(request, self._read(path), media_type)
        with contextlib.ExitStack() as stack:
            stored = stack.enter_context(contextlib.closing(_Stored(self._files.open(path))))
            content = self._verified(path, stored, digest) if verify else stored
            answer = _conditional(request, content, media_type, digest.value, digest)
            if content is stored:
                # From here on it is closed with the answer.
                stack.pop_all()
        return answer

    def _verified(self, path: Where, stored: _Stored, digest: Digest) -> _Content:
        """Return content that hashes to its digest; raise StorageError for any other.

        A small manifest is read and hashed again only when its file is another
        one, or was changed.
        """

        def read() -> bytes:
            content = stored.read(0, stored.size) if stored.size else b""
            digest.verify(content)
            return content

        try:
            if stored.size <= ranges.CHUNK:
                key = (digest.value, *stored.identity)
                return _Text(self._manifests.get(key, stored.size, read))
            stored.verify(digest)
        except errors.ContentMismatch as e:
            raise errors.StorageError(self._files.root / path, str(e)) from e
        return stored


@functools.lru_cache(2)
def _packed(content: bytes) -> bytes:
    """Return the page in gzip; the same bytes each time, so that they have one ETag."""
    return gzip.compress(content, mtime=0)


@functools.lru_cache(_KNOWN_NAMES)
def _layout(name: str) -> RepositoryLayout:
    return RepositoryLayout(RepositoryName(name))


class _Items(NamedTuple):
    """The items of a list in order, and ``whole``, the list as it is sent."""

    items: list[str]
    whole: bytes
    render: Callable[[Iterable[str]], bytes]


class _Content(Protocol):
    """The content to send, or parts of it."""

    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Return at least one byte from ``offset`` on, ``count`` at most."""

    def part(self, span: range) -> Iterable[bytes]:
        """Return the bytes of ``span``, piece by piece."""

    def close(self) -> None: ...


class _Text:
    """Content that is in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read(self, offset: int, count: int) -> bytes:
        return self._content[offset : offset + count]

    def part(self, span: range) -> Iterable[bytes]:
        return [self._content[span.start : span.stop]]

    def close(self) -> None:
        pass


class _Stored:
    """An open file, of which no more than a piece is in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        found = os.fstat(file.fileno())
        self.size = found.st_size
        # Of two files, or of one before and after a change, these differ.
        times = (found.st_mtime_ns, found.st_ctime_ns)
        self.identity = (found.st_dev, found.st_ino, found.st_size, *times)

    def read(self, offset: int, count: int) -> bytes:
        piece = os.pread(self._file.fileno(), count, offset)
        if not piece:
            raise EOFError(f"a file ends at {offset} that had {self.size} bytes")
        return piece

    def part(self, span: range) -> Iterable[bytes]:
        return ranges.FilePart(self._file, span, self.read)

    def verify(self, digest: Digest) -> None:
        """Read all of it; raises ContentMismatch."""
        for _ in VerifiedStream(ranges.read(self.read, range(self.size)), digest):
            pass

    def close(self) -> None:
        self._file.close()


def _listed(
    request: Request, where: str, read: Callable[[], _Items], is_item: Callable[[str], bool]
) -> Response:
    """Answer with as much of a list as is wanted (OCI distribution-spec 1.1, "Listing Tags").

    ``where`` is the URL of the whole list.
    """
    asked, last = request.argument("n"), request.argument("last")
    try:
        number = _number(asked)
        if last and not is_item(last):
            raise errors.InvalidReference(f"last cannot be in the list: {shown(last)}")
    except errors.InvalidReference as e:
        return _error(400, "PAGINATION_NUMBER_INVALID", str(e))
    listed = read()
    items = listed.items
    rest = items[bisect.bisect_right(items, last) :]
    page = rest[:number]
    content = listed.whole if len(page) == len(items) else listed.render(page)
    answer = _text(request, content, media_types.JSON)
    if page and len(page) < len(rest):
        more = f"{where}{'&' if '?' in where else '?'}n={number}&last={page[-1]}"
        answer.headers["Link"] = f'<{more}>; rel="next"'
    return answer


def _is_tag(text: str) -> bool:
    with contextlib.suppress(errors.InvalidReference):
        return bool(Tag(text))
    return False


def _number(text: str) -> int | None:
    """Return how many tags a client asks for; None for all."""
    if text and not (text.isascii() and text.isdigit()):
        raise errors.InvalidReference(f"n must be a number: {text!r:.50}")
    return int(text.lstrip("0")[:18] or 0) if text else None


def _filter(request: Request) -> str | None:
    # A "+" in a query stands for itself here: no media type has a space.
    return referrers.file_name(request.argument("artifactType").replace(" ", "+"))


def _target(path: str) -> tuple[str, str, str]:
    """Return name, kind and reference in the path of a URL; three times "" for other paths."""
    match = _PATH.fullmatch(path)
    return (match[1], match[2], match[3]) if match else ("", "", "")


def _text(request: Request, content: bytes, media_type: str) -> Response:
    return _conditional(request, _Text(content), media_type, Digest.of(content).value)


def _conditional(
    request: Request,
    content: _Content,
    media_type: str,
    etag: str,
    digest: Digest | None = None,
) -> Response:
    """Answer a request for ``content``, which is closed with the answer (RFC 9110, 13.2.2)."""
    if request.wants_other_than(etag):
        answer = _error(412, "UNSUPPORTED", "the content is another one")
    elif request.knows(etag):
        answer = Response(304, {})
    else:
        answer = _whole_or_parts(request, content, media_type, etag)
    if answer.status < 400:
        answer.headers["ETag"] = f'"{etag}"'
        answer.headers["Accept-Ranges"] = "bytes"
        if digest:
            answer.headers["Docker-Content-Digest"] = digest.value
    answer.close = content.close
    return answer


def _whole_or_parts(request: Request, content: _Content, media_type: str, etag: str) -> Response:
    field = _range_field(request, etag)
    # All of nothing is no error, though no range of it can be satisfied.
    spans = ranges.asked(field, content.size) if field and content.size else None
    if spans is None:
        return _sent(200, content.part(range(content.size)), content.size, media_type)
    if not spans:
        answer = _error(416, "SIZE_INVALID", "no such range")
        answer.headers["Content-Range"] = f"bytes */{content.size}"
        return answer
    if len(spans) > 1:
        parts = ranges.Multipart(spans, content.size, media_type)
        return _sent(206, parts.read(content.read), parts.length, parts.media_type)
    (span,) = spans
    answer = _sent(206, content.part(span), len(span), media_type)
    answer.headers["Content-Range"] = ranges.content_range(span, content.size)
    return answer


def _range_field(request: Request, etag: str) -> str:
    """Return the ranges that count: of GET, if the client knows this content (RFC 9110, 13.1.5)."""
    field = request.field("HTTP_RANGE")
    if not field or request.method != "GET":
        return ""
    known = request.field("HTTP_IF_RANGE")
    return field if known is None or known.strip() == f'"{etag}"' else ""


def _sent(status: int, body: Iterable[bytes], length: int, media_type: str) -> Response:
    return Response(status, {"Content-Type": media_type, "Content-Length": str(length)}, body)


def _error(status: int, code: str, message: str) -> Response:
    """Return an answer with an error, as OCI distribution-spec 1.1 has it, "Error Codes"."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return _sent(status, [body], len(body), media_types.JSON)
