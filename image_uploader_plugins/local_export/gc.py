"""What a repository still needs, and the removal of the rest.

Roots are the tags, and the manifests put without one ("pins") that no index
lists.  From there: an index needs its children; a manifest keeps its
referrers.  Blobs are kept for live manifests and for uploads in flight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.storage import File, Storage, failed
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import Tag


@dataclasses.dataclass(frozen=True)
class Plan:
    """What may go; manifests in the order to remove them.

    ``live`` are the manifests that stay, ``unnamed`` those of them that
    neither a tag nor a pin names.
    """

    live: Mapping[Digest, Manifest]
    unnamed: frozenset[Digest]
    manifests: tuple[Digest, ...]
    blobs: tuple[tuple[Digest, File], ...]


@dataclasses.dataclass(frozen=True)
class Inventory:
    """All manifests of a repository, as far as they can be read."""

    readable: Mapping[Digest, Manifest]
    broken: Mapping[Digest, errors.UploaderError]

    def present(self) -> set[Digest]:
        return self.readable.keys() | self.broken.keys()

    def children(self) -> set[Digest]:
        return {d.digest for m in self.readable.values() for d in m.manifests}


def plan(
    storage: Storage,
    repository: Repository,
    held: frozenset[Digest],
    without: Collection[Tag | Digest] = (),
) -> Plan:
    """What no root of the repository and no upload (``held``) needs.

    As if the names in ``without`` were gone: tags, and digests with all tags
    that are for them.  A referrer among them goes although its subject stays.

    Raises ManifestInvalid or StorageError if a live manifest cannot be read:
    what it needs cannot be known.  StorageError also if any manifest cannot be
    read for now.
    """
    gone = frozenset(without)
    inventory = take_inventory(repository)
    found = [repository.tag_digests(tag) for tag in repository.tags() - gone]
    tagged = {d for digests in found if not gone.intersection(digests[:1]) for d in digests}
    pins = repository.pins() - gone
    # A name that leads nowhere needs nothing; verification reports it.
    roots = (tagged | (pins - inventory.children())) & inventory.present()
    live = closure(edges(inventory.readable, gone), roots)
    for digest in sorted(live & inventory.broken.keys()):
        raise inventory.broken[digest]
    needed = {b.digest for d in live for b in all_blobs(inventory.readable[d])} | held
    dead = sorted(repository.manifests() - live)
    # An index that outlived its children in a crash would turn their pins into roots.
    dead.sort(key=lambda d: d in inventory.readable and inventory.readable[d].is_index)
    files = ((d, storage.file(path)) for d, path in repository.blobs() if d not in needed)
    return Plan(
        {d: inventory.readable[d] for d in live},
        frozenset(live - tagged - pins),
        tuple(dead),
        tuple((d, file) for d, file in files if file),
    )


def children(manifests: Mapping[Digest, Manifest]) -> dict[Digest, list[Digest]]:
    """What each manifest lists, as far as it is there."""
    return {
        digest: [d.digest for d in parsed.manifests if d.digest in manifests]
        for digest, parsed in manifests.items()
    }


def edges(
    manifests: Mapping[Digest, Manifest], without: Collection[Tag | Digest] = ()
) -> dict[Digest, list[Digest]]:
    """What each manifest keeps: what it lists, and what has it for a subject.

    An index may list children that are absent; a referrer ``without`` which
    things are looked at is kept by no subject.
    """
    found = children(manifests)
    for digest, parsed in manifests.items():
        if parsed.subject and digest not in without:
            found.setdefault(parsed.subject.digest, []).append(digest)
    return found


def closure(kept: Mapping[Digest, Iterable[Digest]], roots: Iterable[Digest]) -> set[Digest]:
    """The roots, and all that they keep.

    An absent root stays in the result, for the caller to complain about.
    """
    live: set[Digest] = set()
    pending = list(roots)
    while pending:
        digest = pending.pop()
        if digest not in live:
            live.add(digest)
            pending += kept.get(digest, ())
    return live


def sweep(storage: Storage, repository: Repository, found: Plan) -> int:
    """Carry out a plan; bytes freed, not counting what the pool still links to."""
    # Once pinned they are also safe from tripleo-common, which knows neither
    # children nor referrers.
    for digest in sorted(found.unnamed):
        repository.write_pin(found.live[digest], digest)
    repository.referrers.rebuild(found.live)
    for digest in found.manifests:
        repository.remove_names(digest)
    # A power loss must not bring back a name whose content is gone, or a pin
    # whose index is.
    storage.sync()
    freed = sum(repository.remove_manifest(digest) for digest in found.manifests)
    for _, file in found.blobs:
        storage.unlink(file.path)
        freed += file.size if file.links == 1 else 0
    return freed


def take_inventory(repository: Repository) -> Inventory:
    """Read every manifest; raises StorageError if one cannot be read for now."""
    readable, broken = {}, {}
    for digest in repository.manifests():
        try:
            readable[digest] = repository.read_manifest(digest)
        except (errors.ManifestInvalid, errors.StorageError) as e:
            if failed(e):
                raise  # it may be an index, without which its children count as roots
            broken[digest] = e
    return Inventory(readable, broken)


def all_blobs(parsed: Manifest) -> Iterable[Descriptor]:
    """Config and layers, also those that may come from elsewhere."""
    return (d for d in (parsed.config, *parsed.layers) if d)
