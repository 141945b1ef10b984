# SPDX-License-Identifier: Apache-2.0
"""The verification of one repository, under its lock."""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.inventory import look
from image_uploader_plugins.local_export.reports import elsewhere
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify.access import Access
from image_uploader_plugins.local_export.verify.contents import (
    Contents,
    Damage,
    Unread,
    blame,
    twice,
)
from image_uploader_plugins.local_export.verify.copies import Copies
from image_uploader_plugins.local_export.verify.finding import (
    Finding,
    Kind,
    Note,
    Remedy,
    temporary,
)
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.storage import (
    File,
    NotFound,
    Snapshot,
    failed,
    is_temporary,
)

Section = Callable[[], Iterator[Finding]]


def _text(item: tuple[Digest, object]) -> str:
    return item[0].value


class Inspection:
    """A search for problems of a repository; its lock must be held.

    Afterwards ``is_unread`` tells whether anything could not be read.
    """

    def __init__(
        self,
        tree: Tree,
        name: RepositoryName,
        snapshot: Snapshot,
        contents: Contents,
        copies: Copies,
        access: Access,
    ) -> None:
        self._tree = tree
        # Under the lock nothing changes: what several checks need is looked at once.
        self._storage = snapshot
        self._repository = tree.repository(name, self._storage)
        self._repository.remember_manifests()
        self._layout = self._repository.layout
        self._contents = contents
        self._copies = copies
        self._access = access
        self._misplaced: set[PurePosixPath] = set()
        # All entries, where all could be looked at.
        self._parts: list[File] | None = None
        self.is_unread = False
        self._look_around()
        self.inventory = twice(lambda: look(self._repository))
        if any(self.inventory.unread()):
            self.inventory = twice(lambda: look(self._repository))

    def _look_around(self) -> None:
        """Look at everything: folders that are entered first are held, as those of lists are."""
        with contextlib.suppress(errors.StorageError):
            self._parts = list(self._repository.parts())

    @property
    def is_misplaced(self) -> bool:
        """Return whether an entry is of the wrong kind, in a place that can be written anew."""
        return bool(self._misplaced)

    def findings(self) -> Iterator[Finding]:
        """Yield the problems of the repository."""
        for section in (
            *(self._files, self._blobs, self._unreadable, self._missing, self._children),
            *(self._tags, self._views, self._catalog, self._mark),
        ):
            yield from self._looked(section)

    def notes(self) -> Iterator[Note]:
        """Yield remarks that are not problems."""
        readable = self.inventory.readable
        for digest, text in elsewhere.notes(self._repository, self.inventory, readable):
            path = PurePosixPath(self._layout.manifest_content(digest))
            yield Note(path, text, self.inventory.named(digest))

    def _looked(self, section: Section) -> list[Finding]:
        """Return the findings of a section; where it could not be read, one about the error."""
        try:
            return twice(lambda: list(section()))
        except errors.StorageError as e:
            return [self._unread(e)]

    def _unread(self, error: errors.StorageError) -> Finding:
        self.is_unread |= failed(error)
        path, problem = blame(self._storage.root, error)
        return Finding(path, problem, Kind.UNREAD, Remedy.LOOK, self._images(path))

    # -- content

    def _blobs(self) -> Iterator[Finding]:
        for digest, path in sorted(self._repository.blobs(), key=_text):
            yield from self._looked(functools.partial(self._blob, digest, path))

    def _blob(self, digest: Digest, path: PurePosixPath) -> Iterator[Finding]:
        file = self._storage.file(path)
        problem = file and self._contents.problem(digest, file)
        if isinstance(problem, Unread):
            self.is_unread = True
            yield Finding(path, str(problem), Kind.UNREAD, Remedy.LOOK, self._users(digest))
        elif isinstance(problem, Damage):
            remedy = self._remedy(digest)
            yield Finding(path, str(problem), Kind.CONTENT, remedy, self._users(digest))
        elif file:
            yield from self._link(digest, file)

    def _link(self, digest: Digest, file: File) -> Iterator[Finding]:
        pooled = self._tree.pool.file(digest)
        if not pooled and self._tree.pool.could_link(file):
            yield Finding(file.path, "is not in the pool", Kind.UNPOOLED, Remedy.REPAIR)
        elif pooled and pooled.inode != file.inode and self._tree.storage.can_link(pooled, file):
            problem = "is a copy of what the pool has"
            yield Finding(file.path, problem, Kind.UNPOOLED, Remedy.REPAIR)

    def _unreadable(self) -> Iterator[Finding]:
        for digest, error in self.inventory.broken.items():
            path = PurePosixPath(self._layout.manifest_content(digest))
            problem, kind = self._problem(error, path), Kind.CONTENT
            remedy = Remedy.REPAIR if self._copies.find(digest) else Remedy.FETCH
            if isinstance(error, NotFound):
                problem, kind = "is missing, and its folder is there", Kind.MISSING
            elif isinstance(error, errors.StorageError) and failed(error):
                self.is_unread = True
                problem, kind, remedy = str(Unread(error.reason)), Kind.UNREAD, Remedy.LOOK
            yield Finding(path, problem, kind, remedy, self.inventory.named(digest))

    def _missing(self) -> Iterator[Finding]:
        """Yield blobs that manifests need and that are missing, or not of the size they say."""
        needed = {(b.digest, b.size) for m in self._staying.values() for b in m.blobs()}
        present = self._sizes()
        for digest, size in sorted(needed, key=_text):
            if digest not in present or size not in (None, present[digest]):
                yield from self._looked(functools.partial(self._needed, digest, size))

    def _sizes(self) -> Mapping[Digest, int]:
        """Return the bytes of each blob, that of a gzipped one where there are two.

        Empty where one cannot be looked at: then each is, by itself.
        """
        with contextlib.suppress(errors.StorageError):
            return {digest: file.size for digest, file in self._repository.blob_files()}
        return {}

    @functools.cached_property
    def _staying(self) -> Mapping[Digest, Manifest]:
        """Return the readable manifests that are no garbage, for which nothing is missing."""
        dead = self.inventory.fate().dead
        return {d: m for d, m in self.inventory.readable.items() if d not in dead}

    def _needed(self, digest: Digest, size: int | None) -> Iterator[Finding]:
        file = self._repository.blob(digest)
        if not file:
            path = PurePosixPath(self._layout.blob(digest, gzip=False))
            remedy, users = self._remedy(digest), self._users(digest)
            yield Finding(path, "is missing", Kind.MISSING, remedy, users)
        elif size not in (None, file.size) and not self._contents.problem(digest, file):
            problem = f"has {file.size} bytes, and a manifest says {size}"
            yield Finding(file.path, problem, Kind.SIZE, Remedy.LOOK, self._users(digest))

    def _children(self) -> Iterator[Finding]:
        """Yield children of indexes that are missing, one finding for each index."""
        told: set[Digest] = set()
        for index, parsed in self._staying.items():
            absent = {c.digest for c in parsed.manifests} - self.inventory.present
            absent -= elsewhere.left_out(self._repository, self.inventory, index)
            found = all(self._copies.find(digest) for digest in absent)
            remedy = Remedy.REPAIR if found else Remedy.FETCH
            if len(absent) > 1:
                problem = f"lists {len(absent)} manifests that are missing: {min(absent)}, ..."
                path = PurePosixPath(self._layout.manifest_content(index))
                names = self.inventory.named(index)
                yield Finding(path, problem, Kind.MISSING, remedy, names)
            for digest in absent - told if len(absent) == 1 else ():
                path = PurePosixPath(self._layout.manifest_content(digest))
                names = self.inventory.named(digest)
                problem = "is missing, and an index lists it"
                yield Finding(path, problem, Kind.MISSING, remedy, names)
            told |= absent

    def _remedy(self, digest: Digest) -> Remedy:
        pooled = self._tree.pool.file(digest)
        if pooled:
            self._contents.problem(digest, pooled)
        return self._contents.remedy(digest)

    # -- names

    def _tags(self) -> Iterator[Finding]:
        for tag, error in self.inventory.lost_tags.items():
            yield self._lost_tag(tag, error)
        for tag, digests in self.inventory.tags.items():
            path = PurePosixPath(self._layout.type_map(tag))
            image = (f"{self._repository.name}:{tag}",)
            for digest in sorted(set(digests) - self.inventory.present):
                problem = f"leads to {digest}, which is missing"
                yield Finding(path, problem, Kind.MISSING, Remedy.FETCH, image)
        pins = self.inventory.pins - self.inventory.listed
        for digest in sorted(pins - self.inventory.present):
            problem = f"names {digest}, which is missing"
            names = self.inventory.named(digest)
            path = PurePosixPath(self._layout.pin(digest))
            yield Finding(path, problem, Kind.MISSING, Remedy.FETCH, names)

    def _lost_tag(self, tag: Tag, error: errors.UploaderError) -> Finding:
        path = PurePosixPath(self._layout.type_map(tag))
        image = (f"{self._repository.name}:{tag}",)
        if isinstance(error, errors.StorageError) and failed(error):
            self.is_unread = True
            return Finding(path, str(Unread(error.reason)), Kind.UNREAD, Remedy.LOOK, image)
        if self._repository.can_restore(tag):
            self._misplaced.add(path)
            return Finding(path, self._problem(error, path), Kind.CONTENT, Remedy.REPAIR, image)
        return Finding(path, self._problem(error, path), Kind.CONTENT, Remedy.FETCH, image)

    def _problem(self, error: errors.UploaderError, path: PurePosixPath) -> str:
        """Return the problem at ``path``; without the path where the error is about it."""
        here = self._storage.root / path
        if isinstance(error, errors.ManifestInvalid | errors.StorageError) and error.path == here:
            return error.reason
        return str(error)

    def _users(self, blob: Digest) -> tuple[str, ...]:
        """Return the images that need a blob."""
        return tuple(sorted(self._needing.get(blob, ())))

    @functools.cached_property
    def _needing(self) -> Mapping[Digest, set[str]]:
        found: dict[Digest, set[str]] = collections.defaultdict(set)
        for digest, parsed in self.inventory.readable.items():
            for blob in parsed.blobs():
                found[blob.digest].update(self.inventory.named(digest))
        return found

    def _images(self, path: PurePosixPath) -> tuple[str, ...]:
        """Return the images that a path in the repository belongs to."""
        for part in reversed(path.parts):
            name = part.removesuffix(layout.TYPE_MAP).removeprefix(layout.PIN)
            digest = layout.folder_digest(name) or layout.blob_digest(name)
            if digest and digest in self._needing:
                return self._users(digest)
            if digest:
                return self.inventory.named(digest)
            if any(tag.value == name for tag in (*self.inventory.tags, *self.inventory.lost_tags)):
                return (f"{self._repository.name}:{name}",)
        return ()

    # -- views

    def _views(self) -> Iterator[Finding]:
        try:
            self._repository.refresh(thoroughly=True, report=lambda _image, _error: None)
            if not self._repository.manifests():
                self._repository.remove_folders()
        except errors.StorageError as e:
            # The obstacle is a finding of its own; views can be checked when it is gone.
            if failed(e) or not self._misplaced:
                raise
        for change in self._storage.changes:
            if not self._misplaced.intersection((change.path, *change.path.parents)):
                yield Finding(change.path, change.reason, Kind.VIEW, Remedy.REPAIR)

    def _catalog(self) -> Iterator[Finding]:
        name, present = self._repository.name, bool(self._repository.manifests())
        if self._tree.catalog.is_right(name, listed=present):
            return
        with self._tree.catalog_lock():
            listed = self._tree.catalog.listed()
        if listed is not None and present != (name.value in listed):
            problem = f"lacks {name}" if present else f"lists {name}, which is not there"
            yield Finding(layout.CATALOG, problem, Kind.VIEW, Remedy.REPAIR)

    def _mark(self) -> Iterator[Finding]:
        mark = self._storage.file(self._layout.unfinished)
        if mark:
            problem = f"an operation on {self._repository.name} was cut short"
            yield Finding(mark.path, problem, Kind.UNFINISHED, Remedy.REPAIR)

    # -- files

    def _files(self) -> Iterator[Finding]:
        for file in self._repository.parts() if self._parts is None else self._parts:
            if self._repository.belongs(file):
                yield from self._access.findings(file)
            else:
                yield self._stranger(file)

    def _stranger(self, file: File) -> Finding:
        if is_temporary(file.name):
            return temporary(file)
        kind = "symbolic link" if file.kind == "link" else file.kind
        misplaced = self._repository.is_misplaced(file)
        self._misplaced |= {file.path} if misplaced else set()
        remedy = Remedy.REPAIR if misplaced else Remedy.LOOK
        return Finding(file.path, f"a {kind} where none belongs", Kind.STRANGER, remedy)
