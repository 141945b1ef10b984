# SPDX-License-Identifier: Apache-2.0
"""Mirrors of a registry: asked first, in their order, and passed over where they are of no use."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.digest import VerifiedStream
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.mirrored_source import MirroredSource
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registries_conf import RegistriesConf
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.tries import Tries
from image_uploader_plugins.sources.trust import Trust
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import odd_registry, tls
from tests.support.clock import Clock
from tests.support.odd_registry import Asked, OddRegistry, Reply, challenge, text
from tests.support.sources import passwords, tokens

LAYERS = [images.layer({"a": bytes(range(256)) * 1024}, plain=True), images.layer({"b": b"b"})]
IMAGE = images.image("ns/app", "1", LAYERS)
OLDER = images.image("ns/app", "1", LAYERS[:1])
PATH = "/v2/ns/app/"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.rule(monkeypatch)
    return clock


@dataclasses.dataclass
class Scene:
    """A registry and two mirrors of it, which its rules name, and what asks them."""

    itself: OddRegistry
    first: OddRegistry
    second: OddRegistry
    addresses: list[str]
    logins: dict[str, Login] = dataclasses.field(default_factory=dict)
    rules: dict[str, RegistryRules] = dataclasses.field(default_factory=dict)
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    stack: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)

    def registries(self) -> Registries:
        itself, *mirrors = self.addresses
        rules = {itself: RegistryRules(mirrors=tuple(mirrors)), **self.rules}
        trust = Trust(certificates=(), environment=self.environment)
        settings = Settings(Keychain(self.logins, {}), trust, rules=rules, **self.more)
        return self.stack.enter_context(contextlib.closing(Registries(settings)))

    def source(self, meter: Meter | None = None) -> MirroredSource:
        return MirroredSource.of(self.registries(), self.addresses[0], "ns/app", meter)

    def asked(self, part: str = PATH) -> list[int]:
        """How many requests with this in the path the registry and its mirrors had."""
        return [len(one.paths(part)) for one in (self.itself, self.first, self.second)]

    def forget(self) -> None:
        for one in (self.itself, self.first, self.second):
            del one.asked[:]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(Tries, "pause", lambda self, seconds: None)
    made = [OddRegistry([IMAGE]) for _ in range(3)]
    with contextlib.ExitStack() as stack:
        addresses = [stack.enter_context(odd_registry.serving(one)) for one in made]
        yield Scene(made[0], made[1], made[2], addresses, stack=stack)


def pull(source: MirroredSource) -> None:
    """Read the whole image, as it has to be."""
    found = source.manifest(Tag("1"))
    assert found.digest == IMAGE.digest
    for blob in found.blobs():
        for _ in VerifiedStream(source.blob(blob), blob.digest, blob.size):
            pass


def always(reply: Reply) -> Callable[[Asked], Reply | None]:
    return lambda asked: None if asked.path == "/v2/" else reply


# -- who is asked


def test_the_first_mirror_is_asked(scene: Scene) -> None:
    pull(scene.source())
    assert scene.asked() == [0, 4, 0]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(404),
        Reply(401),
        Reply(403),
        Reply(500),
        Reply(503),
        Reply(200, (), b"no manifest"),
        Reply(200, (("Docker-Content-Digest", "x"),), IMAGE.manifest.content),
        Reply(200, (("Docker-Content-Digest", str(OLDER.digest)),), IMAGE.manifest.content),
        Reply(307, (("Location", "ftp://x/"),)),
        Reply(307, (("Location", "http://127.0.0.1:1/"),)),
        Reply(200, (("Content-Length", "9999"),), b"{", 1),
        Reply(429, (("Retry-After", "9999"),)),
    ],
)
def test_a_mirror_that_is_of_no_use(scene: Scene, reply: Reply) -> None:
    """The next one is asked, once for each request, and the registry where there is none."""
    scene.first.hook = lambda asked: reply if "/manifests/" in asked.path else None
    pull(scene.source())
    assert scene.asked()[0] == 0
    assert scene.asked("manifests/1") == [0, 1, 1]
    scene.second.hook = scene.first.hook
    scene.forget()
    pull(scene.source())
    assert scene.asked("manifests/1") == [1, 1, 1]


def test_an_image_that_nobody_has(scene: Scene) -> None:
    with pytest.raises(errors.ImageUnknown, match=scene.addresses[0]):
        scene.source().manifest(Tag("2"))
    assert scene.asked() == [1, 1, 1]


def test_the_registry_alone_is_tried_again(scene: Scene) -> None:
    for one in (scene.itself, scene.first, scene.second):
        one.hook = always(Reply(500))
    with pytest.raises(errors.RegistryError, match=f"{scene.addresses[0]}.*500"):
        scene.source().manifest(Tag("1"))
    assert scene.asked() == [5, 1, 1]


def test_who_does_not_answer_is_not_asked_for_a_while(scene: Scene, clock: Clock) -> None:
    """The while grows, up to five minutes, and an answer ends it."""
    refused: list[float] = []
    up = False

    def hook(asked: Asked) -> Reply | None:
        if up or asked.path == "/v2/":
            return None
        refused.append(clock.now)
        return Reply(307, (("Location", "http://127.0.0.1:1/"),))

    scene.first.hook = hook
    source = scene.source()
    for _ in range(200):
        source.manifest(Tag("1"))
        clock.now += 10
    gaps = [after - before for before, after in itertools.pairwise(refused)]
    assert gaps == [10, 20, 40, 80, 160, *[300] * (len(gaps) - 5)]
    assert gaps[-1] == 300
    assert scene.asked()[0] == 0
    up = True
    clock.now += 300
    scene.forget()
    source.manifest(Tag("1"))
    source.manifest(Tag("1"))
    assert scene.asked() == [0, 2, 0]
    up = False
    del refused[:]
    for _ in range(3):
        source.manifest(Tag("1"))
        clock.now += 10
    assert refused == [clock.now - 30, clock.now - 20]


def test_a_mirror_that_limits_requests_is_waited_for(scene: Scene, clock: Clock) -> None:
    refusals = iter([Reply(429, (("Retry-After", "100"),))])
    scene.first.hook = lambda asked: next(refusals, None) if "/ns/" in asked.path else None
    pull(scene.source())
    assert clock.now >= 1100
    assert scene.asked() == [0, 5, 0]


def test_what_is_away_for_one_image_is_away_for_all(scene: Scene, clock: Clock) -> None:
    scene.addresses[1] = "127.0.0.1:1"
    registries = scene.registries()
    for _ in range(3):
        source = MirroredSource.of(registries, scene.addresses[0], "ns/app")
        pull(source)
    assert registries.registry("127.0.0.1:1").is_away
    assert not registries.registry(scene.addresses[2]).is_away
    assert scene.asked() == [0, 0, 12]


def test_no_image_is_failed_by_interrupting_it(scene: Scene) -> None:
    meter = Meter()
    source = scene.source(meter)
    blob = source.manifest(Tag("1")).layers[0]
    chunks = source.blob(blob)
    next(chunks)
    meter.stop()
    scene.more = {}
    scene.rules = {scene.addresses[1]: RegistryRules(requests_per_minute=1)}
    with pytest.raises(errors.Interrupted):
        slow = scene.source(meter)
        slow.manifest(Tag("1"))
        slow.manifest(Tag("1"))
    for _ in chunks:
        pass


# -- blobs


@pytest.mark.parametrize("ranged", [True, False])
def test_a_blob_goes_on_from_the_next_one(scene: Scene, ranged: bool) -> None:
    """From the byte where it broke off, wherever the rest comes from."""
    content = LAYERS[0].content

    def breaks(asked: Asked) -> Reply | None:
        return Reply(body=content, cut=100_000) if str(LAYERS[0].digest) in asked.path else None

    def parts(asked: Asked) -> Reply | None:
        begin = asked.headers["Range"]
        if str(LAYERS[0].digest) not in asked.path or not ranged or not begin:
            return None
        start = int(begin.removeprefix("bytes=").rstrip("-"))
        size = len(content)
        return Reply(206, (("Content-Range", f"bytes {start}-{size - 1}/{size}"),), content[start:])

    scene.first.hook, scene.second.hook = breaks, parts
    source = scene.source()
    pull(source)
    layer = f"blobs/{LAYERS[0].digest}"
    assert scene.asked(layer) == [0, 1, 1]
    (asked,) = (one for one in scene.second.asked if layer in one.path)
    assert asked.headers["Range"] == "bytes=100000-"
    # Nothing else has changed: what broke off was an answer.
    assert scene.asked("manifests/") == [0, 1, 0]


@pytest.mark.parametrize(
    "wrong", [b"x" * len(LAYERS[0].content), b"x", b"x" * (len(LAYERS[0].content) + 1)]
)
def test_a_blob_that_is_damaged_comes_from_the_next_one(scene: Scene, wrong: bytes) -> None:
    """Who has given a part of it is not asked when it is wanted anew."""
    scene.first.hook = scene.second.hook = lambda asked: (
        Reply(body=wrong) if str(LAYERS[0].digest) in asked.path else None
    )
    driver = MemoryDriver(f"damaged {len(wrong)}")
    copier = Copier(driver, RepositoryName("copied"), scene.source())
    copier.copy(Tag("1"), Tag("1"), all_platforms=True)
    layer = scene.asked(f"blobs/{LAYERS[0].digest}")
    assert layer[0] == 1
    assert max(layer) == 1
    assert scene.asked("manifests/1") == [0, 1, 0]


def test_a_blob_of_which_nothing_is_right(scene: Scene) -> None:
    """Where no byte of it was handed on, another one is asked all the same."""
    small = str(LAYERS[1].digest)
    scene.first.hook = lambda asked: Reply(body=b"x" * 9999) if small in asked.path else None
    copier = Copier(MemoryDriver("small"), RepositoryName("copied"), scene.source())
    copier.copy(Tag("1"), Tag("1"), all_platforms=True)
    assert scene.asked(f"blobs/{small}") == [0, 1, 1]


# -- tags, and what HEAD says


def test_a_list_of_tags_is_the_registrys(scene: Scene) -> None:
    """That of a mirror may be a part, and what is not in it would be removed."""
    for mirror in (scene.first, scene.second):
        mirror.hook = lambda asked: text({"name": "ns/app", "tags": ["1", "2"]})
    assert scene.source().tags() == ["1"]
    assert scene.asked() == [1, 0, 0]
    scene.itself.hook = always(Reply(403))
    with pytest.raises(errors.RegistryError):
        scene.source().tags()


def test_what_the_first_says_that_has_it(scene: Scene) -> None:
    scene.first.hook = always(Reply(404))
    source = scene.source()
    said = source.describe(Tag("1"))
    assert said
    assert said.digest == IMAGE.digest
    assert scene.asked() == [0, 1, 1]
    scene.second.hook = always(Reply(404))
    assert scene.source().describe(Tag("1")) == said
    assert scene.source().describe(Tag("2")) is None


# -- signatures


def signature(content: bytes) -> images.Image:
    tag = f"sha256-{IMAGE.digest.encoded}.sig"
    return images.artifact("ns/app", tag, media_types.OCI_MANIFEST, content)


@pytest.mark.parametrize(
    ("who", "expected"), [("first", "first"), ("second", "second"), ("itself", "itself")]
)
def test_signatures_are_those_of_the_first_that_has_any(
    scene: Scene, who: str, expected: str
) -> None:
    """Mirrors often have none: that says nothing of the registry."""
    for name in {"first": ("first", "itself"), "second": ("second",), "itself": ("itself",)}[who]:
        getattr(scene, name).add(signature(name.encode()))
    found = list(scene.source().signatures(IMAGE.digest))
    assert [descriptor.digest for _, descriptor in found] == [signature(expected.encode()).digest]
    if who == "first":
        assert scene.asked()[0] == scene.asked()[2] == 0


def test_signatures_where_only_mirrors_answer(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.itself.hook = always(Reply(500))
    assert list(scene.source().signatures(IMAGE.digest)) == []
    assert f"signatures of images of {scene.addresses[0]} may be left behind" in caplog.text
    scene.first.hook = scene.second.hook = always(Reply(500))
    with pytest.raises(errors.RegistryError):
        list(scene.source().signatures(IMAGE.digest))


def test_signatures_that_break_off_come_once(scene: Scene) -> None:
    """What one has begun to tell may be a part: others are asked until one has told all."""
    for one in (scene.itself, scene.first):
        one.add(signature(b"s"))
    more = images.artifact(
        "ns/app", f"sha256-{IMAGE.digest.encoded}.sbom", media_types.OCI_MANIFEST, b"more"
    )
    scene.itself.add(more)
    scene.first.hook = lambda asked: Reply(500) if asked.path.endswith(".att") else None
    for scene.second.hook in (always(Reply(404)), always(Reply(500))):
        found = list(scene.source().signatures(IMAGE.digest))
        expected = [signature(b"s").digest, more.digest]
        assert [descriptor.digest for _, descriptor in found] == expected


# -- what is told


def test_it_is_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene.first.hook = always(Reply(500, body=b'{"message": "pW-1sEcReT"}'))
    registries = scene.registries()
    for _ in range(2):
        pull(MirroredSource.of(registries, scene.addresses[0], "ns/app"))
    itself, first, second = scene.addresses
    told = [record.getMessage() for record in caplog.records]
    assert [line for line in told if "is used" in line] == [
        f"{itself}: its mirror {second} is used"
    ]
    passed = [line for line in told if "passed over" in line]
    assert len(passed) == 1
    assert passed[0].startswith(f"{itself}: its mirror {first} is passed over: http://{first}/v2/")


# -- who is shown what


@pytest.mark.parametrize("hook", [passwords, tokens])
@pytest.mark.parametrize("known", [True, False])
def test_nobody_sees_what_is_anothers(scene: Scene, hook: Callable[..., Any], known: bool) -> None:
    """Each one gets its own login and its own token: not the registry's, nor the other mirror's."""
    logins = {address: Login(f"u{n}", f"p{n}") for n, address in enumerate(scene.addresses)}
    shown = []
    for number, (one, address) in enumerate(
        zip((scene.itself, scene.first, scene.second), scene.addresses, strict=True)
    ):
        own = logins[address].basic
        one.hook = passwords(own) if hook is passwords else tokens(value=f"T{number}")
        shown.append({own} if hook is passwords else {own, f"Bearer T{number}"})
    scene.logins = logins if known else {scene.addresses[0]: logins[scene.addresses[0]]}
    source = scene.source()
    pull(source)
    # Each of them is asked for something.
    with pytest.raises(errors.ImageUnknown):
        source.manifest(Tag("2"))
    for one, seen in zip((scene.itself, scene.first, scene.second), shown, strict=True):
        assert one.seen() <= {None, *seen}
    if known or hook is tokens:
        assert scene.asked(PATH)[1] > 3


def test_a_mirror_that_names_the_token_server_of_the_registry(scene: Scene) -> None:
    """It gets a token of its own from there, for what it is known as: nobody."""
    itself, first, _ = scene.addresses
    login = Login("u0", "p0")
    scene.logins = {itself: login}
    scene.rules = {itself: RegistryRules(mirrors=(first,))}
    field = f'Bearer realm="http://{itself}/token",service="s",scope="repository:ns/app:pull"'

    def hook(asked: Asked) -> Reply | None:
        if asked.path == "/token":
            return text({"token": "own" if asked.authorization == login.basic else "nobodys"})
        return None if asked.authorization == "Bearer own" else challenge(field)

    scene.itself.hook = hook
    scene.first.hook = always(Reply(404))
    registries = scene.registries()
    pull(MirroredSource.of(registries, itself, "ns/app"))
    scene.first.hook = lambda asked: None if asked.authorization else challenge(field)
    scene.forget()
    pull(MirroredSource.of(registries, itself, "ns/app"))
    assert scene.asked("manifests/1") == [0, 2, 0]
    assert scene.first.seen() == {None, "Bearer nobodys"}


def test_a_rules_login_is_for_nobody_else(scene: Scene) -> None:
    itself, first, second = scene.addresses
    scene.rules = {
        itself: RegistryRules(username="u0", password="p0", mirrors=(first, second)),  # noqa: S106
        second: RegistryRules(username="u2", password="p2"),  # noqa: S106
    }
    scene.itself.hook = passwords(Login("u0", "p0").basic)
    scene.first.hook = passwords(Login("u0", "p0").basic)
    scene.second.hook = passwords(Login("u2", "p2").basic)
    pull(scene.source())
    assert scene.first.seen() == {None}
    assert scene.second.seen() == {None, Login("u2", "p2").basic}
    assert scene.itself.asked == []


def test_each_mirror_has_its_own_limits(scene: Scene, clock: Clock) -> None:
    scene.rules = {scene.addresses[1]: RegistryRules(requests_per_minute=1, bytes_per_second=1)}
    scene.rules |= {scene.addresses[0]: RegistryRules(mirrors=tuple(scene.addresses[2:]))}
    assert not scene.source().is_throttled
    pull(scene.source())
    assert clock.now == 1000
    del scene.rules[scene.addresses[0]]
    assert scene.source().is_throttled
    scene.source().manifest(Tag("1"))
    assert clock.now > 1000


# -- names


def test_a_mirror_with_a_path(scene: Scene) -> None:
    cached = images.image("cache/hub/ns/app", "1", LAYERS)
    scene.first.add(cached)
    itself, first, _ = scene.addresses
    scene.rules = {itself: RegistryRules(mirrors=(f"{first}/cache/hub",))}
    source = scene.source()
    assert source.manifest(Tag("1")).digest == IMAGE.digest
    assert scene.first.paths("/cache/hub/ns/app/manifests/1")


def test_what_takes_the_place_of_a_registry_has_no_mirrors(scene: Scene) -> None:
    itself = scene.addresses[0]
    scene.more = {"mirrors": {itself: f"http://{scene.addresses[2]}"}}
    pull(scene.source())
    assert scene.asked() == [0, 0, 4]


# -- registries.conf


def conf(folder: Path, content: str, scene: Scene) -> None:
    file = folder / "registries.conf"
    names = dict(zip(("itself", "first", "second"), scene.addresses, strict=True))
    file.write_text(content % names)
    scene.more = {"registries_conf": RegistriesConf(file)}
    scene.rules = {scene.addresses[0]: RegistryRules()}


MIRRORS = """
[[registry]]
location = "%(itself)s"
[[registry.mirror]]
location = "%(first)s"
[[registry.mirror]]
location = "%(second)s"
"""


def test_mirrors_of_registries_conf(scene: Scene, tmp_path: Path) -> None:
    conf(tmp_path, MIRRORS, scene)
    scene.first.hook = always(Reply(404))
    pull(scene.source())
    assert scene.asked() == [0, 4, 4]


def test_rules_come_before_it(scene: Scene, tmp_path: Path) -> None:
    conf(tmp_path, MIRRORS, scene)
    scene.rules = {scene.addresses[0]: RegistryRules(mirrors=(scene.addresses[2],))}
    pull(scene.source())
    assert scene.asked() == [0, 0, 4]
    scene.second.hook = always(Reply(404))
    scene.forget()
    pull(scene.source())
    assert scene.asked() == [4, 0, 4]


@pytest.mark.parametrize(
    ("which", "tag", "digest"),
    [
        ('pull-from-mirror = "all"', 1, 1),
        ('pull-from-mirror = "tag-only"', 1, 0),
        ('pull-from-mirror = "digest-only"', 0, 1),
    ],
)
def test_tags_and_digests(scene: Scene, tmp_path: Path, which: str, tag: int, digest: int) -> None:
    """What a tag of a mirror leads to comes from there, too."""
    conf(tmp_path, MIRRORS.replace('"%(first)s"', '"%(first)s"\n' + which), scene)
    scene.second.hook = always(Reply(404))
    scene.source().manifest(Tag("1"))
    assert scene.asked("manifests/1") == [1 - tag, tag, 1 - tag]
    scene.forget()
    scene.source().manifest(IMAGE.digest)
    assert scene.asked("manifests/sha256") == [1 - digest, digest, 1 - digest]
    scene.forget()
    pull(scene.source())
    assert scene.asked("blobs/") == [0, 3, 0]


def test_mirrors_for_digests_alone(scene: Scene, tmp_path: Path) -> None:
    content = MIRRORS.replace('"%(itself)s"', '"%(itself)s"\nmirror-by-digest-only = true')
    conf(tmp_path, content, scene)
    pull(scene.source())
    assert scene.asked("manifests/1") == [1, 0, 0]
    assert scene.asked("blobs/") == [0, 3, 0]


def test_a_location_of_its_own(scene: Scene, tmp_path: Path) -> None:
    """Of the longest prefix; lists of tags are asked for there, too."""
    scene.second.add(images.image("other/app", "1", LAYERS))
    content = """
    [[registry]]
    prefix = "%(itself)s/ns"
    location = "%(second)s/other"
    [[registry]]
    location = "%(itself)s"
    blocked = true
    """
    conf(tmp_path, content, scene)
    source = scene.source()
    assert source.manifest(Tag("1")).digest == IMAGE.digest
    assert source.tags() == ["1"]
    assert scene.asked() == [0, 0, 0]
    assert scene.asked("/v2/other/app") == [0, 0, 2]
    with pytest.raises(
        errors.ConfigurationError, match=f"registries.conf blocks {scene.addresses[0]}"
    ):
        MirroredSource.of(scene.registries(), scene.addresses[0], "elsewhere/app")


def test_it_counts_only_where_settings_say_so(scene: Scene, tmp_path: Path) -> None:
    conf(tmp_path, MIRRORS, scene)
    scene.more = {}
    pull(scene.source())
    assert scene.asked() == [4, 0, 0]


@pytest.mark.parametrize("insecure", [True, False])
def test_a_mirror_that_is_insecure_as_a_mirror(
    scene: Scene, tmp_path: Path, insecure: bool
) -> None:
    """And as nothing else; and what comes from there is marked."""
    with odd_registry.serving(OddRegistry([IMAGE]), tls.make(tmp_path)) as unknown:
        scene.addresses[1] = unknown
        content = MIRRORS.replace('"%(first)s"', f'"%(first)s"\ninsecure = {str(insecure).lower()}')
        conf(tmp_path, content, scene)
        registries = scene.registries()
        source = MirroredSource.of(registries, scene.addresses[0], "ns/app")
        pull(source)
        assert scene.asked()[2] == (0 if insecure else 4)
        assert not source.is_verified
        with pytest.raises(errors.RegistryUnreachable, match="self-signed"):
            MirroredSource.of(registries, unknown, "ns/app").manifest(Tag("1"))


def test_what_comes_from_the_registry_itself_is_verified_as_it_is(
    scene: Scene, tmp_path: Path
) -> None:
    """It is marked where anything came from a mirror that is not."""
    pair = tls.make(tmp_path)
    with odd_registry.serving(OddRegistry([IMAGE]), pair) as verified:
        scene.addresses[0] = verified
        scene.environment = {"SSL_CERT_FILE": str(pair[0])}
        source = scene.source()
        assert source.is_verified
        pull(source)
        assert not source.is_verified
        scene.first.hook = scene.second.hook = always(Reply(404))
        source = scene.source()
        pull(source)
        assert source.is_verified
        # The other way round, where nothing but a manifest is the registry's.
        scene.addresses[:] = [scene.addresses[1], verified, "127.0.0.1:1"]
        digests = '"%(first)s"\npull-from-mirror = "digest-only"'
        conf(tmp_path, MIRRORS.replace('"%(first)s"', digests), scene)
        scene.first.hook = odd_registry.usual
        source = scene.source()
        pull(source)
        assert not source.is_verified


def test_rules_of_a_mirror_come_before_what_it_is_as_one(scene: Scene, tmp_path: Path) -> None:
    with odd_registry.serving(OddRegistry([IMAGE]), tls.make(tmp_path)) as unknown:
        scene.addresses[1] = unknown
        conf(tmp_path, MIRRORS.replace('"%(first)s"', '"%(first)s"\ninsecure = true'), scene)
        scene.rules[unknown] = RegistryRules(insecure=False)
        pull(scene.source())
    assert scene.asked()[2] == 4


def test_a_location_that_is_no_repository(scene: Scene, tmp_path: Path) -> None:
    conf(tmp_path, MIRRORS.replace('"%(first)s"', '"%(first)s/A"'), scene)
    with pytest.raises(errors.ConfigurationError, match=r"registries\.conf: .*not a repository"):
        scene.source()
