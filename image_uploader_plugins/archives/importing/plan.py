# SPDX-License-Identifier: Apache-2.0
"""Which images of an archive are imported, and what they are called in the target."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.archives.archive import Archive, Entry
from image_uploader_plugins.archives.names import ImageName, spellings
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.patterns import matches
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.text import shown

_LISTED = 5  # of many, in a message


class Job(NamedTuple):
    """An image, where it goes, and what it is to be called there, if anything."""

    descriptor: Descriptor
    repository: RepositoryName
    tag: Tag | None

    def __str__(self) -> str:
        if self.tag:
            return f"{self.repository}:{self.tag}"
        return f"{self.repository}@{self.descriptor.digest}"


class Name(NamedTuple):
    """The name of ``--as``; without a tag each image keeps its own tag."""

    repository: RepositoryName
    tag: Tag | None = None

    @classmethod
    def parse(cls, text: str) -> Name:
        """Read ``repository[:tag]``; raises InvalidReference."""
        repository, colon, tag = text.partition(":")
        return cls(RepositoryName(repository), Tag(tag) if colon else None)


def plan(archive: Archive, patterns: Sequence[str] = (), name: Name | None = None) -> list[Job]:
    """Return what to import: images that match one of ``patterns`` (default: all), and more.

    More are the unnamed ones that refer to them, and their signatures.
    Raises ImageUnknown for a pattern that nothing matches, and ArchiveInvalid
    for an image without a name, for two of one name, and for ``name`` with a
    tag where there are several.
    """
    images = [entry for entry in archive.entries if entry.suffix is None]
    chosen = _choose(archive, images, patterns)
    family = _Family(archive, images)
    belonging = family.belonging([e for e in chosen if not _is_placed(e, name)], chosen)
    roots = [e for e in chosen if e not in belonging]
    if name and name.tag and len({entry.descriptor.digest for entry in roots}) > 1:
        raise _invalid(archive, f"--as names one image, and there are {_some(roots)}")
    placed = [(entry, _job(archive, entry, name)) for entry in roots]
    jobs = _without_pins(job for _, job in placed)
    jobs += _attachments(archive, placed, images)
    _check_distinct(archive, jobs)
    return jobs + family.followers(jobs, renamed=name is not None)


def _choose(archive: Archive, images: Sequence[Entry], patterns: Sequence[str]) -> list[Entry]:
    if not images:
        raise _invalid(archive, "lists no image")
    chosen = set()
    for pattern in patterns:
        found = [number for number, entry in enumerate(images) if _matches(entry, pattern)]
        if not found:
            raise errors.ImageUnknown(
                f"{archive.files.path}: no image {shown(pattern)}, but {_some(images)}",
                shown(pattern),
            )
        chosen.update(found)
    return [e for number, e in enumerate(images) if not patterns or number in chosen]


def _matches(entry: Entry, pattern: str) -> bool:
    texts = spellings(entry.name, hub=_is_hub(entry)) if entry.name else set()
    texts.add(entry.descriptor.digest.value)
    return matches(pattern, texts)


def _is_hub(entry: Entry) -> bool:
    return entry.hub and entry.repository is None


# -- names


def _is_placed(entry: Entry, name: Name | None) -> bool:
    """Tell whether an entry says itself where it belongs."""
    return entry.name is not None or (entry.repository is not None and name is None)


def _job(archive: Archive, entry: Entry, name: Name | None) -> Job:
    try:
        found = _parse(entry)
    except errors.InvalidReference as e:
        raise _invalid(archive, f"{shown(str(entry))}: {e}") from e
    if found.digest not in (None, entry.descriptor.digest):
        raise _invalid(
            archive,
            f"{shown(str(entry))} is another manifest, {entry.descriptor.digest} "
            "(as skopeo sync makes it without --all, which keeps lists as they are)",
        )
    repository, tag = found.repository, found.tag
    if name:
        repository, tag = name.repository, name.tag or tag
    if repository is None or (tag is None and found.digest is None and entry.repository is None):
        what = "tag" if repository else "full name"
        raise _invalid(
            archive, f"{shown(str(entry))} has no {what}: --as REPOSITORY:TAG gives it one"
        )
    return Job(entry.descriptor, repository, tag)


def _parse(entry: Entry) -> ImageName:
    """Split an entry's name into its parts."""
    name = entry.name
    if entry.repository is not None:
        repository = RepositoryName(entry.repository)
        return ImageName(repository, (name and Tag(name.removeprefix(f"{repository}:"))) or None)
    return ImageName.parse(name, hub=entry.hub) if name is not None else ImageName()


def _without_pins(jobs: Iterable[Job]) -> list[Job]:
    """Return each job once; none by digest alone whose image has a tag in the same repository."""
    found = list(dict.fromkeys(jobs))
    tagged = {(job.repository, job.descriptor.digest) for job in found if job.tag}
    return [
        job for job in found if job.tag or (job.repository, job.descriptor.digest) not in tagged
    ]


def _attachments(
    archive: Archive, placed: Sequence[tuple[Entry, Job]], images: Sequence[Entry]
) -> list[Job]:
    """Return jobs for what cosign attaches to images, under the tags where it looks for them."""
    owners: dict[ImageName | None, list[Job]] = collections.defaultdict(list)
    for entry, job in placed:
        owners[_key(entry)].append(job)
    names = set(map(_key, images)) - {None}
    if len({entry.descriptor.digest for entry in images}) == 1:
        # NOTE: `cosign save` saves one image, and gives no names.
        names.add(None)
        owners[None] = [job for _, job in placed]
    found: list[Job] = []
    for entry in (entry for entry in archive.entries if entry.suffix):
        key = _key(entry)
        if key not in names:
            archive.skipped.append(f"{entry}, a {entry.suffix} of an image that is not there")
            continue
        for job in owners[key]:
            subject = job.descriptor.digest
            tag = Tag(f"{subject.algorithm}-{subject.encoded}{entry.suffix}")
            found.append(Job(entry.descriptor, job.repository, tag))
    return list(dict.fromkeys(found))


def _key(entry: Entry) -> ImageName | None:
    """Return what an entry has in common with what is attached to it; None for no name."""
    try:
        return _parse(entry) if entry.name else None
    except errors.InvalidReference:
        return None


def _check_distinct(archive: Archive, jobs: Iterable[Job]) -> None:
    known: dict[str, Digest] = {}
    for job in jobs:
        digest = known.setdefault(str(job), job.descriptor.digest)
        if digest != job.descriptor.digest:
            raise _invalid(
                archive, f"two images would be {job}: {digest} and " + str(job.descriptor.digest)
            )


# -- what belongs to what


class _Family:
    """Indexes and what they list, subjects and what refers to them."""

    def __init__(self, archive: Archive, images: Sequence[Entry]) -> None:
        self._archive = archive
        self._loose = [entry for entry in images if entry.name is None]
        self._subjects: dict[Digest, Digest | None] = {}
        self._below: dict[Digest, set[Digest]] = {}

    def belonging(self, entries: Sequence[Entry], others: Sequence[Entry]) -> set[Entry]:
        """Return those of ``entries`` that are part of one of ``others``, or refer to one.

        Or are one that has a name: what docker and containerd know by several.
        """
        if not entries:
            return set()
        below = {other.descriptor.digest for other in others if other.name is not None}
        whole: set[Digest] = set()
        for descriptor in (other.descriptor for other in others):
            below |= self._parts(descriptor) - {descriptor.digest}
            whole |= self._parts(descriptor)
        return {
            entry
            for entry in entries
            if entry.descriptor.digest in below or self._subject(entry) in whole
        }

    def followers(self, jobs: Sequence[Job], *, renamed: bool) -> list[Job]:
        """Return jobs for the unnamed entries that refer to images of ``jobs``."""
        if not self._loose:
            return []
        referring = collections.defaultdict(list)
        for entry in self._loose:
            referring[self._subject(entry)].append(entry)
        found: list[Job] = []
        pending = collections.deque(jobs)
        covered: dict[RepositoryName, set[Digest]] = collections.defaultdict(set)
        while pending:
            job = pending.popleft()
            new = self._parts(job.descriptor) - covered[job.repository]
            covered[job.repository] |= new
            for entry in (entry for digest in sorted(new) for entry in referring[digest]):
                at_home = renamed or entry.repository in (None, job.repository.value)
                if at_home and entry.descriptor.digest not in covered[job.repository]:
                    pending.append(Job(entry.descriptor, job.repository, None))
                    found.append(pending[-1])
        known = set(jobs)
        return [job for job in dict.fromkeys(found) if job not in known]

    def _subject(self, entry: Entry) -> Digest | None:
        digest = entry.descriptor.digest
        if digest not in self._subjects:
            subject = self._archive.fetch(entry.descriptor).subject
            self._subjects[digest] = subject.digest if subject else None
        return self._subjects[digest]

    def _parts(self, descriptor: Descriptor) -> set[Digest]:
        """Return the digests of an image and, for an index, of all that is in it."""
        digest = descriptor.digest
        if digest not in self._below:
            self._below[digest] = {part for _, part in self._archive.parts(descriptor)}
        return self._below[digest]


def _some(entries: Sequence[Entry]) -> str:
    names = ", ".join(shown(str(entry)) for entry in entries[:_LISTED])
    more = len(entries) - _LISTED
    return names + (f" and {more} more" if more > 0 else "")


def _invalid(archive: Archive, reason: str) -> errors.ArchiveInvalid:
    return errors.ArchiveInvalid(archive.files.path, reason)
