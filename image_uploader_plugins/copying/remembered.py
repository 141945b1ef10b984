# SPDX-License-Identifier: Apache-2.0
"""What a source said of an image, kept for whoever asks again in the same run.

A plan asks a registry, and the copy that follows does not ask twice.  Nothing
of this outlives the run.
"""

from __future__ import annotations

import dataclasses
import threading
import zlib
from collections.abc import Collection, Iterator, Sequence

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.source import IsHeld, Source

LIMIT = 32 * 1024 * 1024
"""The bytes that all images of a run take; what is beyond them is asked for again."""

_OVERHEAD = 700  # bytes that an answer takes beside its content, about

_Packed = tuple[bytes, str, Digest | None]
_Attached = tuple[tuple[Tag | None, Descriptor], ...]


class Allowance:
    """The bytes that may be remembered; safe to use from several threads."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._lock = threading.Lock()
        self._left = limit

    def take(self, count: int) -> bool:
        """Return whether there are so many left, which are then taken."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give(self, count: int) -> None:
        """Give so many back."""
        with self._lock:
            self._left += count


class Memory:
    """The answers about one image, within an allowance."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._taken = 0
        self.described: dict[Tag | Digest, Descriptor | None] = {}
        self.attached: dict[tuple[Digest, frozenset[str]], _Attached] = {}
        self._manifests: dict[Tag | Digest, _Packed] = {}

    def takes(self, count: int = 0) -> bool:
        """Return whether an answer of so many bytes may be kept."""
        count += _OVERHEAD
        if not self._allowance.take(count):
            return False
        self._taken += count
        return True

    def manifest(self, reference: Tag | Digest) -> Manifest | None:
        """Return a manifest that was kept; None for another one."""
        if reference not in self._manifests:
            return None
        packed, media_type, told = self._manifests[reference]
        parsed = Manifest.parse(zlib.decompress(packed), media_type)
        return dataclasses.replace(parsed, told=told)

    def keep_manifest(self, reference: Tag | Digest, manifest: Manifest) -> None:
        """Keep a manifest, if it may be kept."""
        packed = zlib.compress(manifest.content)
        if self.takes(len(packed)):
            self._manifests[reference] = packed, manifest.media_type, manifest.told

    def know_as(self, tag: Tag | Digest, digest: Digest) -> None:
        """Have what was kept of a tag known of the digest that it leads to, too."""
        if tag in self.described:
            self.described[digest] = self.described[tag]
        if tag in self._manifests:
            self._manifests[digest] = self._manifests[tag]

    def forget(self) -> None:
        """Give back all that was kept."""
        self.described.clear()
        self.attached.clear()
        self._manifests.clear()
        self._allowance.give(self._taken)
        self._taken = 0


class RememberedSource(Source):
    """A source that is asked only for what is not in ``memory``, which then has it."""

    def __init__(self, source: Source, memory: Memory) -> None:
        self.is_throttled = source.is_throttled
        self._source = source
        self._memory = memory

    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        known = self._memory.manifest(reference)
        if known and size in (None, len(known.content)):
            return known
        found = self._source.manifest(reference, size)
        self._memory.keep_manifest(reference, found)
        return found

    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        return self._source.blob(descriptor, start)

    def children(self, index: Manifest) -> Sequence[Descriptor]:
        return self._source.children(index)

    def describe(self, reference: Tag | Digest) -> Descriptor | None:
        known = self._memory.described
        if reference in known:
            return known[reference]
        found = self._source.describe(reference)
        if self._memory.takes():
            known[reference] = found
        return found

    def signatures(
        self,
        digest: Digest,
        is_held: IsHeld = lambda _tag, _descriptor: False,
        types: Collection[str] = (),
    ) -> Iterator[tuple[Tag | None, Descriptor]]:
        known = self._memory.attached
        key = digest, frozenset(types)
        if key in known:
            yield from known[key]
            return
        found = []
        for one in self._source.signatures(digest, is_held, types):
            found.append(one)
            yield one
        # Not where nobody wanted the rest.
        if self._memory.takes(len(found) * _OVERHEAD):
            known[key] = tuple(found)
