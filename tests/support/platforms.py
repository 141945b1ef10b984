# SPDX-License-Identifier: Apache-2.0
"""Indexes as builders make them today: an image for each platform, and what attests to it."""

from __future__ import annotations

import dataclasses
import functools
import json

from image_uploader_plugins import media_types
from image_uploader_plugins.manifest import Manifest, Platform, index_fields
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image, Json

AMD64, ARM64, S390X = map(Platform.parse, ("linux/amd64", "linux/arm64", "linux/s390x"))


@dataclasses.dataclass(frozen=True)
class Built:
    """An index, and what it has for each platform."""

    index: Image
    image: dict[str, Image]
    attestation: dict[str, Image]

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The digest of each of its manifests, by what it is."""
        return {
            "index": str(self.index.digest),
            **{name: str(image.digest) for name, image in self.image.items()},
            **{f"about {name}": str(image.digest) for name, image in self.attestation.items()},
        }


def built(
    name: str, tag: str | None, *platforms: str, attested: bool = True, oci: bool = True
) -> Built:
    """Return an index of images for platforms as they are written there, e.g. linux/arm64/v8."""
    found = {platform: _image(name, platform, oci=oci) for platform in platforms}
    about = {platform: _about(image) for platform, image in found.items() if attested}
    entries = [image.descriptor(platform=_fields(text)) for text, image in found.items()]
    entries += [_attestation(found[text], image) for text, image in about.items()]
    return Built(index(name, tag, entries, [*found.values(), *about.values()], oci), found, about)


def index(
    name: str, tag: str | None, entries: list[Json], children: list[Image], oci: bool = True
) -> Image:
    """Return an index of these descriptors, as JSON has them."""
    media_type = media_types.OCI_INDEX if oci else media_types.DOCKER_LIST
    content = json.dumps(index_fields(entries, media_type), indent=2).encode()
    repository, named = RepositoryName(name), Tag(tag) if tag else None
    return Image(repository, named, Manifest.parse(content), children=tuple(children))


def _image(name: str, platform: str, *, oci: bool) -> Image:
    layer = images.layer({"platform": platform.encode()}, oci=oci)
    return images.image(name, None, [layer], oci=oci, architecture=platform.split("/")[1])


def _about(image: Image) -> Image:
    content = f"about {image.digest}".encode()
    return images.artifact(image.repository.value, None, "application/vnd.in-toto+json", content)


def _fields(text: str) -> Json:
    system, architecture, *variant = text.split("/")
    return Platform(architecture, system, *variant).as_dict()


def _attestation(image: Image, about: Image) -> Json:
    annotations = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(image.digest),
    }
    platform = {"architecture": "unknown", "os": "unknown"}
    return about.descriptor(platform=platform, annotations=annotations)
