# SPDX-License-Identifier: Apache-2.0
"""What cannot be read is not damaged: verify --repair removes nothing for it, and says so."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance import adopt
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Remedy, Verification, repair
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import entries
from image_uploader_plugins.testing import images
from tests.support import commands, faults, legacy, programs, trees
from tests.support.faults import PLAIN, Failing, Primitive, hooked

ERRNOS = (
    *(errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES),
    *(errno.EPERM, errno.EUCLEAN, errno.EBADMSG, errno.ETIMEDOUT),
)
AMD64 = images.image("ns/a", None, [images.layer({"f": b"amd64" * 999})])
ARM64 = images.image("ns/a", None, [images.layer({"f": b"arm64"})], architecture="arm64")
MULTI = images.index("ns/a", "multi", [AMD64, ARM64])
LAYER = ARM64.manifest.layers[0].digest
DAMAGED = images.image("ns/b", "1.0", [images.layer({"f": b"flipped"})])
LOST = DAMAGED.manifest.layers[0].digest
POOLED = f".local-export/pool/sha256/{LAYER.encoded[:2]}/{LAYER.encoded}"
MANIFESTS = "v2/ns/a/manifests"


def fill(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        for image in (MULTI, DAMAGED):
            trees.put(driver, image)


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    with faults.fast_folder() as folder:
        fill(folder / "tree")
        yield folder / "tree"


@pytest.fixture
def root(prepared: Path) -> Iterator[Path]:
    with faults.fast_folder() as folder:
        trees.copy(prepared, folder / "tree")
        yield folder / "tree"


def flip(path: Path) -> None:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content[:-1] + b"x")


def content(root: Path) -> dict[str, bytes]:
    """Every manifest and blob, by its path."""
    pool = root / ".local-export/pool"
    files = [*(root / "v2").rglob("blobs/*"), *(root / "v2").rglob("index.json"), *pool.rglob("*")]
    return {str(p.relative_to(root)): p.read_bytes() for p in files if p.is_file()}


class Always:
    """Fails every call with an errno that a condition holds for."""

    def __init__(self, number: int, condition: Callable[[Primitive], bool]) -> None:
        self._number = number
        self._condition = condition
        self.times = 0

    def __call__(self, primitive: Primitive) -> Any:
        if self._condition(primitive):
            self.times += 1
            raise OSError(self._number, os.strerror(self._number))
        return primitive()


# What fails, where, and what it is then known by.
PLACES: dict[str, tuple[Callable[..., Any], tuple[str, ...], tuple[str, ...]]] = {
    "reading a blob": (os.read, (f"v2/ns/a/blobs/{LAYER}.gz", POOLED), ("ns/a:multi",)),
    "opening a blob": (os.open, (f"v2/ns/a/blobs/{LAYER}.gz", POOLED), ("ns/a:multi",)),
    "the status of a blob": (os.stat, (f"v2/ns/a/blobs/{LAYER}.gz",), ("ns/a:multi",)),
    "reading a child": (os.read, (f"{MANIFESTS}/{ARM64.digest}/index.json",), ("ns/a:multi",)),
    "opening a child": (os.open, (f"{MANIFESTS}/{ARM64.digest}/index.json",), ("ns/a:multi",)),
    "entering a child's folder": (os.open, (f"{MANIFESTS}/{ARM64.digest}",), ("ns/a:multi",)),
    "reading an index": (os.read, (f"{MANIFESTS}/{MULTI.digest}/index.json",), ("ns/a:multi",)),
    "reading a tag": (os.read, (f"{MANIFESTS}/multi.type-map",), ("ns/a:multi",)),
    "listing blobs": (entries.listing, ("v2/ns/a/blobs",), ()),
    "listing manifests": (entries.listing, (MANIFESTS,), ()),
    "listing a view": (entries.listing, ("v2/ns/a/.tags",), ()),
    "entering the blobs": (os.open, ("v2/ns/a/blobs",), ()),
    "listing the pool": (entries.listing, (".local-export/pool",), ()),
}


# All errors where content is removed for a wrong digest, and one of each class elsewhere.
CASES = [
    (place, number)
    for place in PLACES
    for number in (ERRNOS if place.startswith("reading a") else (errno.EIO, errno.EACCES))
]


@pytest.mark.slow
@pytest.mark.parametrize(("place", "number"), CASES)
def test_what_cannot_be_read_stays_and_is_told(root: Path, place: str, number: int) -> None:
    function, paths, names = PLACES[place]
    before = content(root)

    def fails(call: Primitive) -> bool:
        same = call.opens if function is os.open else call.function is function
        return same and str(call.path) in paths

    failing = Always(number, fails)
    words = os.strerror(number)
    with hooked(failing):
        try:
            report = trees.mended(root)
        except errors.StorageError as e:
            assert words in str(e)
            assert not names, "an image is named"
        else:
            told = [f for f in report.findings if words in f.problem]
            start = f"could not be read: {words}"
            assert any(f.problem.startswith(start) for f in told), report.findings
            assert {f.remedy for f in told} == {Remedy.LOOK}
            assert not names or names in {f.images for f in told}
    assert failing.times > 1, "tried again"
    assert content(root) == before
    assert trees.mended(root).findings == ()
    assert content(root) == before


def test_a_short_read_is_no_damage(root: Path) -> None:
    before = content(root)
    chosen = (root / POOLED).stat().st_ino
    done = False

    def short(primitive: Primitive) -> Any:
        nonlocal done
        if primitive.function is not os.read or os.fstat(primitive.args[0]).st_ino != chosen:
            return primitive()
        done, first = not done, not done
        return os.read(primitive.args[0], 10) if first else b""

    with hooked(short):
        report = trees.mended(root)
    found = {str(f.path): f for f in report.findings}
    finding = found[f"v2/ns/a/blobs/{LAYER}.gz"]
    size = (root / POOLED).stat().st_size
    assert finding.problem == f"could not be read: ended after 10 of {size} bytes"
    assert (finding.remedy, finding.images) == (Remedy.LOOK, ("ns/a:multi",))
    assert content(root) == before


def test_bytes_that_were_wrong_once_are_no_damage(root: Path) -> None:
    """Memory and controllers flip bits, too."""
    before = content(root)
    chosen = (root / POOLED).stat().st_ino
    times: list[int] = []

    def wrong(primitive: Primitive) -> Any:
        found = primitive()
        if primitive.function is not os.read or not found or times:
            return found
        if os.fstat(primitive.args[0]).st_ino != chosen:
            return found
        times.append(1)
        return found[:-1] + b"x"

    with hooked(wrong):
        assert trees.mended(root).findings == ()
    assert times
    assert content(root) == before


def test_what_is_replaced_meanwhile_is_not_removed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading and removing, an upload heals it: the name leads to other bytes."""
    good = (root / POOLED).read_bytes()
    flip(root / POOLED)
    lock = Tree.pool_lock

    def heal_first(self: Tree) -> Any:
        if (root / POOLED).read_bytes() != good:
            for path in (root / POOLED, root / f"v2/ns/a/blobs/{LAYER}.gz"):
                path.unlink()
            (root / POOLED).write_bytes(good)
            os.link(root / POOLED, root / f"v2/ns/a/blobs/{LAYER}.gz")
            (root / POOLED).chmod(0o644)
        return lock(self)

    tree = Tree(root)
    verification = Verification(tree)
    report = verification.report()
    assert {str(f.path) for f in report.findings} == {POOLED, f"v2/ns/a/blobs/{LAYER}.gz"}
    monkeypatch.setattr(Tree, "pool_lock", heal_first)
    assert repair(verification, report).findings == ()
    assert (root / POOLED).read_bytes() == good


def _once(n: int) -> list[str]:
    """Let the n-th call fail, in a tree with a damaged blob: that alone may go."""
    number = ERRNOS[n % len(ERRNOS)]
    with faults.fast_folder() as folder:
        root = folder / "tree"
        trees.copy(_filled, root)
        before = content(root)
        failing = Failing(n, number, PLAIN)
        with hooked(failing):
            try:
                trees.mended(root)
            except errors.StorageError:
                pass
            except Exception as e:
                return [f"{failing.failed}: raises {e!r}"]
        after = content(root)
        gone = {path for path in before if after.get(path) != before[path]}
        problems = [path for path in gone if LOST.encoded not in path]
        left = {f.path.name for f in trees.mended(root).findings}
        problems += sorted(left - {LOST.value})
        return [f"{errno.errorcode[number]} at {failing.failed}: {path}" for path in problems]


_filled = Path()


@pytest.mark.slow
def test_any_call_that_fails_once_takes_nothing_that_is_intact(root: Path) -> None:
    global _filled
    _filled = root
    flip(next((root / ".local-export/pool").rglob(LOST.encoded)))
    calls: list[Primitive] = []

    def count(call: Primitive) -> Any:
        calls.append(call)
        return call()

    with faults.fast_folder() as folder, hooked(count):
        trees.copy(root, folder / "copy")
        trees.mended(folder / "copy")
    assert len(calls) > 1000
    faults.spread(_once, range(0, len(calls), len(calls) // 50))


def test_what_cannot_be_read_is_not_said_to_be_damaged(root: Path) -> None:
    """Neither by adoption, nor by a mount that looks."""
    image = images.image("ns/old", "1.0", [images.layer({"f": b"old"})])
    legacy.write_image(root, image, "1.0")
    layer = image.manifest.layers[0].digest
    path = f"v2/ns/old/blobs/{layer}.gz"

    def fails(call: Primitive) -> bool:
        staged = str(call.path).startswith(".local-export/staging")
        return call.function is os.read and (str(call.path) == path or staged)

    before = content(root)
    with LocalExportDriver(root) as driver, hooked(Always(errno.EIO, fails)):
        with pytest.raises(errors.StorageError, match="Input/output"):
            list(adopt.adopt(Tree(root)))
        with pytest.raises(errors.StorageError, match="Input/output"):
            sources = {layer: RepositoryName("ns/old")}
            driver.mount_layers(RepositoryName("ns/new"), image.manifest.layers, sources)
    assert content(root) == before


# -- as a user runs it


def _injected(root: Path, tmp_path: Path, injection: str, *paths: str) -> tuple[int, str]:
    config = commands.configuration(root, tmp_path)
    strace = [programs.require("strace"), "-f", "-o", "/dev/null", "-e", f"inject={injection}"]
    places = [word for path in paths for word in ("-P", str(root / path))]
    done = subprocess.run(
        [*strace, *places, *commands.line(config, "verify", "--repair")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def _strace_cases() -> Iterator[tuple[str, int]]:
    for name in ("EIO", "ESTALE", "ENOMEM"):
        yield f"read:error={name}:when=1", 0
        yield f"read:error={name}", 1
    yield "read:error=EMFILE", 1
    yield "read:error=EACCES", 1
    yield "read:retval=0:when=1+", 1


@pytest.mark.slow
@pytest.mark.parametrize(("injection", "status"), list(_strace_cases()))
def test_under_the_program_itself(root: Path, tmp_path: Path, injection: str, status: int) -> None:
    before = content(root)
    place = f"v2/ns/a/blobs/{LAYER}.gz"
    found, output = _injected(root, tmp_path, injection, place, POOLED)
    assert found == status, output
    assert content(root) == before
    if status:
        assert f"{place}: could not be read: " in output
        assert "(ns/a:multi): left alone" in output
