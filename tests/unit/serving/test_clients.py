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
from image_uploader_plugins.reference import RepositoryName
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
        texts = clients.containerd([registry], mirror)
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
    assert content(clients.containerd(["docker.io"], HTTPS), ca) == "PEM\n"
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
        return tomllib.loads(content(clients.containerd(["quay.io"], mirror), path))

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
    texts = clients.podman(["quay.io:443"], mirror)
    path = "/etc/containers/registries.conf.d/50-quay.io-443.conf"
    assert tomllib.loads(content(texts, path)) == {
        "registry": [{"prefix": "quay.io:443", "location": "quay.io:443", "mirror": [fields]}]
    }
    if mirror.ca:
        assert content(texts, "/etc/containers/certs.d/registry.example.com/ca.crt") == "PEM\n"


def test_podman_with_a_path_and_a_login() -> None:
    texts = clients.podman(["quay.io"], FULL)
    path = "/etc/containers/registries.conf.d/50-quay.io.conf"
    location = "registry.example.com:8443/mirror/quay.io"
    assert tomllib.loads(content(texts, path)) == {
        "registry": [{"prefix": "quay.io", "location": location}]
    }
    assert json.loads(content(texts, "/root/.config/containers/auth.json")) == {
        "auths": {"registry.example.com:8443": {"auth": BASIC}}
    }
    also = dataclasses.replace(FULL, only=False)
    assert tomllib.loads(content(clients.podman(["quay.io"], also), path)) == {
        "registry": [
            {"prefix": "quay.io", "location": "quay.io", "mirror": [{"location": location}]}
        ]
    }


def test_k3s_with_a_path_and_a_login() -> None:
    texts = clients.k3s(["quay.io"], FULL)
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
    assert PurePosixPath(only) not in clients.k3s(["quay.io"], HTTP)


HUB_AND_PORT = ["docker.io", "registry:5000", "*"]
NAMES = Mirror("https://registry.example.com:8443", full_names=True)


def test_what_full_names_begin_with() -> None:
    below = dataclasses.replace(NAMES, url=f"{NAMES.url}/edge")
    found = [
        (each.path_of(registry), each.location(registry), each.api(registry))
        for each in (NAMES, below)
        for registry in HUB_AND_PORT
    ]
    address = "registry.example.com:8443"
    assert found == [
        ("docker.io", f"{address}/docker.io", f"https://{address}/v2/docker.io"),
        ("registry_5000", f"{address}/registry_5000", f"https://{address}/v2/registry_5000"),
        ("", address, f"https://{address}"),
        ("edge/docker.io", f"{address}/edge/docker.io", f"https://{address}/v2/edge/docker.io"),
        (
            "edge/registry_5000",
            f"{address}/edge/registry_5000",
            f"https://{address}/v2/edge/registry_5000",
        ),
        ("edge", f"{address}/edge", f"https://{address}/v2/edge"),
    ]


def test_containerd_with_full_names() -> None:
    texts = clients.containerd(HUB_AND_PORT, NAMES)
    found = {path.parent.name: tomllib.loads(text) for path, text in texts.items()}
    fields: dict[str, object] = {"capabilities": ["pull", "resolve"]}
    below = {**fields, "override_path": True}
    assert found == {
        "docker.io": {
            "server": "https://registry-1.docker.io",
            "host": {"https://registry.example.com:8443/v2/docker.io": below},
        },
        "registry:5000": {
            "server": "https://registry:5000",
            "host": {"https://registry.example.com:8443/v2/registry_5000": below},
        },
        "_default": {"host": {"https://registry.example.com:8443": fields}},
    }


def test_podman_with_full_names() -> None:
    texts = clients.podman(HUB_AND_PORT, dataclasses.replace(NAMES, login=("me", "p\u00e4ss:w")))
    folder = "/etc/containers/registries.conf.d"
    assert [str(path) for path in texts] == [
        f"{folder}/50-docker.io.conf",
        f"{folder}/50-registry-5000.conf",
        "/root/.config/containers/auth.json",
    ]
    for registry, prefix in (("docker.io", "docker.io"), ("registry:5000", "registry_5000")):
        path = f"{folder}/50-{registry.replace(':', '-')}.conf"
        location = f"registry.example.com:8443/{prefix}"
        assert tomllib.loads(content(texts, path)) == {
            "registry": [
                {"prefix": registry, "location": registry, "mirror": [{"location": location}]}
            ]
        }


@pytest.mark.parametrize("name", ["k3s", "rke2"])
def test_rancher_with_full_names(name: str) -> None:
    mirror = dataclasses.replace(NAMES, ca="PEM\n", only=True)
    texts = clients.CLIENTS[name](HUB_AND_PORT, mirror)
    folder = f"/etc/rancher/{name}"
    ca = f"{folder}/ca-registry.example.com-8443.crt"
    endpoint = {"endpoint": ["https://registry.example.com:8443"]}
    assert yaml.safe_load(content(texts, f"{folder}/registries.yaml")) == {
        "mirrors": {
            "docker.io": {**endpoint, "rewrite": {"^(.*)$": "docker.io/$1"}},
            "registry:5000": {**endpoint, "rewrite": {"^(.*)$": "registry_5000/$1"}},
            "*": endpoint,
        },
        "configs": {"registry.example.com:8443": {"tls": {"ca_file": ca}}},
    }
    assert content(texts, ca) == "PEM\n"
    assert yaml.safe_load(content(texts, f"{folder}/config.yaml.d/50-image-serve.yaml")) == {
        "disable-default-registry-endpoint": True
    }


def test_docker_with_full_names() -> None:
    texts = clients.docker(HUB_AND_PORT, NAMES)
    assert json.loads(content(texts, "/etc/docker/daemon.json")) == {
        "registry-mirrors": ["https://registry.example.com:8443"]
    }
    assert clients.remarks("docker", HUB_AND_PORT, NAMES) == [
        "docker takes full names only with containerd's image store",
        "docker has no mirror of registry:5000",
    ]
    assert clients.remarks("docker", ["docker.io"], HTTPS) == []
    assert clients.remarks("podman", HUB_AND_PORT, NAMES) == []
    with pytest.raises(errors.ConfigurationError, match="docker has mirrors of"):
        clients.docker(["quay.io", "*"], NAMES)


def test_talos() -> None:
    def registries(names: list[str], mirror: Mirror) -> object:
        texts = clients.talos(names, mirror)
        return yaml.safe_load(content(texts, "/etc/image-serve/talos.yaml"))

    assert registries(["*"], HTTP) == {
        "machine": {"registries": {"mirrors": {"*": {"endpoints": ["http://192.0.2.1:8787"]}}}}
    }
    url = "https://registry.example.com:8443"
    below = {"overridePath": True, "skipFallback": True}
    mirror = dataclasses.replace(NAMES, ca="PEM\n", login=("me", "pw"), only=True)
    assert registries(HUB_AND_PORT, mirror) == {
        "machine": {
            "registries": {
                "mirrors": {
                    "docker.io": {"endpoints": [f"{url}/v2/docker.io"], **below},
                    "registry:5000": {"endpoints": [f"{url}/v2/registry_5000"], **below},
                    "*": {"endpoints": [url], "skipFallback": True},
                },
                "config": {
                    "registry.example.com:8443": {
                        "tls": {"ca": "UEVNCg=="},
                        "auth": {"username": "me", "password": "pw"},
                    }
                },
            }
        }
    }
    assert registries(["quay.io"], INSECURE) == {
        "machine": {
            "registries": {
                "mirrors": {"quay.io": {"endpoints": ["https://[2001:db8::1]:8443"]}},
                "config": {"[2001:db8::1]:8443": {"tls": {"insecureSkipVerify": True}}},
            }
        }
    }


def test_openshift() -> None:
    objects = "/etc/image-serve/openshift.yaml"
    image = "/etc/image-serve/openshift-image.yaml"
    texts = clients.openshift(HUB_AND_PORT, dataclasses.replace(NAMES, ca="PEM\n"))
    policy = {"mirrorSourcePolicy": "AllowContactingSource"}
    address = "registry.example.com:8443"
    mirrors = [
        {"source": "docker.io", "mirrors": [f"{address}/docker.io"], **policy},
        {"source": "registry:5000", "mirrors": [f"{address}/registry_5000"], **policy},
    ]
    common = {"apiVersion": "config.openshift.io/v1", "metadata": {"name": "image-serve"}}
    assert list(yaml.safe_load_all(content(texts, objects))) == [
        {**common, "kind": "ImageDigestMirrorSet", "spec": {"imageDigestMirrors": mirrors}},
        {**common, "kind": "ImageTagMirrorSet", "spec": {"imageTagMirrors": mirrors}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "image-serve-ca", "namespace": "openshift-config"},
            "data": {"registry.example.com..8443": "PEM\n"},
        },
    ]
    assert yaml.safe_load(content(texts, image)) == {
        "spec": {"additionalTrustedCA": {"name": "image-serve-ca"}}
    }
    for insecure, where in ((HTTP, "192.0.2.1:8787"), (INSECURE, "[2001:db8::1]:8443")):
        texts = clients.openshift(["quay.io"], dataclasses.replace(insecure, only=True))
        for each in yaml.safe_load_all(content(texts, objects)):
            (items,) = each["spec"].values()
            never = {"mirrorSourcePolicy": "NeverContactSource"}
            assert items == [{"source": "quay.io", "mirrors": [where], **never}]
        assert yaml.safe_load(content(texts, image)) == {
            "spec": {"registrySources": {"insecureRegistries": [where]}}
        }
    assert [str(path) for path in clients.openshift(["quay.io"], NAMES)] == [objects]
    for names, mirror, reason in (
        (["*"], NAMES, "OpenShift has mirrors of named registries only"),
        (["quay.io"], FULL, "no passwords of their own"),
        (["quay.io"], Mirror("https://[::1]", ca="x"), "no CA for an IPv6 address"),
    ):
        with pytest.raises(errors.ConfigurationError, match=reason):
            clients.openshift(names, mirror)


def test_registries_in_a_tree() -> None:
    names = [
        RepositoryName(name)
        for name in (
            *("docker.io/library/nginx", "docker.io/library/redis", "quay.io/a", "app/web"),
            *("registry_5000/x", "localhost/x", "node.js", "edge/ghcr.io/x", "edge/app/x"),
            "0000-0000-0000-0000-0000-0000-0000-0001_5000/x",
        )
    ]
    found = ["[::1]:5000", "docker.io", "localhost", "quay.io", "registry:5000"]
    assert clients.registries_in(names, "") == found
    assert clients.registries_in(names, "edge") == ["ghcr.io"]
    assert clients.registries_in(names, "edg") == []


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
        clients.docker(["docker.io"], mirror)


@pytest.mark.parametrize("login", [("", "x"), ("x", ""), ("a:b", "x"), ("a", "b\n"), ("\0", "b")])
def test_what_is_no_login(login: tuple[str, str]) -> None:
    with pytest.raises(errors.ConfigurationError, match="a user has a name"):
        Mirror("http://x", login=login)
    assert "secret" not in repr(Mirror("http://x", login=("me", "secret")))


def test_k3s() -> None:
    def registries(registry: str, mirror: Mirror) -> object:
        texts = clients.k3s([registry], mirror)
        return yaml.safe_load(content(texts, "/etc/rancher/k3s/registries.yaml"))

    assert registries("*", HTTP) == {"mirrors": {"*": {"endpoint": ["http://192.0.2.1:8787"]}}}
    ca = "/etc/rancher/k3s/ca-registry.example.com.crt"
    assert registries("quay.io", HTTPS) == {
        "mirrors": {"quay.io": {"endpoint": ["https://registry.example.com"]}},
        "configs": {"registry.example.com": {"tls": {"ca_file": ca}}},
    }
    assert content(clients.k3s(["quay.io"], HTTPS), ca) == "PEM\n"
    assert registries("quay.io", INSECURE) == {
        "mirrors": {"quay.io": {"endpoint": ["https://[2001:db8::1]:8443"]}},
        "configs": {"[2001:db8::1]:8443": {"tls": {"insecure_skip_verify": True}}},
    }


def test_docker() -> None:
    def daemon(mirror: Mirror) -> object:
        return json.loads(content(clients.docker(["docker.io"], mirror), "/etc/docker/daemon.json"))

    assert daemon(HTTP) == {"registry-mirrors": ["http://192.0.2.1:8787"]}
    assert daemon(INSECURE) == {
        "registry-mirrors": ["https://[2001:db8::1]:8443"],
        "insecure-registries": ["[2001:db8::1]:8443"],
    }
    texts = clients.docker(["docker.io"], HTTPS)
    assert content(texts, "/etc/docker/certs.d/registry.example.com/ca.crt") == "PEM\n"
    with pytest.raises(errors.ConfigurationError, match="docker has mirrors of"):
        clients.docker(["quay.io"], HTTP)


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
        (("quay.io", "--mirror", "https://x", "--ca", output), f"cannot read {output}: Is a dir"),
    ):
        done = client_config(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(f"ERROR: {message}")
    for usage, message in (
        (("quay.io",), "the following arguments are required: --mirror"),
        ((*login, "--for", "podman"), "a password is written with -o, and never printed"),
        ((*login[:5], "-o", output), "--username and --password-file go together"),
    ):
        done = client_config(*usage)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(f"error: {message}\n")
    private = tmp_path / "private"
    done = client_config(*login, "-o", private)
    assert done.returncode == 0
    assert {Path(line).stat().st_mode & 0o777 for line in done.stdout.splitlines()} == {0o600}
    assert "secret" not in done.stdout + done.stderr
    auth = json.loads((private / "root/.config/containers/auth.json").read_text())
    assert auth == {"auths": {"x": {"auth": "bWU6c2VjcmV0"}}}
