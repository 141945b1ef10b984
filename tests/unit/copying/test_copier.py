# SPDX-License-Identifier: Apache-2.0
"""What comes along with an image, and which of several it is."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.runs.records import ImageRecord, Outcome, Status, Totals
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import odd_registry
from tests.support.odd_registry import Asked, OddRegistry, Reply
from tests.support.sources import source

NAME = "ns/app"
TARGET = RepositoryName("copied")
SIGNATURE = "application/vnd.example.signature+json"
AMD64 = {"architecture": "amd64", "os": "linux"}


def image(content: str, tag: str | None = None, **more: Any) -> Image:
    return images.image(NAME, tag, [images.layer({"a": content.encode()})], oci=True, **more)


def about(subject: Image, content: str, tag: str | None = None) -> Image:
    """An artifact that refers to an image."""
    return images.artifact(NAME, tag, SIGNATURE, content.encode(), subject=subject.descriptor())


def cosign(subject: Image, suffix: str) -> Image:
    return image(suffix, f"sha256-{subject.digest.encoded}{suffix}")


def listing(referrers: Iterable[Image], tag: str | None = None) -> Image:
    return images.index(NAME, tag, referrers, oci=True)


class Copy:
    """One image that was copied, and what there is now."""

    def __init__(self, registry: OddRegistry, **more: Any) -> None:
        named = ("signatures", "foreign_layers")
        options = {name: more.pop(name) for name in named if name in more}
        self.driver = MemoryDriver(uuid.uuid4().hex)
        self.record = ImageRecord("", "")
        reference = more.pop("reference", Tag("1"))
        with odd_registry.serving(registry) as address:
            copier = Copier(
                self.driver,
                TARGET,
                source(address, NAME),
                self.record,
                options=CopyOptions(**options),
            )
            copier.copy(reference, Tag("1"), all_platforms=more.pop("all_platforms", False))
        self.totals = Totals.of([self.record], 0.0)
        self.repository = self.driver.repositories[TARGET]

    @property
    def tags(self) -> set[str]:
        return {str(tag) for tag in self.repository.tags}

    @property
    def digest(self) -> Digest:
        return self.repository.tags[Tag("1")]


def subject(found: Image) -> str:
    assert found.manifest.subject
    return str(found.manifest.subject.digest)


def referrers_api(*found: Image) -> Any:
    """A registry with the API, that knows of these."""

    def hook(asked: Asked) -> Reply | None:
        _, is_api, digest = asked.path.partition("/referrers/")
        if not is_api:
            return None
        return Reply(body=listing(i for i in found if subject(i) == digest).manifest.content)

    return hook


# -- signatures


@pytest.mark.slow
def test_signatures_by_cosigns_tags() -> None:
    app = image("app", "1")
    signed = [cosign(app, suffix) for suffix in (".sig", ".att", ".sbom")]
    twice = cosign(signed[0], ".sig")
    other = image("other", "sha256-" + "0" * 64 + ".sig")
    copy = Copy(OddRegistry([app, *signed, twice, other]))
    names = {str(i.tag) for i in (*signed, twice)}
    assert copy.tags == {"1", *names}
    # The same manifest signs the image and its signature: it has both tags.
    assert signed[0].digest == twice.digest
    assert set(copy.record.signatures) == names
    for part in (*signed, twice):
        assert copy.repository.manifests[part.digest].content == part.manifest.content


@pytest.mark.slow
@pytest.mark.parametrize("way", ["api", "tag", "both"])
def test_signatures_that_refer(way: str) -> None:
    """Also to the children of a list, and to what refers to them."""
    child = image("child")
    app = images.index(NAME, "1", [child], oci=True)
    sbom, signature = about(child, "sbom"), about(app, "signature")
    signed = about(sbom, "signature of the sbom")
    found = (sbom, signature, signed)
    registry = OddRegistry([app, *found])
    if way != "tag":
        registry.hook = referrers_api(*found)
    if way != "api":
        for i in found:
            registry.add(listing([i], subject(i).replace(":", "-")))
    copy = Copy(registry, all_platforms=True)
    assert set(copy.record.signatures) == {str(i.digest) for i in found}
    assert {app.digest, child.digest, *(i.digest for i in found)} == set(copy.repository.manifests)
    assert copy.tags == {"1"}


@pytest.mark.slow
def test_referrers_of_one_platform_alone() -> None:
    child, other = image("child"), image("other", architecture="arm64")
    app = images.index(NAME, "1", [child, other], oci=True)
    found = (about(child, "a"), about(other, "b"), about(app, "c"))
    copy = Copy(OddRegistry([app, *found], referrers_api(*found)))
    assert copy.record.signatures == [str(found[0].digest)]


@pytest.mark.slow
def test_referrers_in_pages() -> None:
    """Wherever the link leads, it is this registry that is asked; a circle ends."""
    app = image("app", "1")
    found = [about(app, str(number)) for number in range(4)]
    path = f"/v2/{NAME}/referrers/{app.digest}"
    links = {
        "": f"<{path}?last=1>; rel=next",
        "1": f'<http://192.0.2.1{path}?last=2>; rel="next"',
        "2": '<?last=3>; rel="next"',
        "3": f'<{path}?last=1>; rel="next"',
    }

    def hook(asked: Asked) -> Reply | None:
        if asked.path != path:
            return None
        (last,) = asked.query.get("last", [""])
        page = listing([found[int(last or 0)]]).manifest.content
        return Reply(200, (("Link", links[last]),), page)

    registry = OddRegistry([app, *found], hook)
    copy = Copy(registry)
    assert set(copy.record.signatures) == {str(i.digest) for i in found}
    assert len(registry.paths(path)) == 4


@pytest.mark.slow
def test_a_page_of_referrers_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    app = image("app", "1")
    path = f"/v2/{NAME}/referrers/{app.digest}"

    def hook(asked: Asked) -> Reply | None:
        if asked.path != path:
            return None
        if asked.query:
            return Reply(403)
        return Reply(200, (("Link", f'<{path}?last=1>; rel="next"'),), listing([]).manifest.content)

    with pytest.raises(errors.RegistryError, match="403"):
        Copy(OddRegistry([app], hook))


def test_signatures_are_left_behind() -> None:
    app = image("app", "1")
    found = (cosign(app, ".sig"), about(app, "sbom"))
    registry = OddRegistry([app, *found], referrers_api(*found))
    copy = Copy(registry, signatures=False)
    assert (copy.record.signatures, copy.tags) == ([], {"1"})
    assert not registry.paths("sha256-") + registry.paths("/referrers/")


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_none_that_can_be_found_is_no_error(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a registry that refuses to say; but that is told, once."""

    def hook(asked: Asked) -> Reply | None:
        looked_for = "sha256-" in asked.path or "/referrers/" in asked.path
        return Reply(status) if looked_for else None

    copy = Copy(OddRegistry([image("app", "1")], hook))
    assert (copy.record.signatures, copy.record.status) == ([], Status.COPIED)
    told = [r.getMessage() for r in caplog.records if "signatures" in r.getMessage()]
    assert len(told) == (status != 404)


@pytest.mark.slow
def test_a_chain_of_signatures_ends() -> None:
    chain = [image("app", "1")]
    for number in range(8):
        chain.append(about(chain[-1], str(number)))
    copy = Copy(OddRegistry(chain, referrers_api(*chain[1:])))
    assert copy.record.signatures == [str(i.digest) for i in chain[1:6]]


def test_a_referrer_that_is_gone_is_an_error() -> None:
    app = image("app", "1")
    with pytest.raises(errors.ImageUnknown):
        Copy(OddRegistry([app], referrers_api(about(app, "gone"))))


# -- which of several


def attestation(subject: Image) -> tuple[Image, dict[str, Any]]:
    found = image("attestation")
    return found, found.descriptor(
        platform={"architecture": "unknown", "os": "unknown"},
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": str(subject.digest),
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("field", ["platform", "annotations"])
def test_an_attestation_is_no_image(field: str) -> None:
    """Whichever of the two says so, and wherever it stands."""
    arm = image("arm", architecture="arm64")
    attesting, entry = attestation(arm)
    entry.pop(field)
    entries = [entry, arm.descriptor(platform={"architecture": "arm64", "os": "linux"})]
    app = images.index(NAME, "1", [attesting, arm], oci=True, manifests=entries)
    assert Copy(OddRegistry([app])).digest == arm.digest
    whole = Copy(OddRegistry([app]), all_platforms=True)
    assert whole.digest == app.digest
    assert attesting.digest in whole.repository.manifests


def test_nothing_but_attestations() -> None:
    attesting, entry = attestation(image("gone"))
    app = images.index(NAME, "1", [attesting], oci=True, manifests=[entry])
    with pytest.raises(errors.ManifestInvalid, match="lists no image"):
        Copy(OddRegistry([app]))


@pytest.mark.slow
@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0], [2, 1, 0]])
def test_the_plain_variant_is_taken_and_told(
    order: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    variants = [image("plain"), image("v2"), image("v3")]
    platforms = [AMD64, AMD64 | {"variant": "v2"}, AMD64 | {"variant": "v3"}]
    entries = [variants[i].descriptor(platform=platforms[i]) for i in order]
    app = images.index(NAME, "1", variants, oci=True, manifests=entries)
    assert Copy(OddRegistry([app])).digest == variants[0].digest
    assert f"several images for amd64, taking linux/amd64 ({variants[0].digest})" in caplog.text


@pytest.mark.slow
def test_another_architecture_is_told(caplog: pytest.LogCaptureFixture) -> None:
    arm = image("arm", architecture="arm64")
    Copy(OddRegistry([images.index(NAME, "1", [arm], oci=True)]))
    assert "no image for amd64, taking linux/arm64" in caplog.text


# -- types and names


def untyped(found: Image) -> Image:
    fields = json.loads(found.manifest.content)
    del fields["mediaType"]
    content = json.dumps(fields).encode()
    parsed = Manifest.parse(content, found.manifest.media_type)
    return Image(found.repository, found.tag, parsed, found.blobs, found.children)


@pytest.mark.slow
@pytest.mark.parametrize("oci", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_a_child_without_a_type_is_what_its_descriptor_says(oci: bool, nested: bool) -> None:
    """Also where a registry does not say what it sends."""
    child = untyped(images.image(NAME, None, [images.layer({"a": b"a"})], oci=oci))
    if nested:
        child = untyped(images.index(NAME, None, [child], oci=oci))
    app = images.index(NAME, "1", [child], oci=oci)
    by_digest = {f"/v2/{NAME}/manifests/{part.digest}": part for part in child.walk()}

    def hook(asked: Asked) -> Reply | None:
        part = by_digest.get(asked.path)
        plain = (("Content-Type", "text/plain"),)
        return Reply(200, plain, part.manifest.content) if part else None

    for registry in (OddRegistry([app]), OddRegistry([app], hook)):
        copy = Copy(registry, all_platforms=True)
        assert copy.repository.manifests[child.digest].media_type == child.manifest.media_type
        assert copy.digest == app.digest


def test_a_child_that_is_of_another_type_is_refused() -> None:
    child = image("child")
    entry = child.descriptor(mediaType=media_types.DOCKER_MANIFEST, platform=AMD64)
    app = images.index(NAME, "1", [child], manifests=[entry])
    with pytest.raises(errors.ManifestInvalid, match="listed as"):
        Copy(OddRegistry([app]), all_platforms=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["application/vnd.example.v1+json", "text/x.y-z_1", "a/b"])
def test_types_of_layers_stay_what_they_are(kind: str) -> None:
    layer = images.Blob(b"content", kind)
    app = images.image(NAME, "1", [layer], oci=True)
    copy = Copy(OddRegistry([app]))
    assert copy.repository.manifests[app.digest].layers[0].media_type == kind


@pytest.mark.slow
def test_a_manifest_keeps_the_name_that_its_source_gives() -> None:
    app = image("app", "1")
    long = Digest.of(app.manifest.content, "sha512")

    def hook(asked: Asked) -> Reply | None:
        if not asked.path.endswith(("/manifests/1", str(long))):
            return None
        headers = (("Docker-Content-Digest", str(long)), ("Content-Type", app.manifest.media_type))
        return Reply(200, headers, app.manifest.content)

    copy = Copy(OddRegistry([app], hook))
    assert copy.digest == long
    assert copy.record.digest == str(long)
    assert Copy(OddRegistry([app], hook), reference=long).digest == long


@pytest.mark.slow
def test_signatures_of_a_long_name() -> None:
    """The fallback tag has 64 of its characters (distribution-spec 1.1, "Referrers Tag Schema")."""
    app = image("app", "1")
    long = Digest.of(app.manifest.content, "sha512")
    sbom = images.artifact(NAME, None, SIGNATURE, b"s", subject=app.descriptor(digest=str(long)))
    headers = (("Docker-Content-Digest", str(long)),)
    registry = OddRegistry([app, sbom, listing([sbom], f"sha512-{long.encoded[:64]}")])
    registry.hook = lambda asked: (
        Reply(200, headers, app.manifest.content) if asked.path.endswith("/manifests/1") else None
    )
    assert Copy(registry).record.signatures == [str(sbom.digest)]


# -- layers that are elsewhere


@pytest.fixture
def away() -> Iterator[tuple[Image, OddRegistry]]:
    """An image with a layer that only another server has."""
    content = b"windows" * 1000
    storage = OddRegistry(hook=lambda asked: Reply(body=content))
    with odd_registry.serving(storage) as address:
        here = images.layer({"here": b"here"})
        layer = images.Blob(content, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        app = images.image(NAME, "1", [here])
        fields = json.loads(app.manifest.content)
        fields["layers"].append(layer.descriptor(urls=[f"http://{address}/x"]))
        parsed = Manifest.parse(json.dumps(fields).encode())
        yield Image(app.repository, app.tag, parsed, app.blobs), storage


def test_layers_that_are_elsewhere_are_told_of(away: tuple[Image, OddRegistry]) -> None:
    app, storage = away
    copy = Copy(OddRegistry([app]))
    (skipped,) = [blob for blob in copy.record.blobs if blob.outcome is Outcome.SKIPPED]
    assert skipped.digest == str(app.manifest.layers[1].digest)
    assert skipped.why == "clients get it by its urls"
    told = "seconds; 1 layers are elsewhere, clients get them by their urls"
    assert str(copy.totals).endswith(told)
    assert storage.asked == []


@pytest.mark.slow
def test_layers_that_are_elsewhere_are_fetched_on_request(
    away: tuple[Image, OddRegistry],
) -> None:
    app, storage = away
    copy = Copy(OddRegistry([app]), foreign_layers=True)
    assert {layer.digest for layer in app.manifest.layers} <= set(copy.repository.blobs)
    assert "elsewhere" not in str(copy.totals)
    assert storage.seen() == {None}
