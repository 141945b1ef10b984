# SPDX-License-Identifier: Apache-2.0
"""What client-config prints, as the clients' own syntax reads it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tomllib
from pathlib import Path, PurePosixPath

import pytest
import yaml

from image_uploader_plugins import errors, files
from image_uploader_plugins.serving import clients
from image_uploader_plugins.serving.clients import Mirror
from tests.support import commands, tls

HTTP = Mirror("http://192.0.2.1:8787")
HTTPS = Mirror("https://registry.example.com", ca="PEM\n")
FULL = Mirror(
    "https://registry.example.com:8443/mirror/quay.io", login=("me", "p\u00e4ss:w"), only=True
)
BASIC = "bWU6cMOkc3M6dw=="
INSECURE = Mirror("https://[2001:db8::1]:8443", insecure=True)


def content(texts: clients.Files, path: str) -> str:
    return texts[PurePosixPath(path)]


def test_containerd() -> None:
    def hosts(registry: str, mirror: Mirror) -> object:
        folder = "_default" if registry == "*" else registry
        texts = clients.containerd(registry, mirror)
        return tomllib.loads(content(texts, f"/etc/containerd/certs.d/{folder}/hosts.toml"))

    both = ["pull", "resolve"]
    assert hosts("quay.io", HTTP) == {
        "server": "https://quay.io",
        "host": {"http://192.0.2.1:8787": {"capabilities": both}},
    }
    ca = "/etc/containerd/certs.d/docker.io/ca.crt"
    assert hosts("docker.io", HTTPS) == {
        "server": "https://registry-1.docker.io",
        "host": {"https://registry.example.com": {"capabilities": both, "ca": ca}},
    }
    assert content(clients.containerd("docker.io", HTTPS), ca) == "PEM\n"
    assert hosts("*", INSECURE) == {
        "host": {"https://[2001:db8::1]:8443": {"capabilities": both, "skip_verify": True}}
    }
    assert hosts("localhost:5000", HTTP) == {
        "server": "http://localhost:5000",
        "host": {"http://192.0.2.1:8787": {"capabilities": both}},
    }


def test_containerd_with_a_path_and_a_login() -> None:
    def hosts(mirror: Mirror) -> object:
        path = "/etc/containerd/certs.d/quay.io/hosts.toml"
        return tomllib.loads(content(clients.containerd("quay.io", mirror), path))

    url = "https://registry.example.com:8443/v2/mirror/quay.io"
    fields = {
        "capabilities": ["pull", "resolve"],
        "override_path": True,
        "header": {"Authorization": [f"Basic {BASIC}"]},
    }
    assert hosts(FULL) == {"server": url, **fields, "host": {}}
    also = dataclasses.replace(FULL, only=False)
    assert hosts(also) == {"server": "https://quay.io", "host": {url: fields}}


@pytest.mark.parametrize(
    ("mirror", "fields"),
    [
        (HTTP, {"location": "192.0.2.1:8787", "insecure": True}),
        (HTTPS, {"location": "registry.example.com"}),
        (INSECURE, {"location": "[2001:db8::1]:8443", "insecure": True}),
    ],
)
def test_podman(mirror: Mirror, fields: dict[str, object]) -> None:
    texts = clients.podman("quay.io:443", mirror)
    path = "/etc/containers/registries.conf.d/50-quay.io-443.conf"
    assert tomllib.loads(content(texts, path)) == {
        "registry": [{"prefix": "quay.io:443", "location": "quay.io:443", "mirror": [fields]}]
    }
    if mirror.ca:
        assert content(texts, "/etc/containers/certs.d/registry.example.com/ca.crt") == "PEM\n"


def test_podman_with_a_path_and_a_login() -> None:
    texts = clients.podman("quay.io", FULL)
    path = "/etc/containers/registries.conf.d/50-quay.io.conf"
    location = "registry.example.com:8443/mirror/quay.io"
    assert tomllib.loads(content(texts, path)) == {
        "registry": [{"prefix": "quay.io", "location": location}]
    }
    assert json.loads(content(texts, "/root/.config/containers/auth.json")) == {
        "auths": {"registry.example.com:8443": {"auth": BASIC}}
    }
    also = dataclasses.replace(FULL, only=False)
    assert tomllib.loads(content(clients.podman("quay.io", also), path)) == {
        "registry": [
            {"prefix": "quay.io", "location": "quay.io", "mirror": [{"location": location}]}
        ]
    }


def test_k3s_with_a_path_and_a_login() -> None:
    texts = clients.k3s("quay.io", FULL)
    assert yaml.safe_load(content(texts, "/etc/rancher/k3s/registries.yaml")) == {
        "mirrors": {
            "quay.io": {
                "endpoint": ["https://registry.example.com:8443"],
                "rewrite": {"^(.*)$": "mirror/quay.io/$1"},
            }
        },
        "configs": {
            "registry.example.com:8443": {"auth": {"username": "me", "password": "p\u00e4ss:w"}}
        },
    }
    only = "/etc/rancher/k3s/config.yaml.d/50-image-serve.yaml"
    assert yaml.safe_load(content(texts, only)) == {"disable-default-registry-endpoint": True}
    assert PurePosixPath(only) not in clients.k3s("quay.io", HTTP)


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        (Mirror("http://x/y"), "no path"),
        (Mirror("http://x", login=("me", "pw")), "no password"),
        (Mirror("http://x", only=True), "asks docker.io"),
    ],
)
def test_what_docker_cannot_be_told(mirror: Mirror, reason: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=reason):
        clients.docker("docker.io", mirror)


@pytest.mark.parametrize("login", [("", "x"), ("x", ""), ("a:b", "x"), ("a", "b\n"), ("\0", "b")])
def test_what_is_no_login(login: tuple[str, str]) -> None:
    with pytest.raises(errors.ConfigurationError, match="a user has a name"):
        Mirror("http://x", login=login)
    assert "secret" not in repr(Mirror("http://x", login=("me", "secret")))


def test_k3s() -> None:
    def registries(registry: str, mirror: Mirror) -> object:
        texts = clients.k3s(registry, mirror)
        return yaml.safe_load(content(texts, "/etc/rancher/k3s/registries.yaml"))

    assert registries("*", HTTP) == {"mirrors": {"*": {"endpoint": ["http://192.0.2.1:8787"]}}}
    ca = "/etc/rancher/k3s/ca-registry.example.com.crt"
    assert registries("quay.io", HTTPS) == {
        "mirrors": {"quay.io": {"endpoint": ["https://registry.example.com"]}},
        "configs": {"registry.example.com": {"tls": {"ca_file": ca}}},
    }
    assert content(clients.k3s("quay.io", HTTPS), ca) == "PEM\n"
    assert registries("quay.io", INSECURE) == {
        "mirrors": {"quay.io": {"endpoint": ["https://[2001:db8::1]:8443"]}},
        "configs": {"[2001:db8::1]:8443": {"tls": {"insecure_skip_verify": True}}},
    }


def test_docker() -> None:
    def daemon(mirror: Mirror) -> object:
        return json.loads(content(clients.docker("docker.io", mirror), "/etc/docker/daemon.json"))

    assert daemon(HTTP) == {"registry-mirrors": ["http://192.0.2.1:8787"]}
    assert daemon(INSECURE) == {
        "registry-mirrors": ["https://[2001:db8::1]:8443"],
        "insecure-registries": ["[2001:db8::1]:8443"],
    }
    texts = clients.docker("docker.io", HTTPS)
    assert content(texts, "/etc/docker/certs.d/registry.example.com/ca.crt") == "PEM\n"
    with pytest.raises(errors.ConfigurationError, match="docker has mirrors of"):
        clients.docker("quay.io", HTTP)


@pytest.mark.parametrize(
    "registry",
    [
        *(
            "",
            "quay",
            "quay.io/x",
            "https://quay.io",
            "Quay.io",
            "quay.io:",
            "quay.io:0",
            "..",
            ".",
        ),
        *("quay.io:65536", "quay.io:x", "../quay.io", 'quay.io"', "quay.io\n", "a" * 64 + ".io"),
        *("*.io", "-quay.io", "quay..io", "[::1", "qua\u00ff.io", "quay.io\x00", "quay.io "),
    ],
)
def test_what_is_no_registry(registry: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="not a registry"):
        clients.check_registry(registry)


@pytest.mark.parametrize(
    "url",
    [
        *("", "192.0.2.1:8787", "ftp://x", "http://", "http:///", "http://x/v2", "http://x?y"),
        *(
            "http://a:b@x",
            "http://x#y",
            "http://x/v2/y",
            "http://x/Y",
            "http://x/y/",
            "http://x//y",
        ),
        *("http://x/blobs", "http://x/y?z", "http://x/../y", "http://x/y%2fz", "http://x/y\n"),
        *('http://x"', "http://x\n", "http://x:99999", "HTTP://x"),
    ],
)
def test_what_is_no_mirror(url: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="mirror"):
        Mirror(url)


def test_nothing_is_verified_with_http() -> None:
    for mirror in ({"insecure": True}, {"ca": "x"}):
        with pytest.raises(errors.ConfigurationError, match="nothing is verified"):
            Mirror("http://x", **mirror)


def test_registries() -> None:
    for registry in ("quay.io", "docker.io", "localhost", "localhost:5000", "[::1]:5000"):
        assert clients.check_registry(registry) == registry
    assert clients.check_registry("_default") == clients.check_registry("*") == "*"


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    texts = {PurePosixPath("/etc/a/new"): "new\n", PurePosixPath("/etc/b"): "ours\n"}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "b").write_text("theirs\n")
    with pytest.raises(errors.ConfigurationError, match=f"{tmp_path}/etc/b has other content"):
        list(files.write_new(tmp_path, texts))
    assert not (tmp_path / "etc" / "a").exists()
    (tmp_path / "etc" / "b").write_text("ours\n")
    assert list(files.write_new(tmp_path, texts)) == [tmp_path / "etc" / "a" / "new"]
    assert list(files.write_new(tmp_path, texts)) == []
    (tmp_path / "etc" / "c").write_text("")
    with pytest.raises(errors.ConfigurationError, match=f"{tmp_path}/etc/c/d"):
        list(files.write_new(tmp_path, {PurePosixPath("/etc/c/d"): ""}))


def client_config(*arguments: object) -> subprocess.CompletedProcess[str]:
    return commands.process(None, "client-config", *arguments)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    done = client_config("quay.io", "--mirror", "http://192.0.2.1:8787/")
    assert done.returncode == 0
    assert done.stderr == "left out: docker has mirrors of docker.io only\n"
    assert done.stdout.startswith("# /etc/containerd/certs.d/quay.io/hosts.toml\nserver = ")
    assert "\n\n# /etc/containers/registries.conf.d/50-quay.io.conf\n[[registry]]" in done.stdout
    assert "\n\n# /etc/rancher/k3s/registries.yaml\nmirrors:" in done.stdout
    certificate, key = tls.make(tmp_path)
    password = tmp_path / "password"
    password.write_text("secret\n")
    output = tmp_path / "output"
    options = ("--mirror", "https://x:8443", "--ca", certificate, "--for", "podman", "-o", output)
    done = client_config("quay.io", *options)
    assert (done.returncode, done.stderr) == (0, "")
    written = [Path(line) for line in done.stdout.splitlines()]
    assert written[0] == output / "etc/containers/registries.conf.d/50-quay.io.conf"
    assert written[1].read_text() == certificate.read_text()
    assert [path.stat().st_mode & 0o777 for path in written] == [0o644, 0o644]
    login = ("quay.io", "--mirror", "https://x", "--username", "me", "--password-file", password)
    for arguments, message in (
        (("*", "--mirror", "http://x", "--for", "podman"), "podman has mirrors of named"),
        (("quay.io", "--mirror", "x"), "a mirror is http:// or https://"),
        (("quay.io", "--mirror", "https://x", "--ca", key), f"{key} holds no certificate in PEM"),
        ((*login, "--for", "podman"), "a password is written with -o, and never printed"),
        ((*login[:5], "-o", output), "--username and --password-file go together"),
        (("quay.io", "--mirror", "https://x", "--ca", output), f"cannot read {output}: Is a dir"),
    ):
        done = client_config(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(f"ERROR: {message}")
    assert client_config("quay.io").returncode == 2
    private = tmp_path / "private"
    done = client_config(*login, "-o", private)
    assert done.returncode == 0
    assert {Path(line).stat().st_mode & 0o777 for line in done.stdout.splitlines()} == {0o600}
    assert "secret" not in done.stdout + done.stderr
    auth = json.loads((private / "root/.config/containers/auth.json").read_text())
    assert auth == {"auths": {"x": {"auth": "bWU6c2VjcmV0"}}}
