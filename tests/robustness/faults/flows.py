# SPDX-License-Identifier: Apache-2.0
"""The operations that are interrupted, and what readers may rely on around each of their steps."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import driver as contract
from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import partials
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import legacy, trees
from tests.support.faults import PLAIN, Hook, across_file_systems, hooked

_PIECE = 30  # bytes of a layer that come at a time

Tags = dict[tuple[str, str], Digest]
Content = frozenset[tuple[str, Digest]]


@dataclasses.dataclass(frozen=True)
class World:
    """What a tree holds: tags and, each with its repository, manifests and blobs."""

    tags: Tags = dataclasses.field(default_factory=dict)
    manifests: Content = frozenset()
    blobs: Content = frozenset()
    # Before a driver was there nobody can rely on anything.
    founded: bool = True

    def with_blobs(self, name: RepositoryName, *digests: Digest) -> World:
        added = {(str(name), digest) for digest in digests}
        return dataclasses.replace(self, blobs=self.blobs | added)

    def with_manifest(self, image: Image, digest: Digest, tag: str | None) -> World:
        name = str(image.repository)
        return dataclasses.replace(
            self.with_blobs(image.repository, *image.blobs),
            manifests=self.manifests | {(name, digest)},
            tags=self.tags | ({(name, tag): digest} if tag else {}),
        )

    def with_image(self, image: Image, tag: str | None = None) -> World:
        world = self
        for part in image.walk():
            own = tag or (str(part.tag) if part.tag else None)
            world = world.with_manifest(part, part.digest, own if part is image else None)
        return world


Run = Callable[[LocalExportDriver], object]


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of a driver, and the world once it has returned."""

    run: Run
    after: World


@dataclasses.dataclass(frozen=True)
class Flow:
    """``prepare`` lays the tree down, where there is one before.

    ``founding``: making the driver is part of it.  ``legacy``: what is there
    before is none of ours.  ``wrap`` is a hook through which all calls go.
    """

    name: str
    prepare: Callable[[Path], object]
    before: World
    steps: tuple[Step, ...]
    founding: bool = False
    legacy: bool = False
    wrap: Hook = PLAIN

    def worlds(self, done: int) -> tuple[World, World]:
        """What was there when so many steps were done, and what the next one leads to."""
        worlds = [self.before, *(step.after for step in self.steps)]
        return worlds[done], worlds[min(done + 1, len(self.steps))]


class Attempt:
    """Steps of a flow, carried out on a tree by a driver of its own; ``done`` have returned."""

    def __init__(self, flow: Flow, root: Path, steps: Iterable[int] | None = None) -> None:
        self._flow = flow
        self._root = root
        self._steps = range(len(flow.steps)) if steps is None else steps
        self.done = min(self._steps)

    def __call__(self, hook: Hook = PLAIN, *, again: bool = False) -> None:
        """All of them, through ``hook``; what is gone already may be so the second time."""
        # Whoever opens a tree after another was killed may have something to mend.
        opened = None if self._flow.founding or again else LocalExportDriver(self._root)
        with hooked(hook), opened or LocalExportDriver(self._root) as driver:
            for step in self._steps:
                with contextlib.suppress(*([errors.ImageUnknown] if again else [])):
                    self._flow.steps[step].run(driver)
                self.done += 1


def _upload(image: Image, digest: Digest) -> Run:
    content = image.blobs[digest]
    return lambda driver: driver.upload_layer(image.repository, [content], expected=digest)


class _Torn(contract.Content):
    """Content that breaks off after ``end`` bytes."""

    def __init__(self, content: bytes, end: int | None) -> None:
        self._content = content
        self._end = end

    def start_at(self, offset: int) -> Iterator[bytes]:
        for begin in range(offset, self._end or len(self._content), _PIECE):
            yield self._content[begin : begin + _PIECE]
        if self._end:
            raise ConnectionError


def _fetch(image: Image, digest: Digest) -> Run:
    """A layer that breaks off, breaks off later when it is fetched again, and comes then."""
    content = image.blobs[digest]

    def run(driver: LocalExportDriver) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(partials, "SMALLEST", 1)
            for end in (2 * _PIECE, 3 * _PIECE, None):
                with contextlib.suppress(ConnectionError):
                    torn = _Torn(content, end)
                    driver.upload_layer(image.repository, torn, expected=digest, size=len(content))

    return run


def _fetch_steps(before: World, image: Image) -> tuple[Step, ...]:
    layer = image.manifest.layers[0].digest
    return (Step(_fetch(image, layer), before.with_blobs(image.repository, layer)),)


def _put(image: Image, digest: Digest, named: bool) -> Run:
    config = image.manifest.config
    return lambda driver: driver.put_manifest(
        image.repository,
        image.manifest.content,
        image.manifest.media_type,
        tag=image.tag if named else None,
        config=image.blobs[config.digest] if config else None,
        expected=digest,
    )


def put_steps(before: World, image: Image, algorithm: str = "sha256") -> tuple[Step, ...]:
    """As a host puts an image: layers, then the manifest and its config, children first."""
    world, steps = before, []
    for part in image.walk():
        config = part.manifest.config
        for digest in part.blobs:
            if not config or digest != config.digest:
                world = world.with_blobs(part.repository, digest)
                steps.append(Step(_upload(part, digest), world))
        digest = Digest.of(part.manifest.content, algorithm)
        named = part is image
        world = world.with_manifest(part, digest, str(part.tag) if named and part.tag else None)
        steps.append(Step(_put(part, digest, named), world))
    return tuple(steps)


def _delete(reference: str, after: World) -> tuple[Step, ...]:
    return (Step(lambda driver: driver.delete(ImageRef.parse(reference)), after),)


def _laid(*laid: Image, blobs: tuple[Image, ...] = ()) -> tuple[Callable[[Path], object], World]:
    """A tree with these images, and with the layers of others, by our own driver."""
    world = World()
    for image in laid:
        world = world.with_image(image)
    for image in blobs:
        world = world.with_blobs(image.repository, *image.blobs)

    def prepare(root: Path) -> None:
        with LocalExportDriver(root) as driver:
            for image in laid:
                trees.put(driver, image)
            _upload_all(driver, *blobs)

    return prepare, world


def _upload_all(driver: LocalExportDriver, *images: Image) -> None:
    for image in images:
        for digest in image.blobs:
            _upload(image, digest)(driver)


def one(text: str, tag: str | None, name: str = "ns/img", architecture: str = "amd64") -> Image:
    layers = [images.layer({"file": text.encode()})]
    return images.image(name, tag, layers, architecture=architecture)


OLD, NEW, OTHER = one("old", "1.0"), one("new", "1.0"), one("other", "other")
NESTED = one("old", "1.0", "ns/img/sub")
LIST = images.index("ns/img", "list", [one("old", None), one("arm", None, architecture="arm64")])
REFERRER = images.artifact(
    "ns/img", None, "application/vnd.example", b"about", subject=OLD.descriptor()
)
SIGNATURE = images.artifact(
    "ns/img", None, "application/vnd.example", b"signed", subject=LIST.descriptor()
)


def _sparse() -> tuple[Callable[[Path], object], World, tuple[Step, ...]]:
    """An index with two tags and one of its two platforms, and how the other one comes."""
    ours, arm = LIST.children
    lay, world = _laid(arm, NESTED)
    for tag in ("list", "first"):
        world = world.with_manifest(LIST, LIST.digest, tag)

    def prepare(root: Path) -> None:
        lay(root)
        with LocalExportDriver(root) as driver:
            content, media_type = LIST.manifest.content, LIST.manifest.media_type
            for tag in ("first", "list"):
                driver.put_manifest(LIST.repository, content, media_type, tag=Tag(tag))
            driver.leave_out(LIST.repository, LIST.digest, [ours.digest])

    steps = (*put_steps(world, ours), Step(_put(LIST, LIST.digest, True), world.with_image(ours)))
    whole = steps[-1].after
    leave = Step(lambda driver: driver.leave_out(LIST.repository, LIST.digest, []), whole)
    return prepare, world, (*steps, leave)


def _to_a_list_and_back(before: World) -> tuple[Step, ...]:
    """A tag of an image that becomes one of a list, and then of the image again."""
    moved = dataclasses.replace(LIST, tag=OTHER.tag)
    after = before.with_manifest(moved, moved.digest, str(moved.tag))
    return (
        Step(_put(moved, moved.digest, True), after),
        Step(_put(OTHER, OTHER.digest, True), before),
    )


def _legacy(root: Path, *laid: Image) -> None:
    """As tripleo-common left it."""
    for image in laid:
        legacy.write_blobs(root, image)
        legacy.write_manifest(root, image)
        legacy.write_symlink_tag(root, image, str(image.tag))
    legacy.write_lists(root, {"ns/img": [str(image.tag) for image in reversed(laid)]})
    for path in (root / "v2").rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    root.chmod(0o755)


def _legacy_with_two(root: Path) -> None:
    _legacy(root, OLD, OTHER)


def _legacy_with_layers(root: Path) -> None:
    _legacy(root, OLD)
    with LocalExportDriver(root) as driver:
        _upload_all(driver, NEW, THIRD)


THIRD = one("third", "third")


def _anothers(root: Path) -> None:
    """Where it is root that writes."""
    LocalExportDriver(root).close()
    if os.geteuid() == 0:
        for path in [root, *root.rglob("*")]:
            os.chown(path, 23456, 34567, follow_symlinks=False)


def flows() -> list[Flow]:
    """Each with a name that tells what is interrupted."""
    nothing = World(founded=False)
    foundation = Step(lambda driver: None, World())
    two_there, two = _laid(OLD, OTHER, NESTED)
    child = LIST.children[0]
    list_there, with_child = _laid(OLD, child, NESTED)
    all_there, everything = _laid(OLD, LIST, SIGNATURE, NESTED)
    without_list = World().with_image(OLD).with_image(SIGNATURE).with_image(NESTED)
    both_there, both = _laid(LIST, OTHER, NESTED)
    last_there, last = _laid(OLD, NESTED)
    referrer_there, with_referrer = _laid(OLD, REFERRER, NESTED)
    old_there, old = _laid(OLD, blobs=(REFERRER, OTHER))
    old_world = World().with_image(OLD)
    two_world = old_world.with_image(OTHER)
    old_and_layers = old_world.with_blobs(OLD.repository, *NEW.blobs, *THIRD.blobs)
    unfounded = dataclasses.replace(two_world, founded=False)
    fresh = (foundation, *put_steps(World(), OLD))
    return [
        Flow("fresh put", lambda root: None, nothing, fresh, founding=True),
        Flow("put again", two_there, two, put_steps(two, OLD)),
        Flow("moved tag", two_there, two, put_steps(two, NEW)),
        Flow("list with children", list_there, with_child, put_steps(with_child, LIST)[-3:]),
        Flow("more platforms of a list", *_sparse()),
        Flow("moved to a list and back", both_there, both, _to_a_list_and_back(both)),
        Flow("referrer", old_there, old, put_steps(old, REFERRER)[-1:]),
        Flow("sha512", old_there, old, put_steps(old, OTHER, "sha512")[-1:]),
        Flow("delete", all_there, everything, _delete("ns/img:list", without_list)),
        Flow(
            "delete of a referrer",
            referrer_there,
            with_referrer,
            _delete(f"ns/img@{REFERRER.digest}", last),
        ),
        Flow(
            "delete of the last tag",
            last_there,
            last,
            _delete("ns/img:1.0", World().with_image(NESTED)),
        ),
        Flow(
            "foundation of a legacy tree",
            _legacy_with_two,
            unfounded,
            (Step(lambda driver: None, two_world),),
            founding=True,
            legacy=True,
        ),
        Flow(
            "migration",
            _legacy_with_layers,
            old_and_layers,
            put_steps(old_and_layers, THIRD)[-1:],
            legacy=True,
        ),
        Flow(
            "moved legacy tag",
            _legacy_with_layers,
            old_and_layers,
            put_steps(old_and_layers, NEW)[-1:],
            legacy=True,
        ),
        Flow(
            "delete in a legacy tree",
            _legacy_with_two,
            two_world,
            _delete("ns/img:other", old_world),
            legacy=True,
        ),
        Flow(
            "fetch that breaks off",
            lambda root: LocalExportDriver(root).close(),
            World(),
            _fetch_steps(World(), OLD),
        ),
        Flow("first put into another's tree", _anothers, World(), put_steps(World(), OLD)),
        Flow(
            "first put across file systems",
            lambda root: LocalExportDriver(root).close(),
            World(),
            put_steps(World(), OLD),
            wrap=across_file_systems,
        ),
    ]


FLOWS = {flow.name: flow for flow in flows()}
# One that the quick run takes through everything.
QUICK = frozenset({"referrer"})
