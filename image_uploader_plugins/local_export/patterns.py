"""Which images of a tree are meant."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.reference import RepositoryName, Tag


class Patterns:
    """Texts for a repository, ``repository:tag`` or ``repository@digest``, with ``*`` and ``?``.

    Remembers which of them something was found for.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(dict.fromkeys(texts))
        self._matched: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._texts)

    def match(self, text: str) -> bool:
        """Whether one of them is for this name; a digest must be asked for as one."""
        kind = [pattern for pattern in self._texts if ("@" in pattern) == ("@" in text)]
        found = {pattern for pattern in kind if fnmatch.fnmatchcase(text, pattern)}
        self._matched |= found
        return bool(found)

    def match_image(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Whether one of them is for an image, or for all of its repository."""
        separator = "@" if isinstance(reference, Digest) else ":"
        whole = self.match(str(repository))
        return self.match(f"{repository}{separator}{reference}") or whole

    def chosen(self, repository: Repository) -> set[Tag | Digest]:
        """The tags and manifests there that are meant; all where there are no patterns."""
        present: set[Tag | Digest] = {*repository.tags(), *repository.manifests()}
        return {n for n in present if not self or self.match_image(repository.name, n)}

    def unmatched(self) -> list[str]:
        """Those that nothing was found for."""
        return [text for text in self._texts if text not in self._matched]
