# SPDX-License-Identifier: Apache-2.0
"""tripleo-common's own uploader, with our sources to ask registries."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

from tripleo_common.image import exception, image_uploader

from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.sources.image_name import ImageName
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.tripleo import image_labels, tls_probe
from image_uploader_plugins.tripleo.failures import tripleo_errors

_WORKERS = 16


class PushingUploader(image_uploader.PythonImageUploader):  # type: ignore[misc]
    """tripleo-common's own pushing uploader, but it finds tags and labels as clients do.

    NOTE: tripleo-common looks for a tag in the first window of a list, and takes
    the list's last tag where it does not find it there: another version.
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
        ImageUploaderException, also for two images of one name:
        tripleo-common gives both the same tag.
        """
        template = image_labels.Template(tag_from_label)
        with contextlib.closing(self.open_registries()) as found:
            discover = functools.partial(image_labels.discover, found, template)
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
        template = image_labels.Template(tag_from_label)
        with contextlib.closing(self._registries_for(image, username, password)) as found:
            return image_labels.discover(found, template, image, lambda _asked: fallback_tag)

    def filter_images_with_labels(
        self,
        images: Iterable[str],
        labels: Iterable[str],
        username: str | None = None,
        password: str | None = None,
    ) -> list[str]:
        """Return those images that have one of the labels, also under the tags of their labels.

        NOTE: tripleo-common asks for the names of before, and looks for those of
        after discover_image_tags().
        """
        wanted = set(labels)
        with contextlib.closing(self.open_registries()) as registries:
            known = ((image, image_labels.labels_of(registries, image)) for image in images)
            found = [image for image, its in known if wanted & its.keys()]
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
        with tripleo_errors(image):
            login = {ImageName.parse(image).registry: Login(username, password)}
        return Registries(dataclasses.replace(found.settings, keychain=Keychain(login, {})))


def _untagged(image: str) -> str:
    """Return a name without its tag: what follows the last colon, unless that is a port."""
    return image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image
