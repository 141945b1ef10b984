# SPDX-License-Identifier: Apache-2.0
"""Signatures of cosign, brought by sync: clients find them, and they are valid."""

from __future__ import annotations

import base64
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import oras.client
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from image_uploader_plugins import media_types
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image
from tests.support import commands, odd_registry, programs, web
from tests.support.clients import run
from tests.support.odd_registry import OddRegistry

SIGNED_AS = "registry.example.com/team/app"
NAME = "team/app"
# Source: cosign, "Signature Specification".
_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Key:
    """A key that signs images as cosign does."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> Key:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def has_signed(self, payload: bytes, signature: str) -> bool:
        try:
            self.private.public_key().verify(
                base64.b64decode(signature), payload, ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature:
            return False
        return True

    def sign(self, image: Image) -> Image:
        """The signature of an image, under the tag that clients look for."""
        critical = {
            "identity": {"docker-reference": SIGNED_AS},
            "image": {"docker-manifest-digest": str(image.digest)},
            "type": "cosign container image signature",
        }
        payload = json.dumps({"critical": critical, "optional": None}).encode()
        signature = self.private.sign(payload, ec.ECDSA(hashes.SHA256()))
        layer, config = Blob(payload, _PAYLOAD), Blob(b"{}", media_types.OCI_CONFIG)
        text = base64.b64encode(signature).decode()
        content = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor(annotations={_SIGNATURE: text})],
        }
        return Image(
            image.repository,
            Tag(_tag_of(image)),
            Manifest.parse(json.dumps(content).encode()),
            {blob.digest: blob.content for blob in (layer, config)},
        )


def _tag_of(image: Image) -> str:
    return f"sha256-{image.digest.encoded}.sig"


def _index(tag: str) -> Image:
    children = [
        images.image(
            NAME, None, [images.layer({tag: arch.encode()}, oci=True)], oci=True, architecture=arch
        )
        for arch in ("amd64", "arm64")
    ]
    return images.index(NAME, tag, children, oci=True)


KEY, OTHER = Key.new(), Key.new()
SIGNED, FOREIGN, BARE = _index("signed"), _index("foreign"), _index("bare")


@pytest.fixture(scope="module")
def mirror(kind: web.Kind) -> Iterator[str]:
    """A server of what sync brought, of one platform."""
    everything = [SIGNED, FOREIGN, BARE]
    for image, key in ((SIGNED, KEY), (FOREIGN, OTHER)):
        everything += [key.sign(part) for part in image.walk()]
    with web.open_folder() as folder, tempfile.TemporaryDirectory() as elsewhere:
        config = commands.configuration(folder / "tree", Path(elsewhere))
        with odd_registry.serving(OddRegistry(everything)) as address:
            names = [f"{address}/{NAME}:{image.tag}" for image in (SIGNED, FOREIGN, BARE)]
            done = commands.process(config, "sync", "--platform", "linux/amd64", *names)
            assert done.returncode == 0, done.stderr
        with web.serve(kind, folder / "tree") as server:
            yield server


@pytest.fixture
def trusting(mirror: str, tmp_path: Path) -> list[str]:
    """The options of skopeo for the signatures that cosign attaches.

    NOTE: Debian's skopeo cannot check them ("Debian-local change: sigstore
    disabled"), but it asks for them and copies them; the test checks them.
    """
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    registries = tmp_path / "registries.d"
    registries.mkdir()
    text = f"docker:\n  {mirror}:\n    use-sigstore-attachments: true\n"
    (registries / "mirror.yaml").write_text(text)
    return ["--policy", str(policy), "--registries.d", str(registries)]


@pytest.mark.parametrize("image", [SIGNED, FOREIGN, BARE], ids=lambda image: str(image.tag))
def test_skopeo_gets_the_signatures(
    trusting: list[str], mirror: str, tmp_path: Path, image: Image
) -> None:
    folder = tmp_path / "copy"
    run(
        *(programs.require("skopeo"), "--override-arch", "amd64", *trusting),
        *("copy", "--src-tls-verify=false"),
        *(f"docker://{mirror}/{NAME}:{image.tag}", f"dir:{folder}"),
    )
    amd64 = image.children[0]
    assert (folder / "manifest.json").read_bytes() == amd64.manifest.content
    found = sorted(folder.glob("signature-*"))
    assert len(found) == (0 if image is BARE else 1)
    for path in found:
        # Source: containers/image, internal/signature: a form's name, and a line of JSON.
        form, _, content = path.read_bytes().partition(b"\n")
        assert form == b"\0sigstore-json"
        fields = json.loads(content)
        assert fields["mimeType"] == _PAYLOAD
        payload = base64.b64decode(fields["payload"])
        assert KEY.has_signed(payload, fields["annotations"][_SIGNATURE]) == (image is SIGNED)
        assert _signed_digest(payload) == str(amd64.digest)


@pytest.mark.parametrize("part", ["index", "linux/amd64"])
def test_oras_gets_the_signature_by_its_tag(mirror: str, tmp_path: Path, part: str) -> None:
    image = SIGNED if part == "index" else SIGNED.children[0]
    client = oras.client.OrasClient(hostname=mirror, insecure=True)
    target = f"{mirror}/{NAME}:{_tag_of(image)}"
    (layer,) = client.get_manifest(target)["layers"]
    (path,) = client.pull(target, outdir=str(tmp_path))
    payload = Path(path).read_bytes()
    assert KEY.has_signed(payload, layer["annotations"][_SIGNATURE])
    assert _signed_digest(payload) == str(image.digest)


def test_what_was_left_out_has_no_signature(mirror: str) -> None:
    client = oras.client.OrasClient(hostname=mirror, insecure=True)
    tags = client.get_tags(f"{mirror}/{NAME}")
    signed = {_tag_of(part) for image in (SIGNED, FOREIGN) for part in (image, image.children[0])}
    assert set(tags) == {"signed", "foreign", "bare", *signed}


def _signed_digest(payload: bytes) -> str:
    return str(json.loads(payload)["critical"]["image"]["docker-manifest-digest"])
