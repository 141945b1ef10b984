# SPDX-License-Identifier: Apache-2.0
"""Runs that change nothing: what they ask for, and that they never say so wrongly."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import copy
import dataclasses
import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.runs.records import ImageRecord, Outcome, Status
from image_uploader_plugins.sources import tries
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.trust import Trust
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import odd_registry
from tests.support.odd_registry import Asked, Hook, OddRegistry, Reply
from tests.support.sources import LOGIN, tokens

SIGNATURE = "application/vnd.example.signature+json"
ONE = Tag("1")
UNSIGNED = CopyOptions(signatures=False)


class Unaware(MemoryDriver):
    """A driver that was written before there was held_manifest()."""

    held_manifest = UploaderDriver.held_manifest


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


def image(name: str, content: str = "a", tag: str | None = "1", **more: Any) -> Image:
    return images.image(name, tag, [images.layer({"a": content.encode()})], oci=True, **more)


def index(name: str, count: int = 3, tag: str | None = "1") -> Image:
    architectures = ("amd64", "arm64", "s390x")[:count]
    children = [image(name, a, None, architecture=a) for a in architectures]
    return images.index(name, tag, children, oci=True)


def named(image: Image) -> str:
    return image.repository.value


class Run:
    """Copies of images from one registry, run after run, each with connections of its own."""

    def __init__(self, registry: OddRegistry, driver: UploaderDriver | None = None) -> None:
        self.registry = registry
        self.driver = driver or MemoryDriver(uuid.uuid4().hex)
        self.login: Login | None = None
        self.all_platforms = True

    def __call__(
        self,
        names: Iterable[str],
        options: CopyOptions | None = None,
        workers: int = 1,
        reference: Tag | Digest = ONE,
    ) -> list[ImageRecord]:
        """Copy; from then on the registry knows just what was asked meanwhile."""
        self.registry.asked.clear()
        self.registry.connections.clear()
        with odd_registry.serving(self.registry) as address, self._open(address) as registries:
            registry = registries.registry(address)

            def one(name: str) -> ImageRecord:
                source, target = RegistrySource(registry, name), RepositoryName(name)
                copier = Copier(self.driver, target, source, options=options)
                tag = reference if isinstance(reference, Tag) else None
                copier.copy(reference, tag, all_platforms=self.all_platforms)
                return copier.record

            with concurrent.futures.ThreadPoolExecutor(workers) as pool:
                return list(pool.map(one, names))

    def _open(self, address: str) -> contextlib.closing[Registries]:
        keychain = Keychain({address: self.login} if self.login else {}, {})
        trust = Trust(certificates=(), environment={})
        plain = {address: f"http://{address}"}
        return contextlib.closing(Registries(Settings(keychain, trust, mirrors=plain)))

    @property
    def asked(self) -> dict[str, int]:
        """How often each kind of request was made."""
        return dict(collections.Counter(map(kind, self.registry.asked)))


def kind(asked: Asked) -> str:
    """A request without what differs from image to image."""
    what, reference = asked.path.split("/")[-2:]
    for suffix in (".sig", ".att", ".sbom"):
        reference = suffix if reference.endswith(suffix) else reference
    for prefix in ("sha256-", "sha256:"):
        reference = prefix if reference.startswith(prefix) else reference
    return f"{asked.method} {what}/{reference}"


def states(records: Iterable[ImageRecord]) -> set[Status]:
    return {record.status for record in records}


def referrers_api(*found: Image) -> Hook:
    """A registry with the API, that knows of these."""

    def hook(asked: Asked) -> Reply | None:
        name, is_api, digest = asked.path.partition("/referrers/")
        if not is_api:
            return None
        about = [
            i for i in found if i.manifest.subject and str(i.manifest.subject.digest) == digest
        ]
        return Reply(
            body=images.index(name.removeprefix("/v2/"), None, about, oci=True).manifest.content
        )

    return hook


# -- what is asked for


def test_one_head_an_image() -> None:
    found = [image(f"ns/app{number}") for number in range(5)]
    run = Run(OddRegistry(found))
    assert states(run(map(named, found), UNSIGNED)) == {Status.COPIED}
    assert run.asked["GET manifests/1"] == 5
    records = run(map(named, found), UNSIGNED)
    assert run.asked == {"HEAD manifests/1": 5}
    assert states(records) == {Status.UNCHANGED}


def test_the_target_is_asked_for_an_image_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has looked for the blobs of what it holds whole."""
    run = Run(OddRegistry([image("ns/app")]))
    run(["ns/app"], UNSIGNED)
    monkeypatch.setattr(run.driver, "present", lambda *_: pytest.fail("asked again"))
    (record,) = run(["ns/app"], UNSIGNED)
    assert record.status is Status.UNCHANGED


def test_a_first_run_asks_for_what_it_needs_at_once() -> None:
    run = Run(OddRegistry([image("ns/app")]))
    run(["ns/app"], UNSIGNED)
    assert run.asked == {"GET manifests/1": 1, "GET blobs/sha256:": 2}


@pytest.mark.parametrize("workers", [1, 4])
def test_four_small_requests_more_for_signatures(workers: int) -> None:
    """And one that finds out once that there is no API for referrers, on the same connections."""
    found = [image(f"ns/app{number}") for number in range(12)]
    run = Run(OddRegistry(found))
    run(map(named, found))
    records = run(map(named, found), workers=workers)
    asked = run.asked
    assert 1 <= asked.pop("GET referrers/sha256:") <= workers
    assert asked == {
        "HEAD manifests/1": 12,
        **dict.fromkeys(("HEAD manifests/.sig", "HEAD manifests/.att"), 12),
        "HEAD manifests/.sbom": 12,
        "GET manifests/sha256-": 12,
    }
    assert states(records) == {Status.UNCHANGED}
    assert len(run.registry.connections) <= workers


def test_signatures_that_are_there_are_not_fetched_again() -> None:
    app = image("ns/app")
    signed = image("ns/app", "sig", f"sha256-{app.digest.encoded}.sig")
    about = images.artifact("ns/app", None, SIGNATURE, b"about", subject=app.descriptor())
    run = Run(OddRegistry([app, signed, about], referrers_api(about)))
    first = run(["ns/app"])
    (record,) = run(["ns/app"])
    # Each of the three may be signed itself.
    assert run.asked == {
        "HEAD manifests/1": 1,
        **dict.fromkeys(("HEAD manifests/.sig", "HEAD manifests/.att"), 3),
        "HEAD manifests/.sbom": 3,
        "GET referrers/sha256:": 3,
    }
    assert record.signatures == first[0].signatures == [str(signed.tag), str(about.digest)]
    assert record.status is Status.UNCHANGED


def test_a_new_signature_is_found() -> None:
    app = image("ns/app")
    run = Run(OddRegistry([app]))
    run(["ns/app"])
    signed = image("ns/app", "sig", f"sha256-{app.digest.encoded}.sig")
    run.registry.add(signed)
    (record,) = run(["ns/app"])
    assert record.signatures == [str(signed.tag)]
    assert content(run).tags[signed.tag] == signed.digest


def test_nothing_below_an_index_is_asked_for() -> None:
    found = [index(f"ns/app{number}") for number in range(3)]
    run = Run(OddRegistry(found))
    run(map(named, found), UNSIGNED)
    records = run(map(named, found), UNSIGNED)
    assert run.asked == {"HEAD manifests/1": 3}
    assert states(records) == {Status.UNCHANGED}
    assert [child.status for child in records[0].children] == [Status.UNCHANGED] * 3


def test_one_platform_of_an_index_is_not_fetched_again() -> None:
    run = Run(OddRegistry([index("ns/app")]))
    run.all_platforms = False
    run(["ns/app"], UNSIGNED)
    (record,) = run(["ns/app"], UNSIGNED)
    assert run.asked == {"HEAD manifests/1": 1, "GET manifests/1": 1}
    assert record.status is Status.UNCHANGED


def test_an_image_by_its_digest() -> None:
    app = image("ns/app")
    run = Run(OddRegistry([app]))
    run(["ns/app"], UNSIGNED, reference=app.digest)
    (record,) = run(["ns/app"], UNSIGNED, reference=app.digest)
    assert run.asked == {"HEAD manifests/sha256:": 1}
    assert record.status is Status.UNCHANGED


def test_a_token_for_each_repository() -> None:
    found = [image(f"ns/app{number}") for number in range(3)]
    run = Run(OddRegistry(found))
    run.login = LOGIN
    run.registry.hook = tokens(answer=lambda asked: {"token": "T", "expires_in": 3600})
    run(map(named, found))
    run(map(named, found))
    assert len(run.registry.paths("/token")) == 3
    # The second request of each repository has the token, and so have all that follow.
    refused = [asked for asked in run.registry.asked if not asked.authorization]
    assert [asked.method for asked in refused] == ["HEAD"] * 3
    # A token is asked for while what was refused has not been given up.
    assert len(run.registry.connections) <= 2


def test_another_namespace_is_asked_for_its_referrers() -> None:
    """Behind it may be another registry, as with Artifactory."""
    with_api = image("b/app")
    about = images.artifact("b/app", None, SIGNATURE, b"about", subject=with_api.descriptor())
    api = referrers_api(about)
    found = [image("a/one"), image("a/two"), with_api]
    run = Run(
        OddRegistry([*found, about], lambda a: api(a) if a.path.startswith("/v2/b/") else None)
    )
    records = run(map(named, found))
    assert [path.split("/")[2:4] for path in run.registry.paths("/referrers/")] == [
        ["a", "one"],
        *[["b", "app"]] * 2,
    ]
    assert records[-1].signatures == [str(about.digest)]


# -- answers to HEAD that are of no use


def only_head(reply: Callable[[Asked], Reply | None]) -> Hook:
    return lambda asked: reply(asked) if asked.method == "HEAD" else None


def headers(**fields: str) -> Reply:
    return Reply(200, tuple((name.replace("_", "-"), value) for name, value in fields.items()))


USELESS: dict[str, tuple[Reply, int]] = {
    "405": (Reply(405), 1),
    "404": (Reply(404), 1),
    "403": (Reply(403), 1),
    "501": (Reply(501), 1),
    "500": (Reply(500), 3),  # it may pass
    "without a digest": (headers(Content_Type=media_types.OCI_MANIFEST), 1),
    "without a type": (headers(Docker_Content_Digest=f"sha256:{'0' * 64}"), 1),
    "no digest": (
        headers(Content_Type=media_types.OCI_MANIFEST, Docker_Content_Digest="sha256:x"),
        1,
    ),
    "no answer": (Reply(200, (("Content-Length", "5"),), b"", 0, True), 1),
}


@pytest.mark.parametrize("what", USELESS)
def test_a_registry_without_head_is_asked_as_before(what: str) -> None:
    """And, where that is its habit, just once."""
    reply, heads = USELESS[what]
    found = [image(f"ns/app{number}") for number in range(3)]
    run = Run(OddRegistry(found))
    run(map(named, found))
    signed = image("ns/app0", "sig", f"sha256-{found[0].digest.encoded}.sig")
    run.registry.add(signed)
    run.registry.hook = only_head(lambda asked: reply)
    records = run(map(named, found))
    assert run.asked["HEAD manifests/1"] == heads
    assert run.asked["GET manifests/1"] == 3
    assert states(records) == {Status.UNCHANGED}
    assert records[0].signatures == [str(signed.tag)]


def test_a_digest_that_nobody_has_changes_nothing() -> None:
    lie = headers(Content_Type=media_types.OCI_MANIFEST, Docker_Content_Digest=f"sha256:{'0' * 64}")
    run = Run(OddRegistry([image("ns/app")], only_head(lambda asked: lie)))
    run(["ns/app"], UNSIGNED)
    (record,) = run(["ns/app"], UNSIGNED)
    assert run.asked == {"HEAD manifests/1": 1, "GET manifests/1": 1}
    assert record.status is Status.UNCHANGED


def test_who_may_not_is_told_by_get() -> None:
    run = Run(OddRegistry([image("ns/app")]))
    run(["ns/app"], UNSIGNED)
    said = odd_registry.text({"errors": [{"code": "DENIED", "message": "not you"}]}, 403)
    run.registry.hook = lambda asked: said
    with pytest.raises(errors.RegistryError, match="DENIED: not you"):
        run(["ns/app"], UNSIGNED)


# -- the same result as without


def moved(run: Run) -> None:
    run.registry.add(image("ns/app", "moved"))


def moved_to_an_index(run: Run) -> None:
    run.registry.add(index("ns/app", 2))


def without_a_child(run: Run) -> None:
    repository = content(run)
    top = repository.manifests[repository.tags[ONE]]
    del repository.manifests[top.manifests[1].digest]


def without_a_pin(run: Run) -> None:
    content(run).pins.clear()


def without_a_blob(run: Run) -> None:
    repository = content(run)
    del repository.blobs[min(repository.blobs)]


def with_a_cut_blob(run: Run) -> None:
    repository = content(run)
    digest = min(repository.blobs)
    repository.blobs[digest] = repository.blobs[digest][:-1]


def with_a_flipped_blob(run: Run) -> None:
    repository = content(run)
    digest = min(repository.blobs)
    repository.blobs[digest] = bytes(len(repository.blobs[digest]))


def of_one_platform(run: Run) -> None:
    run.all_platforms = False


def renamed(run: Run) -> None:
    repository = content(run)
    repository.tags[Tag("2")] = repository.tags.pop(ONE)


def content(run: Run) -> Any:
    assert isinstance(run.driver, MemoryDriver)
    return run.driver.repositories[RepositoryName("ns/app")]


CHANGES = [
    moved,
    moved_to_an_index,
    without_a_child,
    without_a_pin,
    without_a_blob,
    with_a_cut_blob,
    with_a_flipped_blob,
    of_one_platform,
    renamed,
]


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_copied_as_by_a_driver_that_does_not_say(
    change: Callable[[Run], None], checked: bool
) -> None:
    outcomes = []
    for kind in (MemoryDriver, Unaware):
        run = Run(OddRegistry([index("ns/app")]), kind(uuid.uuid4().hex))
        run(["ns/app"])
        change(run)
        options = CopyOptions(check_present=checked)
        records = [run(["ns/app"], options)[0], run(["ns/app"], options)[0]]
        outcomes.append(([plain(record) for record in records], vars(content(run))))
    assert outcomes[0] == outcomes[1]


def plain(record: ImageRecord) -> dict[str, Any]:
    """A record without what took time, its blobs in an order of their own."""
    fields = copy.deepcopy(dataclasses.asdict(record))
    fields["blobs"].sort(key=lambda blob: blob["digest"])
    return fields | {"seconds": 0}


@pytest.mark.parametrize("whole", [False, True])
def test_an_image_that_has_not_changed_has_the_same_record(whole: bool) -> None:
    outcomes = []
    app = index("ns/app")
    signed = image("ns/app", "sig", f"sha256-{app.digest.encoded}.sig")
    for kind in (MemoryDriver, Unaware):
        run = Run(OddRegistry([app, signed]), kind(uuid.uuid4().hex))
        run.all_platforms = whole
        run(["ns/app"])
        outcomes.append(plain(run(["ns/app"])[0]))
    assert outcomes[0] == outcomes[1]
    assert {blob["outcome"] for blob in outcomes[0]["blobs"]} == {Outcome.PRESENT}


def untyped(name: str, media_type: str) -> tuple[Image, Hook]:
    """An image whose manifest does not say of which type it is: the registry does."""
    whole = image(name)
    fields = json.loads(whole.manifest.content)
    del fields["mediaType"]
    text = json.dumps(fields).encode()
    plain_image = dataclasses.replace(whole, manifest=Manifest.parse(text))
    assert not plain_image.manifest.declares_type

    def hook(asked: Asked) -> Reply | None:
        if "/manifests/1" not in asked.path:
            return None
        digest = str(plain_image.digest)
        fields = (("Content-Type", media_type), ("Docker-Content-Digest", digest))
        return Reply(200, fields, text)

    return plain_image, hook


def test_another_media_type_of_the_same_bytes_is_put() -> None:
    app, as_oci = untyped("ns/app", media_types.OCI_MANIFEST)
    _, as_docker = untyped("ns/app", media_types.DOCKER_MANIFEST)
    run = Run(OddRegistry([app], as_oci))
    run(["ns/app"], UNSIGNED)
    run.registry.hook = as_docker
    run(["ns/app"], UNSIGNED)
    assert run.asked == {"HEAD manifests/1": 1, "GET manifests/1": 1}
    assert content(run).manifests[app.digest].media_type == media_types.DOCKER_MANIFEST


def test_layers_that_are_elsewhere_are_asked_for_when_they_are_wanted() -> None:
    away = images.layer({"a": b"away"}, oci=True)
    whole = images.image("ns/app", "1", [away], oci=True)
    fields = whole.manifest.content.replace(
        f'"digest": "{away.digest}"'.encode(),
        f'"digest": "{away.digest}", "urls": ["https://x.invalid/a"]'.encode(),
    )
    assert fields != whole.manifest.content
    app = dataclasses.replace(whole, manifest=Manifest.parse(fields))
    run = Run(OddRegistry([app]))
    (record,) = run(["ns/app"], UNSIGNED)
    assert away.digest not in content(run).blobs
    run(["ns/app"], CopyOptions(signatures=False, foreign_layers=True))
    assert content(run).blobs[away.digest] == away.content
    (record,) = run(["ns/app"], CopyOptions(signatures=False, foreign_layers=True))
    assert run.asked == {"HEAD manifests/1": 1}
    assert {blob.outcome for blob in record.blobs} == {Outcome.PRESENT}
