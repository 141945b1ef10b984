# SPDX-License-Identifier: Apache-2.0
"""Clients that read a list while it changes: what they get after every single step.

A client never gets an item twice, or more items than it asked for; it never
misses one that was there all the time; and whatever leads it on leads somewhere.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.views import windows
from tests.unit.local_export.views import clients
from tests.unit.local_export.views.memory import Memory, files

FEW = 24
"""The most items of lists of which each is asked for after every step."""

_WORDS = ("v", "b/c", "z" * 205)


def changing(seed: int, size: int, steps: int, batch: int) -> Iterator[set[str]]:
    """A list, and what becomes of it: up to ``batch`` items come and go at each step.

    Often these are at one of its ends, or were there before.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    every = sorted(f"{chance.choice(_WORDS)}{number:04}" for number in range(3 * size + 9))
    items = set(chance.sample(every, size))
    yield items
    for _ in range(steps):
        ordered, others = sorted(items), sorted(set(every) - items)
        removed, added = (chance.randint(0, batch) for _ in range(2))
        if chance.random() < 0.05:
            removed = size  # all
        items = (items - _some(chance, ordered, removed)) | _some(chance, others, added)
        yield items


def _some(chance: random.Random, ordered: list[str], count: int) -> set[str]:
    kind = chance.choice(["first", "last", "any", "neighbours"])
    count = min(count, len(ordered))
    if kind == "any":
        return set(chance.sample(ordered, count))
    last = len(ordered) - count
    start = {"first": 0, "last": last}.get(kind, chance.randint(0, last))
    return set(ordered[start : start + count])


def watch(lists: list[set[str]]) -> None:
    """Write one list after the other, and ask for everything after each step of it."""
    storage = Memory()
    files(storage).write(lists[0])
    for old, new in itertools.pairwise(lists):
        change = clients.Change(old, new)
        tree = clients.Tree(storage.state)
        known = {*old, *tree.gone()} & {*new, *_gone_after(storage, change)}
        if new and len(old | tree.gone()) <= windows.REMEMBERED:
            known = {*old, *tree.gone()}
        asked = sorted(_asked(storage, change, tree.gone()))
        asking = clients.Asking(tree, change, asked, known)

        def look(path: PurePosixPath) -> None:
            tree.put(path, storage.state.get(path))  # noqa: B023 - called in this turn
            found = list(asking.problems())  # noqa: B023
            assert not found[:3], (path, len(old), len(new))  # noqa: B023

        storage.observe = look
        files(storage).change(new - old, old - new, new.copy)
        storage.observe = lambda _: None


def _changed(before: Memory, change: clients.Change) -> Memory:
    storage = Memory(before.state)
    # By their ages it is decided which removed items are forgotten.
    storage.inodes |= before.inodes
    old, new = set(change.old), set(change.new)
    files(storage).change(new - old, old - new, new.copy)
    return storage


def _gone_after(before: Memory, change: clients.Change) -> set[str]:
    return clients.Tree(_changed(before, change).state).gone()


def _asked(before: Memory, change: clients.Change, gone: set[str]) -> set[str]:
    """The items to ask for: where there are many, a few of those whose files are touched."""
    every = {*change.old, *change.new, *gone}
    if len(change.old) <= FEW:
        return every
    storage = _changed(before, change)
    touched = {layout.item_of(path.name) for path in (*storage.written, *storage.removed)}
    ordered = sorted(every & touched)
    return {*ordered[:3], *ordered[-3:], *random.Random(0).sample(ordered, min(FEW, len(ordered)))}  # noqa: S311 - no secret


@pytest.mark.parametrize("batch", [1, 2, 7])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), size=st.integers(0, FEW))
def test_whoever_reads_a_short_list_meanwhile(batch: int, seed: int, size: int) -> None:
    watch(list(changing(seed, size, 3, batch)))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 20])
@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([15, 31, 32, 33, 60]))
@example(seed=0, size=60)
def test_whoever_reads_a_long_list_meanwhile(batch: int, seed: int, size: int) -> None:
    watch(list(changing(seed, size, 2, batch)))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "batch"), [(150, 2), (150, 40), (700, 1)])
def test_whoever_reads_a_list_of_hundreds_meanwhile(size: int, batch: int) -> None:
    watch(list(changing(size + batch, size, 2, batch)))


@pytest.mark.slow
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), size=st.integers(3, FEW))
def test_whoever_continues_after_a_removed_item_until_it_is_forgotten(seed: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "REMEMBERED", 3)
        watch(list(changing(seed, size, 3, 4)))


def test_whoever_continues_after_a_removed_item_while_others_become_the_last() -> None:
    watch([set(items) for items in ("abfh", "af", "afz", "afyz", "az", "a", "ahz", "fz")])


@pytest.mark.parametrize(("few", "many"), [(3, 40), (32, 100)])
def test_whoever_reads_a_list_that_grows_or_shrinks_at_once(few: int, many: int) -> None:
    items = [f"v{number:03}" for number in range(many)]
    middle = many // 2
    watch([set(items[middle : middle + few]), set(items), set(items[:few])])
