# SPDX-License-Identifier: Apache-2.0
"""The lists of ``image-uploader upload``: container_images, uploads, or a list of names."""

from __future__ import annotations

import dataclasses
from typing import Any

from image_uploader_plugins import errors, files
from image_uploader_plugins.copying.job import LOCAL
from image_uploader_plugins.lists import keys
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.sync import listing
from image_uploader_plugins.sync.listing import Listing
from image_uploader_plugins.sync.validation import naming
from image_uploader_plugins.sync.wanted import Entry
from image_uploader_plugins.sync.yaml_tree import Mapping, Scalar, Sequence, Value

# What an entry may say that needs more than copying, or is the run's alone.
_UPLOADS = ("uploader", "modify_role", "modify_append_tag", "foreign_layers")
_DEFAULT_PLATFORM = Platform.parse("linux/amd64")


def is_one(root: Value) -> bool:
    """Return whether a file has the form of these lists."""
    return isinstance(root, Sequence) or (
        isinstance(root, Mapping) and any(key in root for key in files.LISTS)
    )


def read(name: str, root: Value) -> Listing:
    """Return what a list says; raises ConfigurationError, also for what upload alone can do."""
    sections = _sections(root) if isinstance(root, Mapping) else [root]
    items: list[Value] = []
    for section in sections:
        if not isinstance(section, Sequence):
            raise errors.ConfigurationError(f"{name}:{section.line}: must be a list of images")
        items += section
    return Listing([_entry(name, item) for item in items])


def _sections(root: Mapping) -> list[Value]:
    found = [root[key] for key in files.LISTS if key in root]
    return [each for each in found if not (isinstance(each, Scalar) and each.is_null)]


def _entry(name: str, item: Value) -> Entry:
    where = f"{name}:{item.line}"
    if isinstance(item, Scalar):
        with naming(where, "image"):
            return listing.named(where, str(item))
    fields = _fields(item) if isinstance(item, Mapping) else {}
    if not isinstance(fields.get("imagename"), str):
        hint = " (one with a repository belongs below 'images:')" if "repository" in fields else ""
        raise errors.ConfigurationError(
            f"{where}: an image must be a name, or a mapping with an imagename{hint}"
        )
    for key in _UPLOADS:
        if fields.get(key):
            raise errors.ConfigurationError(
                f"{where}: {key}: sync has no such thing; image-uploader upload does that"
            )
    fields = keys.mended(fields, where)
    with naming(where, "imagename"):
        return _named(where, fields)


def _fields(item: Mapping) -> dict[str, Any]:
    """Return the keys of an entry with booleans as YAML has them, and without nulls."""
    found: dict[str, Any] = {}
    for key, value in item.items():
        if not isinstance(value, Scalar):
            found[key] = value
        elif not value.is_null:
            found[key] = str(value) if value.boolean is None else value.boolean
    return found


def _named(where: str, fields: dict[str, Any]) -> Entry:
    text = fields["imagename"]
    if text.startswith(LOCAL):
        raise errors.InvalidReference(f"{LOCAL} is not read by sync; image-uploader upload does")
    settings: dict[str, Any] = {}
    if fields.get("multi_arch") is False:
        settings["platforms"] = (_DEFAULT_PLATFORM,)
    if "signatures" in fields:
        settings["referrers"] = fields["signatures"]
    wishes = keys.wishes(fields)
    settings |= {name: wishes[name] for name in ("platforms", "artifact_types") if wishes.get(name)}
    if "full_names" in wishes:
        settings["full_names"] = wishes["full_names"]
    source = f"{fields['pull_source'].rstrip('/')}/" if fields.get("pull_source") else ""
    entry = listing.named(where, source + text, **settings)
    return _in_namespace(entry, fields.get("push_destination"))


def _in_namespace(entry: Entry, destination: object) -> Entry:
    """Return an entry whose target is in the namespace of a push_destination, if that has one."""
    namespace = destination.partition("/")[2] if isinstance(destination, str) else ""
    if not namespace:
        return entry
    if entry.full_names:
        raise errors.InvalidReference(
            "names: full, and a namespace in push_destination: sync has one of them at a time"
        )
    target = RepositoryName(f"{namespace}/{entry.repository}")
    return dataclasses.replace(entry, target=target)
