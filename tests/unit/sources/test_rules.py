# SPDX-License-Identifier: Apache-2.0
"""Rules for one registry, beside those for all."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.trust import Trust
from tests.support import odd_registry, tls
from tests.support.odd_registry import OddRegistry
from tests.support.sources import LOGIN, Open, passwords, pull, tokens

SECURE, INSECURE = RegistryRules(insecure=False), RegistryRules(insecure=True)


def of(login: Login) -> RegistryRules:
    return RegistryRules(username=login.username, password=login.password)


def settings(*insecure: str, **rules: RegistryRules) -> Settings:
    trust = Trust(insecure, certificates=(), environment={})
    return Settings(Keychain({}, {}), trust, rules=rules)


@pytest.mark.parametrize(
    ("rules", "named", "registry", "insecure", "plain"),
    [
        (INSECURE, (), "quay.io", True, True),
        (INSECURE, (), "QUAY.io", True, True),
        (INSECURE, (), "quay.io:443", False, False),
        (INSECURE, (), "cdn.quay.io", False, False),
        (SECURE, ("quay.io",), "quay.io", False, False),
        (SECURE, ("quay.io", "cdn.quay.io"), "cdn.quay.io", True, True),
        (RegistryRules(), ("quay.io",), "quay.io", True, True),
        (RegistryRules(), (), "quay.io", False, False),
    ],
)
def test_who_is_insecure(
    rules: RegistryRules, named: tuple[str, ...], registry: str, insecure: bool, plain: bool
) -> None:
    found = settings(*named, **{"quay.io": rules})
    assert found.is_insecure(registry) is insecure
    assert found.may_be_plain(registry) is plain


def test_docker_hub_is_asked_by_another_name() -> None:
    found = settings(**{"docker.io": INSECURE})
    assert found.is_insecure("registry-1.docker.io")
    assert not found.is_insecure("auth.docker.io")


@pytest.fixture
def by_tls(registry: OddRegistry, tmp_path: Path) -> Iterator[str]:
    with odd_registry.serving(registry, tls.make(tmp_path)) as address:
        yield address


@pytest.mark.parametrize(
    ("insecure", "named", "works"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_certificates_that_nobody_has_signed(
    by_tls: str, insecure: bool | None, named: bool, works: bool
) -> None:
    names = (by_tls,) if named else ()
    found = settings(*names, **{by_tls: RegistryRules(insecure=insecure)})
    with contextlib.closing(Registries(found)) as registries:
        source = RegistrySource(registries.registry(by_tls), "ns/app")
        with (
            contextlib.nullcontext()
            if works
            else pytest.raises(errors.RegistryUnreachable, match="self-signed certificate")
        ):
            pull(source)
        assert registries.registry(by_tls).is_verified is not works


def test_a_registry_on_this_machine_may_have_to_be_verified(
    open_source: Open, registry: OddRegistry, address: str
) -> None:
    """It is not asked by http where rules say that it is not insecure."""
    source = open_source(address, rules={address: SECURE})
    with pytest.raises(errors.RegistryUnreachable, match="TLS: "):
        source.manifest(Tag("1"))
    assert registry.asked == []
    pull(open_source(address, rules={address: RegistryRules()}))


@pytest.mark.parametrize("hook", [passwords(), tokens()])
def test_a_login_comes_before_all_others(
    open_source: Open, registry: OddRegistry, address: str, hook: Any
) -> None:
    """It is for the whole registry, and nobody else."""
    registry.hook = hook
    rules = {address: of(LOGIN)}
    other = Login("another", "elses")
    pull(open_source(address, other, rules=rules))
    assert LOGIN.basic in registry.seen()
    assert other.basic not in registry.seen()


def test_a_longer_match_elsewhere_does_not_count() -> None:
    rules = of(Login("u", "own"))
    chain = Keychain({"quay.io/ns": Login("v", "other"), "ghcr.io/ns": Login("w", "third")}, {})
    found = Settings(chain, Trust(certificates=(), environment={}), rules={"quay.io": rules})
    assert found.login("quay.io", "ns/app") == Login("u", "own")
    assert found.login("ghcr.io", "ns/app") == Login("w", "third")
    assert found.login("quay.io:443", "ns/app") is None


def test_what_takes_the_place_of_a_registry_has_rules_of_its_own(
    registry: OddRegistry, address: str
) -> None:
    registry.hook = passwords()
    rules = {
        "docker.io": of(Login("hub", "hubs")),
        address: of(LOGIN),
    }
    mirrors = {"docker.io": f"http://{address}"}
    for known, works in ((rules, True), ({"docker.io": rules["docker.io"]}, False)):
        trust = Trust(certificates=(), environment={})
        made = Registries(Settings(Keychain({}, {}), trust, mirrors=mirrors, rules=known))
        with contextlib.closing(made):
            source = RegistrySource(made.registry("docker.io"), "ns/app")
            with contextlib.nullcontext() if works else pytest.raises(errors.RegistryError):
                pull(source)
    assert registry.seen() == {None, LOGIN.basic}


def test_a_password_is_not_shown() -> None:
    rules = of(Login("u", "pW-1sEcReT"))
    found = Settings(Keychain({}, {}), rules={"quay.io": rules})
    assert "sEcReT" not in repr(found) + str(rules) + repr(found.login("quay.io", "x"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"username": "u"}, "belong together"),
        ({"password": "pW-1sEcReT"}, "belong together"),
        ({"requests_at_once": -1}, "requests_at_once must not be negative"),
        ({"requests_per_minute": -1}, "requests_per_minute must not be negative"),
        ({"bytes_per_second": -1}, "bytes_per_second must not be negative"),
        *(
            ({"mirrors": ("quay.io", mirror)}, f"not a mirror, .*: '{mirror}'")
            for mirror in ("", "https://quay.io", "quay.io/", "quay.io/A", "a b", "/x", "x/../y")
        ),
    ],
)
def test_rules_that_cannot_work(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=told) as caught:
        RegistryRules(**fields)
    assert "sEcReT" not in str(caught.value)


def test_rules_that_can() -> None:
    rules = RegistryRules(mirrors=("quay.io", "m:5000/a/b", "[::1]:80/c", "localhost"))
    assert dataclasses.replace(rules, requests_at_once=1).mirrors == rules.mirrors
