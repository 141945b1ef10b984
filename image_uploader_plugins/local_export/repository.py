# SPDX-License-Identifier: Apache-2.0
"""One repository of the tree: its blobs, manifests, tags and views."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePosixPath

from image_uploader_plugins import errors, manifest
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.tidied import TIDIED
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.local_export.views.documents import Variant
from image_uploader_plugins.local_export.views.referrers import Referrers
from image_uploader_plugins.local_export.views.tags_list import Listing
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag, is_tag
from image_uploader_plugins.storage import File, Identity, Storage, Watch, Where, Writer, failed

LOG = logging.getLogger(__name__)

_TYPE_MAP_LIMIT = 1024 * 1024
_SMALL = 8 * 1024

Report = Callable[[str, errors.UploaderError], None]
"""A callback that is told of an image that could not be read, and why."""


def _warn(image: str, error: errors.UploaderError) -> None:
    LOG.warning("%s left as it is: %s", image, error)


class Repository:
    """A repository of a tree; callers hold its lock for every method that writes."""

    def __init__(self, storage: Writer, name: RepositoryName, architecture: str) -> None:
        self.layout = layout.repository(name)
        self._storage = storage
        self._architecture = architecture
        self._parsed: dict[Digest, Manifest] | None = None

    @functools.cached_property
    def referrers(self) -> Referrers:
        """Return the lists of what refers to its manifests."""
        return Referrers(self._storage, self.layout, self.read_manifest)

    @functools.cached_property
    def _listing(self) -> Listing:
        return Listing(self._storage, self.layout)

    @property
    def name(self) -> RepositoryName:
        """Return the name of the repository."""
        return self.layout.name

    # -- blobs

    def blob(self, digest: Digest) -> File | None:
        """Return the file of a blob, under either of its names; None where there is none."""
        found = map(self._storage.file, self.layout.blob_names(digest))
        return next(filter(None, found), None)

    def blobs_among(self, digests: Collection[str]) -> dict[str, File]:
        """Return blob() of those of the digests for which there is one, looked at together.

        Here, digests are texts.
        """
        zipped = self._storage.files(self.layout.blobs, [d + layout.GZIP for d in digests])
        found = {layout.blob_text(name): file for name, file in zipped.items()}
        rest = [digest for digest in digests if digest not in found]
        return found | self._storage.files(self.layout.blobs, rest) if rest else found

    def blobs(self) -> Iterator[tuple[Digest, PurePosixPath]]:
        """Yield the digest and the path of each blob."""
        for name, kind in self._storage.names(self.layout.blobs).items():
            digest = layout.blob_digest(name)
            if digest and kind == "file":
                yield digest, self.layout.blobs / name

    def blob_files(self) -> Iterator[tuple[Digest, File]]:
        """Yield the digest and the file of each blob, sorted by name; of all from one look."""
        for file in self._storage.entries(self.layout.blobs):
            digest = layout.blob_digest(file.name)
            if digest and file.kind == "file":
                yield digest, file

    def blob_texts(self) -> set[str]:
        """Return the digests, as texts, of what may be blobs, by their names alone."""
        names = self._storage.names(self.layout.blobs)
        return {layout.blob_text(name) for name in names}

    def unneeded(self, needed: AbstractSet[str]) -> Iterator[tuple[Digest, File]]:
        """Yield the digest and the file of each blob whose digest is not ``needed``, sorted by it.

        Those that are needed are texts.
        """
        names = self._storage.names(self.layout.blobs)
        others = (n for n in names if n not in needed and layout.blob_text(n) not in needed)
        for name in sorted(others):
            digest = layout.blob_digest(name)
            file = self._storage.file(self.layout.blobs / name) if digest else None
            if digest and file:
                yield digest, file

    def files_of_blob(self, digest: Digest) -> Iterator[File]:
        """Yield the files of a blob, of which there may be one under each of its names."""
        yield from filter(None, map(self._storage.file, self.layout.blob_names(digest)))

    def link_blob(self, digest: Digest, source: File, *, gzip: bool, replaces: bool) -> None:
        """Publish the file ``source`` as a blob, whose name tells whether it is gzipped.

        It may be there already, under either name, only where it ``replaces``
        another file.
        """
        self._storage.link(source.place, self.layout.blob(digest, gzip=gzip))
        if replaces:
            self._storage.unlink(self.layout.blob(digest, gzip=not gzip))

    # -- manifests

    def manifests(self) -> set[Digest]:
        """Return the digests of all manifests, readable or not, or misplaced."""
        folders = map(layout.folder_digest, self._storage.names(self.layout.manifests))
        return {digest for digest in folders if digest}

    def has_manifest(self, digest: Digest) -> bool:
        """Return whether the content of a manifest is here."""
        return self._storage.lone_file(self.layout.manifest_content(digest)) is not None

    def remember_manifests(self) -> None:
        """Read each manifest once from now on, for callers that change none."""
        self._parsed = {}

    def read_manifest(self, digest: Digest) -> Manifest:
        """Return the manifest; raise StorageError or ManifestInvalid, with the path in it."""
        known = self._parsed.get(digest) if self._parsed else None
        if known:
            return known
        path = self.layout.manifest_content(digest)
        return self.parse_manifest(digest, self._storage.read(path, manifest.SIZE_LIMIT))

    def parse_manifest(self, digest: Digest, content: bytes) -> Manifest:
        """Return what read_manifest() does, for callers that have read the bytes."""
        parsed = self._parsed_manifest(digest, content)
        if self._parsed is not None:
            self._parsed[digest] = parsed
        return parsed

    def _parsed_manifest(self, digest: Digest, content: bytes) -> Manifest:
        try:
            digest.verify(content)
            parsed = Manifest.parse(content)
            if parsed.declares_type:
                return parsed
            # Clients have been told the type that the manifest was put with.
            return Manifest.parse(content, self._stored_type(digest) or parsed.media_type)
        except (errors.ManifestInvalid, errors.DigestMismatch) as e:
            path = self._storage.root / self.layout.manifest_content(digest)
            raise errors.ManifestInvalid(str(e), path) from e

    def read_manifests(self) -> Iterator[tuple[Digest, Manifest | errors.UploaderError]]:
        """Yield each manifest that is here, or the error where it cannot be read, sorted by digest.

        The error is ManifestInvalid or StorageError.
        """
        for digest in sorted(self.manifests()):
            try:
                yield digest, self.read_manifest(digest)
            except (errors.ManifestInvalid, errors.StorageError) as e:
                yield digest, e

    def _stored_type(self, digest: Digest) -> str | None:
        """Return the type that the name of a manifest's file says."""
        folder = self.layout.manifest(digest)
        names = self._storage.names(folder)
        return next((t for t, name in layout.TYPE_FILES.items() if name in names), None)

    def put(self, parsed: Manifest, digest: Digest, tag: Tag | None) -> None:
        """Publish a manifest and then a tag, or without one a pin, and bring the lists in line."""
        self.write_manifest(parsed, digest)
        offers = self.offers(parsed, digest)
        if tag:
            self._lead_to_default(tag, offers)
        # A power loss must not leave a name whose manifest, or default, is not there.
        self._storage.sync()
        if tag:
            self._point(tag, offers)
        else:
            self.write_pin(parsed, digest)
        # Nor a list with a tag that is not there.
        self._storage.sync()
        if tag:
            self._forget_default(tag, offers)
        self._bring_in_line({tag} if tag else set())

    def _bring_in_line(self, written: set[Tag]) -> None:
        """Do what refresh() does where tags were ``written``, visible yet or not."""
        if self._is_in_line():
            added = {tag.value for tag in written}
            self._listing.change(added, (), lambda: added.union(t.value for t in self.tags()))
        else:
            self._listing.write(self._link_all(written))
        self._storage.afterwards(self.remember_in_line)

    def close_removal(self) -> None:
        """End a removal of tags; callers sync before, since a folder may go with its names."""
        self._storage.remove_empty(self.layout.default_links)
        self.remember_in_line()

    def remember_in_line(self) -> None:
        """Remember that the links and lists of all tags are as they should be."""
        key = f"{self._storage.root}/{self.layout.manifests}"
        TIDIED.remember(key, self._folders_of_tags())

    def _is_in_line(self) -> bool:
        """Return whether this process has just brought the links and lists in line."""
        key = f"{self._storage.root}/{self.layout.manifests}"
        return TIDIED.is_unchanged(key, self._folders_of_tags)

    def _folders_of_tags(self) -> list[File | None]:
        return [*map(self._storage.status, (self.layout.manifests, self.layout.tag_links))]

    def write_manifest(self, parsed: Manifest, digest: Digest) -> None:
        """Publish a manifest under its digest."""
        self._write_manifest(parsed, digest)
        if not self.referrers.add(parsed, digest):
            self.referrers.rebuild({**self.readable_manifests(), digest: parsed})

    def _write_manifest(self, parsed: Manifest, digest: Digest) -> None:
        """Write the bytes of a manifest and the files beside them, the headers first."""
        folder = self.layout.manifest(digest)
        content = self.layout.manifest_content(digest)
        named = self.layout.typed_manifest(digest, parsed.media_type)
        headers = documents.htaccess(parsed.media_type, digest)
        self._storage.write(self.layout.manifest_headers(digest), headers)
        replaced = self._storage.write(content, parsed.content)
        if replaced or not self._storage.holds(named, parsed.content):
            self._storage.link(content, named)
        surplus = set(layout.TYPE_FILES.values()) - {layout.TYPE_FILES[parsed.media_type]}
        for other in sorted(surplus.intersection(self._storage.names(folder))):
            self._storage.unlink(folder / other)
        if digest.algorithm != "sha256":
            path, itself = self.layout.digest_type_map(digest), Variant(parsed.media_type, digest)
            self._storage.write(path, documents.type_map(digest.value, [itself]))

    def left_out(self, index: Digest) -> frozenset[Digest]:
        """Return the recorded children of an index that were left out on purpose."""
        path = self.layout.left_out(index)
        text = self._storage.read(path, manifest.SIZE_LIMIT) if self._storage.file(path) else b""
        words = text.decode("ascii", "replace").split()
        return frozenset(filter(None, map(layout.folder_digest, words)))

    def write_left_out(self, index: Digest, children: Iterable[Digest]) -> None:
        """Record which children of an index were left out; with none, that it is whole."""
        text = "".join(f"{digest}\n" for digest in sorted(children))
        if text:
            self._storage.write(self.layout.left_out(index), text.encode())
        else:
            self._storage.unlink(self.layout.left_out(index))

    def is_vacant(self, digest: Digest) -> bool:
        """Return whether a manifest was never written, or was given up: it has no typed name."""
        names = self._storage.names(self.layout.manifest(digest))
        return names.keys().isdisjoint(layout.TYPE_FILES.values())

    def strip_manifest(self, digest: Digest) -> None:
        """Remove all files beside a manifest's content, which marks it as given up.

        Callers sync before they remove the content.
        """
        folder = self.layout.manifest(digest)
        for name, kind in self._storage.names(folder).items():
            if name != layout.CONTENT and kind != "folder":
                self._storage.unlink(folder / name)

    def remove_manifest(self, digest: Digest) -> int:
        """Remove a manifest that no name leads to any more; return the bytes freed."""
        size = self.manifest_size(digest)
        self._storage.remove_tree(self.layout.manifest(digest))
        return size

    def manifest_size(self, digest: Digest) -> int:
        """Return the bytes that the disk gets back for a manifest; 0 if it has no content."""
        file = self._storage.file(self.layout.manifest_content(digest))
        return file.size if file else 0

    def remove_names(self, digest: Digest) -> None:
        """Remove the pin and the type map of a manifest, but not its tags."""
        self._storage.unlink(self.layout.pin(digest))
        self._storage.unlink(self.layout.digest_type_map(digest))

    # -- tags and pins: the names that keep a manifest

    def tags(self) -> set[Tag]:
        """Return all tags, whether or not they lead to a manifest."""
        tags, _ = self._names()
        return tags

    def pins(self) -> set[Digest]:
        """Return the digests of the manifests that are kept without a tag."""
        _, pins = self._names()
        return pins

    def tags_and_pins(self) -> tuple[Mapping[Tag, bool], set[Digest]]:
        """Return tags() and pins() from one look; of each tag, whether it may be a legacy link."""
        names = self._storage.names(self.layout.manifests)
        tags, pins = self._sorted(names)
        return {tag: tag.value in names for tag in tags}, pins

    def texts(self) -> tuple[set[str], set[str], set[str]] | None:
        """Return tags(), pins() and manifests() as texts, from one look, much faster.

        None where an entry is not of a name and kind that this package writes.
        """
        names = self._storage.names(self.layout.manifests)
        maps = {n.removesuffix(layout.TYPE_MAP) for n in names if n.endswith(layout.TYPE_MAP)}
        tags = {name for name in maps if ":" not in name}
        folders = [name for name in names if not name.endswith(layout.TYPE_MAP)]
        if not all(map(is_tag, tags)) or {names[name] for name in folders} - {"folder"}:
            return None
        pins = {name.removeprefix(layout.PIN) for name in maps if name.startswith(layout.PIN)}
        return tags, pins, {layout.digest_text(name) for name in folders}

    def identities(self, tags: Iterable[str]) -> list[Identity]:
        """Return what tells the type maps of tags from all others."""
        names = (tag + layout.TYPE_MAP for tag in tags)
        return self._storage.identities(self.layout.manifests, names)

    def leads(self, tags: Iterable[str]) -> Iterator[tuple[Identity, list[str]]]:
        """Yield tag_digests(), as texts, for tags that are no legacy links, and identities().

        Raises ManifestInvalid or StorageError where one cannot be read, or is
        not as this package writes it.
        """
        names = (tag + layout.TYPE_MAP for tag in tags)
        for identity, content in self._storage.contents(self.layout.manifests, names, _SMALL):
            yield identity, documents.leads_to(content)

    def kind(self, name: str) -> str | None:
        """Return the kind of an entry beside the manifests; None where there is none."""
        found = self._storage.status(self.layout.manifests / name)
        return found.kind if found else None

    def watch(self, storage: Storage) -> Watch | None:
        """Return a watch on the names of manifests, tags and pins, and on those of blobs.

        None where changes of them could go unnoticed.
        """
        return storage.watch(self._watched)

    def is_watched(self, watch: Watch) -> bool:
        """Return whether a watch() is on the folders that are here now."""
        found = map(self._storage.status, self._watched)
        return watch.inodes == [file.inode for file in found if file]

    @property
    def _watched(self) -> tuple[PurePosixPath, PurePosixPath]:
        return self.layout.manifests, self.layout.blobs

    def _names(self) -> tuple[set[Tag], set[Digest]]:
        return self._sorted(self._storage.names(self.layout.manifests))

    @staticmethod
    def _sorted(names: Mapping[str, str]) -> tuple[set[Tag], set[Digest]]:
        """Return the tags and the pins among the names beside the manifests."""
        tags, pins = set(), set()
        for name, kind in names.items():
            reference = name.removesuffix(layout.TYPE_MAP)
            # A folder was a legacy tag, before a copy was made with links followed.
            if reference == name and kind in ("link", "folder"):
                tags |= set() if layout.folder_digest(name) else {name}
            elif reference != name:
                if reference.startswith(layout.PIN):
                    pins.add(layout.folder_digest(reference.removeprefix(layout.PIN)))
                elif not layout.folder_digest(reference):
                    tags.add(reference)
        return set(_valid_tags(tags)), {digest for digest in pins if digest}

    def manifest_of(self, tag: Tag) -> Digest | None:
        """Return the manifest that a tag is for, present or not; None for no such tag.

        Raises ManifestInvalid or StorageError where it cannot be read.
        """
        return next(iter(self.tag_digests(tag)), None)

    def tag_digests(self, tag: Tag, *, legacy_too: bool = True) -> list[Digest]:
        """Return the manifests that a tag leads to, first the one it is for; none for no tag.

        Where it is known to be no legacy link, that is not looked for.
        """
        legacy = self._storage.link_target(self.layout.legacy_tag(tag)) if legacy_too else None
        if legacy is not None:
            digest = layout.folder_digest(legacy.rstrip("/").rpartition("/")[2])
            return [digest] if digest else []
        path = self.layout.type_map(tag)
        try:
            return documents.parse_type_map(self._storage.read(path, _TYPE_MAP_LIMIT))
        except errors.ManifestInvalid as e:
            raise errors.ManifestInvalid(str(e), self._storage.root / path) from e
        except errors.StorageError:
            found = self._storage.status(path) or self._storage.status(self.layout.legacy_tag(tag))
            if not found:
                return []
            if found.kind == "file":
                raise
            problem = f"a {found.kind} in the place of a tag"
            raise errors.ManifestInvalid(problem, self._storage.root / path) from None

    def write_tag(self, tag: Tag, parsed: Manifest, digest: Digest) -> None:
        """Point a tag at a manifest."""
        offers = self.offers(parsed, digest)
        is_new = self._lead_to_default(tag, offers)
        if is_new and self._storage.link_target(self.layout.tag_link(tag)) != _target(offers[0]):
            # A power loss must not leave a list without its default.
            self._storage.sync()
        self._point(tag, offers)
        self._forget_default(tag, offers)

    def offers(self, parsed: Manifest, digest: Digest) -> list[Variant]:
        """Return what a tag of a manifest offers, and last what clients get that know no lists."""
        offers = [Variant(parsed.media_type, digest)]
        present = frozenset(d.digest for d in parsed.manifests if self.has_manifest(d.digest))
        default = parsed.default(self._architecture, present)
        return [*offers, Variant(default.media_type, default.digest, 0.5)] if default else offers

    def _point(self, tag: Tag, offers: Sequence[Variant]) -> None:
        """Write the type map of a tag first, since it decides what the tag is for."""
        self._storage.write(self.layout.type_map(tag), documents.type_map(tag.value, offers))
        legacy = self.layout.legacy_tag(tag)
        if self._storage.status(legacy):
            # A power loss must leave one of them.
            self._storage.sync()
            self._storage.unlink(legacy)
        self._storage.symlink(self.layout.tag_link(tag), _target(offers[0]))

    def _lead_to_default(self, tag: Tag, offers: Sequence[Variant]) -> bool:
        """Write the link of a tag to its default, before the tag leads to a list that needs it.

        Returns whether that is a change.
        """
        if not offers[1:]:
            return False
        return self._storage.symlink(self.layout.default_link(tag), _target(offers[-1]))

    def _forget_default(self, tag: Tag, offers: Sequence[Variant]) -> None:
        """Remove the link of a tag to a default, after the tag leads to what needs none."""
        link = self.layout.default_link(tag)
        target = None if offers[1:] else self._storage.link_target(link)
        if target == _target(offers[0]):
            self._storage.drop(link)
        elif target:
            # A power loss must not leave a list without its default.
            self._storage.sync()
            self._storage.unlink(link)

    def needless_links(self) -> list[File]:
        """Return the links to defaults that lead where their tags lead.

        Earlier versions wrote one for each tag.
        """
        names = sorted(self._storage.names(self.layout.default_links))
        links = ((self.layout.default_links / n, self.layout.tag_links / n) for n in names)
        read = self._storage.link_target
        found = (link for link, other in links if (target := read(link)) and target == read(other))
        with self._storage.holding():
            return list(filter(None, map(self._storage.status, found)))

    def remove_needless_links(self) -> None:
        """Remove the links to defaults that lead where their tags lead."""
        for link in self.needless_links():
            self._storage.drop(link.path)
        self._storage.remove_empty(self.layout.default_links)

    def rewrite_tags(self, index: Digest) -> None:
        """Point all tags of an index at it anew, since more of its children are here.

        Tags that cannot be read stay as they are.
        """
        parsed = self.read_manifest(index)
        for tag in sorted(self.tags()):
            try:
                if self.manifest_of(tag) == index:
                    self.write_tag(tag, parsed, index)
            except (errors.ManifestInvalid, errors.StorageError) as e:
                if failed(e):
                    raise

    def write_pin(self, parsed: Manifest, digest: Digest) -> None:
        """Keep a manifest that has no tag.

        The pin is a type map, since tripleo-common removes every manifest that
        no type map names.
        """
        reference = layout.PIN + digest.value
        variants = [Variant(parsed.media_type, digest)]
        self._storage.write(self.layout.pin(digest), documents.type_map(reference, variants))

    def remove_tag(self, tag: Tag) -> None:
        """Remove a tag, its type map first; callers sync before they remove content."""
        self._remove_tags([tag])

    def _remove_tags(self, tags: Iterable[Tag]) -> None:
        defaults = []
        for tag in tags:
            self._clear(self.layout.type_map(tag))
            self._clear(self.layout.legacy_tag(tag))
            self._clear(self.layout.tag_link(tag))
            default = self.layout.default_link(tag)
            defaults += [default] if self._storage.status(default) else []
        if defaults:
            # A power loss must not leave a list without its default.
            self._storage.sync()
        for default in defaults:
            self._clear(default)

    def remove_pin(self, digest: Digest) -> None:
        """Remove the pin of a manifest."""
        self._storage.unlink(self.layout.pin(digest))

    def _clear(self, path: Where) -> None:
        """Remove a link or file, or the folder that a copy made with links followed has there.

        A folder stays where the tree never has anything.
        """
        found = self._storage.status(path)
        place = str(path).removeprefix(self.layout.start)
        if found and (found.kind != "folder" or layout.kind_of(place)):
            self._storage.remove(found)

    # -- entries of the wrong kind

    def parts(self) -> Iterator[File]:
        """Yield all entries of the repository's own folders, but not those in misplaced folders."""
        own = filter(layout.is_own_folder, self._storage.names(self.layout.top))
        found = map(self._storage.status, (self.layout.top / name for name in sorted(own)))
        for file in filter(None, found):
            yield file
            if file.kind == "folder" and not self.is_misplaced(file):
                yield from self._storage.below(file.path, lambda part: not self.is_misplaced(part))

    def belongs(self, file: File) -> bool:
        """Return whether an entry is of the kind that a tree has at its place."""
        return file.kind == layout.kind_of(file.place.removeprefix(self.layout.start))

    def is_misplaced(self, file: File) -> bool:
        """Return whether an entry is of the wrong kind, in a place that can be written anew."""
        if self.belongs(file):
            return False
        return layout.is_derived(file.path.relative_to(self.layout.top))

    def make_way(self) -> None:
        """Remove misplaced entries, and write tags whose place they took; refresh() does the rest.

        A copy of a tree that was made with links followed has folders or files
        in the place of links.
        """
        for tag in sorted(self.tags()):
            digest = self._leads_to(tag) if self._is_taken(tag) else None
            if digest:
                parsed = self.read_manifest(digest)
                self.remove_tag(tag)
                self.write_tag(tag, parsed, digest)
        for file in [file for file in self.parts() if self.is_misplaced(file)]:
            self._clear(file.path)

    def can_restore(self, tag: Tag) -> bool:
        """Return whether make_way() would write a tag anew."""
        return self._is_taken(tag) and self._leads_to(tag) is not None

    def _is_taken(self, tag: Tag) -> bool:
        places = (self.layout.type_map(tag), self.layout.legacy_tag(tag))
        found = next(filter(None, map(self._storage.status, places)), None)
        return bool(found and found.kind != ("file" if found.place == places[0] else "link"))

    def _leads_to(self, tag: Tag) -> Digest | None:
        """Return the manifest that a misplaced tag was for, from its link or a manifest's copy."""
        link = self._storage.link_target(self.layout.tag_link(tag))
        if link is not None:
            digest = layout.folder_digest(link.rpartition("/")[2])
            return digest if digest and self.has_manifest(digest) else None
        for folder in (self.layout.tag_link(tag), self.layout.legacy_tag(tag)):
            path = layout.copied_content(folder)
            content = self._storage.read(path) if self._storage.file(path) else b""
            for digest in (Digest.of(content), Digest.of(content, "sha512")):
                if self.has_manifest(digest):
                    return digest
        return None

    def remove_references(self, tags: Iterable[Tag], pins: Iterable[Digest]) -> None:
        """Remove tags and pins, and bring the lists in line."""
        in_line = self._is_in_line()
        removed = sorted(tags)
        self._remove_tags(removed)
        for digest in sorted(pins):
            self.remove_pin(digest)
        if in_line:
            texts = [tag.value for tag in removed]
            self._listing.change((), texts, lambda: (tag.value for tag in self.tags()))
        else:
            self.refresh()

    # -- views

    def lists(self, tags: Collection[str], gone: Collection[str]) -> dict[str, bytes | str]:
        """Return the files and links of the lists of these tags, by their paths in the repository.

        Clients may continue after tags that are ``gone``.
        """
        return self._listing.drawn(tags, gone)

    def refresh(self, *, thoroughly: bool = False, report: Report = _warn) -> None:
        """Bring tag links and lists in line with the type maps.

        Tags that other tools wrote are converted on the way: legacy symbolic
        links become type maps, and type maps of lists get their ``qs``. With
        ``thoroughly``, every tag and every manifest is looked at; otherwise
        only tags that have no links yet. What cannot be read stays as it is and
        is reported: a damaged tag must not stop work on others.
        """
        if thoroughly:
            self._refresh_manifests()
        tags = self._link_all(thoroughly=thoroughly, report=report)
        if tags or self.manifests():
            self._listing.write(tags, thoroughly=thoroughly)

    def _link_all(
        self,
        written: Collection[Tag] = (),
        *,
        thoroughly: bool = False,
        report: Report = _warn,
    ) -> set[str]:
        """Give links to the tags that have none, and remove those without a tag; return all tags.

        Tags that were ``written`` have theirs, visible yet or not.
        """
        others = self.tags().difference(written)
        linked = self._linked(thoroughly=thoroughly)
        for tag in sorted(others):
            if thoroughly or tag.value not in linked:
                self._refresh_tag(tag, report, thoroughly=thoroughly)
        tags = {tag.value for tag in others.union(written)}
        self._clear_links(linked - tags)
        if thoroughly:
            self._storage.remove_empty(self.layout.default_links)
        return tags

    def _linked(self, *, thoroughly: bool = False) -> set[str]:
        """Return the names of all links that tags have."""
        linked = set(self._storage.names(self.layout.tag_links))
        return linked | set(self._storage.names(self.layout.default_links) if thoroughly else ())

    def _clear_links(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self._clear(self.layout.tag_links / name)
            self._clear(self.layout.default_links / name)

    def settle(self) -> None:
        """Have the storage make durable which names are here, and which are not."""
        for folder in (self.layout.top, *self.layout.top.parents):
            self._storage.settle(folder)
        for name in filter(layout.is_own_folder, self._storage.names(self.layout.top)):
            self._storage.settle(self.layout.top / name)
            for file in self._storage.below(self.layout.top / name):
                if file.kind == "folder":
                    self._storage.settle(file.path)

    def _refresh_manifests(self) -> None:
        readable = self.readable_manifests()
        for digest in sorted(readable):
            self._write_manifest(readable[digest], digest)
        for digest in sorted(self.pins() & readable.keys()):
            self.write_pin(readable[digest], digest)
        self.referrers.rebuild(readable)
        # A manifest is written before its pin and removed after it, so an absent one is going.
        present = self.manifests()
        for name in sorted(self._storage.names(self.layout.manifests)):
            named = layout.folder_digest(name.removesuffix(layout.TYPE_MAP))
            if name.endswith(layout.TYPE_MAP) and named and named not in present:
                self._storage.unlink(self.layout.manifests / name)

    def readable_manifests(self) -> dict[Digest, Manifest]:
        """Return all that can be read; raise StorageError if one cannot be read for now."""
        found = {}
        for digest, outcome in self.read_manifests():
            if isinstance(outcome, Manifest):
                found[digest] = outcome
            elif failed(outcome):
                raise outcome
        return found

    def _refresh_tag(self, tag: Tag, report: Report, *, thoroughly: bool) -> None:
        try:
            found = {d: self.read_manifest(d) for d in self.tag_digests(tag)}
            for digest, parsed in found.items() if not thoroughly else ():
                self.write_manifest(parsed, digest)
            for digest in list(found)[:1]:
                self.write_tag(tag, found[digest], digest)
        except (errors.ManifestInvalid, errors.StorageError) as e:
            if failed(e):
                raise
            report(f"{self.name}:{tag}", e)

    def remove_folders(self) -> None:
        """Remove the repository's own empty folders, and parents that became empty."""
        self._listing.clear()
        self.referrers.clear()
        for folder in self.layout.folders:
            self._storage.remove_empty(folder)
        folder = self.layout.top
        while folder != layout.V2 and self._storage.remove_empty(folder):
            folder = folder.parent


def _target(variant: Variant) -> str:
    return layout.link_target(variant.digest)


def _valid_tags(names: set[str]) -> Iterator[Tag]:
    for name in names:
        try:
            yield Tag(name)
        except errors.InvalidReference:
            LOG.warning("not a tag, left alone: %r", name)
