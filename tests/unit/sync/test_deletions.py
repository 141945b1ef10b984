# SPDX-License-Identifier: Apache-2.0
"""What leaves the target of a list that mirrors, and all that keeps it there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support.odd_registry import Asked, Reply, text
from tests.unit.sync.conftest import Site

ALL = {"all": True}


def image(tag: str | None, name: str = "ns/a") -> Image:
    return images.image(name, tag, [images.layer({"tag": f"{name} {tag}".encode()})], oci=True)


def signature(of: Image, suffix: str = ".sig") -> Image:
    tag = f"sha256-{of.digest.encoded}{suffix}"
    content = images.layer({"sig": tag.encode()})
    return images.image(str(of.repository), tag, [content], oci=True)


def put(site: Site, *found: Image) -> None:
    """Images that the target has already."""
    for one in found:
        for digest, content in one.blobs.items():
            site.driver.upload_layer(one.repository, [content], expected=digest)
        site.driver.put_manifest(
            one.repository, one.manifest.content, one.manifest.media_type, tag=one.tag
        )


@pytest.fixture
def site(site: Site) -> Site:
    """The registry has two tags, and the target four."""
    for tag in ("1", "2"):
        site.registry.add(image(tag))
    put(site, *(image(tag) for tag in ("1", "2", "3", "4")))
    return site


def test_what_is_no_longer_wanted_goes(site: Site) -> None:
    plan = site.plan(site.entry("ns/a", choice=ALL, mirror=True))
    assert [list(map(str, going.tags)) for going in plan.going] == [["3", "4"]]
    assert (plan.deletions, plan.is_work) == (2, True)
    assert sorted(site.there("ns/a")) == ["1", "2", "3", "4"]
    assert site.run(site.entry("ns/a", choice=ALL, mirror=True)) == ["ns/a:3", "ns/a:4"]
    assert site.error == ""
    assert sorted(site.there("ns/a")) == ["1", "2"]
    assert image("3").digest not in site.driver.repositories[RepositoryName("ns/a")].manifests
    assert site.run(site.entry("ns/a", choice=ALL, mirror=True)) == []


def test_without_mirror_everything_stays(site: Site) -> None:
    plan = site.plan(site.entry("ns/a", choice=ALL))
    assert (plan.going, plan.is_work) == ([], False)
    assert site.run(site.entry("ns/a", choice=ALL)) == []
    assert sorted(site.there("ns/a")) == ["1", "2", "3", "4"]


def test_never_more_than_the_share(site: Site) -> None:
    entry = site.entry("ns/a", "1", mirror=True)
    told = (
        "mirror: 3 of the 4 tags of ns/a would go, more than --max-share 0.5 allows: nothing is "
        "deleted"
    )
    plan = site.plan(entry)
    assert plan.going[0].problem == told.removeprefix("mirror: ")
    assert site.run(entry) == []
    assert site.error == told
    assert sorted(site.there("ns/a")) == ["1", "2", "3", "4"]
    assert site.run(entry, max_share="0.75") == ["ns/a:2", "ns/a:3", "ns/a:4"]


def test_not_where_the_list_cannot_be_read_whole(site: Site) -> None:
    """The first page comes, and the second one does not."""

    def hook(asked: Asked) -> Reply | None:
        if not asked.path.endswith("/tags/list"):
            return None
        if "last" in asked.query:
            return Reply(404)
        link = '</v2/ns/a/tags/list?last=1>; rel="next"'
        return Reply(200, (("Link", link),), b'{"name": "ns/a", "tags": ["1"]}')

    site.registry.hook = hook
    assert site.run(site.entry("ns/a", choice=ALL, mirror=True), max_share="1.0") == []
    assert "ns/a" in site.error
    assert sorted(site.there("ns/a")) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("other", ["ns/a", "ns/b"], ids=["its own", "another"])
def test_not_where_an_image_failed(
    site: Site, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = site.entry("ns/a", choice=ALL, mirror=True)
    site.run(mirror, site.entry(other, "absent"))
    assert f"{other}:absent" in site.error
    assert sorted(site.there("ns/a")) == ["1", "2", "3", "4"]
    assert "ns/a: nothing is deleted, since not all images came" in caplog.text
    assert site.run(mirror) == ["ns/a:3", "ns/a:4"]


def test_deletions_come_last(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noting(name: str) -> None:
        method = getattr(MemoryDriver, name)

        def noted(*arguments: Any, **more: Any) -> Any:
            done.append(name)
            return method(*arguments, **more)

        monkeypatch.setattr(MemoryDriver, name, noted)

    noting("put_manifest")
    noting("delete")
    site.registry.add(image("1", "ns/b"))
    site.run(site.entry("ns/a", choice=ALL, mirror=True), site.entry("ns/b", "1"))
    assert done == ["put_manifest", "delete", "delete"]


def test_tags_of_other_entries_stay(site: Site) -> None:
    site.registry.add(image("3", "ns/other"))
    target = RepositoryName("ns/a")
    entries = [
        site.entry("ns/a", choice=ALL, mirror=True),
        site.entry("ns/other", "3", target=target),
    ]
    assert site.run(*entries) == ["ns/a:4"]
    assert site.error == ""
    assert sorted(site.there("ns/a")) == ["1", "2", "3"]
    assert site.run(*entries) == []
    assert site.states(site.plan(*entries))["ns/other:3"] == "unchanged"


def test_what_signs_an_image_that_stays_stays(site: Site) -> None:
    """Also where the source does not have it any more."""
    put(site, signature(image("1")))
    assert site.run(site.entry("ns/a", choice=ALL, mirror=True)) == ["ns/a:3", "ns/a:4"]
    assert str(signature(image("1")).tag) in site.there("ns/a")


def test_what_came_along_stays(site: Site) -> None:
    """Also under a tag that does not name a digest: sha512's is longer than a tag may be."""
    found = image("1")
    digest = Digest.of(found.manifest.content, "sha512")
    tag = f"sha512-{digest.encoded[:64]}.sig"
    site.registry.add(images.image("ns/a", tag, [images.layer({"s": b"s"})], oci=True))
    manifests = site.registry.manifests
    manifests["ns/a", str(digest)] = manifests["ns/a", str(found.digest)]
    entry = site.entry("ns/a", "2", digests=(digest,), mirror=True)
    assert site.run(entry, max_share="1.0") == ["ns/a:1", "ns/a:3", "ns/a:4"]
    assert set(site.there("ns/a")) == {"2", tag}
    assert site.run(entry) == []
    assert site.error == ""


def test_what_signs_an_image_goes_with_it(site: Site) -> None:
    first = signature(image("3"))
    second = signature(first, ".att")
    put(site, first, second)
    plan = site.plan(site.entry("ns/a", choice=ALL, mirror=True))
    assert plan.going[0].total == 4  # of images
    gone = site.run(site.entry("ns/a", choice=ALL, mirror=True))
    assert gone == ["ns/a:3", "ns/a:4", f"ns/a:{first.tag}", f"ns/a:{second.tag}"]
    assert sorted(site.there("ns/a")) == ["1", "2"]


def test_signatures_of_images_that_are_gone_go_and_do_not_count(site: Site) -> None:
    """As those of the image that a tag led to before it moved."""
    site.run(site.entry("ns/a", "1", mirror=True), max_share="1.0")
    old = image("moved-on")
    stale = [signature(old, suffix) for suffix in (".att", ".sbom", ".sig")]
    put(site, *stale)
    entry = site.entry("ns/a", "1", mirror=True)
    plan = site.plan(entry)
    assert (plan.deletions, plan.is_work, plan.going[0].problem) == (3, True, "")
    assert site.run(entry) == [f"ns/a:{one.tag}" for one in stale]
    assert site.error == ""
    assert list(site.there("ns/a")) == ["1"]


def test_signatures_that_are_kept_apart_from_images_stay(site: Site) -> None:
    site.registry.add(image("1", "ns/b"))
    apart = signature(image("1"))
    put(site, images.image("ns/sigs", str(apart.tag), [images.layer({"s": b"s"})]))
    site.registry.hook = lambda asked: (
        text({"tags": [str(apart.tag)]}) if "ns/sigs/tags" in asked.path else None
    )
    entry = site.entry("ns/sigs", choice=ALL, mirror=True)
    assert site.run(entry, max_share="1.0") == []
    assert site.error == ""
    assert list(site.there("ns/sigs")) == [str(apart.tag)]


def test_a_tag_that_moved_meanwhile_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    delete_all = MemoryDriver.delete_all

    def late(
        self: MemoryDriver, name: RepositoryName, tags: Collection[Tag | Digest], narrow: object
    ) -> Deletion:
        moved = images.image("ns/a", "3", [images.layer({"other": b"run"})], oci=True)
        put(site, moved)
        return delete_all(self, name, tags, narrow)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryDriver, "delete_all", late)
    assert site.run(site.entry("ns/a", choice=ALL, mirror=True)) == ["ns/a:4"]
    assert sorted(site.there("ns/a")) == ["1", "2", "3"]


def test_what_comes_while_the_run_lasts_stays(site: Site) -> None:
    site.registry.add(image("new"))

    def hook(asked: Asked) -> Reply | None:
        if "/blobs/" in asked.path:
            put(site, image("5"))
        return None

    site.registry.hook = hook
    assert site.run(site.entry("ns/a", choice=ALL, mirror=True)) == ["ns/a:3", "ns/a:4"]
    assert sorted(site.there("ns/a")) == ["1", "2", "5", "new"]


def test_a_driver_that_cannot_list_is_refused_before_the_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryDriver, "tags", lambda *_: None)
    site.run(site.entry("ns/a", "1"), site.entry("ns/a", choice=ALL, mirror=True, where="l:7"))
    assert site.error == (
        "l:7: mirror: the driver 'memory' does not list its tags, so none of them can be found "
        "to be unwanted"
    )
    assert not site.registry.asked


def test_a_repository_that_cannot_be_read_keeps_all_and_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = MemoryDriver.resolve

    def broken(self: MemoryDriver, target: object) -> Digest | None:
        if str(target) == "ns/a:3":
            raise errors.ManifestInvalid("damaged", "/tree/3")
        return resolve(self, target)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryDriver, "resolve", broken)
    assert site.run(site.entry("ns/a", choice=ALL, mirror=True)) == []
    assert site.error == "mirror: ns/a is left as it is: /tree/3: damaged"
    assert sorted(site.driver.tags(RepositoryName("ns/a"))) == [Tag(t) for t in "1234"]


def test_what_is_not_all_deleted_is_told_with_what_was(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubtful(
        self: MemoryDriver, name: RepositoryName, tags: Collection[Tag | Digest], narrow: object
    ) -> Deletion:
        narrow(tags)  # type: ignore[operator]
        doubt = errors.Doubt("ns/a:1", "/tree/1: damaged")
        raise errors.NeedUnknown([doubt], Deletion())

    monkeypatch.setattr(MemoryDriver, "delete_all", doubtful)
    run = site.open(site.entry("ns/a", choice=ALL, mirror=True))
    with run, pytest.raises(errors.UploaderError, match="it may need anything"):
        run.run()
    assert site.journal.deleted == ("ns/a:3", "ns/a:4")
