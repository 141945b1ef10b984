# SPDX-License-Identifier: Apache-2.0
"""Changes of files, links and folders.

A file is whole and its content durable before it is published. Its name is
durable, as are all other changes of names, when Writer.sync() returns.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.storage import mounts
from image_uploader_plugins.storage.entries import HEAD, File, Staged
from image_uploader_plugins.storage.flushes import Flushes, Target, batches
from image_uploader_plugins.storage.folders import FILE_MODE, NotFound, Where, split
from image_uploader_plugins.storage.places import Places, beside
from image_uploader_plugins.storage.reader import Reader
from image_uploader_plugins.storage.staging import Staging, lock_of
from image_uploader_plugins.storage.unique import unique

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Bytes of a file that is flushed by itself: others would wait long to be flushed with it.
_LARGE = 4 * 1024 * 1024
_PUBLISHED_AT_ONCE = 1024
_NO_FOLDER = contextlib.nullcontext(-1)
# NOTE: EPERM is the error of file systems without hard links and of fs.protected_hardlinks.
_LINK_REFUSED = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


class Writer(Reader):
    """A reader that also stages, publishes and removes files and links.

    Its methods also raise StorageFull. One that is made ``beside`` another one,
    of the same root, shares its folders that are held open, its temporary files
    and its flushes.
    """

    def __init__(
        self,
        root: Path,
        places: Places,
        *,
        owned: bool = False,
        remedy: str = "",
        beside: Writer | None = None,
    ) -> None:
        super().__init__(root, places, owned=owned, remedy=remedy)
        self.places = places
        self._staging: Staging = beside._staging if beside else Staging(self, places)
        self._flushes: Flushes = beside._flushes if beside else Flushes(self)
        # Temporary files that are to go when a block ends, by path.
        self._to_discard: set[str] = beside._to_discard if beside else set()
        self._refusing: dict[int, bool] = {}
        if beside:
            self._held = beside._held
            self.alone = beside.alone

    def stage(self, chunks: Iterable[bytes], modified_ns: int | None = None) -> Staged:
        """Write ``chunks`` to a temporary file and make it durable; their errors pass unchanged.

        ``modified_ns`` is the time of the file, in nanoseconds since the epoch
        (None: now).
        """
        path = self._staging.new()
        try:
            with self.folder_of(path, create=True) as folder:
                return self._write(folder, path, chunks, modified_ns)
        except BaseException:
            self.discard(path)
            raise

    def _write(
        self,
        folder: int,
        path: Where,
        chunks: Iterable[bytes],
        modified_ns: int | None = None,
    ) -> Staged:
        descriptor = self.call(path, os.open, split(path)[1], CREATE, 0o600, dir_fd=folder)
        try:
            size, head = 0, b""
            for chunk in chunks:
                self.write_all(path, descriptor, chunk)
                size += len(chunk)
                head = head or chunk[:HEAD]
            if modified_ns is not None:
                self.call(path, os.utime, descriptor, ns=(modified_ns, modified_ns))
            self.complete(path, descriptor)
        finally:
            os.close(descriptor)
        return Staged(PurePosixPath(path), size, head)

    def complete(self, path: Where, descriptor: int) -> None:
        """Give a temporary file its owner and mode, and make it durable."""
        self._hand_over(path, descriptor)
        status = self.call(path, os.fstat, descriptor)
        if status.st_size < _LARGE:
            target = Target(path, status.st_dev, is_folder=False, descriptor=descriptor)
            self._flushes.flush([target])
        else:
            self.call(path, os.fsync, descriptor)

    def _hand_over(self, path: Where, descriptor: int) -> None:
        self.give(path, descriptor)
        self.call(path, os.fchmod, descriptor, FILE_MODE)

    def write_all(self, path: Where, descriptor: int, chunk: bytes) -> None:
        """Write all of ``chunk`` to an open file."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[self.call(path, os.write, descriptor, rest) :]

    def publish(self, staged: Where, path: Where) -> None:
        """Move a temporary file or link to ``path``, replacing any other; discard it on failure."""
        try:
            with self.folder_of(staged) as source:
                self._show(staged, source, path)
        except BaseException:
            self.discard(staged)
            raise
        self._to_discard.discard(str(staged))

    def _show(self, staged: Where, source: int, path: Where) -> None:
        """Move a temporary file or link, of the open folder ``source``, to ``path``."""
        folder, name = split(path)
        with self.folder(folder, create=True) as target:
            try:
                names = split(staged)[1], name
                self.call(path, os.rename, *names, src_dir_fd=source, dst_dir_fd=target)
            except errors.StorageError as e:
                if e.errno != errno.EXDEV:
                    raise
                self._publish_across(PurePosixPath(staged), PurePosixPath(path), target)
                self.discard(staged)
            self.changed(folder, target)

    def _publish_across(self, staged: PurePosixPath, path: PurePosixPath, target: int) -> None:
        """Publish on another file system than the state folder's."""
        near = beside(path, staged.name)
        try:
            file = self.file(staged)
            if file:
                self._write(target, near, self.chunks(staged), file.modified_ns)
            else:
                self._symlink(self.link_target(staged) or "", near, target)
            self.call(path, os.rename, near.name, path.name, src_dir_fd=target, dst_dir_fd=target)
        finally:
            self._unlink(near, target)

    def publish_all(self, wanted: Iterable[tuple[Where, bytes | str | None]]) -> None:
        """Write files (bytes) and symbolic links (str, the target) without looking before.

        What is at a path with None is removed. All changes become visible in
        this order, each whole, once all names are durable that were changed
        before. That is much faster than one by one.
        """
        for batch in batches(wanted, _PUBLISHED_AT_ONCE):
            try:
                self._publish_batch(batch)
            except errors.StorageFull:
                # One by one: where a file replaces another, it makes room for the next.
                for entry in batch:
                    self._publish_batch([entry])

    def _publish_batch(self, batch: list[tuple[Where, bytes | str | None]]) -> None:
        contents = [content for _, content in batch if content is not None]
        if not contents:
            self.sync()  # otherwise the flush of what is staged does that
        with self.holding(), self.staged_all(contents) as publish_next:
            for path, content in batch:
                if content is None:
                    self.unlink(path)
                else:
                    publish_next(path)

    @contextlib.contextmanager
    def staged_all(self, contents: Sequence[bytes | str]) -> Iterator[Callable[[Where], None]]:
        """Stage files and symbolic links, flushed together; discard them if the block fails.

        Yields a function that publishes the next one of them at a path.
        """
        staged = [self._staging.new() for _ in contents]
        rest = iter(staged)
        try:
            with self.folder_of(staged[0], create=True) if staged else _NO_FOLDER as source:
                if staged:
                    self._stage_all(staged, source, contents)
                yield lambda path: self._show(next(rest), source, path)
        except BaseException:
            for temporary in staged:
                self.discard(temporary)
            raise

    def _stage_all(self, staged: list[str], folder: int, contents: Sequence[bytes | str]) -> None:
        files = []
        device = os.fstat(folder).st_dev
        for path, content in zip(staged, contents, strict=True):
            if isinstance(content, str):
                self._symlink(content, path, folder)
            else:
                self._write_unflushed(path, folder, content)
                files.append(Target(path, device, is_folder=False))
        self._flushes.flush(files)

    def _write_unflushed(self, path: str, folder: int, content: bytes) -> None:
        descriptor = self.call(path, os.open, split(path)[1], CREATE, 0o600, dir_fd=folder)
        try:
            self.write_all(path, descriptor, content)
            self._hand_over(path, descriptor)
        finally:
            os.close(descriptor)

    def afterwards(self, action: Callable[[], object]) -> None:
        """Call ``action`` once all that was asked for so far is published: here, at once."""
        action()

    def write(self, path: Where, content: bytes) -> bool:
        """Make ``path`` hold ``content``; return False where it does already."""
        if self.holds(path, content):
            return False
        self.publish(self.stage([content]).path, path)
        return True

    def link(self, source: Where, path: Where) -> None:
        """Make ``path`` a hard link to ``source``; a copy where links are refused."""
        with self.folder_of(path, create=True) as target, self._unless_taken():
            if self._link(source, self, path, target):
                self.changed(split(path)[0], target)
                return
        staged = self.try_link(source, self) or self._link_beside(source, path)
        staged = staged or self._stage_copy(source)
        try:
            self.publish(staged, path)
        finally:
            # rename(2) does nothing where both names are of one file.
            self.discard(staged)

    def _link_beside(self, source: Where, path: Where) -> PurePosixPath | None:
        """Make a temporary hard link beside ``path``, on another file system than the state's."""
        near = beside(PurePosixPath(path), unique())
        with self.folder_of(near) as folder:
            return near if self._link(source, self, near, folder) else None

    @contextlib.contextmanager
    def _unless_taken(self) -> Iterator[None]:
        """Ignore that there is something at a path by now."""
        try:
            yield
        except errors.StorageError as e:
            if e.errno != errno.EEXIST:
                raise

    def stage_link(self, source: PurePosixPath) -> PurePosixPath:
        """Make a temporary hard link to ``source``; a copy where links are refused."""
        return self.try_link(source, self) or self._stage_copy(source)

    def _stage_copy(self, source: Where) -> PurePosixPath:
        file = self.file(source)
        return self.stage(self.chunks(source), file.modified_ns if file else None).path

    def try_link(self, source: Where, origin: Reader) -> PurePosixPath | None:
        """Make a temporary hard link here to a file of ``origin``; None if links are refused."""
        staged = PurePosixPath(self._staging.new())
        with self.folder_of(staged, create=True) as folder:
            return staged if self._link(source, origin, staged, folder) else None

    def _link(self, source: Where, origin: Reader, path: Where, target: int) -> bool:
        """Make a hard link to a file of ``origin``; return False where links are refused."""
        try:
            around, name = split(source)
            with origin.folder(around) as folder:
                origin.call(
                    source,
                    os.link,
                    name,
                    split(path)[1],
                    src_dir_fd=folder,
                    dst_dir_fd=target,
                    follow_symlinks=False,
                )
        except errors.StorageError as e:
            if e.errno not in _LINK_REFUSED:
                raise
            return False
        return True

    def can_link(self, source: File, target: File) -> bool:
        """Return whether a hard link to ``source`` could be made where ``target`` is now."""
        limit = os.pathconf(self.root, "PC_LINK_MAX")
        on_one_mount = self._mount(source) == self._mount(target)
        return on_one_mount and source.links < limit and not self._is_link_refused(source)

    def _mount(self, file: File) -> tuple[int, int | None]:
        with self.folder(file.path.parent) as folder:
            return file.inode[0], mounts.mount_id(folder)

    def _is_link_refused(self, source: File) -> bool:
        """Return whether the file system has no hard links, by a trial in the state folder."""
        device = source.inode[0]
        if device not in self._refusing:
            # If the process is killed just then, the rest is removed as a stale lock.
            probe = lock_of(self.places.staging / unique())
            try:
                with self.folder_of(probe) as folder:
                    self._refusing[device] = not self._link(source.path, self, probe, folder)
            except errors.StorageError:
                return False  # a process that may not write cannot try
            self.discard(probe)
        return self._refusing[device]

    def is_copy(self, source: File, target: File) -> bool:
        """Return whether ``target`` has size and time of ``source``, as a copy made here has."""
        return (source.size, source.modified_ns) == (target.size, target.modified_ns)

    def date(self, path: Where, modified_ns: int) -> None:
        """Set the time at which a file was written, in nanoseconds since the epoch."""
        descriptor = self._open(path, stat.S_ISREG)
        try:
            self.call(path, os.utime, descriptor, ns=(modified_ns, modified_ns))
        finally:
            os.close(descriptor)

    def symlink(self, path: Where, target: str) -> bool:
        """Make ``path`` a symbolic link to ``target``; return False where it is one already."""
        if self.link_target(path) == target:
            return False
        staged = self._staging.new()
        try:
            with self.folder_of(staged, create=True) as folder:
                self._symlink(target, staged, folder)
        except BaseException:
            self.discard(staged)
            raise
        self.publish(staged, path)
        return True

    def _symlink(self, target: str, path: Where, folder: int) -> None:
        self.call(path, os.symlink, target, split(path)[1], dir_fd=folder)
        self.give_link(path, folder)

    def mark(self, path: Where, content: bytes) -> None:
        """Make a file in place, unless it is there, whose name is durable after the next flush.

        It stays empty where the disk has no room for ``content``, and may be
        empty after a power loss.
        """
        with self.folder_of(path, create=True) as folder:
            with (
                self._unless_taken(),
                self._created(path, folder) as descriptor,
                contextlib.suppress(errors.StorageFull),
            ):
                self.write_all(path, descriptor, content)
            self.changed(split(path)[0], folder)

    def touch(self, path: Where, content: bytes = b"") -> None:
        """Make a file in place; a power loss may undo it, or its ``content``."""
        with (
            self.folder_of(path, create=True) as folder,
            self._created(path, folder) as descriptor,
        ):
            try:
                self.write_all(path, descriptor, content)
            except BaseException:
                self.discard(path)
                raise

    @contextlib.contextmanager
    def _created(self, path: Where, folder: int) -> Iterator[int]:
        """Make a file in an open folder, give it to the root's owner, and open it for a block."""
        around, name = split(path)
        try:
            descriptor = self.call(path, os.open, name, CREATE, 0o600, dir_fd=folder)
        except NotFound:
            self.look_anew(around)
            raise
        try:
            self.give(path, descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def set_access(self, path: Where) -> None:
        """Set the owner and mode that the entry at ``path`` must have."""
        file = self.status(path)
        if file and file.kind == "link":
            with self.folder_of(path) as folder:
                self.give_link(path, folder, made=False)
        elif file:
            self._set_access(path, folder=file.kind == "folder")

    def _set_access(self, path: Where, *, folder: bool) -> None:
        descriptor = self._open(path, stat.S_ISDIR if folder else stat.S_ISREG)
        try:
            if self.is_foreign(os.fstat(descriptor).st_uid):
                self.give(path, descriptor, made=False)
            if folder or not self.is_private(path):
                self.call(
                    path, os.fchmod, descriptor, self.folder_mode(path) if folder else FILE_MODE
                )
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def discarding(self, staged: Staged) -> Iterator[None]:
        """Remove a temporary file when the block ends, unless it was published."""
        path = str(staged.path)
        self._to_discard.add(path)
        try:
            yield
        finally:
            if path in self._to_discard:
                self._to_discard.remove(path)
                self.discard(path)

    def discard(self, staged: Where) -> None:
        """Remove a temporary file where there is one; ignore errors."""
        with contextlib.suppress(errors.StorageError), self.folder_of(staged) as folder:
            self._unlink(staged, folder)

    def _unlink(self, path: Where, folder: int) -> bool:
        try:
            self.call(path, os.unlink, split(path)[1], dir_fd=folder)
        except NotFound:
            return False
        return True

    # -- removing

    def unlink(self, path: Where) -> bool:
        """Remove a file or link; return False where there is none."""
        return self._remove_file(path, self.changed)

    def drop(self, path: Where) -> bool:
        """Remove a file that does no harm if a power loss brings it back, as unlink() does."""
        return self._remove_file(path, lambda *_: None)

    def _remove_file(self, path: Where, changed: Callable[[str, int], object]) -> bool:
        around, _ = split(path)
        try:
            with self.folder(around) as folder:
                removed = self._unlink(path, folder)
                if removed:
                    changed(around, folder)
        except NotFound:
            return False
        return removed

    def remove_empty(self, path: Where) -> bool:
        """Remove a folder unless something is in it; return whether it is gone."""
        text = str(path)
        around, name = split(text)
        try:
            with self.folder(around) as folder:
                self.call(text, os.rmdir, name, dir_fd=folder)
                # The next entry of that name may be a link, and sync() need not flush it.
                self._flushes.forget(text)
                self._let_go(text)
                self.changed(around, folder)
        except NotFound:
            return True
        except errors.StorageError as e:
            # A mount point is busy.
            if e.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                return False
            raise
        return True

    def remove_upward(self, path: PurePosixPath, top: PurePosixPath) -> None:
        """Remove a folder and then its parents below ``top``, as long as they are empty."""
        while path != top and self.remove_empty(path):
            path = path.parent

    def remove_tree(self, path: PurePosixPath) -> None:
        """Remove a folder and everything in it."""
        for name, kind in self.names(path).items():
            if kind == "folder":
                self.remove_tree(path / name)
            else:
                self.unlink(path / name)
        self.remove_empty(path)

    def remove(self, file: File) -> None:
        """Remove a file, a link, or a folder with everything in it."""
        if file.kind == "folder":
            self.remove_tree(file.path)
        else:
            self.unlink(file.path)

    # -- durability

    def sync_file(self, path: Where) -> None:
        """Make the content of a file durable, even if another process wrote it."""
        descriptor = self._open(path, stat.S_ISREG)
        try:
            self.call(path, os.fsync, descriptor)
        finally:
            os.close(descriptor)

    def changed(self, folder: str, descriptor: int) -> None:
        self._flushes.note(folder, descriptor)

    def settle(self, folder: PurePosixPath) -> None:
        """Have sync() make the names in a folder durable, even if another process changed them.

        A name that is found there need not be durable: the process that made it
        may have failed or been killed just then.
        """
        with contextlib.suppress(NotFound), self.folder(folder) as descriptor:
            self.changed(str(folder), descriptor)

    def sync(self) -> None:
        """Make all changes of names durable: no power loss undoes them."""
        self._flushes.flush()
