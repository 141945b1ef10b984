"""tripleo-common's own uploader, whose questions to registries are asked by our sources."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tripleo_common.image import image_uploader

from image_uploader_plugins import errors, strict_json
from image_uploader_plugins.copying.copier import default_image
from image_uploader_plugins.digest import VerifiedStream
from image_uploader_plugins.manifest import SCHEMA1_TYPES, SIZE_LIMIT, Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.client import Registries
from image_uploader_plugins.sources.image_name import ImageName
from image_uploader_plugins.sources.interface import Source
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.tripleo import registries
from image_uploader_plugins.tripleo.failures import host_errors

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

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open_registries": None}

    @classmethod
    def is_insecure_registry(cls, registry_host: str) -> bool:
        registries.learn(cls, registry_host)
        return bool(super().is_insecure_registry(registry_host))

    def discover_image_tags(
        self, images: Iterable[str], tag_from_label: str | None = None, default_tag: bool = False
    ) -> dict[str, str]:
        """Return the tag that each image's label names, by the image's name without a tag.

        Each tag is one that the registry has.  Raises ImageNotFoundException
        where it does not have the image that is asked for, whether its tag is
        the default one or not, and ImageUploaderException.
        """
        with self._sources() as found:
            discover = lambda image: self._discover(found, image, tag_from_label)  # noqa: E731
            with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
                names = dict.fromkeys(images)
                tags = dict(zip(names, pool.map(discover, names), strict=True))
        return {image.rpartition(":")[0]: tag for image, tag in tags.items()}

    def filter_images_with_labels(
        self,
        images: Iterable[str],
        labels: Iterable[str],
        username: str | None = None,
        password: str | None = None,
    ) -> list[str]:
        """Return those images that have one of the labels."""
        wanted = set(labels)
        with self._sources() as found:
            return [image for image in images if wanted & _labels(found, image).keys()]

    def _discover(self, found: Registries, image: str, tag_from_label: str | None) -> str:
        with host_errors(image):
            name = ImageName.parse(image)
            inspected = {"Labels": _labels(found, image), "RepoTags": _Every()}
            fallback = str(name.tag) if name.tag else None
            tag = self._discover_tag_from_inspect(inspected, image, tag_from_label, fallback)
            if tag != fallback:
                _check_exists(_source(found, name), Tag(tag), tag_from_label)
        return str(tag)

    @contextlib.contextmanager
    def _sources(self) -> Any:
        found = self._open_registries()
        with contextlib.closing(found):
            yield found


class _Every:
    """A list that the host finds every tag in: whether there is one is asked of the registry."""

    def __contains__(self, tag: object) -> bool:
        return True


def _source(found: Registries, name: ImageName) -> RegistrySource:
    return RegistrySource(found.registry(name.registry), str(name.repository))


def _check_exists(source: Source, tag: Tag, label: str | None) -> None:
    try:
        source.manifest(tag)
    except errors.ImageUnknown as e:
        raise errors.ImageUnknown(f"its label ({label}) says {tag}, and {e}") from e


def _labels(found: Registries, image: str) -> Mapping[str, str]:
    """The labels of an image or, for a list, of the one that clients get by default."""
    with host_errors(image):
        name = ImageName.parse(image)
        source = _source(found, name)
        return labels(source, source.manifest(name.reference))


def labels(source: Source, manifest: Manifest) -> Mapping[str, str]:
    """Return the labels in the configuration of an image or of a list's default image.

    Raises ManifestInvalid for a list without one.
    """
    if manifest.is_index:
        child = default_image(manifest)
        manifest = source.manifest(child.digest, child.size)
    fields = _configuration(source, manifest).get("config")
    found = fields.get("Labels") if isinstance(fields, dict) else None
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: text for name, text in pairs if isinstance(text, str)}


def _configuration(source: Source, manifest: Manifest) -> strict_json.Fields:
    if manifest.media_type in SCHEMA1_TYPES:
        history = json.loads(manifest.content).get("history") or [{}]
        return strict_json.load(str(history[0].get("v1Compatibility", "{}")).encode())
    config = manifest.config
    if config is None or config.size is None or config.size > SIZE_LIMIT:
        return {}
    content = VerifiedStream(source.blob(config), config.digest, config.size)
    return strict_json.load(b"".join(content))
