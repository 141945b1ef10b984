# SPDX-License-Identifier: Apache-2.0
"""A delete remembers what manifests need: it stays as fast beside many, and as right."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.local_export import graph, layout, needs
from image_uploader_plugins.local_export.graph import Needs
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.needs import Memory
from image_uploader_plugins.local_export.reports.forecast import Forecast
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import content, damages, faults, trees
from tests.support.faults import Primitive, hooked

NAME = RepositoryName("ns/many")
HERE = layout.repository(NAME)
SHARED = images.layer({"file": b"shared"})


def image(number: int) -> Image:
    layers = [images.layer({"file": b"%d" % number}), SHARED]
    return images.image(str(NAME), f"t{number:03}", layers)


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file had been written long ago."""
    monkeypatch.setattr(needs, "clock", lambda: 2**62)


@pytest.fixture
def root() -> Iterator[Path]:
    """Where flushes take no time."""
    with faults.fast_folder() as folder:
        yield folder / "image-serve"


@pytest.fixture
def driver(root: Path) -> Iterator[LocalExportDriver]:
    """A tree with some images, whose needs are remembered."""
    with LocalExportDriver(root) as driver:
        fill(driver, 12)
        delete(driver, 0)
        yield driver


def fill(driver: LocalExportDriver, count: int) -> None:
    for number in range(count):
        trees.put(driver, image(number))


def delete(driver: LocalExportDriver, number: int) -> None:
    driver.delete(ImageRef(NAME, Tag(f"t{number:03}")))


def memory(root: Path) -> Memory:
    return Memory(Tree(root).storage, HERE)


def fresh(root: Path) -> dict[str, Needs]:
    """What a process that has just begun knows."""
    needs.KEPT.take(root / HERE.needs)
    return dict(memory(root).needs)


def expected(*numbers: int) -> set[str]:
    kept = [image(number) for number in numbers]
    return {str(digest) for one in kept for digest in (one.digest, *one.blobs)}


def sound(root: Path) -> None:
    assert Verification(Tree(root)).report().findings == ()


class Opens:
    """Counts the files of manifests and tags that are opened."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, primitive: Primitive) -> Any:
        inside = primitive.path.is_relative_to(HERE.manifests)
        is_open = primitive.function is os.open and not primitive.changes
        self.count += inside and is_open and not primitive.args[1] & os.O_DIRECTORY
        return primitive()


def test_as_many_files_are_opened_beside_many_as_beside_few(root: Path) -> None:
    counts = []
    with LocalExportDriver(root) as driver:
        for start, end in ((0, 12), (12, 48)):
            for number in range(start, end):
                trees.put(driver, image(number))
            delete(driver, start)
            opens = Opens()
            with hooked(opens):
                delete(driver, start + 1)
            counts.append(opens.count)
    assert counts == [0, 0]


def test_another_process_knows_as_much(driver: LocalExportDriver, root: Path) -> None:
    needs.KEPT.take(root / HERE.needs)
    opens = Opens()
    with hooked(opens):
        delete(driver, 1)
    assert opens.count == 0
    assert trees.held(root, HERE) == expected(*range(2, 12))
    sound(root)


# -- whatever becomes of the memory, the same is removed


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _altered(path: Path) -> None:
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"needs":{"sha256:', b'"needs":{"sha256;', 1))


def _of_another_version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"needs 1\n", b"needs 2\n", 1))


def _a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _two_names(path: Path) -> None:
    path.with_name("elsewhere").hardlink_to(path)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _of_somebody_else(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file away takes root")
    os.chown(path, 12345, 12345)


def _of_no_use(path: Path) -> None:
    path.write_bytes(b"\0" * 4096)


@pytest.mark.parametrize(
    "harm",
    [
        *(Path.unlink, _torn, _altered, _of_another_version, _a_link, _two_names),
        *(_a_folder, _of_somebody_else, _of_no_use),
    ],
)
def test_a_memory_that_is_wrong_is_as_good_as_none(
    driver: LocalExportDriver, root: Path, harm: Callable[[Path], None]
) -> None:
    known = fresh(root)
    harm(root / HERE.needs)
    assert harm is _torn or fresh(root) == {}
    delete(driver, 1)
    assert trees.held(root, HERE) == expected(*range(2, 12))
    sound(root)
    delete(driver, 2)
    assert fresh(root).items() <= known.items()
    assert len(fresh(root)) >= 9


def test_torn_anywhere_it_says_nothing_wrong(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "WORTH", 0)
    (root / "v2").mkdir(parents=True)
    for number in (1, 2):
        found = memory(root)
        found.add(f"manifest {number}", Needs((f"blob {number}",)))
        found.save(found.needs.keys(), [])
    path = root / HERE.needs
    whole, known = path.read_bytes(), fresh(root)
    assert whole.count(b"\n") == 3
    assert len(known) == 2
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        found = memory(root)
        assert found.needs.items() <= known.items()
        for position in (end, end // 2):
            path.write_bytes(whole[:position] + b"\xff" + whole[position + 1 :])
            assert fresh(root).items() <= known.items()


def test_a_failing_disk_does_not_stop_a_delete(driver: LocalExportDriver, root: Path) -> None:
    trees.put(driver, image(20))

    def fail(primitive: Primitive) -> Any:
        if primitive.path == HERE.needs:
            raise OSError(errno.EIO, "failed")
        return primitive()

    with hooked(fail):
        delete(driver, 1)
    assert trees.held(root, HERE) == expected(*range(2, 12), 20)


# -- what it says is right whatever happens beside it


@pytest.mark.parametrize("damage", [damages.flip, damages.empty])
def test_the_needs_of_a_damaged_manifest_are_known(
    driver: LocalExportDriver, root: Path, damage: Callable[[Path], None]
) -> None:
    damage(root / HERE.manifest_content(image(5).digest))
    tree = Tree(root)
    foreseen = Forecast(tree).delete_all(NAME, [Tag("t001")])
    assert driver.delete(ImageRef(NAME, Tag("t001"))) == foreseen
    assert trees.held(root, HERE) == expected(*range(2, 12))
    (root / HERE.type_map(Tag("t002"))).unlink()
    collector = Collector(tree)
    assert list(collector.collect()) != []
    assert collector.problems == []
    assert trees.held(root, HERE) == expected(*range(3, 12))
    trees.put(driver, image(5))
    sound(root)


def test_a_tag_that_another_tool_writes_in_place_is_noticed(
    driver: LocalExportDriver, root: Path
) -> None:
    path = root / HERE.type_map(Tag("t003"))
    old, new = (str(image(n).digest).encode() for n in (3, 1))
    text = path.read_bytes().replace(old, new)
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    delete(driver, 1)
    assert trees.held(root, HERE) == expected(1, 2, *range(4, 12))


def test_a_tag_that_was_just_written_is_not_remembered(
    driver: LocalExportDriver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.put(driver, image(20))
    written = (root / HERE.type_map(Tag("t020"))).stat().st_ctime_ns
    monkeypatch.setattr(needs, "clock", lambda: written + 1_000_000_000)
    delete(driver, 1)
    assert b'"t020"' not in (root / HERE.needs).read_bytes()
    monkeypatch.setattr(needs, "clock", lambda: written + 5_000_000_000)
    delete(driver, 2)
    assert b'"t020"' in (root / HERE.needs).read_bytes()


def test_what_another_process_does_is_noticed(driver: LocalExportDriver, root: Path) -> None:
    child = os.fork()
    if not child:
        with LocalExportDriver(root) as other:
            found = image(1).manifest
            other.put_manifest(NAME, found.content, found.media_type, tag=Tag("t002"))
            trees.put(other, image(30))
            delete(other, 3)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    delete(driver, 1)
    assert trees.held(root, HERE) == expected(1, *range(4, 12), 30)
    sound(root)


def test_all_kinds_of_manifests_are_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what they list, refer to and need."""
    monkeypatch.setattr(needs, "WORTH", 0)
    parts = [*content.everything(), *content.related()]
    with LocalExportDriver(root) as driver:
        for part in parts:
            trees.put(driver, part)
        before = stored(root)
        findings = Verification(Tree(root)).report().findings
        names = sorted({part.repository for part in parts})
        for name in [*names, *names]:
            unpin(root, parts)
            going = images.image(str(name), "going", [], labels={"going": "soon"})
            trees.put(driver, going)
            driver.delete(ImageRef(name, Tag("going")))
        assert stored(root) == before
    assert Verification(Tree(root)).report().findings == findings


def stored(root: Path) -> set[str]:
    """All blobs and manifests that are served."""
    found = trees.served(root)
    return {path for path in found if "/blobs/" in path or path.endswith("/index.json")}


def unpin(root: Path, parts: list[Image]) -> None:
    """As tripleo-common leaves what an index lists."""
    for part in parts:
        for child in part.manifest.manifests:
            pin = layout.repository(part.repository).pin(child.digest)
            (root / pin).unlink(missing_ok=True)


def test_layers_that_may_come_from_elsewhere_are_needed() -> None:
    parsed = content.elsewhere().manifest
    assert any(layer.urls for layer in parsed.layers)
    assert set(graph.needs(parsed).blobs) >= {str(layer.digest) for layer in parsed.layers}


def test_lists_have_only_referrers_that_stay(root: Path) -> None:
    subject, first, second = content.SUBJECT, *map(_about, ("first", "second"))
    path = root / layout.repository(subject.repository).referrers_of(subject.digest) / "all"
    with LocalExportDriver(root) as driver:
        for one in (subject, first, second):
            trees.put(driver, one)
        driver.delete(ImageRef(subject.repository, first.digest))
        listed = json.loads(path.read_bytes())["manifests"]
        assert [entry["digest"] for entry in listed] == [str(second.digest)]
        driver.delete(ImageRef(subject.repository, second.digest))
        assert not path.parent.exists()
    sound(root)


def _about(text: str) -> Image:
    return content.referrer(content.SUBJECT, "application/vnd.example.sbom+json", text)


# -- it is no content


def test_what_is_gone_is_forgotten(driver: LocalExportDriver, root: Path) -> None:
    delete(driver, 1)
    assert str(image(1).digest) in fresh(root)
    list(Collector(Tree(root)).collect())
    assert fresh(root).keys() == {str(image(n).digest) for n in range(2, 12)}
    assert b'"t001"' not in (root / HERE.needs).read_bytes()
    written = (root / HERE.needs).stat()
    list(Collector(Tree(root)).collect())
    assert (root / HERE.needs).stat() == written


def test_it_goes_with_its_repository(driver: LocalExportDriver, root: Path) -> None:
    driver.delete_all(NAME, [Tag(f"t{n:03}") for n in range(1, 12)])
    assert not (root / HERE.needs).exists()
    (root / HERE.needs).write_text("left by somebody who was killed")
    list(Collector(Tree(root)).collect())
    assert not (root / HERE.needs).exists()


def test_few_manifests_are_not_remembered(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        fill(driver, 4)
        delete(driver, 0)
    assert not (root / layout.NEEDS).exists()


def test_many_deletes_at_once_write_it_once(driver: LocalExportDriver, root: Path) -> None:
    for number in range(20, 24):
        trees.put(driver, image(number))
    lines = (root / HERE.needs).read_bytes().count(b"\n")
    driver.delete_all(NAME, [Tag(f"t{n:03}") for n in (1, 2, 20, 21)])
    assert (root / HERE.needs).read_bytes().count(b"\n") == lines + 1
    assert trees.held(root, HERE) == expected(*range(3, 12), 22, 23)


def test_whoever_only_looks_makes_none(driver: LocalExportDriver, root: Path) -> None:
    delete(driver, 1)
    trees.put(driver, image(20))
    for state in ((root / HERE.needs).read_bytes(), None):
        Forecast(Tree(root)).delete_all(NAME, [Tag("t002")])
        list(Collector(Tree(root), dry_run=True).collect())
        if state:
            assert (root / HERE.needs).read_bytes() == state
            shutil.rmtree(root / layout.NEEDS)
    assert not (root / layout.NEEDS).exists()


def test_the_process_keeps_what_it_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = needs._Kept()
    many: dict[str, needs.Lead] = {str(n): ((n,), [""]) for n in range(60_000)}
    kept.put(Path("first"), needs.Known(leads=many))
    kept.put(Path("second"), needs.Known(leads=many))
    assert kept.take(Path("first")) is None
    assert kept.take(Path("second")) is not None
