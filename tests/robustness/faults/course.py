# SPDX-License-Identifier: Apache-2.0
"""What a flow does when nothing goes wrong, and what is left to do after something has."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification, repair
from image_uploader_plugins.storage import is_temporary
from tests.robustness.faults.flows import FLOWS, OLD, Attempt, Flow
from tests.robustness.faults.reader import Reader
from tests.robustness.faults.snapshot import Entry, Snapshot, differences, lay, take
from tests.support import faults
from tests.support.faults import Primitive

PUBLISHED = ("v2", str(layout.POOL))


_STATE = tuple(str(f) for f in layout.STATE_FOLDERS if f not in (layout.STAGING, layout.LOCKS))

# Trees before and after a second attempt that this process has looked at.
_seen: set[object] = set()


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of the undisturbed flow, after so many steps were ``done``."""

    text: str
    changes: bool
    effect: bool
    done: int


@dataclasses.dataclass(frozen=True)
class Course:
    """A flow undisturbed: the tree before, after each step, and after all has been tidied up.

    ``finals`` are the trees that may be there in the end: whoever finds a mark
    also adopts manifests of tripleo-common that have lost their tag.
    """

    flow: Flow
    initial: Snapshot
    calls: tuple[Call, ...]
    stages: tuple[Snapshot, ...]
    finals: tuple[Snapshot, ...]
    tidied: tuple[Snapshot, ...]

    @property
    def effects(self) -> list[Call]:
        return [call for call in self.calls if call.effect]

    def problems(
        self, snapshot: Snapshot, done: int, *, lost: bool = False, reached: int = 0
    ) -> list[str]:
        """What a reader sees wrong when so many steps are done and the next has begun.

        ``lost``: the power failed. ``reached``: the steps that an attempt before
        had done.
        """
        reader = Reader(snapshot, self.flow, self.initial, done, reached)
        return reader.problems() + ([] if lost else reader.copies())

    def is_new(self, snapshot: Snapshot) -> bool:
        """Whether this process has not seen a second attempt on such a tree.

        Nobody reads what others have staged, so that makes no difference.
        """
        key = self.flow.name, snapshot.state("v2", *_STATE)
        known = key in _seen
        _seen.add(key)
        return not known

    def repeated(self, root: Path) -> Iterator[str]:
        """Carry out the flow once more, and say in what the tree is not as undisturbed."""
        try:
            Attempt(self.flow, root)(self.flow.wrap, again=True)
        except Exception as e:
            yield f"the next attempt fails: {e!r}"
            return
        after = take(root)
        key = self.flow.name, after.normal
        if key in _seen:
            return
        _seen.add(key)
        published = self._without_temporary(after).state(*PUBLISHED)
        finals = [final.state(*PUBLISHED) for final in self.finals]
        if published not in finals:
            yield f"after the next attempt these differ: {differences(published, finals[0])}"
        tidy(root)
        tidied = take(root).normal
        if tidied not in [wanted.normal for wanted in self.tidied]:
            yield f"left for good: {differences(tidied, self.tidied[0].normal)}"

    def _without_temporary(self, snapshot: Snapshot) -> Snapshot:
        """What a kill leaves beside its target, where that is elsewhere, stays until a repair."""
        if self.flow.wrap is Flow.wrap:
            return snapshot
        names = ((path, PurePosixPath(path).name) for path in snapshot.entries)
        kept = (path for path, name in names if not is_temporary(name))
        return Snapshot({path: snapshot.entries[path] for path in kept})


def tidy(root: Path, *, mend: bool | None = None) -> None:
    """As `image-uploader gc` does once every lease has run out, or `verify --repair`.

    Default: as much of it as the tree needs.
    """
    if mend is None:
        mend = any(is_temporary(path.name) for path in (root / "v2").rglob(".*"))
    tree = Tree(root, lease_timeout=0)
    verification = Verification(tree)
    if mend:
        repair(verification, verification.report())
    else:
        list(Collector(tree).collect())
    tree.close()


@contextlib.contextmanager
def tree(snapshot: Snapshot) -> Iterator[Path]:
    """A tree on the disk that is as a snapshot says; the root may be missing."""
    with faults.fast_folder() as folder:
        lay(snapshot, folder / "image-serve")
        yield folder / "image-serve"


@functools.cache
def course(name: str) -> Course:
    flow = FLOWS[name]
    with faults.fast_folder() as folder:
        root = folder / "image-serve"
        if not flow.founding or flow.legacy:
            root.mkdir()
            root.chmod(0o755)
        flow.prepare(root)
        initial = take(root)
    calls, stages, final, tidied = _undisturbed(flow, initial)
    finals, all_tidied = [final], [tidied]
    if flow.wrap is not Flow.wrap:
        with tree(final) as root:
            tidy(root, mend=True)
            all_tidied.append(take(root))
    if flow.legacy and not flow.founding:
        *_, final, tidied = _undisturbed(flow, marked(initial))
        finals.append(final)
        all_tidied.append(tidied)
    return Course(flow, initial, calls, stages, tuple(finals), tuple(all_tidied))


def marked(snapshot: Snapshot) -> Snapshot:
    """The same with the mark of somebody who was killed."""
    name = str(layout.UNFINISHED / RepositoryLayout(OLD.repository).key)
    mark = Entry("file", 0o644, OLD.repository.value.encode(), name)
    folder = Entry("folder", 0o700)
    parents = {".": folder, str(layout.STATE): folder, str(layout.UNFINISHED): folder}
    return Snapshot(parents | snapshot.entries | {name: mark})


@functools.cache
def calls(name: str, step: int | None) -> list[Call]:
    """Those of one step that a driver of its own does, or of all that one does."""
    found: list[Call] = []
    with tree(course(name).stages[step or 0]) as root:
        attempt = Attempt(course(name).flow, root, None if step is None else [step])
        attempt(_Recorder(attempt, found, course(name).flow))
    return found


def _undisturbed(
    flow: Flow, initial: Snapshot
) -> tuple[tuple[Call, ...], tuple[Snapshot, ...], Snapshot, Snapshot]:
    found: list[Call] = []
    stages: list[Snapshot] = [initial]
    with tree(initial) as root:
        attempt = Attempt(flow, root)
        record = _Recorder(attempt, found, flow)

        def hook(primitive: Primitive) -> Any:
            if attempt.done == len(stages):
                stages.append(take(root))
            return record(primitive)

        attempt(hook)
        final = take(root)
        tidy(root)
        return tuple(found), tuple(stages), final, take(root)


class _Recorder:
    def __init__(self, attempt: Attempt, found: list[Call], flow: Flow) -> None:
        self._attempt = attempt
        self._found = found
        self._flow = flow

    def __call__(self, primitive: Primitive) -> Any:
        call = Call(str(primitive), primitive.changes, primitive.effect, self._attempt.done)
        self._found.append(call)
        return self._flow.wrap(primitive)
