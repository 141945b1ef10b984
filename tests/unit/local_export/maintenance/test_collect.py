# SPDX-License-Identifier: Apache-2.0
"""What gc removes, what it spares, and that a dry run says just what it then does."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import parallel
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.layout import PLACES
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance import adopt
from image_uploader_plugins.local_export.maintenance.collect import Collector, Garbage
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import ImageRef, RepositoryName
from image_uploader_plugins.storage import Storage, beneath
from image_uploader_plugins.testing import images
from tests.support import legacy, looks, trees
from tests.support.commands import Run
from tests.support.content import OTHER, SUBJECT, related

LAYER = SUBJECT.manifest.layers[0].digest


def collect(root: Path, *, dry_run: bool = False) -> list[Garbage]:
    tree = Tree(root, lease_timeout=60)
    collector = Collector(tree, dry_run=dry_run)
    found = sorted(collector.collect())
    assert collector.problems == []
    tree.close()
    return found


def litter(root: Path) -> None:
    """What a moved tag, a killed upload and a killed delete leave."""
    driver = LocalExportDriver(root, lease_timeout=60)
    trees.put(driver, images.image("ns/img", "1.0", [images.layer({"new": b"new"})]))
    trees.put(driver, OTHER, "2.0")
    driver.upload_layer(RepositoryName("ns/killed"), [b"never named"])
    for lease in (root / ".local-export/leases").rglob("*"):
        os.utime(lease, (0, 0))
    shutil.copytree(
        root / f"v2/ns/img/manifests/{OTHER.digest}", root / f"v2/base/manifests/{OTHER.digest}"
    )
    staged = root / ".local-export/staging/dead"
    staged.mkdir()
    (staged / "half").write_bytes(b"x" * 1000)


def disk(root: Path) -> int:
    """Bytes of content, each inode once."""
    files = (path.stat() for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sum({status.st_ino: status.st_size for status in files}.values())


@pytest.mark.skipif(not beneath.is_available(), reason="folders are entered step by step")
@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("ns/one", {"opens": 4, "listings": 1, "stats": 2, "reads": 2}),
        ("ns/image{}", {"opens": 25, "listings": 6, "stats": 3, "reads": 2}),
    ],
)
def test_an_image_of_which_nothing_goes_costs_few_calls(
    root: Path, name: str, limits: dict[str, float]
) -> None:
    found = looks.of_one_more(root, name, lambda: collect(root, dry_run=True))
    assert {kind: count for kind, count in found.items() if count > limits[kind]} == {}


def test_nothing_goes_from_a_tree_where_all_is_needed(filled: Path) -> None:
    before = trees.served(filled)
    assert collect(filled) == []
    assert trees.served(filled) == before


def test_a_rehearsal_says_what_then_happens(filled: Path) -> None:
    litter(filled)
    before = trees.served(filled)
    foreseen = collect(filled, dry_run=True)
    assert trees.served(filled) == before
    assert collect(filled) == foreseen
    assert {garbage.reason for garbage in foreseen} == {
        "neither a tag, an index nor a subject leads to it",
        "no manifest needs it",
        "no repository links to it",
        "a lease that ran out",
        "left by a process that has ended",
    }
    assert collect(filled) == []
    assert trees.problems(filled) == []
    assert not (filled / "v2/ns/killed").exists()


def test_what_is_freed_is_what_the_disk_gets_back(filled: Path) -> None:
    litter(filled)
    before = disk(filled / "v2"), disk(filled / ".local-export")
    views = disk(filled / "v2") - sum(
        path.stat().st_size for path in (filled / "v2").rglob("blobs/*")
    )
    freed = {garbage.path: garbage.size for garbage in collect(filled)}
    assert views and sum(freed.values()) > 1000
    pool = sum(size for path, size in freed.items() if path.parts[0] == ".local-export")
    assert before[1] - disk(filled / ".local-export") == pool


def test_a_moved_tag_gives_its_old_image_up(filled: Path) -> None:
    assert SUBJECT.manifest.config
    with LocalExportDriver(filled) as driver:
        trees.put(driver, OTHER, "1.0")
    gone = {garbage.path.name for garbage in collect(filled)}
    # Its referrer goes with it; ns/copy still has the same layer and config.
    assert str(SUBJECT.digest) in gone
    assert LAYER.encoded not in gone
    assert (filled / f"v2/ns/copy/blobs/{LAYER}.gz").exists()


def test_an_upload_under_way_is_spared(filled: Path) -> None:
    late = images.image("ns/late", "1.0", [images.layer({"late": b"late"})])
    layer = late.manifest.layers[0].digest

    def chunks() -> Iterator[bytes]:
        yield late.blobs[layer][:20]
        assert collect(filled) == []
        yield late.blobs[layer][20:]

    with LocalExportDriver(filled) as driver:
        driver.upload_layer(late.repository, chunks(), expected=layer)
        driver.mount_layers(late.repository, trees.described(LAYER))
        assert collect(filled) == []
        asked = trees.described(layer, LAYER)
        assert driver.mount_layers(late.repository, asked) == {layer, LAYER}
        trees.put(driver, late)
    gone = [garbage.path.name for garbage in collect(filled)]
    assert gone == [f"{LAYER}.gz"]  # mounted, and then not used


@pytest.mark.slow
def test_beside_writers(filled: Path) -> None:
    """Whatever the interleaving, nothing that is needed goes."""
    done = threading.Event()
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        chosen = random.Random(seed)  # noqa: S311
        try:
            with LocalExportDriver(filled) as driver:
                for number in range(15):
                    text = str(chosen.randrange(4)).encode()
                    image = images.image("ns/img", f"w{seed}", [images.layer({"f": text})])
                    trees.put(driver, image)
                    if number % 5 == 4 and image.tag:
                        driver.delete(ImageRef(image.repository, image.tag))
        except BaseException as e:
            failures.append(e)

    def tidy() -> None:
        while not done.is_set():
            collect(filled)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    tidier = threading.Thread(target=tidy)
    for thread in (tidier, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    tidier.join()
    assert failures == []
    collect(filled)
    assert trees.problems(filled) == []
    with LocalExportDriver(filled) as driver:
        for image in related():
            for part in image.walk():
                asked = part.manifest.blobs()
                assert driver.mount_layers(part.repository, asked) == set(part.blobs)


def test_a_blob_that_is_linked_again_meanwhile(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between finding out what repositories hold and the pool's lock, an upload takes place."""
    litter(filled)
    new, old = images.layer({"new": b"new"}), images.image("ns/img", "1.0", [])
    with LocalExportDriver(filled) as driver:
        trees.put(driver, old)
    look = Collector._held

    def look_and_put(self: Collector) -> set[Digest]:
        held = look(self)
        assert new.digest not in held
        with LocalExportDriver(filled) as driver:
            asked = trees.described(new.digest)
            assert driver.mount_layers(RepositoryName("ns/new"), asked) == {new.digest}
            trees.put(driver, images.image("ns/new", "1.0", [new]))
        return held

    monkeypatch.setattr(Collector, "_held", look_and_put)
    gone = {garbage.path.name for garbage in collect(filled)}
    assert new.digest.encoded not in gone
    assert Tree(filled).pool.file(new.digest)
    assert trees.problems(filled) == []


def test_a_repository_with_a_manifest_that_cannot_be_read_keeps_everything(
    filled: Path, run: Run
) -> None:
    litter(filled)
    broken = filled / f"v2/ns/img/manifests/{OTHER.digest}/index.json"
    broken.unlink()
    broken.write_text("{")
    blobs = set((filled / "v2/ns/img/blobs").iterdir())
    status, output = run("gc").both
    assert status == 1
    assert f"ERROR: nothing is removed beside it: {broken}: content hashes to" in output
    assert set((filled / "v2/ns/img/blobs").iterdir()) == blobs
    assert not (filled / f"v2/base/manifests/{OTHER.digest}").exists()


@pytest.mark.slow
def test_where_links_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with LocalExportDriver(root) as driver:
        for image in related():
            trees.put(driver, image)
    assert collect(root) == []


def test_all_cores_read() -> None:
    cores = len(os.sched_getaffinity(0))
    together = threading.Barrier(cores, timeout=60)

    def meet(number: int) -> int:
        together.wait()
        return number * 2

    found = list(parallel.each(meet, range(3 * cores)))
    assert found == [(number, number * 2) for number in range(3 * cores)]


def test_staged_files_of_the_living_are_left_alone(root: Path) -> None:
    one, two = Storage(root, PLACES), Storage(root, PLACES)
    one.make_root()
    staged = one.stage([b"mine"])
    assert two.staged_by_others() == []
    two.remove_staged(staged.path.parent)
    assert one.read(staged.path) == b"mine"
    one.close()
    assert two.staged_by_others() == [staged.path.parent]
    two.remove_staged(staged.path.parent)
    assert list((root / ".local-export/staging").iterdir()) == []


# -- the command


def test_the_command(filled: Path, run: Run) -> None:
    litter(filled)
    (filled / "image").write_text("")
    status, foreseen = run("gc", "--dry-run").both
    assert status == 0
    status, output = run("gc").both
    assert status == 0
    assert output.splitlines()[:-1] == foreseen.splitlines()[:-1]
    assert ".local-export/staging/dead: left by a process that has ended, 1.0 kB" in output
    assert foreseen.splitlines()[-1].replace("would go", "removed") == output.splitlines()[-1]
    assert run("gc").both == (0, "0 removed, 0 B freed\n")


def test_old_trees_are_adopted(root: Path, run: Run) -> None:
    layers = [images.layer({"f": b"x" * 3000})]
    good = [images.image(name, "1.0", layers) for name in ("a", "b/c", "d")]
    bad = images.image("e", "1.0", [images.layer({"f": b"bad"})])
    for image in (*good, bad):
        legacy.write_image(root, image, "1.0")
    broken = root / f"v2/e/blobs/{bad.manifest.layers[0].digest}.gz"
    broken.write_bytes(b"half")
    status, output = run("gc", "--adopt", "--dry-run").both
    assert (status, output.splitlines()[-1]) == (0, "8 blobs would be adopted")
    assert not list((root / ".local-export").rglob("pool/*"))
    done = run("gc", "--adopt")
    assert done.status == 1
    assert f"ERROR: v2/e/blobs/{broken.name}: damaged, left as it is" in done.err
    assert done.out.splitlines()[-1].startswith("7 blobs adopted, ")
    assert broken.read_bytes() == b"half"
    for digest in good[0].blobs:
        (pooled,) = (root / ".local-export/pool").rglob(digest.encoded)
        assert pooled.stat().st_nlink == 4
    assert trees.served(root).keys() >= {f"v2/{n}/tags/list" for n in ("e",)}


def test_adopting_mends_a_damaged_copy(root: Path, run: Run) -> None:
    image, twin = (images.image(name, "1.0", [images.layer({"f": b"x"})]) for name in "ab")
    for part in (image, twin):
        legacy.write_image(root, part, "1.0")
    damaged = root / f"v2/a/blobs/{image.manifest.layers[0].digest}.gz"
    damaged.write_bytes(b"half")
    assert run("gc", "--adopt").status == 0
    assert damaged.read_bytes() == image.blobs[image.manifest.layers[0].digest]


def test_adopting_frees_what_copies_took(root: Path, run: Run) -> None:
    layer = images.layer({"f": os.urandom(5000)})
    for name in "abc":
        legacy.write_image(root, images.image(name, "1.0", [layer]), "1.0")
    before = disk(root)
    status, output = run("gc", "--adopt").both
    assert status == 0
    assert before - disk(root) >= 2 * len(layer.content)
    assert "6 blobs adopted, 1" in output


def test_what_is_adopted_is_durable_before_it_is_in_the_pool(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it may not have waited for the disk."""
    image = images.image("a", "1.0", [images.layer({"f": b"x"})])
    legacy.write_image(root, image, "1.0")
    blobs = {path.stat().st_ino for path in (root / "v2/a/blobs").iterdir()}
    synced, sync = set(), os.fsync

    def fsync(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        if inode in blobs:
            assert not [
                p for p in (root / ".local-export/pool").rglob("*") if p.stat().st_ino == inode
            ]
            synced.add(inode)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert len(list(adopt.adopt(Tree(root)))) == 2
    assert synced == blobs


def test_adopting_a_copy_that_has_other_names_frees_nothing(root: Path, tmp_path: Path) -> None:
    layer = images.layer({"f": b"x"})
    for name in "ab":
        legacy.write_image(root, images.image(name, "1.0", [layer]), "1.0")
        for copy in (root / f"v2/{name}/blobs").iterdir():
            os.link(copy, tmp_path / f"{name}-{copy.name}")
    adopted = list(adopt.adopt(Tree(root)))
    assert len(adopted) == 4
    assert sum(blob.bytes_freed for blob in adopted) == 0
    assert (root / f"v2/b/blobs/{layer.digest}.gz").stat().st_nlink == 4  # a backup, the pool
