# SPDX-License-Identifier: Apache-2.0
"""Lists that change a little: what is written, removed and computed, and what is kept meanwhile."""

from __future__ import annotations

import errno
import itertools
import os
import random
import string
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_uploader_plugins import errors
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import PLACES, RepositoryLayout
from image_uploader_plugins.local_export.views import documents, kept_lists, windows
from image_uploader_plugins.local_export.views.catalog import Catalog
from image_uploader_plugins.local_export.views.kept_lists import KeptList, KeptLists
from image_uploader_plugins.local_export.views.tags_list import Listing
from image_uploader_plugins.local_export.views.windows import DividedList
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import File, Storage, Where
from tests.support.faults import SYNCS, Primitive, hooked
from tests.unit.local_export.views.memory import TOP, WHOLE, Memory, files


def never() -> set[str]:
    raise AssertionError("the whole list is not needed")


# -- what is computed

SIZES = st.sampled_from([0, 1, 3, 14, 15, 16, 17, 31, 32, 33, 60, 150, 700, 3000])
STEPS = st.lists(st.sampled_from([1, 1, 1, 2, 5, 40, 2000]), min_size=1, max_size=4)


def walk(seed: int, size: int, steps: list[int]) -> Iterator[set[str]]:
    """One list after the other, each with some items more and some less than the one before."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    items = {item(chance, size) for _ in range(size)}
    yield items
    for step in steps:
        removed = chance.sample(sorted(items), min(len(items), chance.randint(0, step)))
        ends = [max(items), min(items)] if items and chance.random() < 0.3 else []
        items = items.difference(removed, ends)
        items |= {item(chance, size) for _ in range(chance.randint(0, step))}
        yield items


def item(chance: random.Random, size: int) -> str:
    words = ("v1.", "b/c", "z" * 205)
    return f"{chance.choice(words)}{chance.randrange(4 * size + 4)}"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), size=SIZES, steps=STEPS)
def test_a_changed_list_is_the_list_divided_from_scratch(
    seed: int, size: int, steps: list[int]
) -> None:
    lists = list(walk(seed, size, steps))
    divided = DividedList(lists[0])
    for old, new in itertools.pairwise(lists):
        gone = (old - new) | set(divided.gone)
        changed = divided.changed(new - old, old - new, gone - new)
        divided, scratch = changed.new, DividedList(new, gone)
        assert (divided.items, divided.gone) == (scratch.items, scratch.gone)
        assert (divided.checksums, divided.divisions) == (scratch.checksums, scratch.divisions)


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), size=SIZES.map(lambda size: min(size, 1500)), steps=STEPS)
def test_a_change_writes_and_removes_exactly_what_differs(
    seed: int, size: int, steps: list[int]
) -> None:
    """What is there afterwards is what the computation of all windows would write."""
    storage = Memory()
    first, *others = walk(seed, size, steps)
    files(storage).write(first)
    for before, items in itertools.pairwise([first, *others]):
        old = storage.state.copy()
        storage.written.clear()
        storage.removed.clear()
        files(storage).change(items - before, before - items, items.copy)
        new = storage.state
        extra = Counter(storage.written) - Counter(p for p in new if new[p] != old.get(p))
        assert set(storage.written) >= {p for p in new if new[p] != old.get(p)}
        assert sorted(storage.removed) == sorted({*old, *storage.written} - new.keys())
        # Where several items change, one link may lead to another window meanwhile.
        links = {path.name.removesuffix(".type-map") for path in extra}
        assert len(links) <= (1 if len(items ^ before) > 1 else 0)
        assert all(path.is_relative_to(TOP / "1") and n == 1 for path, n in extra.items())
        again = Memory(new)
        files(again).write(items, thoroughly=True)
        assert not again.written
        assert not again.removed


@settings(deadline=None)
@given(items=st.sets(st.text(string.ascii_letters + "./_-", min_size=1), max_size=30))
def test_a_list_is_filled_as_if_by_json(items: set[str]) -> None:
    name = RepositoryName("a/b")
    for render in (documents.catalog, lambda tags: documents.tags_list(name, tags)):
        text = documents.filled(render(()), sorted(items))
        assert text == render(items)
        assert documents.items_of(render(()), text) == sorted(items)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"repositories":["b","a"]}',
        b'{"repositories":["a","a"]}',
        b'{"repositories": ["a"]}',
        b'{"repositories":["a"]}\n',
        b'{"repositories":["a"],"more":["b"]',
        b'{"tags":["a"]}',
        '{"repositories":["ä"]}'.encode(),
    ],
)
def test_no_other_list_has_items(text: bytes) -> None:
    assert documents.items_of(documents.catalog(()), text) is None


# -- how much a change costs


class Costs:
    """What a change did: files written and removed, checksums computed, names rendered."""

    def __init__(self, storage: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
        self._storage = storage
        self.checksums = self.names = 0
        crc32, filled = zlib.crc32, documents.filled

        def counting_crc32(text: bytes) -> int:
            self.checksums += 1
            return crc32(text)

        def counting_filled(empty: bytes, items: Any) -> bytes:
            self.names += len(items)
            return filled(empty, items)

        monkeypatch.setattr(zlib, "crc32", counting_crc32)
        monkeypatch.setattr(documents, "filled", counting_filled)

    def of(self, action: Callable[[], None]) -> tuple[int, int, int, int]:
        self.checksums = self.names = 0
        self._storage.written.clear()
        self._storage.removed.clear()
        self._storage.reads.clear()
        action()
        assert not self._storage.reads
        return (
            *(len(self._storage.written), len(self._storage.removed)),
            *(self.checksums, self.names),
        )


@pytest.mark.parametrize(
    ("total", "written", "removed", "names"),
    [
        (10, 45, 12, 125),
        (1000, 85, 65, 3200),
        pytest.param(20_000, 85, 65, 55_000, marks=pytest.mark.slow),
    ],
)
def test_a_tag_costs_little_among_any_number(
    total: int, written: int, removed: int, names: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Memory()
    costs = Costs(storage, monkeypatch)
    windows_of = files(storage)
    windows_of.write({f"v1.{number}.0" for number in range(total)})
    windows_of.change({"v1.0.1"}, (), lambda: {f"v1.{n}.0" for n in range(total)} | {"v1.0.1"})
    for number in range(0, total, -(-total // 10)):
        new = f"v1.{number}.2"
        assert costs.of(lambda: windows_of.change((), (), never)) == (0, 0, 0, 0)
        for added, gone in ([new], []), ([], [new]):
            found = costs.of(lambda a=added, g=gone: windows_of.change(a, g, never))  # type: ignore[misc]
            assert found[0] <= written
            assert found[1] <= removed
            assert found[2] == len(added)
            assert found[3] <= names


def test_a_change_knows_when_those_that_are_gone_were_removed() -> None:
    """Each deletion looks at few of those that were removed before."""
    storage = Memory()
    items = {f"v{number:04}" for number in range(600)}
    files(storage).write(items)
    looked: list[PurePosixPath] = []
    status = storage.status

    def counting(path: Where) -> File | None:
        looked.append(PurePosixPath(path))
        return status(path)

    storage.status = counting  # type: ignore[method-assign]
    for number in range(290):
        looked.clear()
        items.discard(f"v{number * 2:04}")
        files(storage).change((), [f"v{number * 2:04}"], lambda: items)
        found = sum(path.parent.name == windows.GONE for path in looked)
        assert found <= (windows.REMEMBERED if number == windows.REMEMBERED else 12)
    gone = {path.name for path in storage.state if path.parent.name == windows.GONE}
    assert {f"v{number * 2:04}+" for number in range(290 - windows.REMEMBERED, 290)} <= gone
    assert "v0000+" not in gone


def test_what_is_kept_makes_no_difference() -> None:
    """Also of which removed items are remembered, where there are too many."""
    chance = random.Random(5)  # noqa: S311 - no secret
    items = {f"v{number:04}" for number in range(300)}
    keeping, forgetting = Memory(), Memory()
    for storage in (keeping, forgetting):
        files(storage).write(items)
    removed = set(chance.sample(sorted(items), windows.REMEMBERED - 2))
    for step in range(40):
        added = {f"v{chance.randrange(300):04}" for _ in range(step % 2)} - items
        items = (items | added) - removed
        for storage in (keeping, forgetting):
            files(storage).change(added, removed, items.copy)
        assert keeping.state == forgetting.state
        kept_lists.LISTS.take(forgetting.root / WHOLE)
        removed = set(chance.sample(sorted(items), 1))


# -- what is kept


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = Storage(tmp_path, PLACES)
    yield storage
    storage.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[PurePosixPath]:
    """Every file that is read whole."""
    seen: list[PurePosixPath] = []
    read = Storage.read

    def counting(self: Storage, path: PurePosixPath, *args: int) -> bytes:
        seen.append(path)
        return read(self, path, *args)

    monkeypatch.setattr(Storage, "read", counting)
    return seen


def put(storage: Storage, *items: str) -> None:
    files(storage).write(set(items))
    files(storage).write({*items, "z"})


def test_a_list_that_was_written_is_not_read(storage: Storage, reads: list[PurePosixPath]) -> None:
    put(storage, "a", "b")
    reads.clear()
    files(storage).change({"c"}, {"a"}, never)
    files(storage).write({"b", "c", "z"})
    assert not reads
    assert storage.read(WHOLE) == documents.catalog(["b", "c", "z"])


def test_what_is_there_already_does_not_come_again(storage: Storage) -> None:
    put(storage, "a", "b")
    files(storage).change({"a", "c"}, {"b", "x"}, never)
    assert storage.read(WHOLE) == documents.catalog(["a", "c", "z"])


def _replace(whole: Path) -> None:
    copy = whole.with_name("copy")
    copy.write_bytes(whole.read_bytes())
    os.utime(copy, ns=(whole.stat().st_atime_ns, whole.stat().st_mtime_ns))
    copy.replace(whole)


def _edit(whole: Path) -> None:
    before = whole.stat()
    whole.write_bytes(whole.read_bytes().replace(b"b", b"c"))
    os.utime(whole, ns=(before.st_atime_ns, before.st_mtime_ns))


def _remove_windows(whole: Path) -> None:
    (whole.parent / ".pages" / ".none").unlink()


def _remove_links(whole: Path) -> None:
    (whole.parent / ".pages" / ".rest").unlink()


@pytest.mark.parametrize("harm", [_replace, _edit, _remove_windows, _remove_links, Path.unlink])
def test_a_list_that_others_touched_is_not_trusted(
    storage: Storage, harm: Callable[[Path], None]
) -> None:
    put(storage, "a", "b")
    assert files(storage).lists("a")
    harm(storage.root / WHOLE)
    assert files(storage).lists("a") is None
    files(storage).change({"d"}, {"a"}, lambda: {"b", "d", "e"})
    assert storage.read(WHOLE) == documents.catalog(["b", "d", "e"])
    assert storage.link_target(TOP / ".rest")


@pytest.mark.parametrize(
    "other",
    [{"inode": (1, 3)}, {"inode": (2, 2)}, {"size": 4}, {"modified_ns": 6}, {"changed_ns": 7}],
)
def test_what_differs_between_two_files_is_known(other: dict[str, Any]) -> None:
    file = File(str(WHOLE), "file", 3, 1, (1, 2), 0o644, 4, 5, 0)
    assert kept_lists.identity(file) == kept_lists.identity(file._replace(links=2))
    assert kept_lists.identity(file) != kept_lists.identity(file._replace(**other))


@pytest.mark.parametrize("case", ["as usual", "a full disk", "a folder in the way"])
def test_the_catalog_is_marked_durably_before_it_changes(storage: Storage, case: str) -> None:
    """A power loss may undo any change, but then the next process finds the mark."""
    catalog = Catalog(storage)
    for text in "ab":
        (storage.root / layout.V2 / text / "manifests/x").mkdir(parents=True)
        catalog.change([RepositoryName(text)])
    if case == "a folder in the way":
        link = storage.root / layout.CATALOG_WINDOWS / "1/a+"
        link.unlink()
        (link / "sub").mkdir(parents=True)
    is_full = case == "a full disk"
    made: list[str] = []

    def note(primitive: Primitive) -> Any:
        place = str(primitive.path)
        if primitive.function in SYNCS:
            made.append("flush")
        elif primitive.function in (os.rename, os.unlink, os.rmdir) and place.startswith("v2/"):
            made.append("change")
        elif primitive.function in (os.write, os.symlink) and is_full and "change" not in made:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return primitive()

    with hooked(note):
        if case == "a folder in the way":
            catalog.rebuild()
        else:
            catalog.change(removed=[RepositoryName("b")])
    assert made[:2] == ["flush", "change"]


def test_a_change_that_failed_leaves_no_list(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage, "a", "b")

    def failing(self: Storage, wanted: object) -> None:
        raise errors.StorageError(self.root, "failing")

    with monkeypatch.context() as patch, pytest.raises(errors.StorageError):
        patch.setattr(Storage, "publish_all", failing)
        files(storage).change({"c"}, (), never)
    assert files(storage).lists("a") is None


def test_a_list_that_was_not_published_is_not_kept(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a dry run."""
    put(storage, "a", "b")
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "publish_all", lambda *_: None)
        files(storage).change({"y"}, {"a"}, never)
    assert files(storage).lists("a") is None


def test_a_list_that_others_wrote_just_then_is_not_kept(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage, "a", "b")
    publish_all = Storage.publish_all

    def racing(self: Storage, wanted: Any) -> None:
        publish_all(self, wanted)
        (self.root / WHOLE).write_bytes(b'{"repositories": []}')

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "publish_all", racing)
        files(storage).change({"y"}, {"a"}, never)
    assert files(storage).lists("a") is None


def test_a_child_of_fork_begins_with_no_lists(storage: Storage) -> None:
    put(storage, "a", "b")
    child = os.fork()
    if not child:
        os._exit(files(storage).lists("a") is None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert files(storage).lists("a")


def test_so_many_items_are_kept_and_no_more() -> None:
    lists = KeptLists(1000)
    kept = KeptList(DividedList(map(str, range(300))), ((0, 0), 0, 0, 0), {})
    paths = [Path(name) for name in "abcd"]
    for path in paths[:3]:
        lists.put(path, kept)
    assert lists.take(paths[0]) is kept
    assert lists.get(paths[0]) is None
    lists.put(paths[0], kept)
    lists.put(paths[0], kept)
    lists.put(paths[3], kept)
    assert [bool(lists.get(path)) for path in paths] == [True, False, True, True]
    lists.put(paths[1], KeptList(DividedList(map(str, range(1000))), kept.identity, {}))
    assert not any(map(lists.get, paths))
    lists.put(paths[2], kept)
    assert lists.get(paths[2]) is kept


def test_small_lists_are_not_kept_without_end() -> None:
    lists = KeptLists(1000)
    for number in range(100):
        lists.put(Path(str(number)), KeptList(DividedList(()), ((0, 0), 0, 0, 0), {}))
    kept = [number for number in range(100) if lists.get(Path(str(number)))]
    assert 10 < len(kept) < 50
    assert kept[-1] == 99


def test_the_limit_of_a_process_is_a_limit(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_lists.LISTS, "_limit", 20)
    put(storage, "a", "b")
    assert files(storage).lists("a") is None
    files(storage).change({"c"}, (), lambda: {"a", "b", "c"})
    assert storage.read(WHOLE) == documents.catalog(["a", "b", "c"])


def test_tags_come_and_go(storage: Storage, reads: list[PurePosixPath]) -> None:
    place = RepositoryLayout(RepositoryName("a/b"))
    Listing(storage, place).change({"1.0"}, (), lambda: iter(["1.0", "2.0"]))
    Listing(storage, place).change({"3.0"}, (), lambda: iter(["1.0", "2.0", "3.0"]))
    reads.clear()
    Listing(storage, place).change({"4.0"}, {"2.0"}, never)
    Listing(storage, place).change((), (), never)
    assert not reads
    text = storage.read(place.tags_list)
    assert text == documents.tags_list(place.name, ["1.0", "3.0", "4.0"])
    Listing(storage, place).clear()
    Listing(storage, place).change({"5.0"}, (), lambda: iter(["5.0"]))
    assert storage.read(place.tags_list) == documents.tags_list(place.name, ["5.0"])


# -- the catalog


def test_a_catalog_that_is_known_is_not_read(storage: Storage, reads: list[PurePosixPath]) -> None:
    catalog = Catalog(storage)
    catalog.ensure()
    for name in ("a", "b/c", "d"):
        catalog.change(added=[RepositoryName(name)])
    catalog.change(removed=[RepositoryName("d")])
    reads.clear()
    for name, listed in (("a", True), ("b/c", True), ("d", False), ("b", False)):
        assert catalog.is_right(RepositoryName(name), listed=listed)
        assert not catalog.is_right(RepositoryName(name), listed=not listed)
    catalog.change(added=[RepositoryName("e")])
    assert layout.CATALOG not in reads
    assert storage.read(layout.CATALOG) == documents.catalog(["a", "b/c", "e"])


def test_a_catalog_that_others_wrote_is_read(storage: Storage) -> None:
    catalog = Catalog(storage)
    catalog.ensure()
    catalog.change(added=[RepositoryName("a")])
    catalog.change(added=[RepositoryName("b")])
    (storage.root / layout.CATALOG).write_bytes(b'{"repositories": ["c", "a"]}')
    assert not catalog.is_right(RepositoryName("a"), listed=True)
    catalog.change(added=[RepositoryName("d")])
    assert storage.read(layout.CATALOG) == documents.catalog(["a", "c", "d"])
    assert catalog.is_right(RepositoryName("d"), listed=True)
