# SPDX-License-Identifier: Apache-2.0
"""One list of images as it was read, of whatever format."""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import Any, NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.sources.image_name import ImageName, canonical, is_address
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sync.wanted import Entry, TagChoice
from image_uploader_plugins.text import shown


class ListedRules(NamedTuple):
    """The rules that a list has for a registry, at ``where``."""

    where: str
    rules: RegistryRules


@dataclasses.dataclass(frozen=True)
class Listing:
    """The entries of one list, and its rules by the names of registries."""

    entries: list[Entry]
    registries: dict[str, ListedRules] = dataclasses.field(default_factory=dict)


def named(where: str, text: str, **settings: Any) -> Entry:
    """Return the entry of one name of an image; raises InvalidReference.

    ``settings`` are further fields of the entry.
    """
    image = ImageName.parse(text)
    fields: dict[str, Any] = {"where": where, "registry": image.registry}
    if image.tag:
        fields["tags"] = TagChoice(names=(image.tag,))
        fields["pins"] = {image.tag: image.digest} if image.digest else {}
    elif image.digest:
        fields["digests"] = (image.digest,)
    return Entry(repository=image.repository, **fields, **settings)


def repository(text: str) -> tuple[str, RepositoryName]:
    """Return a repository's registry and name; raises InvalidReference, also for a tag in it."""
    if "@" in text or ":" in text.rpartition("/")[2]:
        raise errors.InvalidReference(
            "a repository has no tag, digest or user in its name; tags and digests have keys of "
            "their own"
        )
    name = ImageName.parse(text)
    return name.registry, name.repository


def registry(text: str) -> str:
    """Return a registry as names of images have it; raises InvalidReference."""
    if not is_address(text.lower()):
        raise errors.InvalidReference(f"not a registry, host or host:port: {shown(text, 50)}")
    return canonical(text.lower())


def regex(text: str) -> str:
    """Return a regular expression that is one; raises InvalidReference."""
    try:
        with warnings.catch_warnings():
            # NOTE: of "[[:digit:]]", which is a class in Go and something else in Python.
            warnings.simplefilter("error", FutureWarning)
            re.compile(text)
    except (re.error, FutureWarning, OverflowError, RecursionError) as e:
        raise errors.InvalidReference(f"not a regular expression: {shown(text, 50)}: {e}") from e
    return text
