# SPDX-License-Identifier: Apache-2.0
"""Some platforms of an index, with its digest kept: what comes, and what later runs ask for."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import content, odd_registry, platforms
from tests.support.odd_registry import OddRegistry
from tests.support.platforms import AMD64, ARM64, S390X, Built, built
from tests.support.sources import source

NAME = "ns/app"
TARGET = RepositoryName("copied")
RISCV64 = Platform.parse("linux/riscv64")


class Unaware(MemoryDriver):
    """A driver that does not record what is left out."""

    leave_out = UploaderDriver.leave_out
    left_out = UploaderDriver.left_out  # type: ignore[assignment]


class Target:
    """A driver, and one repository of a registry; ``asked`` is what the last copy asked for."""

    def __init__(self, *found: Image, driver: MemoryDriver | None = None) -> None:
        self.driver = driver or MemoryDriver(uuid.uuid4().hex)
        self.registry = OddRegistry(found)
        self.asked: list[str] = []

    def copy(
        self, *chosen: Platform, tag: str = "1", all_platforms: bool = False, signed: bool = False
    ) -> ImageRecord:
        self.registry.asked.clear()
        record = ImageRecord("", "")
        options = CopyOptions(signatures=signed, platforms=chosen or None)
        with odd_registry.serving(self.registry) as address:
            asked = source(address, NAME)
            copier = Copier(self.driver, TARGET, asked, record, options=options)
            try:
                copier.copy(Tag(tag), Tag(tag), all_platforms=all_platforms)
            finally:
                self.asked = [f"{a.method} {a.path.split('/')[-1]}" for a in self.registry.asked]
        return record

    @property
    def manifests(self) -> set[str]:
        return {str(digest) for digest in self.driver.repositories[TARGET].manifests}

    def left_out(self, image: Image) -> set[str] | None:
        found = self.driver.left_out(TARGET, image.digest)
        return None if found is None else set(map(str, found))


def app(tag: str = "1", *, oci: bool = True) -> Built:
    return built(NAME, tag, "linux/amd64", "linux/arm64/v8", "linux/s390x", oci=oci)


def digests(found: Built, *names: str) -> set[str]:
    return {found.digests[name] for name in names}


# -- what comes


@pytest.mark.parametrize("oci", [True, False])
def test_the_index_comes_with_the_chosen_images_and_what_describes_them(*, oci: bool) -> None:
    found = app(oci=oci)
    target = Target(found.index)
    record = target.copy(ARM64)
    wanted = digests(found, "index", "linux/arm64/v8", "about linux/arm64/v8")
    assert target.manifests == wanted
    assert record.digest == str(found.index.digest)
    assert target.driver.repositories[TARGET].tags == {Tag("1"): found.index.digest}
    assert target.left_out(found.index) == set(found.digests.values()) - wanted
    assert {c.digest: (c.status, c.why) for c in record.children} == {
        digest: (Status.COPIED, None)
        if digest in wanted
        else (Status.SKIPPED, "for another platform")
        for name, digest in found.digests.items()
        if name != "index"
    }
    assert record.missing_platforms == []


def test_the_choice_goes_before_all_platforms() -> None:
    found = app()
    target = Target(found.index)
    target.copy(AMD64, all_platforms=True)
    assert target.manifests == digests(found, "index", "linux/amd64", "about linux/amd64")


def test_every_variant_of_a_system_that_fits_comes() -> None:
    servers = [images.image(NAME, None, [images.layer({"v": b"%d" % n})]) for n in range(3)]
    windows = {"architecture": "amd64", "os": "windows"}
    entries = [
        servers[0].descriptor(platform=windows | {"os.version": "10.0.17763.1"}),
        servers[1].descriptor(platform=windows | {"os.version": "10.0.20348.1"}),
        servers[2].descriptor(platform=windows | {"variant": "v3"}),
    ]
    target = Target(platforms.index(NAME, "1", entries, servers))
    target.copy(Platform.parse("windows/amd64"))
    assert target.manifests.issuperset(str(i.digest) for i in servers[:2])
    assert str(servers[2].digest) not in target.manifests


def test_what_describes_nothing_stays_behind() -> None:
    found = app()
    entries = [
        {**entry.as_dict(), "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
        if entry.is_attestation
        else entry.as_dict()
        for entry in found.index.manifest.manifests
    ]
    entries[-1]["annotations"]["vnd.docker.reference.digest"] = "nothing"
    target = Target(platforms.index(NAME, "1", entries, list(found.index.children)))
    target.copy(AMD64)
    assert target.manifests & set(found.digests.values()) == digests(found, "linux/amd64")


def nested() -> tuple[Image, Image, list[Image]]:
    inner = built(NAME, None, "linux/amd64", "linux/s390x", attested=False)
    other = images.image(NAME, None, [images.layer({"a": b"arm64"})], architecture="arm64")
    entries = [
        inner.index.descriptor(),
        other.descriptor(platform={"architecture": "arm64", "os": "linux"}),
    ]
    top = platforms.index(NAME, "1", entries, [inner.index, other])
    return top, inner.index, [*inner.image.values(), other]


@pytest.mark.parametrize(
    ("chosen", "expected", "missing"),
    [
        ([AMD64], [0], []),
        ([AMD64, ARM64], [0, 2], []),
        ([S390X, RISCV64], [1], ["linux/riscv64"]),
        ([ARM64], [2], []),
    ],
)
def test_an_index_in_an_index_is_chosen_from(
    chosen: Sequence[Platform], expected: Sequence[int], missing: list[str]
) -> None:
    top, inner, found = nested()
    target = Target(top)
    record = target.copy(*chosen)
    assert target.manifests == {
        str(top.digest),
        str(inner.digest),
        *(str(found[number].digest) for number in expected),
    }
    assert record.missing_platforms == missing
    assert target.copy(*chosen).status is Status.UNCHANGED
    assert target.asked == ["HEAD 1"]


def test_an_index_that_names_no_platforms_comes_whole(caplog: pytest.LogCaptureFixture) -> None:
    parts = [images.artifact(NAME, None, "application/vnd.example", t) for t in (b"1", b"2")]
    target = Target(images.index(NAME, "1", parts, oci=True))
    record = target.copy(AMD64)
    assert target.manifests == {record.digest, *(str(part.digest) for part in parts)}
    assert record.missing_platforms == []
    assert not caplog.text


def test_schema_1_comes_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    old = next(
        i for i in content.everything() if i.manifest.media_type in media_types.SCHEMA1_TYPES
    )
    target = Target(dataclasses.replace(old, repository=RepositoryName(NAME), tag=Tag("1")))
    assert target.copy(AMD64).status is Status.COPIED
    assert not caplog.text


# -- what is missing


def test_a_platform_that_is_missing_is_named(caplog: pytest.LogCaptureFixture) -> None:
    found = app()
    target = Target(found.index)
    for status in (Status.COPIED, Status.UNCHANGED):
        record = target.copy(AMD64, RISCV64)
        assert record.status is status
        assert record.missing_platforms == ["linux/riscv64"]
        (message,) = caplog.messages
        assert message == (
            "copied:1: no image for linux/riscv64, "
            "just for linux/amd64, linux/arm64/v8, linux/s390x"
        )
        caplog.clear()


def test_without_any_of_the_platforms_the_image_fails() -> None:
    found = app()
    target = Target(found.index)
    expected = "no image for linux/riscv64, just for linux/amd64, linux/arm64/v8, linux/s390x"
    with pytest.raises(errors.ImageUnknown, match=expected):
        target.copy(RISCV64)
    assert TARGET not in target.driver.repositories
    target.copy(AMD64)
    with pytest.raises(errors.ImageUnknown, match=expected):
        target.copy(RISCV64)


@pytest.mark.parametrize("chosen", [[AMD64], [ARM64, S390X]])
def test_an_image_that_is_no_index_comes_and_what_it_is_for_is_told(
    chosen: list[Platform], caplog: pytest.LogCaptureFixture
) -> None:
    plain = images.image(NAME, "1", [images.layer({"a": b"a"})])
    target = Target(plain)
    record = target.copy(*chosen)
    assert (record.status, record.digest) == (Status.COPIED, str(plain.digest))
    wanted = "copied:1: the image is for linux/amd64 alone, not for linux/arm64, linux/s390x"
    assert caplog.messages == ([] if AMD64 in chosen else [wanted])
    config = plain.manifest.config
    assert config
    assert target.asked.count(f"GET {config.digest}") == 1


def test_an_artifact_is_for_no_platform(caplog: pytest.LogCaptureFixture) -> None:
    config = Blob(b'{"architecture": "arm64"}', "application/vnd.example.config+json")
    plain = images.image(NAME, "1", [], oci=True, config=config.descriptor())
    chart = dataclasses.replace(plain, blobs={config.digest: config.content})
    assert Target(chart).copy(AMD64).status is Status.COPIED
    assert not caplog.text


# -- later runs


def test_a_run_that_changes_nothing_is_one_head() -> None:
    target = Target(app().index)
    assert target.copy(AMD64, ARM64).status is Status.COPIED
    assert target.copy(ARM64, AMD64).status is Status.UNCHANGED
    assert target.asked == ["HEAD 1"]


def test_more_platforms_are_fetched() -> None:
    found = app()
    target = Target(found.index)
    target.copy(AMD64)
    record = target.copy(AMD64, S390X)
    assert record.status is Status.COPIED
    assert f"GET {found.image['linux/s390x'].digest}" in target.asked
    assert f"GET {found.image['linux/arm64/v8'].digest}" not in target.asked
    left = digests(found, "linux/arm64/v8", "about linux/arm64/v8")
    assert target.left_out(found.index) == left
    assert target.copy(all_platforms=True).status is Status.COPIED
    assert target.left_out(found.index) == set()
    assert target.manifests == set(found.digests.values())
    assert target.copy(all_platforms=True).status is Status.UNCHANGED
    assert target.asked == ["HEAD 1"]


def test_fewer_platforms_remove_nothing() -> None:
    found = app()
    target = Target(found.index)
    target.copy(AMD64, ARM64)
    left = digests(found, "linux/s390x", "about linux/s390x")
    assert target.copy(AMD64).status is Status.UNCHANGED
    assert target.asked == ["HEAD 1"]
    # Also where the image is put again: what is there is to stay whole.
    target.driver.repositories[TARGET].tags.clear()
    assert target.copy(AMD64).status is Status.COPIED
    assert target.left_out(found.index) == left
    assert target.manifests == set(found.digests.values()) - left


def test_what_is_there_is_no_more_than_what_was_left_out() -> None:
    """A child that is lost, and that an earlier choice had brought, is noted as left out."""
    found = app()
    target = Target(found.index)
    target.copy(AMD64, ARM64)
    del target.driver.repositories[TARGET].manifests[found.image["linux/arm64/v8"].digest]
    assert target.copy(AMD64).status is Status.UNCHANGED
    assert len(target.asked) > 1
    assert found.digests["linux/arm64/v8"] in (target.left_out(found.index) or ())
    target.copy(AMD64)
    assert target.asked == ["HEAD 1"]


def test_a_driver_that_records_nothing_is_believed() -> None:
    target = Target(app().index, driver=Unaware(uuid.uuid4().hex))
    target.copy(AMD64)
    assert target.copy(AMD64).status is Status.UNCHANGED
    assert target.asked == ["HEAD 1"]
    assert target.copy(AMD64, ARM64).status is Status.COPIED


def test_two_tags_of_one_index_have_what_either_asked_for() -> None:
    one, two = app("1"), app("2")
    target = Target(one.index, two.index)
    target.copy(AMD64, tag="1")
    target.copy(ARM64, tag="2")
    left = digests(one, "linux/s390x", "about linux/s390x")
    assert target.left_out(one.index) == left
    for tag, platform in (("1", AMD64), ("2", ARM64)):
        assert target.copy(platform, tag=tag).status is Status.UNCHANGED
        assert target.asked == [f"HEAD {tag}"]


def test_signatures_are_asked_for_what_was_chosen_alone() -> None:
    found = app()
    target = Target(found.index)
    target.copy(AMD64, signed=True)
    asked = {
        name.split()[1].replace("sha256-", "sha256:").partition(".")[0] for name in target.asked
    }
    signed = {digest for digest in found.digests.values() if digest in asked}
    assert signed == digests(found, "index", "linux/amd64", "about linux/amd64")
