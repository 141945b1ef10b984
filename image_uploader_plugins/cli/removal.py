# SPDX-License-Identifier: Apache-2.0
"""The common part of delete and prune: deleting images, or listing what would go."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

from image_uploader_plugins import errors
from image_uploader_plugins.cli import formats, progress
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.local_export.graph import Reference
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.reports.forecast import Forecast
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import ImageRef, RepositoryName
from image_uploader_plugins.units import plural, size

DELETED = "deleted"

Images = Mapping[RepositoryName, list[Reference]]
Choose = Callable[[Collection[Reference]], Collection[Reference]]
Narrow = Callable[[RepositoryName, Collection[Reference]], Collection[Reference]]


class Target(Protocol):
    """A place where images are deleted, or a forecast of that."""

    def delete_all(
        self,
        name: RepositoryName,
        wanted: Collection[Reference],
        narrow: Choose,
        /,
    ) -> Deletion:
        """Delete those of the ``wanted`` images of a repository that ``narrow`` leaves."""


def _all(_name: RepositoryName, references: Collection[Reference]) -> Collection[Reference]:
    return references


def _note(
    noted: list[Reference],
    narrow: Choose,
    references: Collection[Reference],
) -> list[Reference]:
    noted += narrow(references)
    return noted


class Removal(LocalTree, Command):
    """A subcommand that deletes images."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--dry-run", action="store_true", help="tell what would go; change nothing"
        )
        formats.add_option(parser, "-f")
        return parser

    def remove(
        self, tree: Tree, images: Images, parsed_args: argparse.Namespace, narrow: Narrow = _all
    ) -> int:
        """Delete images of a tree or, for ``--dry-run``, tell what would go and what that frees.

        ``narrow`` says when a repository's turn has come, under its lock,
        which of its images are still to go.  Return what that frees, in bytes.
        """
        if parsed_args.dry_run:
            forecast = Forecast(tree)
            return self.delete(forecast, images.items(), "would go", narrow, parsed_args.format)
        with LocalExportDriver.from_conf(self.tree_conf(parsed_args)) as driver:
            return self.delete(driver, images.items(), narrow=narrow, form=parsed_args.format)

    def delete(
        self,
        target: Target,
        images: Iterable[tuple[RepositoryName, Collection[Reference]]],
        outcome: str = DELETED,
        narrow: Narrow = _all,
        form: str = formats.TEXT,
    ) -> int:
        """Delete images, repository by repository, and print what went: its ``outcome``.

        ``form`` is that of cli.formats.  Return what that frees, in bytes.

        A repository that cannot be worked on is reported; the others go on.
        """
        manifests = blobs = freed = names = 0
        told: list[dict[str, Any]] = []
        with progress.metered(self.app.stderr, self.meter, quiet=self.quiet) as display:
            for name, references, deletion in self._deletions(target, images, narrow):
                told.append(_fields(name, references, deletion))
                if form == formats.TEXT:
                    with display.above() if display else contextlib.nullcontext():
                        self.tell(name, references, deletion, outcome)
                names += len(references)
                manifests += len(deletion.manifests)
                blobs += len(deletion.blobs)
                freed += deletion.bytes_freed
        if form != formats.TEXT:
            result = {"deleted": outcome == DELETED, "repositories": told, "bytes_freed": freed}
            self.app.stdout.write(formats.written(result, form))
            return freed
        self.end(outcome)
        what = f"{plural(names, 'image')}, {plural(manifests, 'manifest')}, {plural(blobs, 'blob')}"
        print(f"{what} {outcome}, {size(freed)} freed", file=self.app.stdout)
        return freed

    def _deletions(
        self,
        target: Target,
        images: Iterable[tuple[RepositoryName, Collection[Reference]]],
        narrow: Narrow,
    ) -> Iterator[tuple[RepositoryName, list[Reference], Deletion]]:
        """Delete images; yield for each repository which were still to go, and what went."""
        for name, wanted in self.meter.each("Went through {} repositories", list(images)):
            references: list[Reference] = []
            narrowing = functools.partial(_note, references, functools.partial(narrow, name))
            try:
                deletion = target.delete_all(name, wanted, narrowing)
            except errors.NeedUnknown as e:
                self.complain(f"{name}: {e}")
                deletion = e.deletion
            except errors.UploaderError as e:
                self.complain(f"{name}: {e}")
                continue
            yield name, references, deletion

    def end(self, outcome: str) -> None:
        """Print what was not told of each repository."""

    def tell(
        self, name: RepositoryName, references: list[Reference], deletion: Deletion, outcome: str
    ) -> None:
        """Print what went of a repository, or would: each image, manifest and blob."""
        lines: list[Any] = []
        for reference in references:
            stays = isinstance(reference, Digest) and reference not in deletion.manifests
            end = "stays, something else needs it" if stays else outcome
            lines.append(f"{ImageRef(name, reference)}: {end}")
        lines += [f"  manifest {digest}" for digest in deletion.manifests]
        lines += [f"  blob {digest}" for digest in deletion.blobs]
        print("\n".join(lines), file=self.app.stdout)


def _fields(
    name: RepositoryName, references: list[Reference], deletion: Deletion
) -> dict[str, Any]:
    return {
        "repository": str(name),
        "images": [str(ImageRef(name, reference)) for reference in references],
        "manifests": list(map(str, deletion.manifests)),
        "blobs": list(map(str, deletion.blobs)),
        "bytes_freed": deletion.bytes_freed,
    }
