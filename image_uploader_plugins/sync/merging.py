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

_SETTINGS = (("platforms",), ("referrers", "artifact_types"))
"""How images are copied: by the first field of each, entries call it."""


def merged(listings: Iterable[Listing]) -> Wanted:
    """Return what all lists say.

    Entries of one repository that become the same in the target are one entry,
    as far as one choice of tags can say what theirs say.  Raises
    ConfigurationError, which names both places, where two of them name the same
    image with different settings or a tag with two digests, where just one of
    them mirrors, and for rules of a registry that contradict each other.  Two
    that choose from the same tags in different ways stay two.
    """
    groups: dict[tuple[Any, ...], list[_Merged]] = {}
    rules: dict[str, ListedRules] = {}
    for listing in listings:
        for entry in listing.entries:
            # NOTE: None of full_names is the command line's to say, so it is like no other.
            key = (entry.source, entry.target, entry.full_names)
            _add(groups.setdefault(key, []), _Merged(entry))
        for registry, listed in listing.registries.items():
            before = rules.setdefault(registry, listed)
            if before is not listed:
                rules[registry] = _together(registry, before, listed)
    return Wanted(
        tuple(each.whole() for group in groups.values() for each in group),
        {registry: listed.rules for registry, listed in rules.items()},
    )


class _Merged:
    """An entry to which others are added; ``choice`` is what it takes from the list of tags."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.choice = dataclasses.replace(entry.tags, names=())
        self.names = dict.fromkeys(entry.tags.names)
        self.digests = dict.fromkeys(entry.digests)
        self.pins = dict(entry.pins)

    def add(self, other: _Merged) -> bool:
        """Add what another wants, if one entry can say that; return whether it can."""
        choice = None if self.differing(other) else _choice(self.choice, other.choice)
        if choice is None:
            return False
        self.choice = choice
        self.names.update(other.names)
        self.digests.update(other.digests)
        self.pins.update(other.pins)
        return True

    def whole(self) -> Entry:
        """Return the entry with all that was added."""
        tags = dataclasses.replace(self.choice, names=tuple(self.names))
        return dataclasses.replace(
            self.entry, tags=tags, digests=tuple(self.digests), pins=self.pins
        )

    def differing(self, other: _Merged) -> list[str]:
        """Return the keys by which the two say something else of how images are copied."""
        return [
            fields[0]
            for fields in _SETTINGS
            if any(getattr(self.entry, each) != getattr(other.entry, each) for each in fields)
        ]

    def overlaps(self, other: _Merged) -> bool:
        """Return whether both want the same image, as far as one can know."""
        return bool(
            (self.choice.needs_list and self.choice == other.choice)
            or any(digest in self.digests for digest in other.digests)
            or any(tag in self.names for tag in other.names)
            or self._takes(other)
            or other._takes(self)
        )

    def _takes(self, other: _Merged) -> bool:
        """Return whether the choice takes what the other names."""
        texts = [tag.value for tag in other.names] if self.choice.needs_list else []
        return bool(chosen(self.choice, texts))


def _add(group: list[_Merged], added: _Merged) -> None:
    """Add an entry to those of the same repository and target."""
    for each in group:
        _check(each, added)
    if not any(each.add(added) for each in group):
        group.append(added)


def _check(one: _Merged, other: _Merged) -> None:
    places = f"{one.entry.where} and {other.entry.where}: {one.entry.source}"
    if one.entry.mirror != other.entry.mirror:
        raise errors.ConfigurationError(f"{places} is with mirror: true in just one of them")
    for tag, digest in other.pins.items():
        if one.pins.get(tag, digest) != digest:
            raise errors.ConfigurationError(f"{places}:{tag} has to have two digests")
    differing = one.differing(other)
    if differing and one.overlaps(other):
        raise errors.ConfigurationError(
            f"{places} is in both, with different {' and '.join(differing)}; let them say the same"
        )


def _choice(one: TagChoice, other: TagChoice) -> TagChoice | None:
    """Return a choice of what both choose, None where no single one can say that."""
    if one == other or not other.needs_list:
        return one
    if not one.needs_list:
        return other
    if one.newest or other.newest or set(one.exclude) != set(other.exclude):
        return None
    ranges = dict.fromkeys(filter(None, (one.semver, other.semver)))
    return TagChoice(
        globs=tuple(dict.fromkeys(one.globs + other.globs)),
        regexes=tuple(dict.fromkeys(one.regexes + other.regexes)),
        semver=" || ".join(ranges) or None,
        all=one.all or other.all,
        exclude=one.exclude,
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
