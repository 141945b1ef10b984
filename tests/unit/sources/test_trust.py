# SPDX-License-Identifier: Apache-2.0
"""Who need not be verified, and who may be asked in the clear."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.sources import network_errors
from image_uploader_plugins.sources import trust as trusting
from image_uploader_plugins.sources.trust import Trust, is_loopback


def trust(*insecure: str, **environment: str) -> Trust:
    conf = {"CONTAINERS_REGISTRIES_CONF": "/nonexistent/registries.conf"}
    return Trust(insecure, certificates=(), environment=conf | environment)


@pytest.mark.parametrize(
    ("named", "registry", "expected"),
    [
        ("quay.io", "quay.io", True),
        ("Quay.IO/", "quay.io", True),
        ("https://quay.io", "quay.io", True),
        ("http://quay.io:5000/", "QUAY.io:5000", True),
        (" quay.io ", "quay.io", True),
        ("quay.io", "quay.io:5000", False),
        ("quay.io:5000", "quay.io", False),
        ("quay.io:5000", "quay.io:5001", False),
        ("quay.io", "evil-quay.io", False),
        ("quay.io", "quay.io.evil", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "10.1.2.3:5000", True),
        ("10.0.0.1/8", "10.1.2.3:5000", True),
        ("10.0.0.0/8", "11.1.2.3:5000", False),
        ("10.0.0.0/8", "[fd00::1]:5000", False),
        ("10.0.0.0/8", "quay.io", False),
        ("fd00::/8", "[fd00::1]:5000", True),
        ("fd00::/8", "[fe80::1]", False),
        ("0.0.0.0/0", "localhost", False),
    ],
)
def test_who_is_named(named: str, registry: str, expected: bool) -> None:
    assert trust(named).is_insecure(registry) is expected
    assert trust(named).may_be_plain(registry) is (expected or is_loopback(registry))


@pytest.mark.parametrize("named", ["quay.io/ns", "10.0.0.0/99", "10.0.0.0/8/9", "x/24"])
def test_what_is_neither_a_registry_nor_a_network(named: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"'{named}' is neither host, host:port"):
        trust(named)


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        *((f"{host}{port}", True) for host in ("localhost", "127.0.0.1") for port in ("", ":5000")),
        *((name, True) for name in ("LOCALHOST:5000", "localhost.", "localhost.:80", "127.1:5000")),
        *((name, True) for name in ("127.255.0.9", "[::1]", "[::1]:5000", "::1")),
        ("[::ffff:127.0.0.1]:5000", True),
        *((name, False) for name in ("localhost.evil", "evil.localhost", "127.0.0.1.evil:80")),
        *((name, False) for name in ("128.0.0.1", "[::2]:5000", "[::ffff:10.0.0.1]", "0.0.0.0")),
        *((name, False) for name in ("", ":5000", "1271", "local", "xn--localhost")),
    ],
)
def test_what_is_on_this_machine(registry: str, expected: bool) -> None:
    assert is_loopback(registry) is expected


def files(folder: Path, **contents: str) -> Path:
    """registries.conf as ``conf``, and the files beside it."""
    beside = folder / "registries.conf.d"
    beside.mkdir(parents=True)
    for name, content in contents.items():
        path = folder / "registries.conf" if name == "conf" else beside / f"{name}.conf"
        path.write_text(content)
    return folder / "registries.conf"


def entry(insecure: bool = True, **names: str) -> str:
    lines = [f'{name} = "{value}"' for name, value in names.items()]
    return "\n".join(["[[registry]]", *lines, f"insecure = {str(insecure).lower()}\n"])


@pytest.mark.parametrize(
    ("conf", "insecure", "secure"),
    [
        (entry(location="a:5000"), "a:5000", "a"),
        (entry(prefix="a:5000"), "a:5000", "b:5000"),
        (entry(prefix="a", location="b"), "b", "a"),  # b is what is asked for a
        (entry(location="A.Example"), "a.example", "b.example"),
        (entry(prefix="*.example"), "a.example", "example"),
        (entry(prefix="*.example"), "a.b.example", "evilexample"),
        (entry(location="a") + entry(location="b"), "b", "c"),
        ('[registries.insecure]\nregistries = ["a:5000", 1]\n', "a:5000", "a"),
    ],
)
def test_registries_conf(tmp_path: Path, conf: str, insecure: str, secure: str) -> None:
    found = Trust(certificates=(), registries_conf=files(tmp_path, conf=conf), environment={})
    assert found.is_insecure(insecure)
    assert not found.is_insecure(secure)


@pytest.mark.parametrize(
    "conf",
    [
        entry(insecure=False, location="a"),
        '[[registry]]\nlocation = "a"\n',
        '[[registry]]\nlocation = "a"\ninsecure = "true"\n',
        '[[registry]]\nlocation = "a"\ninsecure = 1\n',
        "[[registry]]\ninsecure = true\n",
        "[[registry]]\nlocation = 1\ninsecure = true\n",
        entry(prefix="x") + '[[registry.mirror]]\nlocation = "a"\ninsecure = true\n',
        "registry = 1\nregistries = 2\n",
        "registry = [1]\n[registries]\ninsecure = 3\n",
        "not toml",
        entry(location="a/ns"),
    ],
)
def test_what_names_nobody(tmp_path: Path, conf: str, caplog: pytest.LogCaptureFixture) -> None:
    """Verification is off only where that was asked for, and a path is not a registry."""
    found = Trust(certificates=(), registries_conf=files(tmp_path, conf=conf), environment={})
    assert not found.is_insecure("a")
    is_told = "is passed over" in caplog.text
    assert is_told is (conf in ("not toml", entry(location="a/ns")))


def test_the_files_are_not_read_for_what_the_operator_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf = files(tmp_path, conf="not toml")
    found = Trust(["a", "192.0.2.0/24"], certificates=(), registries_conf=conf, environment={})
    assert found.is_insecure("a")
    assert found.is_insecure("192.0.2.1:5000")
    assert not caplog.text
    assert not found.is_insecure("b")
    assert "is passed over" in caplog.text


def test_what_a_later_file_says_counts(tmp_path: Path) -> None:
    on, off = entry(location="a"), entry(insecure=False, location="a")
    for number, (contents, expected) in enumerate(
        [
            ({"conf": on, "x50": off}, False),
            ({"conf": off, "x50": on}, True),
            ({"conf": on, "x20": on, "x10": off}, True),
            ({"x20": off, "x10": on}, False),
        ]
    ):
        conf = files(tmp_path / str(number), **contents)
        found = Trust(certificates=(), registries_conf=conf, environment={})
        assert found.is_insecure("a") is expected, contents


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    own = files(tmp_path / "containers", conf=entry(location="a"), more=entry(location="b"))
    for environment in (
        {"XDG_CONFIG_HOME": str(tmp_path)},
        {"CONTAINERS_REGISTRIES_CONF": str(own), "HOME": "/nonexistent"},
    ):
        found = Trust(certificates=(), environment=environment)
        assert found.is_insecure("a")
        assert found.is_insecure("b")


def test_what_is_said_of_a_handshake_that_fails() -> None:
    """Which line to write where; and only what may pass is tried again."""

    def told(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> tuple[str, bool]:
        error = kind(1, reason)
        if isinstance(error, ssl.SSLCertVerificationError):
            error.verify_code = 19  # X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
        error.reason = reason.strip("[]").partition(" ")[2].partition("]")[0]
        found = network_errors.unreachable(
            "https://quay.io/v2/", error, Path("/etc/containers/certs.d/quay.io")
        )
        return str(found), found.retryable

    untrusted = told("[SSL: CERTIFICATE_VERIFY_FAILED] no", ssl.SSLCertVerificationError)
    assert "certs.d/quay.io or quay.io into DockerInsecureRegistryAddress or" in untrusted[0]
    plain = told("[SSL: WRONG_VERSION_NUMBER] wrong version number")
    assert "if it speaks plain HTTP, name quay.io in DockerInsecureRegistryAddress" in plain[0]
    alert = told("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert")
    assert "insecure_registries" not in alert[0]
    ended = told("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF", ssl.SSLEOFError)
    assert [may_pass for _, may_pass in (untrusted, plain, alert, ended)] == [False] * 3 + [True]


# -- CAs

CERTIFI = str(Path(certifi.where()).resolve())


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files and folders of CAs that are read."""
    found: list[str] = []
    trusting._shared.cache_clear()
    load = ssl.SSLContext.load_verify_locations

    def noted(context: ssl.SSLContext, *places: Any, **named: Any) -> None:
        found.extend(str(place) for place in (*places, *named.values()) if place)
        load(context, *places, **named)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", noted)
    return found


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copy(certifi.where(), tmp_path / "bundle.crt"))


def test_a_place_of_cas_is_read_once(loaded: list[str], bundle: Path) -> None:
    """Each takes a twentieth of a second."""
    link = bundle.with_name("link")
    link.symlink_to(bundle)
    variables = {"REQUESTS_CA_BUNDLE": str(bundle), "CURL_CA_BUNDLE": str(bundle)}
    verified = trust(**variables, SSL_CERT_FILE=str(link)).verified("quay.io")
    assert loaded.count(str(bundle)) == 1
    assert loaded.count(CERTIFI) == 1
    assert len(loaded) == len({Path(place).resolve() for place in loaded})
    loaded.clear()
    assert trust(**variables, SSL_CERT_FILE=str(link)).verified("docker.io") is verified
    assert loaded == []


def test_certifi_itself_may_be_named(loaded: list[str]) -> None:
    trust(SSL_CERT_FILE=certifi.where()).verified("quay.io")
    assert loaded.count(CERTIFI) == 1


def test_a_server_with_files_of_its_own_shares_nothing(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "own.example").mkdir()
    shutil.copy(bundle, tmp_path / "own.example/ca.crt")
    found = Trust(certificates=[tmp_path], environment={})
    common = found.verified("other.example")
    assert found.verified("own.example") is not common
    assert found.verified("other.example", tmp_path / "own.example") is not common
    assert found.verified("another.example") is common


def test_cas_that_are_replaced_count_from_then_on(bundle: Path, loaded: list[str]) -> None:
    found = trust(SSL_CERT_FILE=str(bundle))
    before = found.verified("quay.io")
    bundle.with_name("new").write_bytes(bundle.read_bytes())
    bundle.with_name("new").replace(bundle)
    assert found.verified("quay.io") is not before
    assert loaded.count(str(bundle)) == 2


def test_the_variables_of_openssl(loaded: list[str], bundle: Path, tmp_path: Path) -> None:
    usual = ssl.get_default_verify_paths()
    trust().verified("quay.io")
    assert str(Path(usual.openssl_capath).resolve()) in loaded
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    loaded.clear()
    folders = f"{tmp_path}/one::{tmp_path}/two:{tmp_path}/absent"
    trust(SSL_CERT_DIR=folders, SSL_CERT_FILE=str(bundle)).verified("quay.io")
    places = [str(bundle), str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "absent")]
    assert loaded == [CERTIFI, *places]


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_cas_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "no.crt").write_text("no certificate\n")
    for path, reason in (
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path / "no.crt", "holds no certificate in PEM"),
    ):
        with pytest.raises(errors.ConfigurationError) as caught:
            trust(**{name: str(path)}).verified("quay.io")
        assert str(caught.value) == f"{name}={path}: {reason}"
