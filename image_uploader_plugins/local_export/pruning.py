"""Deleting from repositories what no rule keeps, unless that is too much."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator

from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.local_export import parallel, retention
from image_uploader_plugins.local_export.driver import LocalExportDriver
from image_uploader_plugins.local_export.holdings import Holdings, Name
from image_uploader_plugins.local_export.removal import Preview
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.retention import Rule
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag


@dataclasses.dataclass(frozen=True)
class Excess:
    """A repository of which more tags are to go than may."""

    repository: RepositoryName
    stale: int
    tags: int

    def __str__(self) -> str:
        return f"{self.stale} of {self.tags} tags of {self.repository}"


class Plan:
    """What is to go of some repositories: all that ``rule`` does not keep.

    ``stale`` has the names, ``excesses`` the repositories that would lose
    more than ``max_share`` of their tags, ``problems`` what cannot be read
    and keeps its repository as it is; ``tags`` is how many there are in all.
    """

    def __init__(
        self, tree: Tree, names: Iterable[RepositoryName], rule: Rule, max_share: float
    ) -> None:
        self.stale: dict[RepositoryName, Collection[Name]] = {}
        self.excesses: list[Excess] = []
        self.problems: list[str] = []
        self.tags = 0
        self._tree = tree
        self._rule = rule
        for _, holdings in parallel.each(self._look, names):
            self._plan(holdings, max_share)

    def preview(self) -> Iterator[tuple[RepositoryName, Deletion]]:
        """What would go with them; changes nothing."""
        rehearsal = Preview(self._tree)
        for name, stale in self.stale.items():
            with self._tree.repository_lock(name):
                yield name, rehearsal.delete(self._tree.repository(name), stale)

    def carry_out(self, driver: LocalExportDriver) -> Iterator[tuple[RepositoryName, Deletion]]:
        """Delete what is still to go; ``stale`` then has what went."""
        for name in self.stale:
            yield name, driver.delete_chosen(name, self._still_stale)

    def _look(self, name: RepositoryName) -> Holdings:
        with self._tree.repository_lock(name):
            return Holdings(self._tree, name)

    def _plan(self, holdings: Holdings, max_share: float) -> None:
        self.tags += len(holdings.tags)
        problems = _problems(holdings)
        if problems:
            self.problems += problems
            return
        name, stale = holdings.repository.name, retention.stale(holdings, self._rule)
        count = sum(isinstance(reference, Tag) for reference in stale)
        if stale:
            self.stale[name] = stale
        # A tree of which too much would go has a repository of which too much would go.
        if count > max_share * len(holdings.tags):
            self.excesses.append(Excess(name, count, len(holdings.tags)))

    def _still_stale(self, repository: Repository) -> Collection[Name]:
        """Under its lock: not what was put, or has come to be needed, since."""
        holdings = Holdings(self._tree, repository.name)
        now = set() if _problems(holdings) else retention.stale(holdings, self._rule)
        self.stale[repository.name] = now.intersection(self.stale[repository.name])
        return self.stale[repository.name]


def _problems(holdings: Holdings) -> list[str]:
    """What cannot be read, so that nobody knows what must stay."""
    name = holdings.repository.name
    return [
        *(str(error) for digest, error in holdings.broken.items() if holdings.users[digest]),
        *(f"{ImageRef(name, tag)}: {text}" for tag, text in holdings.problems.items()),
    ]
