# SPDX-License-Identifier: Apache-2.0
"""What never rests, asked for without pause: a tag, and the lists.

Headers and content are of one manifest; a list is one of those that were there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from tests.robustness.stress.client import ALL_TYPES, NO_LISTS, BadRead, Client
from tests.support import trees, web

pytestmark = pytest.mark.slow

MOVES = 100
REPLACEMENTS = 500
READERS = 3
ENOUGH = 5  # bad reads of one reader

NAME = RepositoryName("ns/img")
# Of different types and sizes, so that a mixture shows.
ONE = images.image("ns/img", "moving", [images.layer({"f": b"one"})])
TWO = images.index(
    "ns/img", "moving", [images.image("ns/img", None, [images.layer({"f": b"two"})], oci=True)]
)
STAYING = images.image("ns/img", "staying", [])
NOTES = [
    images.artifact("ns/img", None, "application/x", text, subject=STAYING.descriptor())
    for text in (b"one", b"two")
]

LATER, ANOTHER = images.image("ns/img", "next", []), images.image("another", "1.0", [])

LINKS = ("v2/ns/img/.tags/moving", "v2/ns/img/.defaults/moving")
LISTS = {
    "/v2/_catalog": "v2/_catalog",
    "/v2/ns/img/tags/list": "v2/ns/img/tags/list",
    "/v2/ns/img/tags/list?last=moving": "v2/ns/img/.pages/.tails/moving+",
    f"/v2/ns/img/referrers/{STAYING.digest}": f"v2/ns/img/.referrers/{STAYING.digest}/all",
}

Look = Callable[[Client], None]

_done: Event | None = None
_reads: Synchronized[int] | None = None


def _initialise(done: Event, reads: Synchronized[int]) -> None:
    global _done, _reads
    _done, _reads = done, reads


def _read(kind: web.Kind, address: str, look: Look) -> list[str]:
    assert _done is not None
    assert _reads is not None
    client = Client(kind, address)
    bad: list[str] = []
    while not _done.is_set() and len(bad) < ENOUGH:
        try:
            look(client)
        except BadRead as e:
            bad.append(str(e))
        with _reads.get_lock():
            _reads.value += 1
    client.close()
    return bad


@contextlib.contextmanager
def _reading(kind: web.Kind, root: Path, look: Look, least: int) -> Iterator[Iterator[int]]:
    """Readers at work, and ``least`` numbers, or more until they have looked often enough.

    In the end none of them may have seen anything bad.
    """
    context = multiprocessing.get_context("spawn")
    done, reads = context.Event(), context.Value("i", 0)
    shared = (done, reads)
    with (
        concurrent.futures.ProcessPoolExecutor(READERS, context, _initialise, shared) as pool,
        web.serve(kind, root) as address,
    ):
        readers = [pool.submit(_read, kind, address, look) for _ in range(READERS)]
        try:
            yield itertools.takewhile(
                lambda number: (
                    number < least
                    or (reads.value < MOVES and not all(reader.done() for reader in readers))
                ),
                itertools.count(),
            )
        finally:
            done.set()
        results = [reader.result() for reader in readers]
    assert [line for bad in results for line in bad] == []
    assert reads.value >= MOVES


def _look_at_a_tag(client: Client) -> None:
    for accept in (ALL_TYPES, NO_LISTS):
        answer = client.ask("/v2/ns/img/manifests/moving", accept=accept)
        parsed, _ = answer.manifest()
        if parsed.content not in (
            ONE.manifest.content,
            TWO.manifest.content,
            TWO.children[0].manifest.content,
        ):
            raise BadRead(f"{answer.url}: of another image: {parsed.content[:80]!r}")


def _look_for_tags(client: Client) -> None:
    _look_at_a_tag(client)
    listed = client.ask("/v2/ns/img/tags/list").json()["tags"]
    if not {"moving", "staying"} <= set(listed):
        raise BadRead(f"tags/list: {listed}")


def _look_at_all(known: dict[str, list[bytes]], client: Client) -> None:
    _look_at_a_tag(client)
    for path, contents in known.items():
        answer = client.ask(path)
        if answer.body not in contents:
            raise BadRead(f"{answer.url}: {answer.status}, {answer.body!r}")


@pytest.mark.parametrize("kind", ["nginx", "httpd", "embedded"])
def test_a_tag_that_never_rests(kind: web.Kind) -> None:
    with web.open_folder() as folder, LocalExportDriver(folder / "tree") as driver:
        for image in (ONE, TWO, STAYING):
            trees.put(driver, image)
            # What a tag moves away from stays, by a name of its own.
            trees.put(driver, image, f"{image.tag}-{len(image.children)}")
        with _reading(kind, folder / "tree", _look_for_tags, MOVES) as numbers:
            for number in numbers:
                moved = (ONE, TWO)[number % 2].manifest
                driver.put_manifest(NAME, moved.content, moved.media_type, tag=Tag("moving"))
                if number % 10 == 5:
                    driver.put_manifest(NAME, moved.content, moved.media_type, tag=Tag("beside"))
                    driver.delete(ImageRef(NAME, Tag("beside")))


@pytest.mark.parametrize("kind", ["nginx", "httpd", "embedded"])
def test_replaced_without_pause(kind: web.Kind) -> None:
    """As a driver does it, but with nothing else between two replacements."""
    with web.open_folder() as folder:
        root = folder / "tree"
        lists, links = _two_of_each(root)
        staged = root / "staged"
        look = functools.partial(_look_at_all, lists)
        with _reading(kind, root, look, REPLACEMENTS) as numbers:
            for number in numbers:
                for url, contents in lists.items():
                    staged.write_bytes(contents[number % 2])
                    staged.replace(root / LISTS[url])
                moved = [(root / path, targets[number % 2]) for path, targets in links.items()]
                for path, target in moved if None in dict(moved).values() else moved[::-1]:
                    if target:
                        staged.symlink_to(target)
                        staged.replace(path)
                    else:
                        path.unlink(missing_ok=True)


def _two_of_each(root: Path) -> tuple[dict[str, list[bytes]], dict[str, list[Path | None]]]:
    """What each list says, and where each link leads, if any, before and after more is put."""
    before, after = (STAYING, NOTES[0], ONE), (TWO, NOTES[1], LATER, ANOTHER)
    lists: dict[str, list[bytes]] = {url: [] for url in LISTS}
    links: dict[str, list[Path | None]] = {path: [] for path in LINKS}
    with LocalExportDriver(root) as driver:
        for put in (before, after):
            for image in put:
                trees.put(driver, image)
            for url, contents in lists.items():
                contents.append((root / LISTS[url]).read_bytes())
            for path, targets in links.items():
                link = root / path
                targets.append(link.readlink() if link.is_symlink() else None)
    assert all(len(set(map(len, contents))) == 2 for contents in lists.values())
    assert all(len(set(targets)) == 2 for targets in links.values())
    return lists, links
