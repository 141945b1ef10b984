# SPDX-License-Identifier: Apache-2.0
"""Runs: what is asked, what is copied, and what one image's failure leaves of the others."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Footprint, Room
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.runs.records import Status
from image_uploader_plugins.sources.mirrored_source import MirroredSource
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support.odd_registry import Asked, Reply
from tests.unit.sync.conftest import Site

BASE = images.layer({"base": b"base" * 500})


def image(name: str, tag: str | None = "1", text: str = "") -> Image:
    own = images.layer({"own": f"{name} {tag} {text}".encode()})
    return images.image(name, tag, [BASE, own], oci=True)


def layer_size(*layers: Blob) -> int:
    return sum(len(layer.content) for layer in layers)


def test_a_run_copies_what_is_wanted(site: Site) -> None:
    for name in ("ns/a", "ns/b"):
        site.registry.add(image(name))
    assert site.run(site.entry("ns/a", "1"), site.entry("ns/b", "1")) == []
    assert site.error == ""
    assert site.there("ns/a") == {"1": str(image("ns/a").digest)}
    assert site.statuses() == {"ns/a:1": Status.COPIED, "ns/b:1": Status.COPIED}
    assert [record.targets for record in site.journal.images] == [["ns/a:1"], ["ns/b:1"]]


def test_no_request_is_made_twice(site: Site) -> None:
    names = [f"ns/app{number}" for number in range(12)]
    for name in names:
        site.registry.add(image(name))
    site.run(*(site.entry(name, "1") for name in names))
    assert site.error == ""
    manifests = {k: v for k, v in site.asked().items() if k[1].endswith("/manifests/1")}
    assert set(manifests.values()) == {1}
    assert {method for method, _ in manifests} == {"GET"}
    blobs = {k: v for k, v in site.asked().items() if "/blobs/" in k[1]}
    assert len(blobs) == 12 * 2 + 1  # with the shared base
    assert set(blobs.values()) == {1}
    signatures = [k for k in site.asked() if "/manifests/sha256-" in k[1]]
    assert {site.asked()[key] for key in signatures} == {1}


def test_where_nothing_changed_each_image_is_one_head_and_a_look_for_signatures(
    site: Site,
) -> None:
    names = [f"ns/app{number}" for number in range(30)]
    entries = [site.entry(name, "1") for name in names]
    for name in names:
        site.registry.add(image(name))
    site.run(*entries)
    site.run(*entries)
    assert set(site.statuses().values()) == {Status.UNCHANGED}
    asked = site.asked()
    tags = {key: asked.pop(key) for key in list(asked) if key[1].endswith("/manifests/1")}
    assert set(tags.values()) == {1}
    assert {method for method, _ in tags} == {"HEAD"}
    assert len(tags) == 30
    # Three tags of cosign's, and the list of referrers.
    of_signatures = [key for key in asked if "sha256-" in key[1] or "/referrers/" in key[1]]
    assert sorted(asked) == sorted(of_signatures)
    per_image = sum(asked.values()) / 30
    assert per_image <= 5
    assert site.journal.progress() == (30, 0, 30)

    site.run(*entries, copying={"signatures": False})
    assert sum(site.asked().values()) == 30


def test_the_same_image_twice_is_one_piece_of_work(site: Site) -> None:
    site.registry.add(image("ns/a"))
    plan = site.plan(site.entry("ns/a", "1", where="one:1"), site.entry("ns/a", "1", where="two:5"))
    assert site.states(plan) == {"ns/a:1": "new"}
    assert plan.images[0].image.where == ("one:1", "two:5")


def test_two_images_for_one_name_are_refused_before_anything_is_copied(site: Site) -> None:
    for name in ("ns/a", "ns/b", "ns/c"):
        site.registry.add(image(name))
    site.run(
        site.entry("ns/c", "1"),
        site.entry("ns/a", "1", where="one:7", target=RepositoryName("x")),
        site.entry("ns/b", "1", where="two:9", target=RepositoryName("x")),
    )
    assert "x:1 would be" in site.error
    assert "ns/a:1 (sha256:" in site.error
    assert ", one:7)" in site.error
    assert ", two:9)" in site.error
    assert not site.driver.repositories
    assert not site.registry.paths("/blobs/")


def test_full_names_keep_them_apart(site: Site) -> None:
    site.registry.add(image("ns/a"))
    site.run(site.entry("ns/a", "1"), copying={"full_names": True})
    assert site.error == ""
    host, port = site.address.split(":")
    assert list(site.there(f"{host}_{port}/ns/a")) == ["1"]
    site.run(site.entry("ns/a", "1", full_names=False), copying={"full_names": True})
    assert list(site.there("ns/a")) == ["1"]


def test_one_that_fails_does_not_stop_the_others(site: Site) -> None:
    for name in ("ns/a", "ns/c"):
        site.registry.add(image(name))
    site.registry.hook = lambda asked: Reply(404) if "ns/none" in asked.path else None
    entries = [
        site.entry("ns/a", "1"),
        site.entry("ns/b", "1"),
        site.entry("ns/none", where="list:9", choice={"all": True}),
        site.entry("ns/c", "1"),
    ]
    site.run(*entries)
    assert site.statuses() == {
        "ns/a:1": Status.COPIED,
        "ns/b:1": Status.FAILED,
        "ns/none": Status.FAILED,
        "ns/c:1": Status.COPIED,
    }
    assert site.error.startswith("2 of 4 images failed: ")
    assert f"list:9: {site.address}/ns/none: " in site.error
    assert f"{site.address}/ns/b:1: not found" in site.error
    why = {site.short(record): record.why for record in site.journal.images}
    assert why["ns/b:1"] is not None


def test_tags_are_listed_just_where_they_must_be(site: Site) -> None:
    for tag in ("1", "2", "3"):
        site.registry.add(image("ns/a", tag))
        site.registry.add(image("ns/b", tag))
    site.run(site.entry("ns/a", "1"), site.entry("ns/b", choice={"globs": ("[23]",)}))
    assert site.error == ""
    assert sorted(site.there("ns/b")) == ["2", "3"]
    assert list(site.there("ns/a")) == ["1"]
    assert site.registry.paths("/tags/list") == ["/v2/ns/b/tags/list"]


def test_a_digest_comes_without_a_tag(site: Site) -> None:
    found = image("ns/a")
    site.registry.add(found)
    site.run(site.entry("ns/a", digests=(found.digest,)))
    assert site.there("ns/a") == {}
    assert site.driver.resolve(ImageRef(found.repository, found.digest)) == found.digest
    plan = site.plan(site.entry("ns/a", digests=(found.digest,)))
    assert site.states(plan) == {f"ns/a@{found.digest}": "unchanged"}


@pytest.mark.parametrize("head", [True, False], ids=["head", "no head"])
def test_a_tag_that_leads_elsewhere_than_its_pin_fails(site: Site, head: bool) -> None:
    def hook(asked: Asked) -> Reply | None:
        return Reply(405) if asked.method == "HEAD" and not head else None

    site.registry.hook = hook
    right, wrong = image("ns/a").digest, Digest.of(b"other")
    site.registry.add(image("ns/a"))
    site.registry.add(image("ns/b"))
    site.run(
        site.entry("ns/a", pins={Tag("1"): wrong}),
        site.entry("ns/b", pins={Tag("1"): image("ns/b").digest}),
    )
    assert str(right) in site.error
    assert str(wrong) in site.error
    assert site.there("ns/a") == {}
    assert site.there("ns/b") == {"1": str(image("ns/b").digest)}
    assert not site.registry.paths("ns/a/blobs/")


def test_a_pinned_tag_that_moves_brings_what_it_is_pinned_to(site: Site) -> None:
    old, new = image("ns/a", text="old"), image("ns/a", text="new")
    site.registry.add(old)

    def hook(asked: Asked) -> Reply | None:
        if asked.method == "HEAD" and asked.path.endswith("/manifests/1"):
            site.registry.hook = lambda _: None
            reply = site.registry.answer(asked)
            site.registry.add(new)
            return reply
        return None

    site.registry.hook = hook
    entry = site.entry("ns/a", pins={Tag("1"): old.digest})
    site.run(entry)
    assert site.error == ""
    assert site.there("ns/a") == {"1": str(old.digest)}
    site.run(entry)
    assert f"the tag leads to {new.digest}, and the list says {old.digest}" in site.error
    assert site.there("ns/a") == {"1": str(old.digest)}


def test_a_pinned_tag_that_did_not_move_is_one_head(site: Site) -> None:
    found = image("ns/a")
    site.registry.add(found)
    entry = site.entry("ns/a", pins={Tag("1"): found.digest})
    site.run(entry, copying={"signatures": False})
    manifests = [key for key in site.asked() if "/manifests/" in key[1]]
    assert sorted(manifests) == [
        ("GET", f"/v2/ns/a/manifests/{found.digest}"),
        ("HEAD", "/v2/ns/a/manifests/1"),
    ]
    site.run(entry, copying={"signatures": False})
    assert site.statuses() == {"ns/a:1": Status.UNCHANGED}
    assert site.asked() == {("HEAD", "/v2/ns/a/manifests/1"): 1}


def test_what_two_entries_want_of_one_image_comes_together(site: Site) -> None:
    found = image("ns/a")
    tag = f"sha256-{found.digest.encoded}.sig"
    site.registry.add(found)
    site.registry.add(images.image("ns/a", tag, [images.layer({"s": b"s"})], oci=True))
    site.run(site.entry("ns/a", "1", referrers=False), copying={})
    assert sorted(site.there("ns/a")) == ["1"]
    entries = [site.entry("ns/a", "1", referrers=False), site.entry("ns/a", "1", referrers=True)]
    assert site.states(site.plan(*entries)) == {"ns/a:1": "changed"}
    site.run(*entries)
    assert sorted(site.there("ns/a")) == ["1", tag]


def test_what_is_left_out_is_told_to_the_driver(site: Site) -> None:
    """Also where nothing else changes."""
    children = [
        images.image("ns/a", None, [images.layer({"a": arch.encode()})], architecture=arch)
        for arch in ("amd64", "arm64")
    ]
    index = images.index("ns/a", "1", children)
    site.registry.add(index)
    for part in (children[1], index):
        for digest, content in part.blobs.items():
            site.driver.upload_layer(part.repository, [content], expected=digest)
        content, media_type = part.manifest.content, part.manifest.media_type
        site.driver.put_manifest(part.repository, content, media_type, tag=part.tag)
    entry = site.entry("ns/a", "1", platforms=(Platform.parse("linux/arm64"),))
    plan = site.plan(entry)
    assert (site.states(plan), plan.is_work) == ({"ns/a:1": "unchanged"}, False)
    assert plan.images[0].to_copy
    site.run(entry)
    assert site.driver.left_out(index.repository, index.digest) == {children[0].digest}
    assert not site.plan(entry).images[0].to_copy


# -- the plan


def test_a_plan_tells_what_a_run_would_do(site: Site) -> None:
    old, moved = image("ns/a"), image("ns/b")
    for one in (old, moved):
        site.registry.add(one)
    entries = [site.entry(name, "1") for name in ("ns/a", "ns/b", "ns/c", "ns/gone")]
    site.run(*entries[:2])
    site.registry.add(image("ns/b", text="moved"))
    site.registry.add(image("ns/c"))
    before = site.there("ns/b")
    plan = site.plan(*entries)
    assert site.states(plan) == {
        "ns/a:1": "unchanged",
        "ns/b:1": "changed",
        "ns/c:1": "new",
        "ns/gone:1": "failed",
    }
    assert site.there("ns/b") == before
    assert plan.is_work
    assert not site.registry.paths("/blobs/")
    need = dict(zip(site.states(plan), plan.needs, strict=True))
    changed = image("ns/b", text="moved")
    own = [d for d in changed.manifest.blobs() if d.digest != BASE.digest]
    assert need["ns/b:1"].blob_bytes == sum(d.size or 0 for d in own)
    assert need["ns/a:1"].blob_bytes == need["ns/gone:1"].blob_bytes == 0
    assert (need["ns/c:1"].repositories, need["ns/b:1"].repositories) == (1, 0)
    assert (need["ns/c:1"].tags, need["ns/b:1"].tags) == (1, 0)
    assert not plan.need.at_most


def test_what_two_images_share_counts_once(site: Site) -> None:
    names = [f"ns/app{number}" for number in range(9)]
    for name in names:
        site.registry.add(image(name))
    plan = site.plan(*(site.entry(name, "1") for name in names))
    every = {d: len(c) for name in names for d, c in image(name).blobs.items()}
    assert plan.need.blob_bytes == sum(every.values())
    assert plan.need.blobs == len(every)
    # It is the first one that brings it, in the order of the list.
    assert plan.needs[0].blob_bytes - plan.needs[1].blob_bytes == pytest.approx(
        layer_size(BASE), abs=20
    )


def test_where_nothing_changes_there_is_no_work(site: Site) -> None:
    site.registry.add(image("ns/a"))
    site.run(site.entry("ns/a", "1"))
    plan = site.plan(site.entry("ns/a", "1"))
    assert not plan.is_work
    assert (plan.need.blob_bytes, plan.need.manifests) == (0, 0)


def test_what_is_to_be_checked_is_looked_at_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether content is damaged is not known from its name."""
    site.registry.add(image("ns/a"))
    site.run(site.entry("ns/a", "1"))
    mount_layers, checks = MemoryDriver.mount_layers, []

    def noted(*arguments: Any, **more: Any) -> frozenset[Digest]:
        checks.append(more.get("check"))
        return mount_layers(*arguments, **more)

    monkeypatch.setattr(MemoryDriver, "mount_layers", noted)
    plan = site.plan(site.entry("ns/a", "1"), copying={"check_present": True})
    assert site.states(plan) == {"ns/a:1": "unchanged"}
    assert checks == []
    site.run(site.entry("ns/a", "1"), copying={"check_present": True})
    assert checks == [True]
    assert site.statuses() == {"ns/a:1": Status.UNCHANGED}


def test_lists_of_tags_are_read_several_at_once(site: Site) -> None:
    names = [f"ns/app{number}" for number in range(4)]
    all_of_them = threading.Barrier(4)

    def hook(asked: Asked) -> Reply | None:
        if asked.path.endswith("/tags/list"):
            all_of_them.wait(60)
        return None

    for name in names:
        site.registry.add(image(name))
    site.registry.hook = hook
    plan = site.plan(*(site.entry(name, choice={"all": True}) for name in names))
    assert list(site.states(plan)) == [f"{name}:1" for name in names]


# -- the room there is


def with_room(monkeypatch: pytest.MonkeyPatch, room: Room) -> None:
    monkeypatch.setattr(MemoryDriver, "room", lambda _: room)


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (Room(1000), "and there is room for 1.0 kB"),
        (Room(10**9, 3), "the run would store about 4 files, and there is room for 3"),
        (Room(10**9, 10, tag=Footprint(0, 7)), "about 11 files"),
        (Room(10**6, manifest=Footprint(10**6)), "and there is room for 1.0 MB"),
    ],
)
def test_what_cannot_fit_is_refused_before_the_first_byte(
    site: Site, monkeypatch: pytest.MonkeyPatch, room: Room, words: str
) -> None:
    if room.bytes == 1000:
        site.registry.add(images.image("ns/a", "1", [images.layer({"x": b"%d" * 99}, plain=True)]))
    else:
        layers = [images.layer({"x": str(number).encode()}) for number in range(3)]
        site.registry.add(images.image("ns/a", "1", layers))
    with_room(monkeypatch, room)
    site.run(site.entry("ns/a", "1"))
    assert site.error.startswith("memory: the run would store ")
    assert words in site.error
    assert "--no-space-check" in site.error
    assert not site.registry.paths("/blobs/")
    assert site.statuses() == {"ns/a:1": Status.SKIPPED}
    site.run(site.entry("ns/a", "1"), check_space=False)
    assert site.error == ""


def test_what_is_there_needs_no_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.registry.add(image("ns/a"))
    site.run(site.entry("ns/a", "1"))
    with_room(monkeypatch, Room(0, 0))
    site.run(site.entry("ns/a", "1"))
    assert site.error == ""


def test_a_driver_that_does_not_tell_what_it_has_is_not_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.registry.add(image("ns/a"))
    with_room(monkeypatch, Room(10, 10))
    monkeypatch.setattr(MemoryDriver, "mountable", lambda *_: None)
    assert site.plan(site.entry("ns/a", "1")).need.at_most
    site.run(site.entry("ns/a", "1"))
    assert site.error == ""


# -- a source that changes under the run


@pytest.mark.parametrize("moment", ["after the tag was asked", "between blobs"])
def test_a_tag_that_moves_gives_the_old_image_or_the_new_one_whole(site: Site, moment: str) -> None:
    old, new = image("ns/a", text="old"), image("ns/a", text="new")
    site.registry.add(old)
    part = "/manifests/1" if moment.startswith("after") else "/blobs/"

    def hook(asked: Asked) -> Reply | None:
        if part in asked.path:
            site.registry.hook = lambda _: None
            reply = site.registry.answer(asked)
            site.registry.add(new)
            return reply
        return None

    site.registry.hook = hook
    site.run(site.entry("ns/a", "1"))
    assert site.error == ""
    assert site.there("ns/a") == {"1": str(old.digest)}
    assert set(site.driver.repositories[old.repository].blobs) == set(old.blobs)
    site.run(site.entry("ns/a", "1"))
    assert site.there("ns/a") == {"1": str(new.digest)}


def test_an_image_that_leaves_under_the_run_fails_and_the_old_one_stays(site: Site) -> None:
    old, new = image("ns/a", text="old"), image("ns/a", text="new")
    site.registry.add(old)
    site.run(site.entry("ns/a", "1"))
    site.registry.add(new)
    site.registry.hook = lambda asked: Reply(404) if "/blobs/" in asked.path else None
    site.run(site.entry("ns/a", "1"))
    assert "ns/a:1" in site.error
    assert site.there("ns/a") == {"1": str(old.digest)}
    site.registry.hook = lambda _: None
    site.run(site.entry("ns/a", "1"))
    assert site.there("ns/a") == {"1": str(new.digest)}


def test_the_driver_that_is_not_asked_for_its_tags_is_not_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    site.registry.add(image("ns/a"))
    site.run(site.entry("ns/a", "1"))
    monkeypatch.setattr(MemoryDriver, "tags", fail)
    site.run(site.entry("ns/a", "1"))
    assert site.error == ""


def test_what_is_missing_is_told_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    child = images.image("ns/a", None, [BASE], architecture="amd64")
    site.registry.add(images.index("ns/a", "1", [child]))
    both = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
    site.run(site.entry("ns/a", "1", platforms=both))
    assert caplog.text.count("no image for linux/arm64") == 1
    assert site.journal.images[0].missing_platforms == ["linux/arm64"]
    caplog.clear()
    site.run(site.entry("ns/a", "1", platforms=both))
    assert caplog.text.count("no image for linux/arm64") == 1


def test_options_of_entries_are_their_own(site: Site) -> None:
    children = [
        images.image("ns/a", None, [images.layer({"a": arch.encode()})], architecture=arch)
        for arch in ("amd64", "arm64")
    ]
    index = images.index("ns/a", "1", children)
    site.registry.add(index)

    arm = (Platform.parse("linux/arm64"),)
    site.run(site.entry("ns/a", "1", platforms=arm))
    assert site.there("ns/a") == {"1": str(index.digest)}
    held = site.driver.repositories[index.repository].manifests
    assert set(held) == {index.digest, children[1].digest}
    plan = site.plan(site.entry("ns/a", "1", platforms=arm))
    assert site.states(plan) == {"ns/a:1": "unchanged"}
    assert not plan.images[0].to_copy
    both = [site.entry("ns/a", "1", platforms=arm), site.entry("ns/a", "1")]
    plan = site.plan(*both)
    assert site.states(plan) == {"ns/a:1": "changed"}
    assert plan.images[0].image.options.platforms is None


def test_an_image_that_waits_for_its_copy_has_not_failed(site: Site) -> None:
    """All are looked at before the first is copied; a run that ends there has copied none."""
    for name in ("ns/a", "ns/b"):
        site.registry.add(image(name))
    seen: list[tuple[int, int, int]] = []

    def hook(asked: Asked) -> Reply | None:
        if "/blobs/" in asked.path:
            seen.append(site.journal.progress())
        return None

    site.registry.hook = hook
    site.run(site.entry("ns/a", "1"), site.entry("ns/b", "1"))
    assert site.error == ""
    assert {failed for _, failed, _ in seen} == {0}
    assert seen[0] == (0, 0, 2)


def test_an_image_is_as_insecure_as_what_its_plan_was_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror may have given the manifests, and the registry the blobs."""
    site.registry.add(image("ns/a"))
    verified = iter([False, True])
    monkeypatch.setattr(MirroredSource, "is_verified", property(lambda _: next(verified)))
    site.run(site.entry("ns/a", "1"))
    assert site.error == ""
    assert [record.insecure for record in site.journal.images] == [True]


def test_a_plan_leaves_records_of_what_was_not_copied(site: Site) -> None:
    site.registry.add(image("ns/a"))
    site.plan(site.entry("ns/a", "1"))
    (record,) = site.journal.images
    assert (record.status, record.digest, record.blobs) == (Status.SKIPPED, None, [])
