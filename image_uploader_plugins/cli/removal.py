"""What delete and prune have in common: deleting images, or telling what would go."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

from image_uploader_plugins import errors
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.local_export.graph import Reference
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.reports.holdings import Forecast
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import ImageRef, RepositoryName
from image_uploader_plugins.units import plural, size

Images = Mapping[RepositoryName, list[Reference]]
Narrow = Callable[[RepositoryName, Collection[Reference]], Collection[Reference]]


def _all(_name: RepositoryName, references: Collection[Reference]) -> Collection[Reference]:
    return references


def _note(
    noted: list[Reference],
    narrow: Callable[[Collection[Reference]], Collection[Reference]],
    references: Collection[Reference],
) -> list[Reference]:
    noted += narrow(references)
    return noted


class Removal(Command):
    """A subcommand that deletes images."""

    def remove(
        self, tree: Tree, images: Images, *, rehearsing: bool, narrow: Narrow = _all
    ) -> None:
        """Delete images, or tell what would go, and what that frees.

        ``narrow`` says when a repository's turn has come, under its lock,
        which of its images are still to go.  A repository that cannot be
        worked on is reported; the others go on.
        """
        outcome = "would go" if rehearsing else "deleted"
        manifests = blobs = freed = names = 0
        with contextlib.ExitStack() as stack:
            driver: Forecast | LocalExportDriver = Forecast(tree)
            if not rehearsing:
                driver = stack.enter_context(LocalExportDriver.from_conf(self.conf))
            for name, wanted in images.items():
                references: list[Reference] = []
                narrowing = functools.partial(_note, references, functools.partial(narrow, name))
                try:
                    deletion = driver.delete_all(name, wanted, narrowing)
                except errors.NeedUnknown as e:
                    self.complain(f"{name}: {e}")
                    deletion = e.deletion
                except errors.UploaderError as e:
                    self.complain(f"{name}: {e}")
                    continue
                self._tell(name, references, deletion, outcome)
                names += len(references)
                manifests += len(deletion.manifests)
                blobs += len(deletion.blobs)
                freed += deletion.bytes_freed
        what = f"{plural(names, 'image')}, {plural(manifests, 'manifest')}, {plural(blobs, 'blob')}"
        print(f"{what} {outcome}, {size(freed)} freed", file=self.app.stdout)

    def _tell(
        self, name: RepositoryName, references: list[Reference], deletion: Deletion, outcome: str
    ) -> None:
        lines: list[Any] = []
        for reference in references:
            stays = isinstance(reference, Digest) and reference not in deletion.manifests
            end = "stays, something else needs it" if stays else outcome
            lines.append(f"{ImageRef(name, reference)}: {end}")
        lines += [f"  manifest {digest}" for digest in deletion.manifests]
        lines += [f"  blob {digest}" for digest in deletion.blobs]
        print("\n".join(lines), file=self.app.stdout)
