# SPDX-License-Identifier: Apache-2.0
"""In the clear: where that was asked for, and nowhere else."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from image_uploader_plugins import errors, loader
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources import session, tries
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.trust import Trust
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import odd_registry, tls
from tests.support.odd_registry import Asked, OddRegistry, Reply, challenge, text
from tests.support.registry import free_port

IMAGE: Image = images.image("ns/app", "1", [images.layer({"a": b"a"})])
LOGIN = Login("u", "password")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on this machine counts as on another."""
    monkeypatch.setattr("image_uploader_plugins.sources.trust.is_loopback", lambda name: False)


@pytest.fixture
def registry() -> OddRegistry:
    return OddRegistry([IMAGE], passwords)


def passwords(asked: Asked) -> Reply | None:
    return None if asked.authorization == LOGIN.basic else challenge('Basic realm="r"')


def read(address: str, trust: Trust, others: tuple[str, ...] = ()) -> bool:
    """Read a manifest with a login; whether all came by TLS that was verified."""
    chain = Keychain(dict.fromkeys((address, *others), LOGIN), {})
    with contextlib.closing(Registries(Settings(chain, trust))) as found:
        source = RegistrySource(found.registry(address), "ns/app")
        assert source.manifest(Tag("1")).content == IMAGE.manifest.content
        return found.registry(address).is_verified


def nobody(**environment: str) -> Trust:
    return Trust(certificates=(), environment={"HOME": "/nonexistent", **environment})


def by_parameter(address: str, folder: Path) -> Trust:
    """As DockerInsecureRegistryAddress is handed on."""
    return loader.settings(loader.load_conf(config_files=[]), [address]).trust


def by_option(address: str, folder: Path) -> Trust:
    file = folder / "image-uploader.conf"
    file.write_text(f"[image_uploader]\ninsecure_registries = quay.io,{address}\n")
    return loader.settings(loader.load_conf(config_files=[str(file)])).trust


def by_registries_conf(address: str, folder: Path) -> Trust:
    file = folder / "registries.conf"
    file.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    return nobody(CONTAINERS_REGISTRIES_CONF=str(file))


WAYS = [by_parameter, by_option, by_registries_conf]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.usefixtures("far_away")
def test_each_way_to_name_a_registry(
    registry: OddRegistry, tmp_path: Path, with_tls: bool, way: object
) -> None:
    """Plain or not verified: it may be either, and gets the password; unnamed it gets nothing."""
    pair = tls.make(tmp_path) if with_tls else None
    with odd_registry.serving(registry, pair) as address:
        with pytest.raises(errors.RegistryUnreachable, match="insecure_registries") as caught:
            read(address, nobody())
        assert not caught.value.retryable
        assert registry.asked == []
        assert not read(address, way(address, tmp_path))  # type: ignore[operator]
        assert LOGIN.basic in registry.seen()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_plain_port_of_this_machine(registry: OddRegistry, host: str) -> None:
    with odd_registry.serving(registry, host=host) as address:
        assert not read(address, nobody())


@pytest.mark.slow
def test_a_port_of_this_machine_by_tls(registry: OddRegistry, tmp_path: Path) -> None:
    """Its certificate is verified as any other, and never goes around by http."""
    certificate, key = tls.make(tmp_path)
    with odd_registry.serving(registry, (certificate, key)) as address:
        with pytest.raises(errors.RegistryUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            read(address, nobody())
        assert registry.asked == []
        assert read(address, nobody(CURL_CA_BUNDLE=str(certificate)))


@contextlib.contextmanager
def answering(first: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A port that says ``first``, and what each connection said before."""
    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        said.append(connection.recv(65536))
                        connection.sendall(first)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}", said
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "times"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 1),
        (b"HTTP/1.1 401 no\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", 1),
        (b"SSH-2.0-x\r\n", 1),
        (bytes.fromhex("15030300020228"), 1),  # an alert: handshake_failure
        (b"", 5),
    ],
)
@pytest.mark.usefixtures("far_away")
def test_one_in_the_middle_who_answers_in_plain_text(first: bytes, times: int) -> None:
    """Gets the beginning of TLS and nothing else; what can never change is asked once."""
    with answering(first) as (address, said), pytest.raises(errors.RegistryUnreachable):
        read(address, nobody())
    assert len(said) == times
    assert all(hello[:1] == b"\x16" for hello in said)
    assert b"GET" not in b"".join(said)


def test_an_alert_is_a_failure_on_this_machine_too() -> None:
    with answering(bytes.fromhex("15030300020228")) as (address, said):
        with pytest.raises(errors.RegistryUnreachable, match="ALERT"):
            read(address, nobody())
        assert all(hello[:1] == b"\x16" for hello in said)


def tokens_at(realm: str) -> odd_registry.Hook:
    def hook(asked: Asked) -> Reply | None:
        if asked.authorization == "Bearer T":
            return None
        return challenge(f'Bearer realm="{realm}/token"')

    return hook


@pytest.mark.slow
def test_a_token_server_in_the_clear(registry: OddRegistry, tmp_path: Path) -> None:
    """Of a registry on https it is refused, on this machine too, unless it is named itself."""
    certificate, key = tls.make(tmp_path)
    tokens = OddRegistry(hook=lambda asked: text({"token": "T"}))
    with (
        odd_registry.serving(registry, (certificate, key)) as address,
        odd_registry.serving(tokens) as plain,
    ):
        registry.hook = tokens_at(f"http://{plain}")
        trusted = {"SSL_CERT_FILE": str(certificate)}
        for insecure in ([], [address]):
            trust = Trust(insecure, certificates=(), environment=trusted)
            with pytest.raises(errors.RegistryUnreachable, match="not asked in the clear") as e:
                read(address, trust)
            assert not e.value.retryable
        assert tokens.asked == []
        read(address, Trust([plain], certificates=(), environment=trusted))
    assert tokens.seen() == {LOGIN.basic}


def test_a_token_server_that_is_not_verified(registry: OddRegistry, tmp_path: Path) -> None:
    """It gets no password, though its registry is named as insecure."""
    tokens = OddRegistry(hook=lambda asked: text({"token": "T"}))
    with (
        odd_registry.serving(registry) as address,
        odd_registry.serving(tokens, tls.make(tmp_path)) as elsewhere,
    ):
        registry.hook = tokens_at(f"https://{elsewhere}")
        with pytest.raises(errors.RegistryUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            read(address, Trust([address], certificates=(), environment={}))
        assert tokens.asked == []
        read(address, Trust([address, elsewhere], certificates=(), environment={}))


@pytest.mark.usefixtures("far_away")
def test_an_insecure_registry_does_not_open_other_hosts(registry: OddRegistry) -> None:
    """A password goes in the clear to who was named, and to nobody that it names."""
    tokens = OddRegistry(hook=lambda asked: text({"token": "T"}))
    with (
        odd_registry.serving(registry) as address,
        odd_registry.serving(tokens, host="::1") as elsewhere,
    ):
        registry.hook = tokens_at(f"http://{elsewhere}")
        with pytest.raises(errors.RegistryUnreachable, match="no password is sent there"):
            read(address, Trust([address], certificates=(), environment={}))
        assert tokens.asked == []


def test_a_port_that_opens_late_is_found_out_again(registry: OddRegistry) -> None:
    """Nobody answered the first time; that is no word on how it is spoken to."""
    with socket.socket() as held:
        port = free_port()
        held.bind(("127.0.0.1", port))  # and nobody listens
        address = f"127.0.0.1:{port}"
        made = Registries(Settings(Keychain({address: LOGIN}, {}), nobody()))
        source = RegistrySource(made.registry(address), "ns/app")
        with pytest.raises(errors.RegistryUnreachable, match="refused"):
            source.manifest(Tag("1"))
    with contextlib.closing(made), odd_registry.serving(registry, port=port):
        source.manifest(Tag("1"))


def test_connecting_takes_no_longer_than_that(
    monkeypatch: pytest.MonkeyPatch, registry: OddRegistry
) -> None:
    times = []
    real = urllib3.HTTPConnectionPool.urlopen

    def spied(self: Any, *given: Any, **more: Any) -> Any:
        times.append((self.scheme, more["timeout"].connect_timeout, more["timeout"].read_timeout))
        return real(self, *given, **more)

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", spied)
    with odd_registry.serving(registry) as address:
        read(address, nobody())
    # Of plain answers the end of the wait is up to the reader.
    assert set(times) == {("https", 10.0, 300.0), ("http", 10.0, None)}


def test_a_plain_answer_that_does_not_come_ends_the_wait() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        session.Session(read_timeout=0.01) as asking,
        pytest.raises(urllib3.exceptions.ReadTimeoutError),
    ):
        asking.send("GET", "http://{}:{}/".format(*silent.getsockname()), {})
