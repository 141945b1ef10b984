# SPDX-License-Identifier: Apache-2.0
"""One repository of a snapshot: what it holds, what names lead to, whether its views are right."""

from __future__ import annotations

import collections
import functools
import json
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.views import documents, referrers
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import is_temporary
from tests.robustness.faults.snapshot import Entry, Snapshot

_LISTS = (".pages", ".referrers", "tags")


class Repository:
    """One repository of a snapshot."""

    def __init__(self, snapshot: Snapshot, name: str) -> None:
        self.name = name
        self._entries = {
            path: entry for path, entry in snapshot.below(f"v2/{name}") if _is_own(path)
        }
        self.tags: set[str] = set()
        self.pins: set[Digest] = set()
        self.blobs: set[Digest] = set()
        self.manifests: dict[Digest, Manifest] = {}
        for path in self._entries:
            self._sort_in(PurePosixPath(path))

    def _sort_in(self, path: PurePosixPath) -> None:
        folder, entry = path.parts[0], self._entries[str(path)]
        reference = path.name.removesuffix(layout.TYPE_MAP)
        digest = layout.folder_digest(reference.removeprefix(layout.PIN))
        if folder == "blobs" and entry.kind == "file":
            self.blobs |= {d for d in [layout.blob_digest(path.name)] if d}
        elif folder != "manifests":
            return
        elif len(path.parts) == 3 and path.name == "index.json":
            digest = layout.folder_digest(path.parent.name)
            if digest and hashes(entry.content, digest):
                self.manifests[digest] = _parsed(entry.content)
        elif reference.startswith(layout.PIN) and digest:
            self.pins.add(digest)
        elif (reference != path.name or entry.kind == "link") and not digest:
            self.tags.add(reference)

    @property
    def inhabited(self) -> bool:
        return any(path.startswith("manifests/") for path in self._entries)

    @property
    def listed(self) -> list[str] | None:
        """What tags/list says, if there is one."""
        found = parses(self._file("tags/list") or b"")
        return found["tags"] if found else None

    def untouched(self) -> bool:
        """Whether none of our own has named anything here."""
        return ".tags" not in self._entries

    def has_blob(self, digest: Digest) -> bool:
        return digest in self.blobs

    def _file(self, path: str) -> bytes | None:
        entry = self._entries.get(path)
        return entry.content if entry and entry.kind == "file" else None

    def _link(self, path: str) -> str | None:
        entry = self._entries.get(path)
        return entry.content.decode() if entry and entry.kind == "link" else None

    def damaged(self) -> Iterator[str]:
        for path, entry in self._entries.items():
            name = PurePosixPath(path).name
            if entry.kind != "file" or is_temporary(name):
                continue
            if name == ".htaccess":
                whole = entry.content.endswith(b"\n")
            elif name.endswith(layout.TYPE_MAP) and path.startswith("manifests/"):
                whole = bool(_led_to(entry.content))
            elif name.endswith(layout.TYPE_MAP):
                whole = entry.content.endswith(b"=\n\n")
            else:
                listed = path.startswith(tuple(f"{folder}/" for folder in _LISTS))
                whole = not listed or parses(entry.content) is not None
            if not whole:
                yield path

    def ways(self, tag: str) -> Iterator[tuple[str, Digest | None]]:
        """How a tag is resolved, and the manifest it then leads to."""
        record = self._file(f"manifests/{tag}{layout.TYPE_MAP}")
        legacy = self._link(f"manifests/{tag}")
        if record is not None:
            yield "record", next(iter(_led_to(record)), None)
        else:
            yield "record", layout.folder_digest(legacy.rpartition("/")[2]) if legacy else None
        links = [self._link(f"{folder}/{tag}") for folder in (".tags", ".defaults")]
        # Only a list has a default.
        for how, target in (("link", links[0]), ("default link", links[1] or links[0])):
            yield how, layout.folder_digest(target.rpartition("/")[2]) if target else None

    def lacks(self, digest: Digest, whose: str, *, legacy: bool) -> Iterator[str]:
        """What a manifest and all that it needs lack; what lies is _lying()'s."""
        parsed = self.manifests.get(digest)
        if parsed is None:
            yield f"{whose}: manifest {digest} is missing"
            return
        folder = f"manifests/{layout.manifest_folder(digest)}"
        headers = (self._file(f"{folder}/.htaccess") or b"").splitlines(keepends=True)
        # NOTE: tripleo-common also writes an ETag.
        own = b"".join(line for line in headers if b" ETag " not in line)
        if own != documents.htaccess(parsed.media_type, digest):
            yield f"{whose}: manifest {digest} has not its headers"
        if not legacy and self._file(f"{folder}/{layout.TYPE_FILES[parsed.media_type]}") is None:
            yield f"{whose}: manifest {digest} has no type"
        for blob in parsed.blobs():
            if blob.digest not in self.blobs:
                yield f"{whose}: blob {blob.digest} is missing"
        left_out = (self._file(f"{folder}/{layout.LEFT_OUT}") or b"").decode().split()
        for child in parsed.manifests:
            if str(child.digest) not in left_out:
                yield from self.lacks(child.digest, whose, legacy=legacy)

    # -- views

    def disagreeing(self) -> Iterator[str]:
        if not self.inhabited:
            yield from (
                f"{path} is left"
                for path, e in self._entries.items()
                if e.kind != "folder" and not path.startswith("blobs/")
            )
            return
        name = RepositoryName(self.name)
        if self._file("tags/list") != documents.tags_list(name, self.tags):
            yield f"tags {sorted(self.tags)}, listed {self._file('tags/list')!r}"
        for folder, tags in ((".tags", self.tags), (".defaults", self._lists())):
            linked = {p.partition("/")[2] for p in self._entries if p.startswith(f"{folder}/")}
            if linked != tags:
                yield f"tags {sorted(tags)}, {folder} {sorted(linked)}"
        for label, listed in paged(self._entries, ".pages/", "tags").items():
            if listed != sorted(self.tags):
                yield f"tags {sorted(self.tags)}, page by page {listed} in {label}"
        for digest in self.pins - self.manifests.keys():
            yield f"a pin for {digest}, which is absent"
        if self._referrers() != self._referring():
            yield f"referrers {self._referrers()}, on disk {self._referring()}"

    def _lists(self) -> set[str]:
        """The tags that offer a default beside a list."""
        records = {tag: self._file(f"manifests/{tag}{layout.TYPE_MAP}") for tag in self.tags}
        return {tag for tag, record in records.items() if record and _led_to(record)[1:]}

    def _referrers(self) -> dict[str, bytes]:
        below = ((p, e) for p, e in self._entries.items() if p.startswith(".referrers/"))
        return {p.partition("/")[2]: e.content for p, e in below if e.kind == "file"}

    def _referring(self) -> dict[str, bytes]:
        found = collections.defaultdict(list)
        for digest, parsed in self.manifests.items():
            if parsed.subject:
                found[parsed.subject.digest].append(referrers.entry(parsed, digest))
        return {
            f"{subject}/{name}": text
            for subject, entries in found.items()
            for name, text in referrers.listings(entries).items()
        }


def paged(entries: Mapping[str, Entry], start: str, key: str) -> dict[str, list[str]]:
    """A list as a client gets it that follows the pages of each division."""
    links = {
        p.removeprefix(start) for p in entries if p.endswith("/.start+") and p.startswith(start)
    }
    return {
        label: _walk(entries, f"{start}{label}/", key)
        for label in (link.removesuffix("/.start+") for link in links)
    }


def _walk(entries: Mapping[str, Entry], division: str, key: str) -> list[str]:
    found: list[str] = []
    last = ".start"
    while last != ".end":
        link = entries.get(f"{division}{last}+")
        folder = posixpath.dirname(division + last)
        target = posixpath.normpath(posixpath.join(folder, link.content.decode() if link else "?"))
        page = parses(entries[target].content) if target in entries else None
        if not page:
            return [*found, f"no page after {last}"]
        found += page[key]
        last = target.removeprefix(division).removesuffix("=")
    return found


def _is_own(path: str) -> bool:
    return layout.is_own_folder(path.partition("/")[0])


@functools.cache
def _parsed(content: bytes) -> Manifest:
    return Manifest.parse(content)


def _led_to(text: bytes) -> list[Digest]:
    """Where a type map leads; nowhere if it is not whole."""
    try:
        return documents.parse_type_map(text) if text.endswith(b"\n\n") else []
    except errors.ManifestInvalid:
        return []


def parses(text: bytes) -> dict[str, list[str]] | None:
    try:
        found: dict[str, list[str]] = json.loads(text)
    except ValueError:
        return None
    return found


@functools.cache
def hashes(content: bytes, digest: Digest) -> bool:
    return Digest.of(content, digest.algorithm) == digest
