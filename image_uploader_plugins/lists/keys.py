# SPDX-License-Identifier: Apache-2.0
"""The keys of an entry and their values, in ContainerImagePrepare and in lists of images.

Heat and quotes make strings of booleans, so "true" and "false" are read as
what they mean; whatever else a key cannot mean is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from image_uploader_plugins import errors
from image_uploader_plugins.copying.run_options import (
    CopyOptions,
    read_artifact_types,
    read_platforms,
)
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.sources.image_name import is_registry
from image_uploader_plugins.text import did_you_mean, shown

# The options of a run that an entry can set for itself.
OPTIONS = ("signatures", "foreign_layers")
WISHES = (*OPTIONS, "platforms", "artifact_types", "names")

PUSHING = "python"
"""The uploader that is tripleo-common's own: it pushes to a registry."""

_FULL = "full"
# What tripleo-common's own push cannot do, of CopyOptions, and what helps.
_NOT_PUSHED = {
    "full_names": ("give full names", "say 'names: path' there"),
    "platforms": ("choose platforms", "say 'multi_arch' there"),
    "artifact_types": ("choose types of artifacts", "leave them out"),
}
_NAMES = (_FULL, "path")
_TEXTS = ("pull_source", "tag_from_label", "modify_role", "modify_append_tag")
_LISTS = ("includes", "excludes", "modify_only_with_labels", "modify_only_with_source")
_BOOLEANS = {"true": True, "false": False}


def mended(entry: dict[str, Any], where: str) -> dict[str, Any]:
    """Return an entry whose keys are what they mean; raises ConfigurationError with ``where``."""
    found = dict(entry)
    for name in ("multi_arch", *OPTIONS):
        if found.get(name) is None:
            found.pop(name, None)
        else:
            found[name] = _boolean(found[name], f"{where}: {name}")
    if "names" in found and found["names"] not in _NAMES:
        raise errors.ConfigurationError(
            f"{where}: names must be {' or '.join(_NAMES)}, not {shown(found['names'], 50)}"
        )
    _mend_platforms(found, where)
    _mend_types(found, where)
    for name in _TEXTS:
        if found.get(name) and not isinstance(found[name], str):
            raise errors.ConfigurationError(
                f"{where}: {name} must be a text, not {shown(found[name], 50)}"
            )
    for name in _LISTS:
        _check_texts(found.get(name), f"{where}: {name}")
    for name in ("includes", "excludes"):
        _check_patterns(found.get(name) or (), f"{where}: {name}")
    if found.get("push_destination") is not None:
        found["push_destination"] = _destination(found["push_destination"], where)
    return found


def unknown(entry: Iterable[str], known: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each key of an entry that has no effect."""
    for key in sorted(str(key) for key in entry if key not in known):
        yield f"{shown(key, 50)} is unknown and has no effect{did_you_mean(key, known)}"


def wishes(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry wishes of copying.CopyOptions, by its fields."""
    names = (*OPTIONS, "platforms", "artifact_types")
    found = {name: entry[name] for name in names if name in entry}
    return found | ({"full_names": entry["names"] == _FULL} if "names" in entry else {})


def check_wishes(
    entry: dict[str, Any], uploader: str, where: str, options: CopyOptions | None = None
) -> None:
    """Raise ConfigurationError for what tripleo-common's own push does not know."""
    if uploader != PUSHING:
        return
    wished = wishes(entry)
    for name, (what, way_out) in _NOT_PUSHED.items():
        if wished.get(name, getattr(options, name, None)):
            raise errors.ConfigurationError(
                f"{where}: uploader {PUSHING} cannot {what}; {way_out}, or name another uploader"
            )


def _mend_platforms(entry: dict[str, Any], where: str) -> None:
    """Make one answer of the keys multi_arch and platforms, which a run's options do not change."""
    if entry.get("platforms") is None:
        entry.pop("platforms", None)
    elif "multi_arch" in entry:
        raise errors.ConfigurationError(
            f"{where}: platforms and multi_arch both say what is copied; leave one of them out"
        )
    else:
        entry["platforms"] = _read(entry["platforms"], f"{where}: platforms", read_platforms)
        if entry["platforms"] is None:
            entry["multi_arch"] = True
    if entry.get("platforms") and entry.get("modify_role"):
        raise errors.ConfigurationError(
            f"{where}: modify_role makes an image for one platform; leave platforms out"
        )
    if "multi_arch" in entry:
        entry["platforms"] = None


def _mend_types(entry: dict[str, Any], where: str) -> None:
    if entry.get("artifact_types") is None:
        entry.pop("artifact_types", None)
        return
    what = f"{where}: artifact_types"
    entry["artifact_types"] = _read(entry["artifact_types"], what, read_artifact_types)
    if not entry.setdefault("signatures", True):
        raise errors.ConfigurationError(f"{what} are of what 'signatures: false' leaves behind")


def _read(value: object, what: str, read: Callable[[list[str]], Any]) -> Any:
    texts: list[Any] = [value] if isinstance(value, str) else []
    if isinstance(value, list | tuple):
        texts = list(value)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise errors.ConfigurationError(f"{what} must be a text or a list of texts")
    try:
        return read(texts)
    except errors.InvalidReference as e:
        raise errors.ConfigurationError(f"{what}: {e}") from e


def _check_texts(value: object, what: str) -> None:
    # NOTE: tripleo-common would take each letter of a text for one of them.
    texts = value if isinstance(value, list) else [None]
    if value and not all(isinstance(text, str) for text in texts):
        raise errors.ConfigurationError(f"{what} must be a list of texts")


def _check_patterns(patterns: Iterable[str], what: str) -> None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as e:
            raise errors.ConfigurationError(f"{what}: {shown(pattern, 50)}: {e}") from e


def _boolean(value: object, what: str) -> bool:
    meant = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(meant, bool):
        raise errors.ConfigurationError(f"{what} must be true or false, not {shown(value, 50)}")
    return meant


def _destination(value: object, where: str) -> str | bool:
    """Return a push_destination as names of images have it: host:port, and maybe a namespace."""
    what = f"{where}: push_destination"
    if isinstance(value, str) and value.strip().lower() not in _BOOLEANS:
        return _address(value.strip(), what) if value.strip() else False
    if isinstance(value, str | bool):
        return _boolean(value, what)
    raise errors.ConfigurationError(f"{what} must be a host and a port, true or false")


def _address(text: str, what: str) -> str:
    if "@" in text:
        raise errors.ConfigurationError(f"{what}: a user and a password do not belong into it")
    if "://" in text:
        raise errors.ConfigurationError(
            f"{what} is a host and maybe a port, without a scheme: {shown(text)}"
        )
    host, slash, namespace = re.sub("/{2,}", "/", text).rstrip("/").partition("/")
    if not is_registry(host.lower()):
        raise errors.ConfigurationError(
            f"{what}: clients take {shown(host)} for no registry; it needs a dot or a port, as "
            "192.0.2.1:8787"
        )
    try:
        namespace = slash and f"/{RepositoryName(namespace)}"
    except errors.InvalidReference as e:
        raise errors.ConfigurationError(f"{what}: {e}") from e
    return host.lower() + namespace
