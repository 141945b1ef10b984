"""tags/list of one repository, whole and page by page: a view of its tags."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from image_uploader_plugins.local_export import pages, views
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.pages import Page
from image_uploader_plugins.local_export.storage import Storage

_FOLDER_FILE = ".htaccess"


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
        if wanted != listed:
            self._write_pages(listed, wanted)

    def clear(self) -> None:
        self._storage.unlink(self._layout.tags_list)
        for folder in (*self._levels, self._layout.head_links, self._layout.pages):
            self._storage.remove_tree(folder)

    def _listed(self) -> set[str] | None:
        """The tags that the pages are for; None where there are none yet."""
        names = set(self._storage.names(self._layout.window_links))
        return names - {pages.START} if pages.START in names else None

    def _write_pages(self, listed: set[str] | None, wanted: set[str]) -> None:
        self._storage.write(self._layout.pages / ".none", views.tags_list(self._layout.name, ()))
        heads = pages.heads(wanted)
        old_heads = pages.heads(listed or ())
        kept, stale = set(heads), set(old_heads - heads)
        written = heads if listed is None else heads - old_heads
        changed = [(self._layout.head_links / str(len(page.tags)), page) for page in written]
        for links, longest in self._levels.items():
            new = pages.windows(wanted, longest)
            old = pages.windows(listed, longest) if listed is not None else frozenset()
            changed += [(links / page.after, page) for page in pages.pages(new - old)]
            kept |= set(pages.pages(new))
            stale |= set(pages.pages(old - new))
        # The shorter first: a page that grows is then no longer one that fewer were asked of.
        for link, page in sorted(changed, key=lambda change: (len(change[1].tags), change[0])):
            self._write_page(link, page)
        for links in self._levels:
            self._remove_links(links, wanted | {pages.START})
        self._remove_links(self._layout.head_links, {str(len(page.tags)) for page in heads})
        paths = self._all_files() if listed is None else set(map(_path, stale))
        self._remove_pages(paths, set(map(_path, kept)))

    def _write_page(self, link: PurePosixPath, page: Page) -> None:
        folder = self._layout.pages / page.last
        if page.last != pages.END:
            leading_on = views.page_htaccess(self._layout.name, page.last)
            self._storage.write(folder / _FOLDER_FILE, leading_on)
        content = views.tags_list(self._layout.name, page.tags)
        self._storage.write(folder / page.after, content)
        self._storage.symlink(link, f"../.pages/{page.last}")

    def _remove_links(self, links: PurePosixPath, wanted: set[str]) -> None:
        for name in sorted(set(self._storage.names(links)) - wanted):
            self._storage.unlink(links / name)

    def _all_files(self) -> set[PurePosixPath]:
        """All that is there of pages; a folder's own file for one that has lost its pages."""
        return {
            PurePosixPath(last, name)
            for last, kind in self._storage.names(self._layout.pages).items()
            if kind == "folder"
            for name in {_FOLDER_FILE, *self._storage.names(self._layout.pages / last)}
        }

    def _remove_pages(self, stale: set[PurePosixPath], kept: set[PurePosixPath]) -> None:
        folders = {path.parent for path in kept}
        for path in sorted(stale - kept):
            if path.parent in folders and path.name != _FOLDER_FILE:
                self._storage.unlink(self._layout.pages / path)
        for last in sorted({path.parent for path in stale} - folders):
            self._storage.remove_tree(self._layout.pages / last)


def _path(page: Page) -> PurePosixPath:
    return PurePosixPath(page.last, page.after)
