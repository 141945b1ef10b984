"""One image of a tree, in full."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import inventory, parallel
from image_uploader_plugins.local_export.holdings import Holdings
from image_uploader_plugins.local_export.inventory import Image
from image_uploader_plugins.local_export.storage import File
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag

Check = Callable[[Digest, File], str | None]
"""What is wrong with a blob's content, if anything is; asked from several threads."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer, and the other images of the tree that need it; the size may be unknown."""

    digest: Digest
    media_type: str
    size: int | None
    shared_with: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Member:
    """A manifest that an index lists, or that refers to an image."""

    digest: Digest
    media_type: str
    size: int
    platform: str = ""
    artifact_type: str | None = None
    present: bool = True


@dataclasses.dataclass(frozen=True)
class Description:
    """An image in full; text in it is as a registry gave it.

    ``labels`` are the config's.  ``problems`` say what is missing or damaged.
    """

    image: Image
    tags: tuple[Tag, ...]
    manifest: Manifest
    layers: tuple[Layer, ...]
    children: tuple[Member, ...]
    referrers: tuple[Member, ...]
    labels: Mapping[str, str]
    problems: tuple[str, ...]


def describe(tree: Tree, ref: ImageRef, check: Check | None = None) -> Description:
    """Everything about an image; ``check`` looks at the content of its blobs.

    Raises ImageUnknown where it is not there, and ManifestInvalid or
    StorageError where it cannot be read.
    """
    with tree.repository_lock(ref.repository):
        if not exists(tree, ref):
            raise errors.ImageUnknown(f"no such image: {ref}")
        holdings = Holdings(tree, ref.repository)
        image = inventory.describe(tree, holdings, ref.reference)
    digest = image.digest
    if digest is None or image.problem:
        raise errors.ManifestInvalid(f"{ref}: {image.problem}")
    parsed = holdings.manifests[digest]
    names = holdings.names(digest)
    return Description(
        image,
        tuple(sorted(name for name in names if isinstance(name, Tag))),
        parsed,
        tuple(_layers(tree, holdings, digest)),
        tuple(_child(holdings, child) for child in parsed.manifests),
        tuple(_referrer(holdings, found) for found in image.referrers),
        _labels(holdings, parsed),
        (*_missing(holdings, digest), *_blob_problems(holdings, digest, check)),
    )


def exists(tree: Tree, ref: ImageRef) -> bool:
    """Whether a tag or manifest is there, under its repository's lock."""
    repository = tree.repository(ref.repository)
    if isinstance(ref.reference, Digest):
        return repository.has_manifest(ref.reference)
    return ref.reference in repository.tags()


def _layers(tree: Tree, holdings: Holdings, digest: Digest) -> Iterator[Layer]:
    found = {blob.digest: blob for m in holdings.parts(digest).values() for blob in m.layers}
    shared: dict[Digest, list[str]] = {layer: [] for layer in found}
    ours = holdings.names(digest)
    for name in tree.repositories():
        here = name == holdings.repository.name
        for layer, users in _users(tree, holdings if here else name, found).items():
            names = users - ours if here else users
            shared[layer] += sorted(str(ImageRef(name, user)) for user in names)
    for layer, blob in found.items():
        file = holdings.repository.blob(layer) if blob.size is None else None
        size = file.size if file else blob.size
        yield Layer(layer, blob.media_type, size, tuple(shared[layer]))


def _users(
    tree: Tree, where: Holdings | RepositoryName, layers: Mapping[Digest, object]
) -> Mapping[Digest, set[Tag | Digest]]:
    """What needs these layers in a repository, which is only read if it has one of them."""
    if isinstance(where, RepositoryName):
        repository = tree.repository(where)
        with tree.repository_lock(where):
            if not any(repository.blob(layer) for layer in layers):
                return {}
            where = Holdings(tree, where)
    return {layer: where.blob_users.get(layer, set()) for layer in layers}


def _child(holdings: Holdings, child: Descriptor) -> Member:
    present = child.digest in holdings.manifests
    runs_on = inventory.platform(child.platform)
    return Member(
        child.digest, child.media_type, child.size or 0, runs_on, child.artifact_type, present
    )


def _referrer(holdings: Holdings, digest: Digest) -> Member:
    parsed = holdings.manifests[digest]
    artifact_type = parsed.artifact_type or (parsed.config.media_type if parsed.config else None)
    return Member(digest, parsed.media_type, len(parsed.content), artifact_type=artifact_type)


def _labels(holdings: Holdings, parsed: Manifest) -> Mapping[str, str]:
    config = holdings.config(parsed).get("config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    if not isinstance(labels, dict):
        return {}
    return {name: text for name, text in labels.items() if isinstance(text, str)}


def _missing(holdings: Holdings, digest: Digest) -> Iterator[str]:
    """What of an image's manifests is not there or cannot be read."""
    for part, parsed in holdings.parts(digest).items():
        for child in parsed.manifests:
            if child.digest in holdings.broken:
                yield str(holdings.broken[child.digest])
            elif child.digest not in holdings.manifests:
                runs_on = inventory.platform(child.platform)
                described = f"{child.digest} ({runs_on})" if runs_on else str(child.digest)
                yield f"{described} is missing, and {part} lists it"


def _blob_problems(holdings: Holdings, digest: Digest, check: Check | None) -> Iterator[str]:
    """What of its blobs is not as its manifests say."""
    parts = holdings.parts(digest).values()
    blobs = {(blob.digest, blob.size): blob for parsed in parts for blob in parsed.blobs()}

    def look(blob: Descriptor) -> str | None:
        return _blob_problem(holdings, blob, check)

    for blob, problem in parallel.each(look, blobs.values()):
        if problem:
            yield f"blob {blob.digest}: {problem}"


def _blob_problem(holdings: Holdings, blob: Descriptor, check: Check | None) -> str | None:
    file = holdings.repository.blob(blob.digest)
    if file is None:
        return "it is missing"
    if blob.size not in (None, file.size):
        return f"it has {file.size} bytes, and its manifest says {blob.size}"
    return check(blob.digest, file) if check else None
