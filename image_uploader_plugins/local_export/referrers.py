"""What refers to the manifests of one repository: a view of their subjects.

Source: OCI distribution-spec 1.1, "Listing Referrers".
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from image_uploader_plugins import errors, manifest
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout, views
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.storage import Storage
from image_uploader_plugins.manifest import Manifest

ALL = "all"

_Entry = Mapping[str, Any]

# NOTE: the web servers' configurations split the filter in the same way; they
# answer any other type unfiltered, and say so by saying nothing.
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
_TYPE = re.compile(rf"({_WORD})/({_WORD})(?:\+({_WORD}))?")


class Referrers:
    """Callers hold the repository's lock for everything that writes."""

    def __init__(self, storage: Storage, repository: RepositoryLayout) -> None:
        self._storage = storage
        self._folder = repository.referrers

    def check(self, parsed: Manifest, digest: Digest) -> None:
        """Raise StorageFull for a manifest with which its subject's list would be too long.

        Clients read no index of more than manifest.SIZE_LIMIT bytes.
        """
        if parsed.subject is None:
            return
        subject = parsed.subject.digest
        size = len(views.index(self._with(parsed, digest) or [entry(parsed, digest)]))
        if size > manifest.SIZE_LIMIT:
            raise errors.StorageFull(
                self._storage.root / self._folder / subject.value / ALL,
                f"the list would have {size} bytes, the limit is {manifest.SIZE_LIMIT}",
            )

    def add(self, parsed: Manifest, digest: Digest) -> bool:
        """List a manifest with its subject, if it has one.

        False if the list that is there cannot be read: it must be rebuilt.
        """
        if parsed.subject is None:
            return True
        entries = self._with(parsed, digest)
        if entries is not None:
            self._write(parsed.subject.digest, entries)
        return entries is not None

    def _with(self, parsed: Manifest, digest: Digest) -> list[_Entry] | None:
        """The list of a manifest's subject with the manifest in it; None for a damaged list."""
        if parsed.subject is None:
            return []
        try:
            listed = self._read(parsed.subject.digest)
            entries = {described["digest"]: described for described in listed}
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        entries[digest.value] = entry(parsed, digest)
        return list(entries.values())

    def rebuild(self, manifests: Mapping[Digest, Manifest]) -> None:
        """List exactly these manifests."""
        found: dict[Digest, list[_Entry]] = collections.defaultdict(list)
        for digest, parsed in manifests.items():
            if parsed.subject:
                found[parsed.subject.digest].append(entry(parsed, digest))
        for subject in sorted(found):
            self._write(subject, found[subject])
        for name in sorted(self._storage.names(self._folder)):
            if layout.folder_digest(name) not in found:
                self._storage.remove_tree(self._folder / name)

    def clear(self) -> None:
        self._storage.remove_tree(self._folder)

    def _read(self, subject: Digest) -> list[_Entry]:
        path = self._folder / subject.value / ALL
        if not self._storage.file(path):
            return []
        entries: list[_Entry] = json.loads(self._storage.read(path))["manifests"]
        return entries

    def _write(self, subject: Digest, entries: Iterable[_Entry]) -> None:
        texts = {PurePosixPath(name): text for name, text in listings(entries).items()}
        folder = self._folder / subject.value
        for name in sorted(texts):
            self._storage.write(folder / name, texts[name])
        for other in sorted(self._storage.names(folder)):
            if PurePosixPath(other) not in texts:
                self._storage.unlink(folder / other)


def entry(parsed: Manifest, digest: Digest) -> _Entry:
    """A referrer as its subject's list describes it."""
    artifact_type = parsed.artifact_type or (parsed.config.media_type if parsed.config else None)
    described: dict[str, Any] = {
        "mediaType": parsed.media_type,
        "digest": digest.value,
        "size": len(parsed.content),
    }
    if artifact_type:
        described["artifactType"] = artifact_type
    if parsed.annotations:
        described["annotations"] = dict(parsed.annotations)
    return described


def listings(entries: Iterable[_Entry]) -> dict[str, bytes]:
    """The index of all entries, and one for each artifact type, by file name."""
    named: dict[str, list[_Entry]] = collections.defaultdict(list)
    for described in sorted(entries, key=lambda described: str(described["digest"])):
        named[ALL].append(described)
        name = file_name(described.get("artifactType"))
        if name:
            named[name].append(described)
    return {name: views.index(described) for name, described in named.items()}


def file_name(artifact_type: str | None) -> str | None:
    """The file that lists an artifact type; None for a type that is never filtered by."""
    match = _TYPE.fullmatch(artifact_type or "")
    return "+".join(part for part in match.groups() if part) if match else None
