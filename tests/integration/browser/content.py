# SPDX-License-Identifier: Apache-2.0
"""What the page is shown: kind images, and ones that mean harm."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from image_uploader_plugins import media_types
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image, Json
from tests.support import content

# Each would call alarm(), which the page does not have, or load what nobody serves.
SCRIPTS = (
    "<img src=x onerror=alarm()>",
    "<script>alarm()</script>",
    '"><svg onload=alarm()>',
    "javascript:alarm()",
    "</pre></code></style></script><script>alarm()</script>",
    "<iframe srcdoc='<script>parent.alarm()</script>'></iframe>",
    "<a href=//elsewhere.example>elsewhere</a>",
    "<base href=//elsewhere.example/><meta http-equiv=refresh content='0;url=//elsewhere.example'>",
    "{{alarm()}}${alarm()}`alarm()`",
)
UNSEEN = "evil\u202egpj.exe\u2066 zero\u200bwidth nul\0 bell\a escape\x1b[2J line\u2028end"
LONG = "x" * 100_000
WIDE = "\u6c34" * 300 + "a\u0300\u0301\u0302" * 50
HOSTILE = {
    **{f"script-{number}": text for number, text in enumerate(SCRIPTS)},
    **dict.fromkeys(SCRIPTS, "as a name"),
    "unseen": UNSEEN,
    UNSEEN: "as a name",
    "long": LONG,
    "wide": WIDE,
    "__proto__": "as a name",
    "constructor": "as a name",
    "": "without a name",
}
SHELL = "$(alarm);`alarm`'\"; alarm"

# As long as the specification lets a name be, in one word and in many.
LONG_WORD = "evil/" + "w" * 250
LONG_PATH = "evil/" + "/".join(["a"] * 125)
LONG_TAG = "T" * 128
ODD_NAMES = ("evil/a__b--c.d", "0", "evil/constructor", "v2/v2")


def gallery() -> list[Image]:
    """Everything that a tree may hold, and what is there to do harm."""
    return [*content.everything(), *signed(), *hostile(), *named()]


def signed() -> list[Image]:
    """An image with a referrer of each kind."""
    subject = images.image(
        "signed/app",
        "1.0",
        [images.layer({"app": b"app\n" * 999}, oci=True)],
        oci=True,
        annotations={"org.opencontainers.image.source": "https://code.example/app"},
    )
    return [
        subject,
        content.referrer(subject, "application/vnd.example.signature+json", "by somebody"),
        content.referrer(subject, "application/spdx+json", SCRIPTS[0]),
    ]


def hostile() -> list[Image]:
    image = with_config(evil_config(), annotations=HOSTILE)
    artifact = images.artifact(
        "evil/artifact", "1.0", SCRIPTS[0], b"{}", annotations={**HOSTILE, "subject": SHELL}
    )
    return [image, artifact, evil_index(), evil_schema_1()]


def evil_config() -> Json:
    texts = [*SCRIPTS, UNSEEN, SHELL]
    return {
        "architecture": SCRIPTS[0],
        "os": SCRIPTS[1],
        "variant": UNSEEN,
        "created": SCRIPTS[2],
        "author": SCRIPTS[0],
        "config": {
            "Labels": {**HOSTILE, "number": 1, "nested": {"a": [SCRIPTS[0]]}},
            "Entrypoint": ["/bin/sh", "-c", SHELL],
            "Cmd": texts,
            "Env": [f"A={text}" for text in texts],
            "ExposedPorts": {text: {} for text in texts},
            "Volumes": {text: {} for text in texts},
            "WorkingDir": SCRIPTS[0],
            "User": SCRIPTS[0],
            "StopSignal": SCRIPTS[0],
        },
        "history": [{"created_by": text, "empty_layer": True} for text in [*texts, LONG]],
        "rootfs": {"type": "layers", "diff_ids": []},
    }


def with_config(config: Any, name: str = "evil/image", **fields: Any) -> Image:
    """An OCI image with that ``config``, whatever it is, and a layer whose title does harm."""
    layer = images.layer({"file": b"evil"}, oci=True)
    blob = Blob(json.dumps(config).encode(), media_types.OCI_CONFIG)
    parts = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": blob.descriptor(annotations=HOSTILE),
        "layers": [layer.descriptor(annotations={"org.opencontainers.image.title": SCRIPTS[0]})],
        **fields,
    }
    held = {part.digest: part.content for part in (blob, layer)}
    return _image(name, "1.0", parts, held)


def evil_index() -> Image:
    """Platforms that want to get into a command or the page."""
    leaves = [
        images.image(
            "evil/index", None, [images.layer({"n": str(number).encode()}, oci=True)], oci=True
        )
        for number in range(4)
    ]
    platforms = [
        {"os": "linux", "architecture": SHELL},
        {"os": "linux --all", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64", "variant": SCRIPTS[0]},
        {"os": "windows", "architecture": "amd64", "os.version": SCRIPTS[0]},
    ]
    described = [
        leaf.descriptor(platform=platform, annotations=HOSTILE)
        for leaf, platform in zip(leaves, platforms, strict=True)
    ]
    parts = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": described}
    whole = _image("evil/index", "1.0", {**parts, "annotations": HOSTILE}, {})
    return dataclasses.replace(whole, children=tuple(leaves))


def evil_schema_1() -> Image:
    layer = images.layer({"file": b"evil schema 1"})
    command = {"container_config": {"Cmd": ["/bin/sh", "-c", SCRIPTS[0]]}, "created": UNSEEN}
    parts = {
        "schemaVersion": 1,
        "name": SCRIPTS[0],
        "tag": SCRIPTS[1],
        "architecture": SCRIPTS[2],
        "fsLayers": [{"blobSum": str(layer.digest)}] * 2,
        "history": [{"v1Compatibility": json.dumps(command)}, {"v1Compatibility": SCRIPTS[0]}],
    }
    return _image("evil/schema1", "1.0", parts, {layer.digest: layer.content})


def named() -> list[Image]:
    layer = images.layer({"file": b"named"}, oci=True)
    names = [(name, "1.0") for name in (LONG_WORD, LONG_PATH, *ODD_NAMES)]
    names += [("evil/many", tag) for tag in (LONG_TAG, "_", "a.b-c_d", "constructor")]
    return [images.image(name, tag, [layer], oci=True) for name, tag in names]


def _image(name: str, tag: str, parts: Json, blobs: Any) -> Image:
    parsed = Manifest.parse(json.dumps(parts).encode())
    return Image(RepositoryName(name), Tag(tag), parsed, blobs)
