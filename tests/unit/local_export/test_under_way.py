# SPDX-License-Identifier: Apache-2.0

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.local_export import layout, under_way
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.under_way import UnderWay
from image_uploader_plugins.storage.folders import Folders
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image

LIMIT = 60  # seconds


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> UnderWay:
    monkeypatch.setattr(under_way, "AT_MOST", LIMIT)
    return UnderWay()


def waiting(work: UnderWay) -> tuple[threading.Thread, threading.Event]:
    """A thread that waits, and whether it is done."""
    done = threading.Event()

    def wait() -> None:
        work.wait()
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, done


def test_where_nothing_is_under_way_nobody_waits(work: UnderWay) -> None:
    work.wait()
    with work.one():
        pass
    work.wait()


def test_it_waits_until_nothing_is(work: UnderWay) -> None:
    with work.one():
        with work.one():
            thread, done = waiting(work)
        assert not done.is_set()
    thread.join(LIMIT)
    assert done.is_set()


def test_what_has_failed_is_not_waited_for(work: UnderWay) -> None:
    with pytest.raises(KeyError), work.one():
        raise KeyError
    work.wait()


def test_what_takes_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_way, "AT_MOST", 0.0)
    work = UnderWay()
    with work.one():
        work.wait()


def test_a_child_of_fork_waits_for_nothing_of_its_parent(work: UnderWay) -> None:
    with work.one():
        child = os.fork()
        if not child:
            work.wait()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


ONE, OTHER = (
    images.image(f"ns/{name}", "1.0", [images.layer({"file": name.encode()})])
    for name in ("one", "other")
)


def upload(driver: LocalExportDriver, image: Image, between: Callable[[], object]) -> None:
    """Upload the blobs of an image; ``between`` is called while their bytes come."""

    def chunks(content: bytes) -> Iterator[bytes]:
        yield content[:1]
        between()
        yield content[1:]

    for digest, content in image.blobs.items():
        driver.upload_layer(image.repository, chunks(content), expected=digest)


def put(driver: LocalExportDriver, image: Image) -> None:
    manifest = image.manifest
    driver.put_manifest(image.repository, manifest.content, manifest.media_type, tag=image.tag)


def test_the_catalog_waits_for_a_blob_that_still_comes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its image may be listed together with one that has just been put."""
    monkeypatch.setattr(under_way, "AT_MOST", LIMIT)
    threads: list[threading.Thread] = []
    waits, wait = threading.Event(), UnderWay.wait

    def waiting(self: UnderWay) -> None:
        waits.set()
        wait(self)

    def catalog() -> list[str]:
        names: list[str] = json.loads((root / "v2/_catalog").read_bytes())["repositories"]
        return names

    def between() -> None:
        if not threads:
            threads.append(threading.Thread(target=put, args=(driver, ONE)))
            threads[0].start()
            assert waits.wait(LIMIT)
            assert catalog() == []

    monkeypatch.setattr(UnderWay, "wait", waiting)
    with LocalExportDriver(root) as driver:
        upload(driver, ONE, lambda: None)
        upload(driver, OTHER, between)
        threads[0].join(LIMIT)
        assert catalog() == ["ns/one"]


def test_others_go_on_while_the_kernel_removes_a_mark(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the disk where the mark is just being written."""
    call = Folders.call
    others: list[bool] = []
    mark = layout.repository(ONE.repository).unfinished

    def looking(self: Folders, path: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        if function is os.unlink and path == mark:
            thread = threading.Thread(target=driver.present, args=(ONE.repository, ()))
            thread.start()
            thread.join(LIMIT)
            others.append(thread.is_alive())
        return call(self, path, function, *args, **kwargs)

    with LocalExportDriver(root) as driver:
        upload(driver, ONE, lambda: None)
        monkeypatch.setattr(Folders, "call", looking)
        put(driver, ONE)
    assert others == [False]
