# SPDX-License-Identifier: Apache-2.0
"""tripleo-common's own export, as a program.

``copy ROOT IMAGES SOURCE`` copies the images of a list; ``put ROOT SHAPE`` puts a few
small images and prints the milliseconds of each as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from tripleo_common.image import image_export, image_uploader
from tripleo_common.utils.locks import threadinglock

from benchmarks.small_images import NEW, Shape, small_image

_TARGET = "127.0.0.1:8787"
_PUTS = 5


class _Absent:
    """Answers as a web server whose tree is still empty, which the export asks for layers."""

    status_code = 404

    def head(self, *args: Any, **kwargs: Any) -> _Absent:
        return self

    def close(self) -> None:
        pass


def copy(root: str, images: str, source: str) -> None:
    """Copy images with the export, as when the target refuses pushes."""
    image_export.IMAGE_EXPORT_DIR = root
    uploader = image_uploader.PythonImageUploader
    uploader.export_registries.add(_TARGET)
    real = uploader.authenticate

    def authenticate(self: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
        return _Absent() if url.netloc == _TARGET else real(self, url, *args, **kwargs)

    uploader.authenticate = authenticate
    # It would take seconds to find out, and is not what is measured.
    image_uploader.BaseImageUploader.insecure_registries.update({source, _TARGET})
    lock = threadinglock.ThreadingLock()
    image_uploader.ImageUploadManager([images], lock=lock).upload()


def put(root: str, shape: str) -> None:
    """Put a few small images; print the milliseconds."""
    image_export.IMAGE_EXPORT_DIR = root
    taken = []
    for number in range(NEW, NEW + _PUTS):
        image = small_image(Shape(shape), number)
        url = urlparse(f"docker://{_TARGET}/{image.repository}:{image.tag}")
        config = next(iter(image.blobs.values())).decode()
        content, media_type = image.manifest.content.decode(), image.manifest.media_type
        started = time.perf_counter()
        image_export.export_manifest_config(url, content, media_type, config)
        taken.append((time.perf_counter() - started) * 1000)
    json.dump(taken, sys.stdout)


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    commands: dict[str, Callable[..., None]] = {"copy": copy, "put": put}
    commands[sys.argv[1]](*sys.argv[2:])
