# SPDX-License-Identifier: Apache-2.0
"""A machine that refuses: full, read-only, forbidden, in pieces, at the wrong time."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import pwd
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from image_uploader_plugins import errors, manifest
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.storage import Storage
from image_uploader_plugins.testing import images
from tests.support import mounts, trees, web

NAME = RepositoryName("ns/img")
SPAWN = multiprocessing.get_context("spawn")


def one(text: str = "one", tag: str = "1.0", name: str = "ns/img") -> images.Image:
    return images.image(name, tag, [images.layer({"file": text.encode()})])


def listed() -> images.Image:
    """An image with all that there is: a list, children, a referrer."""
    return images.index("ns/img", "1.0", [one(tag=""), one("two", "")])


def put(driver: LocalExportDriver) -> None:
    index = listed()
    trees.put(driver, index)
    about = {"subject": index.descriptor()}
    trees.put(driver, images.artifact("ns/img", None, "application/x", b"sbom", **about))


def staged(root: Path) -> list[Path]:
    """Temporary files, wherever they may be; locks of processes that run are none."""
    state = [p for p in (root / ".local-export/staging").rglob("*") if p.suffix != ".lock"]
    beside = [p for p in (root / "v2").rglob(".*") if len(p.name) == 33]
    return [path for path in (*state, *beside) if not path.is_dir()]


# -- a full file system

PAGE = os.sysconf("SC_PAGE_SIZE")


class Filler:
    """Takes up all of a file system but a given number of pages."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "filler"

    def leave(self, pages: int) -> None:
        space = os.statvfs(self._path.parent)
        size = (space.f_bfree - pages) * space.f_bsize
        with self._path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def leave_names(self, count: int) -> None:
        """The same for inodes."""
        self._path.mkdir()
        number = 0
        with contextlib.suppress(OSError):
            for number in itertools.count():
                (self._path / str(number)).touch()
        for taken in range(number - count, number):
            (self._path / str(taken)).unlink()

    def give_back(self) -> None:
        if self._path.is_dir():
            for path in self._path.iterdir():
                path.unlink()
            self._path.rmdir()
        else:
            self._path.unlink()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with mounts.tmpfs(tmp_path / "small", "size=900k", "nr_inodes=260") as folder:
        yield folder


def check_full(root: Path, step: str) -> bool:
    """Put on a file system with little left; whether it was enough."""
    try:
        with LocalExportDriver(root) as driver:
            put(driver)
    except errors.StorageFull as e:
        assert str(root) in str(e), step
        assert e.path, step
        assert staged(root) == [], step
        # Half done are lists at the most, and then the repository is marked for it.
        marked = any((root / ".local-export/unfinished").glob("*"))
        problems = trees.problems(root)
        assert marked or problems == [], step
        assert not [problem for problem in problems if "hash" in problem], step
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pages", "names"])
def test_a_disk_that_fills_up_at_any_step(small: Path, kind: str) -> None:
    root = small / "image-serve"
    with LocalExportDriver(root) as driver:
        # The state directory's own folders stay, whatever is deleted.
        put(driver)
        undisturbed = trees.served(root)
        driver.delete(ImageRef(NAME, Tag("1.0")))
        before = trees.served(root)
    filler = Filler(small)
    refused = 0
    for left in range(200):
        (filler.leave if kind == "pages" else filler.leave_names)(left)
        enough = check_full(root, f"{left} {kind} left")
        filler.give_back()
        # Closed in the end: what it stages would go at any moment, when it is collected.
        with LocalExportDriver(root) as driver:
            put(driver)
            assert trees.served(root) == undisturbed, left
            assert trees.problems(root) == [], left
            driver.delete(ImageRef(NAME, Tag("1.0")))
            assert trees.served(root) == before, left
        if enough:
            break
        refused += 1
    assert enough
    assert refused > 10


def test_a_layer_that_does_not_fit(small: Path) -> None:
    driver = LocalExportDriver(small / "image-serve")
    before = trees.served(small / "image-serve")
    for _ in range(3):
        with pytest.raises(errors.StorageFull, match=r"staging/.*No space left"):
            driver.upload_layer(NAME, (os.urandom(65536) for _ in range(100)))
        assert staged(small / "image-serve") == []
    assert trees.served(small / "image-serve") == before
    trees.put(driver, one())


def test_a_full_disk_can_be_read_and_deleted_from(small: Path) -> None:
    """Whoever is out of space deletes images."""
    root = small / "image-serve"
    driver = LocalExportDriver(root)
    for tag in ("1.0", "2.0"):
        trees.put(driver, one(tag, tag))
    Filler(small).leave(0)
    assert trees.problems(root) == []
    driver.delete(ImageRef(NAME, Tag("1.0")))
    assert trees.tags(root, "ns/img") == ["2.0"]
    assert trees.problems(root) == []


# -- one that must not be written to


def test_a_read_only_file_system(tmp_path: Path) -> None:
    with mounts.tmpfs(tmp_path / "serve") as folder:
        driver = LocalExportDriver(folder / "image-serve")
        root = folder / "image-serve"
        trees.put(driver, one())
        before = trees.served(root)
        driver.close()
        mounts.remount(folder, "ro")
        for attempt in (
            lambda: driver.mount_layers(RepositoryName("other"), one().manifest.blobs()),
            lambda: driver.upload_layer(NAME, [b"new"]),
            lambda: driver.upload_layer(NAME, [b"new"], expected=Digest.of(b"new")),
            lambda: trees.put(driver, one("two", "2.0")),
            lambda: driver.delete(ImageRef(NAME, Tag("1.0"))),
            lambda: trees.put_in(root, one("two", "2.0")),
        ):
            with pytest.raises(errors.StorageDenied, match=f"{root}.*[Rr]ead-only"):
                attempt()
            assert trees.served(root) == before
        assert trees.problems(root) == []
        assert driver._tree.repository(NAME).read_manifest(one().digest).content
        assert driver._tree.repositories() == [NAME]
        mounts.remount(folder, "rw")
        trees.put(driver, one("two", "2.0"))
        assert trees.tags(root, "ns/img") == ["1.0", "2.0"]


def _refused(root: Path, uid: int) -> str:
    os.setuid(uid)
    try:
        driver = LocalExportDriver(root)
        trees.put(driver, one("two", "2.0"))
    except errors.StorageDenied as e:
        return str(e)
    return "allowed"


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["", "v2", "v2/ns/img/manifests", ".local-export"])
def test_another_user_may_not_write(closed: str) -> None:
    """``closed`` is what root keeps; everything else is the user's."""
    if os.getuid() != 0:
        pytest.skip("changing the user takes root")
    nobody = pwd.getpwnam("nobody")
    with web.open_folder() as folder:
        root = folder / "image-serve"
        trees.put_in(root, one())
        before = trees.served(root)
        for path in [root, *root.rglob("*")]:
            if closed and not path.is_relative_to(root / closed):
                os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
        with SPAWN.Pool(1) as pool:
            refusal = pool.apply(_refused, (root, nobody.pw_uid))
        assert "Permission denied" in refusal or "Operation not permitted" in refusal
        assert str(root) in refusal
        names = {path for path in trees.served(root) if "/blobs/" not in path}
        assert names == {path for path in before if "/blobs/" not in path}
        assert staged(root) == []
        trees.put_in(root, one("two", "2.0"))
        assert trees.problems(root) == []


# -- one that comes in pieces


@contextlib.contextmanager
def in_pieces(root: Path, piece: str) -> Iterator[LocalExportDriver]:
    """A tree with another file system below ``piece``."""
    with mounts.tmpfs(root / piece):
        yield LocalExportDriver(root)


@pytest.mark.slow
@pytest.mark.parametrize("piece", [".local-export", "v2", "v2/ns", "v2/ns/img/blobs"])
def test_another_file_system(root: Path, piece: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    put(LocalExportDriver(whole))
    with in_pieces(root, piece) as driver:
        if piece == "v2":
            assert (root / piece).stat().st_dev != (root / ".local-export").stat().st_dev
        put(driver)
        assert trees.served(root) == trees.served(whole)
        assert trees.problems(root) == []
        assert staged(root) == []
        mounted = driver.mount_layers(RepositoryName("ns/other"), one().manifest.blobs())
        assert mounted == set(one().blobs)
        driver.delete(ImageRef(NAME, Tag("1.0")))
        assert trees.problems(root) == []
        put(driver)
        assert trees.problems(root) == []


def _die_before_the_rename_beside(root: Path) -> None:
    rename = os.rename

    def dying(source: str, target: str, **folders: int) -> None:
        if source.startswith(".") and target.endswith(".type-map"):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target, **folders)

    os.rename = dying  # type: ignore[assignment]
    put(LocalExportDriver(root))


@pytest.mark.slow
def test_killed_between_write_and_rename_on_another_file_system(root: Path) -> None:
    """What is left lies beside its place, and no web server has a URL for it."""
    with in_pieces(root, "v2") as driver:
        child = SPAWN.Process(target=_die_before_the_rename_beside, args=(root,))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        (left,) = (path for path in (root / "v2").rglob(".*") if len(path.name) == 33)
        assert left.parent.name == "manifests"
        assert (
            set(trees.tags(root, "ns/img") if (root / "v2/ns/img/tags").exists() else []) == set()
        )
        put(driver)
        assert trees.problems(root) == []
        assert driver._tree.repository(NAME).tags() == {Tag("1.0")}


@pytest.mark.slow
def test_too_many_links(driver: LocalExportDriver, root: Path, tmp_path: Path) -> None:
    """For real where a file system has its limit within reach (ext4: 65000)."""
    trees.put(driver, one())
    layer = one().manifest.layers[0].digest
    pooled = next((root / ".local-export/pool").rglob(layer.encoded))
    most = os.pathconf(pooled, "PC_LINK_MAX")
    if not 1000 < most < 70_000:  # the least that POSIX asks for is told for what is not known
        pytest.skip("this file system has no limit on links within reach (ext4 has)")
    folder = tmp_path / "links"
    folder.mkdir()
    for number in range(most - pooled.stat().st_nlink):
        os.link(pooled, folder / str(number))
    with pytest.raises(OSError) as caught:
        os.link(pooled, folder / "one more")
    assert caught.value.errno == errno.EMLINK
    trees.put(driver, one(name="other"))
    copy = next((root / "v2/other/blobs").glob(f"{layer}*"))
    assert copy.stat().st_ino != pooled.stat().st_ino
    assert trees.problems(root) == []
    for path in folder.iterdir():
        path.unlink()


# -- what somebody put into the tree

PLACES = (
    "v2",
    "v2/ns",
    "v2/ns/img",
    "v2/ns/img/blobs",
    "v2/ns/img/manifests",
    "v2/ns/img/manifests/{manifest}",
    "v2/ns/img/tags",
    "v2/ns/img/.tags",
    "v2/ns/img/.defaults",
    "v2/ns/img/.pages",
    "v2/ns/img/.pages/1",
    "v2/ns/img/.pages/.gone",
    "v2/ns/img/.pages/.few",
    "v2/.catalog",
    "v2/.catalog/1",
    "v2/.catalog/1/ns",
    "v2/ns/img/.referrers",
    "v2/ns/img/.referrers/{manifest}",
    ".local-export",
    ".local-export/staging",
    ".local-export/pool",
    ".local-export/pool/sha256",
    ".local-export/pool/sha256/{layer:.2}",
    ".local-export/locks",
    ".local-export/leases",
    ".local-export/leases/{repository}",
    ".local-export/unfinished",
)

FILES = (
    "v2/.htaccess",
    "v2/.no-referrers",
    "v2/index.json",
    "v2/_catalog",
    "v2/ns/img/blobs/sha256:{layer}.gz",
    "v2/ns/img/blobs/sha256:{layer}",
    "v2/ns/img/manifests/{manifest}/index.json",
    "v2/ns/img/manifests/{manifest}/.htaccess",
    "v2/ns/img/manifests/{manifest}/manifest.docker-list",
    "v2/ns/img/manifests/{manifest}/manifest.oci-index",
    "v2/ns/img/manifests/1.0.type-map",
    "v2/ns/img/manifests/1.0",
    "v2/ns/img/manifests/other.type-map",
    "v2/ns/img/tags/list",
    "v2/ns/img/.tags/1.0",
    "v2/ns/img/.defaults/1.0",
    "v2/ns/img/.pages/.none",
    "v2/ns/img/.pages/1/.end=",
    "v2/ns/img/.pages/1/.start+",
    "v2/ns/img/.pages/.rest",
    "v2/.catalog/.none",
    "v2/ns/img/.referrers/{manifest}/all",
    ".local-export/pool/sha256/{layer:.2}/{layer}",
    ".local-export/locks/{pool_lock}",
    ".local-export/unfinished/{repository}",
)


def place(root: Path, text: str) -> Path:
    layer = one().manifest.layers[0].digest.encoded
    hashed = {
        "repository": Digest.of(NAME.value.encode()).encoded,
        "pool_lock": Digest.of(b"pool").encoded,
    }
    path = root / text.format(manifest=listed().digest, layer=layer, **hashed)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def make_room(path: Path, aside: Path) -> None:
    if path.exists() or path.is_symlink():
        path.rename(aside)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def operate(root: Path) -> None:
    """All verbs, on a tree that is not what it was."""
    driver = LocalExportDriver(root)
    put(driver)
    driver.mount_layers(RepositoryName("ns/other"), one().manifest.blobs())
    trees.put(driver, one("two", "2.0"))
    driver.delete(ImageRef(NAME, Tag("1.0")))
    driver.close()


@pytest.mark.slow
@pytest.mark.parametrize("filled", [False, True], ids=["new", "filled"])
@pytest.mark.parametrize("text", PLACES)
def test_a_link_in_a_folders_place(root: Path, tmp_path: Path, text: str, filled: bool) -> None:
    """Defect 4, at every level: no link is followed, nothing outside is changed."""
    if filled:
        put(LocalExportDriver(root))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    before = snapshot(outside)
    path = place(root, text)
    make_room(path, tmp_path / "aside")
    path.symlink_to(outside)
    with contextlib.suppress(errors.StorageError):
        operate(root)
    assert snapshot(outside) == before
    if path.is_symlink():
        path.unlink()
    if (tmp_path / "aside").exists() and not path.exists():
        (tmp_path / "aside").rename(path)
    put(LocalExportDriver(root))
    assert trees.problems(root) == []


def plant_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "precious")


def plant_dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "new")


def plant_fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def plant_socket(path: Path, outside: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's address is at most 108 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path.name[:100])
        Path(path.name[:100]).rename(path.name)
    finally:
        os.chdir(here)


def plant_folder(path: Path, outside: Path) -> None:
    path.mkdir()
    (path / "file").write_text("mine")


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant", [plant_link, plant_dangling, plant_fifo, plant_socket, plant_folder]
)
@pytest.mark.parametrize("text", FILES)
def test_something_in_a_files_place(
    root: Path, tmp_path: Path, text: str, plant: Callable[[Path, Path], None]
) -> None:
    """It is replaced, or refused by name; nobody waits for it, and nothing outside is changed."""
    put(LocalExportDriver(root))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    before = snapshot(outside)
    path = place(root, text)
    make_room(path, tmp_path / "aside")
    plant(path, outside)
    planted = path.lstat()
    with within_reason():
        try:
            operate(root)
        except (errors.StorageError, errors.NeedUnknown) as e:
            assert str(root) in str(e)
            assert path.lstat().st_ino == planted.st_ino
    assert snapshot(outside) == before
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_ino == planted.st_ino:
            path.rename(tmp_path / "planted")
    put(LocalExportDriver(root))
    left = [problem for problem in trees.problems(root) if str(path) not in problem]
    assert left == []


def test_a_fifo_is_no_empty_file(root: Path) -> None:
    storage = Storage(root, layout.PLACES)
    storage.make_root()
    os.mkfifo(root / "fifo")
    with within_reason(), pytest.raises(errors.StorageError, match=r"fifo.*what belongs there"):
        storage.read(PurePosixPath("fifo"))
    with within_reason(), pytest.raises(errors.StorageError, match=r"fifo.*what belongs there"):
        storage.set_access(PurePosixPath("fifo"))


@pytest.mark.parametrize("plant", [plant_link, plant_dangling, plant_folder])
def test_a_temporary_name_that_is_taken(
    root: Path, tmp_path: Path, plant: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can guess one; if anybody did, nothing would be written through it."""
    storage, outside = Storage(root, layout.PLACES), tmp_path / "outside"
    storage.make_root()
    outside.mkdir()
    (outside / "precious").write_text("precious")
    taken = storage.stage([b"mine"]).path
    storage.discard(taken)
    plant(root / taken, outside)
    monkeypatch.setattr(storage._staging, "new", lambda: taken)
    with pytest.raises(errors.StorageError, match=f"{taken}: File exists"):
        storage.stage([b"new"])
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"precious": "precious"}


@contextlib.contextmanager
def within_reason() -> Iterator[None]:
    """An end, with a traceback, for what would wait for ever."""

    def give_up(number: int, frame: object) -> None:
        raise AssertionError("still waiting")

    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_the_staging_folder_is_exchanged_for_a_link(root: Path, tmp_path: Path) -> None:
    driver = LocalExportDriver(root)
    driver.upload_layer(NAME, [b"first"])
    (session,) = (p for p in (root / ".local-export/staging").iterdir() if p.is_dir())
    outside = tmp_path / "outside"
    outside.mkdir()
    session.rename(tmp_path / "aside")
    session.symlink_to(outside)
    with pytest.raises(errors.StorageError, match="symbolic link"):
        driver.upload_layer(NAME, [b"second"])
    assert list(outside.iterdir()) == []
    trees.put_in(root, one())


def test_a_lease_that_is_a_link_or_a_folder(
    driver: LocalExportDriver, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("precious")
    driver.upload_layer(NAME, [b"in flight"])
    (folder,) = (root / ".local-export/leases").iterdir()
    digest = Digest.of(b"in flight")
    (folder / f"{digest}.link").symlink_to(tmp_path / "precious")
    (folder / f"{digest}.folder").mkdir()
    (folder / "no digest").touch()
    trees.put(driver, one())
    driver.delete(ImageRef(NAME, Tag("1.0")))
    assert (tmp_path / "precious").read_text() == "precious"
    assert list((root / "v2/ns/img/blobs").glob(f"{digest}*"))


# -- one whose clock is wrong


@pytest.mark.slow
@pytest.mark.parametrize("jump", [-10 * 365 * 86400, -1, 0, 1, 3599])
def test_a_clock_that_jumps_within_a_lease(
    root: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    """Backwards at any distance, and forwards within the lease, an upload keeps its layers."""
    driver = LocalExportDriver(root, lease_timeout=3600)
    trees.put(driver, one("other", "other"))
    image = one()
    begun = time.time()
    for content in image.blobs.values():
        driver.upload_layer(NAME, [content])
    monkeypatch.setattr(time, "time", lambda: begun + jump)
    driver.delete(ImageRef(NAME, Tag("other")))
    driver.put_manifest(NAME, image.manifest.content, image.manifest.media_type, tag=Tag("1.0"))
    assert trees.problems(root) == []


def test_a_lease_that_runs_out_in_an_upload(root: Path) -> None:
    """The manifest is refused by name, nothing is half visible, and the same again works."""
    uploading, deleting = (
        LocalExportDriver(root, lease_timeout=60),
        LocalExportDriver(root, lease_timeout=60),
    )
    trees.put(deleting, one("other", "other"))
    trees.put(deleting, one("third", "third"))
    image = one()
    for content in image.blobs.values():
        uploading.upload_layer(NAME, [content])
    for lease in (root / ".local-export/leases").rglob("*"):
        if lease.is_file():
            os.utime(lease, (0, 0))
    deleting.delete(ImageRef(NAME, Tag("other")))
    before = trees.served(root)
    with pytest.raises(errors.BlobUnknown) as caught:
        uploading.put_manifest(
            NAME, image.manifest.content, image.manifest.media_type, tag=Tag("1.0")
        )
    assert set(caught.value.digests) == set(image.blobs)
    assert trees.served(root) == before
    trees.put(uploading, image)
    uploading.close()
    assert trees.tags(root, "ns/img") == ["1.0", "third"]
    assert trees.problems(root) == []
    assert not [p for p in (root / ".local-export/leases").rglob("*") if p.is_file()]


# -- lists that grow


SUBJECT = one()


def about(n: int, annotation: int = 0, artifact_type: str = "") -> images.Image:
    """A referrer of SUBJECT with an annotation of so many letters."""
    more = {"annotations": {"long": "x" * annotation}} if annotation else {}
    kind = artifact_type or f"a/b{n}"
    subject = SUBJECT.descriptor()
    return images.artifact("ns/img", None, kind, b"sbom", subject=subject, **more)


def listing(root: Path, name: str = "all") -> dict[str, dict[str, Any]]:
    """What is listed with SUBJECT, by digest."""
    path = root / "v2/ns/img/.referrers" / str(SUBJECT.digest) / name
    assert path.stat().st_size <= 4 * 1024 * 1024
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    return {d["digest"]: d for d in json.loads(path.read_bytes())["manifests"]}


HUGE = 4 * 1024 * 1024 - 2000
REFERRERS = [about(0, HUGE), about(1, HUGE), about(2, 2_000_000), about(3, 90), about(4)]


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (3, 0, 4, 2, 1)])
def test_a_referrer_with_long_annotations_shuts_no_other_out(
    driver: LocalExportDriver, root: Path, order: tuple[int, ...]
) -> None:
    """The longest annotations are left out, whoever came first, and come back when they fit."""
    trees.put(driver, SUBJECT)
    for n in order:
        trees.put(driver, REFERRERS[n])
    digests = [str(image.digest) for image in REFERRERS]
    found = listing(root)
    assert set(found) == set(digests)
    kept = [len(found[d].get("annotations", {"none": ""}).get("long", "")) for d in digests]
    assert kept == [0, 0, 2_000_000, 90, 0]
    assert [found[d].get("annotations") for d in digests[:2]] == [{}, {}]
    assert "annotations" not in found[digests[4]]
    # What a client asks for by type is not cut where it fits.
    assert len(listing(root, "a+b1")[digests[1]]["annotations"]["long"]) == HUGE
    before = trees.served(root)
    tree = Tree(root)
    verification = Verification(tree)
    assert verification.report().findings == ()
    with tree.repository_lock(NAME):
        tree.repository(NAME).refresh(thoroughly=True)
    assert trees.served(root) == before
    for n in (0, 2):
        driver.delete(ImageRef(NAME, REFERRERS[n].digest))
    assert len(listing(root)[digests[1]]["annotations"]["long"]) == HUGE
    trees.put(driver, REFERRERS[2])
    assert listing(root)[digests[1]]["annotations"] == {}
    assert len(listing(root)[digests[2]]["annotations"]["long"]) == 2_000_000


@pytest.mark.slow
def test_a_referrer_whose_type_is_no_type(driver: LocalExportDriver, root: Path) -> None:
    """An artifactType of megabytes goes the same way; RFC 6838 knows none of 256 letters."""
    trees.put(driver, SUBJECT)
    for n, letter in enumerate("ab"):
        trees.put(driver, about(n, artifact_type=f"a/{letter * HUGE}"))
    trees.put(driver, about(9))
    kinds = sorted(len(d.get("artifactType", "")) for d in listing(root).values())
    assert kinds == [0, 4, HUGE + 2]


def test_a_list_of_referrers_that_no_client_would_read(
    driver: LocalExportDriver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything of the manifest is visible, and what was there goes on."""
    trees.put(driver, SUBJECT)
    monkeypatch.setattr(manifest, "SIZE_LIMIT", 1000)
    for n in range(4):
        trees.put(driver, about(n, 50))
    last = about(4, 50)
    for content in last.blobs.values():
        driver.upload_layer(NAME, [content])
    before = trees.served(root)
    with pytest.raises(errors.StorageFull, match=rf"\.referrers/{SUBJECT.digest}/all.* 1000"):
        trees.put(driver, last)
    assert trees.served(root) == before
    trees.put(driver, about(0, 50))
    trees.put(driver, one("two", "2.0"))
    driver.delete(ImageRef(NAME, about(0, 50).digest))
    trees.put(driver, last)
    assert set(listing(root)) == {str(about(n, 50).digest) for n in (1, 2, 3, 4)}
