# SPDX-License-Identifier: Apache-2.0
"""Types of arguments of command lines, for argparse, and an option that several commands have.

Each type raises ArgumentTypeError, in words that say what was wrong.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from image_uploader_plugins import errors
from image_uploader_plugins.lists.share import DEFAULT
from image_uploader_plugins.patterns import Pattern
from image_uploader_plugins.reference import ImageRef, RepositoryName

if TYPE_CHECKING:
    from fractions import Fraction

_T = TypeVar("_T")

_ADDRESS = re.compile(r"(?:https?://)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def typed(parse: Callable[[str], _T], text: str) -> _T:
    """Return what ``parse`` makes of a text; raise ArgumentTypeError for its InvalidReference."""
    # argparse shows the words of this error alone; for a ValueError it has words of its own.
    try:
        return parse(text)
    except errors.InvalidReference as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def image(text: str) -> ImageRef:
    """Return the image that REPOSITORY:TAG or REPOSITORY@DIGEST names."""
    return typed(ImageRef.parse, text)


def repository(text: str) -> RepositoryName:
    """Return the name of a repository."""
    return typed(RepositoryName, text)


def pattern(text: str) -> Pattern:
    """Return a pattern of images."""
    return typed(Pattern, text)


def repositories(text: str) -> Pattern:
    """Return a pattern of repositories as a whole."""
    found = pattern(text)
    if not found.whole:
        raise argparse.ArgumentTypeError(f"a pattern of repositories has no tag: {text!r}")
    return found


def count(text: str) -> int:
    """Return a number of tags, from 1 on."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"not a number of tags: {text!r}")
    return int(text)


def share(text: str) -> Fraction:
    """Return a share from 0 to 1, exactly."""
    if not re.fullmatch(r"0?\.[0-9]{1,9}|[01](?:\.0{1,9})?", text):
        raise argparse.ArgumentTypeError(f"not a share from 0 to 1: {text!r}")
    # Most commands have no such option.
    from fractions import Fraction  # noqa: PLC0415

    return Fraction(text)


def add_max_share(parser: argparse.ArgumentParser, guarded: str) -> None:
    """Add ``--max-share``, the share of tags that may go; ``guarded`` says of what."""
    parser.add_argument(
        "--max-share",
        type=share,
        default=DEFAULT,
        metavar="SHARE",
        help=f"{guarded}: from 0 to 1, which is all (default: %(default)s)",
    )


def port(text: str) -> int:
    """Return a port of TCP, 0 for any that is free."""
    if not (text.isascii() and text.isdigit() and int(text[:6]) < 2**16):
        raise argparse.ArgumentTypeError(f"not a port: {text!r}")
    return int(text)


def address(text: str) -> str:
    """Return a server's host and maybe port, maybe with http:// or https:// before it."""
    if not _ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"not an address: {text!r}")
    return text


def absolute_path(text: str) -> Path:
    """Return a path that does not depend on the working directory."""
    return Path(text).absolute()
