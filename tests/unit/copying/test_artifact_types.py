# SPDX-License-Identifier: Apache-2.0
"""Just some types of what signs and describes an image."""

from __future__ import annotations

import collections
import uuid
from collections.abc import Iterable

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image, Json
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import odd_registry
from tests.support.odd_registry import Asked, OddRegistry, Reply
from tests.support.platforms import index
from tests.support.sources import source

NAME = "ns/app"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
SPDX = "text/spdx+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTATION = "application/vnd.cncf.notary.signature"

APP = images.image(NAME, "1", [images.layer({"a": b"app"})], oci=True)


def cosign(suffix: str, media_type: str) -> Image:
    """What cosign writes: an image's config, and the type at the layer."""
    tag = f"sha256-{APP.digest.encoded}{suffix}"
    return images.image(NAME, tag, [Blob(suffix.encode(), media_type)], oci=True)


def referrer(artifact_type: str, subject: Image = APP) -> Image:
    content = artifact_type.encode()
    return images.artifact(NAME, None, artifact_type, content, subject=subject.descriptor())


def of_a_config(media_type: str) -> Image:
    """An artifact that says what it is by the type of its config."""
    config = Blob(b"{}", media_type)
    found = images.image(
        NAME, None, [], oci=True, config=config.descriptor(), subject=APP.descriptor()
    )
    return Image(found.repository, None, found.manifest, {config.digest: config.content})


SIG, ATT = cosign(".sig", SIMPLE_SIGNING), cosign(".att", ENVELOPE)
SBOM = cosign(".sbom", SPDX)
SIGSTORE, NOTARY = referrer(BUNDLE), referrer(NOTATION)
HELM = of_a_config("application/vnd.example.config+json")
# As cosign writes it for registries that know referrers: lists tell the type of the config.
REFERRING = images.image(
    NAME, None, [Blob(b"refers", SIMPLE_SIGNING)], oci=True, subject=APP.descriptor()
)
SIGNED = referrer(NOTATION, SIGSTORE)
FOUND = {
    "sig": SIG,
    "att": ATT,
    "sbom": SBOM,
    "bundle": SIGSTORE,
    "notation": NOTARY,
    "own": HELM,
    "referring sig": REFERRING,
}


class Target:
    """A driver, and a registry that knows what refers to what; ``asked`` is of the last copy."""

    def __init__(self, found: Iterable[Image], *, tells_types: bool = True) -> None:
        self.driver = MemoryDriver(uuid.uuid4().hex)
        self.registry = OddRegistry([APP, *found])
        self.asked: list[str] = []
        listed: dict[str, list[Json]] = collections.defaultdict(list)
        for image in found:
            if image.manifest.subject:
                config = image.manifest.config
                kind = image.manifest.artifact_type or (config.media_type if config else "")
                told = {"artifactType": kind} if tells_types else {}
                listed[str(image.manifest.subject.digest)].append(image.descriptor(**told))

        def hook(asked: Asked) -> Reply | None:
            _, is_api, digest = asked.path.partition("/referrers/")
            if not is_api:
                return None
            return Reply(body=index(NAME, None, listed[digest], []).manifest.content)

        self.registry.hook = hook

    def copy(self, *types: str) -> ImageRecord:
        self.registry.asked.clear()
        record = ImageRecord("", "")
        options = CopyOptions(artifact_types=types)
        with odd_registry.serving(self.registry) as address:
            target = RepositoryName("copied")
            copier = Copier(self.driver, target, source(address, NAME), record, options=options)
            copier.copy(Tag("1"), Tag("1"), all_platforms=True)
        self.asked = [f"{a.method} {a.path.partition(NAME)[2]}" for a in self.registry.asked]
        return record


def names(record: ImageRecord) -> set[str]:
    known = {str(image.tag or image.digest): name for name, image in FOUND.items()}
    known[str(SIGNED.digest)] = "signature of the bundle"
    return {known[name] for name in record.signatures}


@pytest.mark.parametrize("tells_types", [True, False])
@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([], {*FOUND}),
        ([SIMPLE_SIGNING], {"sig", "referring sig"}),
        ([ENVELOPE, SPDX], {"att", "sbom"}),
        (["text/spdx"], set()),
        ([BUNDLE], {"bundle"}),
        ([NOTATION, SIMPLE_SIGNING], {"notation", "sig", "referring sig"}),
        (["application/vnd.example.config+json"], {"own"}),
        ([media_types.OCI_EMPTY], set()),
        (["application/vnd.example.absent"], set()),
    ],
)
def test_what_goes_by_a_type_comes(
    types: list[str], expected: set[str], *, tells_types: bool
) -> None:
    target = Target(FOUND.values(), tells_types=tells_types)
    assert names(target.copy(*types)) == expected


def test_what_signs_a_chosen_artifact_comes_whatever_it_is() -> None:
    target = Target([*FOUND.values(), SIGNED])
    assert names(target.copy(BUNDLE)) == {"bundle", "signature of the bundle"}
    assert "notation" in names(target.copy(NOTATION))


def test_tags_that_cannot_be_of_a_type_are_not_asked_for() -> None:
    target = Target(FOUND.values())
    target.copy(NOTATION)
    assert not [name for name in target.asked if APP.digest.encoded + "." in name]
    target.copy(ENVELOPE)
    tags = [name for name in target.asked if APP.digest.encoded + "." in name]
    assert {name.partition(".")[2] for name in tags} == {"att"}


@pytest.mark.parametrize("tells_types", [True, False])
def test_what_is_held_is_not_fetched_to_know_its_type(*, tells_types: bool) -> None:
    target = Target([SBOM, SIGSTORE], tells_types=tells_types)
    assert target.copy(SPDX, BUNDLE).status is Status.COPIED
    record = target.copy(SPDX, BUNDLE)
    assert names(record) == {"sbom", "bundle"}
    assert not [name for name in target.asked if name == f"GET /manifests/{SIGSTORE.digest}"]
    assert not [name for name in target.asked if name.startswith("GET /manifests/sha256-")]
