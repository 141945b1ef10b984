# SPDX-License-Identifier: Apache-2.0
"""A registry in memory to copy images from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from email.message import Message

from image_uploader_plugins import media_types
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.web_server import NOT_FOUND, Answer

_PATH = re.compile(r"/v2/(?P<name>[^?]+)/(?P<kind>manifests|blobs|tags)/(?P<reference>[^/?]+)")


class SourceRegistry:
    """An Application for web_server: pulls by tag or digest, with docker-registry's answers.

    Lists of tags are whole, however many are asked for.
    """

    def __init__(self, images: Iterable[Image]) -> None:
        self.manifests: dict[tuple[str, str], Manifest] = {}
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.tags: dict[str, list[str]] = {}
        for image in images:
            self.add(image)

    def add(self, image: Image) -> None:
        """Publish an image with all its parts, under its tag if it has one."""
        for part in image.walk():
            name = part.repository.value
            self.manifests[name, str(part.digest)] = part.manifest
            for digest, content in part.blobs.items():
                self.blobs[name, str(digest)] = content
            if part.tag:
                self.manifests[name, part.tag.value] = part.manifest
                self.tags.setdefault(name, []).append(part.tag.value)

    def __call__(self, path: str, headers: Message) -> Answer:
        if path.rstrip("/") == "/v2":
            return Answer.of(b"{}", media_types.JSON)
        match = _PATH.fullmatch(path.partition("?")[0])
        if not match:
            return NOT_FOUND
        name, kind, reference = match.groups()
        if kind == "tags":
            content = json.dumps({"name": name, "tags": self.tags.get(name, [])})
            return Answer.of(content.encode(), media_types.JSON)
        if kind == "manifests":
            return self.manifest(name, reference, ",".join(headers.get_all("Accept", [])))
        return self.blob(name, reference)

    def manifest(self, name: str, reference: str, accept: str) -> Answer:
        """Return a manifest; for an index whose type ``accept`` lacks, its child for amd64."""
        found = self.manifests.get((name, reference))
        if found and found.is_index and ":" not in reference and found.media_type not in accept:
            # As docker-registry does for clients that know no lists.
            child = found.default("amd64")
            found = self.manifests.get((name, str(child.digest))) if child else None
        if not found:
            return NOT_FOUND
        return Answer.of(found.content, found.media_type, Docker_Content_Digest=str(found.digest))

    def blob(self, name: str, digest: str) -> Answer:
        """Return a blob."""
        content = self.blobs.get((name, digest))
        if content is None:
            return NOT_FOUND
        return Answer.of(content, media_types.OCTET_STREAM, Docker_Content_Digest=digest)


ACCEPT = ", ".join(sorted(media_types.MANIFEST_TYPES))
