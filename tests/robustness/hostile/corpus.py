# SPDX-License-Identifier: Apache-2.0
"""Odd manifests, each with what must become of it."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from image_uploader_plugins import manifest, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.testing import images

NAME = "ns/img"
LAYER = images.layer({"file": b"content"}, oci=True)
CONFIG = images.Blob(b'{"architecture":"amd64","os":"linux","rootfs":{}}', media_types.OCI_CONFIG)
CHILD = images.image(NAME, None, [LAYER], oci=True)

BLOBS: Mapping[str, bytes] = {
    str(blob.digest): blob.content for blob in (LAYER, CONFIG, images.Blob(b"{}", "a/b"))
} | {str(digest): content for digest, content in CHILD.blobs.items()}
"""Everything that an acceptable manifest here references."""

ABSENT = str(Digest.of(b"no such content"))
SIZE = len(LAYER.content)


@dataclasses.dataclass(frozen=True)
class Odd:
    """``refused`` are words of the error; None for a manifest that is taken."""

    name: str
    content: bytes = dataclasses.field(repr=False)
    media_type: str
    refused: str | None = None

    def __str__(self) -> str:
        return self.name


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def image(**fields: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": CONFIG.descriptor(),
        "layers": [LAYER.descriptor()],
        **fields,
    }


def index(*children: Any, **fields: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": list(children),
        **fields,
    }


def schema1(**fields: Any) -> dict[str, Any]:
    history = [{"v1Compatibility": '{"id":"x"}'}]
    return {
        "schemaVersion": 1,
        "name": NAME,
        "tag": "1.0",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": str(LAYER.digest)}],
        "history": history,
        **fields,
    }


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def signed(fields: Mapping[str, Any], protected: Mapping[str, Any] | None = None) -> bytes:
    """A schema 1 manifest as libtrust signs it; the signature itself is of no use to anybody."""
    payload = json.dumps(fields, indent=3).encode()
    head, tail = payload[:-2], payload[-2:]
    claim = protected or {"formatLength": len(head), "formatTail": base64url(tail)}
    signature = {"header": {"alg": "ES256"}, "signature": "x", "protected": base64url(text(claim))}
    return head + b',\n   "signatures": ' + text([signature]) + tail


def without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def twice(name: str, value: object, fields: Mapping[str, Any] | None = None) -> bytes:
    """A manifest with a second field of that name behind the first."""
    content = text(image() if fields is None else fields)
    return content[:-1] + b", " + text(name) + b": " + text(value) + b"}"


def padded(size: int) -> bytes:
    content = text(image())
    return content + b" " * (size - len(content))


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    """A value so many levels deep, where nobody looks."""
    return re.sub(
        rb'"hole"', (opening * depth + "0" + closing * depth).encode(), text(image(extra="hole"))
    )


def _schema_1() -> Iterator[Odd]:
    plain, jws = media_types.DOCKER_SCHEMA1, media_types.DOCKER_SCHEMA1_SIGNED
    yield Odd("schema 1", text(schema1()), plain)
    yield Odd("schema 1, signed", signed(schema1()), jws)
    yield Odd("schema 1, signed, by the other name", signed(schema1()), plain)
    layers = [{"blobSum": str(LAYER.digest)}] * 3
    yield Odd("schema 1, a layer three times", text(schema1(fsLayers=layers)), plain)
    yield Odd("schema 1 without layers", text(schema1(fsLayers=None)), plain)
    yield Odd("schema 1 with a config", text(schema1(config=CONFIG.descriptor())), plain, "config")
    yield Odd("schema 1 with layers of 2", text(schema1(layers=[])), plain, "layers")
    yield Odd(
        "schema 1 that says it is 2",
        text(schema1(mediaType=media_types.DOCKER_MANIFEST)),
        media_types.DOCKER_MANIFEST,
        "unknown manifest type",
    )
    yield Odd(
        "schema 1 with a path", text(schema1(fsLayers=[{"blobSum": "../x"}])), plain, "digest"
    )
    yield Odd("schema 1 in caps", text(schema1(fsLayers=[{"BlobSum": ABSENT}])), plain, "BlobSum")
    yield Odd("signatures that are none", text(schema1(signatures="x")), jws, "signatures")
    yield Odd(
        "fsLayers in schema 2", text(image(fsLayers=[])), media_types.OCI_MANIFEST, "fsLayers"
    )


def _types() -> Iterator[Odd]:
    oci, docker = media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST
    yield Odd("no media type", text(without(image(), "mediaType")), oci)
    yield Odd("no media type, index", text(without(index(), "mediaType")), media_types.OCI_INDEX)
    yield Odd("null media type", text(image(mediaType=None)), oci)
    yield Odd("no media type, given as Docker", text(without(image(), "mediaType")), docker)
    yield Odd("OCI layers in Docker's", text(image(mediaType=docker)), docker)
    yield Odd("Docker layers in OCI's", text(image(layers=[_docker_layer()])), oci)
    yield Odd("OCI given as Docker", text(image()), docker, "was given as")
    yield Odd("an image and an index", text(image(manifests=[])), oci, "manifests")
    yield Odd("an index and an image", text(index(layers=[])), media_types.OCI_INDEX, "layers")
    yield Odd(
        "an unnamed image and an index",
        text(without(image(manifests=[]), "mediaType")),
        oci,
        "was given as",
    )
    yield Odd("a type of another kind", text(image(mediaType=["x"])), oci, "mediaType")
    yield Odd("a type with a directive", text(image(mediaType='a/b"\nX')), oci, "manifest type")
    versions: tuple[Any, ...] = (3, 0, -1, "2", 2.0, True, None, [[[]]], 10**400)
    for version in versions:
        yield Odd(
            f"version {version!r:.20} of an image",
            text(image(schemaVersion=version)),
            oci,
            "schemaV",
        )
    # By its media type another program reads on as if it were 2.
    yield Odd(
        "version true", text(schema1(schemaVersion=True)), media_types.DOCKER_SCHEMA1, "schemaV"
    )


def _docker_layer() -> dict[str, Any]:
    return LAYER.descriptor() | {"mediaType": media_types.DOCKER_LAYER_GZIP}


def _nulls() -> Iterator[Odd]:
    oci = media_types.OCI_MANIFEST
    nulls = dict.fromkeys(["subject", "annotations", "artifactType", "manifests", "fsLayers"])
    yield Odd("null where Go writes it", text(image(**nulls)), oci)
    yield Odd("null layers", text(image(layers=None)), oci)
    yield Odd("null children", text(index(manifests=None)), media_types.OCI_INDEX)
    of_layer = dict.fromkeys(["urls", "platform", "data", "annotations"])
    yield Odd("null in a layer", text(image(layers=[LAYER.descriptor(**of_layer)])), oci)
    for name in ("config", "layers"):
        kinds: tuple[Any, ...] = (7, "x", True, {} if name == "layers" else [])
        for value in kinds:
            yield Odd(f"{name} {value!r}", text(image(**{name: value})), oci, "")
    for value in (0, "", [], False, {}, "x"):
        yield Odd(f"subject {value!r}", text(image(subject=value)), oci, "")
    yield Odd("null config", text(image(config=None)), oci, "object")
    yield Odd("null layer", text(image(layers=[None])), oci, "object")
    for name in ("digest", "mediaType", "size"):
        layer = LAYER.descriptor(**{name: None})
        yield Odd(f"null {name}", text(image(layers=[layer])), oci, "not a")


def _names() -> Iterator[Odd]:
    """What Go's decoder takes for another field than Python's does."""
    oci = media_types.OCI_MANIFEST
    layer = LAYER.descriptor()
    for name, value in (
        ("layers", []),
        ("config", CHILD.descriptor()),
        ("mediaType", media_types.OCI_INDEX),
        ("schemaVersion", 2),
        ("anything", {}),
    ):
        content = twice(name, value, image(anything=1))
        yield Odd(f"{name} twice", content, oci, f"'{name}' stands twice")
    deep = b'{"a": [{"b": {"c": 1, "c": 1}}]}'
    content = text(image(annotations="hole")).replace(b'"hole"', deep)
    yield Odd("a name twice, deep down", content, oci, "'c' stands twice")
    escaped = twice("digest", ABSENT, image()).replace(b'"digest": "', b'"d\\u0069gest": "')
    yield Odd("a name twice, once escaped", escaped[:-1] + b', "digest": 1}', oci, "stands twice")
    for name in ("Layers", "LAYERS", "layer\u017f"):
        fields = image(**{name: [layer | {"digest": ABSENT}]})
        yield Odd(f"{name} beside layers", text(fields), oci, "some read it as 'layers'")
        yield Odd(f"{name} alone", text(without(fields, "layers")), oci, "some read it as 'layers'")
    for name in ("MediaType", "Config", "Manifests", "FsLayers", "Subject", "SchemaVersion"):
        yield Odd(name, text(image(**{name: None})), oci, "some read it as")
    for name in ("Digest", "Size", "URLs", "Data", "MEDIATYPE", "\u017fize", "Platform"):
        yield Odd(
            f"{name} of a layer", text(image(layers=[layer | {name: None}])), oci, "some read"
        )
        child = CHILD.descriptor() | {name: None}
        yield Odd(f"{name} of a child", text(index(child)), media_types.OCI_INDEX, "some read")
        yield Odd(f"{name} of a subject", text(image(subject=child)), oci, "some read")
    platform = {"os": "linux", "architecture": "amd64", "OS": "windows"}
    yield Odd("OS", text(index(CHILD.descriptor(platform=platform))), media_types.OCI_INDEX, "'OS'")
    free = {"Layers": "x", "DIGEST": "y", "size": "z"}
    yield Odd("annotations are named as they like", text(image(annotations=free)), oci)


def _sizes() -> Iterator[Odd]:
    oci = media_types.OCI_MANIFEST
    for value in (-1, 2**63, 10**30, 1.5, 1e3, "1", True, [1]):
        layers = [LAYER.descriptor(size=value)]
        yield Odd(f"size {value!r:.20}", text(image(layers=layers)), oci, "size in bytes")
    for number in ("NaN", "Infinity", "-Infinity", "1" + "0" * 5000, "01", "+1", "0x10", "1."):
        content = text(image(layers=[LAYER.descriptor(size="hole")]))
        yield Odd(
            f"number {number:.20}", content.replace(b'"hole"', number.encode()), oci, "not JSON"
        )
    content = text(image(layers=[LAYER.descriptor(size="hole")])).replace(b'"hole"', b"1e999")
    yield Odd("size 1e999", content, oci, "size in bytes")
    one, other = LAYER.descriptor(), LAYER.descriptor(size=SIZE + 1)
    yield Odd("a layer twice", text(image(layers=[one, one])), oci)
    yield Odd("a layer with two sizes", text(image(layers=[one, other])), oci, "two sizes")
    config = LAYER.descriptor(mediaType=media_types.OCI_CONFIG, size=1)
    yield Odd("a layer that is the config, smaller", text(image(config=config)), oci, "two sizes")
    empty = images.Blob(b"{}", media_types.OCI_EMPTY)
    layers = [empty.descriptor(mediaType="application/x")]
    yield Odd("one blob of two types", text(image(config=empty.descriptor(), layers=layers)), oci)
    listed, bigger = CHILD.descriptor(), CHILD.descriptor(size=7)
    kind, two = media_types.OCI_INDEX, "two sizes"
    yield Odd("a child twice", text(index(listed, listed)), kind)
    yield Odd("a child with two sizes", text(index(listed, bigger)), kind, two)
    docker = CHILD.descriptor(mediaType=media_types.DOCKER_MANIFEST)
    yield Odd("a child of two types", text(index(listed, docker)), kind, "two types")
    wrong = text(image(layers=[LAYER.descriptor(size=SIZE - 1)]))
    yield Odd("a layer of another size than stored", wrong, oci, "bytes instead of")
    yield Odd(
        "a layer that is absent", text(image(layers=[one | {"digest": ABSENT}])), oci, "not in"
    )


def _embedded() -> Iterator[Odd]:
    oci = media_types.OCI_MANIFEST
    data = base64.b64encode(LAYER.content).decode()
    for name, value, refused in (
        ("its own", data, None),
        ("other", base64.b64encode(b"x" * SIZE).decode(), "data embedded"),
        ("no", "", "data embedded"),
        ("malformed", data[:-3] + "!==", "data embedded"),
        ("unpadded", base64.b64encode(b"a").decode().rstrip("="), "data embedded"),
        ("beside", data + "\n", "data embedded"),
        ("accented", "\u00e9" * 4, "data embedded"),
        ("typed", 7, "wrong type"),
    ):
        content = text(image(layers=[LAYER.descriptor(data=value)]))
        yield Odd(f"{name} data", content, oci, refused)
    short = text(index(CHILD.descriptor(data=data)))
    yield Odd("data of another in an index", short, media_types.OCI_INDEX, "data embedded")
    content = text(image(layers=[LAYER.descriptor(data=data, size=SIZE + 1)]))
    yield Odd("data of another size", content, oci, "data embedded")
    urls = {"digest": ABSENT, "urls": ["https://192.0.2.1/x"]}
    yield Odd("a layer from elsewhere", text(image(layers=[LAYER.descriptor(**urls)])), oci)
    odd_urls: tuple[Any, ...] = ([7], [None], {}, "https://192.0.2.1/", [["x"]])
    for urls_value in odd_urls:
        layers = [LAYER.descriptor(digest=ABSENT, urls=urls_value)]
        expected = "urls" if urls_value else ""
        yield Odd(f"urls {urls_value!r}", text(image(layers=layers)), oci, expected)


def _shapes() -> Iterator[Odd]:
    oci = media_types.OCI_MANIFEST
    yield Odd("4 MiB", padded(manifest.SIZE_LIMIT), oci)
    yield Odd("4 MiB and a byte", padded(manifest.SIZE_LIMIT + 1), oci, "the limit is 4194304")
    yield Odd("50 deep", nested(50), oci)
    yield Odd("100k deep", nested(100_000), oci, "nested too deeply")
    yield Odd("100k deep in objects", nested(100_000, '{"a":', "}"), oci, "nested too deeply")
    for name in ("schemaVersion", "mediaType", "layers", "annotations"):
        content = text(image(**{name: "hole"})).replace(b'"hole"', b"[" * 800 + b"]" * 800)
        yield Odd(f"{name} 800 deep", content, oci, "")
    for name in ("digest", "mediaType", "size", "urls", "data"):
        content = text(image(layers=[LAYER.descriptor(**{name: "hole"})]))
        content = content.replace(b'"hole"', b"[" * 800 + b"]" * 800)
        yield Odd(f"{name} of a layer 800 deep", content, oci, "")
    yield Odd("many empty lists", text(image(x=[[]] * 100_000)), oci)
    millions = text(image(x=[[]] * 1_000_000))
    yield Odd("a million empty lists", millions, oci, "more than 250000 values")
    yield Odd("a digest of a million", text(image(config={"digest": "x" * 10**6})), oci, "digest")
    many = [LAYER.descriptor(digest=f"sha256:{n:064x}") for n in range(20_000)]
    yield Odd("20k layers", text(image(layers=many)), oci, "and 19990 more")
    many = [CHILD.descriptor(digest=f"sha256:{n:064x}") for n in range(20_000)]
    yield Odd("20k children", text(index(*many)), media_types.OCI_INDEX)
    yield Odd("a layer 20k times", text(image(layers=[LAYER.descriptor()] * 20_000)), oci)


def _texts() -> Iterator[Odd]:
    oci = media_types.OCI_MANIFEST
    for name, content in (
        ("nothing", b""),
        ("a list", b"[]"),
        ("null", b"null"),
        ("a string", b'"x"'),
        ("two documents", text(image()) + b"{}"),
        ("cut", text(image())[:-1]),
        ("a byte order mark", b"\xef\xbb\xbf" + text(image())),
        ("UTF-16", text(image()).decode().encode("utf-16")),
        ("UTF-32", text(image()).decode().encode("utf-32-le")),
        ("Latin-1", json.dumps(image(x="\u00e9"), ensure_ascii=False).encode("latin-1")),
        ("overlong", text(image(x="hole")).replace(b"hole", b"\xc0\xaf")),
        ("surrogates", text(image(x="hole")).replace(b"hole", b"\xed\xa0\x80")),
        ("a NUL behind", text(image()) + b"\0"),
        ("a bare line break", text(image(x="hole")).replace(b"hole", b"a\nb")),
        ("single quotes", repr(image()).encode()),
        ("a comment", text(image()) + b"//"),
        ("a comma too many", text(image())[:-1] + b",}"),
    ):
        yield Odd(name, content, oci, "not ")
    yield Odd("escaped surrogates", text(image(annotations={"a": "\ud800", "\udfff": "b"})), oci)
    yield Odd("escaped controls", text(image(annotations={"a\0\r\n\x1b[2J": '"\n<\u202e'})), oci)


CORPUS = [
    odd
    for part in (_schema_1, _types, _nulls, _names, _sizes, _embedded, _shapes, _texts)
    for odd in part()
]
