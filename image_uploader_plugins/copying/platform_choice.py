# SPDX-License-Identifier: Apache-2.0
"""The platforms of an index that are copied, and what describes the images for them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from image_uploader_plugins import errors, image_config
from image_uploader_plugins.copying.image_walk import Manifests
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest, Platform
from image_uploader_plugins.text import enumerated

LOG = logging.getLogger(__name__)


class PlatformChoice(NamedTuple):
    """The manifests of a source, and of its indexes just what is for ``platforms``.

    None of them stands for all.
    """

    source: Manifests
    platforms: Sequence[Platform] | None = None

    def manifest(self, reference: Digest, size: int | None = None) -> Manifest:
        """Return a manifest of the source."""
        return self.source.manifest(reference, size)

    def children(self, index: Manifest) -> Sequence[Descriptor]:
        """Return those manifests of an index that are to be copied with it."""
        found = self.source.children(index)
        return chosen(found, self.platforms) if self.platforms else found

    @property
    def why_not(self) -> str:
        """Return why a child of an index is not to be copied."""
        return "for another platform" if self.platforms else "the source does not have it"

    def missing(self, indexes: Iterable[Manifest]) -> list[Platform]:
        """Return the platforms for which an image, of these indexes, has nothing.

        Raises ImageUnknown where it has nothing for any of them.
        """
        wanted, there = self.platforms or (), _named(indexes)
        if not there:  # what its manifests are for, these may say
            return []
        missing = [platform for platform in wanted if not _is_for(platform, there)]
        if wanted and len(missing) == len(wanted):
            raise errors.ImageUnknown(f"no image for {_listed(wanted)}, just for {_listed(there)}")
        return missing

    def warn_of_missing(self, indexes: Iterable[Manifest], target: object) -> list[Platform]:
        """Return what missing() does, after a warning that names the ``target``."""
        indexes = list(indexes)
        missing = self.missing(indexes)
        if missing:
            LOG.warning(
                "%s: no image for %s, just for %s",
                *(target, _listed(missing), _listed(_named(indexes))),
            )
        return missing

    def warn_of_other(self, config: bytes, target: object) -> None:
        """Warn, naming the ``target``, where an image's config says another platform."""
        with contextlib.suppress(errors.ManifestInvalid):
            found = image_config.platform(config)
            if self.platforms and found.architecture and not _is_for_any(found, self.platforms):
                LOG.warning(
                    "%s: the image is for %s alone, not for %s",
                    *(target, _listed([found]), _listed(self.platforms)),
                )


def chosen(entries: Sequence[Descriptor], platforms: Collection[Platform]) -> list[Descriptor]:
    """Return the entries of an index that are for one of these platforms, and what describes them.

    An entry that names no platform belongs to all of them, as clients take it:
    what it is for, if anything, its own content says.
    """
    kept = {
        entry.digest
        for entry in entries
        if not entry.runs_nowhere
        and (not entry.names_platform or _is_for_any(entry.platform, platforms))
    }
    return [entry for entry in entries if entry.digest in kept or entry.described in kept]


def _named(indexes: Iterable[Manifest]) -> list[Platform]:
    """Return the platforms that indexes name, each once."""
    entries = (entry for index in indexes for entry in index.manifests)
    named = (e.platform for e in entries if e.names_platform and not e.runs_nowhere)
    return list(dict.fromkeys(named))


def _is_for_any(found: Platform, wanted: Iterable[Platform]) -> bool:
    return any(map(found.fits, wanted))


def _is_for(wanted: Platform, found: Iterable[Platform]) -> bool:
    return any(each.fits(wanted) for each in found)


def _listed(platforms: Iterable[Platform]) -> str:
    return enumerated(list(map(str, platforms)))
