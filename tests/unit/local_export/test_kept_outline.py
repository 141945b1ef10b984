# SPDX-License-Identifier: Apache-2.0
"""The second and later deletes of a process look only at what has changed, and are as right."""

from __future__ import annotations

import collections
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import garbage, kept_outline, layout, needs
from image_uploader_plugins.local_export.garbage import Plan
from image_uploader_plugins.local_export.graph import Reference
from image_uploader_plugins.local_export.kept_outline import OUTLINES, KeptOutlines, Rest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.local_export.views.documents import Variant
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.storage import Watch, entries
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import faults, trees
from tests.support.faults import PLAIN, Dying, Killed, Primitive, hooked

NAME = RepositoryName("ns/many")
HERE = layout.repository(NAME)
SHARED = images.layer({"file": b"shared"})
LAYERS = [images.layer({"file": b"layer %d" % n}) for n in range(6)]


def image(number: int) -> Image:
    layers = [images.layer({"file": b"%d" % number}), SHARED]
    return images.image(str(NAME), f"t{number:03}", layers)


@pytest.fixture
def root() -> Iterator[Path]:
    """Where flushes take no time."""
    with faults.fast_folder() as folder:
        yield folder / "image-serve"


@pytest.fixture
def driver(root: Path) -> Iterator[LocalExportDriver]:
    """A tree with images, in a process that keeps its outline."""
    with LocalExportDriver(root) as driver:
        fill(driver, 0, 14)
        delete(driver, 0, 1)
        assert is_kept(root)
        yield driver


def fill(driver: LocalExportDriver, first: int, end: int) -> None:
    for number in range(first, end):
        trees.put(driver, image(number))


def delete(driver: LocalExportDriver, *numbers: int) -> None:
    for number in numbers:
        driver.delete(ImageRef(NAME, Tag(f"t{number:03}")))


def is_kept(root: Path) -> bool:
    path = root / HERE.top
    kept = OUTLINES.take(path)
    if kept:
        OUTLINES.put(path, kept)
    return kept is not None


def expected(*numbers: int) -> set[str]:
    kept = [image(number) for number in numbers]
    return {str(digest) for one in kept for digest in (one.digest, *one.blobs)}


def type_map(number: int) -> Path:
    return HERE.type_map(Tag(f"t{number:03}"))  # type: ignore[return-value]


def leading_to(tag: int, number: int) -> bytes:
    """The type map of a tag that leads to another image."""
    found = image(number)
    return documents.type_map(f"t{tag:03}", [Variant(found.manifest.media_type, found.digest)])


# -- what it costs


class Looks:
    """Counts the names of manifests, tags and blobs that are looked at."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def __call__(self, primitive: Primitive) -> Any:
        found = primitive()
        if primitive.path.is_relative_to(HERE.top) and not primitive.path.is_relative_to(
            HERE.windows
        ):
            if primitive.function in (entries.listing, entries.identities):
                self.counts["names"] += len(found)
            self.counts["looks"] += primitive.function is os.stat
            self.counts["opens"] += primitive.opens
        return found


def looks(driver: LocalExportDriver, number: int) -> dict[str, int]:
    found = Looks()
    with hooked(found):
        delete(driver, number)
    return dict(found.counts)


def test_a_delete_looks_at_as_much_beside_many_as_beside_few(driver: LocalExportDriver) -> None:
    few = looks(driver, 2)
    fill(driver, 20, 60)
    delete(driver, 3)
    assert looks(driver, 4) == few
    assert few["names"] <= 12
    assert few["looks"] <= 40


def test_one_that_is_deleted_once_is_not_kept(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        fill(driver, 0, 14)
        delete(driver, 0)
        assert not is_kept(root)
        delete(driver, 1)
        assert is_kept(root)


# -- whoever changes something meanwhile is noticed


def in_place(root: Path) -> None:
    """As tripleo-common writes, which changes no folder."""
    (root / type_map(3)).write_bytes(leading_to(3, 2))


def renamed(root: Path) -> None:
    """As rsync writes, which sets the times of files and folders to what they were."""
    path = root / type_map(3)
    folder, file = path.parent.stat(), path.stat()
    path.with_name(".t003.Xy1").write_bytes(leading_to(3, 2))
    os.utime(path.with_name(".t003.Xy1"), ns=(file.st_atime_ns, file.st_mtime_ns))
    path.with_name(".t003.Xy1").rename(path)
    os.utime(path.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))


def folders_replaced(root: Path) -> None:
    path = root / HERE.manifests
    shutil.copytree(path, path.with_name("copy"), symlinks=True)
    path.rename(path.with_name("away"))
    (path.with_name("copy")).rename(path)
    shutil.rmtree(path.with_name("away"))
    in_place(root)


def folder_above_replaced(root: Path) -> None:
    path = root / HERE.top
    shutil.copytree(path, path.with_name("copy"), symlinks=True)
    path.rename(path.with_name("away"))
    path.with_name("copy").rename(path)
    in_place(root)


def more_than_is_told(root: Path) -> None:
    in_place(root)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for _ in range(min(limit, 50_000) // 2 + 1):
        for number in (4, 5):
            os.utime(root / type_map(number))


def by_another_process(root: Path) -> None:
    child = os.fork()
    if not child:
        with LocalExportDriver(root) as other:
            found = image(2).manifest
            other.put_manifest(NAME, found.content, found.media_type, tag=Tag("t003"))
            delete(other, 13)
            fill(other, 13, 14)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "change",
    [
        *(in_place, renamed, folders_replaced, folder_above_replaced),
        *(more_than_is_told, by_another_process),
    ],
)
def test_a_tag_that_leads_to_what_is_deleted(
    driver: LocalExportDriver, root: Path, change: Callable[[Path], None]
) -> None:
    change(root)
    delete(driver, 2)
    assert trees.held(root, HERE) - expected(3) == expected(2, *range(4, 14)) - expected(3)
    delete(driver, 3)
    assert trees.held(root, HERE) == expected(*range(4, 14))


def test_a_tag_that_changes_while_everything_is_looked_at(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "clock", lambda: 2**62)  # so that tags are remembered

    def meanwhile(primitive: Primitive) -> Any:
        found = primitive()
        if primitive.function is entries.identities:
            in_place(root)
        return found

    with LocalExportDriver(root) as driver:
        fill(driver, 0, 14)
        delete(driver, 0)
        with hooked(meanwhile):
            delete(driver, 1)
        assert is_kept(root)
        delete(driver, 2)
    assert trees.held(root, HERE) - expected(3) == expected(2, *range(4, 14)) - expected(3)


def test_a_tag_that_comes(driver: LocalExportDriver, root: Path) -> None:
    (root / HERE.type_map(Tag("new"))).write_bytes(leading_to(2, 2))
    delete(driver, 2)
    assert trees.held(root, HERE) == expected(*range(2, 14))


def test_a_legacy_tag_that_comes(driver: LocalExportDriver, root: Path) -> None:
    (root / HERE.legacy_tag(Tag("old"))).symlink_to(str(image(2).digest))
    delete(driver, 2)
    assert trees.held(root, HERE) == expected(*range(2, 14))


def test_an_index_that_comes(driver: LocalExportDriver, root: Path) -> None:
    index = images.index(str(NAME), "list", [image(2), image(3)])
    with LocalExportDriver(root) as other:
        other.put_manifest(NAME, index.manifest.content, index.manifest.media_type, tag=index.tag)
    delete(driver, 2, 3)
    assert expected(*range(2, 14)) < trees.held(root, HERE)
    driver.delete(ImageRef(NAME, Tag("list")))
    assert trees.held(root, HERE) == expected(*range(4, 14))
    assert Verification(Tree(root)).report().findings == ()


def test_a_blob_of_an_upload(driver: LocalExportDriver, root: Path) -> None:
    """It stays as long as the lease, also if only what is deleted needs it."""
    (own, *_) = [
        d for d in image(2).blobs if d not in image(3).blobs and str(d) in trees.held(root, HERE)
    ]
    driver.upload_layer(NAME, [image(2).blobs[own]], expected=own)
    delete(driver, 2)
    assert trees.held(root, HERE) == expected(*range(3, 14)) | {str(own)}
    driver._leases.drop_all()
    delete(driver, 3)
    assert trees.held(root, HERE) == expected(*range(4, 14))


def test_what_cannot_be_read_stops_it(driver: LocalExportDriver, root: Path) -> None:
    (root / type_map(3)).write_bytes(b"damaged")
    with pytest.raises(errors.NeedUnknown):
        delete(driver, 2)
    assert trees.held(root, HERE) == expected(*range(2, 14))


def test_a_delete_that_fails_keeps_nothing(driver: LocalExportDriver, root: Path) -> None:
    def fail(primitive: Primitive) -> Any:
        if primitive.function is os.unlink and primitive.path.is_relative_to(HERE.manifests):
            raise OSError(5, "failed")
        return primitive()

    with hooked(fail), pytest.raises(errors.StorageError):
        delete(driver, 2)
    assert not is_kept(root)
    driver.delete_all(NAME, [Tag("t002")])
    assert trees.held(root, HERE) == expected(*range(3, 14))


def test_a_delete_that_is_killed_is_ended_by_the_next_one(
    driver: LocalExportDriver, root: Path
) -> None:
    """Its outline is kept where nothing is gone or all that it told to remove."""
    before, after = expected(*range(2, 14)), expected(*range(3, 14))
    steps = effects(lambda: delete(driver, 2))
    # Content is removed by the last of them.
    for n in (1, 9, steps // 2, *range(steps - 12, steps - 1, 2)):
        fill(driver, 2, 3)
        delete(driver, 2)
        fill(driver, 2, 3)
        assert is_kept(root)
        with hooked(Dying(n, PLAIN)), pytest.raises(Killed):
            delete(driver, 2)
        assert not is_kept(root) or trees.held(root, HERE) in (before, after)
        driver.delete_all(NAME, [Tag("t002")])
        assert trees.held(root, HERE) == after
        assert not trees.problems(root)


def effects(act: Callable[[], object]) -> int:
    count = 0

    def counting(primitive: Primitive) -> Any:
        nonlocal count
        count += primitive.effect
        return primitive()

    with hooked(counting):
        act()
    return count


def test_a_child_of_fork_leaves_its_parent_what_it_is_told(
    driver: LocalExportDriver, root: Path
) -> None:
    in_place(root)
    child = os.fork()
    if not child:
        found = OUTLINES.take(root / HERE.top)
        os._exit(found is not None)
    assert os.waitpid(child, 0)[1] == 0
    delete(driver, 2)
    assert trees.held(root, HERE) - expected(3) == expected(2, *range(4, 14)) - expected(3)


def test_without_the_kernels_help_everything_is_looked_at(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Watch, "__init__", refuse)
    with LocalExportDriver(root) as driver:
        fill(driver, 0, 14)
        delete(driver, 0, 1)
        assert not is_kept(root)
        in_place(root)
        delete(driver, 2)
    assert trees.held(root, HERE) - expected(3) == expected(2, *range(4, 14)) - expected(3)


# -- it is equal to a new look at everything


class Walk:
    """Random changes of a repository, by us and by others, each delete planned in both ways."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.compared = 0
        self.differences: list[str] = []
        self._chosen = random.Random(seed)  # noqa: S311
        self._made: dict[Digest, Image] = {}

    def compare(self, plan: Callable[..., Plan], *args: Any, again: bool = False) -> Plan:
        made = plan(*args, again=again)
        if made.kept:
            whole = plan(*args)
            self.compared += 1
            if _compared(made) != _compared(whole):
                self.differences.append(f"{_compared(made)}\n{_compared(whole)}")
        return made

    def go(self, driver: LocalExportDriver, steps: int) -> None:
        acts = [self._put] * 4 + [self._delete] * 5 + [self._other_tool] * 4
        for _ in range(steps):
            self._chosen.choice(acts)(driver)

    def _put(self, driver: LocalExportDriver) -> None:
        here = self._here()
        some = self._chosen.sample(here, min(len(here), 3))
        more: dict[str, Any] = (
            {"subject": self._made[some[0]].descriptor()} if some and self._yes() else {}
        )
        if some and self._yes():
            children = [self._made[digest] for digest in some]
            made = images.index(str(NAME), None, children, oci=True, **more)
        else:
            layers = self._chosen.sample(LAYERS, 2)
            label = {"n": str(len(self._made))}
            made = images.image(str(NAME), None, layers, oci=True, labels=label, **more)
        self._made[made.digest] = made
        for digest, blob in made.blobs.items():
            driver.upload_layer(NAME, [blob], expected=digest)
        tag = self._tag() if self._yes(0.6) else None
        driver.put_manifest(NAME, made.manifest.content, made.manifest.media_type, tag=tag)

    def _delete(self, driver: LocalExportDriver) -> None:
        names: list[Reference] = [self._tag(), self._tag(), *self._here()]
        driver.delete_all(NAME, self._chosen.sample(names, self._chosen.randint(1, 2)))

    def _other_tool(self, driver: LocalExportDriver) -> None:
        """Change the tree as one that takes no lock."""
        here = self._here()
        pins = [HERE.pin(digest) for digest in here]
        maps = [HERE.type_map(Tag(f"t{n}")) for n in range(5)]
        path = self.root / self._chosen.choice([*maps, *maps, *pins])
        if self._yes() and here:
            found = self._made[self._chosen.choice(here)]
            variant = Variant(found.manifest.media_type, found.digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(documents.type_map(path.name.removesuffix(".type-map"), [variant]))
        elif self._yes():
            path.unlink(missing_ok=True)
        elif self._yes() and here:
            shutil.rmtree(self.root / HERE.manifest(self._chosen.choice(here)))
        else:
            lost = b"%d" % self._chosen.randrange(1000)
            path = self.root / HERE.blob(Digest.of(lost), gzip=self._yes())
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(lost)

    def _here(self) -> list[Digest]:
        return sorted(d for d in self._made if (self.root / HERE.manifest_content(d)).exists())

    def _tag(self) -> Tag:
        return Tag(f"t{self._chosen.randrange(5)}")

    def _yes(self, share: float = 0.4) -> bool:
        return self._chosen.random() < share


def _compared(plan: Plan) -> dict[str, object]:
    return {
        "tags": plan.tags,
        "unnamed": {*plan.unnamed},
        "subjects": plan.subjects,
        "referrers": {subject: {*found} for subject, found in plan.referrers.items()},
        "manifests": plan.manifests,
        "blobs": plan.digests,
        "files": {file.path for _, file in plan.blobs},
        "left": {*plan.left},
        "left tags": {*plan.left_tags},
        "doubts": plan.doubts,
    }


def test_it_is_equal_to_a_new_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "WORTH", 0)
    original, compared = garbage.plan, 0
    for seed, steps in ((0, 50), (1, 50), (333, 80)):
        with faults.fast_folder() as folder, LocalExportDriver(folder / "tree") as driver:
            walk = Walk(folder / "tree", seed)

            def plan(*args: Any, again: bool = False, walk: Walk = walk) -> Plan:
                return walk.compare(original, *args, again=again)

            monkeypatch.setattr(garbage, "plan", plan)
            walk.go(driver, steps)
            assert walk.differences == [], seed
            compared += walk.compared
    assert compared > 20


# -- parts of it


def test_a_set_without_some() -> None:
    found = Rest(["a", "b", "c"], {"b"})
    assert {*found} == {"a", "c"}
    assert len(found) == 2
    assert "b" not in found
    assert found & {"a", "b"} == {"a"}


def test_the_longest_unused_are_forgotten(root: Path, driver: LocalExportDriver) -> None:
    kept = OUTLINES.take(root / HERE.top)
    assert kept
    found = KeptOutlines()
    for number in range(kept_outline.REPOSITORIES + 1):
        found.put(Path(str(number)), kept)
    assert found.take(Path("0")) is None
    assert found.take(Path("1")) is kept


def test_too_many_names_are_not_kept(
    root: Path, driver: LocalExportDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_outline, "LIMIT", 20)
    delete(driver, 2)
    assert not is_kept(root)
