"""The images of a tree: what they are, and which content is theirs alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from image_uploader_plugins import manifest
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import gc, parallel
from image_uploader_plugins.local_export.holdings import CONFIG_TYPES, Holdings, Name
from image_uploader_plugins.local_export.patterns import Patterns
from image_uploader_plugins.local_export.removal import Links
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import Manifest, Platform
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag


@dataclasses.dataclass(frozen=True)
class Image:
    """What there is to know of an image at first sight.

    ``digest`` is None where a tag leads nowhere; ``problem`` says why an
    image cannot be read.  ``size`` is that of its manifests and blobs, in
    bytes, ``own`` what deleting this name would free, ``shared`` how much of
    the size would stay.  ``written`` is when its name was, in seconds since
    the epoch.  ``platforms`` are as a registry gave them.
    """

    ref: ImageRef
    digest: Digest | None
    kind: str = "damaged"
    platforms: tuple[str, ...] = ()
    size: int = 0
    own: int = 0
    shared: int = 0
    written: float = 0
    referrers: tuple[Digest, ...] = ()
    problem: str | None = None


def images(tree: Tree, patterns: Patterns, *, untagged: bool = False) -> Iterator[Image]:
    """The images that are meant: of each repository by tag, then by digest those without.

    The latter only if ``untagged``.  Holds a repository's lock while it is
    read.
    """

    def read(name: RepositoryName) -> list[Image]:
        with tree.repository_lock(name):
            chosen = patterns.chosen(tree.repository(name))
            wanted = {n for n in chosen if untagged or isinstance(n, Tag)}
            return list(_images(tree, name, wanted)) if wanted else []

    for _, found in parallel.each(read, tree.repositories()):
        yield from found


def _images(tree: Tree, name: RepositoryName, wanted: Collection[Name]) -> Iterator[Image]:
    holdings = Holdings(tree, name)
    yield from (describe(tree, holdings, tag) for tag in holdings.tags if tag in wanted)
    tagged = {digests[0] for digests in holdings.tags.values() if digests}
    digests = {name for name in wanted if isinstance(name, Digest)}
    yield from (describe(tree, holdings, digest) for digest in sorted(digests - tagged))


def describe(tree: Tree, holdings: Holdings, name: Name) -> Image:
    """One image that is there, under its repository's lock."""
    ref, digest = ImageRef(holdings.repository.name, name), holdings.digest(name)
    written, problem = holdings.written(name), holdings.problem(name)
    if digest is None or problem:
        return Image(ref, digest, written=written, problem=problem)
    parsed, size = holdings.manifests[digest], _sizes(holdings, digest)
    own = _freed(tree, holdings, name)
    return Image(
        ref,
        digest,
        kind(parsed),
        tuple(platforms(holdings, parsed)),
        sum(size.values()),
        sum(own.values()),
        sum(bytes for part, bytes in size.items() if part not in own),
        written,
        tuple(holdings.referrers.get(digest, ())),
    )


def kind(parsed: Manifest) -> str:
    """What a manifest is, in a word or two."""
    if parsed.media_type in manifest.SCHEMA1_TYPES:
        return "schema 1"
    if parsed.is_index:
        return "list"
    runs = parsed.config is not None and parsed.config.media_type in CONFIG_TYPES
    return "image" if runs and not parsed.artifact_type else "artifact"


def platforms(holdings: Holdings, parsed: Manifest) -> list[str]:
    """What an image runs on: linux/amd64, several for an index, none for what does not say."""
    if parsed.is_index:
        found = [platform(child.platform) for child in parsed.manifests]
    else:
        config = holdings.config(parsed)
        found = [platform(Platform(_text(config.get("architecture")), _text(config.get("os"))))]
    # What tools attach to an index says that it runs on unknown/unknown.
    return [text for text in dict.fromkeys(found) if text and text != "unknown/unknown"]


def platform(described: Platform) -> str:
    """As clients write it; empty where nothing is said."""
    return "/".join(filter(None, (described.os, described.architecture)))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _freed(tree: Tree, holdings: Holdings, name: Name) -> Mapping[Digest, int]:
    """The manifests and blobs that go when a name is deleted, and the bytes freed for each."""
    removed = {name} if isinstance(name, Tag) else holdings.names(name)
    roots = {d for n in removed for d in holdings.roots.get(n, ())}
    roots |= {name} if isinstance(name, Digest) else set()
    gone = {d for d in holdings.follow(roots) if holdings.users.get(d, set()) <= removed}
    parsed = {d: holdings.manifests[d] for d in gone if d in holdings.manifests}
    freed = {digest: len(m.content) for digest, m in parsed.items()}
    links = Links(tree.pool)
    needed = {blob.digest for m in parsed.values() for blob in gc.all_blobs(m)} - holdings.held
    for digest in (d for d in needed if holdings.blob_users[d] <= removed):
        file = holdings.repository.blob(digest)
        size = links.remove(digest, file) if file else 0
        if size:
            freed[digest] = size
    return freed


def _sizes(holdings: Holdings, digest: Digest) -> Mapping[Digest, int]:
    """The bytes of each manifest and blob that an image is made of."""
    parts = holdings.parts(digest)
    sizes = {part: len(parsed.content) for part, parsed in parts.items()}
    for blob in (blob for parsed in parts.values() for blob in parsed.blobs()):
        file = holdings.repository.blob(blob.digest) if blob.size is None else None
        sizes[blob.digest] = file.size if file else blob.size or 0
    return sizes
