# SPDX-License-Identifier: Apache-2.0
"""One flow, measured in the process that runs it; prints a JSON object."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml
from tripleo_common.image import image_export, image_uploader
from tripleo_common.utils.locks import threadinglock

from image_uploader_plugins import tripleo
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.testing import images

_REPEATS = 20
_TARGET = "127.0.0.1:8787"


def copy_ours(source: str, image: str, folder: Path) -> None:
    """Copy with the plugin, into a tree."""
    manager = _manager(source, image, folder, "local-export")
    with LocalExportDriver(folder / "tree") as driver:
        tripleo.register(manager, driver)
        manager.upload()


def copy_theirs(source: str, image: str, folder: Path) -> None:
    """Copy with tripleo-common's export, as when the target refuses pushes."""
    image_export.IMAGE_EXPORT_DIR = str(folder / "tree")
    uploader = image_uploader.PythonImageUploader
    uploader.export_registries.add(_TARGET)
    # Stands for the web server that it asks before each layer.
    real = image_uploader.PythonImageUploader.authenticate

    class Absent:
        """Answers as a server whose tree is still empty."""

        status_code = 404

        def head(self, *args: Any, **kwargs: Any) -> Absent:
            return self

        def close(self) -> None:
            pass

    def authenticate(self: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
        return Absent() if url.netloc == _TARGET else real(self, url, *args, **kwargs)

    uploader.authenticate = authenticate
    _manager(source, image, folder, "python").upload()


def _manager(source: str, image: str, folder: Path, uploader: str) -> Any:
    file = folder / "images.yaml"
    entry = {"imagename": f"{source}/{image}", "push_destination": _TARGET, "uploader": uploader}
    file.write_text(yaml.safe_dump({"container_images": [entry]}))
    # It would take seconds to find out, and is not what is measured.
    image_uploader.BaseImageUploader.insecure_registries.update({source, _TARGET})
    lock = threadinglock.ThreadingLock()
    return image_uploader.ImageUploadManager([str(file)], lock=lock)


def put_ours(folder: Path) -> Callable[[int], None]:
    """Return what puts the image of a number into a tree of local-export."""
    driver = LocalExportDriver(folder / "tree")

    def put(number: int) -> None:
        image = images.image(f"ns/image{number}", "1.0", [])
        content, media_type = image.manifest.content, image.manifest.media_type
        config = next(iter(image.blobs.values()))
        driver.put_manifest(image.repository, content, media_type, tag=image.tag, config=config)

    return put


def put_theirs(folder: Path) -> Callable[[int], None]:
    """Return what puts the image of a number where tripleo-common's export does."""
    image_export.IMAGE_EXPORT_DIR = str(folder / "tree")

    def put(number: int) -> None:
        image = images.image(f"ns/image{number}", "1.0", [])
        url = urlparse(f"docker://{_TARGET}/{image.repository}:{image.tag}")
        config = next(iter(image.blobs.values())).decode()
        image_export.export_manifest_config(
            url, image.manifest.content.decode(), image.manifest.media_type, config
        )

    return put


def verify_ours(root: Path) -> None:
    """Verify a tree; raises RuntimeError for any finding."""
    report = Verification(Tree(root)).report()
    if report.findings:
        raise RuntimeError(f"verify found {report.findings[0]}")


def verify_coreutils(root: Path) -> None:
    """Do what an administrator does without it: sha256sum over the pool, on all cores."""
    files = [str(path) for path in (root / layout.POOL).rglob("*") if path.is_file()]
    subprocess.run(  # noqa: S603
        ["xargs", "-0", "-n1", f"-P{os.cpu_count()}", "sha256sum"],  # noqa: S607
        input="\0".join(files),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )


COPIERS = {"local-export": copy_ours, "tripleo-common": copy_theirs}
PUTTERS = {"local-export": put_ours, "tripleo-common": put_theirs}
VERIFIERS = {"local-export": verify_ours, "sha256sum": verify_coreutils}


def copy(kind: str, source: str, image: str, folder: str) -> dict[str, float]:
    """Copy an image; return the seconds, and the peak memory in MB."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        started = time.perf_counter()
        COPIERS[kind](source, image, Path(own))
        seconds = time.perf_counter() - started
        found = [path for path in Path(own).rglob("*.gz") if path.is_file()]
        found += [path for path in Path(own).rglob("blobs/sha256:*") if path.is_file()]
        if not found:
            raise RuntimeError(f"{kind} copied nothing")
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "memory": kilobytes / 1000}


def put(kind: str, count: str) -> dict[str, float]:
    """Put a few images beside ``count`` others; return the milliseconds that one takes."""
    with tempfile.TemporaryDirectory() as own:
        one = PUTTERS[kind](Path(own))
        if kind == "tripleo-common":
            # Filling its tree by its own means takes time in the square of the count.
            ours = PUTTERS["local-export"](Path(own))
            for number in range(int(count)):
                ours(number)
        else:
            for number in range(int(count)):
                one(number)
        taken = []
        for number in range(int(count), int(count) + _REPEATS):
            started = time.perf_counter()
            one(number)
            taken.append(time.perf_counter() - started)
    return {"milliseconds": statistics.median(taken) * 1000}


def verify(kind: str, root: str) -> dict[str, float]:
    """Verify a tree; return the seconds."""
    started = time.perf_counter()
    VERIFIERS[kind](Path(root))
    return {"seconds": time.perf_counter() - started}


FLOWS: dict[str, Callable[..., dict[str, float]]] = {"copy": copy, "put": put, "verify": verify}

if __name__ == "__main__":
    json.dump(FLOWS[sys.argv[1]](*sys.argv[2:]), sys.stdout)
