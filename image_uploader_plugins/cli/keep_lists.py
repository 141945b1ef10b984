# SPDX-License-Identifier: Apache-2.0
"""Lists of images that are to be kept, of every format that another command reads or writes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from image_uploader_plugins import errors, files, strict_json
from image_uploader_plugins.copying.job import Job, full_name
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.lists import image_list
from image_uploader_plugins.lists.image_list import Entry
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.sources.image_name import ImageName
from image_uploader_plugins.sync import container_images, reading, wanted, yaml_tree
from image_uploader_plugins.sync.tag_choice import chosen
from image_uploader_plugins.sync.wanted_images import target_of
from image_uploader_plugins.sync.yaml_tree import Scalar

Choose = Callable[[Collection[str]], Collection[Tag]]

# A list does not say whether names in the tree begin with the registry.
_NAMINGS = (CopyOptions(), CopyOptions(full_names=True))


class Kept(NamedTuple):
    """Images that are to be kept.

    ``images`` has for each what it is called in the list, and all that it may
    be in the tree. ``choices`` choose from the tags that a repository has.
    ``names`` are all repositories that are listed.
    """

    images: tuple[tuple[str, frozenset[ImageRef]], ...] = ()
    choices: tuple[tuple[RepositoryName, Choose], ...] = ()

    @property
    def references(self) -> frozenset[ImageRef]:
        """Return all images by name."""
        return frozenset[ImageRef]().union(*(found for _, found in self.images))

    @property
    def names(self) -> frozenset[RepositoryName]:
        """Return all repositories that are listed."""
        named = {image.repository for image in self.references}
        return frozenset(named.union(name for name, _ in self.choices))


def read(paths: Iterable[Path], default: str) -> Kept:
    """Return what all of these files list; raises ConfigurationError.

    They are texts with a name a line, lists of ``upload`` and ``sync``, and
    reports. ``default`` is the driver of entries that name none.
    """
    found = [_read(path, default) for path in paths]
    images = dict(image for kept in found for image in kept.images)
    return Kept(tuple(images.items()), tuple(c for kept in found for c in kept.choices))


def _read(path: Path, default: str) -> Kept:
    content = files.text(path, limit=reading.SIZE_LIMIT)
    report = _report(content)
    if report is not None:
        return Kept(tuple(_reported(path, report)))
    if not files.lines(content) or files.listed_names(str(path), content):
        return Kept(tuple(_lines(path, content)))
    root = yaml_tree.read(str(path), content)
    if isinstance(root, Scalar):
        return Kept(tuple(_lines(path, content)))
    if container_images.is_one(root):
        return Kept(tuple(_uploaded(path, default)))
    entries = reading.read([str(path)], []).entries
    named = [image for entry in entries for image in _named(entry)]
    return Kept(tuple(named), tuple(c for entry in entries for c in _choices(entry)))


def _lines(path: Path, content: str) -> Iterator[tuple[str, frozenset[ImageRef]]]:
    for number, line in files.lines(content):
        try:
            image = ImageRef.parse(line)
        except errors.InvalidReference as e:
            raise errors.ConfigurationError(f"{path}, line {number}: {e}") from e
        yield str(image), frozenset({image, *_as_sources_are_named(line)})


def _as_sources_are_named(text: str) -> Iterator[ImageRef]:
    """Yield what an image may be called in a tree if a text is its name at a source."""
    with contextlib.suppress(errors.InvalidReference):
        name = ImageName.parse(text)
        reference = name.tag or name.reference
        yield ImageRef(name.repository, reference)
        yield ImageRef(full_name(name.registry, name.repository), reference)


def _report(content: str) -> list[Any] | None:
    """Return the images of a report of a run; None for another file."""
    if not content.lstrip().startswith("{"):
        return None
    try:
        found = strict_json.load_leniently(content.encode())
    except ValueError:
        return None
    is_report = isinstance(found, dict) and "schema_version" in found
    images = found.get("images") if is_report else None
    return images if isinstance(images, list) else None


def _reported(path: Path, images: list[Any]) -> Iterator[tuple[str, frozenset[ImageRef]]]:
    for image in images:
        try:
            targets = [ImageRef.parse(target) for target in image["targets"]]
            source = str(image["source"])
        except (errors.InvalidReference, KeyError, TypeError) as e:
            raise errors.ConfigurationError(f"{path}: no report of a run: {e}") from e
        # One that failed may be there from another day.
        yield source, frozenset(targets or _as_sources_are_named(source))


def _uploaded(path: Path, default: str) -> Iterator[tuple[str, frozenset[ImageRef]]]:
    for item in image_list.items(image_list.read([str(path)], may_be_empty=True), default):
        entry = Entry.of(item, default, multi_arch=False)
        try:
            jobs = [Job.of(entry, full_names=options.full_names) for options in _NAMINGS]
        except errors.InvalidReference as e:
            raise errors.ConfigurationError(f"{path}: {entry.image_name}: {e}") from e
        yield entry.image_name, frozenset(ImageRef(j.target, j.tag or j.reference) for j in jobs)


def _targets(entry: wanted.Entry) -> set[RepositoryName]:
    return {target_of(entry, options) for options in _NAMINGS}


def _named(entry: wanted.Entry) -> Iterator[tuple[str, frozenset[ImageRef]]]:
    references: list[Tag | Digest] = [*entry.tags.names, *entry.pins, *entry.digests]
    for reference in dict.fromkeys(references):
        images = frozenset(ImageRef(name, reference) for name in _targets(entry))
        yield f"{entry.source}:{reference} ({entry.where})", images


def _choices(entry: wanted.Entry) -> Iterator[tuple[RepositoryName, Choose]]:
    if entry.tags.needs_list:
        choose = functools.partial(chosen, entry.tags)
        yield from ((name, choose) for name in _targets(entry))
