"""How tags fall into pages: properties that hold for any tags."""

from __future__ import annotations

import json
import os
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins.demo import images
from image_uploader_plugins.local_export import pages
from image_uploader_plugins.local_export.driver import LocalExportDriver
from image_uploader_plugins.local_export.pages import END, LONGEST, START, Page
from image_uploader_plugins.local_export.storage import Storage
from image_uploader_plugins.local_export.storage.ground import Ground
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from tests.support import trees

TAGS = st.sets(
    st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=5), max_size=200
)


def by_start(tags: set[str], longest: int) -> dict[str, Page]:
    found = list(pages.pages(pages.windows(tags, longest)))
    assert len({page.after for page in found}) == len(found)
    return {page.after: page for page in found}


@given(tags=TAGS, longest=st.sampled_from([1, 2, LONGEST]))
def test_every_tag_has_a_page_and_pages_lead_to_the_end(tags: set[str], longest: int) -> None:
    found = by_start(tags, longest)
    assert set(found) == {START, *tags}
    for start, page in found.items():
        ordered = [tag for tag in sorted(tags) if start == START or tag > start]
        assert list(page.tags) == ordered[: len(page.tags)]
        assert len(page.tags) <= longest
        if page.last == END:
            assert list(page.tags) == ordered
        else:
            assert page.tags[-1] == page.last
            assert len(page.tags) < len(ordered)


@given(tags=TAGS)
def test_heads_are_the_beginnings_that_something_follows(tags: set[str]) -> None:
    ordered = sorted(tags)
    found = {len(page.tags): page for page in pages.heads(tags)}
    assert set(found) == set(range(1, min(LONGEST, len(tags))))
    for size, page in found.items():
        assert page == Page(START, ordered[size - 1], tuple(ordered[:size]))


@given(tags=TAGS, new=st.text(string.ascii_letters, min_size=1, max_size=5))
def test_a_new_tag_changes_few_windows(tags: set[str], new: str) -> None:
    """It falls into one; that may be divided, and a part of it moved on once."""
    before = pages.windows(tags | {"a", "b"})
    after = pages.windows(tags | {"a", "b", new})
    if len(tags | {"a", "b", new}) > 33:
        assert sum(len(window.tags) for window in after - before) <= 3 * LONGEST


def test_tags_that_end_no_window_of_their_own_are_divided_all_the_same() -> None:
    """Tags can be chosen so; their windows must not grow without bounds."""
    stubborn = [tag for tag in map(str, range(5000)) if _ends_nothing(tag)]
    assert max(len(window.tags) for window in pages.windows(stubborn)) == LONGEST


def _ends_nothing(tag: str) -> bool:
    others = {f"~{number}" for number in range(40)}  # sorted after all digits
    return not any(tag == window.last for window in pages.windows({tag, *others}))


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every file or link that is published."""
    seen: list[object] = []
    publish = Storage.publish

    def counting(self: Storage, staged: object, path: object) -> None:
        seen.append(path)
        publish(self, staged, path)  # type: ignore[arg-type]

    monkeypatch.setattr(Storage, "publish", counting)
    return seen


def _put(driver: LocalExportDriver, *tags: str) -> None:
    image = images.artifact("busy", "x", "application/vnd.example", b"{}")
    for tag in tags:
        trees.put(driver, image, tag)


def test_a_new_tag_among_many_writes_little(
    driver: LocalExportDriver, writes: list[object], root: Path
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


def test_moving_a_tag_writes_no_list(driver: LocalExportDriver, writes: list[object]) -> None:
    _put(driver, "a", "b", "c")
    other = images.artifact("busy", "b", "application/vnd.example", b"other")
    writes.clear()
    trees.put(driver, other)
    assert not [path for path in writes if "/.pages/" in str(path) or "/tags/" in str(path)]


def test_the_lists_do_not_depend_on_the_order(tmp_path: Path) -> None:
    tags = [str(number) for number in range(60)]
    for name, ordered in (("one", tags), ("two", tags[::-1])):
        with LocalExportDriver(tmp_path / name) as driver:
            _put(driver, *ordered, "gone")
            driver.delete(ImageRef(RepositoryName("busy"), Tag("gone")))
    assert trees.served(tmp_path / "one") == trees.served(tmp_path / "two")


@pytest.mark.parametrize("tag", ["a", "v05a"])
def test_no_page_is_ever_longer_than_asked_for(
    driver: LocalExportDriver, root: Path, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    """Whoever asks meanwhile gets no more tags than wanted, and every link leads somewhere."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nothing crashes here
    image = images.image("ns/img", None, [])
    for number in range(12):
        trees.put(driver, image, f"v{number:02}")
    repository = root / "v2/ns/img"
    call = Ground.call
    steps = 0

    def looking(tree: Ground, path: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        result = call(tree, path, function, *args, **kwargs)
        if function in (os.rename, os.unlink):
            steps += 1
            for link in (repository / ".first").iterdir():
                assert _length(link / START) <= int(link.name), path
            for link in (repository / ".next").iterdir():
                assert _length(link / link.name) <= 1, path
        return result

    monkeypatch.setattr(Ground, "call", looking)
    trees.put(driver, image, tag)
    driver.delete(ImageRef(RepositoryName("ns/img"), Tag(tag)))
    assert steps > 20


def _length(page: Path) -> int:
    return len(json.loads(page.read_bytes())["tags"])


def test_what_a_crash_left_of_the_lists_is_mended(driver: LocalExportDriver, root: Path) -> None:
    _put(driver, "a", "b", "c")
    wanted = trees.served(root)
    repository = root / "v2" / "busy"
    (repository / ".after" / "b").unlink()
    (repository / ".after" / "stale").symlink_to("../.pages/stale")
    (repository / ".pages" / "stale").mkdir()
    (repository / ".pages" / "stale" / "a").write_bytes(b"torn")
    (repository / ".pages" / ".end" / "a").write_bytes(b"torn")
    unfinished = root / ".local-export" / "unfinished"
    key = next(iter(root.joinpath(".local-export", "leases").iterdir())).name
    (unfinished / key).write_bytes(b"busy")
    _put(driver, "a")
    assert trees.served(root) == wanted


def test_an_image_costs_the_same_whatever_else_is_there(
    driver: LocalExportDriver, writes: list[object]
) -> None:
    """But for the one list that names them all, written when a repository appears."""
    costs = []
    for number in range(40):
        writes.clear()
        trees.put(driver, images.artifact(f"r{number}", "1.0", "application/vnd.example", b"{}"))
        costs.append(len(writes))
    # The first brings the blobs that all share.
    assert set(costs[1:]) == {costs[-1]}
    assert costs[-1] < 30
