# SPDX-License-Identifier: Apache-2.0
"""The contract between a tool that copies images and the place they end up.

Every sentence of these docstrings binds a driver.  Most have a test in
image_uploader_plugins.testing.contract, some of them with a hook that the
driver's author fills in: damage, several processes, a target that fails, options,
what clients get.  Three sentences a driver proves on its own, for no test of all
drivers can: content is durable when a method returns, a tag moves atomically
and last, and a deleted name disappears before its content.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag

NO_SOURCES: Mapping[Digest, RepositoryName] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Deletion:
    """What a delete took away.

    ``bytes_freed`` counts what the storage got back: content that another
    repository still holds frees nothing.
    """

    manifests: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()
    bytes_freed: int = 0


@dataclasses.dataclass(frozen=True)
class Census:
    """How much a target holds.

    ``bytes_stored`` is what blobs and manifests take, each content that is
    stored once counted once; ``bytes_shared`` is how much more it would be
    without.  ``oldest_lease`` is when the oldest upload that is still in
    flight, or was killed, took what it protects: seconds since the epoch, None
    where there is none.
    """

    repositories: int
    tags: int
    blobs: int
    bytes_stored: int
    bytes_shared: int
    oldest_lease: float | None = None


class Content(Iterable[bytes]):
    """A blob's bytes that can begin later, for a driver that has kept the first of them.

    Iterating begins with the first byte, as any other chunks do.
    """

    @abc.abstractmethod
    def start_at(self, offset: int) -> Iterator[bytes]:
        """Return the chunks from the byte ``offset`` (from 0) on; none at the end.

        May be asked for again after an iterator was given up.  Raises, while
        iterating, what the source of the content does.
        """

    def __iter__(self) -> Iterator[bytes]:
        return self.start_at(0)


class UploaderDriver(abc.ABC):
    """A target for images: repositories of blobs, manifests and tags.

    All methods are safe from several threads and processes at once.  An
    instance can be pickled; the copy works on the same target.  As a context
    manager it closes itself.  The target's failures are UploaderErrors
    (StorageError and below).
    """

    @classmethod
    def list_opts(cls) -> list[tuple[str | None, list[Any]]]:
        """Return the driver's options, as oslo.config's ``oslo.config.opts`` wants them."""
        return []

    @classmethod
    @abc.abstractmethod
    def from_conf(cls, conf: Any) -> Self:
        """Return a driver that is set up from an oslo.config ConfigOpts.

        Makes it know the options that list_opts() names.  Raises ConfigurationError or
        StorageError for options that cannot work.
        """

    @abc.abstractmethod
    def mount_layers(
        self,
        target: RepositoryName,
        layers: Iterable[Descriptor],
        sources: Mapping[Digest, RepositoryName] = NO_SOURCES,
        *,
        check: bool = False,
    ) -> frozenset[Digest]:
        """Make what the driver holds already present in ``target``.

        Returns those of ``layers`` that are now present in ``target``; the
        caller uploads the rest.  Uses the repositories named in ``sources``
        and anything else the driver holds under a digest, whichever
        repository or run it came from.  What is held has the digest *and*
        the size that is asked for (any, where the descriptor has none): a
        blob of another size is not present.  With ``check`` content is read,
        and only what still hashes to its digest counts.  A source that is
        unknown or no longer intact is left out, not an error.  Copies have
        independent lifetimes.  What was returned survives any delete until a
        manifest references it.
        """

    @abc.abstractmethod
    def upload_layer(
        self,
        target: RepositoryName,
        chunks: Iterable[bytes],
        *,
        expected: Digest | None = None,
        size: int | None = None,
        media_type: str | None = None,
    ) -> Descriptor:
        """Store one blob in ``target``.

        Consumes ``chunks`` at most once, and not at all where the driver
        holds ``expected`` already, of ``size`` bytes if that is given: a
        blob of another size is damaged, or was never promised, and the
        content decides which.  Returns after the content is durable and
        visible: its digest and size in bytes, and ``media_type`` (or
        application/octet-stream).  With ``expected`` None the content names
        itself, by sha256.  Empty chunks mean nothing.

        Where ``chunks`` are Content, a driver may have kept the beginning
        of an upload of ``expected`` that failed, or was killed, and ask for the
        rest alone.  What it kept is its own to check: the content is
        verified as a whole, and where the kept part was wrong, it begins
        again with the first byte.  Other chunks it takes from the first on.

        Raises DigestMismatch when the content is not ``expected``, and
        SizeMismatch when it is not of ``size`` bytes; errors raised by
        ``chunks`` propagate unchanged.  A failed upload leaves nothing
        visible, and neither a failed nor a repeated one alters or harms
        intact content that was there; what is damaged in ``target``, a
        successful one replaces.  What was stored survives any delete
        until a manifest references it.
        """

    @abc.abstractmethod
    def put_manifest(
        self,
        target: RepositoryName,
        content: bytes,
        media_type: str,
        *,
        tag: Tag | None = None,
        config: bytes | None = None,
        expected: Digest | None = None,
    ) -> Descriptor:
        """Store a manifest byte for byte, under its digest and maybe a tag.

        ``config`` is the config blob's content, for a caller that did not
        upload it.  ``expected`` is the manifest's digest where the caller
        knows it; without it, the manifest's name is its sha256.  The tag
        moves atomically, and last.  Putting the same again is a success.
        Without ``tag`` the manifest stays until it is deleted by digest, or
        with the last index that lists it.

        Raises ManifestInvalid for content that is not a manifest of
        ``media_type``, ContentMismatch when the content is not ``expected``
        or the config not what the manifest says, and BlobUnknown when a blob
        that the manifest references is absent or has another size
        (descriptors with ``urls`` exempt; children of an index may arrive
        later).  Nothing becomes visible then.
        """

    def leave_out(  # noqa: B027 - a driver that misses no manifests need not be told
        self, target: RepositoryName, index: Digest, children: Collection[Digest]
    ) -> None:
        """Remember which children of an index that was put are left out on purpose.

        A driver that tells of missing manifests does not tell of these, for as
        long as the index is there, also when it is put again; with none, the
        index is meant to be whole.  Nothing else changes.
        """

    @abc.abstractmethod
    def delete(self, target: ImageRef) -> Deletion:
        """Remove a tag, or by digest a manifest and all its tags.

        The name disappears first and the content after.  Never removes what
        another tag, an index, a referrer or an upload in flight still needs;
        a referrer is needed as long as its subject stays, unless it is the
        one deleted, by its digest.
        Raises ImageUnknown when there is no such image, and ManifestInvalid
        or StorageError, removing nothing more, if a live manifest cannot be
        read.
        """

    # -- what reports and metrics tell; a driver that cannot say leaves these as they are

    def resolve(self, target: ImageRef) -> Digest | None:
        """Return the digest of the manifest that a tag or a digest leads to at the moment.

        None where there is none, or the driver does not say: its images are
        then never reported as unchanged.
        """
        return None

    def present(self, target: RepositoryName, layers: Iterable[Descriptor]) -> frozenset[Digest]:
        """Return those of ``layers`` that ``target`` itself holds now, of the right size.

        None of them where the driver does not say: they are then reported as
        mounted.  Changes nothing, and protects nothing from a delete.
        """
        return frozenset()

    def census(self) -> Census | None:
        """Return how much the target holds; None where the driver does not count."""
        return None

    def close(self) -> None:  # noqa: B027 - a driver with nothing to release need not say so
        """Give up what uploads that never got a manifest still hold."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
