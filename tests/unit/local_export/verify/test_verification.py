# SPDX-License-Identifier: Apache-2.0
"""Each kind of damage is found, named and, where the tree can give what is lost, mended."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from image_uploader_plugins import units
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import (
    Finding,
    Kind,
    Remedy,
    Severity,
    Verification,
    repair,
)
from image_uploader_plugins.local_export.verify.contents import Contents
from image_uploader_plugins.local_export.verify.inspection import Inspection
from image_uploader_plugins.local_export.verify.soundness import Soundness
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import File
from image_uploader_plugins.storage.locks import Lock
from image_uploader_plugins.testing import images
from tests.support import legacy, trees
from tests.support.commands import Run
from tests.support.content import OTHER, SUBJECT, related
from tests.support.faults import Primitive, hooked

NAME = RepositoryName("ns/img")
LAYER = SUBJECT.manifest.layers[0].digest  # ns/copy has it, too
ONLY = OTHER.manifest.layers[0].digest  # nobody else has it
MANIFEST = f"v2/ns/img/manifests/{SUBJECT.digest}"  # ns/copy has one like it
LONELY = f"v2/ns/img/manifests/{OTHER.digest}"


def default_of_an_image(root: Path, digest: Digest) -> None:
    (root / "v2/ns/img/.defaults").mkdir(mode=0o755)
    (root / "v2/ns/img/.defaults/1.0").symlink_to(f"../manifests/{digest}")


def blob(digest: Digest, name: str = "ns/img") -> str:
    return f"v2/{name}/blobs/{digest}.gz"


def pooled(digest: Digest) -> str:
    return f".local-export/pool/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}"


def replace(path: Path, content: bytes = b"damaged") -> None:
    """Other content under the name, and under no other."""
    path.unlink()
    path.write_bytes(content)
    path.chmod(0o644)


def through_links(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"bad")


def edit_catalog(root: Path, old: bytes, new: bytes) -> None:
    path = root / "v2/_catalog"
    content = path.read_bytes()
    assert old in content
    replace(path, content.replace(old, new))


def touch(path: Path, *, age: float = 0) -> None:
    is_private = ".local-export" in path.parts
    path.parent.mkdir(0o700 if is_private else 0o755, parents=True, exist_ok=True)
    path.write_bytes(b"")
    path.chmod(0o644)
    os.utime(path, (time.time() - age,) * 2)


def second_link(path: Path) -> None:
    os.link(path, path.parents[4] / "backup")


# What is done to the tree, where that is found, in which words, and what helps.
MENDED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a copy that differs": (lambda r: replace(r / blob(LAYER)), blob(LAYER), "content hashes to"),
    "a blob deleted": (
        lambda r: (r / blob(LAYER)).unlink(),
        blob(LAYER).removesuffix(".gz"),
        "is missing",
    ),
    "the pool's copy that differs": (
        lambda r: replace(r / pooled(LAYER)),
        pooled(LAYER),
        "content hashes to",
    ),
    "a blob not in the pool": (
        lambda r: (r / pooled(LAYER)).unlink(),
        blob(LAYER),
        "is not in the pool",
    ),
    "a blob that is a copy": (
        lambda r: replace(r / blob(LAYER), (r / pooled(LAYER)).read_bytes()),
        blob(LAYER),
        "is a copy of what the pool has",
    ),
    "a manifest that another repository has": (
        lambda r: replace(r / MANIFEST / "index.json"),
        f"{MANIFEST}/index.json",
        "content hashes to",
    ),
    "no headers": (
        lambda r: (r / MANIFEST / ".htaccess").unlink(),
        f"{MANIFEST}/.htaccess",
        "is missing",
    ),
    "other headers": (
        lambda r: replace(r / MANIFEST / ".htaccess"),
        f"{MANIFEST}/.htaccess",
        "is not what it should be",
    ),
    "no typed name": (
        lambda r: (r / MANIFEST / "manifest.docker-v2").unlink(),
        f"{MANIFEST}/manifest.docker-v2",
        "is missing",
    ),
    "another typed name": (
        lambda r: touch(r / MANIFEST / "manifest.oci-index"),
        f"{MANIFEST}/manifest.oci-index",
        "should not be there",
    ),
    "no tag link": (
        lambda r: (r / "v2/ns/img/.tags/1.0").unlink(),
        "v2/ns/img/.tags/1.0",
        "is missing",
    ),
    "no default link": (
        lambda r: (r / "v2/multi/oci/.defaults/1.0").unlink(),
        "v2/multi/oci/.defaults/1.0",
        "is missing",
    ),
    "a link of no tag": (
        lambda r: (r / "v2/multi/oci/.defaults/gone").symlink_to("../manifests/gone"),
        "v2/multi/oci/.defaults/gone",
        "should not be there",
    ),
    "a default of an image, another one": (
        lambda r: default_of_an_image(r, OTHER.digest),
        "v2/ns/img/.defaults/1.0",
        "should not be there",
    ),
    "a default of an image": (
        lambda r: default_of_an_image(r, SUBJECT.digest),
        "v2/ns/img/.defaults/1.0",
        "a link of earlier versions, which no client needs",
    ),
    "a torn list": (
        lambda r: replace(r / "v2/ns/img/tags/list", b'{"na'),
        "v2/ns/img/tags/list",
        "is not what it should be",
    ),
    "a torn page": (
        lambda r: replace(r / "v2/ns/img/.pages/1/.end=", b"{"),
        "v2/ns/img/.pages/1/.end=",
        "is not what it should be",
    ),
    "a page of no tag": (
        lambda r: touch(r / "v2/ns/img/.pages/1/gone="),
        "v2/ns/img/.pages/1/gone=",
        "should not be there",
    ),
    "no referrers": (
        lambda r: shutil.rmtree(r / "v2/ns/img/.referrers"),
        f"v2/ns/img/.referrers/{SUBJECT.digest}/all",
        "is missing",
    ),
    "a torn catalog": (lambda r: replace(r / "v2/_catalog", b"{"), "v2/_catalog", "is not what"),
    "a catalog that lacks one": (
        lambda r: edit_catalog(r, b',"ns/img"', b""),
        "v2/_catalog",
        "lacks ns/img",
    ),
    "a catalog that lists one too many": (
        lambda r: edit_catalog(r, b"]", b',"zz"]'),
        "v2/_catalog",
        "lists 'zz', which is not there",
    ),
    "no answer to /v2/": (lambda r: (r / "v2/index.json").unlink(), "v2/index.json", "is missing"),
    "an older .htaccess": (lambda r: replace(r / "v2/.htaccess"), "v2/.htaccess", "is not what"),
    "a file nobody can read": (
        lambda r: (r / blob(LAYER)).chmod(0o600),
        blob(LAYER),
        "mode is 0600",
    ),
    "a file anybody can write": (
        lambda r: (r / "v2/_catalog").chmod(0o666),
        "v2/_catalog",
        "mode is 0666",
    ),
    "a folder nobody can enter": (lambda r: (r / "v2/ns").chmod(0o700), "v2/ns", "mode is 0700"),
    "a state that anybody can read": (
        lambda r: (r / ".local-export/pool").chmod(0o755),
        ".local-export/pool",
        "mode is 0755",
    ),
    "a temporary file among blobs": (
        lambda r: touch(r / f"v2/ns/img/blobs/.{'0' * 32}"),
        f"v2/ns/img/blobs/.{'0' * 32}",
        "temporary file",
    ),
    "a temporary file of a process that ended": (
        lambda r: touch(r / ".local-export/staging/ended/1"),
        ".local-export/staging/ended",
        "left by a process that has ended",
    ),
    "a lease that ran out": (
        lambda r: touch(r / f".local-export/leases/x/{LAYER}.1", age=10**6),
        f".local-export/leases/x/{LAYER}.1",
        "a lease that ran out",
    ),
    "a mark that stayed": (
        lambda r: (r / ".local-export/unfinished" / layout_key("ns/img")).write_text("ns/img"),
        ".local-export/unfinished/{key}",
        "an operation on ns/img was cut short",
    ),
    "a blob of no manifest": (
        lambda r: os.link(r / blob(LAYER), r / blob(LAYER, "base")),
        blob(LAYER, "base"),
        "no manifest needs it",
    ),
    "a manifest of no name": (
        lambda r: shutil.copytree(r / LONELY, r / LONELY.replace("ns/img", "ns/copy")),
        LONELY.replace("ns/img", "ns/copy"),
        "neither a tag, an index nor a subject",
    ),
    "a pooled blob of no repository": (
        lambda r: touch(r / pooled(Digest.of(b""))),
        pooled(Digest.of(b"")),
        "no repository links to it",
    ),
}


# For these no person is needed.
HARMLESS = {
    "a blob not in the pool": Kind.UNPOOLED,
    "a blob that is a copy": Kind.UNPOOLED,
    "a temporary file among blobs": Kind.TEMPORARY,
    "a temporary file of a process that ended": Kind.UNNEEDED,
    "a lease that ran out": Kind.UNNEEDED,
    "a mark that stayed": Kind.UNFINISHED,
    "a blob of no manifest": Kind.UNNEEDED,
    "a manifest of no name": Kind.UNNEEDED,
    "a pooled blob of no repository": Kind.UNNEEDED,
    "a default of an image": Kind.UNNEEDED,
}


def layout_key(name: str) -> str:
    import hashlib

    return hashlib.sha256(name.encode()).hexdigest()


def state(root: Path) -> dict[str, object]:
    """Files and links with modes and numbers of names, but no leases and locks."""
    found: dict[str, object] = dict(trees.served(root))
    for path in (root, *root.rglob("*")):
        name = str(path.relative_to(root))
        private = name.startswith(".local-export/") and path.is_dir()
        if path.is_symlink() or private or "/leases/" in name or "/locks/" in name:
            continue
        status = path.stat()
        found[f"mode of {name}"] = status.st_mode
        if path.is_file():
            found[f"links of {name}"] = status.st_nlink
    return found


def test_a_tree_of_everything_is_well(filled: Path) -> None:
    before = state(filled)
    report = Verification(Tree(filled)).report()
    assert report.findings == ()
    parts = [part for image in related() for part in image.walk()]
    assert report.repositories == len({part.repository for part in parts})
    assert report.manifests == len({(part.repository, part.digest) for part in parts})
    assert report.blobs == len({digest for part in parts for digest in part.blobs})
    assert report.bytes_read == sum(
        {digest: len(content) for part in parts for digest, content in part.blobs.items()}.values()
    )
    assert state(filled) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", MENDED)
def test_damage_is_found_and_mended(filled: Path, name: str) -> None:
    before = state(filled)
    damage, where, problem = MENDED[name]
    damage(filled)
    damaged = state(filled)
    tree = Tree(filled)
    verification = Verification(tree)
    report = verification.report()
    assert state(filled) == damaged, "looking changes nothing"
    where = where.format(key=layout_key("ns/img"))
    found = {str(finding.path): finding for finding in report.findings}
    assert problem in found[where].problem, report.findings
    assert {finding.remedy for finding in report.findings} == {Remedy.REPAIR}, report.findings
    if name in HARMLESS:
        assert {finding.kind for finding in report.findings} == {HARMLESS[name]}
        assert report.damage() == ()
    else:
        assert found[where] in report.damage()
    assert repair(verification, report).findings == ()
    tree.close()
    assert Verification(Tree(filled)).report().findings == ()
    assert state(filled) == before


def test_links_for_numbers_of_earlier_versions_do_no_harm(filled: Path) -> None:
    before = state(filled)
    link = filled / "v2/ns/img/.pages/.few/137"
    link.symlink_to("../1")
    assert Verification(Tree(filled)).report().findings == ()
    trees.mended(filled)
    assert state(filled) == before


def findings(root: Path, *names: str) -> dict[str, tuple[str, Remedy, tuple[str, ...]]]:
    chosen = [RepositoryName(name) for name in names] or None
    report = Verification(Tree(root), chosen).report()
    # Of several at one path, the one that takes most.
    by_effort = sorted(report.findings, key=lambda f: list(Remedy).index(f.remedy))
    return {str(f.path): (f.problem, f.remedy, f.images) for f in by_effort}


def mend(root: Path) -> dict[str, tuple[str, Remedy, tuple[str, ...]]]:
    trees.mended(root)
    return findings(root)


@pytest.mark.slow
def test_damage_through_links_reaches_all_and_is_removed_from_all(filled: Path) -> None:
    through_links(filled / pooled(LAYER))
    found = findings(filled)
    assert set(found) == {pooled(LAYER), blob(LAYER), blob(LAYER, "ns/copy")}
    assert {remedy for _, remedy, _ in found.values()} == {Remedy.FETCH}
    assert found[blob(LAYER)][2] == ("ns/img:1.0",)
    left = mend(filled)
    where = {blob(LAYER).removesuffix(".gz"), blob(LAYER, "ns/copy").removesuffix(".gz")}
    assert {path: problem for path, (problem, _, _) in left.items()} == dict.fromkeys(
        where, "is missing"
    )
    assert not list(filled.rglob(f"*{LAYER.encoded}*"))
    with LocalExportDriver(filled) as driver:
        trees.put(driver, SUBJECT)
        driver.mount_layers(RepositoryName("ns/copy"), trees.described(LAYER))
        trees.put(driver, related()[-1])
    assert findings(filled) == {}


def test_an_image_is_named_by_the_tag_of_the_index_that_lists_it(filled: Path) -> None:
    index = next(image for image in related() if image.children)
    child = index.children[1].manifest.layers[1].digest
    through_links(filled / blob(child, str(index.repository)))
    found = findings(filled)[blob(child, str(index.repository))]
    assert found[1:] == (Remedy.FETCH, (f"{index.repository}:{index.tag}",))


def test_a_missing_child_is_missed(filled: Path) -> None:
    index = next(image for image in related() if image.children)
    child = f"v2/{index.repository}/manifests/{index.children[1].digest}"
    shutil.rmtree(filled / child)
    expected = (
        "is missing, and an index lists it",
        Remedy.FETCH,
        (f"{index.repository}:{index.tag}",),
    )
    assert findings(filled)[f"{child}/index.json"] == expected


@pytest.mark.slow
def test_a_damaged_manifest_keeps_what_it_may_need(filled: Path) -> None:
    for name in ("index.json", "manifest.docker-v2"):
        replace(filled / LONELY / name, b"{")
    left = mend(filled)
    assert left[f"{LONELY}/index.json"][1:] == (Remedy.FETCH, ("ns/img:2.0",))
    assert (filled / blob(ONLY)).exists()
    with LocalExportDriver(filled) as driver:
        trees.put(driver, OTHER)
    assert findings(filled) == {}


@pytest.mark.slow
def test_a_tag_that_leads_nowhere(filled: Path) -> None:
    shutil.rmtree(filled / LONELY)
    found = findings(filled)
    path = "v2/ns/img/manifests/2.0.type-map"
    assert found[path] == (
        f"leads to {OTHER.digest}, which is missing",
        Remedy.FETCH,
        ("ns/img:2.0",),
    )
    type_map = filled / path
    replace(type_map, b"URI: 2.0\n\nContent-Type: text/html\nURI: ../../etc/passwd/index.json\n\n")
    assert "leads to" in findings(filled)[path][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "where", "kind"),
    [
        (lambda r: touch(r / "v2/ns/img/blobs/README"), "v2/ns/img/blobs/README", Kind.STRANGER),
        (lambda r: (r / "v2/ns/img/blobs/sub").mkdir(), "v2/ns/img/blobs/sub", Kind.STRANGER),
        (
            lambda r: touch(r / ".local-export/pool/sha256/00/x"),
            ".local-export/pool/sha256/00/x",
            Kind.STATE,
        ),
        (lambda r: touch(r / ".local-export/mine"), ".local-export/mine", Kind.STATE),
        (lambda r: os.link(r / pooled(LAYER), r / "backup"), pooled(LAYER), Kind.LINKED),
        (lambda r: (r / "v2/ns/img/.tags/.mine").mkdir(), "v2/ns/img/.tags/.mine", Kind.STRANGER),
    ],
)
def test_what_is_not_ours_is_told_and_left_alone(
    filled: Path, plant: Callable[[Path], object], where: str, kind: Kind
) -> None:
    plant(filled)
    assert findings(filled)[where][1] is Remedy.LOOK
    (finding,) = Verification(Tree(filled)).report().findings
    assert (finding.kind, str(finding.path)) == (kind, where)
    assert where in mend(filled)
    assert (filled / where).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        f"v2/ns/img/blobs/{LAYER}.gz",
        f"{MANIFEST}/index.json",
        MANIFEST,
        "v2/ns/img/manifests",
        "v2/ns/img/blobs",
        "v2/ns/img/.pages",
        "v2/ns",
    ],
)
def test_a_symbolic_link_in_our_place(filled: Path, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    (filled / place).rename(outside)
    (filled / place).symlink_to(outside)
    found = [problem for problem, _, _ in findings(filled).values()]
    assert any("symbolic link" in problem or "not there" in problem for problem in found)
    mend(filled)
    assert outside.exists()


@pytest.mark.slow
def test_a_disk_that_cannot_read(filled: Path) -> None:
    bad = (filled / pooled(LAYER)).stat().st_ino

    def read(primitive: Primitive) -> Any:
        if primitive.function is os.read and os.fstat(primitive.args[0]).st_ino == bad:
            raise OSError(5, "Input/output error")
        return primitive()

    with hooked(read):
        assert findings(filled)[blob(LAYER)][0] == "could not be read: Input/output error"
    assert findings(filled) == {}


@pytest.mark.slow
def test_an_upload_under_way_is_no_damage(filled: Path) -> None:
    late = images.image("ns/late", "1.0", [images.layer({"late": b"late"})])
    content = late.blobs[late.manifest.layers[0].digest]

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(content), 50):
            yield content[start : start + 50]
            assert findings(filled) == {}

    with LocalExportDriver(filled) as driver:
        driver.upload_layer(late.repository, chunks())
        assert findings(filled) == {}
        assert mend(filled) == {}
        trees.put(driver, late)
    assert findings(filled) == {}


def test_a_put_half_done_is_no_damage(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content has been read, and a put has its mark and not yet its tag: verify waits for it."""
    halfway, go_on = threading.Event(), threading.Event()
    lock, list_in_catalog, read = Tree.repository_lock, Tree.list_in_catalog, Contents.read
    late = images.image("ns/img", "3.0", [images.layer({"late": b"late"})])

    def put() -> None:
        with LocalExportDriver(filled) as driver:
            trees.put(driver, late)

    def stop(self: Tree, name: RepositoryName, *, listed: bool) -> None:
        halfway.set()
        go_on.wait(60)
        list_in_catalog(self, name, listed=listed)

    def ask(self: Tree, name: RepositoryName) -> AbstractContextManager[Lock]:
        if threading.current_thread() is threading.main_thread() and halfway.is_set():
            go_on.set()
        return lock(self, name)

    writer = threading.Thread(target=put)

    def read_and_put(self: Contents, files: Iterable[tuple[Digest, File]]) -> None:
        read(self, files)
        if halfway.is_set():
            return  # what the pool lacks is read later
        monkeypatch.setattr(Tree, "list_in_catalog", stop)
        writer.start()
        assert halfway.wait(60)
        assert list((filled / ".local-export/unfinished").iterdir())

    monkeypatch.setattr(Tree, "repository_lock", ask)
    monkeypatch.setattr(Contents, "read", read_and_put)
    try:
        assert Verification(Tree(filled)).report().findings == ()
    finally:
        go_on.set()
        writer.join()
    assert trees.tags(filled, "ns/img") == ["1.0", "2.0", "3.0"]


@pytest.mark.parametrize("name", ["ns/img", "ns/unlocked"])
def test_without_a_lock_a_problem_must_be_there_twice(
    filled: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with LocalExportDriver(filled) as driver:
        trees.put(driver, images.image(name, "3.0", [images.layer({"f": b"x"})]))
    if name == "ns/unlocked":
        lock = f"repository {name}".encode()
        (filled / ".local-export/locks" / Digest.of(lock).encoded).unlink()
    looks = []
    problem = Finding(PurePosixPath("v2/x"), "comes", Kind.VIEW, Remedy.REPAIR)
    stays = Finding(PurePosixPath("v2/y"), "stays", Kind.VIEW, Remedy.REPAIR)

    def found(self: Inspection) -> Iterator[Finding]:
        looks.append(self)
        yield from [problem, stays] if len(looks) == 1 else [stays]

    monkeypatch.setattr(Soundness, "manifests", lambda _: None)
    monkeypatch.setattr(Inspection, "findings", found)
    report = Verification(Tree(filled, look=True), [RepositoryName(name)]).report()
    if name == "ns/unlocked":
        assert (len(looks), report.findings) == (2, (stays,))
    else:
        assert (len(looks), report.findings) == (1, (problem, stays))


@pytest.mark.slow
def test_a_size_that_a_manifest_tells_wrong(filled: Path) -> None:
    """Other tools took manifests in without looking; which is right is for people to say."""
    image = images.image("ns/wrong", "1.0", [images.layer({"file": b"one"})])
    fields = json.loads(image.manifest.content)
    fields["layers"][0]["size"] += 1
    content = Manifest.parse(json.dumps(fields).encode(), image.manifest.media_type)
    legacy.write_image(filled, dataclasses.replace(image, manifest=content), "1.0")
    mend(filled)
    size = len(image.blobs[LAYER])
    assert findings(filled)[blob(LAYER, "ns/wrong")] == (
        f"has {size} bytes, and a manifest says {size + 1}",
        Remedy.LOOK,
        ("ns/wrong:1.0",),
    )


def test_some_repositories(filled: Path) -> None:
    (filled / "v2/ns/img/tags/list").unlink()
    (filled / "v2/base/tags/list").unlink()
    assert set(findings(filled, "ns/img")) == {"v2/ns/img/tags/list"}
    assert set(findings(filled, "base", "ns/copy")) == {"v2/base/tags/list"}


@pytest.mark.slow
def test_what_a_host_wrote_needs_one_repair(root: Path) -> None:
    """A tree of tripleo-common: legacy tags, layers in no pool, lists of its own form."""
    image, index = images.image("ns/img", "old", [images.layer({"f": b"x"})]), images.corpus()[-2]
    for part in (image, index):
        legacy.write_image(root, part, str(part.tag))
    (root / "v2/ns/img/manifests/old.type-map").unlink()
    legacy.write_symlink_tag(root, image, "old")
    legacy.write_lists(root, {"ns/img": ["old"], "multi/docker": ["1.0"]})
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    found = findings(root)
    assert found["v2/ns/img/manifests/old.type-map"][0] == "is missing"
    assert {remedy for _, remedy, _ in found.values()} == {Remedy.REPAIR}
    assert mend(root) == {}
    assert trees.problems(root) == []
    with LocalExportDriver(root):
        assert findings(root) == {}


# -- the command


def test_the_command_says_that_all_is_well(filled: Path, run: Run) -> None:
    status, output = run("verify").both
    assert (status, output.count("\n")) == (0, 1)
    assert output.startswith("All is well: 9 repositories")


@pytest.mark.slow
def test_the_command_names_what_and_where(filled: Path, run: Run) -> None:
    through_links(filled / blob(ONLY))
    (filled / "v2/ns/img/.tags/1.0").unlink()
    status, output = run("verify").both
    assert status == 1
    lines = output.splitlines()
    assert "v2/ns/img/.tags/1.0: is missing: verify --repair mends it" in lines
    assert any(
        line.startswith(f"{blob(ONLY)}: its content hashes to sha256:")
        and line.endswith("(ns/img:2.0): must be fetched again")
        for line in lines
    )
    assert lines[-1] == "Fetch again, with image-uploader upload: ns/img:2.0"
    status, output = run("verify", "--repair").both
    assert status == 1
    lines = output.splitlines()
    assert "v2/ns/img/.tags/1.0: is missing: mended" in lines
    assert any(line.startswith(blob(ONLY)) and line.endswith(": removed") for line in lines)
    missing = blob(ONLY).removesuffix(".gz")
    assert f"{missing}: is missing (ns/img:2.0): must be fetched again" in lines


@pytest.mark.slow
def test_the_command_as_json(filled: Path, run: Run) -> None:
    (filled / "v2/ns/img/.tags/1.0").unlink()
    status, output = run("verify", "--json", "ns/img").both
    result = json.loads(output)
    assert (status, result["ok"], result["repositories"]) == (1, False, 1)
    assert result["findings"] == [
        {
            "path": "v2/ns/img/.tags/1.0",
            "problem": "is missing",
            "severity": "damage",
            "kind": "view",
            "remedy": "repair",
            "images": [],
        }
    ]
    status, output = run("verify", "--json", "--repair").both
    result = json.loads(output)
    assert (status, result["ok"], result["findings"]) == (0, True, [])
    assert [mended["path"] for mended in result["mended"]] == ["v2/ns/img/.tags/1.0"]


def move_a_tag(root: Path) -> None:
    """What a nightly run does to a tag such as current-tripleo."""
    moved = images.image("ns/img", "2.0", [images.layer({"new": b"new"})])
    with LocalExportDriver(root) as driver:
        trees.put(driver, moved)


def test_the_command_counts_what_needs_nobody(filled: Path, tmp_path: Path, run: Run) -> None:
    move_a_tag(filled)
    assert run("export", tmp_path / "carried").status == 0
    size = len(OTHER.manifest.content) + sum(map(len, OTHER.blobs.values()))
    status, output = run("verify").both
    assert status == 0
    garbage, links, last = output.splitlines()
    assert garbage == (
        f"2 things that nothing needs, {units.size(size)}: removed by gc (--all lists them)"
    )
    linked = len(list((filled / ".local-export/pool").rglob("*/??/*"))) - 2
    assert links == (
        f"{linked} blobs with a link outside the tree, as export makes them: left alone "
        "(--all lists them)"
    )
    assert last.startswith("All is well: 9 repositories")
    every = run("verify", "--all")
    assert (every.status, every.out.count("\n")) == (0, 2 + linked + 1)
    assert f"{LONELY}: neither a tag, an index nor a subject leads to it: " in every.out
    strict = run("verify", "--strict")
    assert strict.status == 1
    assert strict.out.splitlines()[:-1] == every.out.splitlines()[:-1]
    assert strict.out.splitlines()[-1].startswith(f"{2 + linked} findings: 9 repositories")
    result = json.loads(run("verify", "--json").out)
    assert result["ok"]
    assert {(f["severity"], f["kind"]) for f in result["findings"]} == {
        ("garbage", "unneeded"),
        ("note", "linked"),
    }
    assert len(result["findings"]) == 2 + linked
    strict = run("verify", "--json", "--strict")
    assert (strict.status, json.loads(strict.out)["ok"]) == (1, False)
    assert run("verify", "--repair").status == 0
    kinds = {finding.kind for finding in Verification(Tree(filled)).report().findings}
    assert kinds == {Kind.LINKED}


def test_the_command_shows_some_of_many_damages(filled: Path, run: Run) -> None:
    blobs = [path for path in (filled / "v2").rglob("blobs/*") if path.is_file()]
    for path in blobs:
        path.chmod(0o600)
    paths = {str(f.path) for f in Verification(Tree(filled)).report().damage()}
    assert len(paths) > 12
    (filled / "v2/_catalog").unlink()
    status, output = run("verify").both
    assert status == 1
    lines = output.splitlines()
    assert sum(": its mode is 0600: " in line for line in lines) == 10
    assert f"... and {len(paths) - 10} more of these (--all lists them)" in lines
    assert "v2/_catalog: is not what it should be: verify --repair mends it" in lines
    every = run("verify", "--all").out.splitlines()
    assert {line.partition(": its mode is ")[0] for line in every} > paths


def test_every_kind_has_a_word_of_its_own() -> None:
    assert len({kind.word for kind in Kind}) == len(Kind)
    assert Finding(PurePosixPath("x"), "", Kind.MISSING, Remedy.FETCH).severity is Severity.DAMAGE


def test_errors_of_the_command_are_one_line(root: Path, run: Run, config: Path) -> None:
    told = f"ERROR: no registry in {root} ([local_export] root in {config})\n"
    assert run("verify").both == (1, told)
    assert not root.exists()
    LocalExportDriver(root)
    assert run("verify", "no/such").both == (1, "ERROR: no such repository: no/such\n")
    result = run("verify", "../x")
    assert result.status == 2
    assert result.err.endswith("argument REPOSITORY: not a repository name: '../x'\n")
