"""A tree as a web server hands it out: files, and nothing computed from them."""

from __future__ import annotations

import re
from email.message import Message
from pathlib import Path, PurePath

from image_uploader_plugins import errors, manifest
from image_uploader_plugins.demo.http import NOT_FOUND, Answer
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.reference import RepositoryName, Tag

_PATH = re.compile(r"/v2/(.+)/(manifests|blobs|tags)/([^/]+)")
_LISTS = manifest.INDEX_TYPES | {"*/*"}
_JSON = "application/json"
_CHUNK = 1024 * 1024


class TreeServer:
    """An Application for demo.http that serves the tree at ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, path: str, headers: Message) -> Answer:
        if path.rstrip("/") == "/v2":
            return self._file(layout.API_ROOT, _JSON)
        if path == "/v2/_catalog":
            return self._file(layout.CATALOG, _JSON)
        match = _PATH.fullmatch(path)
        if not match:
            return NOT_FOUND
        name, kind, reference = match.groups()
        try:
            repository = RepositoryLayout(RepositoryName(name))
            if kind == "tags":
                return self._file(repository.tags_list, _JSON) if reference == "list" else NOT_FOUND
            if kind == "blobs":
                return self._blob(repository, Digest(reference))
            return self._manifest(repository, reference, ",".join(headers.get_all("Accept", [])))
        except errors.InvalidReference:
            return NOT_FOUND

    def _blob(self, repository: RepositoryLayout, digest: Digest) -> Answer:
        for path in repository.blob_names(digest):
            if (self._root / path).is_file():
                return self._file(path, "application/octet-stream", digest)
        return NOT_FOUND

    def _manifest(self, repository: RepositoryLayout, reference: str, accept: str) -> Answer:
        if ":" in reference:
            folder = self._root / repository.manifest(Digest(reference))
        else:
            knows_lists = any(media_type in accept for media_type in _LISTS) or not accept
            links = repository.tag_links if knows_lists else repository.default_links
            folder = (self._root / links / Tag(reference).value).resolve()
        digest = layout.folder_digest(folder.name)
        for media_type, file in layout.TYPE_FILES.items():
            if digest and (folder / file).is_file():
                return self._file(folder / file, media_type, digest)
        return NOT_FOUND

    def _file(self, path: PurePath, media_type: str, digest: Digest | None = None) -> Answer:
        try:
            file = (self._root / path).open("rb")
        except FileNotFoundError:
            return NOT_FOUND
        length = file.seek(0, 2)
        file.seek(0)
        headers = {"Content-Type": media_type, "Content-Length": str(length)}
        if digest:
            headers["Docker-Content-Digest"] = str(digest)
        return Answer(200, headers, iter(lambda: file.read(_CHUNK), b""))
