# SPDX-License-Identifier: Apache-2.0
"""Limits that the operator sets for one registry: by a clock that the tests own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins import errors
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.remembered import Allowance, Memory, RememberedSource
from image_uploader_plugins.copying.transfers import Transfer, Transfers
from image_uploader_plugins.digest import VerifiedStream
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.pace import Limits, Pace
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sources import session, tries
from image_uploader_plugins.sources.keychain import Keychain
from image_uploader_plugins.sources.pauses import Pauses
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.trust import Trust
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import odd_registry
from tests.support.clock import Clock
from tests.support.odd_registry import Asked, OddRegistry, Reply
from tests.support.sources import LOGIN, tokens

LAYER = images.layer({"a": bytes(range(256)) * 4096}, plain=True)  # 1 MiB
IMAGE = images.image("ns/app", "1", [LAYER])
PIECE = 64 * 1024


def go_on() -> None:
    """Nobody wants the wait to end."""


def stop() -> None:
    raise errors.Interrupted("enough")


def own(clock: Clock, total: float = 60, **rules: Any) -> Pauses:
    return Pauses("quay.io", total, clock, clock.sleep, RegistryRules(**rules))


def most_in_a_minute(moments: Sequence[float]) -> int:
    """In any: a millionth of a second less, for what adding them rounds."""
    return max(sum(begin <= other < begin + 60 - 1e-6 for other in moments) for begin in moments)


# -- requests a minute


@given(st.integers(1, 400), st.lists(st.floats(0, 40), max_size=200))
def test_never_more_in_any_minute(limit: int, gaps: list[float]) -> None:
    """However requests come; and hardly fewer if there are more to make."""
    clock = Clock()
    pauses = own(clock, requests_per_minute=limit)
    moments = []
    for gap in [*gaps, *[0.0] * (2 * limit)]:
        clock.now += gap
        moments.append(pauses.wait(go_on))
        pauses.succeeded({})
    assert most_in_a_minute(moments) <= limit
    hurry = moments[-2 * limit :]
    assert hurry[-1] - hurry[0] <= 120 * 1.12


@pytest.mark.parametrize(("limit", "together"), [(1, 1), (9, 1), (60, 6), (600, 60)])
def test_few_come_together(limit: int, together: int) -> None:
    clock = Clock()
    pauses = own(clock, requests_per_minute=limit)
    moments = [round(pauses.wait(go_on), 6) for _ in range(limit + 1)]
    assert moments.count(moments[0]) == together
    assert len(set(moments)) == limit + 2 - together


def test_nobody_waits_for_a_turn_without_a_limit() -> None:
    clock = Clock()
    pauses = own(clock)
    for _ in range(1000):
        pauses.wait(go_on)
    assert clock.now == 1000


def test_waiting_for_a_turn_can_be_ended() -> None:
    clock = Clock()
    pauses = own(clock, requests_per_minute=1)
    pauses.wait(go_on)
    with pytest.raises(errors.Interrupted):
        pauses.wait(stop)
    assert clock.now == 1000


def test_a_turn_is_excused_and_a_pause_is_not() -> None:
    clock = Clock()
    pauses = own(clock, requests_per_minute=1)
    excused: list[float] = []
    pauses.wait(go_on, excused.append)
    pauses.wait(go_on, excused.append)
    assert sum(excused) == pytest.approx(60)
    del excused[:]
    clock.now += 60
    pauses.refused({"Retry-After": "50"}, clock.now, clock.now)
    begun = clock.now
    pauses.wait(go_on, excused.append)
    assert clock.now - begun >= 50
    assert sum(excused) == 0


# -- requests at once


def test_so_many_at_once() -> None:
    pauses = own(Clock(), requests_at_once=2)
    leave, _ = pauses.enter(stop), pauses.enter(stop)
    with pytest.raises(errors.Interrupted):
        pauses.enter(stop)
    leave()
    pauses.enter(stop)
    with pytest.raises(errors.Interrupted):
        pauses.enter(stop)


def test_any_number_at_once_without_a_limit() -> None:
    pauses = own(Clock())
    for _ in range(1000):
        pauses.enter(stop)


# -- bytes a second


@given(
    st.integers(1, 10**9),
    st.lists(st.tuples(st.integers(1, PIECE), st.floats(0, 5)), min_size=1, max_size=100),
)
def test_no_faster_than_so(rate: int, pieces: list[tuple[int, float]]) -> None:
    """On average: beyond that there is what may come in a second, and one piece."""
    clock = Clock()
    pauses = own(clock, bytes_per_second=rate)
    came: list[tuple[float, int]] = []
    for count, gap in pieces:
        clock.now += gap
        came.append((clock.now, count))
        pauses.wait_until(pauses.spend(count), go_on)
    total = sum(count for _, count in came[:-1])
    assert total <= rate * (clock.now - 1000 + 1) + 1
    waited = clock.now - 1000 - sum(gap for _, gap in pieces)
    assert waited <= sum(count for count, _ in pieces) / rate + 1e-3


def test_what_comes_at_the_same_time_is_added() -> None:
    pauses = own(Clock(), bytes_per_second=10)
    first, second = pauses.spend(100), pauses.spend(100)
    assert second - first == pytest.approx(10)


def test_waiting_for_bytes_can_be_ended() -> None:
    clock = Clock()
    pauses = own(clock, bytes_per_second=1)
    moment = pauses.spend(100)
    with pytest.raises(errors.Interrupted):
        pauses.wait_until(moment, stop)
    assert clock.now == 1000


# -- a registry


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all pauses and of the pace that registries have to keep."""
    clock = Clock()
    clock.rule(monkeypatch)
    monkeypatch.setattr(session, "Pace", functools.partial(Pace, clock=clock))
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)
    return clock


@pytest.fixture
def registry() -> OddRegistry:
    return OddRegistry([IMAGE])


@pytest.fixture
def address(registry: OddRegistry) -> Iterator[str]:
    with odd_registry.serving(registry) as address:
        yield address


Opened = Callable[..., RegistrySource]


@pytest.fixture
def opened(address: str) -> Iterator[Opened]:
    with contextlib.ExitStack() as stack:

        def opened(settings: dict[str, Any] | None = None, **rules: Any) -> RegistrySource:
            found = Settings(
                Keychain({address: LOGIN}, {}),
                Trust(certificates=(), environment={}),
                rules={address: RegistryRules(**rules)},
                **(settings or {}),
            )
            made = stack.enter_context(contextlib.closing(Registries(found)))
            return RegistrySource(made.registry(address), "ns/app")

        yield opened


def pull(source: RegistrySource) -> None:
    for blob in source.manifest(Tag("1")).blobs():
        for _ in VerifiedStream(source.blob(blob), blob.digest, blob.size):
            pass


def test_every_request_has_a_turn(
    clock: Clock,
    registry: OddRegistry,
    address: str,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also the first one, those without a login, for a token, again, and by other threads."""
    turns: list[float] = []
    failures = itertools.cycle([True, False, False])
    lock = threading.Lock()
    guarded = tokens(f"http://{address}/token")
    wait = Pauses.wait

    def noting(self: Pauses, *arguments: Any) -> float:
        turns.append(wait(self, *arguments))
        return turns[-1]

    def hook(asked: Asked) -> Reply | None:
        with lock:
            if "/blobs/" in asked.path and next(failures):
                return Reply(502)
        return guarded(asked)

    registry.hook = hook
    monkeypatch.setattr(Pauses, "wait", noting)
    source = opened({"limits": Limits(0, 0)}, requests_per_minute=5)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: pull(source), range(4)))
    assert len(turns) == len(registry.asked) + 1  # which was by TLS, to see whether it speaks that
    # One to four of them came before there was a token.
    assert 20 <= len(turns) <= 23
    assert most_in_a_minute(sorted(turns)) <= 5


def test_waiting_by_ones_own_wish_uses_no_patience_up(
    clock: Clock, registry: OddRegistry, opened: Opened
) -> None:
    """A minute between two requests is no pause that the registry asked for."""
    refusals = iter([True])

    def hook(asked: Asked) -> Reply | None:
        if "/manifests/" in asked.path and next(refusals, False):
            return Reply(429, (("Retry-After", "20"),))
        return None

    registry.hook = hook
    source = opened({"longest_pause": 30.0}, requests_per_minute=1)
    source.manifest(Tag("1"))
    assert clock.now >= 1000 + 2 * 60


class Blocked(Exception):
    """Raised where a request would wait for another one's end."""


def blocked() -> None:
    raise Blocked


def is_free(source: RegistrySource) -> bool:
    """Whether one request more could be made now."""
    pauses = source._registry._pauses
    try:
        pauses.enter(blocked)()
    except Blocked:
        return False
    return True


def test_a_request_lasts_until_its_body_has_come(opened: Opened) -> None:
    source = opened(requests_at_once=1)
    (_, layer) = source.manifest(Tag("1")).blobs()
    assert is_free(source)
    chunks = source.blob(layer)
    next(chunks)
    assert not is_free(source)
    for _ in chunks:
        pass
    assert is_free(source)


def test_a_body_that_nobody_wants_ends_the_request(opened: Opened) -> None:
    source = opened(requests_at_once=1)
    (_, layer) = source.manifest(Tag("1")).blobs()
    chunks = source.blob(layer)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert is_free(source)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        Reply(404),
        Reply(403),
        Reply(500),
        Reply(200, (("Content-Length", "9"),), b"{", 1),
        Reply(307, (("Location", "http://127.0.0.1:1/"),)),
        Reply(307, (("Location", "ftp://x/"),)),
        Reply(429, (("Retry-After", "9999"),)),
        Reply(200, (), b"no manifest"),
    ],
)
@pytest.mark.parametrize("method", ["manifest", "describe", "tags", "signatures"])
def test_whatever_is_answered_the_next_request_may_come(
    clock: Clock, registry: OddRegistry, opened: Opened, method: str, reply: Reply | None
) -> None:
    registry.hook = lambda asked: reply if "ns/app" in asked.path else None
    source = opened(requests_at_once=1)
    argument = {"tags": (), "signatures": (IMAGE.digest,)}.get(method, (Tag("1"),))
    with contextlib.suppress(errors.UploaderError):
        found = getattr(source, method)(*argument)
        if method == "signatures":
            list(found)
    assert is_free(source)


def test_one_at_once_is_enough_for_a_login(
    registry: OddRegistry, address: str, opened: Opened
) -> None:
    """What a request needs before it is answered is a part of it."""
    registry.hook = tokens(f"http://{address}/token")
    source = opened(requests_at_once=1)
    pull(source)
    assert is_free(source)


def test_who_waits_for_others_can_be_stopped(opened: Opened, address: str) -> None:
    meter = Meter()
    source = opened(requests_at_once=1)
    (_, layer) = source.manifest(Tag("1")).blobs()
    chunks = source.blob(layer)
    next(chunks)
    meter.stop()
    other = RegistrySource(source._registry, "ns/app", meter)
    with pytest.raises(errors.Interrupted):
        other.manifest(Tag("1"))
    for _ in chunks:
        pass


def test_all_blobs_of_a_registry_together(clock: Clock, opened: Opened) -> None:
    source = opened(bytes_per_second=10_000)
    (_, layer) = source.manifest(Tag("1")).blobs()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: sum(map(len, source.blob(layer))), range(3)))
    assert clock.now - 1000 >= (3 * len(LAYER.content) - 3 * PIECE) / 10_000 - 1


def test_a_registry_without_a_limit_is_not_waited_for(clock: Clock, opened: Opened) -> None:
    pull(opened(requests_at_once=3))
    assert clock.now == 1000


def test_limits_are_those_of_one_registry(clock: Clock, address: str, opened: Opened) -> None:
    source = opened(bytes_per_second=1, requests_per_minute=1)
    other = OddRegistry([IMAGE])
    with odd_registry.serving(other) as elsewhere:
        made = Registries(source._registry._settings)
        with contextlib.closing(made):
            pull(RegistrySource(made.registry(elsewhere), "ns/app"))
    assert clock.now == 1000


@pytest.mark.parametrize("limits", [Limits(10**9, 0), Limits(0, 60)])
def test_who_is_told_to_be_slow_is_not_too_slow(
    clock: Clock, opened: Opened, limits: Limits
) -> None:
    """Neither below the lowest rate, nor over the time that a transfer may take."""
    pull(opened({"limits": limits}, bytes_per_second=1000))
    assert clock.now - 1000 > 600


def test_who_is_slow_is_too_slow_all_the_same(
    clock: Clock, registry: OddRegistry, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time that passes while the registry is waited for counts as ever."""
    source = opened({"limits": Limits(0, 60)}, bytes_per_second=10**12)
    wait = Pace.wait

    def slowly(self: Pace) -> None:
        wait(self)
        clock.now += 10

    manifest = source.manifest(Tag("1"))
    monkeypatch.setattr(Pace, "wait", slowly)
    (_, layer) = manifest.blobs()
    with pytest.raises(errors.TransferTooSlow, match="not done after 60 seconds"):
        list(source.blob(layer))


def test_a_wait_for_bytes_ends_with_the_run(clock: Clock, opened: Opened) -> None:
    meter = Meter()
    source = RegistrySource(opened(bytes_per_second=1)._registry, "ns/app", meter)
    (_, layer) = source.manifest(Tag("1")).blobs()
    chunks = source.blob(layer)
    next(chunks)
    meter.stop()
    with pytest.raises(errors.Interrupted):
        next(chunks)
    assert clock.now == 1000


# -- others that need the same layer


def test_a_transfer_that_is_slow_on_purpose_is_waited_for() -> None:
    """To fetch it twice would make it slower still."""
    begun, end = threading.Event(), threading.Event()

    def work(transfer: Transfer) -> None:
        transfer.is_throttled = True
        begun.set()
        end.wait(60)

    with Transfers(workers=1, patience=0.01) as transfers:
        transfer, _ = transfers.begin(IMAGE.manifest.layers[0], work)
        assert begun.wait(60)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(transfer.wait)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            end.set()
            assert waiting.result(60)
    assert not transfer.is_stuck


class NotedTransfers(Transfers):
    def __init__(self) -> None:
        super().__init__(1)
        self.begun: list[Transfer] = []

    def begin(self, *arguments: Any) -> tuple[Transfer, bool]:
        transfer, is_new = super().begin(*arguments)
        self.begun.append(transfer)
        return transfer, is_new


@pytest.mark.parametrize("rate", [0, 10**9])
def test_transfers_know_that_they_are_slow_on_purpose(opened: Opened, rate: int) -> None:
    source = RememberedSource(opened(bytes_per_second=rate), Memory(Allowance()))
    with NotedTransfers() as transfers:
        copier = Copier(
            MemoryDriver(f"{rate}"), RepositoryName("copied"), source, transfers=transfers
        )
        copier.copy(Tag("1"), Tag("1"), all_platforms=True)
    assert len(transfers.begun) == 2
    assert {transfer.is_throttled for transfer in transfers.begun} == {bool(rate)}
