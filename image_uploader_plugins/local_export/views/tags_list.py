# SPDX-License-Identifier: Apache-2.0
"""The list of a repository's tags, whole and in windows: a view of its tags."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.local_export.views.window_files import WindowFiles
from image_uploader_plugins.storage import Writer

# Files of trees that earlier versions wrote.
_FORMER = (".after", ".next", ".first")

_Drawing = dict[str, tuple[bool, bytes | str]]
"""Files and links; of each file with tags only what follows the repository's name."""

# By tags and those that are gone: most repositories of a tree have the same few.
_DRAWINGS: dict[tuple[frozenset[str], frozenset[str]], _Drawing] = {}
_DRAWN_LISTS = 64
_DRAWN_TAGS = 64


class Listing:
    """The list of tags of one repository; callers hold its lock for every method that writes."""

    def __init__(self, storage: Writer, layout: RepositoryLayout) -> None:
        self._storage = storage
        self._layout = layout
        self._empty = documents.tags_list(layout.name, ())
        # What each file with tags begins with.
        self._head = self._empty.removesuffix(b"[]}")

    @property
    def _files(self) -> WindowFiles:
        layout = self._layout
        return WindowFiles(self._storage, layout.windows, layout.tags_list, self._empty)

    def write(self, tags: Iterable[str], *, thoroughly: bool = False) -> None:
        """Write the list and its windows for these tags.

        Only windows that differ because of tags that came or went are written
        or, with ``thoroughly``, every window is checked.
        """
        self._files.write(set(tags), thoroughly=thoroughly)
        if thoroughly:
            self._remove_former()

    def drawn(self, tags: Collection[str], gone: Collection[str]) -> dict[str, bytes | str]:
        """Return what write() writes for these tags, by the paths in the repository.

        Clients may continue after tags that are ``gone``.
        """
        key = (frozenset(tags), frozenset(gone))
        drawing = _DRAWINGS.get(key)
        if drawing is None:
            drawing = self._drawing(tags, gone)
            if len(tags) + len(gone) <= _DRAWN_TAGS:
                if len(_DRAWINGS) == _DRAWN_LISTS:
                    _DRAWINGS.clear()
                _DRAWINGS[key] = drawing
        return {
            path: self._head + content if is_list and isinstance(content, bytes) else content
            for path, (is_list, content) in drawing.items()
        }

    def _drawing(self, tags: Collection[str], gone: Collection[str]) -> _Drawing:
        found: _Drawing = {}
        start = len(self._layout.start)
        for path, content in self._files.entries(tags, gone):
            if isinstance(content, bytes) and content.startswith(self._head):
                found[path[start:]] = True, content.removeprefix(self._head)
            elif content is not None:
                found[path[start:]] = False, content
        return found

    def change(
        self,
        added: Collection[str],
        removed: Collection[str],
        everything: Callable[[], Iterable[str]],
    ) -> None:
        """Write what differs because of tags that came or went since the list was written.

        ``everything`` returns all tags. It is called only where this process
        does not know the list that is on disk.
        """
        self._files.change(added, removed, lambda: set(everything()))

    def clear(self) -> None:
        """Remove the list of tags, and the files that earlier versions wrote beside it."""
        self._files.clear()
        self._remove_former()

    def _remove_former(self) -> None:
        for name in _FORMER:
            self._storage.remove_tree(self._layout.top / name)
