# SPDX-License-Identifier: Apache-2.0
"""Many images at once: what they share, how many threads they have, and how a run ends."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
import uuid
from collections.abc import Generator, Iterator

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.copying.engine import Engine
from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import ImageRecord, Outcome, Status
from image_uploader_plugins.sources import tries
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import odd_registry
from tests.support.odd_registry import Asked, OddRegistry, Reply

DEADLINE = 60  # seconds
ONE = Tag("1")
GONE = Reply(404)


def layer(text: str) -> Blob:
    return images.layer({"a": text.encode()})


BASE = layer("base")


class Run:
    """A run over all images of a registry at ``address``."""

    def __init__(self, address: str, images: int = 4, workers: int = 4) -> None:
        self.driver = MemoryDriver(uuid.uuid4().hex)
        self.journal = Journal(lambda _record: None)
        self._address = address
        self._registries = Registries(Settings(mirrors={address: f"http://{address}"}))
        self._engine = Engine(self.driver, self._registries, self.journal.meter, images, workers)

    def copy(self, names: list[str]) -> dict[str, ImageRecord]:
        """Copy images; return their records by name."""
        return dict(self.each(names))

    def each(self, names: list[str]) -> Generator[tuple[str, ImageRecord], None, None]:
        with contextlib.closing(self._registries), self._engine:
            yield from self._engine.each(self._copy, names)

    def _copy(self, text: str) -> tuple[str, ImageRecord]:
        name, record = RepositoryName(text), self.journal.plan(text, "memory")
        job = Job(self._address, name, ONE, "", name, ONE)
        options = CopyOptions(signatures=False)
        with contextlib.suppress(errors.UploaderError), self.journal.turn(record) as meter:
            self._engine.copy(job, record, meter, options, all_platforms=False)
        return text, record


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


def image(name: str, *own: str) -> Image:
    return images.image(name, "1", [BASE, *map(layer, own)])


def outcomes(record: ImageRecord, blob: Blob) -> list[Outcome]:
    return [found.outcome for found in record.blobs if found.digest == str(blob.digest)]


def test_requests_of_a_fresh_run() -> None:
    """One for each manifest and each content; nobody asks what is known."""
    names = [f"ns/app{number}" for number in range(12)]
    registry = OddRegistry([image(name, name) for name in names])
    with odd_registry.serving(registry) as address:
        records = Run(address).copy(names)
    asked = collections.Counter((a.method, a.path.rpartition("/")[2]) for a in registry.asked)
    assert asked.pop(("GET", "1")) == 12
    assert asked[("GET", str(BASE.digest))] == 1
    assert set(asked.values()) == {1}
    # The base, a layer and a config of each image; and no "/v2/", as the mirror's scheme is told.
    assert len(asked) == 1 + 2 * 12
    found = [outcomes(record, BASE) for record in records.values()]
    assert sorted(found) == [[Outcome.FETCHED], *[[Outcome.MOUNTED]] * 11]
    assert {record.status for record in records.values()} == {Status.COPIED}


def test_the_threads_for_blobs_are_those_of_all_images() -> None:
    lock, full = threading.Lock(), threading.Event()
    at_once = most = 0

    def hook(asked: Asked) -> Reply | None:
        nonlocal at_once, most
        if "/blobs/" not in asked.path:
            return None
        with lock:
            at_once += 1
            most = max(most, at_once)
            if at_once == 3:
                full.set()
        assert full.wait(DEADLINE)  # one image has not so many left
        with lock:
            at_once -= 1
        return None

    names = ["ns/a", "ns/b", "ns/c", "ns/d"]
    found = [image(name, f"{name} 1", f"{name} 2", f"{name} 3") for name in names]
    with odd_registry.serving(OddRegistry(found, hook)) as address:
        records = Run(address, images=4, workers=3).copy(names)
    assert {record.status for record in records.values()} == {Status.COPIED}
    assert most == 3


def test_one_worker_is_enough_for_images_that_wait_for_each_other() -> None:
    names = [f"ns/app{number}" for number in range(6)]
    with odd_registry.serving(OddRegistry([image(name, name) for name in names])) as address:
        records = Run(address, images=6, workers=1).copy(names)
    assert {record.status for record in records.values()} == {Status.COPIED}


def test_what_another_image_fails_to_fetch_is_fetched() -> None:
    """The blob's first transfer fails while the other image waits for it."""
    first, second = image("ns/first"), image("ns/second", "second")
    first_asks, second_waits = threading.Event(), threading.Event()

    def hook(asked: Asked) -> Reply | None:
        if asked.path.endswith(f"ns/first/blobs/{BASE.digest}"):
            first_asks.set()
            assert second_waits.wait(DEADLINE)
            return GONE
        if asked.path.endswith("ns/second/manifests/1"):
            assert first_asks.wait(DEADLINE)
        if asked.path.endswith(f"ns/second/blobs/{second.manifest.layers[1].digest}"):
            second_waits.set()  # this layer is begun after the base
        return None

    with odd_registry.serving(OddRegistry([first, second], hook)) as address:
        records = Run(address).copy(["ns/first", "ns/second"])
    assert records["ns/first"].status is Status.FAILED
    assert records["ns/second"].status is Status.COPIED
    assert outcomes(records["ns/second"], BASE) == [Outcome.FETCHED]


def test_one_that_fails_does_not_stop_the_others() -> None:
    names = [f"ns/app{number}" for number in range(8)]
    found = [image(name, name) for name in names if name != "ns/app3"]
    with odd_registry.serving(OddRegistry(found)) as address:
        records = Run(address, images=2, workers=2).copy(names)
    failed = {name for name, record in records.items() if record.status is Status.FAILED}
    assert failed == {"ns/app3"}
    assert len(records) == 8


def test_a_run_that_is_given_up_ends_what_it_began() -> None:
    def hook(asked: Asked) -> Reply | None:
        if asked.path.startswith("/v2/ns/held/blobs/"):
            # The answer comes when nobody wants it any more.
            with contextlib.suppress(errors.Interrupted):
                for _ in range(100 * DEADLINE):
                    run.journal.meter.check()
                    time.sleep(0.01)
        return None

    names = ["ns/held", "ns/quick", *(f"ns/app{number}" for number in range(20))]
    found = [images.image(name, "1", [layer(name)]) for name in names]
    with odd_registry.serving(OddRegistry(found, hook)) as address:
        run = Run(address, images=2, workers=4)
        done = run.each(names)
        assert next(done)[0] != "ns/held"
        done.close()
        with pytest.raises(errors.Interrupted):
            run.journal.meter.check()
    begun = {record.source: record for record in run.journal.images}
    assert len(begun) < len(names)
    assert (begun["ns/held"].status, begun["ns/held"].why) == (Status.FAILED, "interrupted")
    assert RepositoryName("ns/held") not in run.driver.repositories


def test_images_are_taken_when_their_turn_is_near() -> None:
    """A list of any length takes no memory."""
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    run = Run("127.0.0.1:1")
    ahead = [len(taken) - done for done, _ in enumerate(run._engine.each(lambda n: n, numbers()))]
    assert len(ahead) == 1000
    assert max(ahead) <= 2 * 4
