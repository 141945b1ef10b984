# SPDX-License-Identifier: Apache-2.0
"""What all workers are to do, from a seed.

Every lane (one thread of one worker) has names of its own, its tags and the
manifests that it deletes by digest, and works on the same repositories, images
and blobs as all others.  So the tree that is left does not depend on who came
first, and a lane knows what it will find.

What makes readers' findings conclusive: a name that was deleted, or moved
away from an image, never comes back to it.  A tag that leads to the same
image before and after has done so all the time.
"""

from __future__ import annotations

import collections
import dataclasses
import random
from collections.abc import Callable, Iterator

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing.images import Image
from tests.robustness.stress.content import KINDS, Maker

SHARED = ("a", "a/b", "a/b/c")

_KEPT_KINDS = ("docker", "oci", "docker list", "oci index", "sha512")
_PASSING_KINDS = ("docker", "oci", "sha512", "docker")


@dataclasses.dataclass(frozen=True)
class Upload:
    """One blob, from its first byte to its last."""

    repository: RepositoryName
    digest: Digest
    content: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Mount:
    """Blobs that the driver may hold, in one repository or elsewhere; the rest is uploaded."""

    repository: RepositoryName
    blobs: dict[Digest, bytes] = dataclasses.field(repr=False)
    source: RepositoryName


@dataclasses.dataclass(frozen=True)
class Put:
    """A manifest; with ``config`` the caller has not uploaded that blob."""

    image: Image
    digest: Digest
    tag: Tag | None = None
    config: bytes | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Delete:
    target: ImageRef


Step = Upload | Mount | Put | Delete
Lane = list[Step]


@dataclasses.dataclass(frozen=True)
class Plan:
    """``lanes`` by worker and thread; ``prelude`` comes before them, and before readers."""

    prelude: list[Step]
    lanes: list[list[Lane]]

    def steps(self) -> Iterator[Step]:
        yield from self.prelude
        for worker in self.lanes:
            for lane in worker:
                yield from lane

    def puts(self) -> Iterator[Put]:
        return (step for step in self.steps() if isinstance(step, Put))

    def repositories(self) -> set[RepositoryName]:
        return {put.image.repository for put in self.puts()}


def make(seed: int, workers: int, threads: int, length: int, tags: int) -> Plan:
    """Lanes of about ``length`` steps; ``tags`` that stay in each shared repository."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    maker = Maker(rng)
    lanes = [(worker, thread) for worker in range(workers) for thread in range(threads)]
    common = _Common(rng, maker, seed)
    prelude = list(_prelude(common, rng, tags, lanes))
    made = [
        [_LaneMaker(common, rng, worker, thread).lane(length) for thread in range(threads)]
        for worker in range(workers)
    ]
    return Plan(prelude, made)


class _Common:
    """What all lanes share: images that always stay, and others that come and go."""

    def __init__(self, rng: random.Random, maker: Maker, seed: int) -> None:
        self.maker = maker
        self.seed = seed
        self.kept = {
            name: [maker.image(name, f"{seed} kept", kind) for kind in _KEPT_KINDS]
            for name in SHARED
        }
        # No lists: a child goes with the last index that lists it, although another
        # lane, which has put the same child, is about to put another index.
        self.passing = {
            name: [maker.image(name, f"{seed} passing", kind) for kind in _PASSING_KINDS]
            for name in SHARED
        }


def _prelude(
    common: _Common, rng: random.Random, tags: int, lanes: list[tuple[int, int]]
) -> Iterator[Step]:
    for images in common.kept.values():
        for number, image in enumerate(images):
            yield from _whole(rng, image, Tag(f"keep-{number:02}"))
        for number in range(len(images), tags):
            yield _put(images[number % len(images)], Tag(f"keep-{number:02}"))
        for lane in lanes:
            yield _put(images[0], moving(*lane))
        yield from _whole(rng, common.maker.referrer(images[0], f"{common.seed} kept"), None)


def moving(worker: int, thread: int) -> Tag:
    """The tag that a lane moves and nobody deletes."""
    return Tag(f"moving-{worker}.{thread}")


@dataclasses.dataclass
class _Name:
    """A name that a lane has given, and may take back."""

    image: Image
    digest: Digest
    tag: Tag | None
    ours: bool  # no other lane knows the image: it may be deleted by its digest


class _LaneMaker:
    def __init__(self, common: _Common, rng: random.Random, worker: int, thread: int) -> None:
        self._common = common
        self._rng = rng
        self._lane = (worker, thread)
        self._own = f"alone/worker{worker}"
        self._names: list[_Name] = []
        self._steps: Lane = []
        self._numbers = iter(range(1_000_000))

    def lane(self, length: int) -> Lane:
        choices: dict[Callable[[], None], int] = {
            self._image: 8,
            self._delete: 6,
            self._move: 2,
            self._move_stable: 2,
            self._refer: 2,
            self._untagged: 1,
            self._leave: 1,
        }
        while len(self._steps) < length:
            chosen = self._rng.choices(list(choices), list(choices.values()))
            chosen[0]()
        return self._steps

    def _text(self) -> str:
        worker, thread = self._lane
        return f"{self._common.seed} {worker}.{thread} {next(self._numbers)}"

    def _tag(self) -> Tag:
        worker, thread = self._lane
        return Tag(f"v{worker}.{thread}-{next(self._numbers)}")

    def _new(self, name: str | None = None) -> _Name:
        """An image of ours, or one that other lanes put, too."""
        name = name or self._rng.choice([*SHARED, self._own])
        if name in SHARED and self._rng.random() < 0.4:
            image = self._rng.choice(self._common.passing[name])
            return _Name(image, image.digest, None, ours=False)
        image = self._common.maker.image(name, self._text(), self._rng.choice(KINDS))
        algorithm = "sha512" if self._rng.random() < 0.1 else "sha256"
        return _Name(image, Digest.of(image.manifest.content, algorithm), None, ours=True)

    def _image(self) -> None:
        self._give(self._new(), self._tag())

    def _untagged(self) -> None:
        # What others know may be an image with no tag but theirs: ours must be unlike it.
        image = self._common.maker.image(self._rng.choice(SHARED), self._text(), KINDS[0])
        self._give(_Name(image, image.digest, None, ours=True), None)

    def _give(self, name: _Name, tag: Tag | None) -> None:
        name.tag = tag
        *blobs, put = _whole(self._rng, name.image, tag, name.digest)
        # Between an image's blobs and its manifest something else goes, every other time.
        self._steps += blobs
        if self._names and self._rng.random() < 0.5:
            self._delete()
        self._steps.append(put)
        self._names.append(name)

    def _delete(self) -> None:
        if self._names:
            self._take(self._names.pop(self._rng.randrange(len(self._names))))

    def _take(self, name: _Name) -> None:
        by_digest = name.tag is None or (name.ours and self._rng.random() < 0.5)
        reference = name.digest if by_digest else name.tag
        assert reference is not None
        self._steps.append(Delete(ImageRef(name.image.repository, reference)))

    def _leave(self) -> None:
        """Empty a repository, which others of the worker may be filling."""
        for name in [n for n in self._names if str(n.image.repository) == self._own]:
            self._names.remove(name)
            self._take(name)

    def _move(self) -> None:
        """Move a tag of ours; the image it leaves goes with anybody's next delete."""
        tagged = [name for name in self._names if name.tag]
        if not tagged:
            return
        old = self._rng.choice(tagged)
        new = self._new(str(old.image.repository))
        if new.ours:  # it must never lead again to an image that it has left
            self._names.remove(old)
            self._give(new, old.tag)

    def _move_stable(self) -> None:
        images = self._common.kept[self._rng.choice(SHARED)]
        self._steps.append(_put(self._rng.choice(images), moving(*self._lane)))

    def _refer(self) -> None:
        """Refer to an image that stays, so that several lanes change one list."""
        subject = self._rng.choice(self._common.kept[self._rng.choice(SHARED)][:2])
        image = self._common.maker.referrer(subject, self._text())
        self._give(_Name(image, image.digest, None, ours=True), None)


def _whole(
    rng: random.Random, image: Image, tag: Tag | None, digest: Digest | None = None
) -> Iterator[Step]:
    """All calls for an image; what it is under comes last."""
    for part in image.walk():
        config = part.manifest.config
        given = config and config.digest if rng.random() < 0.5 else None
        yield from _blobs(rng, part, {d: c for d, c in part.blobs.items() if d != given})
        yield _put(
            part,
            tag if part is image else None,
            digest if part is image else None,
            part.blobs[given] if given else None,
        )


def _blobs(rng: random.Random, part: Image, blobs: dict[Digest, bytes]) -> Iterator[Step]:
    if rng.random() < 0.5:
        yield Mount(part.repository, blobs, RepositoryName(rng.choice(SHARED)))
        return
    for digest, content in blobs.items():
        yield Upload(part.repository, digest, content)


def _put(
    image: Image, tag: Tag | None, digest: Digest | None = None, config: bytes | None = None
) -> Put:
    return Put(image, digest or image.digest, tag, config)


def destinations(plan: Plan) -> dict[tuple[str, str], list[Put]]:
    """What each tag ever leads to, in the order of its lane, by repository and tag."""
    found: dict[tuple[str, str], list[Put]] = collections.defaultdict(list)
    for put in plan.puts():
        if put.tag:
            found[str(put.image.repository), put.tag.value].append(put)
    return found
