# SPDX-License-Identifier: Apache-2.0
"""Which manifest a tag is for which client: what is said in Accept, in every form and order.

All lines are one list (RFC 9110, 5.3), and a list or index is the answer that is
never wrong: the default image is for a client that names manifests and nothing else.
"""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Iterable

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.testing.images import Image
from tests.support import web
from tests.support.content import everything

V1, SIGNED = media_types.DOCKER_SCHEMA1, media_types.DOCKER_SCHEMA1_SIGNED
V2, LIST = media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST
OCI, INDEX = media_types.OCI_MANIFEST, media_types.OCI_INDEX
JSON, ANY = "application/json", "*/*"
ORAS = "application/vnd.oci.artifact.manifest.v1+json"

# The lines as these clients send them; the order of dockerd's is another each time.
DOCKERD = (SIGNED, JSON, OCI, V2, LIST, INDEX)
CLIENTS = {
    "dockerd 20.10 and docker-registry 2.8 as a proxy": DOCKERD,
    "watchtower": (V2, LIST, V1, INDEX),
    "podman, buildah and skopeo": (OCI, V2, SIGNED, V1, LIST, INDEX),
    "containerd and helm": (", ".join([V2, LIST, OCI, INDEX, ANY]),),
    "crane": (",".join([V1, SIGNED, V2, OCI, LIST, INDEX]),),
    "oras": (", ".join([V2, LIST, INDEX, OCI, ORAS]),),
    "renovate": (", ".join([LIST, V2, OCI, INDEX]),),
    "curl": (ANY,),
    "none": (),
}
# Forms in which a client says that it takes lists, or that it takes anything.
LISTS = {
    "several lines of several": (f"{V2}, {LIST}", f"{INDEX}, {OCI}"),
    "a list at the end": (", ".join([SIGNED, V2, OCI, LIST, INDEX]),),
    "an index alone": (", ".join([V2, OCI, INDEX, LIST]),),
    "anything at the end": (", ".join([V2, SIGNED, ANY]),),
    "anything of application": (", ".join([V2, OCI, "application/*"]),),
    "anything, but less": (f"{V2}, {OCI};q=0.9, */*;q=0.001",),
    "one kind of list refused": (f"{V2}, {OCI}, {ANY}, {LIST};q=0",),
    "the other kind refused": (f"{V2}, {OCI}, {ANY}, {INDEX};q=0",),
    "upper case": (", ".join([V2, OCI, LIST, INDEX]).upper(),),
    "no spaces": (",".join([V2, OCI, INDEX, LIST]),),
    "tabs": (f"{V2}\t,\t{OCI},\t{LIST}\t;q=1\t,\t{INDEX} ; q=0.5",),
    "parameters": (f"{V2}, {OCI}, {LIST};charset=utf-8;q=0.1, {INDEX}; a=b",),
    "more quality than there is": (f"{V2}, {OCI}, {LIST};q=1.000, {INDEX};q=1.000",),
    "empty members": (f", {V2},, {OCI}, ,{LIST}, {INDEX},",),
    "a line at a time, lists last": (V2, SIGNED, OCI, INDEX, LIST),
}
# Clients that know no lists.
DEFAULTS = {
    "docker before lists": (f"{V2}, {SIGNED}",),
    "all manifests": (", ".join([V2, OCI, SIGNED, V1]),),
    "upper case": (f"{V2}, {SIGNED}".upper(),),
    "no spaces": (f"{V2},{SIGNED}",),
    "tabs and parameters": (f"{V2}\t; q=0.5\t,\t{SIGNED};a=b; q=0.25",),
    "the other order": (f"{SIGNED};q=0.1, {V2}",),
    "lists refused": (f"{V2}, {SIGNED}, {LIST};q=0, {INDEX};q=0.0",),
    "lists refused first": (f"{LIST};q=0, {INDEX};q=0.000, {V2}, {SIGNED}",),
    "anything refused": (f"{V2}, {SIGNED}, */*;q=0",),
    "anything refused, in capitals": (f"{V2}, {SIGNED}, application/*; Q=0.00",),
    "something else": (f"{V2}, {SIGNED}, application/jose",),
}


def by_name(name: str) -> Image:
    return next(image for image in everything() if image.repository.value == name)


class Client:
    """One connection, with Accept in as many lines as a client sends."""

    def __init__(self, server: str, image: Image) -> None:
        self._connection = http.client.HTTPConnection(server, timeout=30)
        self._path = f"/v2/{image.repository}/manifests/{image.tag}"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def gets(self, lines: Iterable[str], method: str = "HEAD") -> tuple[str, str]:
        """Return the type and the digest of the answer."""
        self._connection.putrequest(method, self._path)
        for line in lines:
            self._connection.putheader("Accept", line)
        self._connection.endheaders()
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return answer.headers["Content-Type"], answer.headers["Docker-Content-Digest"]


def of(image: Image) -> tuple[str, str]:
    return image.manifest.media_type, str(image.digest)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ["multi/docker", "multi/oci"])
def test_clients_that_know_lists(server: str, name: str, method: str) -> None:
    image = by_name(name)
    with Client(server, image) as client:
        for who, lines in (CLIENTS | LISTS).items():
            assert client.gets(lines, method) == of(image), who


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multi/docker", "multi/oci"])
def test_every_order_of_lines(server: str, name: str) -> None:
    image = by_name(name)
    orders = [*itertools.permutations(DOCKERD)]
    orders += itertools.islice(itertools.permutations((*DOCKERD, V1)), 0, None, 50)
    with Client(server, image) as client:
        wrong = {lines[:2] for lines in orders if client.gets(lines) != of(image)}
    assert not wrong


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_clients_that_know_none(server: str, method: str) -> None:
    image = by_name("multi/docker")
    with Client(server, image) as client:
        for who, lines in DEFAULTS.items():
            assert client.gets(lines, method) == of(image.children[0]), who


def test_one_type_alone(server: str, kind: web.Kind) -> None:
    """nginx before 1.23 cannot know whether more lines follow, and has one safe answer."""
    image = by_name("multi/docker")
    with Client(server, image) as client:
        expected = image if kind == "nginx" else image.children[0]
        assert client.gets([V2]) == of(expected)
        for media_type in (LIST, f"{LIST};q=0.1", ANY, "application/*"):
            assert client.gets([media_type]) == of(image)


def test_an_image_is_one_to_everybody(server: str) -> None:
    image = by_name("base")
    with Client(server, image) as client:
        for who, lines in (CLIENTS | LISTS | DEFAULTS).items():
            assert client.gets(lines) == of(image), who
