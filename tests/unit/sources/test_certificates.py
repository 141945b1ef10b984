# SPDX-License-Identifier: Apache-2.0
"""Certificates of registries and of clients, in certs.d, and what is said where one is missing."""

from __future__ import annotations

import contextlib
import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.keychain import Keychain
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.tries import Tries
from image_uploader_plugins.sources.trust import CERTIFICATES, Trust
from image_uploader_plugins.testing import images
from tests.support import odd_registry, tls, web
from tests.support.odd_registry import OddRegistry
from tests.support.tls import Authority

IMAGE = images.image("ns/app", "1", [])

Pair = tuple[Path, Path]
Pull = Callable[..., None]


class Shop:
    """A CA with all that it has signed, one between it and a server, and another CA."""

    def __init__(self, folder: Path) -> None:
        self.own = Authority(folder / "own")
        self.other = Authority(folder / "other")
        self.between = Authority(folder / "own", "between", self.own)
        self.server = self.own.sign("server")
        self.below = self.between.sign("below")
        self.ended = self.own.sign("ended", days=-1)
        self.named = self.own.sign("named", "subjectAltName=DNS:registry.example")
        self.client = self.own.sign("client")
        self.client_ended = self.own.sign("client-ended", days=-1)
        self.stranger = self.other.sign("stranger")
        self.itself = tls.make(folder)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, ...]:
    """What /etc/containers/certs.d and /etc/docker/certs.d are, here."""
    assert [str(path) for path in CERTIFICATES] == [
        "/etc/containers/certs.d",
        "/etc/docker/certs.d",
    ]
    return tmp_path / "containers", tmp_path / "docker"


@pytest.fixture
def pull(folders: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> Pull:
    """Read an image's manifest, asking as somebody with these folders does."""
    monkeypatch.setattr(Tries, "pause", lambda self, seconds: None)

    def pull(address: str, **rules: RegistryRules) -> None:
        trust = Trust(certificates=folders, environment={})
        settings = Settings(keychain=Keychain({}, {}), trust=trust, rules=rules)
        registries = Registries(settings)
        with contextlib.closing(registries):
            source = RegistrySource(registries.registry(address), "ns/app")
            assert source.manifest(Tag("1")).digest == IMAGE.digest

    return pull


@contextlib.contextmanager
def serving(pair: Pair, clients: Path | None = None) -> Iterator[str]:
    with odd_registry.serving(OddRegistry([IMAGE]), pair, clients) as address:
        yield address


def put(folder: Path, address: str, **files: Path) -> None:
    """Put files into the folder of a registry: ``ca_crt`` becomes ``ca.crt``."""
    (folder / address).mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        shutil.copy(path, folder / address / name.replace("_", "."))


def put_client(folder: Path, address: str, pair: Pair) -> None:
    put(folder, address, client_cert=pair[0], client_key=pair[1])


def said(pull: Pull, address: str) -> str:
    with pytest.raises(errors.RegistryUnreachable) as caught:
        pull(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_ca_of_one_registry(
    shop: Shop, folders: tuple[Path, ...], pull: Pull, number: int
) -> None:
    """It is nobody's else, nor that of another port."""
    with serving(shop.server) as address, serving(shop.server) as another:
        put(folders[number], address, ca_crt=shop.own.certificate)
        put(folders[number], "127.0.0.1", ca_crt=shop.own.certificate)
        pull(address)
        assert f"put its CA into /etc/containers/certs.d/{another} or " in said(pull, another)


def test_a_ca_that_another_one_has_signed(
    shop: Shop, folders: tuple[Path, ...], pull: Pull
) -> None:
    with serving(shop.below) as address:
        put(folders[0], address, ca_crt=shop.between.certificate)
        pull(address)


@pytest.mark.slow
def test_a_certificate_that_signs_itself(shop: Shop, folders: tuple[Path, ...], pull: Pull) -> None:
    with serving(shop.itself) as address:
        reason = said(pull, address)
        assert "self-signed certificate" in reason
        assert f"put its CA into /etc/containers/certs.d/{address} or {address} into " in reason
        put(folders[0], address, own_crt=shop.itself[0])
        pull(address)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("stranger", "put its CA into"),
        ("ended", "certificate has expired.*it needs a new certificate, or this machine's clock"),
        ("named", "not valid for '127.0.0.1'.*use a name that is in its certificate"),
    ],
)
def test_certificates_that_are_not_right(
    shop: Shop, folders: tuple[Path, ...], pull: Pull, kind: str, reason: str
) -> None:
    with serving(getattr(shop, kind)) as address:
        put(folders[0], address, ca_crt=shop.own.certificate)
        with pytest.raises(errors.RegistryUnreachable, match=reason) as caught:
            pull(address)
    assert not caught.value.retryable


@pytest.mark.slow
def test_a_client_certificate(shop: Shop, folders: tuple[Path, ...], pull: Pull) -> None:
    """A CA and a pair may be in two folders; names of files are the operator's."""
    with serving(shop.server, shop.own.certificate) as address:
        put(folders[0], address, ca_crt=shop.own.certificate)
        wanted = f"client's certificate, put /etc/containers/certs.d/{address}/client.cert and "
        assert wanted in said(pull, address)
        put_client(folders[1], address, shop.client)
        pull(address)


@pytest.mark.parametrize("kind", ["client_ended", "stranger"])
def test_client_certificates_that_are_refused(
    shop: Shop,
    folders: tuple[Path, ...],
    pull: Pull,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    usual = Settings.context

    def older(self: Settings, address: str) -> ssl.SSLContext:
        # In TLS 1.3 the alert may be lost, where the server closes the connection behind it.
        context = usual(self, address)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    monkeypatch.setattr(Settings, "context", older)
    with serving(shop.server, shop.own.certificate) as address:
        put(folders[0], address, ca_crt=shop.own.certificate)
        put_client(folders[0], address, getattr(shop, kind))
        reason = said(pull, address)
    assert (
        f"refuses the certificate of this client that is in {CERTIFICATES[0]}/{address}" in reason
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"ca_crt": "key"}, r"ca\.crt: holds no certificate in PEM"),
        ({"client_cert": "cert"}, r"client\.cert and .*client\.key: No such file"),
        ({"client_cert": "cert", "client_key": "another"}, r"client\.key: cannot be used together"),
        ({"client_cert": "key", "client_key": "key"}, r"client\.key: cannot be used together"),
        ({"client_cert": "locked cert", "client_key": "locked"}, r"client\.key is encrypted"),
    ],
)
def test_files_of_certs_d_that_are_of_no_use(
    shop: Shop,
    folders: tuple[Path, ...],
    pull: Pull,
    tmp_path: Path,
    files: dict[str, str],
    reason: str,
) -> None:
    known = {"cert": shop.client[0], "key": shop.client[1], "another": shop.server[1]}
    if "locked" in files.values():
        (tmp_path / "locked").mkdir()
        locked = tls.make(tmp_path / "locked", "-passout", "pass:x")
        known |= {"locked cert": locked[0], "locked": locked[1]}
    with serving(shop.server) as address:
        put(folders[1], address, **{name: known[of] for name, of in files.items()})
        with pytest.raises(errors.ConfigurationError, match=reason) as caught:
            pull(address)
    assert "\n" not in str(caught.value)


def test_a_folder_that_rules_name(
    shop: Shop, folders: tuple[Path, ...], tmp_path: Path, pull: Pull
) -> None:
    """It takes the place of certs.d, for its registry alone, and has to be there."""
    folder = tmp_path / "of-rules"
    with serving(shop.server, shop.own.certificate) as address, serving(shop.server) as another:
        rules = {address: RegistryRules(certs_dir=folder)}
        with pytest.raises(errors.ConfigurationError, match=f"cannot read {folder}: No such file"):
            pull(address, **rules)
        put(tmp_path, folder.name, ca_crt=shop.own.certificate)
        with pytest.raises(errors.RegistryUnreachable, match=f"put {folder}/client"):
            pull(address, **rules)
        put_client(folders[0], address, shop.client)
        with pytest.raises(errors.RegistryUnreachable, match=f"put {folder}/client"):
            pull(address, **rules)
        put_client(tmp_path, folder.name, shop.client)
        pull(address, **rules)
        assert f"put its CA into /etc/containers/certs.d/{another} or " in said(pull, another)
        with pytest.raises(errors.RegistryUnreachable, match=f"put its CA into /etc/.*{another}"):
            pull(another, **rules)


_SITE = """
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {server[0]};
    ssl_certificate_key {server[1]};
    ssl_client_certificate {ca};
    ssl_verify_client on;
    location / {{ proxy_pass http://{behind}; }}
}}
"""


@pytest.mark.slow
def test_nginx_that_wants_a_client_certificate(folders: tuple[Path, ...], pull: Pull) -> None:
    """It takes the connection without one, and refuses the request."""
    with contextlib.ExitStack() as stack:
        shop = Shop(stack.enter_context(web.open_folder()))
        behind = stack.enter_context(odd_registry.serving(OddRegistry([IMAGE])))

        def site(place: Path, port: int) -> str:
            values = {"server": shop.server, "ca": shop.own.certificate, "behind": behind}
            return web.nginx_main(place, _SITE.format(port=port, **values))

        address = stack.enter_context(web.running("nginx", site))
        put(folders[0], address, ca_crt=shop.own.certificate)
        with pytest.raises(errors.RegistryError, match="No required SSL certificate was sent"):
            pull(address)
        put_client(folders[0], address, shop.client)
        pull(address)
