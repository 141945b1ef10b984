# SPDX-License-Identifier: Apache-2.0
"""Images that share, list and refer to each other in every way."""

from __future__ import annotations

from pathlib import Path

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import trees
from tests.support.content import nested_index, referrer, schema_1, sparse_index

ESCAPES = "\x1b[31mred\x07\nERROR: forged\u202e"

BASE = images.layer({"base": b"base" * 500})
ONE = images.image("ns/img", "1.0", [BASE, images.layer({"one": b"1" * 100})])
TWO = images.image("ns/img", "2.0", [BASE, images.layer({"two": b"2" * 300})])
COPY = images.image("ns/copy", "1.0", [BASE, images.layer({"one": b"1" * 100})])
ALONE = images.image("alone", "1.0", [images.layer({"alone": b"alone" * 700})])
CHILDREN = [
    images.image("ns/multi", None, [BASE, images.layer({"arch": arch.encode()})], architecture=arch)
    for arch in ("amd64", "arm64")
]
MULTI = images.index("ns/multi", "1.0", CHILDREN)
FEWER = images.index("ns/multi", "fewer", CHILDREN[:1])
SIGNATURE = referrer(ONE, "application/vnd.example.signature+json", "signed")
CHART = images.artifact("ns/chart", "0.1", "application/vnd.example.chart", b"chart")
HOSTILE = images.image(
    "ns/hostile",
    "1.0",
    [images.layer({"x": b"x"}, oci=True)],
    oci=True,
    architecture=ESCAPES,
    labels={"label" + ESCAPES: "value" + ESCAPES},
    annotations={"note" + ESCAPES: "text" + ESCAPES},
)
OLD = schema_1()
TWINS = [
    images.image("twins", tag, [images.layer({"twin": b"t" * 900})], labels={"tag": tag})
    for tag in ("a", "b")
]
CONTENT = [ONE, TWO, COPY, ALONE, MULTI, FEWER, SIGNATURE, CHART, HOSTILE]
MORE = [*TWINS, OLD, nested_index(), sparse_index(), referrer(SIGNATURE, "application/x", "nested")]


def fill(root: Path) -> None:
    """Write a tree with all of it; ns/img:1.0 has a second tag, and a child of the list has one."""
    with LocalExportDriver(root) as driver:
        for image in CONTENT:
            trees.put(driver, image)
        trees.put(driver, ONE, "latest")
        trees.put(driver, CHILDREN[1], "arm")
