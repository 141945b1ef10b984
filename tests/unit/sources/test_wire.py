# SPDX-License-Identifier: Apache-2.0
"""No byte goes where it should not: the installed command, watched from outside.

The kernel says where it connects to and what it opens and starts; servers of
the tests end the TLS and keep what came.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from image_uploader_plugins.demonstration import SERVED_AT, environment_for
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import caches, calls, commands, odd_registry, proxy, tls, trees
from tests.support.odd_registry import Asked, OddRegistry, Reply, challenge, text

IMAGE: Image = images.image("ns/app", "1", [images.layer({"a": b"a"}), images.layer({"b": b"b"})])
OTHER: Image = images.image("ns/other", "1", [images.layer({"c": b"c"})])
PASSWORD, IDENTITY, OTHERS, NETRC = "pW-7sEcReT", "iD-8sEcReT", "oT-9sEcReT", "nR-6sEcReT"
TOKEN, SIGNATURE, COOKIE = "tK-5sEcReT", "sG-4sEcReT", "cK-3sEcReT"
PROXYS = "pX-2sEcReT"
SECRETS = (PASSWORD, IDENTITY, OTHERS, NETRC, TOKEN, SIGNATURE, COOKIE)
# What the servers by TLS are called behind a proxy.
HOSTS = {name: f"{name}.test" for name in ("registry", "tokens", "storage")}

_INTERNET = re.compile(r'htons\((\d+)\).*?(?:inet_addr\(|AF_INET6, )"([^"]+)"')


def spellings(secret: str) -> list[bytes]:
    """A secret as it would stand on the wire, for any user."""
    encoded = {base64.b64encode(f"{'u' * n}:{secret}".encode())[8:-4] for n in (3, 4, 5)}
    assert min(map(len, encoded)) >= 8, "too short to be found"
    return [secret.encode(), *encoded]


def holds(raw: bytes, secret: str) -> bool:
    return any(spelling in raw for spelling in spellings(secret))


@dataclasses.dataclass
class Scene:
    """A registry with a token server and a storage, by TLS, and another one without."""

    registry: OddRegistry = dataclasses.field(default_factory=lambda: OddRegistry([IMAGE]))
    tokens: OddRegistry = dataclasses.field(default_factory=OddRegistry)
    storage: OddRegistry = dataclasses.field(default_factory=OddRegistry)
    other: OddRegistry = dataclasses.field(default_factory=lambda: OddRegistry([OTHER]))
    target: OddRegistry = dataclasses.field(default_factory=OddRegistry)
    addresses: dict[str, str] = dataclasses.field(default_factory=dict)

    def answer_registry(self, asked: Asked) -> Reply | None:
        cookie = ("Set-Cookie", f"c={COOKIE}; Domain=127.0.0.1; Path=/")
        if asked.authorization != f"Bearer {TOKEN}":
            realm = f"https://{self.addresses['tokens']}/token"
            reply = challenge(f'Bearer realm="{realm}",service="s"')
            return dataclasses.replace(reply, headers=(*reply.headers, cookie))
        if "/blobs/" in asked.path:
            digest = asked.path.rpartition("/")[2]
            where = f"https://{self.addresses['storage']}/{digest}?sig={SIGNATURE}"
            return Reply(307, (("Location", where), cookie))
        return None

    def answer_other(self, asked: Asked) -> Reply | None:
        return None if asked.authorization == basic("bob", OTHERS) else challenge('Basic realm="r"')

    @contextlib.contextmanager
    def open(self, folder: Path) -> Iterator[None]:
        pair = tls.make(folder, names=",".join(f"DNS:{host}" for host in HOSTS.values()))
        self.registry.hook, self.other.hook = self.answer_registry, self.answer_other
        self.tokens.hook = lambda asked: text({"token": TOKEN}, 200, ("Set-Cookie", f"c={COOKIE}"))
        self.storage.hook = lambda asked: Reply(
            200,
            (("Set-Cookie", f"c={COOKIE}"),),
            IMAGE.blobs[Digest(asked.path.rpartition("/")[2])],
        )
        with contextlib.ExitStack() as stack:
            for name in ("registry", "tokens", "storage"):
                serving = odd_registry.serving(getattr(self, name), pair)
                self.addresses[name] = stack.enter_context(serving)
            for name in ("other", "target"):
                self.addresses[name] = stack.enter_context(
                    odd_registry.serving(getattr(self, name))
                )
            yield


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene()
    with made.open(tmp_path):
        yield made


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def environment(tmp_path: Path, scene: Scene) -> dict[str, str]:
    """One's own home, with a helper for the registry, a login for the other, and a .netrc."""
    home = tmp_path / "home"
    home.mkdir()
    netrc = home / ".netrc"
    netrc.write_text(f"default login me password {NETRC}\n")
    netrc.chmod(0o600)
    helper = home / "docker-credential-test"
    answer = json.dumps({"Username": "<token>", "Secret": IDENTITY})
    helper.write_text(f"#!/bin/sh\ncat >{home}/asked; cat <<'END'\n{answer}\nEND\n")
    helper.chmod(0o755)
    login = {"auth": basic("bob", OTHERS).partition(" ")[2]}
    auth = home / "auth.json"
    auth.write_text(
        json.dumps(
            {
                "credHelpers": {scene.addresses["registry"]: "test"},
                "auths": {scene.addresses["other"]: login},
            }
        )
    )
    return {
        "HOME": str(home),
        "NETRC": str(netrc),
        "PATH": f"{home}:/usr/bin:/bin",
        "REGISTRY_AUTH_FILE": str(auth),
        "REQUESTS_CA_BUNDLE": str(tmp_path / tls.CERTIFICATE),
    }


def upload(folder: Path, *names: str) -> list[str]:
    file = folder / "images.yaml"
    entries = [{"imagename": name, "push_destination": SERVED_AT} for name in names]
    file.write_text(yaml.safe_dump({"container_images": entries}))
    return ["upload", str(file)]


def prepare(folder: Path, scene: Scene) -> list[str]:
    registry, other = scene.addresses["registry"], scene.addresses["other"]
    found = environment_for([IMAGE], registry)["parameter_defaults"]
    found["ContainerImagePrepare"] += environment_for([OTHER], other)["parameter_defaults"][
        "ContainerImagePrepare"
    ]
    for entry in found["ContainerImagePrepare"]:
        entry["push_destination"] = scene.addresses["target"]
    found["ContainerImageRegistryCredentials"] = {
        registry: {"alice": PASSWORD},
        other: {"bob": OTHERS},
    }
    file = folder / "environment.yaml"
    file.write_text(yaml.safe_dump({"parameter_defaults": found}))
    return ["prepare", "-e", str(file)]


def command(folder: Path, root: Path, arguments: list[str], *options: str) -> list[str]:
    return commands.line(commands.configuration(root, folder), *options, *arguments)


def connections(lines: list[str]) -> set[str]:
    """Where a program connects to, by whatever protocol of the internet."""
    found = [line for line in lines if line.startswith("connect(") and "AF_INET" in line]
    matches = [_INTERNET.search(line) for line in found]
    assert all(matches), found
    return {f"{match[2]}:{match[1]}" for match in matches if match}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["upload", "prepare"])
def test_every_server_gets_its_own_and_nothing_else(
    scene: Scene, environment: dict[str, str], tmp_path: Path, root: Path, how: str
) -> None:
    names = [f"{scene.addresses['registry']}/ns/app:1", f"{scene.addresses['other']}/ns/other:1"]
    arguments = upload(tmp_path, *names) if how == "upload" else prepare(tmp_path, scene)
    lines, done = calls.traced(
        ["connect", "open", "openat", "openat2", "execve", "execveat"],
        command(tmp_path, root, [*arguments, "--report", str(tmp_path / "report.json")]),
        tmp_path / "calls",
        environment,
    )
    assert done.returncode == 0, done.stderr
    assert trees.catalog(root) == ["ns/app", "ns/other"]

    # What tripleo-common writes for clients depends on whether the target speaks TLS.
    asked = set(scene.addresses) - ({"target"} if how == "upload" else set())
    assert connections(lines) == {scene.addresses[name] for name in asked}
    mine = {
        "registry": {TOKEN},
        "tokens": {IDENTITY if how == "upload" else PASSWORD},
        "storage": {SIGNATURE},
        "other": {OTHERS},
        "target": set(),
    }
    for name, secrets in mine.items():
        raw = getattr(scene, name).raw()
        assert {secret for secret in SECRETS if holds(raw, secret)} == secrets, name
        assert b"cookie" not in raw.lower(), name
    assert b"authorization" not in scene.storage.raw().lower()

    opened = {line for line in lines if "open" in line.partition("(")[0]}
    assert not [line for line in opened if "netrc" in line]
    logins = {"auth.json", "config.json", ".dockercfg", ".dockerconfigjson"}
    paths = {match[1] for line in opened for match in re.finditer(r'"([^"]*)"', line)}
    expected = {environment["REGISTRY_AUTH_FILE"]} if how == "upload" else set()
    assert {path for path in paths if Path(path).name in logins} == expected

    started = [line for line in lines if line.startswith("execve")]
    assert any("docker-credential-test" in line for line in started) is (how == "upload")
    assert not [line for line in started if any(holds(line.encode(), s) for s in SECRETS)]
    if how == "upload":
        assert (Path(environment["HOME"]) / "asked").read_text() == scene.addresses["registry"]

    found = json.loads((tmp_path / "report.json").read_text())
    insecure = {image["source"]: image["insecure"] for image in found["images"]}
    assert insecure == {names[0]: False, names[1]: True}
    assert not any(holds(file, secret) for file in written(tmp_path) for secret in SECRETS)


def run_plainly(
    folder: Path, root: Path, environment: dict[str, str], arguments: list[str], *options: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, root, arguments, *options),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def written(folder: Path) -> Iterator[bytes]:
    """What a run has left behind: reports, metrics, logs and the tree."""
    given = ("home", "environment.yaml", "calls")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] not in given:
            yield path.read_bytes()


# -- through a proxy


@pytest.fixture
def proxied(
    scene: Scene, environment: dict[str, str]
) -> Iterator[tuple[dict[str, str], proxy.Traffic, str]]:
    """The environment of somebody behind a proxy, to whom all by TLS have names; what passes."""
    for name, host in HOSTS.items():
        scene.addresses[name] = f"{host}:{scene.addresses[name].rpartition(':')[2]}"
    login = Path(environment["REGISTRY_AUTH_FILE"])
    fields = json.loads(login.read_text())
    login.write_text(json.dumps({**fields, "credHelpers": {scene.addresses["registry"]: "test"}}))
    with (
        caches.forward_squid(HOSTS.values(), "proxyuser", PROXYS) as squid,
        proxy.between(squid) as (address, traffic),
    ):
        url = f"http://proxyuser:{PROXYS}@{address}"
        yield {**environment, "https_proxy": url, "http_proxy": url}, traffic, address


@pytest.mark.slow
def test_a_proxy_learns_hosts_and_nothing_else(
    scene: Scene,
    proxied: tuple[dict[str, str], proxy.Traffic, str],
    tmp_path: Path,
    root: Path,
) -> None:
    """And what is on this machine is asked without it."""
    environment, traffic, address = proxied
    names = [f"{scene.addresses['registry']}/ns/app:1", f"{scene.addresses['other']}/ns/other:1"]
    lines, done = calls.traced(
        ["connect"],
        command(tmp_path, root, upload(tmp_path, *names), "--debug"),
        tmp_path / "calls",
        environment,
    )
    assert done.returncode == 0, done.stderr
    assert connections(lines) == {address, scene.addresses["other"]}
    heads = re.findall(rb"(?:CONNECT|GET|POST) [^\x00]*?\r\n\r\n", traffic.asked)
    logged_in = basic("proxyuser", PROXYS)
    for head in heads:
        first, *fields = head.decode().split("\r\n")
        assert re.fullmatch(r"CONNECT (registry|tokens|storage)\.test:\d+ HTTP/1\.[01]", first)
        kinds = {field.partition(":")[0].lower() for field in fields if field}
        assert kinds <= {"host", "proxy-authorization"}
        assert f"Proxy-Authorization: {logged_in}" in fields
    assert {head.split()[1].decode() for head in heads} == {scene.addresses[name] for name in HOSTS}
    assert not any(holds(traffic.asked, secret) for secret in SECRETS)
    for name in ("registry", "tokens", "storage", "other"):
        raw = getattr(scene, name).raw()
        assert b"proxy" not in raw.lower(), name
        assert not holds(raw, PROXYS), name
    assert not any(holds(done.stderr.encode(), secret) for secret in (*SECRETS, PROXYS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"no_proxy": "x.test,tokens.test"}, "no such host: tokens.test"),
        ({"https_proxy": "http://proxyuser:{wrong}@{address}"}, "the proxy refuses: 407"),
    ],
)
def test_a_proxy_that_is_of_no_use(
    scene: Scene,
    proxied: tuple[dict[str, str], proxy.Traffic, str],
    tmp_path: Path,
    root: Path,
    change: dict[str, str],
    reason: str,
) -> None:
    """Asked once; and its password is in no message."""
    environment, traffic, address = proxied
    change = {name: value.format(wrong=NETRC, address=address) for name, value in change.items()}
    done = run_plainly(
        tmp_path,
        root,
        environment | change,
        upload(tmp_path, f"{scene.addresses['registry']}/ns/app:1"),
        "--debug",
    )
    assert done.returncode == 1
    assert reason in done.stderr
    assert "trying again" not in done.stderr
    assert not any(holds(done.stderr.encode(), secret) for secret in (*SECRETS, PROXYS))
    assert b"tokens.test" not in traffic.asked


@pytest.mark.slow
@pytest.mark.parametrize(
    ("proxy_url", "reason"),
    [
        ("http://u:{}@proxy.invalid:1", "no such host: proxy.invalid"),
        ("http://u:{}@x:y", ""),
        ("u:{}@[", ""),
    ],
)
def test_a_proxy_that_is_none(
    environment: dict[str, str], tmp_path: Path, root: Path, proxy_url: str, reason: str
) -> None:
    """Asked once; and its password is in no message."""
    environment = {**environment, "https_proxy": proxy_url.format(PROXYS)}
    arguments = upload(tmp_path, "registry.test/ns/app:1")
    done = run_plainly(tmp_path, root, environment, arguments, "--debug")
    assert done.returncode == 1
    assert (
        f"ERROR: registry.test/ns/app:1: https://registry.test/v2/ns/app/manifests/1: {reason}"
        in done.stderr
    )
    assert "trying again" not in done.stderr
    assert not holds(done.stderr.encode(), PROXYS)
