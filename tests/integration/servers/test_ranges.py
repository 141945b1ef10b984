# SPDX-License-Identifier: Apache-2.0
"""Parts of blobs, as lazy snapshotters, podman's partial pulls and broken transfers ask for them.

RFC 9110, section 14.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image
from tests.support import commands, programs, proxy, raw, trees, web

pytestmark = pytest.mark.slow

# No two places of it are alike.
LAYER = Blob(random.Random(4).randbytes(4 * 1024 * 1024), media_types.OCI_LAYER_GZIP)  # noqa: S311
IMAGE: Image = images.image("ranges/large", "1.0", [LAYER], oci=True)
CONTENT, SIZE = LAYER.content, len(LAYER.content)
TARGET = f"/v2/{IMAGE.repository}/blobs/{LAYER.digest}"
LAZY = "ranges/lazy"
# Files in the image that is pulled in part; every second one is another in its next version.
FILES, FILE_SIZE = 1200, 3000

# The servers that take a field of 16 kB.
LONG: tuple[web.Kind, ...] = ("embedded", "httpd", "nginx")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            trees.put(driver, IMAGE)
        yield folder / "tree"


@pytest.fixture(scope="module")
def server(kind: web.Kind, root: Path) -> Iterator[str]:
    with web.serve(kind, root) as server:
        yield server


def ask(server: str, field: str, **more: str) -> tuple[int, Message, bytes]:
    headers = {"Range": field, **{name.replace("_", "-"): value for name, value in more.items()}}
    connection = http.client.HTTPConnection(server, timeout=raw.TIMEOUT)
    with contextlib.closing(connection):
        connection.request("GET", TARGET, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def parts(headers: Message, body: bytes) -> list[tuple[str, bytes]]:
    """Return Content-Range and content of each part, as a client reads them (RFC 9110, 14.6)."""
    match = re.fullmatch(
        r'multipart/byteranges; boundary="?([0-9A-Za-z-]+)"?', headers["Content-Type"]
    )
    assert match
    assert "Content-Range" not in headers
    delimiter = b"\r\n--" + match[1].encode()
    begin, *found, end = (b"\r\n" + body.removeprefix(b"\r\n")).split(delimiter)
    assert (begin, end) == (b"", b"--\r\n")
    read = []
    for part in found:
        head, _, content = part.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n") if line)
        assert fields[b"content-type"] == b"application/octet-stream"
        read.append((fields[b"content-range"].decode(), content))
    return read


def expected(*spans: tuple[int, int]) -> list[tuple[str, bytes]]:
    """Return the part of LAYER from each first to each last byte."""
    return [(f"bytes {a}-{b}/{SIZE}", CONTENT[a : b + 1]) for a, b in spans]


@pytest.mark.parametrize("count", [2, 150, 300, 600, 1024])
def test_many_ranges(server: str, kind: web.Kind, count: int) -> None:
    """podman begins with as many as a thousand, in ascending order."""
    if kind not in LONG:
        count = min(count, 150)
    step = SIZE // (count + 1)
    spans = [(i * step, i * step + 99) for i in range(1, count + 1)]
    status, headers, body = ask(server, "bytes=" + ",".join(f"{a}-{b}" for a, b in spans))
    assert status == 206
    assert parts(headers, body) == expected(*spans)


@pytest.mark.parametrize(
    ("field", "spans"),
    [
        ("bytes=0-0", [(0, 0)]),
        ("bytes=0-", [(0, SIZE - 1)]),
        ("bytes=-1", [(SIZE - 1, SIZE - 1)]),
        (f"bytes=-{SIZE}", [(0, SIZE - 1)]),
        (f"bytes=-{SIZE + 1}", [(0, SIZE - 1)]),
        ("bytes=-99999999999", [(0, SIZE - 1)]),
        (f"bytes=5-{SIZE * 2}", [(5, SIZE - 1)]),
    ],
)
def test_one_range(server: str, field: str, spans: list[tuple[int, int]]) -> None:
    status, headers, body = ask(server, field)
    assert (status, headers["Content-Type"]) == (206, "application/octet-stream")
    assert [(headers["Content-Range"], body)] == expected(*spans)


@pytest.mark.parametrize(
    ("field", "spans"),
    [
        ("bytes=0-0,-1", [(0, 0), (SIZE - 1, SIZE - 1)]),
        ("bytes=10-19,30-39,50-59", [(10, 19), (30, 39), (50, 59)]),
        (f"bytes=10-19,{SIZE}-,30-39", [(10, 19), (30, 39)]),
    ],
)
def test_several_ranges(server: str, field: str, spans: list[tuple[int, int]]) -> None:
    status, headers, body = ask(server, field)
    assert status == 206
    assert parts(headers, body) == expected(*spans)


def test_in_whatever_order(server: str, kind: web.Kind) -> None:
    """Apache has limits for ranges that go backwards or overlap, which ours lifts."""
    if kind == "production":
        return  # its limits are 20
    backwards = [(start, start + 9) for start in range(5000, 0, -100)]
    status, headers, body = ask(server, "bytes=" + ",".join(f"{a}-{b}" for a, b in backwards))
    assert status == 206
    assert sorted(parts(headers, body)) == sorted(expected(*backwards))
    overlapping = [(start, start + 9) for start in range(0, 500, 10)] * 2
    status, headers, body = ask(server, "bytes=" + ",".join(f"{a}-{b}" for a, b in overlapping))
    assert status == 206
    assert len(body) < SIZE // 10


@pytest.mark.parametrize("number", ["9" * 19, "9" * 40])
def test_numbers_of_any_length(server: str, kind: web.Kind, number: str) -> None:
    if kind == "nginx":
        return  # its numbers have 64 bits
    status, _, body = ask(server, f"bytes=-{number}")
    assert (status, body) == (206, CONTENT)
    assert ask(server, f"bytes=1-{number}")[2] == CONTENT[1:]
    assert ask(server, f"bytes={number}-")[0] == 416


@pytest.mark.parametrize("field", [f"bytes={SIZE}-", f"bytes={SIZE}-,{SIZE + 5}-{SIZE + 9}"])
def test_nothing_to_send(server: str, kind: web.Kind, field: str) -> None:
    status, headers, _ = ask(server, field)
    assert (status, headers["Content-Type"]) == (416, "application/json")
    if kind in ("nginx", "embedded"):
        assert headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "ranges",
    [
        *(",".join([text] * 1000) for text in ("0-", "-99999999", "0-4000000")),
        ",".join(["0-0"] * 4000),
        ",".join(f"{number}-" for number in range(1000)),
        ",".join(f"{number}-{number}" for number in range(1000, 0, -2)),
    ],
)
def test_what_it_may_cost(server: str, kind: web.Kind, ranges: str) -> None:
    """Whatever ranges are asked for, no more is sent than the content and the parts' heads."""
    status, _, body = ask(server, f"bytes={ranges}")
    assert status in (200, 206, *(() if kind in LONG else (400,)))
    assert len(body) <= SIZE + 200 * len(ranges.split(","))


def test_a_field_that_is_too_long(server: str) -> None:
    status, _, _ = raw.get(server, TARGET, Range="bytes=" + ",".join(["1-2"] * 16_000))
    assert status in (400, 431)


def test_whose_range_it_is(server: str) -> None:
    """RFC 9110, 13.1.5: ranges are of the content that the client has, or all of it is sent."""
    etag = raw.get(server, TARGET, "HEAD")[1]["ETag"]
    for known, status in ((etag, 206), ('"other"', 200)):
        assert ask(server, "bytes=1-2,5-6", If_Range=known)[0] == status


# podman with a storage of its own that pulls in part, or None where the kernel lets it not.
Pull = Callable[[str], None]


@pytest.fixture
def pull() -> Iterator[Pull]:
    podman = programs.require("podman")
    # podman takes no path of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="part-") as folder:
        config = Path(folder) / "storage.conf"
        config.write_text(
            f'[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\n'
            f'graphroot = "{folder}/root"\n[storage.options]\n'
            'pull_options = {enable_partial_images = "true", use_hard_links = "false"}\n'
        )
        environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(config)}

        def command(*arguments: str) -> None:
            subprocess.run([podman, *arguments], check=True, capture_output=True, env=environment)

        try:
            command("info")
        except subprocess.CalledProcessError as e:
            pytest.skip(f"podman has no overlay here: {e.stderr.decode()[-200:]}")
        try:
            yield lambda image: command("pull", "--quiet", "--tls-verify=false", image)
        finally:
            command("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def lazy_root() -> Iterator[Path]:
    """Two versions of an image whose layer has a list of its files at its end."""
    buildah = programs.require("buildah")
    with web.open_folder() as folder:
        root = folder / "tree"
        config = commands.configuration(root, folder)
        files = folder / "files"
        files.mkdir()
        for version in (1, 2):
            generator = random.Random(version)  # noqa: S311
            for number in range(0, FILES, version):
                (files / f"{number:05}").write_bytes(generator.randbytes(FILE_SIZE))
            layout = folder / f"layout-{version}"
            storage = ["--root", f"{folder}/b{version}", "--storage-driver", "vfs"]
            storage += ["--runroot", f"{folder}/r{version}"]
            build(buildah, storage, files, layout)
            run(*commands.line(config, "import", layout, "--as", f"{LAZY}:{version}"))
        yield root


def build(buildah: str, storage: list[str], files: Path, layout: Path) -> None:
    container = run(buildah, *storage, "from", "scratch")
    run(buildah, *storage, "add", "--quiet", container, files, "/files")
    image = run(buildah, *storage, "commit", "--quiet", "--rm", container)
    compressed = ("--compression-format", "zstd:chunked")
    run(buildah, *storage, "push", "--quiet", *compressed, image, f"oci:{layout}:x")
    run(buildah, *storage, "rmi", "--all", "--force")


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.mark.parametrize("kind", LONG)
def test_podman_fetches_what_it_lacks(kind: web.Kind, lazy_root: Path, pull: Pull) -> None:
    """podman fetches the files that are new in the next version, in hundreds of ranges."""
    with web.serve(kind, lazy_root) as server, proxy.between(server) as (address, traffic):
        pull(f"{address}/{LAZY}:1")
        first = traffic.received
        assert first > FILES * FILE_SIZE
        traffic.received, traffic.asked = 0, b""
        pull(f"{address}/{LAZY}:2")
        most = max(field.count(b"-") for field in re.findall(rb"Range: (.+)\r\n", traffic.asked))
        assert most > FILES // 4
        new = FILES // 2 * FILE_SIZE
        assert new < traffic.received < new + first // 4
