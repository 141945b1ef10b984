"""What the images of an archive are called where they go to."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import re
from collections.abc import Iterable, Sequence

from image_uploader_plugins import errors
from image_uploader_plugins.archives.source import Archive, Entry
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.text import shown

_HOST = re.compile(
    r"localhost|(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+|[A-Za-z0-9.-]+:\d+|\[[0-9A-Fa-f:]+\](?::\d+)?"
)
_LISTED = 5  # of many, in a message


@dataclasses.dataclass(frozen=True)
class Job:
    """An image, where it goes, and what it is to be called there, if anything."""

    descriptor: Descriptor
    repository: RepositoryName
    tag: Tag | None

    def __str__(self) -> str:
        if self.tag:
            return f"{self.repository}:{self.tag}"
        return f"{self.repository}@{self.descriptor.digest}"


@dataclasses.dataclass(frozen=True)
class Name:
    """What ``--as`` says; without a tag each image keeps its own."""

    repository: RepositoryName
    tag: Tag | None = None

    @classmethod
    def parse(cls, text: str) -> Name:
        """Read ``repository[:tag]``; raises InvalidReference."""
        repository, colon, tag = text.partition(":")
        return cls(RepositoryName(repository), Tag(tag) if colon else None)


def plan(archive: Archive, patterns: Sequence[str] = (), name: Name | None = None) -> list[Job]:
    """Names for the images that match one of ``patterns`` (default: all), and what goes along.

    Those are the unnamed ones that refer to them.  Raises ImageUnknown for a
    pattern that nothing matches, and ArchiveInvalid for an image without a
    name, for two of one name, and for ``name`` with a tag where there are
    several.
    """
    chosen = _choose(archive, patterns)
    family = _Family(archive)
    belonging = family.belonging([e for e in chosen if not _is_placed(e, name)], chosen)
    roots = [e for e in chosen if e not in belonging]
    if name and name.tag and len({entry.descriptor.digest for entry in roots}) > 1:
        raise _invalid(archive, f"--as names one image, and there are {_some(roots)}")
    jobs = list(dict.fromkeys(_job(archive, entry, name) for entry in roots))
    _check_distinct(archive, jobs)
    return jobs + family.followers(jobs, renamed=name is not None)


def _choose(archive: Archive, patterns: Sequence[str]) -> list[Entry]:
    if not archive.entries:
        raise _invalid(archive, "lists no image")
    for pattern in patterns:
        if not any(_matches(entry, pattern) for entry in archive.entries):
            raise errors.ImageUnknown(
                f"{archive.files.path}: no image {shown(pattern)}, but {_some(archive.entries)}"
            )
    return [e for e in archive.entries if not patterns or any(_matches(e, p) for p in patterns)]


def _matches(entry: Entry, pattern: str) -> bool:
    texts = {entry.name or "", _without_host(entry.name or ""), entry.descriptor.digest.value}
    return any(fnmatch.fnmatchcase(text, pattern) for text in texts)


# -- names


def _is_placed(entry: Entry, name: Name | None) -> bool:
    """Whether an entry says itself where it belongs."""
    return entry.name is not None or (entry.repository is not None and name is None)


def _job(archive: Archive, entry: Entry, name: Name | None) -> Job:
    try:
        repository, tag = _parse(entry)
    except errors.InvalidReference as e:
        raise _invalid(archive, f"{shown(str(entry))}: {e}") from e
    if name:
        repository, tag = name.repository, name.tag or tag
    if repository is None or (tag is None and entry.repository is None):
        what = "tag" if repository else "full name"
        raise _invalid(
            archive, f"{shown(str(entry))} has no {what}: --as REPOSITORY:TAG gives it one"
        )
    return Job(entry.descriptor, repository, tag)


def _parse(entry: Entry) -> tuple[RepositoryName | None, Tag | None]:
    """The parts that an entry's name has."""
    name = entry.name
    if entry.repository is not None:
        repository = RepositoryName(entry.repository)
        tag = None if name is None else Tag(name.removeprefix(f"{repository}:"))
        return repository, tag
    if name is None:
        return None, None
    found = _without_host(name)
    if ":" in found or "@" in found:
        reference = ImageRef.parse(found)
        tag = reference.reference if isinstance(reference.reference, Tag) else None
        return reference.repository, tag
    return None, Tag(found) if "/" not in found else None


def _without_host(name: str) -> str:
    """A name as a target has it.

    Source: Docker's grammar of image names, where a first segment with a dot
    or a port is a host, and so is ``localhost``.
    """
    first, _, rest = name.partition("/")
    return rest if rest and _HOST.fullmatch(first) else name


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

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._loose = [entry for entry in archive.entries if entry.name is None]
        self._subjects: dict[Digest, Digest | None] = {}
        self._below: dict[Digest, set[Digest]] = {}

    def belonging(self, entries: Sequence[Entry], others: Iterable[Entry]) -> set[Entry]:
        """Those of ``entries`` that are part of one of ``others``, or refer to one."""
        if not entries:
            return set()
        below: set[Digest] = set()
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
        """Jobs for the unnamed entries that refer to what ``jobs`` bring somewhere."""
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
        """The digests of an image and, for an index, of all that is in it."""
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
