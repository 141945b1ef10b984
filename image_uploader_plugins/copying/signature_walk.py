# SPDX-License-Identifier: Apache-2.0
"""Signatures and other artifacts of an image, and those of these, within bounds."""

from __future__ import annotations

import collections
import logging
from collections.abc import Collection, Iterator

from image_uploader_plugins import media_types
from image_uploader_plugins.copying.image_walk import DEPTH_LIMIT
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.source import IsHeld, Source

LOG = logging.getLogger(__name__)

_SIGNATURES_LIMIT = 200  # of one image, with what signs them


def signatures(
    source: Source,
    copied: Collection[Digest],
    meter: Meter,
    target: object,
    is_held: IsHeld,
    types: Collection[str] = (),
) -> Iterator[tuple[Tag | None, Descriptor]]:
    """Yield what signs these manifests, with the tag that it goes by, and what signs that.

    With ``types`` just what is of these artifact types, and whatever signs that.
    What comes after the first 200 is left out, with a warning that names the
    ``target``.  Of those for which ``is_held`` returns true, Source.signatures()
    just says that they are there.  Raises what the source and ``meter`` do.
    """
    seen, count = set(copied), 0
    pending = collections.deque((digest, 0) for digest in copied)
    while pending:
        signed, depth = pending.popleft()
        meter.check()
        for tag, descriptor in source.signatures(signed, is_held, () if depth else types):
            is_new = descriptor.digest not in seen
            if descriptor.media_type not in media_types.MANIFEST_TYPES or not (is_new or tag):
                continue
            seen.add(descriptor.digest)
            if count >= _SIGNATURES_LIMIT:
                LOG.warning("%s: more than %d signatures", target, _SIGNATURES_LIMIT)
                return
            count += 1
            yield tag, descriptor
            if is_new and depth < DEPTH_LIMIT:
                pending.append((descriptor.digest, depth + 1))
