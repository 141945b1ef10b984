# SPDX-License-Identifier: Apache-2.0
"""Targets of ours for tripleo-common's ImageUploadManager.

The manager knows its uploaders from a literal dict and gives every task to the
uploader of the last entry; both are put right here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from oslo_config import cfg
from tripleo_common.image import exception, image_uploader

from image_uploader_plugins import errors, loader
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.lists import collisions, image_list, keys, reasons
from image_uploader_plugins.runs.journal import Journal, Observer
from image_uploader_plugins.runs.records import ImageRecord, Status, reason
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.tripleo import modification
from image_uploader_plugins.tripleo.failures import combined, failed, tripleo_errors
from image_uploader_plugins.tripleo.pushing_uploader import PushingUploader
from image_uploader_plugins.tripleo.uploader import (
    OpenDriver,
    PluginImageUploader,
    registries_for,
)

Manager = image_uploader.ImageUploadManager
PYTHON_UPLOADER = keys.PUSHING

Hook = Callable[[Any], object]
_Queued = tuple[Any, Any, ImageRecord]  # an uploader, its task, and what becomes of it

_tripleo_init = Manager.__init__
_hook: Hook | None = None  # called with each new manager


def register(
    manager: Any,
    driver: UploaderDriver,
    name: str = "local-export",
    observer: Observer | None = None,
    options: CopyOptions | None = None,
) -> PluginImageUploader:
    """Make ``driver`` the target of the manager's entries with ``uploader: <name>``.

    The driver stays the caller's, to be closed there.  Returns the uploader.
    """
    chosen = options or CopyOptions()
    return add(
        manager,
        name,
        lambda: contextlib.nullcontext(driver),
        Journal(observer),
        options=lambda: chosen,
    )


def install(conf: cfg.ConfigOpts | None = None) -> None:
    """Give every manager made from now on all drivers that are installed.

    A driver is loaded when an entry first asks for it, with ``conf`` (default:
    what oslo.config finds for image-uploader).  Takes the place of an earlier
    call.  The class stays where it is: tripleo-common calls ``super(Name, self)``
    through the module's global name.
    """
    _set_hook(functools.partial(add_installed, conf=conf))


def uninstall() -> None:
    """Undo install(); managers made before keep what they have."""
    _set_hook(None)


@contextlib.contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Have ``hook`` called with each manager that is made meanwhile, and no other."""
    before = _hook
    _set_hook(hook)
    try:
        yield
    finally:
        _set_hook(before)


def _set_hook(hook: Hook | None) -> None:
    # The class has one constructor for all of a process.
    global _hook  # noqa: PLW0603
    _hook = hook
    Manager.__init__ = _init if hook else _tripleo_init


@functools.wraps(_tripleo_init)
def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    _tripleo_init(self, *args, **kwargs)
    if _hook:
        _hook(self)


def add_installed(
    manager: Any,
    conf: cfg.ConfigOpts | None = None,
    default: str = PYTHON_UPLOADER,
    journal: Journal | None = None,
    *,
    options: CopyOptions | None = None,
    insecure: Sequence[str] = (),
) -> list[PluginImageUploader]:
    """Add an uploader for each installed driver; ``default`` serves entries that name none."""
    journal = journal or Journal()
    manager.uploaders[PYTHON_UPLOADER] = PushingUploader(
        manager.uploader(PYTHON_UPLOADER),
        functools.partial(_registries, manager.uploader(PYTHON_UPLOADER), conf, insecure),
    )
    return [
        add(
            manager,
            name,
            functools.partial(_load, conf, name),
            journal,
            default,
            functools.partial(_options, conf, options or CopyOptions(), insecure),
        )
        for name in loader.installed()
        if name != PYTHON_UPLOADER
    ]


def add(
    manager: Any,
    name: str,
    open_driver: OpenDriver,
    journal: Journal,
    default: str = PYTHON_UPLOADER,
    options: Callable[[], CopyOptions] = CopyOptions,
) -> PluginImageUploader:
    """Add an uploader for a driver, which ``open_driver`` opens, to a manager."""
    uploader = PluginImageUploader(open_driver, name, journal, options)
    uploader.registry_credentials = manager.uploader(PYTHON_UPLOADER).registry_credentials
    manager.uploaders[name] = uploader
    manager.upload = functools.partial(_upload, manager, default, journal)
    return uploader


def _load(conf: cfg.ConfigOpts | None, name: str) -> UploaderDriver:
    return loader.load_driver(_conf(conf), name)


def _options(
    conf: cfg.ConfigOpts | None, options: CopyOptions, insecure: Sequence[str]
) -> CopyOptions:
    settings = loader.settings(_conf(conf), insecure)
    return dataclasses.replace(options, settings=settings)


def _registries(uploader: Any, conf: cfg.ConfigOpts | None, insecure: Sequence[str]) -> Registries:
    return registries_for(uploader, loader.settings(_conf(conf), insecure))


def _conf(conf: cfg.ConfigOpts | None) -> cfg.ConfigOpts:
    return loader.load_conf() if conf is None else conf


def _upload(manager: Any, default: str, journal: Journal) -> list[dict[str, Any]]:
    """Do the work of ImageUploadManager.upload; give each entry to the uploader it names."""
    items = image_list.items(image_list.read(manager.config_files, may_be_empty=True), default)
    upload(manager, items, [plan(journal, item, default) for item in items], journal)
    return items


def plan(journal: Journal, item: dict[str, Any], default: str) -> ImageRecord:
    """Note an entry of a list as an image that is to be copied."""
    return journal.plan(str(item.get("imagename")), str(item.get("uploader") or default))


def upload(
    manager: Any,
    items: list[dict[str, Any]],
    records: list[ImageRecord],
    journal: Journal,
    *,
    dry_run: bool = False,
) -> None:
    """Copy what entries list, each of a record; raises what went wrong once all had their turn.

    But nothing is copied in a dry run, and where two different images would get one name.
    """
    forget_secure_registries()
    failures: list[Exception] = []
    queue = list(_queued(manager, items, records, failures))
    _check_names(queue)
    if dry_run:
        queue.clear()
    # NOTE: neighbours in the list share layers; apart, they wait less for each other.
    random.shuffle(queue)
    theirs: list[ImageRecord] = []
    for uploader, task, record in queue:
        try:
            if isinstance(uploader, PluginImageUploader):
                uploader.add(task, record)
            else:
                uploader.add_upload_task(task)
                theirs.append(record)
        except Exception as e:  # one bad entry does not stop the others
            failures.append(e)
    for uploader in dict.fromkeys(uploader for uploader, _, _ in queue):
        try:
            if isinstance(uploader, PluginImageUploader):
                uploader.run_tasks()
            else:
                _run_theirs(uploader, theirs, journal)
        except Exception as e:
            failures.append(e)
    if failures:
        raise combined(failures, len(items))


def _queued(
    manager: Any,
    items: list[dict[str, Any]],
    records: list[ImageRecord],
    failures: list[Exception],
) -> Iterator[_Queued]:
    for item, record in zip(items, records, strict=True):
        try:
            yield _uploader(manager, record), _task(manager, item), record
        except Exception as e:
            failures.append(e)


def _claims(queue: Iterable[_Queued]) -> Iterator[collisions.Claim]:
    """Yield the names that images are to have; one that can have none fails in its turn."""
    for uploader, task, record in queue:
        # NOTE: tripleo-common's own, where register() alone changed the manager, cannot be asked.
        if not hasattr(uploader, "open_registries"):
            continue
        with contextlib.suppress(errors.InvalidReference):
            yield from _claims_of(uploader, task, record)


def _claims_of(uploader: Any, task: Any, record: ImageRecord) -> Iterator[collisions.Claim]:
    made = [(uploader.job(task), task.modify_role or "")]
    if task.modify_role:
        made.append((uploader.job(modification.Unmodified(task)), ""))
    for job, role in made:
        is_ours = isinstance(uploader, PluginImageUploader)
        target = record.uploader if is_ours else job.served_at
        every = uploader.keeps_index(task) if is_ours else bool(task.multi_arch)
        if job.tag:
            name = f"{job.target}:{job.tag}"
            yield collisions.Claim(target, name, job, every, role, record)


def _check_names(queue: Sequence[_Queued]) -> None:
    """Raise ImageUploaderException where two different images would get one name."""
    with tripleo_errors("sources"):
        problems = collisions.problems(_claims(queue), functools.partial(_open_registries, queue))
    if problems:
        several = reasons.ImagesFailed.for_reasons(problems)
        raise exception.ImageUploaderException(str(several)) from several


def _open_registries(queue: Iterable[_Queued]) -> Registries:
    able = (uploader for uploader, _, _ in queue if hasattr(uploader, "open_registries"))
    found: Registries = next(able).open_registries()
    return found


def _run_theirs(uploader: Any, records: list[ImageRecord], journal: Journal) -> None:
    """Run the tasks of the uploader that pushes, which tells of them all together or of none."""
    try:
        with contextlib.ExitStack() as turns:
            for record in records:
                turns.enter_context(journal.turn(record))
            uploader.run_tasks()
    except Exception as e:
        unsure = f"one of {len(records)} images failed, which is not known: {e}"
        for record in records:
            failed(record, e)
            record.why = reason(unsure) if len(records) > 1 else record.why
        raise
    for record in records:
        record.become(Status.COPIED)
        journal.tell(record)


def forget_secure_registries() -> None:
    """Have tripleo-common ask again: it takes a port for secure that was closed when it asked."""
    known = image_uploader.SECURE_REGISTRIES
    image_uploader.BaseImageUploader.secure_registries.intersection_update(known)


def _uploader(manager: Any, record: ImageRecord) -> Any:
    if record.uploader not in manager.uploaders:
        error = exception.ImageUploaderException(
            f"{record.source}: unknown uploader {record.uploader!r} "
            f"(known: {', '.join(sorted(manager.uploaders))})"
        )
        failed(record, error)
        raise error
    return manager.uploader(record.uploader)


def _task(manager: Any, item: dict[str, Any]) -> Any:
    item["push_destination"] = image_list.destination(item)
    return task_of(item, cleanup=manager.cleanup, multi_arch=manager.multi_arch)


def task_of(item: dict[str, Any], *, cleanup: str = "", multi_arch: Any = False) -> Any:
    """Return the UploadTask of an entry of a list that has its push_destination."""
    task = image_uploader.UploadTask(
        item["imagename"],
        item.get("pull_source"),
        item["push_destination"],
        item.get("modify_append_tag"),
        item.get("modify_role"),
        item.get("modify_vars"),
        cleanup,
        item.get("multi_arch", multi_arch),
    )
    task.wishes = keys.wishes(item)
    return task
