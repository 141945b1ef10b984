# SPDX-License-Identifier: Apache-2.0
"""Logging in at real registries: with passwords of its own, and behind a proxy that has them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from image_uploader_plugins import demonstration, tripleo
from image_uploader_plugins.sources import credential_helpers
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.testing.images import corpus
from tests.support import commands, programs, tls, trees, web
from tests.support import registry as registries

LOGIN = Login("robot$team", "p\u00e4ss w\u00f6rd: \u043a\u043b\u044e\u0447")
IMAGE = next(image for image in corpus() if image.repository.value == "openstack/nova-api")
NAME = f"{IMAGE.repository}:{IMAGE.tag}"

_PROXY = """
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{
        auth_basic "Registry";
        auth_basic_user_file {passwords};
        proxy_pass http://{behind};
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Proto https;
    }}
}}
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """What servers read: a registry's content, passwords, and a certificate with its key."""
    with web.open_folder() as folder:
        command = [programs.require("htpasswd", "apache2-utils"), "-nbB"]
        line = subprocess.check_output([*command, LOGIN.username, LOGIN.password])
        (folder / "passwords").write_bytes(line)
        tls.make(folder)
        with registries.docker_registry(folder) as address:
            registries.push(address, [IMAGE])
        yield folder


@pytest.fixture(scope="module")
def passwords(folder: Path) -> Iterator[str]:
    """docker-registry with htpasswd, in plain HTTP."""
    with registries.docker_registry(folder, passwords=folder / "passwords") as address:
        yield address


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[str]:
    """nginx, with TLS and passwords, before a docker-registry that has neither."""
    certificate, key = folder / tls.CERTIFICATE, folder / tls.KEY

    def site(place: Path, port: int) -> str:
        values = {"certificate": certificate, "key": key, "passwords": folder / "passwords"}
        return web.nginx_main(place, _PROXY.format(port=port, behind=behind, **values))

    with registries.docker_registry(folder) as behind, web.running("nginx", site) as address:
        yield address


@pytest.fixture(params=["passwords", "proxy"])
def server(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / tls.CERTIFICATE))
    return str(request.getfixturevalue(request.param))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody who has stored nothing, and whose programs are in ``bin``."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return home


def store(home: Path, content: dict[str, Any], name: str = ".docker/config.json") -> None:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def entry(login: Login) -> dict[str, str]:
    return {"auth": login.basic.removeprefix("Basic ")}


def podman(home: Path, address: str) -> None:
    """The longest match of host and namespace counts."""
    wrong = entry(Login("other", "wrong"))
    auths = {address: wrong, f"{address}/openstack": entry(LOGIN), f"{address}/open": wrong}
    store(home, {"auths": auths}, ".config/containers/auth.json")


def docker(home: Path, address: str) -> None:
    store(home, {"auths": {f"https://{address}/v1/": entry(LOGIN)}})


def helped(home: Path, address: str, config: dict[str, Any]) -> None:
    """A helper that knows this registry alone."""
    answer = json.dumps(
        {"ServerURL": address, "Username": LOGIN.username, "Secret": LOGIN.password}
    )
    known = f'test "$(cat)" = {address} && exec echo {shlex.quote(answer)}'
    unknown = "echo credentials not found in native keychain; exit 1"
    programs.credential_helper(home / "bin", "of-test", f"{known}\n{unknown}")
    store(home, config)


WAYS: dict[str, Callable[[Path, str], None]] = {
    "podman": podman,
    "docker": docker,
    "credHelpers": lambda home, at: helped(home, at, {"credHelpers": {at: "of-test"}}),
    "credsStore": lambda home, at: helped(home, at, {"credsStore": "of-test"}),
}


def listed(folder: Path, *names: str) -> str:
    path = folder / "images.txt"
    path.write_text("".join(f"{name}\n" for name in names))
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_upload_with_what_is_stored(
    server: str, home: Path, conf: cfg.ConfigOpts, root: Path, way: str
) -> None:
    WAYS[way](home, server)
    tripleo.upload_files([listed(home, f"{server}/{NAME}")], conf)
    assert trees.tags(root, str(IMAGE.repository)) == [str(IMAGE.tag)]


@pytest.mark.slow
def test_prepare_with_credentials_of_the_environment(
    server: str, home: Path, conf: cfg.ConfigOpts, root: Path
) -> None:
    """They come before those that are stored."""
    docker(home, server)
    store(home, {"auths": {server: entry(Login("other", "wrong"))}})
    environment = demonstration.environment_for([IMAGE], server)
    named = {server: {LOGIN.username: LOGIN.password}}
    environment["parameter_defaults"]["ContainerImageRegistryCredentials"] = named
    tripleo.prepare(environment, conf=conf)
    assert trees.tags(root, str(IMAGE.repository)) == [str(IMAGE.tag)]


@pytest.mark.slow
def test_a_pull_through_cache(
    folder: Path, tmp_path: Path, conf: cfg.ConfigOpts, root: Path
) -> None:
    with registries.docker_registry(folder) as behind, contextlib.ExitStack() as stack:
        cache = registries.docker_registry(tmp_path, f"http://{behind}")
        address = stack.enter_context(cache)
        tripleo.upload_files([listed(tmp_path, f"{address}/{NAME}")], conf)
    assert trees.tags(root, str(IMAGE.repository)) == [str(IMAGE.tag)]


HELPERS = {
    "fails": ("echo Zq7sEcReT; echo Zq7sEcReT >&2; exit 3", "fails for .*status 3"),
    "hangs": ("sleep 99", "no answer in 2 seconds"),
    "rubbish": ("echo Zq7sEcReT", "answers what is no login"),
    "endless": ("exec yes Zq7sEcReT", "answers with more than"),
    "missing": (None, "is missing: install it"),
    "token": (
        'echo \'{"Username":"<token>","Secret":"Zq7sEcReT"}\'',
        "wants a password.*an identity token",
    ),
}


@pytest.mark.slow
def test_helpers_that_fail(
    passwords: str,
    home: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line each, without what they wrote; the images of others arrive."""
    monkeypatch.setattr(credential_helpers, "ANSWER_TIMEOUT", 2.0)
    for name, (script, _) in HELPERS.items():
        if script:
            programs.credential_helper(home / "bin", name, script)
    helpers = {f"{passwords}/{name}": name for name in HELPERS}
    store(home, {"auths": {passwords: entry(LOGIN)}, "credHelpers": helpers})
    names = [f"{passwords}/{name}/app:1" for name in HELPERS]
    config = commands.configuration(root, home)
    assert commands.here(config, "upload", listed(home, *names, f"{passwords}/{NAME}")) == 1
    said = capsys.readouterr()
    assert trees.tags(root, str(IMAGE.repository)) == [str(IMAGE.tag)]
    assert "Zq7sEcReT" not in said.out + said.err
    for name, (_, reason) in HELPERS.items():
        assert re.search(rf"\b{passwords}/{name}/app:1: [^;]*{reason}", said.err), name


@pytest.mark.slow
def test_a_wrong_password(
    server: str, home: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(home, {"auths": {server: entry(Login("robot$team", "Zq7sEcReT"))}})
    config = commands.configuration(root, home)
    name = f"{server}/{NAME}"
    assert commands.here(config, "upload", listed(home, name)) == 1
    said = capsys.readouterr()
    assert "credentials are missing or wrong" in said.err
    assert "Zq7sEcReT" not in said.out + said.err
    assert "Traceback" not in said.err
