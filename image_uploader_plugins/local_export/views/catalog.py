# SPDX-License-Identifier: Apache-2.0
"""The catalog: the list of repositories, a view of the tree."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator

from image_uploader_plugins import errors
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import WindowsLayout
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.local_export.views.window_files import WindowFiles
from image_uploader_plugins.reference import RESERVED_SEGMENTS, RepositoryName
from image_uploader_plugins.storage import Writer

_OURS = documents.catalog([]).removesuffix(b"]}")


class Catalog:
    """The catalog of a tree; callers hold its lock for every method that writes."""

    def __init__(self, storage: Writer) -> None:
        self._storage = storage
        self._files = WindowFiles(
            storage, layout.CATALOG_WINDOWS, layout.CATALOG, documents.catalog(())
        )

    def is_right(self, name: RepositoryName, *, listed: bool) -> bool:
        """Return whether ``name`` is listed, or not, as it should be; parse nothing.

        The catalog is not even read where this process knows which one is on
        disk. tripleo-common writes its catalog with other spaces and unsorted:
        that is never right.
        """
        if self._is_unfinished():
            return False
        known = self._files.lists(name.value)
        if known is not None:
            return known == listed
        text = self._read()
        return text.startswith(_OURS) and listed == (json.dumps(name.value).encode() in text)

    def listed(self) -> set[str] | None:
        """Return the names in the catalog; None unless it is written exactly as we write it."""
        try:
            text = self._read()
            names = documents.parse_catalog(text)
        except (ValueError, KeyError, TypeError):
            return None
        return names if text == documents.catalog(names) else None

    def change(
        self, added: Iterable[RepositoryName] = (), removed: Iterable[RepositoryName] = ()
    ) -> None:
        """Add repositories to the catalog, and remove others."""
        self._change({name.value for name in added}, {name.value for name in removed})

    def ensure(self) -> None:
        """Write the catalog of a tree that has no catalog, or no windows of it."""
        has_windows = self._storage.file(WindowsLayout(layout.CATALOG_WINDOWS).none) is not None
        self._write(self._names(), thoroughly=not has_windows)

    def rebuild(self) -> None:
        """Write the catalog from the repositories on disk."""
        self._write(self._on_disk(), thoroughly=True)

    def settle(self, names: Iterable[str]) -> None:
        """Write the catalog with exactly these names, and check every window."""
        self._files.write(set(names), thoroughly=True)

    def _change(self, added: set[str], removed: set[str]) -> None:
        """Add names to the catalog and remove others."""
        if self._is_unfinished():
            self._write((self._on_disk() | added) - removed)
        else:
            with self._marked():
                self._files.change(added, removed, lambda: (self._readable() | added) - removed)

    def _write(self, names: set[str], *, thoroughly: bool = False) -> None:
        """Write the catalog, unless it is right already."""
        is_unfinished = self._is_unfinished()
        if thoroughly or is_unfinished or names != self.listed():
            with self._marked():
                self._files.write(names, thoroughly=thoroughly or is_unfinished)

    @contextlib.contextmanager
    def _marked(self) -> Iterator[None]:
        """Mark the catalog as being written; if that fails or is killed, the mark stays."""
        mark = layout.UNFINISHED_CATALOG
        # It is durable before anything changes: publish_all() sees to that.
        self._storage.mark(mark, b"")
        yield
        self._storage.sync()
        self._storage.drop(mark)

    def _is_unfinished(self) -> bool:
        return self._storage.file(layout.UNFINISHED_CATALOG) is not None

    def _names(self) -> set[str]:
        return self._on_disk() if self._is_unfinished() else self._readable()

    def _readable(self) -> set[str]:
        """Return the names in the catalog; those of the repositories on disk if it is none."""
        try:
            return set(filter(_is_name, documents.parse_catalog(self._read())))
        except (ValueError, KeyError, TypeError):
            return self._on_disk()

    def _on_disk(self) -> set[str]:
        return {name.value for name in self.walk() if self._has_manifests(name)}

    def _has_manifests(self, name: RepositoryName) -> bool:
        try:
            return bool(self._storage.names(layout.repository(name).manifests))
        except errors.StorageError:
            return True  # not known, so it stays listed

    def _read(self) -> bytes:
        """Return the catalog's text; empty where there is no file, or another thing instead."""
        if not self._storage.file(layout.CATALOG):
            return b""
        return self._storage.read(layout.CATALOG)

    def walk(self, within: str = "") -> Iterator[RepositoryName]:
        """Yield the repositories on disk, at any depth ``within`` a name, also incomplete ones."""
        names = self._storage.names(layout.V2 / within)
        if within and any(map(layout.is_own_folder, names)):
            yield RepositoryName(within)
        for name, kind in names.items():
            if kind == "folder" and name not in RESERVED_SEGMENTS and not name.startswith("."):
                with contextlib.suppress(errors.InvalidReference):
                    yield from self.walk(f"{within}/{name}" if within else name)


def _is_name(text: str) -> bool:
    with contextlib.suppress(errors.InvalidReference):
        return bool(RepositoryName(text))
    return False
