# SPDX-License-Identifier: Apache-2.0
"""Whose files they are: a run as root, as the tree's owner, or as somebody else."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - who has given up root may not read it any more
import multiprocessing
import os
import pwd
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Remedy, Verification
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.storage import Owner
from image_uploader_plugins.testing import images
from tests.support import commands, trees, web

SPAWN = multiprocessing.get_context("spawn")
NAME = RepositoryName("ns/img")
OWNER, STRANGER = 23456, 23457
GROUP = 34567

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="changing the user takes root")


def one(text: str, tag: str = "1.0", name: str = "ns/img") -> images.Image:
    return images.image(name, tag, [images.layer({"file": text.encode()})])


def everything(root: Path, text: str) -> None:
    """All verbs, with all kinds of files: lists, pages, children, referrers, leases, staging."""
    with LocalExportDriver(root) as driver:
        index = images.index("ns/img", "list", [one(text, ""), one(text + "2", "")])
        trees.put(driver, index)
        trees.put(driver, one(text, text))
        about = {"subject": index.descriptor()}
        trees.put(driver, images.artifact("ns/img", None, "application/x", text.encode(), **about))
        trees.put(driver, one(text, "gone", "ns/other"))
        driver.delete(ImageRef(RepositoryName("ns/other"), Tag("gone")))
    tree = Tree(root)
    list(Collector(tree).collect())
    tree.close()
    trees.mended(root)


def as_user(uid: int, function: Callable[..., str], *arguments: object) -> str:
    with SPAWN.Pool(1) as pool:
        return pool.apply(_become, (uid, function, arguments))


def _become(uid: int, function: Callable[..., str], arguments: tuple[object, ...]) -> str:
    os.setgroups([])
    os.setgid(GROUP)
    os.setuid(uid)
    return function(*arguments)


def _everything(root: Path, text: str) -> str:
    try:
        everything(root, text)
    except errors.StorageError as e:
        return f"{type(e).__name__}: {e}"
    return "done"


def owners(root: Path) -> dict[tuple[int, int], list[str]]:
    found: dict[tuple[int, int], list[str]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        found.setdefault((status.st_uid, status.st_gid), []).append(str(path.relative_to(root)))
    return found


@pytest.fixture
def theirs() -> Iterator[Path]:
    """An empty folder of OWNER's, which anybody can reach."""
    with web.open_folder() as folder:
        root = folder / "image-serve"
        root.mkdir()
        os.chown(root, OWNER, GROUP)
        root.chmod(0o755)
        yield root


@pytest.mark.slow
def test_what_root_writes_belongs_to_the_trees_owner(theirs: Path) -> None:
    everything(theirs, "root")
    driver = LocalExportDriver(theirs)
    driver.upload_layer(NAME, [b"in flight"])
    assert list((theirs / ".local-export/leases").rglob("*.*"))
    assert list((theirs / ".local-export/staging").rglob("*.lock"))
    assert list((theirs / ".local-export/locks").iterdir())
    assert {path for path in theirs.rglob("*") if path.is_symlink()}
    assert owners(theirs).keys() == {(OWNER, GROUP)}
    assert as_user(OWNER, _everything, theirs, "owner") == "done"
    driver.close()
    everything(theirs, "again")
    assert as_user(OWNER, _everything, theirs, "again2") == "done"
    assert owners(theirs).keys() == {(OWNER, GROUP)}
    assert trees.problems(theirs) == []
    assert Verification(Tree(theirs)).report().findings == ()


@pytest.mark.slow
def test_a_root_that_is_made_belongs_to_whom_the_run_does() -> None:
    with web.open_folder() as folder:
        os.chown(folder, OWNER, GROUP)
        everything(folder / "new/image-serve", "root")
        assert owners(folder / "new").keys() == {(0, 0)}


def _begin(root: Path, _: str) -> str:
    try:
        LocalExportDriver(root).close()
    except errors.StorageError as e:
        return f"{type(e).__name__}: {e}"
    return "begun"


@pytest.mark.slow
@pytest.mark.parametrize("attempt", [_begin, _everything])
@pytest.mark.parametrize("opened", [0o000, 0o777])
def test_a_third_user_is_told_what_to_do(
    theirs: Path, opened: int, attempt: Callable[[Path, str], str]
) -> None:
    """At the start; also where modes would let them write what the owner could not change then."""
    everything(theirs, "root")
    for path in [theirs, *theirs.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | opened)
    before = trees.served(theirs)
    said = as_user(STRANGER, attempt, theirs, "stranger")
    assert said.startswith(f"StorageDenied: {theirs}")
    assert f"the tree belongs to uid {OWNER}: run this as that user, not as uid {STRANGER}" in said
    assert "\n" not in said
    assert trees.served(theirs) == before
    assert owners(theirs).keys() <= {(OWNER, GROUP), (STRANGER, GROUP)}
    strange = owners(theirs).get((STRANGER, GROUP), [])
    assert not [path for path in strange if path.startswith("v2")]


def _report(root: Path) -> str:
    report = Verification(Tree(root)).report()
    return "\n".join(f"{finding} [{finding.remedy.value}]" for finding in report.findings)


PLACES = (
    "index.html",
    "v2",
    "v2/_catalog",
    "v2/ns",
    "v2/ns/img/blobs",
    "v2/ns/img/manifests",
    "v2/ns/img/tags/list",
    "v2/ns/img/.tags/root",
    "v2/ns/img/manifests/root.type-map",
    ".local-export/pool/sha256",
    ".local-export/leases",
    ".local-export/locks/{lock}",
)


@pytest.mark.slow
def test_verify_sees_what_belongs_to_others(theirs: Path) -> None:
    everything(theirs, "root")
    places = [text.format(lock=Digest.of(b"pool").encoded) for text in PLACES]
    for place in places:
        os.chown(theirs / place, STRANGER, GROUP, follow_symlinks=False)
    findings = {str(f.path): f for f in Verification(Tree(theirs)).report().findings}
    assert set(findings) == set(places)
    wanted = f"belongs to uid {STRANGER}, the tree to uid {OWNER}"
    assert {(f.problem, f.remedy) for f in findings.values()} == {(wanted, Remedy.REPAIR)}
    assert trees.mended(theirs).findings == ()
    assert owners(theirs).keys() == {(OWNER, GROUP)}
    before = trees.served(theirs)
    assert trees.mended(theirs).findings == ()
    assert trees.served(theirs) == before


@pytest.mark.slow
def test_the_owner_cannot_mend_that(theirs: Path) -> None:
    everything(theirs, "root")
    os.chown(theirs / "v2/ns/img/tags/list", 0, 0)
    report = as_user(OWNER, _report, theirs)
    assert report == (
        f"v2/ns/img/tags/list: belongs to root (uid 0), the tree to uid {OWNER}: "
        "verify --repair as root gives it back [look]"
    )
    os.chown(theirs / "v2/ns/img/manifests", 0, 0)
    said = as_user(OWNER, _everything, theirs, "owner")
    assert said.startswith(f"StorageDenied: {theirs}/v2/ns/img/manifests/")
    assert said.endswith("; if it belongs to another user, run verify --repair as root")
    assert trees.mended(theirs).findings == ()
    assert as_user(OWNER, _everything, theirs, "owner") == "done"


@pytest.mark.slow
def test_a_tree_of_roots_takes_back_what_others_have(theirs: Path) -> None:
    """The other way round: nothing that root serves may be somebody's to change."""
    os.chown(theirs, 0, 0)
    everything(theirs, "root")
    os.chown(theirs / "v2/ns/img/tags/list", OWNER, GROUP)
    (finding,) = Verification(Tree(theirs)).report().findings
    assert finding.remedy is Remedy.REPAIR
    assert trees.mended(theirs).findings == ()
    assert owners(theirs).keys() == {(0, 0)}


@pytest.mark.slow
def test_a_link_to_a_file_of_roots_is_not_given_away(theirs: Path) -> None:
    """Who can have a link to it in the tree does not get the file for that."""
    everything(theirs, "root")
    secret = theirs.parent / "secret"
    secret.write_bytes(b"mine")
    secret.chmod(0o600)
    blob = theirs / "v2/ns/img/blobs" / str(Digest.of(b"mine"))
    os.link(secret, blob)
    lock = theirs / ".local-export/locks" / Digest.of(b"pool").encoded
    lock.unlink()
    os.link(secret, lock)
    findings = {str(f.path): f for f in Verification(Tree(theirs)).report().findings}
    assert findings[str(lock.relative_to(theirs))].remedy is Remedy.LOOK
    trees.mended(theirs)
    everything(theirs, "again")
    status = secret.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o600)


@pytest.mark.slow
def test_files_of_one_inode_are_given_back_together(theirs: Path) -> None:
    everything(theirs, "root")
    for path in theirs.rglob("*"):
        os.chown(path, 0, 0, follow_symlinks=False)
    assert {f.remedy for f in Verification(Tree(theirs)).report().findings} == {Remedy.REPAIR}
    assert trees.mended(theirs).findings == ()
    assert owners(theirs).keys() == {(OWNER, GROUP)}


@pytest.mark.slow
def test_a_folder_whose_maker_was_killed_is_given_by_the_next(theirs: Path) -> None:
    everything(theirs, "root")
    (theirs / "v2/ns/new/blobs").mkdir(parents=True)
    with LocalExportDriver(theirs) as driver:
        trees.put(driver, one("new", "1.0", "ns/new"))
    assert owners(theirs).keys() == {(OWNER, GROUP)}


# -- the root's own mode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "group", "wrong"),
    [
        (0o755, GROUP, False),
        (0o775, GROUP, False),
        (0o700, 0, True),
        (0o711, 0, True),
        (0o750, 0, True),
        (0o750, GROUP, False),  # a group that the web server is in
        (0o710, GROUP, True),
        (0o757, GROUP, True),
        (0o1777, GROUP, True),
    ],
)
def test_the_mode_of_the_root(root: Path, mode: int, group: int, wrong: bool) -> None:
    everything(root, "root")
    os.chown(root, 0, group)
    for path in root.rglob("*"):
        os.chown(path, 0, group, follow_symlinks=False)
    root.chmod(mode)
    findings = [str(f) for f in Verification(Tree(root)).report().findings]
    assert findings == ([f".: its mode is {mode:04o}"] if wrong else [])
    assert trees.mended(root).findings == ()
    assert stat.S_IMODE(root.stat().st_mode) == (0o755 if wrong else mode)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["", "/staging", "/pool", "/pool/sha256", "/locks", "/leases"])
def test_the_state_is_private(root: Path, place: str) -> None:
    everything(root, "root")
    (root / f".local-export{place}").chmod(0o755)
    (finding,) = Verification(Tree(root)).report().findings
    assert str(finding) == f".local-export{place}: its mode is 0755"
    assert trees.mended(root).findings == ()
    assert stat.S_IMODE((root / f".local-export{place}").stat().st_mode) == 0o700


# -- pins


@pytest.mark.slow
def test_a_pin_that_leads_elsewhere(root: Path) -> None:
    everything(root, "root")
    one_pin, other = sorted((root / "v2/ns/img/manifests").glob(".pin-*"))[:2]
    right = one_pin.read_bytes()
    shutil.copy(other, one_pin)
    (finding,) = Verification(Tree(root)).report().findings
    assert str(finding) == f"{one_pin.relative_to(root)}: is not what it should be"
    assert trees.mended(root).findings == ()
    assert one_pin.read_bytes() == right


# -- by the command


@pytest.mark.slow
def test_the_command_says_it_in_a_line(
    theirs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    everything(theirs, "root")
    os.chown(theirs / "v2/ns/img/tags/list", 0, 0)
    config = commands.configuration(theirs, tmp_path)
    assert commands.here(config, "verify", "--repair") == 0
    out, _ = capfd.readouterr()
    wanted = f"v2/ns/img/tags/list: belongs to root (uid 0), the tree to uid {OWNER}: mended"
    assert wanted in out.splitlines()


def test_the_owner_has_a_name() -> None:
    nobody = pwd.getpwnam("nobody")
    assert str(Owner(nobody.pw_uid, nobody.pw_gid)) == f"nobody (uid {nobody.pw_uid})"
