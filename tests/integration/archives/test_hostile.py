# SPDX-License-Identifier: Apache-2.0
"""Archives that mean no good, or were damaged on the way: one line, and nothing is left."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import re
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.archives import budget as budgets
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import archives, trees
from tests.support.archives import Files, bring, member

LAYER = images.layer({"file": b"good"}, oci=True)
OTHER = images.layer({"file": b"bad!"}, oci=True)
GOOD = images.image("a/good", "1.0", [LAYER], oci=True)
BAD = images.image("b/bad", "1.0", [LAYER, OTHER], oci=True)
PLAIN = images.layer({"file": b"plain"}, plain=True)
DOCKER = images.image("d/docker", "1.0", [PLAIN])
LIST = images.index("c/list", "1.0", [DOCKER])

ENTRIES = [archives.entry(GOOD, "a/good:1.0"), archives.entry(BAD, "b/bad:1.0")]
CONTENT = {
    f"blobs/sha256/{LIST.digest.encoded}": LIST.manifest.content,
    **archives.blobs([GOOD, BAD]),
}
LAYOUT = archives.layout(ENTRIES, CONTENT)
SAVED = archives.docker_archive(DOCKER, ["d/docker:1.0"], {"one": PLAIN.content})
BLOB = f"blobs/sha256/{OTHER.digest.encoded}"
MANIFEST = f"blobs/sha256/{BAD.digest.encoded}"


@dataclasses.dataclass(frozen=True)
class Case:
    """``make`` writes an archive to a path; ``refused`` are words of the error."""

    name: str
    refused: str
    make: Callable[[Path], object]

    def __str__(self) -> str:
        return self.name


def both(name: str, refused: str, files: Files) -> list[Case]:
    """Return the case as a tar and as a folder."""
    return [
        Case(f"{name} in a tar", refused, lambda path: archives.tar(path, files)),
        Case(f"{name} in a folder", refused, lambda path: archives.folder(path, files)),
    ]


def tarred(name: str, refused: str, *more: tuple[tarfile.TarInfo, bytes]) -> Case:
    """Return a case: a good layout, and more members in the tar."""
    return Case(name, refused, lambda path: archives.tar(path, LAYOUT, more))


def entries(name: str, refused: str, *listed: dict[str, Any]) -> list[Case]:
    return both(name, refused, archives.layout([ENTRIES[0], *listed], CONTENT))


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def packed(path: Path) -> bytes:
    archives.tar(path, LAYOUT)
    return path.read_bytes()


def cut(*, within: int = 0, more: bytes = b"") -> Callable[[Path], object]:
    """Return a case: a tar that is cut within its last member and goes on differently."""

    def make(path: Path) -> None:
        content = packed(path)
        with tarfile.open(path) as archive:
            last = archive.getmembers()[-1]
        end = last.offset + within if within else last.offset_data + -(-last.size // 512) * 512
        path.write_bytes(content[:end] + more)

    return make


def squeezed(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(gzip.compress(packed(path), mtime=0)))


def saved(**fields: Any) -> Files:
    listed = json.loads(SAVED["manifest.json"])
    return {**SAVED, "manifest.json": json.dumps([{**listed[0], **fields}]).encode()}


def extended(
    kind: bytes, size: int, content: bytes = b"", times: int = 1
) -> Callable[[Path], object]:
    """Return a header that announces an extended header of ``size`` bytes, several times."""
    header = tarfile.TarInfo("extension")
    header.type, header.size = kind, size
    return written((header.tobuf(tarfile.USTAR_FORMAT) + content) * times)


def everywhere(path: Path) -> None:
    """Return a global header with a name for later members (POSIX.1-2017, pax, typeflag g)."""
    with tarfile.open(path, "w", pax_headers={"path": "oci-layout"}) as archive:
        for info, content in (member(*item) for item in LAYOUT.items()):
            archive.addfile(info, io.BytesIO(content))


def negative(path: Path) -> None:
    content = bytearray(packed(path))
    content[124:136] = b"\xff" * 12  # GNU's binary size: -1
    path.write_bytes(content[:148] + b"        " + content[156:])
    header = bytearray(path.read_bytes())
    header[148:156] = b"%06o\0 " % sum(header[:512])
    path.write_bytes(header)


def linked(path: Path) -> None:
    """Make a blob of a folder a symbolic link to the same bytes elsewhere."""
    archives.folder(path, LAYOUT)
    outside = path.with_name("outside")
    (path / BLOB).rename(outside)
    (path / BLOB).symlink_to(outside)


FILES = [
    *both(
        "a blob of other bytes", "content hashes to", {**LAYOUT, BLOB: bytes(len(OTHER.content))}
    ),
    *both("a blob too short", "bytes, expected", {**LAYOUT, BLOB: OTHER.content[:-1]}),
    *both("a blob too long", "bytes, expected", {**LAYOUT, BLOB: OTHER.content + b"\0"}),
    *both(
        "another manifest",
        "content hashes to",
        {**LAYOUT, MANIFEST: b" " * len(BAD.manifest.content)},
    ),
    *both(
        "a longer manifest", "bytes, expected", {**LAYOUT, MANIFEST: BAD.manifest.content + b" "}
    ),
    *both("a manifest without end", "the limit is", {**LAYOUT, MANIFEST: bytes(5 * 1024 * 1024)}),
    *both("no JSON", "index.json is not JSON", {**LAYOUT, "index.json": b"{"}),
    *both("not UTF-8", "index.json is not JSON", {**LAYOUT, "index.json": b'"\xff"'}),
    *both("no object", "is not a JSON object", {**LAYOUT, "index.json": b"[]"}),
    *both("nested deep", "nested too deeply", {**LAYOUT, "index.json": b"[" * 100_000}),
    *both(
        "a name twice",
        "'manifests' stands twice",
        {**LAYOUT, "index.json": b'{"manifests":[],"manifests":[]}'},
    ),
    *both(
        "a name in capitals",
        "some read it as 'manifests'",
        {**LAYOUT, "index.json": b'{"schemaVersion":2,"Manifests":[]}'},
    ),
    *both(
        "a list without end",
        "the limit is",
        {**LAYOUT, "index.json": b" " * (16 * 1024 * 1024 + 1)},
    ),
    *both(
        "another version",
        "says version '9.0'",
        {**LAYOUT, "oci-layout": b'{"imageLayoutVersion":"9.0"}'},
    ),
    *both(
        "no list", "'index.json' is missing", {n: c for n, c in LAYOUT.items() if n != "index.json"}
    ),
    *both("nothing in the list", "lists no image", archives.layout([], CONTENT)),
    *both("nothing known", r"neither an OCI layout .* \(version\)$", {"file": b"content"}),
    *both(
        "a layout in a folder",
        "there is one in 'images': import that",
        {f"images/{name}": content for name, content in LAYOUT.items()},
    ),
    *both(
        "schemaVersion 1",
        "has schemaVersion 1, not 2",
        {**LAYOUT, "index.json": b'{"schemaVersion":1}'},
    ),
    *both(
        "manifests that are none",
        "no list",
        {**LAYOUT, "index.json": b'{"schemaVersion":2,"manifests":{"a":1}}'},
    ),
    *entries(
        "a digest that is a path",
        "not a sha256",
        {**ENTRIES[1], "digest": "sha256:../../../etc/passwd"},
    ),
    *entries("an entry that is none", "a descriptor must be an object", "x"),  # type: ignore[arg-type]
    *entries("a size below zero", "not a size", {**ENTRIES[1], "size": -1}),
    *entries("a wrong size", "bytes, expected", {**ENTRIES[1], "size": 5}),
    *entries("another type", "listed as", {**ENTRIES[1], "mediaType": media_types.OCI_INDEX}),
    *entries("a name that is a path", "not a repository name", archives.entry(BAD, "../../b:1.0")),
    *entries("an absolute name", "not a repository name", archives.entry(BAD, "/etc/cron.d/b:1.0")),
    *entries("a name with an escape", "not a tag", archives.entry(BAD, "b/bad:\x1b[2J")),
    *entries(
        "a repository of ours that is a path",
        "not a repository name",
        archives.entry(BAD, "../x:1", **{"org.openstack.image-uploader.repository": "../x"}),
    ),
    *entries(
        "the same name twice", "two images would be a/good:1.0", archives.entry(BAD, "a/good:1.0")
    ),
    *entries("an index without its children", "of an index", archives.entry(LIST, "c/list:1.0")),
    *entries(
        "a manifest that is not there", "holds no manifest", archives.entry(DOCKER, "d/docker:1.0")
    ),
    *entries("an image without a name", "has no full name", archives.entry(BAD)),
    *entries("an image with just a tag", "has no full name", archives.entry(BAD, "1.0")),
]

TARS = [
    tarred("a way out", "'../evil' leads out", member("../evil", b"evil")),
    tarred("a way out in the middle", "leads out", member("blobs/../../evil", b"evil")),
    tarred("an absolute way", "'/etc/evil' leads out", member("/etc/evil", b"evil")),
    tarred("an escape", "leads out of the archive, or is no name", member("\x1b[2J", b"evil")),
    tarred(
        "a symbolic link out",
        "link that leads out",
        member("a/b", type=tarfile.SYMTYPE, linkname="../../c"),
    ),
    tarred(
        "an absolute link",
        "link that leads out",
        member("a", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    ),
    tarred(
        "a hard link out", "link that leads out", member("a", type=tarfile.LNKTYPE, linkname="../c")
    ),
    tarred("a character device", "neither a file", member("a", type=tarfile.CHRTYPE, devmajor=1)),
    tarred("a block device", "neither a file", member("a", type=tarfile.BLKTYPE, devmajor=8)),
    tarred("a FIFO", "neither a file", member("a", type=tarfile.FIFOTYPE)),
    tarred("an unknown kind", "neither a file", member("a", type=b"Z")),
    tarred("a blob twice", "twice, and not the same", member(BLOB, OTHER.content[:-1] + b"x")),
    tarred("a longer blob twice", "twice, and not the same", member(BLOB, OTHER.content + b"x")),
    tarred("a list twice", "twice, and not the same", member("./index.json", b"{}")),
    tarred(
        "a file and a link of one name",
        "twice, and not the same",
        member(BLOB, type=tarfile.LNKTYPE, linkname="index.json"),
    ),
    Case(
        "links in a circle",
        "is a link to a link",
        lambda path: archives.tar(
            path,
            {n: c for n, c in LAYOUT.items() if n != BLOB},
            [
                member(BLOB, type=tarfile.SYMTYPE, linkname="x"),
                member("blobs/sha256/x", type=tarfile.SYMTYPE, linkname=OTHER.digest.encoded),
            ],
        ),
    ),
    Case("cut within a blob", "is cut off", cut(within=600)),
    Case("cut within a header", "is cut off or damaged", cut(within=100)),
    Case("without an end", "is cut off or damaged", cut()),
    Case("garbage for an end", "is cut off or damaged", cut(more=b"garbage" * 1000)),
    Case("a member of a size below zero", "not a tar archive|cut off or damaged", negative),
    Case("a header of a gibibyte", "header takes more than", extended(b"x", 1024**3)),
    Case("a name of a gibibyte", "header takes more than", extended(b"L", 1024**3)),
    Case(
        "a header of two mebibytes", "header takes more than", extended(b"x", 2**21, bytes(2**21))
    ),
    Case("a hundred names", "with more than 16 headers", extended(b"L", 1, bytes(512), times=100)),
    Case(
        "a header for all members", "has a header that says 'path' of all its members", everywhere
    ),
    Case("an empty file", "not a tar archive", written(b"")),
    Case("any bytes", "not a tar archive", written(bytes(range(256)) * 100)),
    Case("zeros", "neither an OCI layout|not a tar", written(bytes(10240))),
    Case("lz4", "is compressed with lz4: unpack it first", written(b"\x04\x22\x4d\x18rest")),
    Case("lzip", "is compressed with lzip: unpack it first", written(b"LZIP\x01rest")),
    Case("gzip cut off", "is gzip that ends too early", squeezed(lambda c: c[:-9])),
    Case("gzip with garbage", "is not intact gzip", squeezed(lambda c: c + b"garbage")),
    Case("gzip of another sum", "is not intact gzip", squeezed(lambda c: c[:-8] + bytes(8))),
    Case("gzip of nothing", "not a tar archive", written(gzip.compress(b""))),
    Case("no archive", "No such file", lambda path: None),
    Case("a link in a folder", "is no regular file", linked),
    Case(
        "a folder for a blob",
        "is no regular file",
        lambda path: archives.folder(
            path, {**{n: c for n, c in LAYOUT.items() if n != BLOB}, f"{BLOB}/x": b""}
        ),
    ),
]

DOCKERS = [
    *both("no list of images", "not what docker save writes", {"manifest.json": b"{}"}),
    *both("an image that is none", "image 1: not an object", {"manifest.json": b"[1]"}),
    *both(
        "docker's name twice",
        "'Config' stands twice",
        {"manifest.json": b'[{"Config":"a","Config":"b"}]'},
    ),
    *both("docker's name in capitals", "some read it as 'Layers'", saved(LAYERS=[])),
    *both("a config that is a path", "is not the name of a file", saved(Config="../../etc/passwd")),
    *both("an absolute config", "is not the name of a file", saved(Config="/etc/passwd")),
    *both("no config", "is not the name of a file", saved(Config=None)),
    *both(
        "a layer that is a path", "is not the name of a file", saved(Layers=["../../etc/passwd"])
    ),
    *both("a layer that is missing", "'two/layer.tar' is missing", saved(Layers=["two/layer.tar"])),
    *both(
        "a layer too many",
        "lists 2 layers, and its config names 1",
        saved(Layers=["one/layer.tar"] * 2),
    ),
    *both("layers that are no list", "'Layers' must be", saved(Layers="one/layer.tar")),
    *both("names that are no list", "'RepoTags' must be", saved(RepoTags="x:1")),
    *both("a tag that is a path", "not a repository name", saved(RepoTags=["../x:1"])),
    *both("another layer", "content hashes to", {**SAVED, "one/layer.tar": OTHER.content[2:]}),
    *both(
        "a gzip of another layer", "content hashes to", {**SAVED, "one/layer.tar": OTHER.content}
    ),
    *both("a gzip that is none", "gzip", {**SAVED, "one/layer.tar": b"\x1f\x8b\x08"}),
    *both(
        "another config",
        "content hashes to",
        {n: c.replace(b"amd64", b"arm64") if n.endswith(".json") else c for n, c in SAVED.items()},
    ),
    *both("a config without layers", "has no 'rootfs'", {**saved(Config="c"), "c": b"{}"}),
    *both("a config that is no JSON", "config is not JSON", {**saved(Config="c"), "c": b"{"}),
    *both(
        "a config with a name twice",
        "stands twice",
        {**saved(Config="c"), "c": b'{"rootfs":{"diff_ids":[]},"rootfs":{"diff_ids":[]}}'},
    ),
    *both(
        "diff_ids that are paths",
        "not a sha256",
        {**saved(Config="c"), "c": b'{"rootfs":{"diff_ids":["../../x"]}}'},
    ),
]

CASES = [*FILES, *TARS, *DOCKERS]


def state(root: Path) -> list[str]:
    """Return what is in a tree, without its locks."""
    return sorted(str(path) for path in root.rglob("*") if "locks" not in path.parts)


def test_no_two_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LocalExportDriver:
    return LocalExportDriver(tmp_path_factory.mktemp("target") / "image-serve")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused(
    target: LocalExportDriver, tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is imported, not even a good image that comes before the bad one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    root = target._storage.root
    before = state(root)
    case.make(tmp_path / "archive")
    outside = sorted(tmp_path.rglob("*"))
    with pytest.raises(errors.UploaderError) as caught:
        bring(tmp_path / "archive", target)
    message = str(caught.value)
    assert re.search(case.refused, message), message
    assert str(tmp_path / "archive") in message
    assert message.isprintable()
    assert len(message) < 1200
    assert state(root) == before
    assert sorted(tmp_path.rglob("*")) == outside


def test_these_are_good(driver: LocalExportDriver, root: Path, tmp_path: Path) -> None:
    """What the cases change in one place is accepted without the change."""
    archives.tar(tmp_path / "layout", LAYOUT, [member("x", type=tarfile.DIRTYPE)])
    assert bring(tmp_path / "layout", driver) == ["a/good:1.0", "b/bad:1.0"]
    archives.folder(tmp_path / "folder", LAYOUT)
    assert bring(tmp_path / "folder", driver) == ["a/good:1.0", "b/bad:1.0"]
    archives.tar(tmp_path / "saved", SAVED, mode="w:gz")
    assert bring(tmp_path / "saved", driver) == ["d/docker:1.0"]
    assert not trees.problems(root)


# -- what must not take memory, time or disk


@pytest.mark.slow
@pytest.mark.parametrize("place", ["archive", "layer"])
def test_a_bomb(
    target: LocalExportDriver, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "FLOOR", 4 * 1024**2)
    bomb = gzip.compress(bytes(64 * 1024**2), mtime=0)
    if place == "archive":
        (tmp_path / "archive").write_bytes(bomb)
    else:
        archives.tar(tmp_path / "archive", {**SAVED, "one/layer.tar": bomb})
    limit = max(4 * 1024**2, 100 * (tmp_path / "archive").stat().st_size)
    tracemalloc.start()
    with pytest.raises(errors.ArchiveInvalid, match=f"unpacks to more than {limit} bytes"):
        bring(tmp_path / "archive", target)
    assert tracemalloc.get_traced_memory()[1] < 16 * 1024**2
    tracemalloc.stop()


def test_a_header_that_says_it_is_a_gibibyte_is_not_read(
    target: LocalExportDriver, tmp_path: Path
) -> None:
    extended(b"x", 1024**3)(tmp_path / "archive")
    os.truncate(tmp_path / "archive", 2 * 1024**3)  # sparse: takes no space
    tracemalloc.start()
    with pytest.raises(errors.ArchiveInvalid, match="header takes more than"):
        bring(tmp_path / "archive", target)
    assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
    tracemalloc.stop()


def test_a_target_full_of_holes_names_what_it_lacks(
    target: LocalExportDriver, tmp_path: Path
) -> None:
    """All missing blobs are named, before the first image is copied."""
    files = {
        n: c
        for n, c in LAYOUT.items()
        if not n.endswith((OTHER.digest.encoded, LAYER.digest.encoded))
    }
    archives.tar(tmp_path / "archive", files)
    with pytest.raises(errors.BlobUnknown) as caught:
        bring(tmp_path / "archive", target)
    assert set(caught.value.digests) == {LAYER.digest, OTHER.digest}
    assert trees.catalog(target._storage.root) == []
