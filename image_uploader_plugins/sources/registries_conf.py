# SPDX-License-Identifier: Apache-2.0
"""The registries that containers' registries.conf describes, and their mirrors.

Source: containers-registries.conf(5).
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from image_uploader_plugins.sources.image_name import is_address
from image_uploader_plugins.text import shown

LOG = logging.getLogger(__name__)

REGISTRIES_CONF = Path("/etc/containers/registries.conf")

_PULLS = {"all": (True, True), "tag-only": (True, False), "digest-only": (False, True)}


class ConfMirror(NamedTuple):
    """A mirror at ``location``, which is asked for tags, for digests, or for both."""

    location: str
    insecure: bool
    by_tag: bool
    by_digest: bool


class ConfRegistry(NamedTuple):
    """The words of ``file`` about the images whose names begin with ``prefix``.

    A prefix is a registry with maybe a path, or ``*.`` and a domain for the
    registries below it.  ``location`` takes its place, unless it is "".
    """

    file: Path
    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[ConfMirror, ...]

    def length(self, image: str) -> int:
        """Return how many characters of a name, ``registry/repository``, the prefix stands for.

        0 where it is not about that image.
        """
        if self.prefix.startswith("*."):
            registry = image.partition("/")[0]
            return len(registry) if registry.endswith(self.prefix[1:]) else 0
        fits = image == self.prefix or image.startswith(f"{self.prefix}/")
        return len(self.prefix) if fits else 0


class RegistriesConf:
    """The files of this machine, or those that ``named`` or ``environment`` name; read once.

    What is broken in them is passed over, with a warning.
    """

    def __init__(
        self, named: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._named = named
        self._environment = dict(os.environ if environment is None else environment)

    @functools.cached_property
    def _contents(self) -> list[tuple[Path, dict[str, Any]]]:
        files = _files(self._named, self._environment)
        return [(file, _content(file)) for file in files]

    @functools.cached_property
    def _registries(self) -> list[ConfRegistry]:
        return [found for file, content in self._contents for found in _registries(file, content)]

    @functools.cached_property
    def insecure(self) -> frozenset[str]:
        """The registries, ``host[:port]`` or ``*.domain``, that need not be verified."""
        # For the same registry, a later file replaces the settings of an earlier one.
        said: dict[str, bool] = {}
        for file, content in self._contents:
            for registry in _registries(file, content):
                said.update(_insecure(registry))
            said.update(dict.fromkeys(_insecure_in_version_1(content), True))
        return frozenset(name for name, is_insecure in said.items() if is_insecure)

    def find(self, image: str) -> ConfRegistry | None:
        """Return what is said of an image, ``registry/repository``: the longest prefix counts."""
        # For the same prefix, a later file replaces what an earlier one says.
        known = {registry.prefix: registry for registry in self._registries}
        fitting = [registry for registry in known.values() if registry.length(image)]
        return max(fitting, key=lambda registry: len(registry.prefix), default=None)


def _files(named: Path | None, environment: Mapping[str, str]) -> list[Path]:
    """Return the files, what counts more later."""
    explicit = named or environment.get("CONTAINERS_REGISTRIES_CONF")
    if explicit:
        return _with_beside(Path(explicit))
    home = Path(environment.get("HOME") or "/nonexistent")
    config = environment.get("XDG_CONFIG_HOME")
    own = (Path(config) if config else home / ".config") / "containers" / REGISTRIES_CONF.name
    if os.access(own, os.R_OK):
        return _with_beside(own)
    return [*_with_beside(REGISTRIES_CONF), *_with_beside(own)]


def _with_beside(path: Path) -> list[Path]:
    return [path, *sorted(path.with_name(path.name + ".d").glob("*.conf"))]


def _content(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        # Many machines have no such file.
        import tomllib  # noqa: PLC0415

        return tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, ValueError) as e:
        LOG.warning("%s is passed over: %s", file, e)
        return {}


def _registries(file: Path, content: dict[str, Any]) -> Iterator[ConfRegistry]:
    for entry in _tables(content.get("registry")):
        location, prefix = _text(entry, "location"), _text(entry, "prefix")
        if not location and not prefix:
            continue
        is_wild = prefix.startswith("*.")
        yield ConfRegistry(
            file,
            prefix or location,
            location or ("" if is_wild else prefix),
            entry.get("insecure") is True,
            entry.get("blocked") is True,
            tuple(_mirrors(file, entry)),
        )


def _mirrors(file: Path, entry: dict[str, Any]) -> Iterator[ConfMirror]:
    only_digests = entry.get("mirror-by-digest-only") is True
    for mirror in _tables(entry.get("mirror")):
        location = _text(mirror, "location")
        pulls = _PULLS.get(mirror.get("pull-from-mirror", "all"))
        if pulls is None or not is_address(location.partition("/")[0]):
            LOG.warning("%s: a mirror is passed over: %s", file, shown(mirror))
            continue
        by_tag, by_digest = pulls
        insecure = mirror.get("insecure") is True
        yield ConfMirror(location, insecure, by_tag and not only_digests, by_digest)


def _insecure(registry: ConfRegistry) -> Iterator[tuple[str, bool]]:
    """Yield the registry that an entry is about, and whether it is insecure."""
    name = registry.location or registry.prefix
    if "/" not in name:
        yield name, registry.insecure
    elif registry.insecure:
        LOG.warning(
            "%s: %s is passed over, a registry is insecure as a whole: name it without a path",
            *(registry.file, shown(name)),
        )


def _insecure_in_version_1(content: dict[str, Any]) -> Iterator[str]:
    """Yield the insecure registries in files of version 1, which deployments still have."""
    tables = content.get("registries")
    table = tables.get("insecure") if isinstance(tables, dict) else None
    names = table.get("registries") if isinstance(table, dict) else None
    for name in names if isinstance(names, list) else []:
        if isinstance(name, str):
            yield name.lower()


def _tables(value: object) -> list[dict[str, Any]]:
    found = value if isinstance(value, list) else []
    return [table for table in found if isinstance(table, dict)]


def _text(table: dict[str, Any], name: str) -> str:
    """Return a registry with maybe a path, "" for anything else."""
    value = table.get(name)
    if not isinstance(value, str):
        return ""
    registry, slash, path = value.strip().rstrip("/").partition("/")
    return registry.lower() + slash + path
