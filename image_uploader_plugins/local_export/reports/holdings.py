# SPDX-License-Identifier: Apache-2.0
"""The images of a repository, read once and without a lock; nothing is changed."""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from image_uploader_plugins import errors, strict_json
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import graph
from image_uploader_plugins.local_export.graph import Reference
from image_uploader_plugins.local_export.inventory import take_inventory
from image_uploader_plugins.local_export.link_counts import LinkCounts
from image_uploader_plugins.local_export.reports import elsewhere
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import IMAGE, SIZE_LIMIT, Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.storage import File

DAMAGED = "damaged"

# What builders write as the platform of something that does not run, such as attestations.
_NOWHERE = "unknown/unknown"


class Image(NamedTuple):
    """A tag, or a manifest without one; sizes in bytes, ``changed`` in seconds since the epoch.

    ``platforms`` are those that are here, ``elsewhere`` those that an index
    names as well and that were left out on purpose. ``size`` is everything that
    a pull of all platforms gets. ``own`` is what the disk gets back when the
    image is deleted, with all that goes with it; ``shared`` is the part of
    ``size`` that others need. ``changed`` is when the tag's or the pin's file
    was written. ``manifest`` is None where it cannot be read, and ``problem``
    says why. In brief, there are no ``platforms``, ``elsewhere``, ``own``,
    ``shared`` and ``referrers``.
    """

    name: RepositoryName
    tag: Tag | None
    digest: Digest | None
    manifest: Manifest | None = None
    problem: str = ""
    kind: str = DAMAGED
    platforms: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    size: int = 0
    own: int = 0
    shared: int = 0
    changed: float = 0.0
    referrers: tuple[Digest, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}" if self.tag else f"{self.name}@{self.digest}"


class Holdings:
    """Everything that one repository holds.

    Raises StorageError where a manifest cannot be read for now.
    """

    def __init__(self, tree: Tree, name: RepositoryName) -> None:
        self.name = name
        self._tree = tree
        self._repository = tree.repository(name)
        with tree.storage.holding():
            self.inventory = take_inventory(self._repository)
        self.tags = tuple(sorted({*self.inventory.tags, *self.inventory.lost_tags}))
        self.manifests = self.inventory.readable
        self.broken = self.inventory.broken

    # -- images

    def images(self, *, untagged: bool = False, brief: bool = False) -> Iterator[Image]:
        """Yield an image for each tag, sorted; then for each manifest that no tag is for."""
        for tag in self.tags:
            yield from self.tagged(tag, brief=brief)
        if untagged:
            named = set(self.inventory.tagged.values())
            for digest in sorted(self.inventory.present - named):
                yield from self.by_digest(digest, brief=brief)

    def tagged(self, tag: Tag, *, brief: bool = False) -> Iterator[Image]:
        """Yield the image of a tag; none where the tag has gone meanwhile."""
        found, changed = self.inventory.tagged.get(tag), self.changed(tag)
        if changed is None:
            return
        if not found:
            problem = str(self.inventory.lost_tags.get(tag, "leads nowhere"))
            yield Image(self.name, tag, None, problem=problem, changed=changed)
        else:
            yield self._image(tag, found, tag, changed, brief=brief)

    def by_digest(self, digest: Digest, *, brief: bool = False) -> Iterator[Image]:
        """Yield the image of that digest; none where there is no such manifest."""
        file = self._tree.storage.file(self._repository.layout.manifest_content(digest))
        if file and digest in self.inventory.present:
            yield self._image(None, digest, digest, file.modified, brief=brief)

    def changed(self, tag: Tag) -> float | None:
        """Return when a tag's file was written, in seconds since the epoch; None if it is gone."""
        layout, status = self._repository.layout, self._tree.storage.status
        file = status(layout.type_map(tag)) or status(layout.legacy_tag(tag))
        return file.modified if file else None

    def _image(
        self,
        tag: Tag | None,
        digest: Digest,
        reference: Reference,
        changed: float,
        *,
        brief: bool = False,
    ) -> Image:
        manifest = self.manifests.get(digest)
        if manifest is None:
            problem = str(self.broken.get(digest, f"leads to {digest}, which is missing"))
            return Image(self.name, tag, digest, problem=problem, changed=changed)
        sizes = self._sizes(digest)
        found = Image(
            self.name,
            tag,
            digest,
            manifest,
            kind=manifest.kind,
            size=sum(sizes.values()),
            changed=changed,
        )
        if brief:
            return found
        freed = self._freed(self.lost([reference]), [reference])
        return found._replace(
            platforms=self.platforms(digest),
            elsewhere=self.platforms_elsewhere(digest),
            own=sum(freed.values()),
            shared=sum(size for part, size in sizes.items() if not freed.get(part)),
            referrers=self.referrers(digest),
        )

    def readable_tags(self) -> dict[Tag, Digest]:
        """Return the manifest of each tag.

        Raises ManifestInvalid or StorageError where that of one is unknown.
        """
        for error in self.inventory.lost_tags.values():
            raise error
        tagged = self.inventory.tagged
        for tag in self.inventory.tags:
            digest = tagged.get(tag)
            if digest and digest in self.broken:
                raise self.broken[digest]
            if digest not in self.manifests:
                raise errors.ManifestInvalid(f"{self.name}:{tag} leads nowhere")
        return dict(tagged)

    def doubts(self) -> tuple[errors.Doubt, ...]:
        """Return the tags and manifests that cannot be read: nothing beside them may be removed."""
        return tuple(map(self.inventory.doubt, self.inventory.fate().doubts))

    def notes(self, digest: Digest) -> list[str]:
        """Return a line for each part of an image that is left out on purpose."""
        needed = self.needed(digest)
        return [text for _, text in elsewhere.notes(self._repository, self.inventory, needed)]

    def left_out(self, index: Digest) -> frozenset[Digest]:
        """Return the children of an index that were left out on purpose."""
        return elsewhere.left_out(self._repository, self.inventory, index)

    def needed(self, digest: Digest) -> set[Digest]:
        """Return a manifest and its children, as far as they are present, readable or not."""
        return graph.closure(self.inventory.children, [digest])

    def referrers(self, digest: Digest) -> tuple[Digest, ...]:
        """Return the manifests that refer to a manifest by their subject."""
        return tuple(self.inventory.referrers.get(digest, ()))

    def tags_of(self, digest: Digest) -> list[Tag]:
        """Return the tags that are for exactly this manifest."""
        return [tag for tag, tagged in self.inventory.tagged.items() if tagged == digest]

    def platforms(self, digest: Digest) -> tuple[str, ...]:
        """Return what an image here runs on, as its configuration or the index says."""
        manifest = self.manifests[digest]
        if manifest.is_index:
            found, _ = elsewhere.platforms(manifest, self.left_out(digest))
        elif manifest.kind == IMAGE:
            fields = self.config(manifest)
            parts = (fields.get(name) for name in ("os", "architecture", "variant"))
            found = ["/".join(part for part in parts if part and isinstance(part, str))]
        else:
            found = []
        return tuple(dict.fromkeys(p for p in found if p and p != _NOWHERE))

    def platforms_elsewhere(self, digest: Digest) -> tuple[str, ...]:
        """Return the platforms that an index names and whose images were left out on purpose."""
        manifest = self.manifests[digest]
        return tuple(elsewhere.platforms(manifest, self.left_out(digest))[1])

    def config(self, manifest: Manifest) -> strict_json.Fields:
        """Return an image's configuration; empty where it is missing or unreadable."""
        with contextlib.suppress(errors.ManifestInvalid, errors.StorageError):
            file = self.file(manifest.config.digest) if manifest.config else None
            if file:
                return strict_json.load(self._tree.storage.read(file.path, SIZE_LIMIT))
        return {}

    def _sizes(self, digest: Digest) -> dict[Digest, int]:
        """Return the size in bytes of each part of an image, by digest."""
        manifests = {d: self.manifests[d] for d in self.needed(digest) & self.manifests.keys()}
        sizes = {d: len(manifest.content) for d, manifest in manifests.items()}
        for manifest in manifests.values():
            for blob in manifest.blobs():
                sizes[blob.digest] = self.size(blob)
        return sizes

    def size(self, blob: Descriptor) -> int:
        """Return a blob's bytes, as its manifest says or, where that does not, its file."""
        if blob.size is not None:
            return blob.size
        file = self.file(blob.digest)
        return file.size if file else 0

    def file(self, digest: Digest) -> File | None:
        """Return a blob's file, that of a gzipped one where there are two."""
        return next(reversed(self._blobs.get(digest, [])), None)

    def uses(self, blobs: Collection[Digest]) -> Iterator[tuple[str, Digest]]:
        """Yield each image with each of these blobs that it needs; by digest if it has no tag."""
        reached: set[Digest] = set()
        for tag, tagged in self.inventory.tagged.items():
            needed = self.needed(tagged) & self.manifests.keys()
            reached |= needed
            yield from ((f"{self.name}:{tag}", digest) for digest in self._used(needed, blobs))
        for digest in sorted(self.manifests.keys() - reached):
            yield from ((f"{self.name}@{digest}", blob) for blob in self._used({digest}, blobs))

    def _used(self, manifests: set[Digest], blobs: Collection[Digest]) -> set[Digest]:
        listed = (blob.digest for d in manifests for blob in self.manifests[d].blobs())
        return {digest for digest in listed if digest in blobs}

    # -- what a deletion would remove

    def lost(self, without: Collection[Reference]) -> set[Digest]:
        """Return the manifests that nothing needs once these names are gone.

        It looks only at manifests that these names keep, so that a list of all
        images costs little more than reading them.
        """
        if self._is_damaged:
            return set(self.inventory.fate(without).dead - self.inventory.fate().dead)
        tags = {tag for tag in without if isinstance(tag, Tag)}
        tags |= {
            tag for digest in without if isinstance(digest, Digest) for tag in self._for[digest]
        }
        starts = {digest for tag in tags for digest in self.inventory.tags.get(tag, ())}
        starts |= {digest for digest in without if isinstance(digest, Digest)}
        hanging = graph.closure(self.edges, starts) & self.inventory.present
        gone = tags.union(without)
        kept = (digest for digest in hanging if self._is_kept(digest, gone, hanging))
        return hanging - graph.closure({d: self._kept_by(d, gone) for d in hanging}, kept)

    def _kept_by(self, digest: Digest, gone: set[Reference]) -> list[Digest]:
        """Return the manifests that a manifest keeps, without referrers that are being deleted."""
        listed = self.inventory.children.get(digest, ())
        return [d for d in self.edges.get(digest, ()) if d not in gone or d in listed]

    def _is_kept(self, digest: Digest, gone: set[Reference], hanging: set[Digest]) -> bool:
        if self._names[digest] - gone:
            return True
        keepers = self._keepers[digest]
        if digest in gone:  # by its own digest, whatever it refers to
            keepers = {d for d in keepers if digest in self.inventory.children.get(d, ())}
        return not keepers <= hanging

    def _freed(self, lost: set[Digest], without: Collection[Reference]) -> dict[Digest, int]:
        """Return the bytes that the disk gets back for each part when these manifests go."""
        freed = {digest: self._manifest_size(digest) for digest in lost}
        for digest in self._unneeded(lost, without) - freed.keys():
            freed[digest] = self._freed_for(digest)
        return freed

    def _manifest_size(self, digest: Digest) -> int:
        """Return the bytes that the disk gets back for a manifest."""
        parsed = self.manifests.get(digest)
        return len(parsed.content) if parsed else self._repository.manifest_size(digest)

    def _freed_for(self, digest: Digest) -> int:
        """Return the bytes that the disk gets back for a blob that nothing needs any more."""
        return self._tree.pool.freed([(digest, f) for f in self._files(digest)], LinkCounts())

    def _unneeded(self, lost: set[Digest], without: Collection[Reference]) -> set[Digest]:
        """Return the blobs that go with these manifests."""
        if self._is_damaged:
            fate = self.inventory.fate(without)
            held = () if fate.doubts else (digest for digest, _ in self._repository.blobs())
            return set(held) - self._blobs_of(fate.live)
        return {b for b in self._blobs_of(lost) if self._users[b] <= lost}

    def _blobs_of(self, manifests: Collection[Digest]) -> set[Digest]:
        readable = (self.manifests[d] for d in manifests if d in self.manifests)
        return {blob.digest for manifest in readable for blob in graph.all_blobs(manifest)}

    @property
    def _is_damaged(self) -> bool:
        return bool(self.broken or self.inventory.lost_tags)

    def _files(self, digest: Digest) -> list[File]:
        """Return the files of a blob that no upload holds."""
        return [] if digest in self._held else self._blobs.get(digest, [])

    # -- computed once, when first needed

    @functools.cached_property
    def edges(self) -> graph.Edges:
        """Return the manifests that each manifest keeps."""
        return self.inventory.edges()

    @functools.cached_property
    def _blobs(self) -> Mapping[Digest, list[File]]:
        """Return the files of each blob, sorted by name, from one look at the folder."""
        found: dict[Digest, list[File]] = collections.defaultdict(list)
        for digest, file in self._repository.blob_files():
            found[digest].append(file)
        return dict(found)

    @functools.cached_property
    def _for(self) -> Mapping[Digest, list[Tag]]:
        found: dict[Digest, list[Tag]] = collections.defaultdict(list)
        for tag, digest in self.inventory.tagged.items():
            found[digest].append(tag)
        return found

    @functools.cached_property
    def _names(self) -> Mapping[Digest, set[Reference]]:
        """Return the names that keep each manifest."""
        found: dict[Digest, set[Reference]] = collections.defaultdict(set)
        for tag, digests in self.inventory.tags.items():
            for digest in digests:
                found[digest].add(tag)
        for digest in self.inventory.pins - self.inventory.listed:
            found[digest].add(digest)
        return found

    @functools.cached_property
    def _live(self) -> set[Digest]:
        return graph.closure(self.edges, self._names) & self.inventory.present

    @functools.cached_property
    def _keepers(self) -> Mapping[Digest, set[Digest]]:
        """Return, for each kept manifest, the kept manifests that keep it."""
        found: dict[Digest, set[Digest]] = collections.defaultdict(set)
        for keeper in self._live:
            for digest in self.edges.get(keeper, ()):
                found[digest].add(keeper)
        return found

    @functools.cached_property
    def _users(self) -> Mapping[Digest, set[Digest]]:
        """Return the manifests that need each blob."""
        found: dict[Digest, set[Digest]] = collections.defaultdict(set)
        for digest in self._live & self.manifests.keys():
            for blob in graph.all_blobs(self.manifests[digest]):
                found[blob.digest].add(digest)
        return found

    @functools.cached_property
    def _held(self) -> frozenset[Digest]:
        return self._tree.leases.live(self._repository.layout)


def images(
    tree: Tree, name: RepositoryName, *, untagged: bool = False, brief: bool = False
) -> list[Image]:
    """Return the images of a repository; with ``untagged`` also manifests that no tag is for.

    Raises StorageError where one cannot be read for now.
    """
    found = _images(tree, name, untagged=untagged, brief=brief)
    if not any(image.problem for image in found):
        return found
    # It is damaged, or was put or deleted meanwhile, which the lock prevents.
    with tree.repository_lock(name):
        return _images(tree, name, untagged=untagged, brief=brief)


def _images(tree: Tree, name: RepositoryName, *, untagged: bool, brief: bool) -> list[Image]:
    with tree.storage.holding():
        return list(Holdings(tree, name).images(untagged=untagged, brief=brief))


def exists(tree: Tree, image: ImageRef) -> bool:
    """Return whether a deletion would find an image."""
    repository = tree.repository(image.repository)
    if isinstance(image.reference, Tag):
        return image.reference in repository.tags()
    return repository.has_manifest(image.reference)
