# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks [--quick]``: prints a table; ratios are what matters.

The source is a real docker-registry on this machine, the target a directory.
Each flow runs in a process of its own, whose peak memory is its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import requests

from benchmarks import flows
from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import registry, trees

MB = 1000 * 1000


def main() -> None:
    """Run all comparisons and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data")
    arguments = parser.parse_args()
    scale = 10 if arguments.quick else 1
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        with registry.docker_registry(folder) as source:
            images = {
                f"24 layers of {20 // scale} MB": push(source, "many", 24, 20 * MB // scale),
                f"1 layer of {1000 // scale} MB": push(source, "large", 1, 1000 * MB // scale),
            }
            print(f"{'through the whole flow':24} {'seconds':>16} {'peak memory':>18}")
            for title, image in images.items():
                compare(title, source, image, folder)
    counts = [10, 1000 // scale, 5000 // scale]
    print(f"\n{'putting one manifest':24} {'ms, median of 20':>16}")
    for kind in flows.PUTTERS:
        for count in counts:
            taken = measure("put", kind, str(count))["milliseconds"]
            print(f"{kind:14} {count:5} images {taken:13.1f}")
    print(f"\n{'verifying a tree':24} {'seconds, best of 3':>18}")
    compare_verification(2000 // scale)


def compare(title: str, source: str, image: str, folder: Path) -> None:
    """Copy an image in each way, and print seconds, peak memory and how they compare."""
    results = {kind: measure("copy", kind, source, image, str(folder)) for kind in flows.COPIERS}
    for kind, result in results.items():
        print(f"{title:18} {kind:14} {result['seconds']:6.1f} {result['memory']:12.0f} MB")
    ours, theirs = results["local-export"], results["tripleo-common"]
    times = theirs["seconds"] / ours["seconds"]
    memory = theirs["memory"] / ours["memory"]
    print(f"{'':18} {'ratio':14} {times:5.1f}x {memory:14.1f}x")


def compare_verification(megabytes: int) -> None:
    """Compare on layers of 20 MB, each in two repositories, and a thousand small images."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        root = Path(name) / "tree"
        fill(root, megabytes)
        seconds: dict[str, list[float]] = {kind: [] for kind in flows.VERIFIERS}
        for _ in range(3):
            for kind, taken in seconds.items():
                taken.append(measure("verify", kind, str(root))["seconds"])
    best = {kind: min(taken) for kind, taken in seconds.items()}
    for kind, least in best.items():
        print(f"{kind:14} {megabytes:5} MB {least:17.2f}")
    print(f"{'ratio':14} {best['sha256sum'] / best['local-export']:26.2f}x")


def fill(root: Path, megabytes: int) -> None:
    """Write the tree that is verified."""
    driver = LocalExportDriver(root)
    for number in range(megabytes // 20):
        layer = images.Blob(os.urandom(20 * MB), media_types.OCI_LAYER_GZIP)
        for name in (f"large/a{number}", f"large/b{number}"):
            trees.put(driver, images.image(name, "1.0", [layer], oci=True))
    for number in range(1000):
        trees.put(driver, images.image(f"small/image{number}", "1.0", []))


def measure(*arguments: str) -> dict[str, float]:
    """Run one of flows in a process of its own; return what it measured."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.flows", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def push(source: str, name: str, layers: int, size: int) -> str:
    """Push an image of layers that do not compress, piece by piece; return its name."""
    url = f"http://{source}/v2/{name}"
    config = b'{"architecture":"amd64","os":"linux","config":{},"rootfs":{"diff_ids":[]}}'
    described = [_push(url, iter([config])), *(_push(url, noise(size)) for _ in range(layers))]
    types = ["application/vnd.docker.container.image.v1+json"]
    types += ["application/vnd.docker.image.rootfs.diff.tar.gzip"] * layers
    descriptors = [
        {"mediaType": kind, "digest": digest, "size": length}
        for kind, (digest, length) in zip(types, described, strict=True)
    ]
    content = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_MANIFEST,
        "config": descriptors[0],
        "layers": descriptors[1:],
    }
    requests.put(
        f"{url}/manifests/1.0",
        data=json.dumps(content),
        headers={"Content-Type": media_types.DOCKER_MANIFEST},
        timeout=60,
    ).raise_for_status()
    return f"{name}:1.0"


def noise(size: int) -> Iterator[bytes]:
    """Yield ``size`` random bytes, in chunks of up to 1 MB."""
    while size > 0:
        chunk = os.urandom(min(size, MB))
        size -= len(chunk)
        yield chunk


def _push(url: str, chunks: Iterator[bytes]) -> tuple[str, int]:
    hashed, length = hashlib.sha256(), 0

    def counted() -> Iterator[bytes]:
        nonlocal length
        for chunk in chunks:
            hashed.update(chunk)
            length += len(chunk)
            yield chunk

    start = requests.post(f"{url}/blobs/uploads/", timeout=60)
    sent = requests.patch(start.headers["Location"], data=counted(), timeout=600)
    digest = f"sha256:{hashed.hexdigest()}"
    requests.put(
        sent.headers["Location"], params={"digest": digest}, timeout=600
    ).raise_for_status()
    return digest, length


if __name__ == "__main__":
    main()
