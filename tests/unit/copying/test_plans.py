# SPDX-License-Identifier: Apache-2.0
"""A plan goes the way of the copy: it changes nothing, and the copy asks nothing twice."""

from __future__ import annotations

import collections
import contextlib
import uuid
from collections.abc import Iterator

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.copying.dry_driver import DryDriver
from image_uploader_plugins.copying.engine import Engine
from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.copying.remembered import Allowance, Memory
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import odd_registry
from tests.support.odd_registry import OddRegistry

NAME, ONE = RepositoryName("ns/app"), Tag("1")
BASE = images.layer({"base": b"base" * 99})


def image(text: str, name: str = "ns/app") -> Image:
    child = [
        images.image(
            name, None, [BASE, images.layer({"own": text.encode()})], architecture=one, oci=True
        )
        for one in ("amd64", "arm64")
    ]
    return images.index(name, "1", child, oci=True)


def signature(of: Image) -> Image:
    tag = f"sha256-{of.digest.encoded}.sig"
    return images.image(str(of.repository), tag, [images.layer({"sig": b"s"})], oci=True)


class Run:
    def __init__(self, registry: OddRegistry, address: str, limit: int = 10**6) -> None:
        self.driver = MemoryDriver(uuid.uuid4().hex)
        self.registry = registry
        self.allowance = Allowance(limit)
        self.memory = Memory(self.allowance)
        registries = Registries(Settings(mirrors={address: f"http://{address}"}))
        self.engine = Engine(self.driver, registries, Meter())
        self.job = Job(address, NAME, ONE, "", NAME, ONE)

    def plan(self) -> tuple[DryDriver, ImageRecord]:
        record = ImageRecord("", "")
        options = CopyOptions()
        return self.engine.plan(self.job, record, options, self.memory, all_platforms=True), record

    def copy(self) -> ImageRecord:
        record = ImageRecord("", "")
        self.engine.copy(
            self.job, record, Meter(), CopyOptions(), all_platforms=True, memory=self.memory
        )
        return record

    def asked(self) -> collections.Counter[tuple[str, str]]:
        found = collections.Counter((a.method, a.path) for a in self.registry.asked)
        self.registry.asked.clear()
        return found


@pytest.fixture
def registry() -> OddRegistry:
    found = image("one")
    return OddRegistry([found, signature(found)])


@pytest.fixture
def run(registry: OddRegistry) -> Iterator[Run]:
    with odd_registry.serving(registry) as address, contextlib.ExitStack() as stack:
        run = Run(registry, address)
        stack.callback(run.engine._registries.close)
        stack.enter_context(run.engine)
        yield run


def test_a_plan_names_what_comes_and_changes_nothing(run: Run) -> None:
    plan, record = run.plan()
    assert not run.driver.repositories
    assert plan.is_changed
    assert not plan.at_most
    assert (plan.manifests, plan.new_tags) == (4, 2)  # with the signature
    found = image("one")
    parts = [*found.walk(), *signature(found).walk()]
    assert plan.bytes == sum(len(part.manifest.content) for part in parts)
    assert plan.blobs == {d: len(c) for part in parts for d, c in part.blobs.items()}
    assert not run.registry.paths("/blobs/")
    assert (record.status, record.digest) == (Status.COPIED, str(found.digest))
    assert record.signatures == [f"sha256-{found.digest.encoded}.sig"]


def test_the_copy_asks_for_blobs_alone(run: Run) -> None:
    run.plan()
    first = run.asked()
    assert set(first.values()) <= {1, 2}
    assert run.copy().status is Status.COPIED
    then = run.asked()
    assert {path.split("/")[-2] for _, path in then} == {"blobs"}
    assert set(then.values()) == {1}
    assert run.driver.resolve(ImageRef(NAME, ONE)) == image("one").digest


def test_the_copy_asks_again_for_what_was_too_much_to_remember(run: Run) -> None:
    run.memory = Memory(Allowance(0))
    run.plan()
    run.asked()
    assert run.copy().status is Status.COPIED
    assert ("GET", "/v2/ns/app/manifests/1") in run.asked()


def test_what_was_remembered_is_given_back(run: Run) -> None:
    run.plan()
    assert not run.allowance.take(10**6)
    run.memory.forget()
    assert run.allowance.take(10**6)


def test_what_is_there_is_asked_for_once(run: Run) -> None:
    run.plan()
    run.copy()
    run.memory.forget()
    run.asked()
    plan, record = run.plan()
    assert (plan.is_changed, plan.manifests, plan.blobs) == (False, 0, {})
    assert record.status is Status.UNCHANGED
    asked = run.asked()
    assert asked.pop(("HEAD", "/v2/ns/app/manifests/1")) == 1
    read = [path for method, path in asked if method == "GET" and "/manifests/" in path]
    # Nothing but lists of referrers, which this registry would have by tags.
    assert {path.rpartition("/")[2].partition("-")[0] for path in read} == {"sha256"}
    assert not [path for path in read if "." in path]


def test_a_new_signature_is_a_change(run: Run) -> None:
    run.copy()
    run.memory.forget()
    found = image("one")
    tag = f"sha256-{found.digest.encoded}.att"
    more = images.image(str(NAME), tag, [images.layer({"att": b"a"})], oci=True)
    run.registry.add(more)
    plan, record = run.plan()
    assert (plan.is_changed, plan.manifests, plan.new_tags) == (True, 1, 1)
    assert record.status is Status.UNCHANGED  # the image itself


def test_what_another_repository_has_is_not_fetched(run: Run) -> None:
    for content in (found := image("one")).children:
        for digest, blob in content.blobs.items():
            run.driver.upload_layer(RepositoryName("else/where"), [blob], expected=digest)
    plan, _ = run.plan()
    assert set(plan.blobs) == set(signature(found).blobs)
    assert plan.is_changed


def test_of_a_driver_that_does_not_tell_it_is_at_most(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryDriver, "mountable", lambda *_: None)
    plan, _ = run.plan()
    assert plan.at_most
    assert len(plan.blobs) == 6


def test_nobody_else_is_told_to_change_anything(run: Run) -> None:
    dry = DryDriver(run.driver)
    digest = Digest.of(b"")
    with pytest.raises(errors.StorageError, match="a plan changes nothing"):
        dry.upload_layer(NAME, [b""], expected=digest)
    with pytest.raises(errors.StorageError, match="a plan changes nothing"):
        dry.delete(ImageRef(NAME, ONE))
    with pytest.raises(errors.StorageError, match="a plan changes nothing"):
        dry.delete_all(NAME, [ONE])
    assert (dry.tags(NAME), dry.room(), dry.census()) == (None, None, None)
