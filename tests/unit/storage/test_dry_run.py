# SPDX-License-Identifier: Apache-2.0
"""A dry run notes what it can, refuses everything else that may change something."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from image_uploader_plugins.storage import DryRun, Places, Reader, Storage, growing
from image_uploader_plugins.storage.dry_run import DIFFERENT, MISSING, SURPLUS, Change
from image_uploader_plugins.storage.entries import File, Staged, listing
from image_uploader_plugins.storage.folders import make_folder, missing_of, sync_all

PLACES = Places(PurePosixPath(".state"))
FILE = PurePosixPath("folder/file")
LINK = PurePosixPath("folder/link")
NEW = PurePosixPath("folder/new")
FOLDER = PurePosixPath("folder")
STAGED = PLACES.staging / "0" / "1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A storage's directory with a file, a link, and what a process that was killed staged."""
    root = tmp_path / "root"
    storage = Storage(root, PLACES)
    storage.make_root()
    storage.write(FILE, b"content")
    storage.symlink(LINK, "file")
    with storage.lock("made before"):
        pass
    storage.close()
    (root / FILE).chmod(0o600)
    (root / STAGED).parent.mkdir(parents=True)
    (root / STAGED).write_bytes(b"staged")
    (root / f"{STAGED.parent}.lock").touch()
    return root


def _enter(block: contextlib.AbstractContextManager[object]) -> None:
    with block:
        pass


def _file(dry_run: DryRun) -> File:
    file = dry_run.file(FILE)
    assert file
    return file


def _can_link(dry_run: DryRun) -> None:
    dry_run.can_link(_file(dry_run), _file(dry_run))


def _sync(dry_run: DryRun) -> None:
    dry_run.settle(FOLDER)
    dry_run.sync()


def _write_all(dry_run: DryRun) -> None:
    with dry_run.folder(FOLDER) as folder:
        dry_run.write_all(FILE, folder, b"x")


def _complete(dry_run: DryRun) -> None:
    with dry_run.folder(FOLDER) as folder:
        dry_run.complete(FILE, folder)


# What it notes, by the name of the method.
NOTED: dict[str, tuple[Callable[[DryRun], object], set[Change]]] = {
    "write": (lambda d: d.write(FILE, b"other"), {Change(FILE, DIFFERENT)}),
    "symlink": (lambda d: d.symlink(LINK, "elsewhere"), {Change(LINK, DIFFERENT)}),
    "publish_all": (
        lambda d: d.publish_all([(NEW, b"new"), (LINK, "elsewhere"), (FILE, None)]),
        {Change(NEW, MISSING), Change(LINK, DIFFERENT), Change(FILE, SURPLUS)},
    ),
    "link": (lambda d: d.link(FILE, NEW), {Change(NEW, MISSING)}),
    "unlink": (lambda d: d.unlink(FILE), {Change(FILE, SURPLUS)}),
    "drop": (lambda d: d.drop(FILE), set()),
    "remove": (
        lambda d: d.remove(_file(d)),
        {Change(FILE, SURPLUS)},
    ),
    "remove_tree": (
        lambda d: d.remove_tree(FOLDER),
        {Change(FILE, SURPLUS), Change(LINK, SURPLUS)},
    ),
    "remove_staged": (
        lambda d: d.remove_staged(STAGED.parent),
        {
            Change(STAGED, SURPLUS),
            Change(STAGED.parent.with_name("0.lock"), SURPLUS),
        },
    ),
}
REFUSED: dict[str, Callable[[DryRun], object]] = {
    "stage": lambda d: d.stage([b"x"]),
    "complete": _complete,
    "write_all": _write_all,
    "publish": lambda d: d.publish(STAGED, NEW),
    "stage_link": lambda d: d.stage_link(FILE),
    "staged_all": lambda d: _enter(d.staged_all([b"x", "target"])),
    "try_link": lambda d: d.try_link(FILE, d),
    "date": lambda d: d.date(FILE, 0),
    "touch": lambda d: d.touch(NEW),
    "set_access": lambda d: d.set_access(FILE),
    "discard": lambda d: d.discard(STAGED),
    "discarding": lambda d: _enter(d.discarding(Staged(STAGED, 6))),
    "sync_file": lambda d: d.sync_file(FILE),
    "make_root": lambda d: d.make_root(),
    "claim": lambda d: d.claim(FOLDER),
    "lock": lambda d: _enter(d.lock("new")),
    "try_lock": lambda d: _enter(d.try_lock("new", transient=True)),
    # It tries to make a link, where nobody sees it.
    "can_link": _can_link,
    "locks_exclude": lambda d: d.locks_exclude(),
    "remove_unused_locks": lambda d: d.remove_unused_locks([]),
    "growing": lambda d: _enter(growing(d, NEW, 1024)),
    "growing again": lambda d: _enter(growing(d, FILE, 1024)),
}
# What changes nothing on the disk, whoever asks for it.
CHANGING_NOTHING: dict[str, Callable[[DryRun], object]] = {
    "is_copy": lambda d: d.is_copy(_file(d), _file(d)),
    "staged_by_others": lambda d: d.staged_by_others(),
    "lock_progress": lambda d: d.lock_progress("made before"),
    "watch": lambda d: d.watch([FOLDER]),
    "settle": lambda d: d.settle(FOLDER),
    "sync": _sync,
    "remove_empty": lambda d: d.remove_empty(FOLDER),
    "mark": lambda d: d.mark(NEW, b"x"),
    "afterwards": lambda d: d.afterwards(lambda: d.unlink(FILE)),
    "remove_upward": lambda d: d.remove_upward(FOLDER, PurePosixPath()),
    "close": lambda d: d.close(),
    "is_hidden": lambda d: d.is_hidden,
}


def contents(root: Path) -> list[tuple[object, ...]]:
    return sorted(_looked_at(root))


def _looked_at(root: Path) -> Iterator[tuple[object, ...]]:
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        yield str(path), status.st_mode, status.st_mtime_ns, status.st_ctime_ns, content


def test_every_method_is_known_here() -> None:
    ours = {name for name in dir(Storage) if not name.startswith("_")} - set(dir(Reader))
    # A lock can be forgotten by its holder alone, and a dry run holds none.
    known = {*NOTED, *REFUSED, *CHANGING_NOTHING, "forget_lock"}
    assert ours <= known
    assert known - ours == {"growing", "growing again", "make_root"}


@pytest.mark.parametrize("name", NOTED)
def test_what_is_noted(root: Path, name: str) -> None:
    change, noted = NOTED[name]
    before = contents(root)
    dry_run = DryRun(root, PLACES)
    change(dry_run)
    assert dry_run.changes == noted
    assert contents(root) == before


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(root: Path, name: str) -> None:
    before = contents(root)
    dry_run = DryRun(root, PLACES)
    with pytest.raises(AssertionError, match="a dry run would"):
        REFUSED[name](dry_run)
    assert not dry_run.changes
    assert contents(root) == before


@pytest.mark.parametrize("name", CHANGING_NOTHING)
def test_what_changes_nothing(root: Path, name: str) -> None:
    before = contents(root)
    dry_run = DryRun(root, PLACES)
    CHANGING_NOTHING[name](dry_run)
    assert not dry_run.changes
    assert contents(root) == before


@pytest.mark.parametrize(
    "function",
    [os.unlink, os.mkdir, os.truncate, os.fsync, fcntl.flock, make_folder, sync_all, print],
)
def test_an_unknown_or_changing_call_is_refused(
    root: Path, function: Callable[..., object]
) -> None:
    with pytest.raises(AssertionError, match=f"would change {FILE}: {function.__name__}"):
        DryRun(root, PLACES).call(FILE, function, str(root / FILE))
    assert (root / FILE).exists()


@pytest.mark.parametrize(
    "flags",
    [os.O_CREAT | os.O_RDWR, os.O_TRUNC | os.O_WRONLY, os.O_APPEND | os.O_RDWR, os.O_TMPFILE],
)
def test_opening_to_make_or_shorten_is_refused(root: Path, flags: int) -> None:
    with pytest.raises(AssertionError, match="would change"):
        DryRun(root, PLACES).call(FILE, os.open, str(root / FILE), flags)
    assert (root / FILE).read_bytes() == b"content"


def test_looking_is_allowed(root: Path) -> None:
    dry_run = DryRun(root, PLACES)
    assert dry_run.read(FILE) == b"content"
    assert dry_run.call(FILE, missing_of, [root]) == []
    assert dry_run.names(FOLDER) == {"file": "file", "link": "link"}
    with dry_run.folder(FOLDER) as folder:
        assert dry_run.call(FOLDER, listing, folder) == dry_run.names(FOLDER)
