"""Which images stay when a tree is pruned.

A rule keeps tags.  What a kept tag leads to stays, and what is about that:
its referrers, and the tags by which clients without a referrers API find
them (OCI distribution-spec 1.1, "Referrers Tag Schema"; cosign's signatures).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.holdings import Holdings, Name
from image_uploader_plugins.local_export.patterns import Patterns
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag

_ABOUT = re.compile(r"(sha256|sha512)-([0-9a-f]{64,128})(?:\..*)?")


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is to be kept: images by name, by pattern, and the newest tags of each repository.

    ``listed`` holds names without ``*`` and ``?``.  A manifest's digest keeps
    every tag that leads there.
    """

    listed: Patterns
    patterns: Patterns
    newest: int = 0


def parse_list(lines: Iterable[str], name: str) -> list[str]:
    """A list's images, one a line: ``[host:port/]repository[:tag][@digest]``, ``#`` comments.

    Raises ConfigurationError with the line's number in the file ``name``.
    """
    found = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        try:
            found += [_checked(text)] if text else []
        except errors.InvalidReference as e:
            raise errors.ConfigurationError(f"{name}, line {number}: {e}") from e
    return found


def _checked(text: str) -> str:
    if ":" in text or "@" in text:
        return str(ImageRef.parse(text))
    return str(RepositoryName(text))


def stale(holdings: Holdings, rule: Rule) -> set[Name]:
    """The tags that no rule keeps, and what refers to nothing but what goes with them.

    A manifest without a tag stays, unless its subject goes.
    """
    about = {name: subject for name in holdings.roots if (subject := _subject(holdings, name))}
    kept = _kept(holdings, rule, about.keys())
    kept |= {pin for pin in holdings.pins if pin not in about}
    waiting = holdings.roots.keys() - kept
    while True:
        live = holdings.follow(digest for name in kept for digest in holdings.roots[name])
        joining = {name for name in waiting if about.get(name) in live}
        if not joining:
            return set(waiting)
        kept |= joining
        waiting -= joining


def _kept(holdings: Holdings, rule: Rule, about: Collection[Name]) -> set[Name]:
    """The tags and pins that a rule keeps by themselves."""
    kept: set[Name] = set()
    names: list[Name] = [*holdings.tags, *holdings.users]
    for name in names:
        # Both are asked, so that each knows what it was of use for.
        asked = [
            p.match_image(holdings.repository.name, name) for p in (rule.listed, rule.patterns)
        ]
        if any(asked):
            kept |= {name} if isinstance(name, Tag) else holdings.users[name]
    images = [tag for tag in holdings.tags if tag not in about]
    images.sort(key=lambda tag: (-holdings.written(tag), tag))
    return kept.union(images[: rule.newest])


def _subject(holdings: Holdings, name: Name) -> Digest | None:
    """What of the repository an image is about, by its manifest or its tag."""
    digest = holdings.digest(name)
    parsed = holdings.manifests.get(digest) if digest else None
    if parsed and parsed.subject and parsed.subject.digest in holdings.users:
        return parsed.subject.digest
    match = _ABOUT.fullmatch(str(name)) if isinstance(name, Tag) else None
    try:
        named = Digest(f"{match[1]}:{match[2]}") if match else None
    except errors.InvalidReference:
        return None
    return named if named in holdings.users else None
