# SPDX-License-Identifier: Apache-2.0
"""What is kept of what was computed, and what is not."""

from __future__ import annotations

import pytest

from image_uploader_plugins.serving.content_cache import ContentCache


class Computer:
    """Computes values, and counts how often."""

    def __init__(self, limit: int) -> None:
        self.computed: list[str] = []
        self._cache: ContentCache[str, str] = ContentCache(limit)

    def get(self, key: str, size: int = 1) -> str:
        def compute() -> str:
            self.computed.append(key)
            return key.upper()

        return self._cache.get(key, size, compute)


def test_a_value_is_computed_once() -> None:
    computer = Computer(100)
    assert [computer.get("a"), computer.get("b"), computer.get("a")] == ["A", "B", "A"]
    assert computer.computed == ["a", "b"]


def test_what_was_asked_for_last_is_kept() -> None:
    computer = Computer(10)
    for key in ("a", "b", "c", "d", "e"):
        computer.get(key, 2)
    computer.get("a", 2)
    computer.get("f", 2)
    computer.computed.clear()
    for key in ("a", "c", "d", "e", "f"):
        assert computer.get(key, 2) == key.upper()
    assert computer.computed == []
    computer.get("b", 2)
    assert computer.computed == ["b"]


def test_one_value_has_no_more_than_its_part() -> None:
    computer = Computer(100)
    computer.get("small", 25)
    for _ in range(2):
        computer.get("large", 26)
    computer.get("small", 25)
    assert computer.computed == ["small", "large", "large"]


def test_sizes_of_what_is_gone_do_not_count() -> None:
    computer = Computer(8)
    for number in range(100):
        computer.get(str(number), 2)
    computer.computed.clear()
    for number in (96, 97, 98, 99):
        computer.get(str(number), 2)
    assert computer.computed == []


def test_a_failure_is_not_kept() -> None:
    cache: ContentCache[str, str] = ContentCache(10)

    def fail() -> str:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        cache.get("a", 1, fail)
    assert cache.get("a", 1, lambda: "A") == "A"
