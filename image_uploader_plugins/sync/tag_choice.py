# SPDX-License-Identifier: Apache-2.0
"""Which tags of a repository a list chooses from those that the source has."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterator

from image_uploader_plugins import versions
from image_uploader_plugins.patterns import matches
from image_uploader_plugins.reference import Tag, is_attached
from image_uploader_plugins.sync.semver_range import SemverRange
from image_uploader_plugins.sync.wanted import TagChoice


def chosen(choice: TagChoice, available: Collection[str]) -> list[Tag]:
    """Return those of the ``available`` tags that a choice takes from them, sorted by their text.

    These are not its ``names``, which are wanted whether they are in the list
    or not.  What signs and describes an image is not among them, either: it
    comes along with the image.  A text that cannot be a tag raises
    InvalidReference.
    """
    tests = list(_tests(choice))
    fitting = {
        tag
        for tag in available
        if any(test(tag) for test in tests)
        and not is_attached(tag)
        and not any(matches(pattern, [tag]) for pattern in choice.exclude)
    }
    if choice.newest:
        fitting = versions.newest(fitting, choice.newest)
    return [Tag(tag) for tag in sorted(fitting)]


def _tests(choice: TagChoice) -> Iterator[Callable[[str], object]]:
    """Yield functions that tell whether a tag fits; one of them is enough."""
    for glob in choice.globs:
        yield functools.partial(_fits_glob, glob)
    for regex in choice.regexes:
        # NOTE: a regular expression that takes very long can be ended: re looks for signals.
        yield re.compile(regex).fullmatch
    if choice.semver:
        yield SemverRange(choice.semver).has
    if choice.all or (choice.newest and not (choice.globs or choice.regexes or choice.semver)):
        yield lambda _: True


def _fits_glob(glob: str, tag: str) -> bool:
    return matches(glob, [tag])
