# SPDX-License-Identifier: Apache-2.0
"""The contract between a tool that copies images and the target that it copies them to.

Every sentence of these docstrings binds a driver. Most sentences have a test in
image_uploader_plugins.testing.contract. Some of these tests need a hook that
the driver's author fills in: for damage, several processes, a target that
fails, options, and what clients get. Three sentences must be proved by the
tests of each driver, since no common test can: that content is durable when a
method returns, that a tag moves atomically and last, and that a deleted name
disappears before its content.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag

NO_SOURCES: Mapping[Digest, RepositoryName] = MappingProxyType({})


class Deletion(NamedTuple):
    """The manifests and blobs that a deletion removed.

    ``bytes_freed`` counts the bytes that the storage got back: content that
    another repository still holds frees nothing.
    """

    manifests: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()
    bytes_freed: int = 0


class Census(NamedTuple):
    """The amount of content that a target holds.

    ``bytes_stored`` is the size of all blobs and manifests, each stored content
    counted once; ``bytes_shared`` is how much more it would be without sharing.
    ``oldest_lease`` is the time at which the oldest upload that is in flight,
    or was killed, took its lease: in seconds since the epoch, None if there is
    none.
    """

    repositories: int
    tags: int
    blobs: int
    bytes_stored: int
    bytes_shared: int
    oldest_lease: float | None = None


class Footprint(NamedTuple):
    """The ``bytes`` and ``files`` that something takes in a target, about, beside its content."""

    bytes: int = 0
    files: int = 0


class Room(NamedTuple):
    """The room that a target has left: so many ``bytes``, in so many ``files``.

    ``files`` is None where their number has no limit.  A blob is one file, and
    takes its size.  ``repository``, ``tag`` and ``manifest`` say what each new
    one of these takes more.
    """

    bytes: int
    files: int | None = None
    repository: Footprint = Footprint()
    tag: Footprint = Footprint()
    manifest: Footprint = Footprint()


class Content(Iterable[bytes]):
    """The bytes of a blob, which can be read from any offset, so that a driver can resume.

    Iterating begins with the first byte.
    """

    @abc.abstractmethod
    def start_at(self, offset: int) -> Iterator[bytes]:
        """Return the chunks from the byte ``offset`` (from 0) on; none at the end.

        It may be called again after an iterator was abandoned. While iterating,
        it raises the errors of the source of the content.
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
        """Return the driver's options, as oslo.config's ``oslo.config.opts`` expects them."""
        return []

    @classmethod
    @abc.abstractmethod
    def from_conf(cls, conf: Any) -> Self:
        """Return a driver that is set up from an oslo.config ConfigOpts.

        Registers the options of list_opts() there. Raises ConfigurationError or
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
        """Make blobs that the driver holds already present in ``target``.

        Returns those of ``layers`` that are now present in ``target``; the
        caller uploads the rest. Uses the repositories named in ``sources`` and
        anything else the driver holds under a digest, whichever repository or
        run it came from. A blob counts as held only with the digest *and* the
        size that the descriptor has (any size, where the descriptor has none).
        With ``check`` the content is read, and only content that still hashes
        to its digest counts. A source that is unknown or no longer intact is
        left out, not an error. Copies have independent lifetimes. The returned
        blobs survive any delete until a manifest references them.
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

        Consumes ``chunks`` at most once, and not at all where the driver holds
        ``expected`` already, of ``size`` bytes if that is given: where the
        sizes differ, either the held blob is damaged or ``size`` is wrong, and
        the content decides which. Returns after the content is durable and
        visible: its digest and size in bytes, and ``media_type`` (or
        application/octet-stream). With ``expected`` None the digest is the
        content's sha256. Empty chunks are ignored.

        Where ``chunks`` are Content, a driver may have kept the beginning of an
        earlier upload of ``expected`` that failed or was killed, and ask for
        the rest alone. The driver verifies the content as a whole; where the
        kept part was wrong, it begins again with the first byte. Other chunks
        are consumed from the first on.

        Raises DigestMismatch when the content is not ``expected``, and
        SizeMismatch when it is not of ``size`` bytes; errors raised by
        ``chunks`` propagate unchanged. A failed upload leaves nothing visible.
        Neither a failed nor a repeated upload alters or harms intact content
        that was there; a successful one replaces damaged content in ``target``.
        The stored blob survives any delete until a manifest references it.
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
        """Store a manifest byte for byte, under its digest and, if given, a tag.

        ``config`` is the content of the config blob, for a caller that did not
        upload it. ``expected`` is the manifest's digest where the caller knows
        it; otherwise the digest is its sha256. The tag moves atomically, and
        last. Putting the same again is a success. Without ``tag`` the manifest
        stays until it is deleted by digest, or with the last index that lists
        it.

        Raises ManifestInvalid for content that is not a manifest of
        ``media_type``, ContentMismatch when the content is not ``expected`` or
        the config is not the one that the manifest references, and BlobUnknown
        when a blob that the manifest references is absent or has another size
        (except descriptors with ``urls``; children of an index may arrive
        later). After an error nothing becomes visible.
        """

    def leave_out(  # noqa: B027 - a driver that misses no manifests need not be told
        self, target: RepositoryName, index: Digest, children: Collection[Digest]
    ) -> None:
        """Record which children of a stored index are left out on purpose.

        They take the place of those recorded before. A driver that reports
        missing manifests does not report these, as long as the index is there,
        even when it is put again. With no children, the index is meant to be
        whole. Nothing else changes, except what clients get of it that know no
        indexes.
        """

    @abc.abstractmethod
    def delete(self, target: ImageRef) -> Deletion:
        """Remove a tag, or by digest a manifest and all its tags.

        The name disappears first and the content after. Never removes what
        another tag, an index, a referrer or an upload in flight still needs. A
        referrer is kept as long as its subject stays, unless it is deleted
        itself, by its digest. Raises ImageUnknown when there is no such image.
        Raises ManifestInvalid or StorageError, and removes nothing more, if a
        manifest that stays cannot be read.
        """

    def delete_all(
        self,
        target: RepositoryName,
        references: Collection[Tag | Digest],
        narrow: Callable[[Collection[Tag | Digest]], Collection[Tag | Digest]] = list,
    ) -> Deletion:
        """Delete several images of one repository; return what that removed, all in all.

        ``narrow`` is called when their turn has come, and returns those of
        them that are still to be deleted. Images that are not there are
        ignored. Raises as delete() does.
        """
        manifests: list[Digest] = []
        blobs: list[Digest] = []
        freed = 0
        for reference in narrow(references):
            with contextlib.suppress(errors.ImageUnknown):
                deletion = self.delete(ImageRef(target, reference))
                manifests += deletion.manifests
                blobs += deletion.blobs
                freed += deletion.bytes_freed
        return Deletion(tuple(manifests), tuple(blobs), freed)

    # -- for plans, reports and metrics; a driver that cannot tell leaves these as they are

    def resolve(self, target: ImageRef) -> Digest | None:
        """Return the digest of the manifest that a tag or a digest leads to at the moment.

        Returns None where there is none, or where the driver does not tell: its
        images are then never reported as unchanged.
        """
        return None

    def present(self, target: RepositoryName, layers: Iterable[Descriptor]) -> frozenset[Digest]:
        """Return those of ``layers`` that ``target`` itself holds now, of the right size.

        Returns none of them where the driver does not tell: they are then
        reported as mounted. Changes nothing, and protects nothing from a
        delete.
        """
        return frozenset()

    def held_manifest(
        self, target: RepositoryName, digest: Digest, *, tag: Tag | None = None
    ) -> Manifest | None:
        """Return a stored manifest where putting it again, with its blobs, would change nothing.

        So ``tag`` leads to it (without a tag: it stays without one), and
        ``target`` holds its blobs, of the right size; children of an index,
        left out or not, and layers with ``urls`` are not looked at. Its
        content hashes to ``digest``, and its media type is the one that it was
        put with. Returns None otherwise, or where the driver does not tell: the
        image is then fetched and put again. Changes nothing, and protects
        nothing from a delete.
        """
        return None

    def mountable(self, layers: Iterable[Descriptor]) -> frozenset[Digest] | None:
        """Return those of ``layers`` that mount_layers() would find, in whichever repository.

        None where the driver does not tell. Changes nothing, and protects
        nothing from a delete.
        """
        return None

    def tags(self, target: RepositoryName) -> frozenset[Tag] | None:
        """Return the tags of a repository, none of them where there is no such repository.

        None where the driver does not tell: what is no longer wanted then
        stays.
        """
        return None

    def room(self) -> Room | None:
        """Return how much more the target can hold; None where the driver does not tell."""
        return None

    def left_out(self, target: RepositoryName, index: Digest) -> frozenset[Digest] | None:
        """Return the children that leave_out() recorded for a stored index; none where it did not.

        Returns None where the driver does not record them, or does not tell:
        no image is then copied again because of what was left out of it.
        Changes nothing.
        """
        return None

    def census(self) -> Census | None:
        """Return how much the target holds; None where the driver does not count."""
        return None

    def close(self) -> None:  # noqa: B027 - a driver with nothing to release need not say so
        """Drop the leases of uploads for which no manifest was put."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
