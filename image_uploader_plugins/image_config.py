# SPDX-License-Identifier: Apache-2.0
"""The config of an image, which has its platform and the digests of its uncompressed layers.

Source: OCI image-spec 1.1.1, config.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from image_uploader_plugins import errors, media_types, strict_json
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest, Platform

_LIMIT = 1000
_NAMES = frozenset({"rootfs", "diff_ids", "architecture", "os", "variant"})


def diff_ids(content: bytes) -> tuple[Digest, ...] | None:
    """Return the digests of an image's layers before they were compressed, the lowest first.

    None where the config has none. Raises ManifestInvalid or InvalidReference
    for content that is not a config, or has more than 1000 digests.
    """
    fields = strict_json.load(content, "config")
    strict_json.check_names(fields, _NAMES)
    rootfs = fields.get("rootfs")
    if not isinstance(rootfs, dict):
        return None
    strict_json.check_names(rootfs, _NAMES)
    found = rootfs.get("diff_ids") or []
    if not isinstance(found, list) or len(found) > _LIMIT:
        raise errors.ManifestInvalid(
            f"the config has 'diff_ids' that are no list of up to {_LIMIT}"
        )
    return tuple(map(Digest, found))


def platform(content: bytes) -> Platform:
    """Return what an image runs on; raises ManifestInvalid for content that is not a config."""
    fields = strict_json.load(content, "config")
    strict_json.check_names(fields, _NAMES)
    found = (fields.get(name) for name in ("architecture", "os", "variant"))
    return Platform(*(text if isinstance(text, str) and text else None for text in found))


def describes(manifest: Manifest) -> bool:
    """Return whether a manifest's config describes its layers.

    It does not for an index, schema 1, or an artifact in the form of an image,
    whose layers are no tars (image-spec, manifest.md, "Guidelines for Artifact
    Usage").
    """
    return (
        manifest.config is not None
        and manifest.config.media_type in media_types.CONFIG_TYPES
        and manifest.artifact_type is None
        and all(".tar" in layer.media_type for layer in manifest.layers)
    )


def disagreement(layers: Sequence[Descriptor], diff_ids: int) -> str | None:
    """Return how a manifest's layers and its config's number of them differ; None if they agree.

    Layers that are elsewhere may be counted or not.
    """
    if sum(not layer.urls for layer in layers) <= diff_ids <= len(layers):
        return None
    return f"the manifest lists {len(layers)} layers, and its config names {diff_ids}"
