# SPDX-License-Identifier: Apache-2.0
"""No secret is told: not in success, nor in any kind of failure, nor with --debug."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins.cli import app
from image_uploader_plugins.demonstration import SERVED_AT, environment_for
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import odd_registry
from tests.support.odd_registry import Asked, OddRegistry, Reply, challenge, text
from tests.support.tripleo_common import unused  # noqa: F401 - the whole way

PASSWORD, IDENTITY, TOKEN, SIGNATURE = "pW-7sEcReT", "iD8-sEcReT", "tK5-sEcReT", "sG4-sEcReT"
REALM, LOCATION, NAME, HELPER = "rE3-sEcReT", "lO2-sEcReT", "nA1-sEcReT", "hE0-sEcReT"
BASIC = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, IDENTITY, TOKEN, SIGNATURE, REALM, LOCATION, NAME, HELPER, BASIC)

Kind = Callable[[Asked], Reply | None]


def repeated(asked: Asked, status: int) -> Reply:
    """What a registry says that repeats all it was told, in several ways."""
    told = f"{asked.authorization} of {asked.query} and {asked.body.decode()}"
    told += f" is alice:{PASSWORD}" if asked.authorization == f"Basic {BASIC}" else ""
    return text({"errors": [{"code": "DENIED", "message": f"refused: {told}"}]}, status)


def token_server(asked: Asked, answer: Callable[[Asked], Reply | None]) -> Reply | None:
    """The answer to whoever has no token: whom to ask, and what is said there."""
    if asked.path.startswith("/token"):
        return answer(asked)
    if asked.authorization == f"Bearer {TOKEN}":
        return None
    kind = asked.path.split("/")[2]
    return challenge(f'Bearer realm="http://{asked.headers["Host"]}/token/{kind}?x={REALM}"')


def given(asked: Asked) -> Reply:
    return text({"token": TOKEN})


def password_asked(asked: Asked, answer: Callable[[Asked], Reply | None]) -> Reply | None:
    return answer(asked) if asked.authorization else challenge('Basic realm="r"')


def with_token(answer: Callable[[Asked], Reply | None]) -> Kind:
    return lambda asked: token_server(asked, given) or answer(asked)


def leading(location: str) -> Kind:
    return lambda asked: Reply(307, (("Location", location),))


def storage(asked: Asked, answer: Callable[[Asked], Reply]) -> Reply | None:
    """Blobs are at a URL that is a key to them."""
    digest = asked.path.rpartition("/")[2]
    if "sig" in asked.query:
        return answer(asked)
    if "/blobs/" in asked.path:
        return Reply(307, (("Location", f"{asked.path}?sig={SIGNATURE}&d={digest}"),))
    return None


def blob(asked: Asked, cut: int | None = None) -> Reply:
    content = IMAGES[asked.path.split("/")[2]].blobs[Digest(asked.path.rpartition("/")[2])]
    return Reply(200, (), content, cut)


KINDS: dict[str, tuple[str, Kind]] = {
    # What becomes of an image, and why.
    "ok": ("copied", with_token(lambda asked: storage(asked, blob))),
    "basic": ("failed", lambda asked: password_asked(asked, lambda a: repeated(a, 401))),
    "denied": ("failed", lambda asked: password_asked(asked, lambda a: repeated(a, 403))),
    "busy": ("failed", lambda asked: password_asked(asked, lambda a: repeated(a, 503))),
    "unknown": ("failed", lambda asked: password_asked(asked, lambda a: repeated(a, 404))),
    "nologin": ("failed", lambda asked: token_server(asked, lambda a: repeated(a, 401))),
    "notoken": ("failed", lambda asked: token_server(asked, lambda a: repeated(a, 200))),
    "odd": ("failed", lambda a: token_server(a, lambda a: text({"token": f"{TOKEN}\n"}))),
    "away": ("failed", lambda a: token_server(a, leading(f"http://x/?t={LOCATION}"))),
    "identity": ("failed", lambda asked: token_server(asked, lambda a: repeated(a, 400))),
    "bearer": ("failed", with_token(lambda asked: repeated(asked, 403))),
    "user": ("failed", lambda a: challenge(f'Bearer realm="http://me:{REALM}@127.0.0.1/"')),
    "ftp": ("failed", lambda asked: challenge(f'Bearer realm="ftp://me:{REALM}@h/?{REALM}"')),
    "location": ("failed", leading(f"ftp://me:{LOCATION}{'x' * 400}@h/?{LOCATION}")),
    "closed": ("failed", leading(f"http://127.0.0.1:1/?sig={SIGNATURE}")),
    "nowhere": ("failed", leading(f"http://me:{LOCATION}@[::1/?{LOCATION}")),
    "loop": ("failed", leading(f"?sig={SIGNATURE}")),
    "stored": ("failed", lambda asked: storage(asked, lambda a: repeated(a, 403))),
    "breaks": ("failed", lambda asked: storage(asked, lambda a: blob(a, 1))),
    "manifest": ("failed", with_token(lambda a: text({"mediaType": a.authorization}))),
}
IMAGES: dict[str, Image] = {
    kind: images.image(kind, "1", [images.layer({"a": kind.encode()})]) for kind in KINDS
}


def answer(asked: Asked) -> Reply | None:
    if asked.path == "/v2/":
        return None
    return KINDS[asked.path.split("/")[2]][1](asked)


@pytest.fixture
def registry() -> Iterator[tuple[str, OddRegistry]]:
    made = OddRegistry(IMAGES.values(), answer)
    with odd_registry.serving(made) as address:
        yield address, made


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: tuple[str, OddRegistry]
) -> Path:
    """Logins for the registry, but for one a helper that fails and says what it should not."""
    address = registry[0]
    given = tmp_path / "given"
    given.mkdir()
    helper = given / "docker-credential-bad"
    helper.write_text(f"#!/bin/sh\necho {HELPER}; echo {HELPER} >&2; exit 3\n")
    helper.chmod(0o755)
    auths = {address: {"auth": BASIC}, f"{address}/identity": {"identitytoken": IDENTITY}}
    stored = {"auths": auths, "credHelpers": {f"{address}/denied/helped": "bad"}}
    (given / "auth.json").write_text(json.dumps(stored))
    monkeypatch.setenv("PATH", str(given), prepend=":")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(given / "auth.json"))
    return tmp_path


def told(folder: Path, capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run a command line with all that can tell something; its status, and all that it told."""
    config = folder / "given/image-uploader.conf"
    config.write_text(f"[local_export]\nroot = {folder}/image-serve\n")
    options = ["--config-file", config, "--debug", "--log-file", folder / "log"]
    outputs = ["--report", folder / "report.json", "--metrics", folder / "x.prom"]
    status = app.main(list(map(str, [*options, *arguments, *outputs])))
    files = [path for path in folder.rglob("*") if path.is_file()]
    left = [path.read_bytes().decode("latin-1") for path in files if "given" not in path.parts]
    return status, "\n".join([*capfd.readouterr(), *left])


def check(found: str) -> None:
    for secret in SECRETS:
        at = found.find(secret)
        assert at < 0, found[max(0, at - 300) : at + 100]


@pytest.mark.slow
def test_upload(
    folder: Path, capfd: pytest.CaptureFixture[str], registry: tuple[str, OddRegistry]
) -> None:
    address, asked = registry
    names = [f"{address}/{kind}:1" for kind in KINDS]
    more = [f"{address}/denied/helped:1", f"me:{NAME}@{address}/ok:1"]
    file = folder / "given/images.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "container_images": [
                    {"imagename": name, "push_destination": SERVED_AT}
                    for name in (*names, *more[:1])
                ]
            }
        )
    )
    status, found = told(folder, capfd, "upload", file)
    assert status == 1
    check(found)
    report = json.loads((folder / "report.json").read_text())
    became = {image["source"]: image["status"] for image in report["images"]}
    expected = {f"{address}/{kind}:1": status for kind, (status, _) in KINDS.items()}
    assert became == {**expected, more[0]: "failed"}
    # Both that it was there to be told, and that what is no secret is.
    raw = asked.raw().decode()
    assert all(secret in raw for secret in (BASIC, IDENTITY, TOKEN, SIGNATURE, REALM))
    assert "DENIED: refused: Basic [...] of" in found
    assert f"http://{address}/token/nologin: 401 DENIED" in found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ok", "denied", "nologin", "stored", "location", "closed"])
def test_prepare(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    registry: tuple[str, OddRegistry],
    kind: str,
) -> None:
    address, _ = registry
    found: dict[str, Any] = environment_for([IMAGES[kind]], address)["parameter_defaults"]
    found["ContainerImageRegistryCredentials"] = {address: {"alice": PASSWORD}}
    file = folder / "given/environment.yaml"
    file.write_text(yaml.safe_dump({"parameter_defaults": found}))
    status, said = told(folder, capfd, "prepare", "-e", file)
    assert status == (0 if kind == "ok" else 1)
    check(said)


def test_a_name_with_a_password(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = folder / "given/images.yaml"
    file.write_text(f"container_images:\n- me:{NAME}@quay.io/ns/app:1\n- x:{NAME}@quay.io\n")
    status, found = told(folder, capfd, "upload", file)
    assert status == 1
    check(found)
