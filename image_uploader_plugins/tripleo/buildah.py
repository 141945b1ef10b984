# SPDX-License-Identifier: Apache-2.0
"""buildah, which puts an image into local storage before it is modified."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlparse

from tripleo_common.image import exception

from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.sources.registries import Registry


def pull(registry: Registry, job: Job, digest: Digest) -> str:
    """Pull an image from its source into local storage; return its name there.

    The source, for the target need not be served yet.  Raises
    ImageUploaderException where buildah fails, and for a mirror that it cannot
    name.
    """
    base = urlparse(registry.base())
    if base.path != "/v2":
        raise exception.ImageUploaderException(
            "cannot be modified: buildah knows no mirror with a path, as "
            f"{base.netloc}{base.path.removesuffix('/v2')}"
        )
    name = f"{base.netloc}/{job.name}@{digest}"
    arguments = [] if registry.is_verified else ["--tls-verify=false"]
    with tempfile.TemporaryDirectory(prefix="image-uploader-") as private:
        login = registry.login(str(job.name))
        if login:
            authfile = Path(private) / "auth.json"
            authfile.write_text(_authfile(base.netloc, login))
            arguments.append(f"--authfile={authfile}")
        _run("pull", *arguments, f"docker://{name}")
    return name


def tag(image: str, name: str) -> None:
    """Give an image in local storage one more name; raises ImageUploaderException."""
    _run("tag", image, name)


def _run(*arguments: str) -> None:
    command = ["buildah", *arguments]
    # The arguments went through the grammars of Job, and no shell is asked.
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise exception.ImageUploaderException(f"{' '.join(command)} failed: {done.stderr.strip()}")


def _authfile(registry: str, login: Login) -> str:
    """Return a login as containers-auth.json(5) has it."""
    entry = {"auth": login.basic.removeprefix("Basic ")}
    if login.identity_token:
        entry["identitytoken"] = login.identity_token
    return json.dumps({"auths": {registry: entry}})
