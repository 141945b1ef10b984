# SPDX-License-Identifier: Apache-2.0
"""Options of oslo.config in files: the values that cannot be, and the keys that nobody knows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from oslo_config import cfg, types

from image_uploader_plugins import errors
from image_uploader_plugins.text import did_you_mean, shown

_Sections = dict[str, dict[str, list[str]]]


def check(conf: cfg.ConfigOpts, group: str, options: Iterable[Any]) -> None:
    """Raise ConfigurationError for an option whose value cannot be: where, what, what is allowed.

    The ``options`` are registered in that ``group``.
    """
    for option in options:
        try:
            conf[group][option.name]
        except (cfg.ConfigFileValueError, ValueError) as e:
            found = list(_written(conf, group, option.name))
            if not found:
                raise errors.ConfigurationError(f"[{group}] {option.name}: {e}") from e
            where, value = found[0]
            raise errors.ConfigurationError(
                f"{where}: [{group}] {option.name} must be {_allowed(option.type)}, "
                f"not {shown(value, 50)}"
            ) from e


def files_read(conf: cfg.ConfigOpts) -> list[str]:
    """Return the names of the files that options come from, the most important one last."""
    return list(conf.config_file or ())


def origin(conf: cfg.ConfigOpts, group: str, name: str) -> str:
    """Return where an option's value comes from, in words."""
    for where, _ in _written(conf, group, name):
        return f"[{group}] {name} in {where}"
    files = ", ".join(files_read(conf))
    read = f"not in {files}" if files else "no configuration file was found"
    return f"the default of [{group}] {name}: {read}"


def unknown(conf: cfg.ConfigOpts, known: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield a sentence for each key that no option of its section has, in a section of ``known``.

    Also for sections that are likely to be misspelt; others belong to other drivers.
    """
    for name in files_read(conf):
        for section, found in _parsed(name).items():
            if section in known:
                names = tuple(known[section])
                for key in [key for key in found if key not in names]:
                    hint = did_you_mean(key, names) or f"; known are {', '.join(names)}"
                    yield f"{name}: [{section}] {shown(key, 50)} has no effect{hint}"
            elif hint := did_you_mean(section, known):
                yield f"{name}: section {shown(section, 50)} has no effect{hint}"


def _written(conf: cfg.ConfigOpts, group: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield where a value is written, and what is; the place that counts first."""
    # NOTE: oslo.config's driver for the environment, which it always has, calls them so.
    variable = f"OS_{group}__{name}".upper()
    if variable in os.environ:
        yield f"the environment's {variable}", os.environ[variable]
    for file in reversed(files_read(conf)):
        for value in reversed(_parsed(file).get(group, {}).get(name, [])):
            yield file, value


def _parsed(name: str) -> _Sections:
    sections: _Sections = {}
    cfg.ConfigParser(name, sections).parse()
    return sections


def _allowed(kind: types.ConfigType) -> str:
    if isinstance(kind, types.Boolean):
        return "true or false"
    if isinstance(kind, types.Integer):
        return "a whole number" + (f" of {kind.min} or more" if kind.min is not None else "")
    if isinstance(kind, types.String) and kind.max_length:
        return f"a text of {kind.max_length} characters at most"
    return f"of the type {kind}"
