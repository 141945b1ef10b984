# SPDX-License-Identifier: Apache-2.0
"""Lists of referrers: for each manifest of a repository, those that have it as subject.

Source: OCI distribution-spec 1.1, "Listing Referrers". Every descriptor must
have the annotations of its manifest, and clients read no index of more than 4
MiB. Where both are not possible, all referrers are listed, and those with the
longest annotations are listed without them.
"""

from __future__ import annotations

import collections
import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from image_uploader_plugins import errors, manifest, strict_json
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.storage import Writer, failed

ALL = "all"

_Entry = Mapping[str, Any]

# NOTE: the web servers' configurations split the filter in the same way. For any
# other type they send the whole list, without the header OCI-Filters-Applied.
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
_TYPE = re.compile(rf"({_WORD})/({_WORD})(?:\+({_WORD}))?")
# RFC 6838, 4.2: two names of up to 127 letters; a longer one is not a media type.
_TYPE_LIMIT = 255


def by_subject(manifests: Mapping[Digest, Manifest]) -> Mapping[Digest, Mapping[Digest, Manifest]]:
    """Return those of the manifests that refer to others, by these subjects."""
    found: dict[Digest, dict[Digest, Manifest]] = collections.defaultdict(dict)
    for digest, parsed in manifests.items():
        if parsed.subject:
            found[parsed.subject.digest][digest] = parsed
    return found


class Referrers:
    """The lists of one repository; callers hold its lock for every method that writes.

    ``read`` returns a manifest of the repository by its digest, or raises an
    UploaderError.
    """

    def __init__(
        self,
        storage: Writer,
        repository: RepositoryLayout,
        read: Callable[[Digest], Manifest],
    ) -> None:
        self._storage = storage
        self._layout = repository
        self._read_manifest = read

    def check(self, parsed: Manifest, digest: Digest) -> None:
        """Raise StorageFull for a manifest with which its subject's list would be too long.

        Too long is more than manifest.SIZE_LIMIT bytes, without any
        annotations.
        """
        if parsed.subject is None:
            return
        subject = parsed.subject.digest
        entries: dict[str, _Entry] = {}
        with contextlib.suppress(ValueError):
            entries = self._listed(subject)
        entries[digest.value] = entry(parsed, digest)
        size = len(documents.index(map(_bare, entries.values())))
        if size > manifest.SIZE_LIMIT:
            raise errors.StorageFull(
                self._storage.root / self._layout.referrers_of(subject) / ALL,
                f"the list would have {size} bytes, the limit is {manifest.SIZE_LIMIT}",
            )

    def add(self, parsed: Manifest, digest: Digest) -> bool:
        """List a manifest with its subject, if it has one.

        Returns False if the list that is there cannot be read, and must be
        rebuilt.
        """
        if parsed.subject is None:
            return True
        subject = parsed.subject.digest
        try:
            entries = {name: self._whole(d) for name, d in self._listed(subject).items()}
        except (errors.UploaderError, ValueError) as e:
            if isinstance(e, errors.StorageError) and failed(e):
                raise
            return False
        self._write(subject, {**entries, digest.value: entry(parsed, digest)}.values())
        return True

    def _listed(self, subject: Digest) -> dict[str, _Entry]:
        """Return the entries of a subject's list, by digest; raise ValueError if it is damaged."""
        path = self._layout.referrers_of(subject) / ALL
        if not self._storage.file(path):
            return {}
        try:
            fields = strict_json.load_leniently(self._storage.read(path))
            entries: list[_Entry] = fields["manifests"]
            return {Digest(e["digest"]).value: e for e in entries if _checked(e)}
        except (KeyError, TypeError) as e:
            raise ValueError(f"no list of referrers: {path}") from e

    def _whole(self, described: _Entry) -> _Entry:
        """Return an entry with the annotations that it may have lost."""
        if described.get("annotations") != {}:
            return described
        digest = Digest(described["digest"])
        return entry(self._read_manifest(digest), digest)

    def rebuild(self, manifests: Mapping[Digest, Manifest]) -> None:
        """Write all lists, with exactly these manifests."""
        found = by_subject(manifests)
        self.keep(found.keys(), found)

    def keep(
        self, subjects: Collection[Digest], changed: Mapping[Digest, Mapping[Digest, Manifest]]
    ) -> None:
        """Remove the lists of all manifests but these subjects.

        Those of ``changed`` are written, each with exactly these referrers.
        """
        for subject in sorted(changed):
            self._write(subject, [entry(m, digest) for digest, m in changed[subject].items()])
        for name in sorted(self._storage.names(self._layout.referrers)):
            if layout.folder_digest(name) not in subjects:
                self._storage.remove_tree(self._layout.referrers / name)

    def subjects(self) -> set[str]:
        """Return the manifests, by their digests as texts, that lists of referrers are for."""
        try:
            return set(self._storage.names(self._layout.referrers))
        except errors.StorageError as e:
            if failed(e):
                raise
            return set()  # something else is in their place

    def clear(self) -> None:
        """Remove all lists of referrers."""
        self._storage.remove_tree(self._layout.referrers)

    def _write(self, subject: Digest, entries: Iterable[_Entry]) -> None:
        texts = {PurePosixPath(name): text for name, text in listings(entries).items()}
        folder = self._layout.referrers_of(subject)
        for name in sorted(texts):
            self._storage.write(folder / name, texts[name])
        for other in sorted(self._storage.names(folder)):
            if PurePosixPath(other) not in texts:
                self._storage.unlink(folder / other)


def entry(parsed: Manifest, digest: Digest) -> _Entry:
    """Return the entry of a referrer in its subject's list."""
    artifact_type = parsed.artifact_type or (parsed.config.media_type if parsed.config else None)
    described = Descriptor(
        parsed.media_type, digest, len(parsed.content), artifact_type=artifact_type or None
    )
    annotations = {"annotations": dict(parsed.annotations)} if parsed.annotations else {}
    return described.as_dict() | annotations


def _checked(described: _Entry) -> bool:
    texts = (described["digest"], described.get("artifactType", ""))
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("not a descriptor")
    return True


def _bare(described: _Entry) -> _Entry:
    """Return an entry without annotations and overlong type, and with a mark of what is lost."""
    lost: dict[str, Any] = {"annotations": {}} if "annotations" in described else {}
    if len(described.get("artifactType", "")) > _TYPE_LIMIT:
        lost["annotations"] = {}
        described = {name: value for name, value in described.items() if name != "artifactType"}
    return {**described, **lost}


def _text(entries: Iterable[_Entry]) -> bytes:
    """Return the index of these entries; the longest without annotations if it is too long."""
    fitted = {str(described["digest"]): described for described in entries}
    text = documents.index(fitted.values())
    surplus = len(text) - manifest.SIZE_LIMIT
    if surplus <= 0:
        return text
    saved = {name: _saved(described) for name, described in fitted.items()}
    for name in sorted(saved, key=lambda name: (-saved[name], name)):
        if surplus > 0:
            fitted[name] = _bare(fitted[name])
            surplus -= saved[name]
    return documents.index(fitted.values())


def _saved(described: _Entry) -> int:
    return len(documents.index([described])) - len(documents.index([_bare(described)]))


def listings(entries: Iterable[_Entry]) -> dict[str, bytes]:
    """Return the index of all entries, and one for each artifact type, by file name."""
    named: dict[str, list[_Entry]] = collections.defaultdict(list)
    for described in sorted(entries, key=lambda described: str(described["digest"])):
        named[ALL].append(described)
        name = file_name(described.get("artifactType"))
        if name:
            named[name].append(described)
    return {name: _text(described) for name, described in named.items()}


def file_name(artifact_type: str | None) -> str | None:
    """Return the file that lists an artifact type; None for a type that cannot be filtered by."""
    match = _TYPE.fullmatch(artifact_type or "")
    return "+".join(part for part in match.groups() if part) if match else None
