# SPDX-License-Identifier: Apache-2.0
"""A tree as whoever reads it sees it, at any moment: what of it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import is_temporary
from tests.robustness.faults.flows import LIST, NESTED, Flow
from tests.robustness.faults.repository import Repository, hashes, paged, parses
from tests.robustness.faults.snapshot import Entry, Snapshot

_TOP = {".", "v2", ".local-export", "index.html"}
_IN_V2 = {"index.json", ".htaccess", "_catalog", ".no-referrers"}


class Reader:
    """Reads a tree on which a flow has done some of its steps, and maybe a part of the next.

    ``reached`` is how many an attempt before had done, if that was more: a
    flush of the file system also makes durable what it left.
    """

    def __init__(
        self, snapshot: Snapshot, flow: Flow, initial: Snapshot, done: int, reached: int = 0
    ) -> None:
        self._before, self._after = flow.worlds(done)
        self._known = (*flow.worlds(done), *flow.worlds(max(done, reached)))
        self._snapshot = snapshot
        self._flow = flow
        self._initial = initial
        self._marks = {path for path, _ in snapshot.below(str(layout.UNFINISHED))}
        names = {n for world in (self._before, self._after) for n, _ in world.manifests}
        on_disk = {_repository(path) for path, _ in snapshot.below("v2")} - {None}
        self._manifests = {
            name: Repository(initial, name).manifests for name, _ in self._before.manifests
        }
        self._repositories = {
            name: Repository(snapshot, name) for name in sorted({*names, *filter(None, on_disk)})
        }

    def problems(self) -> list[str]:
        if "v2" not in self._snapshot.entries:
            return ["no tree"] if self._before.founded or self._flow.legacy else []
        return [
            *self._strangers(),
            *self._lying(),
            *self._damaged(),
            *self._tags(),
            *self._missing(),
            *self._returned(),
            *self._early(),
            *self._disagreeing(),
            *self._neighbours(),
        ]

    def copies(self) -> list[str]:
        """Blobs that are no links to the pool; old ones become so when they are needed.

        A power loss may bring back a link without the other.
        """
        if self._flow.legacy or self._flow.wrap is not Flow.wrap:
            return []
        pooled = {
            layout.pool_digest(layout.POOL / path): entry.inode
            for path, entry in self._snapshot.below(str(layout.POOL))
        }
        return [
            f"v2/{path} is not the pool's"
            for path, entry in self._snapshot.below("v2")
            for digest in [layout.blob_digest(PurePosixPath(path).name)]
            if digest and entry.kind == "file" and pooled.get(digest) != entry.inode
        ]

    def _marked(self, name: str) -> bool:
        return RepositoryLayout(RepositoryName(name)).key in self._marks

    # -- anything at all

    def _strangers(self) -> Iterator[str]:
        """Names that the layout does not know, and modes that keep web servers out."""
        tops = {path.partition("/")[0] for path in self._snapshot.entries}
        yield from (f"{name} beside the tree" for name in sorted(tops - _TOP))
        occupied = {path.rpartition("/")[0] for path in self._snapshot.entries}
        for path, entry in self._snapshot.below("v2"):
            name = _repository(path)
            inside = path.removeprefix(f"{name}/") if name else path
            kind = layout.kind_of(PurePosixPath(inside)) if name else None
            of_catalog = path.startswith(".catalog/")  # whatever names are like
            known = kind == entry.kind or (
                not name and (entry.kind == "folder" or path in _IN_V2 or of_catalog)
            )
            if not known and not self._is_temporary(path):
                yield f"v2/{path} is nothing of a tree's"
            # Whoever is interrupted right after making a folder has put nothing into it.
            wanted = {"file": 0o644, "folder": 0o755, "link": 0o777}[entry.kind]
            read = entry.kind == "file" or f"v2/{path}" in occupied
            if read and entry.mode != wanted and not self._is_temporary(path):
                yield f"v2/{path} has the mode {entry.mode:o}"

    def _is_temporary(self, path: str) -> bool:
        """A file that is written where it will be: where the state is on another file system."""
        elsewhere = self._flow.wrap is not Flow.wrap
        return elsewhere and is_temporary(PurePosixPath(path).name)

    def _lying(self) -> Iterator[str]:
        for path, entry in self._snapshot.entries.items():
            digest = _promised(PurePosixPath(path)) if entry.kind == "file" else None
            if digest and not hashes(entry.content, digest):
                yield f"{path} does not hash to its name"

    def _damaged(self) -> Iterator[str]:
        """Views that are not whole."""
        fixed = {
            "index.json": documents.API_ROOT,
            ".htaccess": documents.API_HTACCESS,
            ".no-referrers": documents.index([]),
            "_catalog": None,
        }
        for name, text in fixed.items():
            entry = self._snapshot.entries.get(f"v2/{name}")
            if not entry and self._before.founded and not self._flow.legacy:
                yield f"v2/{name} is missing"
            if entry and text is not None and entry.content != text:
                yield f"v2/{name} is not whole"
            if entry and text is None and not parses(entry.content):
                yield f"v2/{name} is not whole"
        for name, repository in self._repositories.items():
            for path in repository.damaged():
                yield f"{name}: {path} is not whole"

    # -- names

    def _tags(self) -> Iterator[str]:
        for name, tag in {**self._before.tags, **self._after.tags}:
            allowed = {w.tags.get((name, tag)) for w in (self._before, self._after)}
            repository = self._repositories[name]
            for how, digest in repository.ways(tag):
                here = f"{name}:{tag} by its {how}"
                if digest is None:
                    if None not in allowed and self._needs(repository, how):
                        yield f"{here} is not there"
                elif digest not in self._allowed(repository, allowed, how):
                    yield f"{here} leads to {digest}"
                elif None not in allowed or how == "record":
                    yield from repository.lacks(digest, here, legacy=self._flow.legacy)

    def _needs(self, repository: Repository, how: str) -> bool:
        """Whether a way to a tag must be there: legacy trees have one only."""
        adopted = not repository.untouched() and not self._marked(repository.name)
        return how == "record" or not self._flow.legacy or adopted

    def _allowed(
        self, repository: Repository, allowed: set[Digest | None], how: str
    ) -> set[Digest | None]:
        """What clients may get; those that know no lists never get one that has a default."""
        if how != "default link":
            return allowed
        manifests = self._manifests.get(repository.name, {}) | repository.manifests
        known = {LIST.digest: LIST.manifest} | manifests  # on the disk or not yet
        children = {d: _children(known[d]) & manifests.keys() for d in allowed if d in known}
        return {d for d in allowed if not d or not children.get(d)}.union(*children.values())

    # -- promises

    def _missing(self) -> Iterator[str]:
        for name, digest in self._before.blobs & self._after.blobs:
            if not self._repositories[name].has_blob(digest):
                yield f"{name}: blob {digest} is missing"
        for name, digest in self._before.manifests & self._after.manifests:
            yield from self._repositories[name].lacks(digest, name, legacy=self._flow.legacy)

    def _returned(self) -> Iterator[str]:
        """What is in none of the worlds, with no mark to tell that it may be there."""
        manifests = {manifest for world in self._known for manifest in world.manifests}
        blobs = {blob for world in self._known for blob in world.blobs}
        tags = {tag for world in self._known for tag in world.tags}
        for name, repository in self._repositories.items():
            if not self._marked(name):
                yield from (f"{name}:{t} is back" for t in repository.tags if (name, t) not in tags)
                for what, found, known in (
                    ("blob", repository.blobs, blobs),
                    ("manifest", repository.manifests, manifests),
                    ("pin", repository.pins, manifests),
                ):
                    back = (digest for digest in found if (name, digest) not in known)
                    yield from (f"{name}: {what} {digest} is back" for digest in back)

    def _catalog(self) -> list[str]:
        entry = self._snapshot.entries.get("v2/_catalog")
        listed = parses(entry.content) if entry else None
        return listed["repositories"] if listed else []

    def _early(self) -> Iterator[str]:
        """Lists come last: what they name is there, unless it is going."""
        manifests = {name for name, _ in self._after.manifests}
        for name, repository in self._repositories.items():
            if name in manifests and name in self._catalog() and repository.listed is None:
                yield f"{name} is in the catalog before it has tags"
            for tag in set(repository.listed or ()) - repository.tags:
                if (name, tag) in self._after.tags:
                    yield f"{name}:{tag} is listed before it is there"

    def _disagreeing(self) -> Iterator[str]:
        """Views that are not what is on the disk, with no mark to tell."""
        catalog = self._catalog()
        for name, repository in self._repositories.items():
            if self._marked(name) or (self._flow.legacy and repository.untouched()):
                continue
            yield from (f"{name}: {problem}" for problem in repository.disagreeing())
            if (name in catalog) != repository.inhabited:
                yield f"{name}: listed as {name in catalog}, on disk {repository.inhabited}"
        if catalog != sorted(catalog) and not self._flow.legacy:
            yield f"the catalog is {catalog}"
        if str(layout.UNFINISHED_CATALOG.name) not in self._marks:
            pages = dict(self._snapshot.below(str(layout.CATALOG_WINDOWS)))
            for label, listed in paged(pages, "", "repositories").items():
                if listed != catalog:
                    yield f"the catalog is {catalog}, page by page {listed} in {label}"

    def _neighbours(self) -> Iterator[str]:
        """What the flow has nothing to do with is untouched."""
        folder = f"v2/{NESTED.repository}"
        before, now = (dict(s.below(folder)) for s in (self._initial, self._snapshot))
        for path in sorted(before.keys() | now.keys()):
            one, other = before.get(path), now.get(path)
            if not (one and other) or _visible(one) != _visible(other):
                yield f"{folder}/{path} is not what it was"


def _children(parsed: Manifest) -> set[Digest]:
    return {child.digest for child in parsed.manifests}


def _repository(path: str) -> str | None:
    """The repository that a path below v2 belongs to."""
    parts = path.split("/")
    own = next((n for n, part in enumerate(parts) if layout.is_own_folder(part)), 0)
    return "/".join(parts[:own]) if own else None


def _promised(path: PurePosixPath) -> Digest | None:
    """The digest that a file's content must have."""
    if path.is_relative_to(layout.POOL):
        return layout.pool_digest(path)
    if path.parent.name == "blobs":
        return layout.blob_digest(path.name)
    in_folder = path.name == "index.json" or path.name in layout.TYPE_FILES.values()
    return layout.folder_digest(path.parent.name) if in_folder else None


def _visible(entry: Entry) -> tuple[str, int, bytes]:
    return entry.kind, entry.mode, entry.content
