# SPDX-License-Identifier: Apache-2.0
"""The interface of a source of images."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import Tag

IsHeld = Callable[[Tag | None, Descriptor], bool]
"""A function of a tag and a descriptor: whether the target has just that, whole."""


class Source(abc.ABC):
    """A source of manifests and blobs; safe to use from several threads.

    ``is_throttled`` says whether its blobs come as slowly as the operator wants.
    """

    is_throttled = False

    @abc.abstractmethod
    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        """Return the manifest under ``reference``, checked against it and the size in bytes."""

    @abc.abstractmethod
    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Return the blob's bytes from the one numbered ``start`` (from 0) on.

        With those before they are as many as its descriptor says; the receiver
        checks the digest.  Raises SizeMismatch instead of ending otherwise.
        """

    def children(self, index: Manifest) -> Sequence[Descriptor]:
        """Return those manifests of an index that are to be copied with it.

        Raises ImageUnknown where one is missing that should not be.
        """
        return index.manifests

    def describe(self, reference: Tag | Digest) -> Descriptor | None:
        """Return what the source says that it has under ``reference``, without giving it.

        Nothing of that is checked: it may only be compared with what is held.
        None where the source does not say, or manifest() has to say why not.
        """
        return None

    def signatures(
        self,
        digest: Digest,
        is_held: IsHeld = lambda _tag, _descriptor: False,
        types: Collection[str] = (),
    ) -> Iterator[tuple[Tag | None, Descriptor]]:
        """Return what signs or describes a manifest, with the tag that it goes by, if any.

        A descriptor for which ``is_held`` returns true is as describe() says,
        and every other one that of a manifest that was checked.  With ``types``
        just what goes by one of these (Manifest.artifact_types), or is held.
        """
        return iter(())


def without(
    chunks: Iterable[bytes], count: int, dropped: Callable[[int], object] = lambda _: None
) -> Iterator[bytes]:
    """Return chunks without their first ``count`` bytes; ``dropped`` is told how many come."""
    for chunk in chunks:
        if count:
            dropped(min(count, len(chunk)))
        if count < len(chunk):
            yield chunk[count:]
        count = max(0, count - len(chunk))
