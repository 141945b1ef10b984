"""A tree as a read-only registry without a web server beside it, as a WSGI application.

Answers what nginx and Apache answer with the configurations in etc/, from the
same files.  Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import wrap_file

from image_uploader_plugins import errors, manifest
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout, referrers, views
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.storage import NotFound, Reader
from image_uploader_plugins.reference import RepositoryName, Tag

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOG = logging.getLogger(__name__)

_PATH = re.compile(r"/v2/(.+)/(manifests|blobs|referrers|tags)/([^/]+)")
_ONE_RANGE = re.compile(r"\s*bytes\s*=[^,]*", re.IGNORECASE)
_JSON = "application/json"
# Bytes of a blob in memory, for each client.
_CHUNK = 64 * 1024
_LISTS = (*manifest.INDEX_TYPES, "*/*")
_SINGLE = manifest.MEDIA_TYPES - manifest.INDEX_TYPES
_UNKNOWN = {
    "tags": ("NAME_UNKNOWN", "no such repository"),
    "manifests": ("MANIFEST_UNKNOWN", "no such manifest"),
    "blobs": ("BLOB_UNKNOWN", "no such blob"),
}


class TreeServer:
    """A WSGI application that serves the tree at ``root``.

    Every name in a URL is checked against its grammar before it becomes part
    of a path, and no symbolic link is followed on the way to a file.
    """

    def __init__(self, root: Path) -> None:
        self._files = Reader(root)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or not _ONE_RANGE.fullmatch(
            environ.get("HTTP_RANGE", "")
        ):
            # RFC 9110, 14.2: ranges are for GET, unknown units are ignored, and several
            # ranges may be.
            environ.pop("HTTP_RANGE", None)
        response = self._answer(Request(environ))
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
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
        except RequestedRangeNotSatisfiable as e:
            answer = _error(416, "SIZE_INVALID", "no such range")
            answer.headers["Content-Range"] = f"bytes */{e.length}"
            return answer
        except Exception as e:
            LOG.error("%.300r: %s: %s", request.path, type(e).__name__, e)
            return _error(500, "UNKNOWN", "the tree cannot be read")

    def _route(self, request: Request) -> Response:
        if request.path in ("/", "/index.html"):
            return self._page(request)
        if request.path.rstrip("/") == "/v2":
            return self._file(request, layout.API_ROOT, _JSON)
        if request.path == "/v2/_catalog":
            return self._file(request, layout.CATALOG, _JSON)
        match = _PATH.fullmatch(request.path)
        if not match:
            raise NotFound(request.path)
        name, kind, reference = match.groups()
        answer = {
            "tags": self._tags,
            "manifests": self._manifest,
            "blobs": self._blob,
            "referrers": self._referrers,
        }[kind]
        try:
            if kind in ("blobs", "referrers") or ":" in reference:
                Digest(reference)
        except errors.InvalidReference as e:
            return _error(400, "DIGEST_INVALID", str(e))
        try:
            return answer(request, RepositoryLayout(RepositoryName(name)), reference)
        except (NotFound, errors.InvalidReference):
            if kind == "referrers":
                return self._no_referrers(request)
            return _error(404, *_UNKNOWN[kind])

    def _page(self, request: Request) -> Response:
        answer = self._file(request, layout.PAGE, "text/html; charset=utf-8")
        # The page has its policy in it; this is what a page cannot say itself.
        answer.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    def _blob(self, request: Request, repository: RepositoryLayout, reference: str) -> Response:
        digest = Digest(reference)
        for path in repository.blob_names(digest):
            with contextlib.suppress(NotFound):
                return self._file(request, path, "application/octet-stream", digest)
        raise NotFound(repository.blob(digest, gzip=False))

    def _manifest(self, request: Request, repository: RepositoryLayout, reference: str) -> Response:
        if ":" in reference:
            digest = Digest(reference)
        else:
            digest = self._tagged(repository, Tag(reference), request.headers.get("Accept", ""))
        for media_type, name in layout.TYPE_FILES.items():
            with contextlib.suppress(NotFound):
                return self._file(request, repository.manifest(digest) / name, media_type, digest)
        raise NotFound(repository.manifest(digest))

    def _tagged(self, repository: RepositoryLayout, tag: Tag, accept: str) -> Digest:
        """What a tag is for a client that takes ``accept``."""
        knows_lists = any(known in accept for known in _LISTS)
        single = not knows_lists and any(known in accept for known in _SINGLE)
        links = repository.default_links if single else repository.tag_links
        folder = self._files.link(links / tag.value)
        return Digest(folder.name.removeprefix("."))

    def _tags(self, request: Request, repository: RepositoryLayout, reference: str) -> Response:
        if reference != "list":
            raise NotFound(reference)
        asked, last = request.args.get("n", ""), request.args.get("last", "")
        try:
            number = _number(asked)
            after = Tag(last).value if last else ""
        except errors.InvalidReference as e:
            return _error(400, "PAGINATION_NUMBER_INVALID", str(e))
        listed = json.loads(self._files.read(repository.tags_list))["tags"]
        if after and after not in listed:
            return _error(404, "MANIFEST_UNKNOWN", "last is not a tag of the repository")
        rest = [tag for tag in listed if tag > after]
        page = rest[:number]
        answer = _text(request, views.tags_list(repository.name, page), _JSON)
        if page and len(page) < len(rest):
            more = f"/v2/{repository.name}/tags/list?n={asked}&last={page[-1]}"
            answer.headers["Link"] = f'<{more}>; rel="next"'
        return answer

    def _referrers(
        self, request: Request, repository: RepositoryLayout, reference: str
    ) -> Response:
        path = repository.referrers / reference / (_filter(request) or referrers.ALL)
        return self._index(request, path)

    def _no_referrers(self, request: Request) -> Response:
        return self._index(request, layout.NO_REFERRERS)

    def _index(self, request: Request, path: PurePosixPath) -> Response:
        answer = self._file(request, path, manifest.OCI_INDEX)
        if _filter(request):
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        return answer

    def _file(
        self, request: Request, path: PurePosixPath, media_type: str, digest: Digest | None = None
    ) -> Response:
        if digest is None:
            return _text(request, self._files.read(path), media_type)
        file = self._files.open(path)
        length = file.seek(0, 2)
        file.seek(0)
        answer = Response(wrap_file(request.environ, file, _CHUNK), direct_passthrough=True)
        answer.headers["Content-Type"] = media_type
        answer.headers["Docker-Content-Digest"] = digest.value
        answer.content_length = length
        answer.set_etag(digest.value)
        return _conditional(request, answer, length)


def _number(text: str) -> int | None:
    """How many tags a client asks for; None for all."""
    if text and not (text.isascii() and text.isdigit()):
        raise errors.InvalidReference(f"n must be a number: {text!r:.50}")
    return int(text.lstrip("0")[:18] or 0) if text else None


def _filter(request: Request) -> str | None:
    # A "+" in a query stands for itself here: no media type has a space.
    return referrers.file_name(request.args.get("artifactType", "").replace(" ", "+"))


def _text(request: Request, content: bytes, media_type: str) -> Response:
    answer = Response(content)
    answer.headers["Content-Type"] = media_type
    answer.add_etag()
    return _conditional(request, answer, len(content))


def _conditional(request: Request, answer: Response, length: int) -> Response:
    """What RFC 9110 makes of an answer by the conditions and range in a request."""
    if "Range" in request.headers and request.range is None:
        answer.close()
        raise RequestedRangeNotSatisfiable(length)
    try:
        # A range of nothing cannot be satisfied, but all of nothing is no error.
        return answer.make_conditional(
            request, accept_ranges=length > 0, complete_length=length if length else None
        )
    except RequestedRangeNotSatisfiable:
        answer.close()
        raise


def _error(status: int, code: str, message: str) -> Response:
    """OCI distribution-spec 1.1, "Error Codes"."""
    body: dict[str, Any] = {"errors": [{"code": code, "message": message}]}
    answer = Response(json.dumps(body), status)
    answer.headers["Content-Type"] = _JSON
    return answer
