# SPDX-License-Identifier: Apache-2.0
"""The contenders that copy images from a registry, each as its users would run it."""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks import programs, servers, template
from benchmarks.data import Pushed
from benchmarks.measurement import Contender, MeasurementError, measure
from benchmarks.results import Figures
from image_uploader_plugins import media_types

TARGET = "127.0.0.1:8787"
"""Where the tree would be served; nothing is sent there."""

UPLOAD = "image-uploader upload"
UPLOAD_ALONE = "image-uploader upload --no-referrers"
SYNC = "image-uploader sync"
CURLS = "8 curl, sha256sum, sync"
STREAM = "curl, tee, sha256sum, sync"

_CONNECTIONS = 8


class Copiers:
    """Contenders that copy ``images`` from the registry at ``source``."""

    def __init__(self, source: str, images: Sequence[Pushed]) -> None:
        self._source = source
        self._images = images

    def upload(self) -> Contender:
        """Return ``image-uploader upload`` with a list of the images."""
        return Contender(UPLOAD, self.run_upload, is_ours=True)

    def upload_alone(self) -> Contender:
        """Return ``upload`` that looks for no signatures, as no other contender does."""
        return Contender(
            UPLOAD_ALONE, functools.partial(self.run_upload, signatures=False), is_ours=True
        )

    def run_upload(self, folder: Path, *, signatures: bool = True) -> Figures:
        """Copy with ``upload`` into the tree in ``folder``, and check that all are there.

        With ``signatures`` it looks for them, too.
        """
        alone = [] if signatures else ["--no-referrers"]
        figures = measure([*self.upload_words(folder), *alone], folder)
        self._check_tree(folder / "tree")
        return figures

    def sync(self) -> Contender:
        """Return ``image-uploader sync`` with a plain list of the images."""
        return Contender(SYNC, self.run_sync, is_ours=True)

    def run_sync(self, folder: Path) -> Figures:
        """Copy with ``sync`` into the tree in ``folder``, and check that all are there."""
        file = folder / "images.txt"
        names = [f"{self._source}/{image.name}:{image.tag}\n" for image in self._images]
        file.write_text("".join(names))
        words = ["-q", "sync", "-f", str(file)]
        figures = measure([programs.OURS, *self._configuration(folder), *words], folder)
        self._check_tree(folder / "tree")
        return figures

    def upload_words(self, folder: Path) -> list[str]:
        """Return the command line of ``upload``; write what it reads into ``folder``."""
        file = self._write_list(folder, {})
        return [programs.OURS, *self._configuration(folder), "-q", "upload", str(file)]

    def prepare(self) -> Contender:
        """Return ``image-uploader prepare`` for the images, whose names a template has."""
        return Contender("image-uploader prepare", self._run_prepare, is_ours=True)

    def _run_prepare(self, folder: Path) -> Figures:
        file, written = folder / "environment.yaml", folder / "parameters.yaml"
        file.write_text(yaml.safe_dump({"parameter_defaults": self._parameters()}))
        words = ["-q", "prepare", "-e", str(file), "--output-env-file", str(written)]
        figures = measure([programs.OURS, *self._configuration(folder), *words], folder)
        self._check_tree(folder / "tree")
        return figures

    def idle_words(self, folder: Path) -> list[str]:
        """Return the command line of a ``prepare`` that has nothing to prepare."""
        file = folder / "environment.yaml"
        file.write_text(yaml.safe_dump({"parameter_defaults": {"ContainerImagePrepare": []}}))
        return [programs.OURS, *self._configuration(folder), "-q", "prepare", "-e", str(file)]

    def tripleo_export(self) -> Contender:
        """Return tripleo-common's own export into a directory."""
        return Contender("tripleo-common's export", self.run_tripleo_export)

    def run_tripleo_export(self, folder: Path) -> Figures:
        """Copy with tripleo-common's export, and check that all are there."""
        figures = measure(self.tripleo_export_words(folder), folder)
        self._check_tree(folder / "tree")
        return figures

    def tripleo_export_words(self, folder: Path) -> list[str]:
        """Return the command line of the export; write what it reads into ``folder``."""
        file = self._write_list(folder, {"uploader": "python"})
        # It runs in another folder than that of the modules.
        python = ["env", f"PYTHONPATH={Path(__file__).parents[1]}", sys.executable]
        module = ["-m", "benchmarks.tripleo_export", "copy"]
        return [*python, *module, str(folder / "tree"), str(file), self._source]

    def skopeo_to_registry(self) -> Contender:
        """Return ``skopeo sync`` to an empty docker-registry."""
        wanted = programs.missing("skopeo", "docker-registry")
        return Contender("skopeo sync to a docker-registry", self._run_skopeo_to_registry, wanted)

    def _run_skopeo_to_registry(self, folder: Path) -> Figures:
        with servers.docker_registry(folder) as target:
            return self.run_skopeo(folder, target.address)

    def run_skopeo(self, folder: Path, target: str) -> Figures:
        """Copy with ``skopeo sync`` to the registry at ``target``."""
        # NOTE: --scoped would put the source's port into a name, where none may be.
        options = ["--dest", "docker", "--dest-tls-verify=false"]
        return measure(self._skopeo(folder, options, target), folder)

    def skopeo_to_directory(self) -> Contender:
        """Return ``skopeo sync`` to a directory, which holds each image whole."""
        name, wanted = "skopeo sync to a directory", programs.missing("skopeo")
        return Contender(name, self._run_skopeo_to_directory, wanted)

    def _run_skopeo_to_directory(self, folder: Path) -> Figures:
        options = ["--dest", "dir", "--scoped"]
        return measure(self._skopeo(folder, options, str(folder / "images")), folder)

    def _skopeo(self, folder: Path, options: Sequence[str], target: str) -> list[str]:
        names: dict[str, list[str]] = {}
        for image in self._images:
            names.setdefault(image.name, []).append(image.tag)
        file = folder / "sync.yaml"
        file.write_text(yaml.safe_dump({self._source: {"tls-verify": False, "images": names}}))
        words = ["skopeo", "--insecure-policy", "sync", "--retry-times", "9", "--src", "yaml"]
        return [*words, *options, str(file), target]

    def curls(self) -> Contender:
        """Return the limit: eight connections, sha256sum on all cores, one flush."""
        return Contender(CURLS, self._run_curls, programs.missing("curl"))

    def _run_curls(self, folder: Path) -> Figures:
        urls = [self._url(image, f"manifests/{image.tag}") for image in self._images]
        urls += [self._url(image, f"blobs/{digest}") for digest, image in self._blobs().items()]
        content = folder / "content"
        content.mkdir()
        accept = f'header = "Accept: {media_types.DOCKER_MANIFEST}"\n'
        for number in range(_CONNECTIONS):
            lines = (
                f'url = "{url}"\noutput = "content/{number}-{at}"\n'
                for at, url in enumerate(urls[number::_CONNECTIONS])
            )
            (folder / f"curl-{number}").write_text(accept + "".join(lines))
        fetch = [f"curl -sSf -K curl-{number} &" for number in range(_CONNECTIONS)]
        hashing = f"find content -type f -print0 | xargs -0 -n 8 -P {os.cpu_count()} sha256sum"
        script = "\n".join([*fetch, "wait", f"{hashing} >sums", "sync -f content"])
        figures = measure(["sh", "-ec", script], folder)
        fetched = len(list(content.iterdir()))
        if fetched != len(urls):
            raise MeasurementError(f"{fetched} of {len(urls)} files were fetched")
        return figures

    def stream(self) -> Contender:
        """Return the limit for one layer: a stream to the disk and to sha256sum, one flush."""
        return Contender(STREAM, self._run_stream, programs.missing("curl"))

    def _run_stream(self, folder: Path) -> Figures:
        lines = []
        for digest, image in self._blobs().items():
            url = shlex.quote(self._url(image, f"blobs/{digest}"))
            lines.append(f"curl -sSf {url} | tee {digest} | sha256sum >{digest}.sum")
        return measure(["sh", "-ec", "\n".join([*lines, "sync sha256:*"])], folder)

    def _blobs(self) -> dict[str, Pushed]:
        """Return each blob once, with an image that has it."""
        return {blob.digest: image for image in self._images for blob in image.blobs}

    def _url(self, image: Pushed, path: str) -> str:
        return f"http://{self._source}/v2/{image.name}/{path}"

    def _write_list(self, folder: Path, more: dict[str, Any]) -> Path:
        entries = [
            {"imagename": f"{self._source}/{image.reference}", "push_destination": TARGET, **more}
            for image in self._images
        ]
        file = folder / "images.yaml"
        file.write_text(yaml.safe_dump({"container_images": entries}))
        return file

    def _parameters(self) -> dict[str, Any]:
        names = [image.name for image in self._images]
        return {
            "ContainerImagePrepare": list(template.entries(self._source, names, TARGET)),
            "DockerInsecureRegistryAddress": [self._source],
        }

    def _configuration(self, folder: Path) -> list[str]:
        file = folder / "image-uploader.conf"
        file.write_text(
            f"[image_uploader]\ninsecure_registries = {self._source}\n"
            f"[local_export]\nroot = {folder / 'tree'}\n"
        )
        return ["--config-file", str(file)]

    def _check_tree(self, root: Path) -> None:
        """Raise MeasurementError unless the tree has every repository."""
        found = json.loads((root / "v2" / "_catalog").read_bytes())["repositories"]
        lacking = {image.name for image in self._images} - set(found)
        if lacking:
            raise MeasurementError(f"{len(lacking)} images are missing, {min(lacking)} first")
