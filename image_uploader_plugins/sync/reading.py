# SPDX-License-Identifier: Apache-2.0
"""Reading lists of images, of every format that is known.

A format is recognised by the content, in this order:

1. A file called ``*.txt``, or one whose lines are names and nothing else, has a name a line.
2. YAML with one of ``images``, ``defaults`` and ``registries`` is our own.
3. YAML with ``container_images`` or ``uploads``, or a YAML list, is as ``upload`` takes it.
4. YAML with registries and their ``images`` is of ``skopeo sync``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from image_uploader_plugins import errors, files
from image_uploader_plugins.sync import (
    container_images,
    listing,
    merging,
    own_list,
    skopeo_list,
    yaml_tree,
)
from image_uploader_plugins.sync.listing import Listing
from image_uploader_plugins.sync.validation import naming
from image_uploader_plugins.sync.wanted import Wanted
from image_uploader_plugins.sync.yaml_tree import Scalar, mapping
from image_uploader_plugins.text import did_you_mean

SIZE_LIMIT = 32 * 1024 * 1024  # bytes of a list

_SECTIONS = (*own_list.KEYS, *files.LISTS)
_COMMAND_LINE = "command line"


def read(names: Sequence[str], references: Sequence[str]) -> Wanted:
    """Return what files and names of images on the command line say, all together.

    ``-`` is standard input.  An image that several of them name is in one
    entry (merging.merged() says what of it holds for tags that are chosen).
    Raises ConfigurationError, which begins with ``FILE:LINE``.
    """
    return read_with(names, named(references))


def named(references: Sequence[str]) -> Listing:
    """Return names of images on the command line as a list.

    Raises ConfigurationError for one that is no name, and for two that
    contradict each other.
    """
    listing = _names(_COMMAND_LINE, [(0, text) for text in references])
    merging.merged([listing])
    return listing


def read_with(names: Sequence[str], listing: Listing) -> Wanted:
    """Return what files and a list that is read already say; otherwise as read()."""
    if names.count(files.STANDARD_INPUT) > 1:
        raise errors.ConfigurationError("standard input can be read as one list, not as two")
    return merging.merged([*(_read(name) for name in dict.fromkeys(names)), listing])


def _read(name: str) -> Listing:
    is_file = name != files.STANDARD_INPUT
    shown_name = name if is_file else "standard input"
    content = files.text_of(name, limit=SIZE_LIMIT)
    found = _of_content(shown_name, content, Path(name).parent if is_file else Path())
    if not found.entries:
        raise errors.ConfigurationError(f"{shown_name}: lists no image")
    return found


def _of_content(name: str, content: str, folder: Path) -> Listing:
    if lines := files.listed_names(name, content):
        return _names(name, lines)
    root = yaml_tree.read(name, content)
    if isinstance(root, Scalar):
        return _names(name, files.lines(content))
    if own_list.is_one(root):
        return own_list.read(name, mapping(root), folder)
    if container_images.is_one(root):
        return container_images.read(name, root)
    if skopeo_list.is_one(root):
        return skopeo_list.read(name, mapping(root))
    hint = did_you_mean(next(iter(mapping(root)), ""), _SECTIONS)
    raise errors.ConfigurationError(
        f"{name}:{root.line}: no list of images: it has neither 'images', as our own lists have, "
        f"nor 'container_images', nor registries as those of skopeo sync{hint}"
    )


def _names(name: str, lines: Sequence[tuple[int, str]]) -> Listing:
    entries = []
    for number, text in lines:
        where = f"{name}:{number}" if number else name
        with naming(where, "image"):
            entries.append(listing.named(where, text))
    return Listing(entries)
