# SPDX-License-Identifier: Apache-2.0
"""How a list falls into windows, and the files of it: properties that hold for any items."""

from __future__ import annotations

import os
import string
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_uploader_plugins.local_export.layout import PLACES
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.views import documents, windows
from image_uploader_plugins.local_export.views.windows import END, NONE, START, DividedList
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.storage import DryRun, Storage
from image_uploader_plugins.storage.folders import Folders
from image_uploader_plugins.testing import images
from tests.support import trees
from tests.support.faults import Primitive, hooked
from tests.unit.local_export.views import clients
from tests.unit.local_export.views.memory import files

TAGS = st.sets(
    st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=5), max_size=300
)


@given(tags=TAGS)
def test_every_division_is_the_whole_list(tags: set[str]) -> None:
    divided = DividedList(tags)
    for division in divided.divisions.values():
        found: list[str] = []
        last = START if tags else END
        while last != END:
            after, last = last, division.lasts[last]
            window = divided.after(after, last)
            assert 1 <= len(window) <= division.longest
            found += window
        assert found == sorted(tags)


@given(tags=TAGS, n=st.integers(1, 350))
def test_no_more_windows_than_twice_as_many_as_needed(tags: set[str], n: int) -> None:
    divided = DividedList(tags)
    label = divided.label(n)
    assert (label is None) == (n >= len(tags))
    if label:
        division = divided.divisions[label]
        assert division.longest <= n
        assert n < 16 or len(division.ends) + 1 <= 2 * len(tags) // n


@pytest.mark.parametrize("total", [*range(1, 400), *range(400, 6000, 97), 20_000, 100_000])
def test_the_bound_holds_whatever_the_checksums_are(total: int) -> None:
    """With all windows but the last as short as they may be."""
    plan = windows.plan(total)
    assert [longest for _, longest in plan] == sorted({longest for _, longest in plan})
    starts = {longest for _, longest in plan} | {2 * total // k for k in range(2, 200)} | {total}
    for n in {start + more for start in starts for more in (-1, 0, 1)} & set(range(16, total)):
        label, longest = [division for division in plan if division[1] <= n][-1]
        kind, _, parts = label.partition("-")
        least = 0 if parts else windows.shortest(int(kind))
        most = int(parts) if parts else 1 - min(0, (longest - total) // least)
        assert most <= 2 * total // n, n


def test_round_numbers_have_two_digits() -> None:
    assert list(windows.round_numbers(97, 133)) == [97, 98, 99, 100, 110, 120, 130]
    assert list(windows.round_numbers(1001, 1300)) == [1100, 1200]
    assert len([*windows.round_numbers(1, 10**6)]) == 99 + 4 * 90


@given(tags=TAGS)
def test_the_first_few_are_exact(tags: set[str]) -> None:
    ordered = tuple(sorted(tags))
    found = DividedList(tags).extra_windows(windows.HEADS)
    assert set(found) == {f"{n}.start" for n in range(1, min(16, len(tags)))}
    for name, window in found.items():
        n = int(name.removesuffix(START))
        assert (window.last, window.items) == (ordered[n - 1], ordered[:n])


@pytest.mark.slow
@given(tags=TAGS.filter(bool), gone=TAGS)
def test_what_is_gone_leads_to_what_follows(tags: set[str], gone: set[str]) -> None:
    found = DividedList(tags, gone).extra_windows(windows.GONE)
    assert set(found) == gone - tags
    for item, window in found.items():
        rest = [tag for tag in sorted(tags) if tag > item]
        assert list(window.items) == rest[:1]
        assert window.last == (NONE if not rest else END if len(rest) == 1 else rest[0])


def test_few_windows_change_with_an_item() -> None:
    items = {f"v1.{number}.0" for number in range(2000)}
    changed = []
    for number in range(0, 2000, 97):
        before, after = DividedList(items), DividedList(items | {f"v1.{number}.1"})
        changed.append(
            sum(
                len(division.afters.items() - before.divisions[label].afters.items())
                for label, division in after.divisions.items()
                if label in before.divisions
            )
        )
    assert sum(changed) / len(changed) < 30


def test_from_anywhere_to_long_windows() -> None:
    divided = DividedList(f"v1.{number}.0" for number in range(2000))
    divisions = [(d.longest, d.lasts) for d in reversed(list(divided.divisions.values()))]
    for n in (50, 100, 300, 1000):
        for at in range(0, 1990, 53):
            assert short_windows(divided, divisions, n, divided.items[at]) <= 40


def short_windows(
    divided: DividedList, divisions: list[tuple[int, Mapping[str, str]]], n: int, item: str
) -> int:
    """How many windows are shorter than the average, from an item on."""
    usable = [lasts for longest, lasts in divisions if longest <= n]
    count = 0
    while item not in (END, NONE):
        last = next(lasts[item] for lasts in usable if item in lasts)
        window = divided.after(item, last) if last != NONE else ()
        count += len(window) < min(n / 2, len(divided.after(item)))
        item = last
    return count


# -- the files

WORDS = st.text("ab1", min_size=1, max_size=3)
LONG = st.sampled_from(
    ["z" * 199, "z" * 200, "z" * 201 + "y", "z" * 200 + "/a", "a/" + "z" * 230, "z" * 255]
)
STATES = st.lists(
    st.sets(st.one_of(WORDS, st.tuples(WORDS, WORDS).map("/".join), LONG)), max_size=6
)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(states=STATES, many=st.sampled_from([0, 30, 150]))
def test_what_is_written_step_by_step_is_what_is_written_at_once(
    tmp_path_factory: pytest.TempPathFactory, states: list[set[str]], many: int
) -> None:
    root = tmp_path_factory.mktemp("tree")
    storage = Storage(root, PLACES)
    for number, state in enumerate(states):
        items = state | {f"c{number + other:03}" for other in range(many)}
        files(storage).write(items)
        dry_run = DryRun(root, PLACES)
        files(dry_run).write(items, thoroughly=True)
        assert not dry_run.changes
    storage.close()


def test_whatever_stands_in_a_list_leads_nowhere_else(tmp_path: Path) -> None:
    storage = Storage(tmp_path, PLACES)
    files(storage).write({"a", "b"})
    (tmp_path / "mine+").write_bytes(b"mine")
    for text in (["a", "../../../mine"], ["a", "b" * 5000], ["a", ""], "a", [1]):
        (tmp_path / "v2/whole").write_bytes(documents._json({"repositories": text}))
        files(storage).write({"a", "c"})
        assert (tmp_path / "v2/whole").read_bytes() == documents.catalog(["a", "c"])
    assert (tmp_path / "mine+").exists()
    storage.close()


@pytest.mark.slow
def test_the_latest_of_those_that_are_gone_are_remembered(tmp_path: Path) -> None:
    storage = Storage(tmp_path, PLACES)
    items = {f"v{number:04}" for number in range(600)}
    files(storage).write(items)
    kept = {"v0599"}
    files(storage).write(kept | {"v0100"})
    files(storage).write(kept)
    gone = {path.name for path in (tmp_path / "v2/.pages/.gone").glob("*+")}
    assert len(gone) == windows.REMEMBERED
    assert "v0100+" in gone
    # Of so many at once those that ended windows.
    ends = {last for _, last in DividedList(items).divisions["of-8"].lasts.items()} - {END}
    assert {f"{last}+" for last in ends} <= gone
    storage.close()


@pytest.fixture
def writes() -> Iterator[list[PurePosixPath]]:
    """Every file or link that is published."""
    seen: list[PurePosixPath] = []

    def seeing(primitive: Primitive) -> object:
        if primitive.function is os.rename:
            seen.append(primitive.path)
        return primitive()

    with hooked(seeing):
        yield seen


def _put(driver: LocalExportDriver, *tags: str) -> None:
    image = images.artifact("busy", "x", "application/vnd.example", b"{}")
    for tag in tags:
        trees.put(driver, image, tag)


@pytest.mark.slow
def test_a_new_tag_among_many_writes_little(
    driver: LocalExportDriver, writes: list[PurePosixPath], root: Path
) -> None:
    few = [f"a{number:04}" for number in range(10)]
    many = [f"b{number:04}" for number in range(300)]
    _put(driver, *few)
    writes.clear()
    _put(driver, "a9999")
    among_few = len(writes)
    _put(driver, *many)
    costs = []
    for number in range(20):
        writes.clear()
        _put(driver, f"b{number * 13:04}x")
        costs.append(len(writes))
    assert sum(costs) / len(costs) < 4 * among_few
    assert not trees.problems(root)


def test_moving_a_tag_writes_no_list(
    driver: LocalExportDriver, writes: list[PurePosixPath]
) -> None:
    _put(driver, "a", "b", "c")
    other = images.artifact("busy", "b", "application/vnd.example", b"other")
    writes.clear()
    trees.put(driver, other)
    assert not [path for path in writes if "/.pages/" in str(path) or "/tags/" in str(path)]


@pytest.mark.slow
def test_the_lists_do_not_depend_on_the_order(tmp_path: Path) -> None:
    tags = [str(number) for number in range(60)]
    for name, ordered in (("one", tags), ("two", tags[::-1])):
        with LocalExportDriver(tmp_path / name) as driver:
            _put(driver, *ordered, "gone")
            driver.delete(ImageRef(RepositoryName("busy"), Tag("gone")))
    assert trees.served(tmp_path / "one") == trees.served(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("new", ["a", "v05a", "v059", "z"])
@pytest.mark.parametrize("total", [3, 12, 32, 33, 60])
def test_no_window_is_ever_longer_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: str, total: int
) -> None:
    """Whoever asks meanwhile gets no more than wanted, nothing twice, and lacks nothing."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nothing crashes here
    storage = Storage(tmp_path, PLACES)
    staying = {f"v{number:02}" for number in range(total)}
    files(storage).write(staying)
    call = Folders.call
    tree = clients.Tree({})
    for path in (tmp_path / "v2").rglob("*"):
        _see(tree, tmp_path, path.relative_to(tmp_path))
    change = clients.Change(staying, staying)
    asking = clients.Asking(tree, change, sorted(staying | {new}), known=staying)
    steps = 0

    def looking(folders: Folders, path: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        result = call(folders, path, function, *args, **kwargs)
        if function in (os.rename, os.unlink):
            steps += 1
            _see(tree, tmp_path, path)
            assert not list(asking.problems()), path
        return result

    monkeypatch.setattr(Folders, "call", looking)
    files(storage).write(staying | {new})
    assert new in trees.page(tmp_path / "v2/whole", "repositories")
    files(storage).write(staying)
    assert steps > 10
    storage.close()


def _see(tree: clients.Tree, root: Path, path: PurePath) -> None:
    """Have a tree be as it is on disk at a path."""
    file = root / path
    if file.is_symlink():
        tree.put(PurePosixPath(path), str(file.readlink()))
    elif not file.is_dir():
        tree.put(PurePosixPath(path), file.read_bytes() if file.exists() else None)


def test_what_a_crash_left_of_the_lists_is_mended(driver: LocalExportDriver, root: Path) -> None:
    _put(driver, "a", "b", "c")
    wanted = trees.served(root)
    repository = root / "v2" / "busy"
    (repository / ".pages" / "1" / "b+").unlink()
    (repository / ".after").mkdir()
    (repository / ".after" / "stale").symlink_to("../.pages/stale")
    (repository / ".pages" / "stale").mkdir()
    (repository / ".pages" / "stale" / "a").write_bytes(b"torn")
    (repository / ".pages" / "1" / ".end=").write_bytes(b"torn")
    unfinished = root / ".local-export" / "unfinished"
    key = next(iter(root.joinpath(".local-export", "leases").iterdir())).name
    (unfinished / key).write_bytes(b"busy")
    _put(driver, "a")
    assert trees.served(root) == wanted


@pytest.mark.slow
def test_an_image_costs_the_same_whatever_else_is_there(
    driver: LocalExportDriver, writes: list[PurePosixPath]
) -> None:
    """But for the one list that names them all, written when a repository appears."""
    costs = []
    for number in range(12):
        writes.clear()
        trees.put(driver, images.artifact(f"r{number}", "1.0", "application/vnd.example", b"{}"))
        costs.append(len(writes))
    # The first brings the blobs that all share.
    assert max(costs[1:]) < 90
