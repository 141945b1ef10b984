# SPDX-License-Identifier: Apache-2.0
"""The outlines of repositories that a process keeps from one delete to the next.

A delete has to look at every name of its repository. The next one in the same
process looks only at those of which the kernel has told that they changed,
whoever changed them, this process too. Without the kernel's help none is kept.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import graph, layout
from image_uploader_plugins.local_export.graph import Needs
from image_uploader_plugins.local_export.last_used import LastUsed
from image_uploader_plugins.local_export.needs import Memory
from image_uploader_plugins.local_export.outline import Outline
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.reference import is_tag
from image_uploader_plugins.storage import File, Watch


class _Inverse:
    """For each name those that lead to it."""

    def __init__(self) -> None:
        self._found: dict[str, set[str]] = {}

    def add(self, origin: str, names: Iterable[str]) -> None:
        for name in set(names):
            self._found.setdefault(name, set()).add(origin)

    def remove(self, origin: str, names: Iterable[str]) -> None:
        for name in set(names):
            self._found[name].remove(origin)
            if not self._found[name]:
                del self._found[name]

    def __getitem__(self, name: str) -> AbstractSet[str]:
        return self._found.get(name, frozenset())

    def names(self) -> AbstractSet[str]:
        return self._found.keys()


class Rest(AbstractSet[str]):
    """A set without a few of its members, which need not be copied for that."""

    def __init__(self, whole: Collection[str], gone: AbstractSet[str]) -> None:
        self._whole = whole
        self._gone = gone  # all of them are in the whole set

    @classmethod
    def _from_iterable(cls, it: Iterable[str]) -> frozenset[str]:  # type: ignore[override]
        return frozenset(it)

    def __contains__(self, name: object) -> bool:
        return name in self._whole and name not in self._gone

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._whole if name not in self._gone)

    def __len__(self) -> int:
        return len(self._whole) - len(self._gone)


class KeptOutline:
    """The outline of one repository, as its names were when they were looked at last.

    Callers hold the repository's lock. Tags and digests are texts. ``present`` has
    the needs of each manifest that is here. The ``blobs`` are those that may be
    here, the ``watch`` is older than all that was looked at.

    Suspects are the manifests that may have lost what kept or named them since
    the last plan: at first all of them. Idle are the blobs that may be here and
    that no manifest needs.
    """

    def __init__(self, found: Outline, memory: Memory, blobs: Iterable[str], watch: Watch) -> None:
        self.tags: dict[str, list[str]] = {}
        self.pins = set(found.pins)
        self.present: dict[str, Needs] = {}
        self._watch = watch
        self._young = memory.young
        self._tags_of = _Inverse()
        self._lists_of = _Inverse()
        self._referrers_of = _Inverse()
        self._suspects: set[str] = set()
        self._idle: set[str] = set()
        self._users: collections.Counter[str] = collections.Counter()
        for text in found.present:
            self._add_manifest(text, memory.needs[text])
        for tag, leads in found.tags.items():
            self._set_tag(tag, [*leads])
        self._suspects = set(found.present)
        self._note_blobs(blobs)

    @property
    def size(self) -> int:
        """Return the number of tags and manifests."""
        return len(self.tags) + len(self.present)

    @property
    def subjects(self) -> AbstractSet[str]:
        """Return the manifests that others refer to."""
        return self._referrers_of.names()

    def referrers(self, subject: str) -> AbstractSet[str]:
        """Return the manifests that refer to a subject."""
        return self._referrers_of[subject]

    # -- what changes

    def catch_up(self, repository: Repository, memory: Memory) -> bool:
        """Look at all that changed; return False where only a new look at everything helps.

        It must not be used any more then.
        """
        if not repository.is_watched(self._watch):
            return False
        changed = self._watch.changed()
        if changed is None:
            return False
        manifests, blobs = changed
        self._remember(memory, manifests)
        self._note_blobs(map(layout.blob_text, blobs))
        try:
            return all(self._look(repository, memory, name) for name in sorted(manifests))
        except errors.UploaderError:
            return False

    def _remember(self, memory: Memory, changed: Collection[str]) -> None:
        """Have the memory remember tags that it did not before, unless they have changed."""
        for tag, lead in self._young.items():
            if tag + layout.TYPE_MAP not in changed:
                memory.add_lead(tag, *lead)
        self._young = memory.young

    def _look(self, repository: Repository, memory: Memory, name: str) -> bool:
        """Look at an entry beside the manifests; return False for one that we do not write."""
        kind = repository.kind(name)
        reference = name.removesuffix(layout.TYPE_MAP)
        if reference == name:
            return self._look_at_manifest(repository, memory, name, kind)
        if reference.startswith(layout.PIN):
            self._set_pin(reference.removeprefix(layout.PIN), is_there=kind is not None)
        elif ":" not in reference:
            if not is_tag(reference) or kind not in ("file", None):
                return False
            self._set_tag(reference, self._lead(repository, memory, reference) if kind else None)
        return True

    @staticmethod
    def _lead(repository: Repository, memory: Memory, tag: str) -> list[str]:
        ((identity, leads),) = repository.leads([tag])
        memory.add_lead(tag, identity, leads)
        return leads

    def _look_at_manifest(
        self, repository: Repository, memory: Memory, name: str, kind: str | None
    ) -> bool:
        digest = layout.folder_digest(name)
        if not digest or name != layout.manifest_folder(digest) or kind not in ("folder", None):
            return False
        if kind and digest.value not in self.present:
            if digest.value not in memory.needs:
                memory.add(digest.value, graph.needs(repository.read_manifest(digest)))
            self._add_manifest(digest.value, memory.needs[digest.value])
        elif not kind and digest.value in self.present:
            self._remove_manifest(digest.value)
        self._suspects.add(digest.value)
        return True

    def _note_blobs(self, texts: Iterable[str]) -> None:
        unused = (text for text in texts if not self._users[text])
        self._idle.update(text for text in unused if layout.blob_digest(text))

    def _set_tag(self, tag: str, leads: list[str] | None) -> None:
        old = self.tags.pop(tag, [])
        self._tags_of.remove(tag, old)
        if leads is not None:
            self.tags[tag] = leads
            self._tags_of.add(tag, leads)
        self._suspects.update(old, leads or ())

    def _set_pin(self, digest: str, *, is_there: bool) -> None:
        if is_there:
            self.pins.add(digest)
        else:
            self.pins.discard(digest)
        self._suspects.add(digest)

    def _add_manifest(self, digest: str, needs: Needs) -> None:
        self.present[digest] = needs
        self._users.update(needs.blobs)
        self._idle.difference_update(needs.blobs)
        self._lists_of.add(digest, needs.manifests or ())
        self._referrers_of.add(digest, [needs.subject] if needs.subject else ())
        self._suspects.update(needs.manifests or ())

    def _remove_manifest(self, digest: str) -> None:
        needs = self.present.pop(digest)
        self._suspects.update(self._kept_by(digest, needs))
        self._users.subtract(needs.blobs)
        unused = [blob for blob in needs.blobs if not self._users[blob]]
        for blob in unused:
            del self._users[blob]
        self._idle.update(unused)
        self._lists_of.remove(digest, needs.manifests or ())
        self._referrers_of.remove(digest, [needs.subject] if needs.subject else ())

    # -- what may go, by the rules of graph.Graph

    def going(self, without: AbstractSet[str]) -> set[str]:
        """Return the tags that are in ``without``, or are for a manifest that is."""
        found = {name for name in without if name in self.tags}
        for digest in without - found:
            found |= {tag for tag in self._tags_of[digest] if self.tags[tag][0] == digest}
        return found

    def judge(self, without: AbstractSet[str]) -> tuple[set[str], set[str]]:
        """Return the manifests that nothing keeps, and those that stay without any name.

        The answer is as if the names in ``without`` were gone. Callers carry it
        out, or forget this outline.
        """
        going = self.going(without)
        losing = (digest for tag in going for digest in self.tags[tag])
        pending = [*self._suspects, *without, *losing]
        judged: set[str] = set()
        dead: set[str] = set()
        kept: set[str] = set()
        while pending:
            digest = pending.pop()
            if digest in judged:
                continue
            judged.add(digest)
            if digest not in self.present:
                # The name of a subject that is not here keeps its referrers.
                pending += self._referrers_of[digest]
            elif self._is_kept(digest, without, going, kept):
                kept.add(digest)
            else:
                dead.add(digest)
                pending += self._kept_by(digest, self.present[digest])
        roots = {digest for digest in kept if self._is_root(digest, without, going)}
        unnamed = {
            digest for digest in kept - roots if digest not in self.pins or digest in without
        }
        # They get pins, unless they cannot be read.
        self._suspects = {*unnamed}
        return dead, unnamed

    def _kept_by(self, digest: str, needs: Needs) -> list[str]:
        return [*(needs.manifests or ()), *self._referrers_of[digest]]

    def _is_kept(
        self,
        digest: str,
        without: AbstractSet[str],
        going: AbstractSet[str],
        kept: AbstractSet[str],
    ) -> bool:
        """Return whether a manifest is a root, or one keeps it, or one that is ``kept``."""
        pending, seen = [digest], {digest}
        while pending:
            name = pending.pop()
            if name in kept or self._is_root(name, without, going):
                return True
            keepers = self._keepers(name, without) - seen
            pending += keepers
            seen |= keepers
        return False

    def _is_root(self, name: str, without: AbstractSet[str], going: AbstractSet[str]) -> bool:
        if not self._tags_of[name] <= going:
            return True
        return name in self.pins and name not in without and not self._lists_of[name]

    def _keepers(self, name: str, without: AbstractSet[str]) -> set[str]:
        """Return the indexes that list a manifest, and its subject."""
        needs = self.present.get(name)
        if needs is None:
            return set()  # an index keeps only what is here
        subject = {needs.subject} if needs.subject and name not in without else set()
        return {*self._lists_of[name], *subject}

    def unneeded(
        self, repository: Repository, dead: Iterable[str], held: AbstractSet[str]
    ) -> Iterator[tuple[Digest, File]]:
        """Yield the blobs that only ``dead`` manifests need, or none, and no upload (``held``)."""
        lost = collections.Counter(blob for text in dead for blob in self.present[text].blobs)
        last = {blob for blob, count in lost.items() if self._users[blob] == count}
        for text in sorted((last | self._idle) - held):
            files = [*repository.files_of_blob(Digest(text))]
            if not files:
                self._idle.discard(text)
            yield from ((Digest(text), file) for file in files)


class KeptOutlines(LastUsed[KeptOutline]):
    """The outlines that were used last, by the paths of the repositories."""

    def _size(self, kept: KeptOutline) -> int:
        return kept.size

    def _is_too_much(self, count: int, total: int) -> bool:
        return count > REPOSITORIES or total > LIMIT


REPOSITORIES = 8  # each has a watch, of which a user may have 128 on a usual system
LIMIT = 100_000  # tags and manifests of all of them: about 60 MB

OUTLINES = KeptOutlines()
