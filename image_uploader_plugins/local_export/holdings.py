"""What one repository holds, and by which names it lives."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping

from image_uploader_plugins import document, errors, manifest
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import gc
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag

Name = Tag | Digest

CONFIG_TYPES = frozenset(
    {
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    }
)


class Holdings:
    """Every manifest of a repository, read once; the repository's lock must be held.

    ``tags`` are the manifests each leads to, the one it is for first, there
    or not; ``problems`` says of damaged tags what is wrong.  ``pins`` are the
    manifests put without a tag that live by that, ``users`` the tags and pins
    that a manifest lives by.
    """

    def __init__(self, tree: Tree, name: RepositoryName) -> None:
        self.repository: Repository = tree.repository(name)
        self._storage = tree.storage
        self.held = tree.leases.live(self.repository.layout)
        inventory = gc.take_inventory(self.repository)
        self.manifests, self.broken = inventory.readable, inventory.broken
        self.problems: dict[Tag, str] = {}
        self.tags = {tag: self._lead(tag) for tag in sorted(self.repository.tags())}
        self.pins = (self.repository.pins() - inventory.children()) & inventory.present()
        self.roots: dict[Name, list[Digest]] = {pin: [pin] for pin in self.pins}
        self.roots.update(self.tags.items())
        # Deleting a pin also takes it from its subject, which is not what it lives by.
        self._edges = gc.edges(self.manifests, self.pins)
        self.users: dict[Digest, set[Name]] = {digest: set() for digest in inventory.present()}
        for root, digests in self.roots.items():
            for digest in self.follow(digests) & self.users.keys():
                self.users[digest].add(root)

    def follow(self, digests: Iterable[Digest]) -> set[Digest]:
        """These and what hangs on them, but for the pins among their referrers."""
        return gc.follow(self._edges, digests)

    def digest(self, name: Name) -> Digest | None:
        """The manifest that a name is for, there or not; None for a damaged tag."""
        return name if isinstance(name, Digest) else next(iter(self.tags[name]), None)

    def names(self, digest: Digest) -> set[Name]:
        """The digest, and the tags that are for it."""
        return {digest, *(tag for tag, digests in self.tags.items() if digests[:1] == [digest])}

    def problem(self, name: Name) -> str | None:
        """Why the manifest that a name is for cannot be had, if it cannot."""
        digest = self.digest(name)
        if digest and digest in self.broken:
            return str(self.broken[digest])
        if digest and digest in self.manifests:
            return None
        missing = f"it leads to {digest}, which is missing" if digest else "it leads nowhere"
        return self.problems.get(name, missing) if isinstance(name, Tag) else missing

    def written(self, name: Name) -> float:
        """When a name was last written, by the time of its file, in seconds since the epoch."""
        places = self.repository.layout
        paths = (
            (places.type_map(name), places.legacy_tag(name))
            if isinstance(name, Tag)
            else (places.pin(name), places.manifest_content(name))
        )
        return next((file.modified for file in map(self._storage.status, paths) if file), 0.0)

    def parts(self, digest: Digest) -> dict[Digest, Manifest]:
        """A manifest and, for an index, all that it lists and that can be read."""
        found: dict[Digest, Manifest] = {}
        pending = [digest]
        while pending:
            part = pending.pop()
            if part in self.manifests and part not in found:
                found[part] = self.manifests[part]
                pending += [child.digest for child in found[part].manifests]
        return found

    def config(self, parsed: Manifest) -> document.Fields:
        """What an image's config says; nothing for what has none that can be read."""
        with contextlib.suppress(errors.ManifestInvalid, errors.StorageError):
            if parsed.media_type in manifest.SCHEMA1_TYPES:
                return document.load(parsed.content)
            if parsed.config and parsed.config.media_type in CONFIG_TYPES:
                file = self.repository.blob(parsed.config.digest)
                if file:
                    return document.load(self._storage.read(file.path, manifest.SIZE_LIMIT))
        return {}

    @functools.cached_property
    def referrers(self) -> Mapping[Digest, list[Digest]]:
        """What refers to a manifest, by its digest."""
        found: dict[Digest, list[Digest]] = {}
        for digest in sorted(self.manifests):
            subject = self.manifests[digest].subject
            if subject:
                found.setdefault(subject.digest, []).append(digest)
        return found

    @functools.cached_property
    def blob_users(self) -> Mapping[Digest, set[Name]]:
        """The tags and pins that need a blob, by its digest."""
        found: dict[Digest, set[Name]] = {}
        for digest, parsed in self.manifests.items():
            for blob in gc.all_blobs(parsed):
                found.setdefault(blob.digest, set()).update(self.users[digest])
        return found

    def _lead(self, tag: Tag) -> list[Digest]:
        try:
            found = self.repository.tag_digests(tag)
        except (errors.ManifestInvalid, errors.StorageError) as e:
            self.problems[tag] = str(e)
            return []
        # NOTE: tripleo-common also writes a list and a child without saying which is which.
        indexes = {d for d in found if d in self.manifests and self.manifests[d].is_index}
        return sorted(found, key=lambda digest: digest not in indexes)
