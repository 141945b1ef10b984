"""tags/list of one repository, whole and page by page: a view of its tags."""

from __future__ import annotations

from collections.abc import Iterable, Set
from pathlib import PurePosixPath

from image_uploader_plugins.local_export import pages, views
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.pages import Page, Window
from image_uploader_plugins.local_export.storage import Storage


class Listing:
    """Callers hold the repository's lock for everything that writes."""

    def __init__(self, storage: Storage, layout: RepositoryLayout) -> None:
        self._storage = storage
        self._layout = layout
        # How many tags the pages behind these links hold at most.
        self._levels = {layout.window_links: pages.LONGEST, layout.next_links: 1}

    def write(self, tags: Iterable[str], *, thoroughly: bool = False) -> None:
        """Make the lists say ``tags``.

        Looks only at pages that the tags which came or went have changed,
        or, ``thoroughly``, at every page.
        """
        wanted = set(tags)
        listed = None if thoroughly else self._listed()
        self._storage.write(self._layout.tags_list, views.tags_list(self._layout.name, wanted))
        if wanted == listed:
            return
        self._storage.write(self._layout.pages / ".none", views.tags_list(self._layout.name, ()))
        stale: set[Page] = set()
        kept: set[Page] = set()
        for links, longest in self._levels.items():
            old = pages.windows(listed, longest) if listed is not None else frozenset()
            new = pages.windows(wanted, longest)
            self._write_pages(links, new - old)
            stale |= set(pages.pages(old - new))
            kept |= set(pages.pages(new))
        for links in self._levels:
            self._remove_links(links, wanted)
        self._remove_pages({_path(p) for p in kept}, {_path(p) for p in stale}, listed)

    def clear(self) -> None:
        self._storage.unlink(self._layout.tags_list)
        for folder in (*self._levels, self._layout.pages):
            self._storage.remove_tree(folder)

    def _listed(self) -> set[str] | None:
        """The tags that the pages are for; None where there are none yet."""
        names = set(self._storage.names(self._layout.window_links))
        return names - {pages.START} if pages.START in names else None

    def _write_pages(self, links: PurePosixPath, changed: Set[Window]) -> None:
        # In the order of the tags, so that a failure at any step repeats.
        for last in sorted({window.last for window in changed} - {pages.END}):
            content = views.page_htaccess(self._layout.name, last)
            self._storage.write(self._layout.pages / last / ".htaccess", content)
        for page in sorted(pages.pages(changed), key=lambda page: page.after):
            content = views.tags_list(self._layout.name, page.tags)
            self._storage.write(self._layout.pages / _path(page), content)
            self._storage.symlink(links / page.after, f"../.pages/{page.last}")

    def _remove_links(self, links: PurePosixPath, wanted: set[str]) -> None:
        for name in sorted(set(self._storage.names(links)) - wanted - {pages.START}):
            self._storage.unlink(links / name)

    def _remove_pages(
        self, kept: set[PurePosixPath], stale: set[PurePosixPath], listed: set[str] | None
    ) -> None:
        folder = self._layout.pages
        if listed is None:
            stale = {
                PurePosixPath(last, name)
                for last, kind in self._storage.names(folder).items()
                if kind == "folder"
                for name in self._storage.names(folder / last)
            }
        for path in sorted(stale - kept - {path.parent / ".htaccess" for path in stale}):
            self._storage.unlink(folder / path)
        for last in sorted({path.parent for path in stale} - {path.parent for path in kept}):
            self._storage.remove_tree(folder / last)


def _path(page: Page) -> PurePosixPath:
    return PurePosixPath(page.last, page.after)
