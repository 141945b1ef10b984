"""tripleo-common's own uploader, whose questions to registries are asked by our sources."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tripleo_common.image import exception, image_uploader

from image_uploader_plugins import errors, media_types, strict_json
from image_uploader_plugins.copying.copier import default_image, fetch
from image_uploader_plugins.digest import VerifiedStream
from image_uploader_plugins.manifest import SIZE_LIMIT, Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.client import Registries
from image_uploader_plugins.sources.image_name import ImageName
from image_uploader_plugins.sources.interface import Source
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.text import one_line
from image_uploader_plugins.tripleo import tls_probe
from image_uploader_plugins.tripleo.failures import host_errors
from image_uploader_plugins.tripleo.job import Job

LOG = logging.getLogger(__name__)

_WORKERS = 16


class HostUploader(image_uploader.PythonImageUploader):  # type: ignore[misc]
    """Pushes as the host's, and finds tags and labels as whoever pulls would.

    NOTE: the host looks for a tag on the first page of a list, and takes the
    list's last tag where it does not find it there: another version.
    """

    def __init__(self, theirs: Any, open_registries: Callable[[], Registries]) -> None:
        super().__init__()
        self.__dict__.update(theirs.__dict__)
        self._open_registries = open_registries
        self._tagged: dict[str, str] = {}  # images by the names that they had before

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open_registries": None}

    @classmethod
    def is_insecure_registry(cls, registry_host: str) -> bool:
        """Return whether a registry speaks no TLS that can be verified, found out once."""
        tls_probe.learn(cls, registry_host)
        return bool(super().is_insecure_registry(registry_host))

    def discover_image_tags(
        self, images: Iterable[str], tag_from_label: str | None = None, default_tag: bool = False
    ) -> dict[str, str]:
        """Return the tag that each image's label names, by the image's name without a tag.

        Each tag is one that the registry has.  An image without the label
        keeps the tag that it is asked for by, and one by digest its digest.
        Raises ImageNotFoundException where the registry does not have what is
        asked for, whether its tag is the default one or not, and
        ImageUploaderException, also for two images of one name: the host
        gives both the same tag.
        """
        template = _Template(tag_from_label)
        with contextlib.closing(self.open_registries()) as found:
            discover = functools.partial(_discover, found, template)
            with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
                names = dict.fromkeys(images)
                tags = dict(zip(names, pool.map(discover, names), strict=True))
        by_name: dict[str, str] = {}
        for image, tag in tags.items():
            name = _untagged(image)
            if by_name.setdefault(name, tag) != tag:
                raise exception.ImageUploaderException(
                    f"{name} stands there with two tags, which become {by_name[name]} and {tag} by "
                    "their labels: tripleo-common can prepare just one of them in an entry"
                )
            self._tagged[image] = f"{name}:{tag}"
        return by_name

    def discover_image_tag(
        self,
        image: str,
        tag_from_label: str | None = None,
        fallback_tag: str | None = None,
        username: str | None = None,
        password: str | None = None,
    ) -> str:
        """Return the tag that an image's label names, or ``fallback_tag`` where it has none.

        Raises as discover_image_tags() does, and for no label and no fallback.
        """
        template = _Template(tag_from_label)
        with contextlib.closing(self._registries_for(image, username, password)) as found:
            return _discover(found, template, image, lambda _asked: fallback_tag)

    def filter_images_with_labels(
        self,
        images: Iterable[str],
        labels: Iterable[str],
        username: str | None = None,
        password: str | None = None,
    ) -> list[str]:
        """Return those images that have one of the labels, also under the tags of their labels.

        NOTE: the host asks for the names of before, and looks for those of after
        discover_image_tags().
        """
        wanted = set(labels)
        with contextlib.closing(self.open_registries()) as registries:
            found = [image for image in images if wanted & _labels(registries, image).keys()]
        return [*found, *(self._tagged[image] for image in found if image in self._tagged)]

    def job(self, task: Any) -> Job:
        """Return what an UploadTask asks for; raises InvalidReference."""
        return Job.of(task)

    def open_registries(self) -> Registries:
        """Return the registries to copy from, to be closed; raises ConfigurationError."""
        return self._open_registries()

    def _registries_for(self, image: str, username: str | None, password: str | None) -> Registries:
        found = self.open_registries()
        if username is None or password is None:
            return found
        with host_errors(image):
            login = {ImageName.parse(image).registry: Login(username, password)}
        return Registries(dataclasses.replace(found.settings, keychain=Keychain(login, {})))


class _Template(string.Formatter):
    """What a tag is made of: the name of a label, or text with names of labels in braces.

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


def _untagged(image: str) -> str:
    """Return a name as the host has it: without what follows the last colon, which is no port."""
    return image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image


def _discover(
    found: Registries,
    template: _Template,
    image: str,
    fallback: Callable[[str], str | None] = lambda asked: asked,
) -> str:
    """Return the tag for an image; ``fallback``, of the tag that was asked for, without a label."""
    with host_errors(image):
        name = ImageName.parse(image)
        if name.digest:
            return name.digest.encoded
        source = _source(found, name)
        manifest = source.manifest(name.reference)
        known = labels(source, manifest)
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
    image: str, template: _Template, known: Mapping[str, str], fallback: str | None
) -> str:
    there = one_line(", ".join(sorted(known)) or "none", 300)
    lacks = f"it lacks a label of {template.text!r} (it has {there})"
    if not fallback:
        raise exception.ImageUploaderException(lacks)
    LOG.warning("%s: %s, and is prepared as %s", image, lacks, fallback)
    return fallback


def _source(found: Registries, name: ImageName) -> RegistrySource:
    return RegistrySource(found.registry(name.registry), str(name.repository))


def _existing(source: Source, tag: Tag, label: str) -> Manifest:
    """Return the manifest under a tag: that tag and no other."""
    try:
        return source.manifest(tag)
    except errors.ImageUnknown as e:
        raise errors.ImageUnknown(f"its label ({label}) says {tag}, and {e}", e.image) from e


def _labels(found: Registries, image: str) -> Mapping[str, str]:
    """Return the labels of an image or, for a list, of the one that clients get by default."""
    with host_errors(image):
        name = ImageName.parse(image)
        source = _source(found, name)
        return labels(source, source.manifest(name.reference))


def labels(source: Source, manifest: Manifest) -> Mapping[str, str]:
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
