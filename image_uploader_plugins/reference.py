# SPDX-License-Identifier: Apache-2.0
"""Names of repositories, tags and images.

Source: OCI distribution-spec 1.1, "Pulling manifests" (the grammars of
``<name>`` and ``<reference>``).
"""

from __future__ import annotations

import dataclasses
import re

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.text import shown

_SEGMENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST_AND_PORT = re.compile(r"[^/]*:\d+/")

# NOTE: the registry API and the served tree use these as path segments of
# their own; a repository of that name would shadow another repository's API.
RESERVED_SEGMENTS = frozenset({"blobs", "manifests", "tags", "referrers"})

# Signatures and the like by tag: OCI distribution-spec 1.1, "Referrers Tag
# Schema", which cuts a digest after 64 characters, and cosign's, which adds a
# suffix for the kind.
_ATTACHED = re.compile(r"(sha256|sha512)-([0-9a-f]{64})(?:\..+)?")

# NOTE: registries and clients limit <name> to 255 characters; a segment is a
# directory, which most file systems limit to the same.
_NAME_LIMIT = 255


@dataclasses.dataclass(frozen=True, order=True)
class RepositoryName:
    """The name of a repository: ``segment[/segment]...``, any depth, no host.

    Raises InvalidReference for a name outside the grammar, of more than 255
    characters, or with a segment that the registry API itself uses.
    """

    value: str

    def __post_init__(self) -> None:
        if (
            not isinstance(self.value, str)
            or len(self.value) > _NAME_LIMIT
            or not _NAME.fullmatch(self.value)
        ):
            raise errors.InvalidReference(f"not a repository name: {shown(self.value)}")
        reserved = RESERVED_SEGMENTS.intersection(self.value.split("/"))
        if reserved:
            raise errors.InvalidReference(
                f"repository name {self.value!r} has a segment the registry API reserves: "
                + ", ".join(sorted(reserved))
            )

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True, order=True)
class Tag:
    """A tag: up to 128 letters, digits, ``_``, ``.`` and ``-``.

    Raises InvalidReference for anything else.
    """

    value: str

    def __post_init__(self) -> None:
        if not isinstance(self.value, str) or not _TAG.fullmatch(self.value):
            raise errors.InvalidReference(f"not a tag: {shown(self.value)}")

    def __str__(self) -> str:
        return self.value


def is_tag(text: str) -> bool:
    """Return whether a text is a tag."""
    return _TAG.fullmatch(text) is not None


def is_attached(tag: str) -> bool:
    """Return whether a tag is, by its name, that of what signs or describes an image."""
    return _ATTACHED.fullmatch(tag) is not None


def attached_to(tag: Tag) -> Digest | None:
    """Return the digest of the manifest that a tag's name says it signs or describes, if any.

    None where the name has not all of it, as that of a sha512 digest.
    """
    match = _ATTACHED.fullmatch(tag.value)
    try:
        return Digest(f"{match[1]}:{match[2]}") if match else None
    except errors.InvalidReference:
        return None


@dataclasses.dataclass(frozen=True)
class ImageRef:
    """One image: a repository, and a tag or a digest in it."""

    repository: RepositoryName
    reference: Tag | Digest

    @classmethod
    def parse(cls, text: str) -> ImageRef:
        """Return the image of ``[host:port/]name:tag``, ``name@digest`` or ``name:tag@digest``.

        A digest takes precedence over a tag beside it. A host is recognised by
        its port and dropped: a target has no host. Raises InvalidReference,
        also when there is neither a tag nor a digest: no default is assumed.
        """
        whole, digest = split_digest(text)
        name, colon, tag = _HOST_AND_PORT.sub("", whole, count=1).partition(":")
        if not digest and not colon:
            raise errors.InvalidReference(f"neither a tag nor a digest in {shown(text)}")
        references: list[Tag | Digest] = [Tag(tag)] if colon else []
        if digest:
            references.append(digest)
        return cls(RepositoryName(name), references[-1])

    def __str__(self) -> str:
        separator = "@" if isinstance(self.reference, Digest) else ":"
        return f"{self.repository}{separator}{self.reference}"


def split_digest(text: str) -> tuple[str, Digest | None]:
    """Return the text before ``@`` and the digest after it; None without ``@``.

    Raises InvalidReference for anything else after ``@``. The error does not
    repeat ``text``, which may contain a user and a password before the host of
    a name.
    """
    name, at, rest = text.partition("@")
    if at and not rest.startswith(("sha256:", "sha512:")):
        raise errors.InvalidReference(
            "what follows '@' in the image's name is no sha256 or sha512 digest; a user and a "
            "password do not belong into a name"
        )
    return name, Digest(rest) if at else None
