# SPDX-License-Identifier: Apache-2.0
"""Out of one tree, into another."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.archives.archive import MissingBlobs
from image_uploader_plugins.archives.exporting.known_blobs import known_blobs
from image_uploader_plugins.archives.exporting.selection import selected
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.reference import ImageRef
from image_uploader_plugins.storage import Storage
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.integration.archives.conftest import ATTACHED, REFERRER, SIGNATURE, UNTAGGED
from tests.support import commands, legacy, mounts, trees
from tests.support.archives import bring, carry, fill
from tests.support.checkout import PROJECT
from tests.support.commands import Run
from tests.support.content import schema_1

LAYERS = [images.layer({"file": text}) for text in (b"first", b"second", b"third")]


def generation(number: int) -> Image:
    """Return an image that has all layers of the one before, and one more."""
    return images.image("ns/app", f"{number}.0", LAYERS[:number])


def held(path: Path) -> set[str]:
    return {f"{f.parent.name}:{f.name}" for f in path.glob("blobs/*/*")}


def everything(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def index(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((path / "index.json").read_bytes())["manifests"]
    return found


# -- there and back


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_what_is_imported_is_what_was_exported(
    original: Path, root: Path, tmp_path: Path, name: str
) -> None:
    outcome = carry(original, tmp_path / name)
    assert not outcome.problems
    with LocalExportDriver(root) as driver:
        bring(tmp_path / name, driver)
    assert trees.served(root) == trees.served(original)
    assert [
        f for f in Verification(Tree(root)).report().findings if "missing" not in f.problem
    ] == []


@pytest.mark.slow
def test_the_names_are_in_the_layout(original: Path, tmp_path: Path) -> None:
    carry(original, tmp_path / "layout")
    names = {
        fields["annotations"].get("org.opencontainers.image.ref.name")  # type: ignore[attr-defined]
        for fields in index(tmp_path / "layout")
    }
    assert {"ns/img:1.0", "openstack/nova/compute:wallaby", None} <= names


@pytest.mark.slow
def test_any_driver_is_a_target(original: Path, tmp_path: Path) -> None:
    carry(original, tmp_path / "layout")
    driver = MemoryDriver("carry")
    bring(tmp_path / "layout", driver)
    assert ATTACHED.digest in driver.repositories[ATTACHED.repository].manifests


@pytest.mark.slow
def test_a_second_import_reads_and_changes_nothing(root: Path, tmp_path: Path) -> None:
    fill(root, [generation(2), ATTACHED, REFERRER])
    carry(root, tmp_path / "layout")
    with LocalExportDriver(tmp_path / "there") as driver:
        bring(tmp_path / "layout", driver)
        before = trees.served(tmp_path / "there")
        bring(tmp_path / "layout", driver)
    assert trees.served(tmp_path / "there") == before


def test_the_same_tree_is_the_same_tar(original: Path, tmp_path: Path) -> None:
    for name in ("one.tar", "two.tar"):
        carry(original, tmp_path / name)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert tar.getnames()[0] == "oci-layout"
        assert tar.getnames()[-1] == "index.json"


# -- what is chosen


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["ns/img:1.0"], [ATTACHED, REFERRER, SIGNATURE]),
        (["ns/img"], [ATTACHED, REFERRER, SIGNATURE, UNTAGGED]),
        (["ns/*"], [ATTACHED, REFERRER, SIGNATURE, UNTAGGED]),
        ([f"ns/img@{UNTAGGED.digest}"], [UNTAGGED]),
        ([f"ns/img@{REFERRER.digest}"], [REFERRER, SIGNATURE]),
    ],
)
def test_images_by_name(
    original: Path, tmp_path: Path, patterns: list[str], expected: list[Image]
) -> None:
    carry(original, tmp_path / "layout", *patterns)
    listed = {fields["digest"] for fields in index(tmp_path / "layout")}
    assert listed == {str(image.digest) for image in expected}
    wanted = {str(d) for image in expected for d in (image.digest, *image.blobs)}
    assert held(tmp_path / "layout") == wanted


def test_a_name_that_there_is_not(original: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.ImageUnknown, match=r"no image 'ns/other:1\.0'"):
        carry(original, tmp_path / "layout", "ns/img", "ns/other:1.0")
    assert not (tmp_path / "layout").exists()


@pytest.mark.slow
def test_referrers_go_along_with_a_new_name(original: Path, root: Path, tmp_path: Path) -> None:
    carry(original, tmp_path / "layout")
    with LocalExportDriver(root) as driver:
        names = bring(tmp_path / "layout", driver, "ns/img:1.0", name="new/name:2.0")
    assert names == [
        "new/name:2.0",
        f"new/name@{REFERRER.digest}",
        f"new/name@{SIGNATURE.digest}",
    ]
    assert trees.catalog(root) == ["new/name"]
    assert str(REFERRER.digest) in (
        (root / f"v2/new/name/.referrers/{ATTACHED.digest}/all").read_text()
    )


def test_schema_1_is_named_and_left_out(root: Path, tmp_path: Path) -> None:
    fill(root, [schema_1(), generation(1)])
    outcome = carry(root, tmp_path / "layout")
    assert len(outcome.problems) == 1
    assert outcome.problems[0].startswith("old/schema1:1.0: a schema 1 manifest")
    assert len(index(tmp_path / "layout")) == 1


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b"short"), "has 5 bytes, expected"),
    ],
)
def test_an_image_that_is_not_whole_is_left_out(
    root: Path, tmp_path: Path, damage: object, problem: str
) -> None:
    other = images.image("ns/other", "1.0", [LAYERS[2]])
    fill(root, [generation(1), other])
    assert callable(damage)
    damage(root / f"v2/ns/app/blobs/{LAYERS[0].digest}.gz")
    outcome = carry(root, tmp_path / "layout")
    assert [p for p in outcome.problems if problem in p and "ns/app:1.0" in p]
    assert [fields["digest"] for fields in index(tmp_path / "layout")] == [str(other.digest)]


def test_a_damaged_manifest_is_named(root: Path, tmp_path: Path) -> None:
    fill(root, [generation(1), generation(2)])
    (root / f"v2/ns/app/manifests/{generation(1).digest}/index.json").write_bytes(b"{}")
    outcome = carry(root, tmp_path / "layout")
    assert any(p.startswith("ns/app:1.0: ") for p in outcome.problems)
    assert [f["digest"] for f in index(tmp_path / "layout")] == [str(generation(2).digest)]


# -- blobs, shared or copied


def test_blobs_are_links(root: Path, tmp_path: Path) -> None:
    fill(root, [generation(1)])
    carry(root, tmp_path / "layout")
    layer = LAYERS[0].digest
    there = tmp_path / f"layout/blobs/{layer.algorithm}/{layer.encoded}"
    assert there.samefile(root / f"v2/ns/app/blobs/{layer}.gz")


def test_copies_where_they_are_asked_for(root: Path, tmp_path: Path) -> None:
    fill(root, [generation(1)])
    carry(root, tmp_path / "layout", copied=True)
    assert all(f.stat().st_nlink == 1 for f in (tmp_path / "layout").rglob("*") if f.is_file())


def test_copies_where_links_are_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root, [generation(1)])
    monkeypatch.setattr(Storage, "try_link", lambda *args: None)
    carry(root, tmp_path / "layout")
    assert str(LAYERS[0].digest) in held(tmp_path / "layout")


def unverified(root: Path) -> Path:
    """A tree with a blob as another tool wrote it: not in the pool."""
    fill(root, [generation(1)])
    layer = LAYERS[0].digest
    path = root / f"v2/ns/app/blobs/{layer}.gz"
    (root / f".local-export/pool/{layer.algorithm}/{layer.encoded[:2]}/{layer.encoded}").unlink()
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def test_what_was_never_verified_is_copied(root: Path, tmp_path: Path) -> None:
    path = unverified(root)
    carry(root, tmp_path / "layout")
    layer = LAYERS[0].digest
    there = tmp_path / f"layout/blobs/{layer.algorithm}/{layer.encoded}"
    assert there.read_bytes() == path.read_bytes()
    assert not there.samefile(path)


@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_a_damaged_blob_is_no_export(root: Path, tmp_path: Path, name: str) -> None:
    path = unverified(root)
    path.write_bytes(bytes(len(LAYERS[0].content)))
    with pytest.raises(errors.StorageError, match="content hashes to") as caught:
        carry(root, tmp_path / name)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "layout.tar").exists()
    assert not (tmp_path / "layout/index.json").exists()


# -- since


def known(root: Path, tmp_path: Path, kind: str) -> Path:
    if kind == "list":
        with contextlib.closing(Tree(root)) as tree, selected(tree) as selection:
            path = tmp_path / "blobs"
            path.write_text("# what we have\n\n" + "\n".join(map(str, selection.blobs)))
            return path
    carry(root, tmp_path / kind)
    return tmp_path / kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["first", "first.tar", "list"])
@pytest.mark.parametrize("name", ["second", "second.tar"])
def test_since(root: Path, tmp_path: Path, kind: str, name: str) -> None:
    """Blobs that the other side has are left out, and an import finds them there."""
    fill(root, [generation(1)])
    carry(root, tmp_path / "base")
    since = known(root, tmp_path, kind)
    fill(root, [generation(2)])
    outcome = carry(root, tmp_path / name, known=known_blobs([since]))
    assert (outcome.blobs, outcome.known) == (2, 2)  # a config and a layer; the same
    with LocalExportDriver(tmp_path / "there") as driver:
        bring(tmp_path / "base", driver)
        bring(tmp_path / name, driver)
    assert trees.served(tmp_path / "there") == trees.served(root)


def test_since_and_not_there(root: Path, tmp_path: Path) -> None:
    fill(root, [generation(1)])
    carry(root, tmp_path / "layout", known=[LAYERS[0].digest])
    with (
        LocalExportDriver(tmp_path / "there") as driver,
        pytest.raises(MissingBlobs) as caught,
    ):
        before = trees.served(tmp_path / "there")
        bring(tmp_path / "layout", driver)
    assert str(caught.value) == (
        f"blobs neither in the archive nor in the target: {LAYERS[0].digest}"
    )
    assert trees.served(tmp_path / "there") == before


def test_a_list_with_a_line_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{LAYERS[0].digest}\nsha256:12\n")
    with pytest.raises(errors.ArchiveInvalid, match=r"list: line 2: not a sha256 .* digest"):
        known_blobs([tmp_path / "list"])


def test_a_list_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list")
    with pytest.raises(errors.ArchiveInvalid, match="list: is no file"):
        known_blobs([tmp_path / "list"])


# -- what was there before


def test_an_export_is_brought_up_to_date(root: Path, tmp_path: Path) -> None:
    fill(root, [generation(1), images.image("ns/old", "1.0", [LAYERS[2]])])
    carry(root, tmp_path / "layout")
    with LocalExportDriver(root) as driver:
        driver.delete(ImageRef.parse("ns/old:1.0"))
    fill(root, [generation(2)])
    carry(root, tmp_path / "layout")
    carry(root, tmp_path / "fresh")
    assert everything(tmp_path / "layout") == everything(tmp_path / "fresh")


@pytest.mark.parametrize("name", ["index.html", "oci", ".profile"])
def test_a_folder_with_something_else_in_it(root: Path, tmp_path: Path, name: str) -> None:
    fill(root, [generation(1)])
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / name).write_text("mine")
    with pytest.raises(errors.ArchiveInvalid, match=f"holds '{name}', so it is no place"):
        carry(root, tmp_path / "place")
    assert everything(tmp_path / "place") == {name: b"mine"}


def test_a_layout_of_somebody_else(root: Path, tmp_path: Path) -> None:
    fill(root, [generation(1)])
    place = tmp_path / "place"
    place.mkdir()
    (place / "index.json").write_text('{"schemaVersion": 2, "manifests": [{"digest": "x"}]}')
    before = everything(place)
    with pytest.raises(errors.ArchiveInvalid, match="lists an image that was not exported"):
        carry(root, place)
    assert everything(place) == before


@pytest.mark.parametrize("place", ["", "v2/layout", ".local-export/x.tar", ".."])
def test_nothing_is_exported_into_the_tree(root: Path, place: str) -> None:
    fill(root, [generation(1)])
    with pytest.raises(errors.ConfigurationError, match="must lie apart"):
        carry(root, root / place)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst"])
def test_no_compressed_tar(root: Path, tmp_path: Path, name: str) -> None:
    fill(root, [generation(1)])
    with pytest.raises(errors.ConfigurationError, match="a tar is written plain"):
        carry(root, tmp_path / name)


def test_two_exports_to_one_place(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root, [generation(1)])
    refused = []

    def publish(self: Storage, *args: object) -> None:
        with monkeypatch.context() as patch:
            patch.undo()
            with pytest.raises(errors.StorageError, match="another export writes to it") as caught:
                carry(root, tmp_path / "layout")
        refused.append(caught.value)
        raise InterruptedError

    monkeypatch.setattr(Storage, "publish", publish)
    with pytest.raises(InterruptedError):
        carry(root, tmp_path / "layout")
    assert refused


# -- beside others, and cut short


def test_a_delete_meanwhile_takes_nothing_away(root: Path, tmp_path: Path) -> None:
    fill(root, [generation(1)])
    with LocalExportDriver(root) as driver, contextlib.closing(Tree(root)) as tree:
        with selected(tree) as selection:
            driver.delete(ImageRef.parse("ns/app:1.0"))
            held = [tree.repository(name).blob(d) for d, name in selection.holders.items()]
            assert len(held) == 2
            assert all(held)
        with pytest.raises(errors.ImageUnknown):  # what is left of it goes with the next delete
            driver.delete(ImageRef.parse("ns/app:1.0"))
    assert not list(root.glob("v2/ns/app/blobs/*"))


class _Cut(BaseException):
    pass


def _cut(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let so many files be published, and then fail."""
    publish = Storage.publish

    def published(self: Storage, *args: object) -> None:
        nonlocal number
        if self.root.name == "image-serve":
            return publish(self, *args)  # type: ignore[arg-type]
        if number == 0:
            raise _Cut
        number -= 1
        return publish(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Storage, "publish", published)
    yield number


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_cut_short_and_done_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """An export that was cut short looks damaged; done again, it is the same as at once."""
    fill(root, [generation(2)])
    carry(root, tmp_path / "whole")
    with monkeypatch.context() as patch:
        list(_cut(number, patch))
        with pytest.raises(_Cut):
            carry(root, tmp_path / "layout")
    assert not (tmp_path / "layout/index.json").exists()
    with LocalExportDriver(tmp_path / "there") as driver, pytest.raises(errors.ArchiveInvalid):
        bring(tmp_path / "layout", driver)
    inodes = {f.name: f.stat().st_ino for f in (tmp_path / "layout").glob("blobs/*/*")}
    carry(root, tmp_path / "layout")
    assert everything(tmp_path / "layout") == everything(tmp_path / "whole")
    for file in (tmp_path / "layout").glob("blobs/*/*"):
        assert inodes.get(file.name, file.stat().st_ino) == file.stat().st_ino


KILLED = """
import os, signal, sys
from pathlib import Path
from image_uploader_plugins.storage import Storage
from tests.support.archives import carry
publish = Storage.publish
def killed(self, *args):
    if self.root.name != "image-serve" and args[-1].name in ("index.json", "layout.tar"):
        os.kill(os.getpid(), signal.SIGKILL)
    return publish(self, *args)
Storage.publish = killed
carry(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_killed_and_done_again(root: Path, tmp_path: Path, name: str) -> None:
    """An earlier export stays until the next one is whole, and no temporary file is left."""
    fill(root, [generation(1)])
    place = tmp_path / "place"
    place.mkdir()
    carry(root, place / name)
    before = (place / name / "index.json" if name == "layout" else place / name).read_bytes()
    fill(root, [generation(2)])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), str(place / name)],
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    after = (place / name / "index.json" if name == "layout" else place / name).read_bytes()
    assert after == before
    with LocalExportDriver(tmp_path / "there") as driver:
        assert bring(place / name, driver) == ["ns/app:1.0"]
    carry(root, place / name)
    with LocalExportDriver(tmp_path / "there") as driver:
        assert bring(place / name, driver) == ["ns/app:1.0", "ns/app:2.0"]
    assert [f.name for f in place.rglob(".*")] == []


# -- the commands


@pytest.mark.slow
def test_the_commands(original: Path, root: Path, tmp_path: Path, run: Run) -> None:
    """Two operators list blobs, export and import."""
    fill(root, [ATTACHED])
    assert run("export", "--list-blobs", str(tmp_path / "list")).both == (0, "2 blobs listed\n")
    (tmp_path / "there").mkdir()
    config = commands.configuration(original, tmp_path / "there")
    there = ("--config-file", str(config))
    status, output = run(
        *there, "export", str(tmp_path / "layout.tar"), "ns/img", "--since", str(tmp_path / "list")
    ).both
    assert (status, output.splitlines()[-1].split(",")[0]) == (0, "4 images"), output
    status, output = run("import", str(tmp_path / "layout.tar")).both
    assert status == 0, output
    assert "ns/img:1.0: unchanged, 0 layers fetched, 0 mounted, 1 present" in output
    assert trees.tags(root, "ns/img") == ["1.0"]
    shutil.rmtree(root)
    status, output = run("import", str(tmp_path / "layout.tar")).both
    assert status == 1
    assert "neither in the archive nor in the target: sha256:" in output
    assert len(output.splitlines()) == 1, output


def test_what_cannot_be_exported_is_an_exit_status(root: Path, tmp_path: Path, run: Run) -> None:
    fill(root, [schema_1()])
    place = str(tmp_path / "layout")
    status, output = run("export", place).both
    assert status == 1
    assert "not exported: old/schema1:1.0: a schema 1 manifest" in output
    result = run("export", place, "--since", f"{place}/")
    assert result.status == 2
    assert result.err.endswith(f"error: {place}: --since must be another one than DEST\n")


# -- disks


def test_to_another_disk(root: Path, tmp_path: Path) -> None:
    fill(root, [generation(1)])
    with mounts.tmpfs(tmp_path / "disk") as disk, LocalExportDriver(tmp_path / "there") as driver:
        (disk / "lost+found").mkdir()
        carry(root, disk)
        carry(root, disk / "lost+found/layout.tar")
        assert bring(disk, driver) == ["ns/app:1.0"]
        assert bring(disk / "lost+found/layout.tar", driver) == ["ns/app:1.0"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_a_full_disk(root: Path, tmp_path: Path, name: str) -> None:
    """The error names the full disk, nothing looks whole, and a second try has the room."""
    noise = hashlib.shake_256(b"noise").digest(512 * 1024)
    fill(root, [images.image("ns/app", "1.0", [images.layer({"file": noise})])])
    with mounts.tmpfs(tmp_path / "disk", "size=256k") as disk:
        with pytest.raises(errors.StorageFull):
            carry(root, disk / name)
        assert not list(disk.glob("*.tar"))
        assert not list(disk.rglob("index.json"))
        assert not list(disk.rglob(".*"))
        mounts.remount(disk, "size=2m")
        carry(root, disk / name)
        with LocalExportDriver(tmp_path / "there") as driver:
            assert bring(disk / name, driver) == ["ns/app:1.0"]


# -- trees of other tools


def test_what_tripleo_common_wrote(root: Path, tmp_path: Path) -> None:
    """Tags are links, lists do not say which manifest is which, and blobs are not in the pool."""
    single = generation(1)
    several = images.index("ns/list", None, [images.image("ns/list", None, [LAYERS[1]])])
    for part in (single, *several.walk()):
        legacy.write_blobs(root, part)
        legacy.write_manifest(root, part)
    legacy.write_symlink_tag(root, single, "1.0")
    child = several.children[0]
    types = {i.manifest.media_type: i.digest for i in (child, several)}
    legacy.write_type_map(root, several, "1.0", types)
    before = trees.served(root)
    carry(root, tmp_path / "layout")
    assert trees.served(root) == before
    with LocalExportDriver(tmp_path / "there") as driver:
        assert bring(tmp_path / "layout", driver) == ["ns/app:1.0", "ns/list:1.0"]
    link = tmp_path / "there/v2/ns/list/.tags/1.0"
    assert link.readlink().name == str(several.digest)
