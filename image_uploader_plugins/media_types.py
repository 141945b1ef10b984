# SPDX-License-Identifier: Apache-2.0
"""The media types of manifests, configs and layers, by the names that specifications give them.

Sources: OCI image-spec 1.1.1 (media-types.md), Docker "Image Manifest Version
2, Schema 1" and "Schema 2".
"""

from __future__ import annotations

DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"

JSON = "application/json"
OCTET_STREAM = "application/octet-stream"

SCHEMA1_TYPES = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
IMAGE_TYPES = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
INDEX_TYPES = frozenset({DOCKER_LIST, OCI_INDEX})
# Nothing but these ever becomes a Content-Type, so text from a registry
# cannot reach a web server's configuration through a manifest.
MANIFEST_TYPES = SCHEMA1_TYPES | IMAGE_TYPES | INDEX_TYPES

# The configs of images that a runtime can start; with any other, it is an artifact.
CONFIG_TYPES = frozenset({DOCKER_CONFIG, OCI_CONFIG})

# As the type of a config these say nothing of what an artifact is.
UNTELLING_TYPES = CONFIG_TYPES | {OCI_EMPTY}
