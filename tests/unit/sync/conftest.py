# SPDX-License-Identifier: Apache-2.0
"""Runs from a small registry into a driver in memory."""

from __future__ import annotations

import collections
import uuid
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.sources import tries
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sync.planning import Plan, PlannedImage
from image_uploader_plugins.sync.synchronization import Synchronization, SyncOptions
from image_uploader_plugins.sync.wanted import Entry, TagChoice, Wanted
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import odd_registry
from tests.support.odd_registry import OddRegistry


class Site:
    """A registry at ``address``, a target, and what the last run said."""

    def __init__(self, registry: OddRegistry, address: str) -> None:
        self.registry = registry
        self.address = address
        self.driver = MemoryDriver(uuid.uuid4().hex)
        self.journal = Journal(lambda _record: None)
        self.error = ""

    def entry(self, name: str, *tags: str, where: str = "list:1", **more: Any) -> Entry:
        """Tags of a repository, by name or as ``choice`` says."""
        choice = more.pop("choice", {})
        names = tuple(map(Tag, tags))
        repository, tags_of_it = RepositoryName(name), TagChoice(names, **choice)
        return Entry(where, self.address, repository, tags_of_it, **more)

    def open(self, *entries: Entry, **options: Any) -> Synchronization:
        copying = CopyOptions(**options.pop("copying", {}))
        self.journal = Journal(lambda _record: None)
        self.registry.asked.clear()
        settings = Settings(mirrors={self.address: f"http://{self.address}"})
        self.registries = Registries(settings)
        options["max_share"] = Fraction(options.pop("max_share", "0.5"))
        chosen = SyncOptions(copying, **options)
        return Synchronization(
            Wanted(entries), "memory", self.driver, self.registries, self.journal, chosen
        )

    def run(self, *entries: Entry, **options: Any) -> list[str]:
        """Run; return what was deleted. What failed is in ``error``."""
        self._with(self.open(*entries, **options), Synchronization.run)
        return list(self.journal.deleted)

    def plan(self, *entries: Entry, **options: Any) -> Plan:
        found = self._with(self.open(*entries, **options), Synchronization.plan)
        assert isinstance(found, Plan)
        return found

    def _with(self, run: Synchronization, work: Callable[[Synchronization], Any]) -> Any:
        self.error = ""
        try:
            with run:
                return work(run)
        except errors.UploaderError as e:
            self.error = str(e)
        finally:
            self.registries.close()
        return None

    def statuses(self) -> dict[str, Status]:
        return {self.short(record): record.status for record in self.journal.images}

    def short(self, record: ImageRecord) -> str:
        return record.source.removeprefix(f"{self.address}/")

    def states(self, plan: Plan) -> dict[str, str]:
        return {self.short(one.record): str(one.state) for one in plan.images}

    def planned(self, plan: Plan, source: str) -> PlannedImage:
        return next(one for one in plan.images if self.short(one.record) == source)

    def asked(self) -> collections.Counter[tuple[str, str]]:
        """How often each path was asked for by each method."""
        return collections.Counter((a.method, a.path) for a in self.registry.asked)

    def there(self, name: str) -> dict[str, str]:
        """The tags of a repository in the target, and what they lead to."""
        target = RepositoryName(name)
        return {
            str(tag): str(self.driver.resolve(ImageRef(target, tag)))
            for tag in self.driver.tags(target)
        }


@pytest.fixture
def registry() -> OddRegistry:
    return OddRegistry()


@pytest.fixture
def site(registry: OddRegistry) -> Iterator[Site]:
    with odd_registry.serving(registry) as address:
        yield Site(registry, address)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)
