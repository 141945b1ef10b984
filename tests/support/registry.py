# SPDX-License-Identifier: Apache-2.0
"""Source registries: the real docker-registry, and ones that cannot be trusted."""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from pathlib import Path

import requests

from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.registry import SourceRegistry
from image_uploader_plugins.testing.web_server import Answer
from tests.support import programs

_CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {folder}/content}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
compatibility: {{schema1: {{enabled: true}}}}
{more}
"""
_DEADLINE = 30  # seconds
_ATTEMPTS = 5


def free_port() -> int:
    """A port that nobody has, of those that Linux gives to nobody by itself.

    Clients and servers of other tests get theirs from the range that begins after these.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = 10_000 + secrets.randbelow(first - 10_000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def docker_registry(
    folder: Path, remote: str | None = None, passwords: Path | None = None
) -> Iterator[str]:
    """A docker-registry that keeps its content in ``folder``; yields ``host:port``.

    With ``remote``, a registry's URL, it is a pull-through cache of that; with
    ``passwords``, a file of htpasswd's, it wants one.
    """
    program = programs.require("docker-registry")
    for _ in range(_ATTEMPTS):
        address = f"127.0.0.1:{free_port()}"
        config, log = folder / "config.yml", folder / "log"
        more = f"proxy: {{remoteurl: {json.dumps(remote)}}}\n" if remote else ""
        if passwords:
            realm = {"realm": "Registry Realm", "path": str(passwords)}
            more += f"auth: {{htpasswd: {json.dumps(realm)}}}\n"
        config.write_text(_CONFIG.format(folder=folder, address=address, more=more))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, "serve", str(config)], stdout=output, stderr=output
            )
        try:
            if _listens(process, log, address):
                yield address
                return
        finally:
            process.terminate()
            process.wait()
    raise RuntimeError(f"docker-registry does not start: {log.read_text()}")


def until_kept(folder: Path, image: Image) -> None:
    """Wait until a pull-through cache in ``folder`` has the blobs of an image that was pulled.

    It goes on to store them when the client has them already.
    """
    top = folder / f"content/docker/registry/v2/repositories/{image.repository}/_layers"
    links = [top / digest.algorithm / digest.encoded / "link" for digest in image.blobs]
    deadline = time.monotonic() + _DEADLINE
    while not all(link.exists() for link in links):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the cache in {folder} does not keep {image.repository}")
        time.sleep(0.05)


def push(address: str, images: Iterable[Image]) -> None:
    """Push ``images`` with all their parts (OCI distribution-spec 1.1, "Push")."""
    with requests.Session() as session:
        for part in itertools.chain.from_iterable(image.walk() for image in images):
            url = f"http://{address}/v2/{part.repository}"
            for digest, content in part.blobs.items():
                upload = session.post(f"{url}/blobs/uploads/", timeout=_DEADLINE)
                upload.raise_for_status()
                session.put(
                    upload.headers["Location"],
                    params={"digest": str(digest)},
                    data=content,
                    timeout=_DEADLINE,
                ).raise_for_status()
            session.put(
                f"{url}/manifests/{part.tag or part.digest}",
                data=part.manifest.content,
                headers={"Content-Type": part.manifest.media_type},
                timeout=_DEADLINE,
            ).raise_for_status()


class TamperedRegistry(SourceRegistry):
    """A registry with some of its answers replaced.

    ``tamper`` maps part of a path to what becomes of the true answer; each
    request that was made is in ``requests``.
    """

    def __init__(self, images: Iterable[Image]) -> None:
        super().__init__(images)
        self.tamper: dict[str, Callable[[Answer, Message], Answer]] = {}
        self.requests: list[tuple[str, Message]] = []

    def __call__(self, path: str, headers: Message) -> Answer:
        self.requests.append((path, headers))
        answer = super().__call__(path, headers)
        for part, change in self.tamper.items():
            if part in path:
                return change(answer, headers)
        return answer

    def asked(self, part: str) -> int:
        """How many requests had ``part`` in their path."""
        return sum(part in path for path, _ in self.requests)


def _listens(process: subprocess.Popen[bytes], log: Path, address: str) -> bool:
    """Whether this process has the port: whoever answers there may be another."""
    deadline = time.monotonic() + _DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        if f"listening on {address}" in log.read_text():
            return True
        time.sleep(0.02)
    return False
