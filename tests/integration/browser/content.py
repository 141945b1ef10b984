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
    kind = [*content.everything(), *signed(), *stated("signed/index", PROVENANCE), chart()]
    return [*kind, *hostile(), *named()]


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


PROVENANCE = "https://slsa.dev/provenance/v1"
PREDICATE = "in-toto.io/predicate-type"


def stated(name: str, predicate: str, odd: str = "") -> list[Image]:
    """An index of two platforms, and what is said about them in each of the other two ways.

    In the index, as BuildKit does; by tags, as cosign does, one of which is a list of
    referrers (distribution-spec 1.1, "Referrers Tag Schema"). ``odd`` is in all texts.
    """
    leaves = [
        images.image(
            name,
            None,
            [images.layer({"of": f"{name} {architecture}".encode()}, oci=True)],
            oci=True,
            architecture=architecture + odd,
        )
        for architecture in ("amd64", "arm64")
    ]
    proofs = [_attestation(name, leaf, predicate) for leaf in leaves]
    described = [
        *(
            leaf.descriptor(platform={"os": "linux", "architecture": architecture + odd})
            for leaf, architecture in zip(leaves, ("amd64", "arm64"), strict=True)
        ),
        *(
            proof.descriptor(platform=UNKNOWN, annotations=_about(leaf))
            for leaf, proof in zip(leaves, proofs, strict=True)
        ),
    ]
    parts = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": described}
    index = dataclasses.replace(_image(name, "1.0", parts, {}), children=(*leaves, *proofs))
    layer = images.layer({"signature": f"{name}{odd}".encode()}, oci=True)
    tagged = [
        images.image(name, digest_tag(about, suffix), [layer], oci=True, annotations={"odd": odd})
        for about, suffix in ((index, ".sig"), (index, ".sbom"), (leaves[1], ".att"))
    ]
    bundle = images.artifact(name, None, f"application/vnd.example.notary{odd}", b"bundle")
    listing = {"manifests": [bundle.descriptor(artifactType=f"application/vnd.notary{odd}")]}
    fallback = _image(name, digest_tag(index), {**parts, **listing}, {})
    return [index, *tagged, dataclasses.replace(fallback, children=(bundle,))]


UNKNOWN = {"os": "unknown", "architecture": "unknown"}


def digest_tag(image: Image, suffix: str = "") -> str:
    return str(image.digest).replace(":", "-") + suffix


def _about(image: Image) -> Json:
    key = "vnd.docker.reference"
    return {f"{key}.type": "attestation-manifest", f"{key}.digest": str(image.digest)}


def _attestation(name: str, about: Image, predicate: str) -> Image:
    statement = Blob(json.dumps([str(about.digest)]).encode(), "application/vnd.in-toto+json")
    config = Blob(json.dumps(UNKNOWN).encode(), media_types.OCI_CONFIG)
    parts = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": [statement.descriptor(annotations={PREDICATE: predicate})],
    }
    return _image(name, None, parts, {part.digest: part.content for part in (statement, config)})


def chart(repository: str = "charts/app", tag: str = "1.2.3_b4", **fields: Any) -> Image:
    """A Helm chart, whose version has a plus."""
    said = {"name": "app", "version": "1.2.3+b4", "appVersion": "2026.1", "apiVersion": "v2"}
    config = Blob(
        json.dumps({**said, **fields}).encode(), "application/vnd.cncf.helm.config.v1+json"
    )
    layer = Blob(b"chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    parts = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
        "annotations": {"org.opencontainers.image.created": "2026-02-03T04:05:06Z"},
    }
    return _image(repository, tag, parts, {part.digest: part.content for part in (config, layer)})


def evil_chart() -> Image:
    keys = ("name", "version", "appVersion", "description", "type", "kubeVersion")
    texts = dict(zip(keys, SCRIPTS, strict=False))
    people = [{"name": text} for text in (*SCRIPTS, UNSEEN)]
    return chart("evil/chart", "1.0", **texts, dependencies=people, maintainers=people)


def hostile() -> list[Image]:
    image = with_config(evil_config(), annotations=HOSTILE)
    artifact = images.artifact(
        "evil/artifact", "1.0", SCRIPTS[0], b"{}", annotations={**HOSTILE, "subject": SHELL}
    )
    others = [evil_index(), evil_schema_1(), evil_chart()]
    return [image, artifact, *others, *stated("evil/signed", SCRIPTS[0] + "\u202e", SCRIPTS[0])]


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


def _image(name: str, tag: str | None, parts: Json, blobs: Any) -> Image:
    parsed = Manifest.parse(json.dumps(parts).encode())
    return Image(RepositoryName(name), Tag(tag) if tag else None, parsed, blobs)
