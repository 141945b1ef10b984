# SPDX-License-Identifier: Apache-2.0
"""Several lists as one: what they have in common is done once, what contradicts is an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from image_uploader_plugins import errors
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sync.listing import ListedRules, Listing
from image_uploader_plugins.sync.tag_choice import chosen
from image_uploader_plugins.sync.wanted import Entry, TagChoice, Wanted

# Fields of entries that say how images are copied, by the keys that say so.
_SETTINGS = {
    "platforms": "platforms",
    "referrers": "referrers",
    "artifact_types": "referrers",
}


def merged(listings: Iterable[Listing]) -> Wanted:
    """Return what all lists say.

    Entries of one repository that become the same in the target are one entry,
    as far as one choice of tags can say what theirs say.  No two entries can
    choose the same image with different settings: raises ConfigurationError,
    which names both places, as it does for contradicting rules of a registry
    and for a tag that is to have two digests.
    """
    entries: dict[tuple[Any, ...], list[Entry]] = {}
    rules: dict[str, ListedRules] = {}
    for listing in listings:
        for entry in listing.entries:
            # NOTE: None of full_names is the command line's to say, so it is like no other.
            key = (entry.source, entry.target, entry.full_names)
            _add(entries.setdefault(key, []), entry)
        for registry, listed in listing.registries.items():
            before = rules.setdefault(registry, listed)
            if before is not listed:
                rules[registry] = _together(registry, before, listed)
    return Wanted(
        tuple(entry for group in entries.values() for entry in group),
        {registry: listed.rules for registry, listed in rules.items()},
    )


def _add(group: list[Entry], entry: Entry) -> None:
    """Add an entry to those of the same repository and target."""
    for other in group:
        _check(other, entry)
    for number, other in enumerate(group):
        choice = None if _differing(other, entry) else _choice(other.tags, entry.tags)
        if choice:
            digests = tuple(dict.fromkeys(other.digests + entry.digests))
            pins = {**other.pins, **entry.pins}
            group[number] = dataclasses.replace(other, tags=choice, digests=digests, pins=pins)
            return
    group.append(entry)


def _differing(one: Entry, other: Entry) -> list[str]:
    """Return the keys that say something else in two entries."""
    found = [
        key for field, key in _SETTINGS.items() if getattr(one, field) != getattr(other, field)
    ]
    return list(dict.fromkeys(found))


def _check(one: Entry, other: Entry) -> None:
    places = f"{one.where} and {other.where}: {one.source}"
    if one.mirror != other.mirror:
        raise errors.ConfigurationError(f"{places} is with mirror: true in just one of them")
    for tag in one.pins.keys() & other.pins.keys():
        if one.pins[tag] != other.pins[tag]:
            raise errors.ConfigurationError(f"{places}:{tag} has to have two digests")
    differing = _differing(one, other)
    if differing and _overlap(one, other):
        raise errors.ConfigurationError(
            f"{places} is in both, with different {' and '.join(differing)}; let them say the same"
        )


def _overlap(one: Entry, other: Entry) -> bool:
    """Return whether two entries of a repository may choose the same image."""
    return bool(
        set(one.digests) & set(other.digests)
        or set(one.tags.names) & set(other.tags.names)
        or (one.tags.needs_list and other.tags.needs_list)
        or chosen(one.tags, [tag.value for tag in other.tags.names])
        or chosen(other.tags, [tag.value for tag in one.tags.names])
    )


def _choice(one: TagChoice, other: TagChoice) -> TagChoice | None:
    """Return a choice of what both choose, None where no single one can say that."""
    names = tuple(dict.fromkeys(one.names + other.names))
    first, second = (dataclasses.replace(choice, names=()) for choice in (one, other))
    if first == second or not second.needs_list:
        return dataclasses.replace(one, names=names)
    if not first.needs_list:
        return dataclasses.replace(other, names=names)
    if first.newest or second.newest or set(first.exclude) != set(second.exclude):
        return None
    ranges = dict.fromkeys(filter(None, (first.semver, second.semver)))
    return TagChoice(
        names=names,
        globs=tuple(dict.fromkeys(first.globs + second.globs)),
        regexes=tuple(dict.fromkeys(first.regexes + second.regexes)),
        semver=" || ".join(ranges) or None,
        all=first.all or second.all,
        exclude=first.exclude,
    )


def _together(registry: str, one: ListedRules, other: ListedRules) -> ListedRules:
    """Return the rules of two lists for one registry."""
    told: dict[str, Any] = {}
    silent = RegistryRules()
    for field in dataclasses.fields(RegistryRules):
        values = [getattr(each.rules, field.name) for each in (one, other)]
        said = [value for value in values if value != getattr(silent, field.name)]
        if len(said) == 2 and said[0] != said[1]:
            raise errors.ConfigurationError(
                f"{one.where} and {other.where}: {registry} has different {field.name}; let them "
                "say the same"
            )
        told[field.name] = said[0] if said else values[0]
    return ListedRules(one.where, RegistryRules(**told))
