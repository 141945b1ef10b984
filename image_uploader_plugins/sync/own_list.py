# SPDX-License-Identifier: Apache-2.0
"""Our own lists of images: YAML that images.schema.json describes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from image_uploader_plugins import errors, files, units
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sync import listing, schema, validation
from image_uploader_plugins.sync.listing import ListedRules, Listing
from image_uploader_plugins.sync.semver_range import SemverRange
from image_uploader_plugins.sync.validation import naming
from image_uploader_plugins.sync.wanted import Entry, TagChoice
from image_uploader_plugins.sync.yaml_tree import (
    Mapping,
    Scalar,
    Sequence,
    Value,
    mapping,
    sequence,
)

_T = TypeVar("_T")

KEYS = ("images", "defaults", "registries")
"""The keys of such a list, by which it is known."""

_ALL = "all"
_FULL = "full"


def is_one(root: Value) -> bool:
    """Return whether a file has one of the keys of these lists."""
    return any(key in KEYS for key in mapping(root))


def read(name: str, root: Mapping, folder: Path) -> Listing:
    """Return what a list says; relative paths in it begin at ``folder``.

    Raises ConfigurationError, also for a file of a password that cannot be read.
    """
    validation.check(name, root, schema.loaded())
    defaults = mapping(root.get("defaults"))
    entries = [_entry(name, item, defaults) for item in sequence(root["images"])]
    registries = mapping(root.get("registries"))
    rules: dict[str, ListedRules] = {}
    for host, settings in registries.items():
        where = f"{name}:{registries.lines[host]}"
        with naming(where, "registries"):
            registry = listing.registry(host)
        if registry in rules:
            raise errors.ConfigurationError(f"{where}: registries: {registry} is here twice")
        found = _rules(name, f"registries.{registry}", mapping(settings), folder)
        rules[registry] = ListedRules(where, found)
    return Listing(entries, rules)


class _Reader:
    """The keys of one mapping of a file, read with the place of each in errors."""

    def __init__(self, name: str, path: str, keys: Mapping) -> None:
        self._name = name
        self._path = path
        self._keys = keys

    def all(self, key: str, parse: Callable[[str], _T]) -> tuple[_T, ...]:
        """Return what a text or a list of texts means, each once; nothing for no such key."""
        value = self._keys.get(key)
        texts: list[Any] = [value] if isinstance(value, Scalar) else list(value or ())
        return tuple(dict.fromkeys(self._parsed(key, text, parse) for text in texts))

    def one(self, key: str, parse: Callable[[str], _T]) -> _T | None:
        """Return what a text means, None for no such key."""
        return next(iter(self.all(key, parse)), None)

    def _parsed(self, key: str, text: Scalar, parse: Callable[[str], _T]) -> _T:
        with naming(f"{self._name}:{text.line}", f"{self._path}.{key}"):
            return parse(str(text))


def _entry(name: str, item: Value, defaults: Mapping) -> Entry:
    where = f"{name}:{item.line}"
    if isinstance(item, Scalar):
        with naming(where, "images"):
            return listing.named(where, str(item), **_settings(name, defaults))
    item = mapping(item)
    reader = _Reader(name, "images", item)
    (found,) = reader.all("repository", listing.repository)
    if not item.keys() & {"tags", "digests"}:
        raise errors.ConfigurationError(
            f"{where}: images: neither tags nor digests of {item['repository']}; say 'tags: all', "
            "or which"
        )
    own = Mapping()
    own.update({**defaults, **item})
    return Entry(
        where,
        *found,
        tags=_choice(name, item),
        digests=reader.all("digests", Digest),
        target=reader.one("target", RepositoryName),
        **_settings(name, own),
    )


def _settings(name: str, keys: Mapping) -> dict[str, Any]:
    """Return the fields of an entry that a list may have as its defaults."""
    reader = _Reader(name, "images", keys)
    found: dict[str, Any] = {}
    if keys.get("platforms", _ALL) != _ALL:
        found["platforms"] = reader.all("platforms", Platform.parse)
    referrers = keys.get("referrers")
    if isinstance(referrers, Sequence):
        found["referrers"], found["artifact_types"] = True, reader.all("referrers", str)
    elif isinstance(referrers, Scalar):
        found["referrers"] = referrers.boolean
    if "names" in keys:
        found["full_names"] = keys["names"] == _FULL
    if isinstance(mirror := keys.get("mirror"), Scalar):
        found["mirror"] = bool(mirror.boolean)
    return found


def _choice(name: str, item: Mapping) -> TagChoice:
    tags = item.get("tags")
    if tags == _ALL:
        return TagChoice(all=True)
    if not isinstance(tags, Mapping):
        return TagChoice(names=_Reader(name, "images", item).all("tags", Tag))
    reader = _Reader(name, "images.tags", tags)
    choice = TagChoice(
        names=reader.all("names", Tag),
        globs=reader.all("glob", str),
        regexes=reader.all("regex", listing.regex),
        semver=reader.one("semver", lambda text: SemverRange(text).text),
        newest=reader.one("newest", int),
        exclude=reader.all("exclude", str),
        all=tags.keys() == {"exclude"},
    )
    if choice.exclude and not choice.needs_list:
        raise errors.ConfigurationError(
            f"{name}:{tags.lines['exclude']}: images.tags.exclude: nothing to leave out: all tags "
            "are named"
        )
    return choice


def _rules(name: str, path: str, settings: Mapping, folder: Path) -> RegistryRules:
    reader = _Reader(name, path, settings)
    limits = _Reader(name, f"{path}.limits", mapping(settings.get("limits")))
    insecure = settings.get("insecure")
    return RegistryRules(
        insecure=insecure.boolean if isinstance(insecure, Scalar) else None,
        certs_dir=reader.one("certs_dir", folder.joinpath),
        username=reader.one("username", str),
        password=_password(reader, f"{name}:{settings.line}: {path}", settings, folder),
        mirrors=reader.all("mirrors", _mirror),
        requests_at_once=limits.one("requests_at_once", int) or 0,
        requests_per_minute=limits.one("requests_per_minute", int) or 0,
        bytes_per_second=limits.one("bytes_per_second", units.parse_size) or 0,
    )


def _password(reader: _Reader, where: str, settings: Mapping, folder: Path) -> str | None:
    ways = [key for key in ("password_file", "password_env") if key in settings]
    if len(ways) != ("username" in settings):
        raise errors.ConfigurationError(
            f"{where}: a login is a username with one of password_file and password_env"
        )
    found = [
        *reader.all("password_file", lambda text: _first_line(folder / text)),
        *reader.all("password_env", _variable),
    ]
    return found[0] if found else None


def _first_line(path: Path) -> str:
    # NOTE: neither the path nor a variable's name is repeated: somebody may write the password
    # itself there.
    try:
        return files.text(path).partition("\n")[0]
    except errors.ConfigurationError as e:
        raise errors.ConfigurationError(f"cannot read the file: {_reason(e)}") from None


def _reason(error: errors.ConfigurationError) -> str:
    cause = error.__cause__
    return (cause.strerror or "") if isinstance(cause, OSError) else "it is no text"


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise errors.ConfigurationError("there is no such variable in the environment")
    return value


def _mirror(text: str) -> str:
    host, slash, path = (text, "", "") if "://" in text else text.partition("/")
    return listing.registry(host) + slash + (str(RepositoryName(path)) if slash else "")
