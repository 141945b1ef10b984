# SPDX-License-Identifier: Apache-2.0
"""Files that list images, read: which entries they have, and what each is for."""

from __future__ import annotations

import collections
import functools
import itertools
import logging
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from image_uploader_plugins import files
from image_uploader_plugins.copying.job import LOCAL
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.lists import keys

LOG = logging.getLogger(__name__)

# The keys of an entry; the last line has those that tripleo-common writes for itself.
_KEYS = frozenset(
    {
        *("imagename", "uploader", "pull_source", "push_destination", "multi_arch"),
        *("modify_role", "modify_vars", "modify_append_tag", *keys.WISHES),
        *("image_source", "params", "services", "neutron_driver"),
    }
)
_PORT = 8787  # of the registry that an undercloud has

Lists = Mapping[str, Sequence[tuple[str, dict[str, Any]]]]
"""The entries of files by the files' names, each entry with where it stands."""


class Entry(NamedTuple):
    """One entry of a list; Job.of() reads which image becomes what.

    ``uploader`` is the driver's name, and ``wishes`` are fields of
    copying.CopyOptions that differ from the run's.
    """

    image_name: str
    pull_source: str | None
    push_destination: str
    append_tag: str
    multi_arch: bool
    uploader: str
    wishes: Mapping[str, Any]

    @classmethod
    def of(cls, item: dict[str, Any], default: str, *, multi_arch: bool) -> Self:
        """Read an entry; ``default`` and ``multi_arch`` are for one that does not say."""
        return cls(
            item["imagename"],
            item.get("pull_source"),
            destination(item),
            item.get("modify_append_tag") or "",
            item.get("multi_arch", multi_arch),
            str(item.get("uploader") or default),
            keys.wishes(item),
        )


def read(names: Iterable[str], *, may_be_empty: bool = False) -> Lists:
    """Return the entries of files as they are meant, by the files' names.

    Raises ConfigurationError for a file that is unreadable, that has an entry
    which means nothing, or that lists nothing, unless that ``may_be_empty``.
    """
    return {
        name: list(_mended(name, files.images(name, may_be_empty=may_be_empty))) for name in names
    }


def check(lists: Lists, default: str, options: CopyOptions) -> None:
    """Raise ConfigurationError for entries that cannot work; warn of keys without effect."""
    for entries in lists.values():
        for where, item in entries:
            keys.check_wishes(item, item.get("uploader") or default, where, options)
        _warn_of_unknown(entries)


def _warn_of_unknown(entries: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Warn of keys that have no effect, of each once in a file."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for where, item in entries:
        for problem in keys.unknown(item, _KEYS):
            found[problem].append(where)
    for problem, places in found.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        LOG.warning("%s%s: %s", places[0], more, problem)


def items(lists: Lists, default: str) -> list[dict[str, Any]]:
    """Return the entries of all files, each image once: what a later entry has more is added."""
    found: dict[str, dict[str, Any]] = {}
    for where, item in _all(lists):
        keys.check_wishes(item, item.get("uploader") or default, where)
        found[item["imagename"]] = {**item, **found.get(item["imagename"], {})}
    return list(found.values())


def needs_tripleo(lists: Lists, default: str) -> str | None:
    """Return what tripleo-common is needed for, and where that stands; None if it is not."""
    for where, item in _all(lists):
        if (item.get("uploader") or default) == keys.PUSHING:
            return f"{where}: uploader {keys.PUSHING}"
        if item.get("modify_role"):
            return f"{where}: modify_role"
        if item["imagename"].startswith(LOCAL):
            return f"{where}: an image in containers-storage"
    return None


def destination(item: dict[str, Any]) -> str:
    """Return the registry that clients will pull an entry's image from, and maybe a namespace.

    Where the entry does not say, that is the undercloud's, as tripleo-common
    finds it: the host of the control plane, if it has a name.
    """
    told = item.get("push_destination")
    return told if isinstance(told, str) and told else f"{_undercloud()}:{_PORT}"


@functools.cache
def _undercloud() -> str:
    name = socket.gethostname().partition(".")[0] + ".ctlplane"
    try:
        return socket.getaddrinfo(name, None, flags=socket.AI_CANONNAME)[0][3]
    except OSError:
        return "localhost"


def _all(lists: Lists) -> Iterator[tuple[str, dict[str, Any]]]:
    return itertools.chain.from_iterable(lists.values())


def _mended(name: str, entries: Iterable[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, item in enumerate(entries, 1):
        where = f"{name}: image {number}"
        yield where, keys.mended(item, where)
