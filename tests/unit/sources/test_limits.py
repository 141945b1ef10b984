# SPDX-License-Identifier: Apache-2.0
"""A registry that limits requests, and all who ask it: by a clock that the tests own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import email.utils
import functools
import threading
from collections.abc import Iterator

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import VerifiedStream
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources import pauses, tries
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.trust import Trust
from image_uploader_plugins.testing import images
from tests.support import odd_registry
from tests.support.clock import Clock
from tests.support.odd_registry import Asked, OddRegistry, Reply, challenge, text

IMAGES = [images.image(f"ns/a{n}", "1", [images.layer({"a": bytes([n])})]) for n in range(20)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(1_000_000.0)
    clock.rule(monkeypatch)
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)
    return clock


@pytest.fixture
def registry() -> OddRegistry:
    return OddRegistry(IMAGES)


@pytest.fixture
def address(registry: OddRegistry) -> Iterator[str]:
    with odd_registry.serving(registry) as address:
        yield address


@contextlib.contextmanager
def opened(address: str, total: float = 900, read_timeout: float = 60) -> Iterator[Registries]:
    settings = Settings(
        Keychain({address: Login("u", "password")}, {}),
        Trust(certificates=(), environment={}),
        longest_pause=total,
        read_timeout=read_timeout,
    )
    with contextlib.closing(Registries(settings)) as found:
        yield found


def pull(found: Registries, address: str, number: int = 0) -> None:
    source = RegistrySource(found.registry(address), f"ns/a{number}")
    for blob in source.manifest(Tag("1")).blobs():
        for _ in VerifiedStream(source.blob(blob), blob.digest, blob.size):
            pass


@pytest.mark.slow
def test_twenty_images_of_a_registry_that_takes_so_many_requests_a_second(
    clock: Clock, registry: OddRegistry, address: str
) -> None:
    """One each 0.15 seconds: all arrive, however often they are told to wait."""
    lock, free_at, refused = threading.Lock(), 0.0, 0

    def hook(asked: Asked) -> Reply | None:
        nonlocal free_at, refused
        with lock:
            if clock.now < free_at:
                refused += 1
                return Reply(429, (("Retry-After", "1"),), b"{}")
            free_at = clock.now + 0.15
        return None

    registry.hook = hook
    with opened(address) as found, concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(functools.partial(pull, found, address), range(20)))
    served = len(registry.asked) - refused
    assert served >= 20 * 3  # a manifest, a configuration and a layer each
    assert refused, "it took all of them"


@pytest.mark.slow
@pytest.mark.parametrize(("status", "by_date"), [(429, False), (503, True)])
@pytest.mark.parametrize("where", ["/v2/", "/token", "/manifests/", "/blobs/"])
def test_a_wait_is_kept_wherever_it_is_told(
    clock: Clock,
    registry: OddRegistry,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    status: int,
    by_date: bool,
) -> None:
    monkeypatch.setattr(
        pauses, "retry_after", functools.partial(pauses.retry_after, now=lambda: clock.now)
    )
    until = 0.0
    early: list[str] = []

    def hook(asked: Asked) -> Reply | None:
        nonlocal until
        if until and clock.now < until:
            early.append(asked.path)
        is_here = asked.path == where if where == "/v2/" else where in asked.path
        if is_here and not until:
            until = clock.now + 100
            moment = email.utils.formatdate(until, usegmt=True)
            return Reply(status, (("Retry-After", moment if by_date else "100"),))
        if asked.path.startswith("/token"):
            return text({"token": "T", "expires_in": 3600})
        if asked.path == "/v2/" or asked.authorization == "Bearer T":
            return None
        return challenge(f'Bearer realm="http://{address}/token"')

    registry.hook = hook
    with opened(address) as found:
        pull(found, address)
    assert until, "nothing was told"
    assert early == []


@pytest.mark.parametrize("where", ["/token", "/manifests/", "/v2/"])
def test_who_wants_too_long_a_wait_is_asked_once(
    clock: Clock, registry: OddRegistry, address: str, where: str
) -> None:
    refused = []

    def hook(asked: Asked) -> Reply | None:
        if where in asked.path and (where != "/v2/" or asked.path == where):
            refused.append(asked.path)
            return Reply(429, (("Retry-After", "901"),))
        if asked.path == "/v2/" or asked.authorization:
            return None
        return challenge(f'Bearer realm="http://{address}/token"')

    registry.hook = hook
    with (
        opened(address) as found,
        pytest.raises(errors.RateLimited, match=r"901 seconds.*900 at most.*longest_pause"),
    ):
        pull(found, address)
    assert len(refused) == 1
    assert clock.now < 1_000_001


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reply", "times"),
    [
        (Reply(500), 5),
        (Reply(502), 5),
        (Reply(503), 5),
        (Reply(504), 5),
        (Reply(200, (("Content-Length", "9999"),), b"{", 1), 5),
        (Reply(501), 1),
        (Reply(403), 1),
        (Reply(200, (), b"no manifest"), 1),
        (Reply(307, (("Location", "ftp://x/"),)), 1),
    ],
)
def test_how_often_it_is_asked(
    clock: Clock, registry: OddRegistry, address: str, reply: Reply, times: int
) -> None:
    """One layer of retries, and none for what can never change."""
    registry.hook = lambda asked: None if asked.path == "/v2/" else reply
    with opened(address) as found, pytest.raises(errors.UploaderError):
        pull(found, address)
    assert len(registry.paths("/manifests/")) == times
    assert len(registry.paths()) == times + 1


@pytest.mark.slow
def test_an_answer_that_does_not_begin(clock: Clock, registry: OddRegistry, address: str) -> None:
    """The timeout is an option, and what times out may pass."""
    end, begun = threading.Event(), threading.Semaphore(0)

    def hook(asked: Asked) -> Reply | None:
        if "/manifests/" in asked.path:
            begun.release()
            end.wait(30)
        return None

    registry.hook = hook
    with opened(address, read_timeout=0.05) as found:
        with pytest.raises(errors.RegistryUnreachable, match=r"timed out.*0\.05") as caught:
            pull(found, address)
        # Who asked may have gone before that was read.
        for _ in range(5):
            assert begun.acquire(timeout=30)
        end.set()
    assert caught.value.retryable
    assert len(registry.paths("/manifests/")) == 5


def test_what_a_registry_says_is_short_and_printable(
    clock: Clock, registry: OddRegistry, address: str
) -> None:
    said = [{"code": "X\n\x1b[2J" * 1000, "message": "\u202e\x00\r\n" + "y" * 30_000}]
    registry.hook = lambda asked: None if asked.path == "/v2/" else text({"errors": said}, 403)
    with opened(address) as found, pytest.raises(errors.RegistryError) as caught:
        pull(found, address)
    told = str(caught.value)
    assert told.isprintable()
    assert len(told) < 1000
    assert told.startswith(f"http://{address}/v2/ns/a0/manifests/1: 403 X \\x1b[2JX")
