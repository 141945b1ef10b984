# SPDX-License-Identifier: Apache-2.0
"""Where several machines may write to one tree, and do not see each other's locks."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.storage import mounts
from image_uploader_plugins.testing import images
from tests.support import commands, trees
from tests.support import mounts as mounting

IMAGE = images.image("ns/img", "1.0", [images.layer({"file": b"content"})])


def put(root: Path, *, one_writer: bool = False) -> None:
    with LocalExportDriver(root, one_writer=one_writer) as driver:
        trees.put(driver, IMAGE)


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Path]:
    """A tree that is there already, and that this machine sees through FUSE."""
    put(tmp_path / "source/image-serve")
    with mounting.fuse(tmp_path / "source", tmp_path / "seen") as folder:
        yield folder / "image-serve"


def check(root: Path, folder: Path) -> None:
    before = trees.served(root)
    state = sorted(map(str, (root / ".local-export").rglob("*")))
    with pytest.raises(errors.StorageDenied) as caught:
        LocalExportDriver(root)
    said = str(caught.value)
    assert said == (
        f"{root}: is not written to: the locks are on fuse mounted at {folder}, whose locks other "
        "machines do not see, as far as is known; if just one machine writes to it at a time, "
        "set one_writer = true in [local_export]"
    )
    assert trees.served(root) == before
    assert sorted(map(str, (root / ".local-export").rglob("*"))) == state


def test_a_real_file_system_of_fuse(refused: Path) -> None:
    check(refused, refused.parent)
    put(refused, one_writer=True)
    assert trees.problems(refused) == []


def test_a_new_tree_is_not_begun_there(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with mounting.fuse(tmp_path / "source", tmp_path / "seen") as folder:
        with pytest.raises(errors.StorageDenied, match="one_writer"):
            LocalExportDriver(folder / "new")
        assert list((folder / "new").iterdir()) == []


def run(root: Path, tmp_path: Path, *arguments: str, options: str = "") -> int:
    return commands.here(commands.configuration(root, tmp_path, options), *arguments)


WRITING = [
    ["gc"],
    ["gc", "--adopt"],
    ["delete", "ns/img:1.0"],
    ["prune", "--keep", "x", "--max-share", "1"],
    ["import", "{layout}"],
]
READING = [
    ["list"],
    ["show", "ns/img:1.0"],
    ["verify"],
    ["gc", "--dry-run"],
    ["delete", "--dry-run", "ns/img:1.0"],
    ["export", "{layout}.tar"],
    ["serve", "--print", "nginx"],
]


def test_the_commands(refused: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Who reads is never refused; who writes is, in one line, or goes on if told to."""
    layout = str(tmp_path / "layout.tar")
    assert run(tmp_path / "source/image-serve", tmp_path, "export", layout) == 0
    for command in READING:
        arguments = [text.format(layout=layout) for text in command]
        assert run(refused, tmp_path, *arguments) == 0, command
    before = trees.served(refused)
    capfd.readouterr()
    for command in WRITING:
        arguments = [text.format(layout=layout) for text in command]
        assert run(refused, tmp_path, *arguments) == 1, command
        _, said = capfd.readouterr()
        assert "set one_writer = true in [local_export]" in said, command
        assert len(set(said.splitlines())) == 1, said
    assert trees.served(refused) == before
    (refused / "v2/ns/img/tags/list").write_text("damaged")
    assert run(refused, tmp_path, "verify", "--repair") == 1
    assert "one_writer" in capfd.readouterr().err
    assert run(refused, tmp_path, "verify", "--repair", options="one_writer = true") == 0
    assert run(refused, tmp_path, "delete", "ns/img:1.0", options="one_writer = true") == 0


def test_the_option_goes_along(root: Path) -> None:
    driver = LocalExportDriver(root, one_writer=True)
    again = pickle.loads(pickle.dumps(driver))  # noqa: S301
    assert again._tree._one_writer


def table(root: Path, kind: str, options: str, state: str = "") -> str:
    """What this machine has, with another file system at the tree's place."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        found = mounts.mount_of(mounts.read(), descriptor)
    finally:
        os.close(descriptor)
    assert found
    lines = [f"{found.number} 1 0:99 / {root} rw - {kind} server:/share {options}"]
    return "\n".join([*lines, state])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("nfs4", "rw,vers=4.2,local_lock=none", ""),
        ("nfs", "rw,vers=3,nolock,local_lock=all", "with local_lock=all"),
        ("cifs", "rw,vers=3.1.1", ""),
        ("cifs", "rw,nobrl", "with nobrl"),
        ("lustre", "rw,lazystatfs", "without flock"),
        ("9p", "rw,trans=virtio", "9p mounted at"),
        ("overlay", "rw", ""),
        ("ext4", "rw", ""),
    ],
)
def test_what_the_table_says_of_the_tree(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: str,
    told: str,
) -> None:
    put(root)
    file = tmp_path / "mountinfo"
    file.write_text(table(root, kind, options))
    monkeypatch.setattr(mounts, "MOUNTINFO", file)
    if not told:
        put(root)
        return
    with pytest.raises(errors.StorageDenied, match=told) as caught:
        put(root)
    assert f"{kind} mounted at {root}" in str(caught.value)
    put(root, one_writer=True)


def test_content_of_a_network_with_locks_of_this_machine(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where just a repository is on it: another machine may have its own tree around it."""
    put(root)
    with mounting.tmpfs(root / "v2/ns", "mode=755"):
        put(root)
        text = Path("/proc/self/mountinfo").read_text()
        lines = [
            line.replace("- tmpfs tmpfs ", "- nfs4 filer:/vol ")
            if f"{root}/v2/ns" in line
            else line
            for line in text.splitlines()
        ]
        (tmp_path / "mountinfo").write_text("\n".join(lines))
        monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "mountinfo")
        with pytest.raises(errors.StorageDenied, match=f"nfs4 mounted at {root}/v2/ns, and its"):
            put(root)
        put(root, one_writer=True)


# -- no locks at all


LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def refuse_locks(patch: pytest.MonkeyPatch, number: int) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    patch.setattr(fcntl, "flock", flock)


@pytest.mark.slow
@pytest.mark.parametrize("number", LOCKLESS)
def test_a_file_system_without_locks(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Who reads goes on; who writes does when told that nobody else is there."""
    put(root)
    refuse_locks(monkeypatch, number)
    before = trees.served(root)
    for command in (["list"], ["show", "ns/img:1.0"], ["verify"], ["gc", "--dry-run"]):
        assert run(root, tmp_path, *command) == 0, command
    with pytest.raises(errors.StorageDenied, match=r"do not hold in .*locks; if .* one_writer"):
        put(root)
    assert trees.served(root) == before
    put(root, one_writer=True)
    assert run(root, tmp_path, "gc", options="one_writer = true") == 0


def test_locks_that_everybody_gets(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root)
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    with pytest.raises(errors.StorageDenied, match="locks do not hold"):
        put(root)
    put(root, one_writer=True)


@pytest.mark.slow
def test_one_writer_has_threads(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one process see to each other, locks or no locks."""
    refuse_locks(monkeypatch, errno.ENOLCK)

    def write(n: int) -> None:
        layers = [images.layer({"file": str(n).encode()})]
        trees.put(driver, images.image("ns/img", f"tag{n}", layers))

    with LocalExportDriver(root, one_writer=True) as driver:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(24)))
        assert sorted(trees.tags(root, "ns/img")) == sorted(f"tag{n}" for n in range(24))
        assert trees.problems(root) == []


def test_locks_that_are_lost_on_the_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has begun with locks does not go on without."""
    with LocalExportDriver(root) as driver:
        trees.put(driver, IMAGE)

        with monkeypatch.context() as patch:
            refuse_locks(patch, errno.ENOLCK)
            with pytest.raises(errors.StorageError, match="No locks available"):
                trees.put(driver, images.image("ns/img", "2.0", [images.layer({"b": b"b"})]))


# -- what is never refused


def test_a_tree_that_was_moved_copied_or_bound_elsewhere(root: Path, tmp_path: Path) -> None:
    put(root)
    moved = tmp_path / "moved"
    root.rename(moved)
    put(moved)
    shutil.copytree(moved, tmp_path / "restored", symlinks=True)
    put(tmp_path / "restored")
    with mounting.bound(moved, tmp_path / "container/var/lib/image-serve") as bound:
        put(bound)
        put(moved)
    link = tmp_path / "link"
    link.symlink_to(moved)
    put(link)
    assert trees.problems(moved) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "btrfs", "tmpfs", "overlay"])
def test_a_file_system_of_this_machine(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "folder"
    with contextlib.ExitStack() as stack:
        if kind == "tmpfs":
            stack.enter_context(mounting.tmpfs(folder))
        elif kind == "overlay":
            # A layer of a layer is what a container has; not all file systems take both.
            stack.enter_context(mounting.overlay(folder, tmp_path / "layers"))
        else:
            stack.enter_context(mounting.disk(folder, tmp_path / "image", kind, 160))
        put(folder / "image-serve")
        assert trees.problems(folder / "image-serve") == []


def test_nobody_tells_what_is_mounted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "absent")
    put(root)
