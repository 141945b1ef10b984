# SPDX-License-Identifier: Apache-2.0
"""The lists of ``skopeo sync --src yaml``.

Source: skopeo-sync(1).  Keys that skopeo would ignore are errors here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.image_name import is_registry
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sync import listing, validation
from image_uploader_plugins.sync.listing import ListedRules, Listing
from image_uploader_plugins.sync.semver_range import SemverRange
from image_uploader_plugins.sync.validation import naming
from image_uploader_plugins.sync.wanted import Entry, TagChoice
from image_uploader_plugins.sync.yaml_tree import Mapping, Scalar, Value, mapping

_TEXTS = {
    "title": "repositories, each with a text",
    "type": "object",
    "additionalProperties": {"title": "a text", "type": "string"},
}
_PARTS = ("images", "images-by-tag-regex", "images-by-semver")
_SCHEMA: dict[str, Any] = {
    "title": "registries, each with its images",
    "type": "object",
    "additionalProperties": {
        "title": "a mapping with images",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "images": {
                "title": "repositories, each with its tags",
                "type": "object",
                "additionalProperties": {
                    "title": "a list of tags and digests",
                    "type": ["array", "null"],
                    "items": {"title": "a tag or a digest", "type": "string"},
                },
            },
            "images-by-tag-regex": _TEXTS,
            "images-by-semver": _TEXTS,
            "credentials": {
                "title": "username and password",
                "type": "object",
                "additionalProperties": False,
                "required": ["username", "password"],
                "properties": {
                    "username": {"title": "a name of a user", "type": "string"},
                    "password": {"title": "a text", "type": "string"},
                },
            },
            "tls-verify": {"title": "true or false", "type": "boolean"},
            "cert-dir": {"title": "a folder", "type": "string"},
        },
    },
}
_FLAGS = re.compile(r"\(\?([ims]+)\)")


def is_one(root: Value) -> bool:
    """Return whether a file has registries alone, or what has the keys of this format."""
    found = mapping(root)
    return bool(found) and all(
        is_registry(key.lower()) or any(part in mapping(value) for part in _PARTS)
        for key, value in found.items()
    )


def read(name: str, root: Mapping) -> Listing:
    """Return what a list says; raises ConfigurationError."""
    validation.check(name, root, _SCHEMA)
    entries: list[Entry] = []
    rules: dict[str, ListedRules] = {}
    for host, settings in root.items():
        where = f"{name}:{root.lines[host]}"
        with naming(where, "registry"):
            registry = listing.registry(host)
        if registry in rules:
            raise errors.ConfigurationError(f"{where}: {registry} is here twice")
        rules[registry] = ListedRules(where, _rules(mapping(settings)))
        entries += _entries(name, host, mapping(settings))
    return Listing(entries, rules)


def _entries(name: str, host: str, settings: Mapping) -> Iterator[Entry]:
    for part in _PARTS:
        repositories = mapping(settings.get(part))
        for repository, value in repositories.items():
            where = f"{name}:{repositories.lines[repository]}"
            with naming(where, part):
                found = listing.repository(f"{host}/{repository}")
                yield Entry(where, *found, **_wanted(part, value))


def _wanted(part: str, value: Value) -> dict[str, Any]:
    """Return the tags and digests of an entry; raises InvalidReference."""
    if isinstance(value, Scalar) and part == "images-by-tag-regex":
        return {"tags": TagChoice(regexes=(_whole(str(value)),))}
    if isinstance(value, Scalar) and part == "images-by-semver":
        return {"tags": TagChoice(semver=SemverRange(str(value)).text)}
    texts = [] if isinstance(value, Scalar) else [str(text) for text in value]
    if not texts:
        return {"tags": TagChoice(all=True)}
    return {
        "tags": TagChoice(names=tuple(Tag(text) for text in texts if ":" not in text)),
        "digests": tuple(Digest(text) for text in texts if ":" in text),
    }


def _whole(text: str) -> str:
    """Return an expression for whole tags from one that skopeo looks for anywhere in a tag."""
    flags = _FLAGS.match(text)
    rest = text[flags.end() :] if flags else text
    inner = f"(?{flags[1]}:{rest})" if flags else f"(?:{rest})"
    listing.regex(rest)
    return f".*{inner}.*"


def _rules(settings: Mapping) -> RegistryRules:
    login = mapping(settings.get("credentials"))
    verify = settings.get("tls-verify")
    folder = settings.get("cert-dir")
    return RegistryRules(
        insecure=not verify.boolean if isinstance(verify, Scalar) else None,
        certs_dir=Path(folder) if isinstance(folder, Scalar) else None,
        username=str(login["username"]) if login else None,
        password=str(login["password"]) if login else None,
    )
