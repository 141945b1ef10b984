# SPDX-License-Identifier: Apache-2.0
"""What local-export leaves on the disk."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from pathlib import Path

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from tests.support import trees

NAME = RepositoryName("ns/img")


def one(text: str = "one", tag: str = "1.0", name: str = "ns/img") -> images.Image:
    return images.image(name, tag, [images.layer({"file": text.encode()})])


def test_an_empty_registry_has_an_empty_catalog(driver: LocalExportDriver, root: Path) -> None:
    assert trees.catalog(root) == []
    assert (root / "v2/index.json").read_bytes() == b"{}"


@pytest.mark.slow
def test_the_corpus(driver: LocalExportDriver, root: Path) -> None:
    for image in images.corpus():
        trees.put(driver, image)
    assert trees.problems(root) == []
    assert trees.catalog(root) == sorted(str(image.repository) for image in images.corpus())


def test_a_manifest_has_its_headers_beside_it(driver: LocalExportDriver, root: Path) -> None:
    image = one()
    trees.put(driver, image)
    folder = root / "v2/ns/img/manifests" / str(image.digest)
    assert (folder / ".htaccess").read_text() == (
        f'Header set Content-Type "{media_types.DOCKER_MANIFEST}"\n'
        f'Header set Docker-Content-Digest "{image.digest}"\n'
    )
    assert (folder / "index.json").read_bytes() == image.manifest.content
    assert (folder / "manifest.docker-v2").samefile(folder / "index.json")


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("is_known", [False, True])
def test_gzip_decides_on_the_name_of_a_blob(
    driver: LocalExportDriver, root: Path, size: int, is_known: bool
) -> None:
    """However its bytes come; one begins nearly as gzip does, and ends as that begins."""
    packed = images.layer({"file": b"x"})
    plain = images.Blob(b"\x1f\x8a no gzip\x1f\x8b", media_types.OCI_LAYER)
    for blob in (packed, plain):
        chunks = [blob.content[at : at + size] for at in range(0, len(blob.content), size)]
        driver.upload_layer(NAME, chunks, expected=blob.digest if is_known else None)
    names = {path.name for path in (root / "v2/ns/img/blobs").iterdir()}
    assert names == {f"{packed.digest}.gz", str(plain.digest)}


@pytest.mark.parametrize(
    ("architectures", "default"),
    [(["arm64", "amd64"], 1), (["arm64", "s390x"], 0), (["amd64"], 0), ([], None)],
)
def test_a_list_offers_a_default(
    driver: LocalExportDriver, root: Path, architectures: list[str], default: int | None
) -> None:
    layers = [images.layer({"file": b"x"})]
    children = [images.image("ns/img", None, layers, architecture=a) for a in architectures]
    index = images.index("ns/img", "1.0", children)
    trees.put(driver, index)
    text = (root / "v2/ns/img/manifests/1.0.type-map").read_text()
    assert Path(root / "v2/ns/img/.tags/1.0").readlink().name == str(index.digest)
    if default is None:
        assert "qs=" not in text
        assert defaults(root) == {}
    else:
        chosen = children[default].digest
        assert defaults(root) == {"1.0": str(chosen)}
        assert f"{media_types.DOCKER_LIST}; qs=1.0\nURI: {index.digest}/" in text
        assert f"{media_types.DOCKER_MANIFEST}; qs=0.5\nURI: {chosen}/" in text


def defaults(root: Path) -> dict[str, str]:
    return {path.name: path.readlink().name for path in (root / "v2/ns/img/.defaults").glob("*")}


def test_a_tag_has_a_default_while_it_is_that_of_a_list(
    driver: LocalExportDriver, root: Path
) -> None:
    child = images.image("ns/img", None, [images.layer({"file": b"x"})])
    index = images.index("ns/img", "1.0", [child])
    for _ in range(2):
        trees.put(driver, one())
        assert defaults(root) == {}
        trees.put(driver, index)
        assert defaults(root) == {"1.0": str(child.digest)}
    assert trees.problems(root) == []


def with_links_of_earlier_versions(driver: LocalExportDriver, root: Path) -> None:
    folder = root / "v2/ns/img/.defaults"
    trees.put(driver, one())
    trees.put(driver, one(), "other")
    folder.mkdir()
    for tag in ("1.0", "other"):
        (folder / tag).symlink_to(f"../manifests/{one().digest}")


def test_the_next_put_removes_a_link_of_an_earlier_version(
    driver: LocalExportDriver, root: Path
) -> None:
    with_links_of_earlier_versions(driver, root)
    # It is right, so the image is not copied again.
    assert driver.held_manifest(NAME, one().digest, tag=Tag("1.0"))
    trees.put(driver, one())
    assert defaults(root) == {"other": str(one().digest)}
    trees.put(driver, images.image("ns/img", "other", [images.layer({"file": b"new"})]))
    assert defaults(root) == {}


def test_gc_removes_links_of_earlier_versions(driver: LocalExportDriver, root: Path) -> None:
    with_links_of_earlier_versions(driver, root)
    tree = Tree(root)
    told = list(Collector(tree, dry_run=True).collect())
    assert len(defaults(root)) == 2
    assert list(Collector(tree).collect()) == told
    tree.close()
    assert [str(garbage.path) for garbage in told] == ["v2/ns/img/.defaults/1.0"]
    assert told[0].reason == "one of 2 links of earlier versions, which no client needs"
    assert not (root / "v2/ns/img/.defaults").exists()


def test_the_default_architecture_is_an_option(root: Path) -> None:
    driver = LocalExportDriver(root, default_architecture="s390x")
    image = images.corpus()[-1]
    trees.put(driver, image)
    assert (root / "v2/multi/oci/.defaults/1.0").readlink().name == str(image.children[2].digest)


def test_a_sha512_manifest_is_reached_through_a_type_map(
    driver: LocalExportDriver, root: Path
) -> None:
    image = one()
    trees.put(driver, image)
    digest = Digest.of(image.manifest.content, "sha512")
    content, media_type = image.manifest.content, image.manifest.media_type
    driver.put_manifest(NAME, content, media_type, tag=Tag("long"), expected=digest)
    manifests = root / "v2/ns/img/manifests"
    for name in (str(digest), "long"):
        assert f"URI: .{digest}/index.json" in (manifests / f"{name}.type-map").read_text()
    assert not (manifests / str(digest)).exists()
    assert trees.tags(root, "ns/img") == ["1.0", "long"]
    driver.delete(ImageRef(NAME, Tag("long")))
    assert not list(manifests.glob("*sha512*"))
    assert trees.problems(root) == []


def test_blobs_are_links_to_one_copy(driver: LocalExportDriver, root: Path) -> None:
    for name in ("a", "b/c", "d/e/f"):
        trees.put(driver, one(name=name))
    copies = list((root / "v2").rglob("*.gz"))
    assert len(copies) == 3
    assert {path.stat().st_ino for path in copies} == {copies[0].stat().st_ino}
    assert copies[0].stat().st_nlink == 4


def test_lists_are_rewritten_only_when_they_change(driver: LocalExportDriver, root: Path) -> None:
    views = [root / "v2/_catalog", root / "v2/ns/img/tags/list"]
    trees.put(driver, one())
    before = [path.stat().st_ino for path in views]
    held = [path.open("rb") for path in views]  # an inode in use is not given out again
    trees.put(driver, one("two"))
    assert [path.stat().st_ino for path in views] == before
    for file in held:
        file.close()


def test_modes_do_not_depend_on_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        trees.put_in(root, images.corpus()[-1])
    finally:
        os.umask(before)
    for path in [root, root / "v2", *(root / "v2").rglob("*")]:
        if not path.is_symlink():
            expected = 0o755 if path.is_dir() else 0o644
            assert stat.S_IMODE(path.stat().st_mode) == expected, path
    assert stat.S_IMODE((root / ".local-export").stat().st_mode) == 0o700


@pytest.mark.slow
def test_no_staged_file_stays(driver: LocalExportDriver, root: Path) -> None:
    for image in images.corpus():
        trees.put(driver, image)
    with pytest.raises(errors.DigestMismatch):
        driver.upload_layer(NAME, [b"x"], expected=Digest.of(b"y"))
    with pytest.raises(errors.BlobUnknown):
        image = one("absent")
        driver.put_manifest(NAME, image.manifest.content, image.manifest.media_type)
    driver.close()
    state = root / ".local-export"
    left = [p for part in ("staging", "unfinished", "leases") for p in (state / part).rglob("*")]
    assert [path for path in left if path.is_file()] == []


@pytest.mark.slow
def test_a_delete_leaves_no_trace(driver: LocalExportDriver, root: Path) -> None:
    before = trees.served(root)
    for image in images.corpus():
        trees.put(driver, image)
    for image in images.corpus():
        assert image.tag is not None
        driver.delete(ImageRef(image.repository, image.tag))
    assert trees.served(root) == before
    assert {path.name for path in (root / "v2").iterdir()} == {
        "index.json",
        ".htaccess",
        ".catalog",
        ".no-referrers",
        "_catalog",
    }
    assert not [path for path in (root / ".local-export/pool").rglob("*") if path.is_file()]


def test_a_delete_keeps_files_it_does_not_know(driver: LocalExportDriver, root: Path) -> None:
    trees.put(driver, one())
    note = root / "v2/ns/img/blobs/README"
    note.write_text("mine")
    driver.delete(ImageRef(NAME, Tag("1.0")))
    assert note.read_text() == "mine"


def test_a_delete_stops_at_a_live_manifest_it_cannot_read(
    driver: LocalExportDriver, root: Path
) -> None:
    broken, other = one("broken", "broken"), one("other", "other")
    for image in (broken, other):
        trees.put(driver, image)
    path = root / "v2/ns/img/manifests" / str(broken.digest) / "index.json"
    path.unlink()
    path.write_text("{")
    with pytest.raises(errors.ManifestInvalid, match=str(broken.digest)):
        driver.delete(ImageRef(NAME, Tag("other")))
    for digest in (*broken.blobs, *other.blobs):
        assert list((root / "v2/ns/img/blobs").glob(f"{digest}*"))
    assert trees.tags(root, "ns/img") == ["broken"]


def test_an_expired_lease_protects_nothing(root: Path) -> None:
    driver = LocalExportDriver(root, lease_timeout=60)
    blob = images.layer({"file": b"abandoned"})
    driver.upload_layer(NAME, [blob.content])
    trees.put(driver, one())
    (lease,) = (p for p in (root / ".local-export/leases").rglob("*") if p.is_file())
    past = time.time() - 61
    os.utime(lease, (past, past))
    driver.delete(ImageRef(NAME, Tag("1.0")))
    assert not list((root / "v2").rglob(f"{blob.digest}*"))
    assert not lease.exists()


def test_a_config_in_passing_takes_no_uploads_lease(driver: LocalExportDriver) -> None:
    """Of two threads with one image, one has uploaded its config, and the other is done first."""
    image = images.image("ns/img", "mine", [])
    parsed, config = image.manifest, image.manifest.config
    assert config
    content = image.blobs[config.digest]
    driver.upload_layer(image.repository, [content], expected=config.digest)
    name = ImageRef(image.repository, Tag("other"))
    driver.put_manifest(
        name.repository, parsed.content, parsed.media_type, tag=Tag("other"), config=content
    )
    driver.delete(name)
    driver.put_manifest(image.repository, parsed.content, parsed.media_type, tag=image.tag)


def test_a_lease_of_the_future_protects(driver: LocalExportDriver, root: Path) -> None:
    blob = images.layer({"file": b"in flight"})
    driver.upload_layer(NAME, [blob.content])
    for lease in (p for p in (root / ".local-export/leases").rglob("*") if p.is_file()):
        os.utime(lease, (time.time() + 9999, time.time() + 9999))
    trees.put(driver, one())
    driver.delete(ImageRef(NAME, Tag("1.0")))
    assert list((root / "v2").rglob(f"{blob.digest}*"))


@pytest.mark.slow
@pytest.mark.parametrize("refusal", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_content_is_copied_where_links_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", refuse)
    driver = LocalExportDriver(root)
    for name in ("a", "b"):
        trees.put(driver, one(name=name))
    assert trees.problems(root) == []
    driver.delete(ImageRef(RepositoryName("a"), Tag("1.0")))
    trees.put(driver, one(name="b"))
    assert trees.problems(root) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, errors.StorageFull),
        (errno.EDQUOT, errors.StorageFull),
        (errno.EACCES, errors.StorageDenied),
        (errno.EROFS, errors.StorageDenied),
        (errno.EIO, errors.StorageError),
    ],
)
def test_a_failing_disk_is_named(
    driver: LocalExportDriver, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type
) -> None:
    def fail(*args: object) -> int:
        raise OSError(number, os.strerror(number))

    before = trees.served(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(kind, match=str(root)) as caught:
            driver.upload_layer(NAME, [b"x"])
    assert type(caught.value) is kind
    assert trees.served(root) == before
    trees.put(driver, one())
    assert trees.problems(root) == []


def test_the_root_must_be_absolute() -> None:
    with pytest.raises(errors.ConfigurationError, match="absolute"):
        LocalExportDriver("image-serve")


def test_a_name_that_is_a_file_of_the_tree(driver: LocalExportDriver) -> None:
    with pytest.raises(errors.InvalidReference, match=r"index\.json"):
        driver.upload_layer(RepositoryName("index.json"), [b"x"])


def test_a_lost_catalog_is_rebuilt(driver: LocalExportDriver, root: Path) -> None:
    for name in ("z", "a/b", "a/b/c"):
        trees.put(driver, one(name=name))
    for damage in (b"", b"{", b'{"repositories": 7}'):
        (root / "v2/_catalog").write_bytes(damage)
        LocalExportDriver(root)
        assert trees.catalog(root) == ["a/b", "a/b/c", "z"]


def test_what_a_crash_left_undone_is_done_by_the_next_operation(
    driver: LocalExportDriver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def killed(source: str, target: str, **folders: int) -> None:
        if target == "1.0":  # the link of the tag: its type map is there already
            raise KeyboardInterrupt
        rename(source, target, **folders)

    trees.put(driver, one("old"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            trees.put(driver, one("new"))
    assert (root / "v2/ns/img/.tags/1.0").readlink().name == str(one("old").digest)
    trees.put_in(root, one("other", "other"))
    assert (root / "v2/ns/img/.tags/1.0").readlink().name == str(one("new").digest)
    assert trees.problems(root) == []


def test_a_damaged_list_of_referrers_is_made_anew(driver: LocalExportDriver, root: Path) -> None:
    subject = images.corpus()[0]
    fields = {"subject": subject.descriptor()}
    about = [
        images.artifact(str(subject.repository), None, "application/vnd.example", text, **fields)
        for text in (b"a", b"b", b"c")
    ]
    for image in (subject, *about[:2]):
        trees.put(driver, image)
    folder = root / "v2" / str(subject.repository) / ".referrers" / str(subject.digest)
    for damage in (b"", b"[]", b'{"manifests": [{}]}', b"\xff"):
        (folder / "all").write_bytes(damage)
        trees.put(driver, about[2])
        listed = json.loads((folder / "all").read_bytes())["manifests"]
        assert {d["digest"] for d in listed} == {str(image.digest) for image in about}
