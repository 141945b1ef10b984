# SPDX-License-Identifier: Apache-2.0
"""What the manifests and tags of a repository lead to, remembered from one delete to the next.

A delete has to know what every manifest that stays needs, and where every tag
leads. The first follows from the manifest's digest, and is read once. The
second is read anew when the file of the tag is not the very file that was read.

A memory that is missing or damaged is no loss: what it lacks is read again. So it
is not flushed. Its file has a line that names its format, and then lines of JSON,
each after its own checksum. A line that is torn or altered is ignored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from image_uploader_plugins import errors
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.graph import Needs
from image_uploader_plugins.local_export.last_used import LastUsed
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.views import kept_lists
from image_uploader_plugins.storage import Identity, Storage, growing

Lead = tuple[Identity, list[str]]
"""The identity of a tag's file, and the digests that the tag leads to."""

_FORMAT = b"image-uploader-plugins: needs 1\n"
_LIMIT = 64 * 1024 * 1024
_KEPT = 100_000  # manifests and tags, of all repositories: about 40 MB
_SURPLUS = 1000  # manifests or tags that are gone, before the file is written anew

WORTH = 8
"""Manifests, from which on they are remembered: fewer are read as fast as the memory."""

_SETTLED_AFTER = 2_000_000_000
"""Nanoseconds after which a change of a file surely gets another time."""


def clock() -> int:
    """Return the time in nanoseconds since the epoch, as file systems have it."""
    return time.time_ns()


@dataclasses.dataclass
class Known:
    """The needs of manifests, by digests as texts, and where tags lead.

    ``file`` is the file that has all of it; None where it has to be written anew.
    """

    needs: dict[str, Needs] = dataclasses.field(default_factory=dict)
    leads: dict[str, Lead] = dataclasses.field(default_factory=dict)
    file: kept_lists.Identity | None = None

    @property
    def size(self) -> int:
        """Return the number of manifests and tags."""
        return len(self.needs) + len(self.leads)


class _Kept(LastUsed[Known]):
    """What was used last, by the paths of the files."""

    def _size(self, kept: Known) -> int:
        return kept.size

    def _is_too_much(self, count: int, total: int) -> bool:
        return total > _KEPT


KEPT = _Kept()


class Memory:
    """The memory of one repository; callers hold its lock.

    ``young`` is where tags lead whose files were changed too short a time ago to
    be remembered.
    """

    def __init__(self, storage: Storage, repository: RepositoryLayout) -> None:
        self._storage = storage
        self._path = repository.needs
        self._key = storage.root / self._path
        self._added = Known()
        self._was_kept = False
        self.young: dict[str, Lead] = {}

    @functools.cached_property
    def _known(self) -> Known:
        try:
            return self._load() or Known()
        except errors.StorageError:
            return Known()

    @property
    def needs(self) -> Mapping[str, Needs]:
        """Return what is known of manifests, by their digests as texts."""
        return self._known.needs

    @property
    def was_kept(self) -> bool:
        """Return whether this process has used it before, and nobody else has since then."""
        return bool(self._known and self._was_kept)

    def add(self, digest: str, needs: Needs) -> None:
        """Remember what a manifest needs."""
        if digest not in self._known.needs:
            self._known.needs[digest] = self._added.needs[digest] = needs

    def leads(self, tags: Sequence[str], identities: Sequence[Identity]) -> dict[str, list[str]]:
        """Return where those tags lead, as texts, whose files are known."""
        known = self._known.leads
        return {
            tag: known[tag][1]
            for tag, identity in zip(tags, identities, strict=True)
            if tag in known and known[tag][0] == identity
        }

    def add_lead(self, tag: str, identity: Identity, digests: list[str]) -> None:
        """Remember where a tag leads, unless its file was changed just now.

        NOTE: a change in the same moment would leave the file's times as they are.
        """
        if clock() - max(identity[-2:]) > _SETTLED_AFTER:
            self._known.leads[tag] = self._added.leads[tag] = (identity, digests)
        else:
            self.young[tag] = (identity, digests)

    def _load(self) -> Known | None:
        """Return what the file has, if it is one that this tree's owner wrote."""
        file = self._storage.file(self._path)
        if not file or file.links != 1 or self._storage.is_foreign(file.uid):
            return None
        kept = KEPT.take(self._key)
        if kept and kept.file == kept_lists.identity(file):
            self._was_kept = True
            return kept
        content = self._storage.read(self._path, _LIMIT)
        if not content.startswith(_FORMAT):
            return None
        lines = content[len(_FORMAT) :].split(b"\n")
        found = [_parsed(line) for line in lines[:-1]]
        known = Known()
        for part in filter(None, found):
            known.needs.update(part.needs)
            known.leads.update(part.leads)
        if not lines[-1] and None not in found:
            known.file = kept_lists.identity(file)
        return known

    def save(
        self, manifests: Collection[str], tags: Collection[str], *, thoroughly: bool = False
    ) -> None:
        """Write what was added; forget others than these manifests and tags if they are many.

        With ``thoroughly``, a file that is there gets exactly what is known of
        these. Errors are ignored.
        """
        known = self._known
        is_crowded = known.size > 2 * (len(manifests) + len(tags)) + _SURPLUS
        with contextlib.suppress(errors.StorageError):
            found = self._storage.status(self._path)
            is_worth = len(manifests) >= WORTH and not (thoroughly and not found)
            if found and not (is_worth and found.kind == "file"):
                self._storage.remove(found)
            if not is_worth:
                return
            if thoroughly or known.file is None or is_crowded:
                known.needs = {d: known.needs[d] for d in manifests if d in known.needs}
                known.leads = {tag: known.leads[tag] for tag in tags if tag in known.leads}
                self._write(known)
            elif self._added.size:
                self._append(_line(self._added))
            file = self._storage.file(self._path)
            known.file = kept_lists.identity(file) if file else None
            KEPT.put(self._key, known)

    def _write(self, known: Known) -> None:
        content = _FORMAT + _line(known)
        if not known.size or len(content) > _LIMIT:
            self._storage.drop(self._path)
        else:
            self._storage.write(self._path, content)

    def _append(self, line: bytes) -> None:
        with growing(self._storage, self._path, _LIMIT) as file:
            # It may just have been replaced by something else, and is then made anew.
            file.write(line if file.begun else _FORMAT + line)


def tidy(storage: Storage, repositories: Iterable[RepositoryLayout]) -> None:
    """Remove the files of all repositories but these."""
    kept = {repository.needs for repository in repositories}
    for name, kind in storage.names(layout.NEEDS).items():
        if kind == "file" and layout.NEEDS / name not in kept:
            storage.drop(layout.NEEDS / name)


def _line(known: Known) -> bytes:
    fields = {
        "needs": dict(sorted(known.needs.items())),
        "leads": dict(sorted(known.leads.items())),
    }
    text = json.dumps(fields, separators=(",", ":")).encode()
    return b"%s %s\n" % (_checksum(text), text)


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def _parsed(line: bytes) -> Known | None:
    """Return what a line remembers; None for one that is not as it was written."""
    checksum, _, text = line.partition(b" ")
    if _checksum(text) != checksum:
        return None
    fields: dict[str, dict[str, Any]] = json.loads(text)
    needs = dict(zip(fields["needs"], map(Needs._make, fields["needs"].values()), strict=True))
    leads = {tag: (tuple(identity), found) for tag, (identity, found) in fields["leads"].items()}
    return Known(needs, leads)
