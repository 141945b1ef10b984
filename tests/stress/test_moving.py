"""One tag that never rests, asked for without pause: headers and content are of one manifest."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from multiprocessing.synchronize import Event

import pytest

from image_uploader_plugins.demo import images
from image_uploader_plugins.local_export.driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from tests.stress.client import ALL_TYPES, NO_LISTS, BadRead, Client
from tests.support import trees, web

MOVES = 250
READERS = 3

NAME = RepositoryName("ns/img")
# Of different types and sizes, so that a mixture shows.
ONE = images.image("ns/img", "moving", [images.layer({"f": b"one"})])
TWO = images.index(
    "ns/img", "moving", [images.image("ns/img", None, [images.layer({"f": b"two"})], oci=True)]
)
STAYING = images.image("ns/img", "staying", [])

_done: Event | None = None


def _initialise(done: Event) -> None:
    global _done
    _done = done


def _read(kind: web.Kind, address: str) -> tuple[int, list[str]]:
    assert _done is not None
    client = Client(kind, address)
    bad: list[str] = []
    while not _done.is_set() and len(bad) < 5:
        try:
            for accept in (ALL_TYPES, NO_LISTS):
                answer = client.ask("/v2/ns/img/manifests/moving", accept=accept)
                parsed, _ = answer.manifest()
                if parsed.content not in (
                    ONE.manifest.content,
                    TWO.manifest.content,
                    TWO.children[0].manifest.content,
                ):
                    raise BadRead(f"{answer.url}: of another image: {parsed.content[:80]!r}")
            listed = client.ask("/v2/ns/img/tags/list").json()["tags"]
            if not {"moving", "staying"} <= set(listed):
                raise BadRead(f"tags/list: {listed}")
        except BadRead as e:
            bad.append(str(e))
    client.close()
    return client.reads, bad


@pytest.mark.parametrize("kind", ["nginx", "httpd", "embedded"])
def test_a_tag_that_never_rests(kind: web.Kind) -> None:
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    with (
        web.open_folder() as folder,
        LocalExportDriver(folder / "tree") as driver,
        concurrent.futures.ProcessPoolExecutor(READERS, context, _initialise, (done,)) as pool,
    ):
        for image in (ONE, TWO, STAYING):
            trees.put(driver, image)
            # What a tag moves away from stays, by a name of its own.
            trees.put(driver, image, f"{image.tag}-{len(image.children)}")
        with web.serve(kind, folder / "tree") as address:
            readers = [pool.submit(_read, kind, address) for _ in range(READERS)]
            for number in range(MOVES):
                moved = (ONE, TWO)[number % 2].manifest
                driver.put_manifest(NAME, moved.content, moved.media_type, tag=Tag("moving"))
                if number % 10 == 5:
                    driver.put_manifest(NAME, moved.content, moved.media_type, tag=Tag("beside"))
                    driver.delete(ImageRef(NAME, Tag("beside")))
            done.set()
            results = [reader.result() for reader in readers]
    assert [line for _, bad in results for line in bad] == []
    assert sum(reads for reads, _ in results) > MOVES
