# SPDX-License-Identifier: Apache-2.0
"""A repository as its registry and the mirrors of that have it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Self

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.endpoints import Endpoint, endpoints
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.source import IsHeld, Source

LOG = logging.getLogger(__name__)

# What a mirror may do wrong, or not have, without anybody but its registry being asked next.
_PASSED_OVER = (
    errors.SourceError,
    errors.ContentError,
    errors.ImageUnknown,
    errors.InvalidReference,
)


class _Mirror:
    """A mirror of one repository; ``has_tags`` says that it has given a tag of the image."""

    def __init__(self, endpoint: Endpoint, meter: Meter | None) -> None:
        self.registry = endpoint.registry
        self.source = RegistrySource(endpoint.registry, endpoint.repository, meter, attempts=1)
        self.has_tags = False
        self._endpoint = endpoint

    def is_asked_for(self, reference: Tag | Digest) -> bool:
        """Return whether it is asked for a tag or a digest."""
        if self.registry.is_away:
            return False
        if isinstance(reference, Tag):
            return self._endpoint.by_tag
        # What a tag leads to is in the same place.
        return self._endpoint.by_digest or self.has_tags


class MirroredSource(Source):
    """A repository that mirrors are asked for in their order, and then its registry.

    A mirror that does not have something, or fails, is passed over for that; one
    that does not answer, for a while.  Its registry alone is tried again, and
    asked for the list of tags.
    """

    def __init__(
        self, registries: Registries, found: list[Endpoint], meter: Meter | None = None
    ) -> None:
        self._registries = registries
        self._mirrors = [_Mirror(endpoint, meter) for endpoint in found[:-1]]
        self._itself = found[-1].registry
        self._source = RegistrySource(self._itself, found[-1].repository, meter)
        self.is_throttled = self._source.is_throttled or any(
            mirror.source.is_throttled for mirror in self._mirrors
        )
        self._gave = {self._itself} if not self._mirrors else set()
        self._begun: dict[Digest, int] = {}  # how many mirrors have given a part of a blob

    @classmethod
    def of(
        cls, registries: Registries, registry: str, repository: str, meter: Meter | None = None
    ) -> Self:
        """Return a repository of ``host[:port]``; raises ConfigurationError."""
        return cls(registries, endpoints(registries, registry, repository), meter)

    @property
    def is_verified(self) -> bool:
        """Return whether all that came, as far as anything came, came by verified TLS."""
        # Other threads may still add to them.
        gave = tuple(self._gave) or (self._itself,)
        return all(registry.is_verified for registry in gave)

    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        for mirror in self._asked_for(reference):
            try:
                found = mirror.source.manifest(reference, size)
            except _PASSED_OVER as e:
                self._pass_over(mirror, e)
                continue
            mirror.has_tags |= isinstance(reference, Tag)
            self._note(mirror)
            return found
        self._gave.add(self._itself)
        return self._source.manifest(reference, size)

    def describe(self, reference: Tag | Digest) -> Descriptor | None:
        for mirror in self._asked_for(reference):
            try:
                found = mirror.source.describe(reference)
            except _PASSED_OVER as e:
                self._pass_over(mirror, e)
                continue
            if found:
                self._note(mirror)
                return found
        self._gave.add(self._itself)
        return self._source.describe(reference)

    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Return the blob's bytes; what one mirror has begun the next one goes on with.

        A mirror is not asked again for a blob of which it has given a part:
        what came was wrong if somebody wants it anew.  Raises SizeMismatch
        where that is known already.
        """
        digest, received = descriptor.digest, start
        behind = self._begun.get(digest, 0)
        for number, mirror in enumerate(self._mirrors[behind:], behind + 1):
            if not mirror.is_asked_for(digest):
                continue
            try:
                for chunk in mirror.source.blob(descriptor, received):
                    self._begun[digest] = number
                    self._note(mirror)
                    received += len(chunk)
                    yield chunk
            except _PASSED_OVER as e:
                self._pass_over(mirror, e)
                if isinstance(e, errors.ContentMismatch):
                    self._begun[digest] = number
                    raise
                continue
            return
        self._gave.add(self._itself)
        yield from self._source.blob(descriptor, received)

    def tags(self) -> list[str]:
        """Return all tags of the repository: a mirror may not have all of them.

        Raises as RegistrySource.tags() does.
        """
        return self._source.tags()

    def signatures(
        self,
        digest: Digest,
        is_held: IsHeld = lambda _tag, _descriptor: False,
        types: Collection[str] = (),
    ) -> Iterator[tuple[Tag | None, Descriptor]]:
        """Return what the first one has that has any; mirrors are often without signatures."""
        given: set[tuple[Tag | None, Digest]] = set()
        answered = False
        for mirror in self._asked_for(digest):
            before = len(given)
            try:
                for found in mirror.source.signatures(digest, is_held, types):
                    yield from _new(found, given)
            except _PASSED_OVER as e:
                self._pass_over(mirror, e)
                continue
            if len(given) > before:
                return
            answered = True
        try:
            for found in self._source.signatures(digest, is_held, types):
                yield from _new(found, given)
        except errors.SourceError as e:
            if not answered:
                raise
            if self._registries.is_first("signatures", self._itself.name):
                LOG.warning(
                    "signatures of images of %s may be left behind: %s", self._itself.name, e
                )

    def _asked_for(self, reference: Tag | Digest) -> Iterator[_Mirror]:
        return (mirror for mirror in self._mirrors if mirror.is_asked_for(reference))

    def _note(self, mirror: _Mirror) -> None:
        if mirror.registry in self._gave:
            return
        self._gave.add(mirror.registry)
        if self._registries.is_first("mirror", self._itself.name, mirror.registry.name):
            LOG.info("%s: its mirror %s is used", self._itself.name, mirror.registry.name)

    def _pass_over(self, mirror: _Mirror, error: errors.UploaderError) -> None:
        names = self._itself.name, mirror.registry.name
        if isinstance(error, errors.ImageUnknown):
            LOG.debug("%s: its mirror %s is passed over: %s", *names, error)
        elif self._registries.is_first("passed over", *names, type(error).__name__):
            LOG.warning("%s: its mirror %s is passed over: %s", *names, error)


def _new(
    found: tuple[Tag | None, Descriptor], given: set[tuple[Tag | None, Digest]]
) -> Iterator[tuple[Tag | None, Descriptor]]:
    """Yield what is not among the ``given``, which it is from then on."""
    tag, descriptor = found
    if (tag, descriptor.digest) not in given:
        given.add((tag, descriptor.digest))
        yield found
