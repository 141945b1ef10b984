# SPDX-License-Identifier: Apache-2.0
"""The check that nothing is wrong with a repository, as with most of them.

It draws what a repository must hold from its manifests and tags, and compares
that with what is there, by texts and all at once. So it is several times faster
than an inspection. It does not tell what is wrong, and is sure of less: where it
has any doubt, an inspection looks at the repository.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import graph, layout
from image_uploader_plugins.local_export.graph import Graph
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.verify.access import Access
from image_uploader_plugins.local_export.verify.contents import Contents
from image_uploader_plugins.local_export.views import documents, referrers
from image_uploader_plugins.local_export.views.documents import Variant
from image_uploader_plugins.local_export.views.windows import GONE, REMEMBERED
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import is_tag
from image_uploader_plugins.storage import File, Snapshot

IsPooled = Callable[[Digest, File], bool]
"""Whether a repository's file of this digest is the pool's, too, as far as it can be."""

_BLOBS = f"{layout.BLOBS}/"
_MANIFESTS = f"{layout.MANIFESTS}/"
_CONTENT = f"/{layout.CONTENT}"
_GONE = f"{layout.WINDOWS}/{GONE}/"


class _Doubt(Exception):
    """Something may be wrong."""


@dataclasses.dataclass
class _Found:
    """The entries of a repository, by their paths in it: blobs, folders, and all else."""

    blobs: dict[str, File] = dataclasses.field(default_factory=dict)
    folders: set[str] = dataclasses.field(default_factory=set)
    contents: dict[str, bytes | str] = dataclasses.field(default_factory=dict)


class Soundness:
    """The check of one repository, whose lock is held, with what its ``snapshot`` shows."""

    def __init__(
        self,
        repository: Repository,
        snapshot: Snapshot,
        contents: Contents,
        access: Access,
        is_pooled: IsPooled,
    ) -> None:
        self._repository = repository
        self._layout = repository.layout
        self._snapshot = snapshot
        self._contents = contents
        self._access = access
        self._is_pooled = is_pooled

    def manifests(self) -> int | None:
        """Return the number of manifests; None where anything may be wrong or worth a note.

        The catalog and the folders that the repository's own is in are not looked at.
        """
        try:
            _expect(not self._access.findings(self._snapshot.itself(self._layout.top)))
            return self._checked(self._found())
        except (_Doubt, errors.UploaderError):
            return None

    def _checked(self, found: _Found) -> int:
        manifests = self._manifests(found)
        _expect(len(manifests) > 0)
        leads = _leads(found)
        self._check_graph(manifests, leads, found)
        self._check_blobs(manifests, found.blobs)
        drawn = dict(self._drawn(manifests, leads, found))
        _expect(found.contents == drawn)
        for place in found.folders - {place.rpartition("/")[0] for place in drawn}:
            # An empty folder does no harm, but for that of a manifest.
            _expect(layout.kind_of(place) == "folder" and not place.startswith(_MANIFESTS))
        return len(manifests)

    # -- what is there

    def _found(self) -> _Found:
        found = _Found()
        start = len(self._layout.start)
        modes: dict[tuple[str, int, int], File] = {}
        for file in self._files():
            place = file.place[start:]
            modes[file.kind, file.mode, file.uid] = file
            if file.kind == "folder":
                found.folders.add(place)
            elif place.startswith(_BLOBS):
                _expect(file.kind == "file")
                found.blobs[place.removeprefix(_BLOBS)] = file
            else:
                content = self._snapshot.seen(file)
                if content is None:
                    raise _Doubt
                found.contents[place] = content
        # All else that an answer depends on is the same for these files.
        _expect(not any(map(self._access.findings, modes.values())))
        return found

    def _files(self) -> list[File]:
        """Return the repository's own folders, and everything in them."""
        found = []
        for file in self._snapshot.entries(self._layout.top):
            if layout.is_own_folder(file.name):
                found.append(file)
                if file.kind == "folder":
                    found += self._snapshot.inside(file.place)
        return found

    def _manifests(self, found: _Found) -> dict[str, Manifest]:
        """Return the manifests by their digests as texts."""
        parsed = {}
        for place, content in found.contents.items():
            if place.startswith(_MANIFESTS) and place.endswith(_CONTENT):
                # Those of other algorithms have other files.
                digest = Digest(place.removeprefix(_MANIFESTS).removesuffix(_CONTENT))
                if isinstance(content, str):
                    raise _Doubt
                parsed[digest.value] = self._repository.parse_manifest(digest, content)
        return parsed

    # -- what must be there

    def _drawn(
        self,
        manifests: Mapping[str, Manifest],
        leads: Mapping[str, Sequence[str]],
        found: _Found,
    ) -> Iterator[tuple[str, bytes | str]]:
        """Yield all files and links but for blobs, by their paths in the repository."""
        offers: dict[str, list[Variant]] = {}
        for text, parsed in manifests.items():
            yield from _manifest_files(text, parsed)
        for name, digests in leads.items():
            text = graph.manifest_of(digests)
            if name.startswith(layout.PIN):
                yield from _pin_files(text, manifests[text])
                continue
            if text not in offers:
                offers[text] = self._repository.offers(manifests[text], Digest(text))
            yield from _tag_files(name, offers[text])
        tags = [name for name in leads if not name.startswith(layout.PIN)]
        yield from self._repository.lists(tags, _gone(found)).items()
        yield from _referrers_files(manifests)

    # -- what must hold together

    def _check_graph(
        self,
        manifests: Mapping[str, Manifest],
        leads: Mapping[str, Sequence[str]],
        found: _Found,
    ) -> None:
        """Expect that each manifest that something names is there, and no others."""
        listing = {text: [c.digest.value for c in m.manifests] for text, m in manifests.items()}
        subjects = {t: m.subject.digest.value for t, m in manifests.items() if m.subject}
        pins = {graph.manifest_of(d) for n, d in leads.items() if n.startswith(layout.PIN)}
        tags = {name: d for name, d in leads.items() if not name.startswith(layout.PIN)}
        present = manifests.keys()
        for named in (*listing.values(), *leads.values()):
            _expect(present >= set(named))
        # Most repositories have tags for all their manifests.
        if present != set(itertools.chain.from_iterable(tags.values())):
            _expect(Graph(tags, pins, present, listing, subjects).live() == present)

    def _check_blobs(self, manifests: Mapping[str, Manifest], blobs: Mapping[str, File]) -> None:
        """Expect the blobs that the manifests need, intact and in the pool, and no others."""
        sizes = {}
        for name, file in blobs.items():
            digest = Digest(layout.blob_text(name))
            _expect(digest.value not in sizes and self._is_pooled(digest, file))
            _expect(self._contents.is_intact(digest, file))
            sizes[digest.value] = file.size
        needed = set()
        for parsed in manifests.values():
            for blob in graph.all_blobs(parsed):
                # A layer that clients get elsewhere is worth a note.
                _expect(not blob.urls and blob.digest.value in sizes)
                _expect(blob.size in (None, sizes[blob.digest.value]))
                needed.add(blob.digest.value)
        _expect(needed == sizes.keys())


def _expect(condition: bool) -> None:
    if not condition:
        raise _Doubt


def _leads(found: _Found) -> dict[str, list[str]]:
    """Return where the type maps of tags and pins lead, by their names."""
    leads = {}
    for place, content in found.contents.items():
        if place.startswith(_MANIFESTS) and place.endswith(layout.TYPE_MAP):
            name = place.removeprefix(_MANIFESTS).removesuffix(layout.TYPE_MAP)
            _expect(is_tag(name) or name.startswith(layout.PIN))
            leads[name] = documents.leads_to(content) if isinstance(content, bytes) else []
            _expect(leads[name] != [])
    return leads


def _gone(found: _Found) -> set[str]:
    """Return the tags that are gone and that clients may continue after."""
    names = {p.removeprefix(_GONE) for p in found.contents if p.startswith(_GONE)}
    gone = {layout.item_of(name) for name in names if name.endswith(layout.AFTER_MARK)}
    _expect(len(gone) <= REMEMBERED)
    return gone


def _manifest_files(text: str, parsed: Manifest) -> Iterator[tuple[str, bytes | str]]:
    folder = f"{_MANIFESTS}{text}"
    yield f"{folder}/{layout.CONTENT}", parsed.content
    yield f"{folder}/{layout.TYPE_FILES[parsed.media_type]}", parsed.content
    yield f"{folder}/{layout.HEADERS}", documents.htaccess(parsed.media_type, Digest(text))


def _tag_files(tag: str, offers: Sequence[Variant]) -> Iterator[tuple[str, bytes | str]]:
    yield f"{_MANIFESTS}{tag}{layout.TYPE_MAP}", documents.type_map(tag, offers)
    yield f"{layout.TAG_LINKS}/{tag}", layout.link_target(offers[0].digest)
    if offers[1:]:
        yield f"{layout.DEFAULT_LINKS}/{tag}", layout.link_target(offers[-1].digest)


def _pin_files(text: str, parsed: Manifest) -> Iterator[tuple[str, bytes | str]]:
    name = layout.PIN + text
    itself = Variant(parsed.media_type, Digest(text))
    yield f"{_MANIFESTS}{name}{layout.TYPE_MAP}", documents.type_map(name, [itself])


def _referrers_files(manifests: Mapping[str, Manifest]) -> Iterator[tuple[str, bytes | str]]:
    by_digest = {Digest(text): parsed for text, parsed in manifests.items() if parsed.subject}
    for subject, found in referrers.by_subject(by_digest).items():
        listings = referrers.listings(referrers.entry(m, digest) for digest, m in found.items())
        for name, text in listings.items():
            yield f"{layout.REFERRERS}/{subject}/{name}", text
