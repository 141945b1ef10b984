"""One repository, looked at under its lock."""

from __future__ import annotations

from collections.abc import Iterator

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.storage import File, Rehearsal
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify.contents import Contents
from image_uploader_plugins.local_export.verify.finding import Finding, Remedy
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag


class Inspection:
    """Finds what is wrong with a repository; its lock must be held."""

    def __init__(self, tree: Tree, name: RepositoryName, contents: Contents) -> None:
        self._tree = tree
        self._storage = tree.storage
        self._repository = tree.repository(name)
        self._layout = self._repository.layout
        self._contents = contents
        self.manifests: dict[Digest, Manifest] = {}
        self._broken: dict[Digest, errors.UploaderError] = {}

    def findings(self) -> Iterator[Finding]:
        for digest in sorted(self._repository.manifests()):
            try:
                self.manifests[digest] = self._repository.read_manifest(digest)
            except (errors.ManifestInvalid, errors.StorageError) as e:
                self._broken[digest] = e
        yield from self._files()
        yield from self._blobs()
        yield from self._unreadable()
        yield from self._missing()
        yield from self._children()
        yield from self._tags()
        yield from self._views()
        yield from self._catalog()
        yield from self._mark()

    # -- content

    def _blobs(self) -> Iterator[Finding]:
        for digest, path in sorted(self._repository.blobs()):
            file = self._storage.file(path)
            problem = file and self._contents.problem(digest, file)
            if problem:
                yield Finding(path, problem, self._remedy(digest), self._users(digest))
            elif file:
                yield from self._link(digest, file)

    def _link(self, digest: Digest, file: File) -> Iterator[Finding]:
        pooled = self._tree.pool.file(digest)
        if not pooled:
            yield Finding(file.path, "is not in the pool", Remedy.REPAIR)
        elif pooled.inode != file.inode and self._storage.can_link(pooled, file):
            yield Finding(file.path, "is a copy of what the pool has", Remedy.REPAIR)

    def _unreadable(self) -> Iterator[Finding]:
        for digest, error in self._broken.items():
            path = self._layout.manifest_content(digest)
            problem = str(error).removeprefix(f"{self._storage.root / path}: ")
            remedy = Remedy.REPAIR if self._elsewhere(digest) else Remedy.FETCH
            yield Finding(path, problem, remedy, self._names(digest))

    def _missing(self) -> Iterator[Finding]:
        """What manifests need that is not there, or not of the size they say."""
        needed = {(b.digest, b.size) for m in self.manifests.values() for b in m.blobs()}
        for digest, size in sorted(needed, key=str):
            file = self._repository.blob(digest)
            if not file:
                path = self._layout.blob(digest, gzip=False)
                yield Finding(path, "is missing", self._remedy(digest), self._users(digest))
            elif size not in (None, file.size) and not self._contents.problem(digest, file):
                problem = f"has {file.size} bytes, and a manifest says {size}"
                yield Finding(file.path, problem, Remedy.LOOK, self._users(digest))

    def _children(self) -> Iterator[Finding]:
        present = self.manifests.keys() | self._broken.keys()
        listed = {child.digest for m in self.manifests.values() for child in m.manifests}
        for digest in sorted(listed - present):
            remedy = Remedy.REPAIR if self._elsewhere(digest) else Remedy.FETCH
            path = self._layout.manifest_content(digest)
            yield Finding(path, "is missing, and an index lists it", remedy, self._names(digest))

    def _remedy(self, digest: Digest) -> Remedy:
        pooled = self._tree.pool.file(digest)
        if pooled:
            self._contents.problem(digest, pooled)
        return self._contents.remedy(digest)

    def _elsewhere(self, digest: Digest) -> bool:
        return self._tree.find_manifest(digest) is not None

    # -- names

    def _tags(self) -> Iterator[Finding]:
        present = self.manifests.keys() | self._broken.keys()
        for tag in sorted(self._repository.tags()):
            image = (f"{self._repository.name}:{tag}",)
            path = self._layout.type_map(tag)
            try:
                absent = set(self._repository.tag_digests(tag)) - present
            except (errors.ManifestInvalid, errors.StorageError) as e:
                yield Finding(path, str(e).rpartition(": ")[2], Remedy.FETCH, image)
                continue
            for digest in sorted(absent):
                yield Finding(path, f"leads to {digest}, which is missing", Remedy.FETCH, image)
        for digest in sorted(self._repository.pins() - present):
            problem = f"names {digest}, which is missing"
            yield Finding(self._layout.pin(digest), problem, Remedy.FETCH, self._names(digest))

    def _users(self, blob: Digest) -> tuple[str, ...]:
        """The images that need a blob."""
        users = (d for d, m in self.manifests.items() if any(b.digest == blob for b in m.blobs()))
        return tuple(sorted({name for digest in users for name in self._names(digest)}))

    def _names(self, digest: Digest) -> tuple[str, ...]:
        """The tags that lead to a manifest, by indexes or at once; else its digest."""
        leading = {digest}
        while True:
            more = {
                d for d, m in self.manifests.items() if leading & {c.digest for c in m.manifests}
            }
            if more <= leading:
                break
            leading |= more
        name = self._repository.name
        tags = [tag for tag in self._repository.tags() if leading & set(self._digests(tag))]
        return tuple(sorted(f"{name}:{tag}" for tag in tags)) or (f"{name}@{digest}",)

    def _digests(self, tag: Tag) -> list[Digest]:
        try:
            return self._repository.tag_digests(tag)
        except (errors.ManifestInvalid, errors.StorageError):
            return []

    # -- views

    def _views(self) -> Iterator[Finding]:
        rehearsal = Rehearsal(self._storage.root)
        repository = self._tree.repository(self._repository.name, rehearsal)
        repository.refresh(thoroughly=True, report=lambda image, error: None)
        if not repository.manifests():
            repository.remove_folders()
        for change in rehearsal.changes:
            yield Finding(change.path, change.reason, Remedy.REPAIR)

    def _catalog(self) -> Iterator[Finding]:
        name, present = self._repository.name, bool(self._repository.manifests())
        if self._tree.catalog.is_right(name, listed=present):
            return
        with self._tree.catalog_lock():
            listed = self._tree.catalog.listed()
        if listed is not None and present != (name.value in listed):
            problem = f"lacks {name}" if present else f"lists {name}, which is not there"
            yield Finding(layout.CATALOG, problem, Remedy.REPAIR)

    def _mark(self) -> Iterator[Finding]:
        mark = self._storage.file(layout.UNFINISHED / self._layout.key)
        if mark:
            problem = f"an operation on {self._repository.name} was cut short"
            yield Finding(mark.path, problem, Remedy.REPAIR)

    # -- files

    def _files(self) -> Iterator[Finding]:
        names = self._storage.names(self._layout.top)
        for name in sorted(filter(layout.is_own_folder, names)):
            folder = self._storage.status(self._layout.top / name)
            for file in filter(None, (folder, *self._storage.below(self._layout.top / name))):
                yield from self._file(file)

    def _file(self, file: File) -> Iterator[Finding]:
        expected = layout.kind_of(file.path.relative_to(self._layout.top))
        if layout.is_temporary(file.path.name):
            yield Finding(file.path, "a temporary file that was left behind", Remedy.REPAIR)
        elif file.kind != expected:
            kind = "symbolic link" if file.kind == "link" else file.kind
            yield Finding(file.path, f"a {kind} where none belongs", Remedy.LOOK)
        else:
            yield from wrong_mode(file)


def wrong_mode(file: File) -> Iterator[Finding]:
    """Whether a web server's user can read what is served, nothing else, and write nowhere."""
    needed = {"file": 0o444, "folder": 0o555}.get(file.kind)
    refused = 0o002
    if file.path.parts[:1] == layout.STATE.parts:
        needed, refused = (0o700, 0o077) if file.kind == "folder" else (None, 0)
    if needed is not None and (file.mode & needed != needed or file.mode & refused):
        yield Finding(file.path, f"its mode is {file.mode:04o}", Remedy.REPAIR)
