# SPDX-License-Identifier: Apache-2.0
"""Random trees with random damage: what is foretold happens, and nothing needed ever goes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.local_export import needs
from image_uploader_plugins.local_export.graph import Reference, closure
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.reports.forecast import Forecast
from image_uploader_plugins.local_export.reports.holdings import Holdings
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification, repair
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import damages, faults, trees

NAME = RepositoryName("ns/a")
MANIFESTS = f"v2/{NAME}/manifests"
LAYERS = [images.layer({"file": bytes([n]) * 200}) for n in range(6)]


class Wood:
    """A tree of images that list and refer to each other, and what is known of it."""

    def __init__(self, root: Path, seed: int, *, remembered: bool = False) -> None:
        self.root = root
        self.seed = seed
        self._chosen = random.Random(seed)  # noqa: S311
        self.made: dict[Digest, Image] = {}
        self.tags: dict[Tag, Digest] = {}
        with LocalExportDriver(root) as driver:
            for number in range(self._chosen.randint(3, 9)):
                self._put(driver, self._image(number))
            if remembered:  # by a delete of nothing
                driver.delete_all(NAME, [])
        self.damaged = [self._damage() for _ in range(self._chosen.choice((0, 1, 1, 2)))]

    def _put(self, driver: LocalExportDriver, image: Image) -> None:
        self.made[image.digest] = image
        for blob, content in image.blobs.items():
            driver.upload_layer(NAME, [content], expected=blob)
        tag = Tag(f"t{self._chosen.randrange(4)}") if self._chosen.random() < 0.5 else None
        driver.put_manifest(NAME, image.manifest.content, image.manifest.media_type, tag=tag)
        if tag:
            self.tags[tag] = image.digest

    def _image(self, number: int) -> Image:
        some = self._chosen.sample(sorted(self.made), min(len(self.made), 3))
        subject = {}
        if some and self._chosen.random() < 0.4:
            subject = {"subject": self.made[some[0]].descriptor()}
        if some and self._chosen.random() < 0.4:
            children = [self.made[digest] for digest in some]
            return images.index(str(NAME), None, children, oci=True, **subject)
        layers = self._chosen.sample(LAYERS, 2)
        return images.image(str(NAME), None, layers, oci=True, architecture=f"a{number}", **subject)

    def _damage(self) -> Digest:
        digest = self._chosen.choice(sorted(self.made))
        path = self.root / MANIFESTS / str(digest) / "index.json"
        if path.is_file() and not path.is_symlink():
            self._chosen.choice(damages.ALL[:4])(path)
        if self._chosen.random() < 0.3:  # as tripleo-common leaves it
            (self.root / MANIFESTS / f".pin-{digest}.type-map").unlink(missing_ok=True)
        return digest

    def references(self) -> list[Reference]:
        """What could be deleted: one, two, or all names."""
        names: list[Reference] = [*sorted(self.tags), *sorted(self.made)]
        few = self._chosen.sample(names, self._chosen.randint(1, min(3, len(names))))
        every: list[Reference] = [*sorted(self.tags)]
        return self._chosen.choice((every, few, few, few))

    def needed(self, gone: list[Reference]) -> set[Digest]:
        """What a reader of undamaged bytes would say is needed when these names are gone."""
        parsed = {digest: image.manifest for digest, image in self.made.items()}
        listed = {child.digest for m in parsed.values() for child in m.manifests}
        pins = {
            Digest(path.name.removeprefix(".pin-").removesuffix(".type-map"))
            for path in (self.root / MANIFESTS).glob(".pin-*")
        }
        tagged = {d for tag, d in self.tags.items() if tag not in gone and d not in gone}
        kept = {digest: [c.digest for c in m.manifests] for digest, m in parsed.items()}
        for digest, manifest in parsed.items():
            if manifest.subject and digest not in gone:
                kept[manifest.subject.digest].append(digest)
        live = closure(kept, {*tagged, *(pins - listed - set(gone))})
        return live | {b.digest for d in live for b in _blobs(parsed[d])}


def _blobs(manifest: Manifest) -> Iterator[images.Blob]:
    yield from manifest.blobs()  # type: ignore[misc]


def content(root: Path) -> set[Digest]:
    """The manifests and blobs that are there."""
    top = root / f"v2/{NAME}"
    blobs = {path.name.removesuffix(".gz") for path in (top / "blobs").glob("*")}
    return {Digest(name) for name in {*blobs, *(p.name for p in top.glob("manifests/sha256:*"))}}


def outcome(delete: Callable[[], Deletion]) -> tuple[Deletion | None, str]:
    try:
        return delete(), ""
    except errors.NeedUnknown as e:
        return e.deletion, str(e)
    except errors.UploaderError as e:
        return None, str(e)


def in_the_end(check: Callable[[Wood], list[str]], seeds: range) -> None:
    def judge(seed: int) -> list[str]:
        with faults.fast_folder() as folder:
            return [f"{seed}: {line}" for line in check(Wood(folder / "tree", seed))]

    faults.spread(judge, seeds)


def _deleted(wood: Wood, *, doubted: bool = True) -> list[str]:
    references = wood.references()
    foreseen = outcome(lambda: Forecast(Tree(wood.root)).delete_all(NAME, references))
    # What is damaged and named by its digest is given up, whatever it was to others.
    given_up = set(references).intersection(wood.damaged) if doubted else set()
    needed = wood.needed(references) & content(wood.root) - given_up
    with LocalExportDriver(wood.root) as driver:
        done = outcome(lambda: driver.delete_all(NAME, references))
    return [
        *([f"{references}: foreseen {foreseen}, done {done}"] if foreseen != done else []),
        *([f"{references}: {done[1]}"] if done[1] and not doubted else []),
        *(f"{references}: {digest} was needed" for digest in needed - content(wood.root)),
    ]


def _deleted_from_memory(wood: Wood) -> list[str]:
    """What is damaged by now, and was read before, stops nobody and loses nothing."""
    with faults.fast_folder() as folder:
        return _deleted(Wood(folder / "tree", wood.seed, remembered=True), doubted=False)


def _collected(wood: Wood) -> list[str]:
    needed = wood.needed([]) & content(wood.root)
    tree = Tree(wood.root)
    dry_run, collector = Collector(tree, dry_run=True), Collector(tree)
    foreseen, done = sorted(dry_run.collect()), sorted(collector.collect())
    problems = [f"foreseen {foreseen}, done {done}"] if foreseen != done else []
    said = [list(map(str, c.problems)) for c in (dry_run, collector)]
    problems += [f"said {said}"] if said[0] != said[1] else []
    again = list(Collector(tree).collect())
    problems += [f"and then {again}"] if again else []
    tree.close()
    return problems + [f"{digest} was needed" for digest in needed - content(wood.root)]


def _listed(wood: Wood) -> list[str]:
    """What a list says that deleting each image would free is what it then frees."""
    tree = Tree(wood.root)
    list(Collector(tree).collect())
    problems = []
    for image in Holdings(tree, NAME).images(untagged=True):
        reference = image.tag or image.digest
        if image.manifest is None or reference is None:
            continue
        with faults.fast_folder() as folder:
            trees.copy(wood.root, folder / "copy")
            with LocalExportDriver(folder / "copy") as driver:
                deletion, _ = outcome(lambda: driver.delete_all(NAME, [reference]))  # noqa: B023
        freed = deletion.bytes_freed if deletion else 0
        if freed != image.own:
            problems.append(f"{image}: own {image.own}, freed {freed}")
    tree.close()
    return problems


def _repaired(wood: Wood) -> list[str]:
    """Repair takes nothing that is needed, and a second one finds nothing to do."""
    needed = wood.needed([]) & content(wood.root)
    tree = Tree(wood.root)
    verification = Verification(tree)
    first = repair(verification, verification.report()).findings
    problems = [f"{digest} was needed" for digest in needed - content(wood.root)]
    before = trees.served(wood.root)
    verification = Verification(tree)
    second = repair(verification, verification.report()).findings
    tree.close()
    problems += [f"first {first}, then {second}"] if first != second else []
    problems += ["repaired again"] if trees.served(wood.root) != before else []
    return problems


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "count"),
    [
        *((_deleted, 80), (_deleted_from_memory, 40)),
        *((_collected, 60), (_listed, 40), (_repaired, 30)),
    ],
)
def test_in_random_trees(
    check: Callable[[Wood], list[str]], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "WORTH", 0)
    in_the_end(check, range(count))


@pytest.mark.slow
def test_random_trees_have_all_that_matters() -> None:
    """Or else they prove nothing."""
    with faults.fast_folder() as folder:
        woods = [Wood(folder / str(seed), seed) for seed in range(40)]
        kinds = [(m.is_index, m.subject is not None) for w in woods for m in _manifests(w)]
        assert {(True, False), (False, True), (False, False), (True, True)} <= set(kinds)
        assert sum(bool(w.damaged) for w in woods) > 10
        assert any(w.damaged and not set(w.damaged) & set(w.tags.values()) for w in woods)


def _manifests(wood: Wood) -> Iterator[Manifest]:
    return (image.manifest for image in wood.made.values())
