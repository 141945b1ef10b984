# SPDX-License-Identifier: Apache-2.0
"""Labels of images, and the tags that they name."""

from __future__ import annotations

import logging
import string
from collections.abc import Callable, Mapping
from typing import Any

from tripleo_common.image import exception

from image_uploader_plugins import errors, media_types, strict_json
from image_uploader_plugins.copying.image_walk import default_image, fetch
from image_uploader_plugins.digest import VerifiedStream
from image_uploader_plugins.manifest import SIZE_LIMIT, Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.image_name import ImageName
from image_uploader_plugins.sources.mirrored_source import MirroredSource
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.source import Source
from image_uploader_plugins.text import one_line
from image_uploader_plugins.tripleo.failures import tripleo_errors

LOG = logging.getLogger(__name__)


class Template(string.Formatter):
    """The form of a tag: the name of a label, or text with names of labels in braces.

    Raises ImageUploaderException for a text that is no such template.
    """

    def __init__(self, text: str | None) -> None:
        if not text or not isinstance(text, str):
            raise exception.ImageUploaderException("no label is given that names the tag")
        self.text = text
        try:
            names = [name for _, name, _, _ in self.parse(text) if name is not None]
        except ValueError as e:
            raise exception.ImageUploaderException(f"tag_from_label {text!r}: {e}") from e
        if not all(names):
            raise exception.ImageUploaderException(f"tag_from_label {text!r}: {{}} names no label")
        self.names = names or [text]

    def tag(self, labels: Mapping[str, str]) -> str | None:
        """Return what labels make of it; None where one of them is missing."""
        if not labels.keys() >= {*self.names}:
            return None
        if self.names == [self.text]:
            return labels[self.text]
        try:
            return self.vformat(self.text, (), labels)
        except ValueError as e:
            raise exception.ImageUploaderException(f"tag_from_label {self.text!r}: {e}") from e

    def get_field(self, field_name: str, args: Any, kwargs: Mapping[str, str]) -> tuple[str, str]:
        """Return a label: its name may have dots."""
        return kwargs[field_name], field_name


def discover(
    found: Registries,
    template: Template,
    image: str,
    fallback: Callable[[str], str | None] = lambda asked: asked,
) -> str:
    """Return the tag for an image; ``fallback``, of the tag that was asked for, without a label."""
    with tripleo_errors(image):
        name = ImageName.parse(image)
        if name.digest:
            return name.digest.encoded
        source = _source(found, name)
        manifest = source.manifest(name.reference)
        known = read(source, manifest)
        asked = str(name.reference)
        tag = template.tag(known)
        if tag is None:
            tag = _without_label(image, template, known, fallback(asked))
        if tag != asked:
            other = _existing(source, Tag(tag), template.text)
            if other.digest != manifest.digest:
                LOG.warning(
                    "%s: the tag %s that its label (%s) says is another image: %s, not %s",
                    *(image, tag, template.text, other.digest, manifest.digest),
                )
    return tag


def _without_label(
    image: str, template: Template, known: Mapping[str, str], fallback: str | None
) -> str:
    there = one_line(", ".join(sorted(known)) or "none", 300)
    lacks = f"it lacks a label of {template.text!r} (it has {there})"
    if not fallback:
        raise exception.ImageUploaderException(lacks)
    LOG.warning("%s: %s, and is prepared as %s", image, lacks, fallback)
    return fallback


def _source(found: Registries, name: ImageName) -> MirroredSource:
    return MirroredSource.of(found, name.registry, str(name.repository))


def _existing(source: Source, tag: Tag, label: str) -> Manifest:
    """Return the manifest under a tag: that tag and no other."""
    try:
        return source.manifest(tag)
    except errors.ImageUnknown as e:
        raise errors.ImageUnknown(f"its label ({label}) says {tag}, and {e}", e.image) from e


def labels_of(found: Registries, image: str) -> Mapping[str, str]:
    """Return the labels of an image or, for a list, of the one that clients get by default."""
    with tripleo_errors(image):
        name = ImageName.parse(image)
        source = _source(found, name)
        return read(source, source.manifest(name.reference))


def read(source: Source, manifest: Manifest) -> Mapping[str, str]:
    """Return the labels in the configuration of an image or of a list's default image.

    Raises ManifestInvalid for a list without one, and for labels that nobody can read.
    """
    if manifest.is_index:
        manifest = fetch(source, default_image(manifest))
    fields = _configuration(source, manifest).get("config") or {}
    found = (fields.get("Labels") if isinstance(fields, dict) else fields) or {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise errors.ManifestInvalid("the labels in its configuration are no mapping of texts")
    return found


def _configuration(source: Source, manifest: Manifest) -> strict_json.Fields:
    if manifest.media_type in media_types.SCHEMA1_TYPES:
        return _configuration_of_schema1(manifest)
    config = manifest.config
    if config is None or config.size is None or config.size > SIZE_LIMIT:
        raise errors.ManifestInvalid(f"its configuration has more than {SIZE_LIMIT} bytes")
    content = VerifiedStream(source.blob(config), config.digest, config.size)
    return strict_json.load(b"".join(content), "its configuration")


def _configuration_of_schema1(manifest: Manifest) -> strict_json.Fields:
    history = strict_json.load(manifest.content).get("history")
    try:
        content = history[0]["v1Compatibility"].encode()  # type: ignore[index]
    except (LookupError, TypeError, AttributeError):
        raise errors.ManifestInvalid("a manifest of schema 1 without a configuration") from None
    return strict_json.load(content, "its configuration")
