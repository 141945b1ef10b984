# SPDX-License-Identifier: Apache-2.0
"""Asks for the digests of many images over one connection: ``heads.py ADDRESS IMAGES``.

IMAGES is a file with a list of names, tags and the digests to expect, as JSON.
"""

import http.client
import json
import sys
from pathlib import Path

_ACCEPT = "application/vnd.docker.distribution.manifest.v2+json"


def main() -> None:
    """Ask for each, one after the other; raises ValueError where the digest is another."""
    address, images = sys.argv[1:]
    connection = http.client.HTTPConnection(address)
    for name, tag, digest in json.loads(Path(images).read_bytes()):
        connection.request("HEAD", f"/v2/{name}/manifests/{tag}", headers={"Accept": _ACCEPT})
        answer = connection.getresponse()
        answer.read()
        if answer.headers["Docker-Content-Digest"] != digest:
            raise ValueError(f"{name}:{tag} has another digest")


if __name__ == "__main__":
    main()
