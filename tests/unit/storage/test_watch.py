# SPDX-License-Identifier: Apache-2.0

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from image_uploader_plugins.storage import Places, Storage, mounts, watch

A, B = PurePosixPath("a"), PurePosixPath("b")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    for folder in ("a/sub", "b"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    for name in ("a/file", "a/other", "b/file"):
        (tmp_path / "root" / name).write_bytes(b"content")
    return Storage(tmp_path / "root", Places(PurePosixPath(".state")))


def watched(storage: Storage) -> watch.Watch:
    found = storage.watch([A, B])
    assert found
    return found


def _mapped(folder: Path) -> None:
    with (folder / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0] = 0


def _written(folder: Path) -> None:
    (folder / "file").write_bytes(b"changed")


def _times_as_before(folder: Path) -> None:
    before = (folder / "file").stat()
    _written(folder)
    os.utime(folder / "file", ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: list[tuple[Callable[[Path], object], set[str]]] = [
    (lambda folder: (folder / "new").touch(), {"new"}),
    (lambda folder: (folder / "new").symlink_to("file"), {"new"}),
    (lambda folder: (folder / "new").hardlink_to(folder / "file"), {"new"}),
    (lambda folder: (folder / "new").mkdir(), {"new"}),
    (lambda folder: (folder / "\udcff").touch(), {"\udcff"}),
    (lambda folder: (folder / "sub").rmdir(), {"sub"}),
    (lambda folder: (folder / "file").unlink(), {"file"}),
    (lambda folder: (folder / "file").rename(folder / "other"), {"file", "other"}),
    (lambda folder: (folder / "file").rename(folder.parent / "away"), {"file"}),
    (lambda folder: (folder.parent / "b/file").rename(folder / "file"), {"file"}),
    (lambda folder: os.truncate(folder / "file", 1), {"file"}),
    (lambda folder: (folder / "file").chmod(0o600), {"file"}),
    (_written, {"file"}),
    (_mapped, {"file"}),
    (_times_as_before, {"file"}),
]


@pytest.mark.parametrize(("change", "names"), CHANGES)
def test_every_change_is_told_once(
    storage: Storage, change: Callable[[Path], object], names: set[str]
) -> None:
    found = watched(storage)
    change(storage.root / A)
    told = found.changed()
    assert told
    assert told[0] == names
    assert found.changed() == [set(), set()]


def test_who_reads_changes_nothing(storage: Storage) -> None:
    found = watched(storage)
    list((storage.root / A).iterdir())
    (storage.root / A / "file").read_bytes()
    (storage.root / A / "sub" / "below").touch()
    assert found.changed() == [set(), set()]


def test_each_folder_has_its_own(storage: Storage) -> None:
    found = watched(storage)
    for folder, name in ((A, "one"), (B, "two"), (A, "three")):
        (storage.root / folder / name).touch()
    assert found.changed() == [{"one", "three"}, {"two"}]
    assert found.inodes == [
        (s.st_dev, s.st_ino) for s in ((storage.root / A).stat(), (storage.root / B).stat())
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: folder.rename(folder.with_name("away")),
        lambda folder: folder.rmdir(),
        lambda folder: folder.chmod(0o700),
    ],
)
def test_a_folder_that_goes_or_changes_itself_ends_it(
    storage: Storage, change: Callable[[Path], object]
) -> None:
    found = watched(storage)
    (storage.root / B / "file").unlink()
    change(storage.root / B)
    assert found.changed() is None


def test_more_than_the_kernel_keeps_ends_it(storage: Storage) -> None:
    found = watched(storage)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the queue is too long to fill it")
    for _ in range(limit // 2 + 1):
        for name in ("file", "other"):
            os.utime(storage.root / A / name)
    assert found.changed() is None


def test_it_ends_with_its_last_user(storage: Storage) -> None:
    found = watched(storage)
    close = found.close
    assert close.alive
    del found
    assert not close.alive


# -- where changes could go unnoticed, there is none


def test_a_folder_that_is_missing(storage: Storage) -> None:
    assert storage.watch([A, PurePosixPath("missing")]) is None


def test_other_machines_may_have_the_files(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = mounts.Mount(1, "0:1", PurePosixPath("/"), "nfs4", frozenset())
    monkeypatch.setattr(mounts, "mount_of", lambda *_: mount)
    assert storage.watch([A]) is None
    monkeypatch.setattr(mounts, "mount_of", lambda *_: None)
    assert storage.watch([A]) is None


@pytest.mark.parametrize("name", ["inotify_init1", "inotify_add_watch"])
def test_the_kernel_refuses(storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = watch.call

    def call(function: str, *args: object) -> int:
        if function == name:
            raise OSError(errno.EMFILE, "too many")
        return original(function, *args)

    monkeypatch.setattr(watch, "call", call)
    assert storage.watch([A]) is None
