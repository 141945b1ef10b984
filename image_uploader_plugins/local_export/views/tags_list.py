# SPDX-License-Identifier: Apache-2.0
"""tags/list of one repository, whole and window by window: a view of its tags."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.local_export.views.window_files import WindowFiles
from image_uploader_plugins.storage import Storage

# What trees of earlier versions have.
_FORMER = (".after", ".next", ".first")


class Listing:
    """Callers hold the repository's lock for everything that writes."""

    def __init__(self, storage: Storage, layout: RepositoryLayout) -> None:
        self._storage = storage
        self._layout = layout
        render = functools.partial(documents.tags_list, layout.name)
        parse = functools.partial(documents.parse_tags_list, layout.name)
        self._files = WindowFiles(storage, layout.windows, layout.tags_list, render, parse)

    def write(self, tags: Iterable[str], *, thoroughly: bool = False) -> None:
        """Make the lists say ``tags``.

        Looks only at windows that the tags which came or went have changed,
        or, ``thoroughly``, at every window.
        """
        self._files.write(set(tags), thoroughly=thoroughly)
        if thoroughly:
            self._remove_former()

    def clear(self) -> None:
        """Remove the list of tags, also what earlier versions wrote beside it."""
        self._files.clear()
        self._remove_former()

    def _remove_former(self) -> None:
        for name in _FORMER:
            self._storage.remove_tree(self._layout.top / name)
