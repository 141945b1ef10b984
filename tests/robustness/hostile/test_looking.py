# SPDX-License-Identifier: Apache-2.0
"""Who only looks needs no rights, and leaves nothing: on no disk, and in nobody's tree."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import units
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import commands, trees, web
from tests.support import mounts as mounting

STRANGER = 23457
LOOKING = [
    ["list", "-f", "json", "--all"],
    ["show", "-f", "json", "ns/img:1.0"],
    ["show", "-f", "json", "--verify", "ns/img:1.0"],
    ["verify", "--strict"],
    ["gc", "--dry-run"],
    ["gc", "--dry-run", "--adopt"],
    ["prune", "--dry-run", "--keep", "*:2.0", "--max-share", "1"],
    ["delete", "--dry-run", "ns/img:1.0"],
    ["export", "{out}.tar"],
    ["export", "--list-blobs", "{out}.txt"],
]
CLOSED = (
    "WARNING: {root}/.local-export is closed to this user: uploads in flight are not known, "
    "sizes that would be freed are estimates, and nothing prevents deletions meanwhile"
)


def image(tag: str, name: str = "ns/img") -> Image:
    return images.image(name, tag, [images.layer({"shared": b"1"}), images.layer({tag: b"2"})])


@pytest.fixture
def tree() -> Iterator[Path]:
    """A tree in a folder that anybody can reach."""
    with web.open_folder() as folder:
        root = folder / "image-serve"
        with LocalExportDriver(root) as driver:
            for one in (image("1.0"), image("2.0"), image("1.0", "ns/other")):
                trees.put(driver, one)
        (folder / "out").mkdir()
        (folder / "out").chmod(0o777)
        yield root


def entries(root: Path) -> list[tuple[object, ...]]:
    """Everything in the tree, with its times; of what was only read they do not change."""
    # An export takes leases where it can, and drops them.
    paths = (path for path in (root, *root.rglob("*")) if "/leases" not in str(path))
    found = ((path, path.lstat()) for path in paths)
    return sorted((str(p), s.st_mode, s.st_mtime_ns, s.st_ctime_ns) for p, s in found)


def ran(root: Path, *arguments: str) -> str:
    """What a command says in this process, as JSON: status, standard output, standard error."""
    config = commands.configuration(root, root.parent / "out")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = commands.here(config, *arguments)
    sys.stdout.flush()
    return json.dumps([status, out.getvalue(), err.getvalue()])


def as_stranger(root: Path, *arguments: str) -> tuple[int, str, str]:
    """What ran() says in a child of another user, who may not import what is not loaded by now."""
    ran(root, *arguments)
    for path in (root.parent / "out").iterdir():
        path.unlink()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            os.write(writer, ran(root, *arguments).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        status, out, err = json.loads(pipe.read())
    os.waitpid(child, 0)
    return status, out, err


def words(root: Path, command: list[str]) -> list[str]:
    return [text.format(out=root.parent / "out" / "exported") for text in command]


@pytest.mark.slow
@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_leaves_nothing(tree: Path, command: list[str]) -> None:
    before = entries(tree)
    status, _, err = json.loads(ran(tree, *words(tree, command)))
    assert (status, "WARNING" in err) == (0, False), err
    assert entries(tree) == before
    assert not [path for path in (tree / ".local-export/leases").rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_at_a_copy_without_state_makes_none(tree: Path, command: list[str]) -> None:
    shutil.rmtree(tree / ".local-export")
    before = entries(tree)
    strict = [word for word in words(tree, command) if word != "--strict"]
    status, _, err = json.loads(ran(tree, *strict))
    assert (status, "WARNING" in err) == (0, False), err
    assert entries(tree) == before


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="changing the user takes root")
@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_others_can_look(tree: Path, command: list[str]) -> None:
    """And see the same, but for what is said once."""
    status, out, err = json.loads(ran(tree, *words(tree, command)))
    before = entries(tree)
    mine, seen, said = as_stranger(tree, *words(tree, command))
    assert entries(tree) == before
    warning, *rest = said.splitlines()
    assert warning == CLOSED.format(root=tree)
    assert (mine, _ageless(seen), rest) == (status, _ageless(out), err.splitlines())
    assert status == 0


def _ageless(out: str) -> list[str]:
    return [line for line in out.splitlines() if '"age"' not in line]


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="changing the user takes root")
def test_others_see_damage(tree: Path) -> None:
    blob = next((tree / "v2/ns/img/blobs").iterdir())
    blob.chmod(0o600)
    status, out, _ = as_stranger(tree, "verify")
    assert status == 1
    assert f"v2/ns/img/blobs/{blob.name}: its mode is 0600: left alone" in out
    assert f"v2/ns/img/blobs/{blob.name}: could not be read: Permission denied" in out


@pytest.mark.slow
@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_a_read_only_mount(tree: Path, command: list[str]) -> None:
    seen = tree.parent / "seen" / "image-serve"
    seen.mkdir(parents=True)
    shutil.copytree(tree.parent / "out", seen.parent / "out")
    with mounting.bound(tree, seen):
        mounting.remount(seen, "bind", "ro")
        with pytest.raises(OSError, match="Read-only"):
            (seen / "x").touch()
        status, _, err = json.loads(ran(seen, *words(seen, command)))
    warnings = [line for line in err.splitlines() if line.startswith("WARNING")]
    said = f"WARNING: {seen}/.local-export is read-only: nothing prevents deletions meanwhile"
    assert warnings == ([said] if command[0] == "export" else [])
    assert status == 0, err


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="changing the user takes root")
def test_a_forecast_of_others_tells_the_same_sizes(tree: Path) -> None:
    _, out, _ = as_stranger(tree, "delete", "--dry-run", "ns/img:2.0")
    with LocalExportDriver(tree) as driver:
        freed = driver.delete(ImageRef(RepositoryName("ns/img"), Tag("2.0"))).bytes_freed
    image_bytes = len(image("2.0").manifest.content)
    assert freed > image_bytes, "its configuration and one of its layers go as well"
    assert f", {units.size(freed)} freed" in out
