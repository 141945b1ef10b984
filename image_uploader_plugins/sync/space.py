# SPDX-License-Identifier: Apache-2.0
"""The space that images will take in a target, each content counted once."""

from __future__ import annotations

import array
import dataclasses
import threading
from collections.abc import Iterable, Mapping

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Room
from image_uploader_plugins.units import size


@dataclasses.dataclass(frozen=True)
class Need:
    """What comes: so many bytes of so many blobs, manifests, new tags and new repositories.

    With ``at_most``, maybe less.
    """

    blob_bytes: int = 0
    blobs: int = 0
    manifest_bytes: int = 0
    manifests: int = 0
    tags: int = 0
    repositories: int = 0
    at_most: bool = False

    def __add__(self, other: Need) -> Need:
        return Need(
            self.blob_bytes + other.blob_bytes,
            self.blobs + other.blobs,
            self.manifest_bytes + other.manifest_bytes,
            self.manifests + other.manifests,
            self.tags + other.tags,
            self.repositories + other.repositories,
            self.at_most or other.at_most,
        )

    def stored(self, room: Room | None) -> tuple[int, int]:
        """Return the bytes and files that this takes on disk: a driver says what names take."""
        room = room or Room(0)
        counts = (
            (self.repositories, room.repository),
            (self.tags, room.tag),
            (self.manifests, room.manifest),
        )
        more = sum(count * footprint.bytes for count, footprint in counts)
        files = sum(count * footprint.files for count, footprint in counts)
        return self.blob_bytes + self.manifest_bytes + more, self.blobs + files


class Blobs:
    """The blobs that images need, by numbers that take little memory; safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[bytes, int] = {}
        self._sizes = array.array("q")

    def numbers(self, blobs: Mapping[Digest, int | None]) -> array.array[int]:
        """Return a number for each blob, the same one whenever it is asked for."""
        with self._lock:
            return array.array("L", [self._number(*blob) for blob in blobs.items()])

    def _number(self, digest: Digest, count: int | None) -> int:
        name = bytes.fromhex(digest.encoded)
        number = self._numbers.setdefault(name, len(self._sizes))
        if number == len(self._sizes):
            self._sizes.append(count or 0)
        return number

    def count_once(self, images: Iterable[array.array[int]]) -> list[tuple[int, int]]:
        """Return bytes and number of the blobs of each image that none before it needs."""
        seen = bytearray(len(self._sizes))
        counts = []
        for numbers in images:
            new = [number for number in numbers if not seen[number]]
            for number in new:
                seen[number] = 1
            counts.append((sum(self._sizes[number] for number in new), len(new)))
        return counts


def check(need: Need, room: Room | None, target: str) -> None:
    """Raise StorageFull where what comes cannot fit into a target, as far as it tells."""
    if room is None or need.at_most:
        return
    count, files = need.stored(room)
    if count > room.bytes:
        raise _full(target, size(count), size(room.bytes))
    if room.files is not None and files > room.files:
        raise _full(target, f"about {files} files", str(room.files))


def _full(target: str, needed: str, left: str) -> errors.StorageFull:
    return errors.StorageFull(
        target,
        f"the run would store {needed}, and there is room for {left}: nothing was copied "
        "(--no-space-check copies all the same)",
    )
