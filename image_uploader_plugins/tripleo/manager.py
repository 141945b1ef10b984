"""Giving the host's ImageUploadManager targets of ours.

The manager knows its uploaders from a literal dict and hands every task to
the uploader of the last entry, so both are put right here.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from oslo_config import cfg
from tripleo_common.image import base, exception, image_uploader

from image_uploader_plugins import loader
from image_uploader_plugins.copying import CopyOptions
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.results.journal import Journal, Observer
from image_uploader_plugins.results.records import ImageRecord, Status, reason
from image_uploader_plugins.tripleo.failures import combined, failed
from image_uploader_plugins.tripleo.uploader import OpenDriver, PluginImageUploader

Manager = image_uploader.ImageUploadManager
HOST_UPLOADER = image_uploader.DEFAULT_UPLOADER

Hook = Callable[[Any], object]

_host_init = Manager.__init__
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
    call.  The class stays where it is: the host calls ``super(Name, self)``
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
    global _hook
    _hook = hook
    Manager.__init__ = _init if hook else _host_init


@functools.wraps(_host_init)
def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    _host_init(self, *args, **kwargs)
    if _hook:
        _hook(self)


def add_installed(
    manager: Any,
    conf: cfg.ConfigOpts | None = None,
    default: str = HOST_UPLOADER,
    journal: Journal | None = None,
    *,
    check_present: bool = False,
) -> list[PluginImageUploader]:
    """Add an uploader for each installed driver; ``default`` serves entries that name none."""
    journal = journal or Journal()
    return [
        add(
            manager,
            name,
            functools.partial(_load, conf, name),
            journal,
            default,
            functools.partial(_options, conf, check_present),
        )
        for name in loader.installed()
        if name != HOST_UPLOADER
    ]


def add(
    manager: Any,
    name: str,
    open_driver: OpenDriver,
    journal: Journal,
    default: str = HOST_UPLOADER,
    options: Callable[[], CopyOptions] = CopyOptions,
) -> PluginImageUploader:
    uploader = PluginImageUploader(open_driver, name, journal, options)
    uploader.registry_credentials = manager.uploader(HOST_UPLOADER).registry_credentials
    manager.uploaders[name] = uploader
    manager.upload = functools.partial(_upload, manager, default, journal)
    return uploader


def _load(conf: cfg.ConfigOpts | None, name: str) -> UploaderDriver:
    return loader.load_driver(loader.load_conf() if conf is None else conf, name)


def _options(conf: cfg.ConfigOpts | None, check_present: bool) -> CopyOptions:
    limits = loader.limits(loader.load_conf() if conf is None else conf)
    return CopyOptions(check_present, limits)


def _upload(manager: Any, default: str, journal: Journal) -> list[dict[str, Any]]:
    """ImageUploadManager.upload, with each entry given to the uploader it names."""
    forget_secure_registries()
    items = _items(manager)
    records = [
        journal.plan(str(item.get("imagename")), str(item.get("uploader") or default))
        for item in items
    ]
    queue = [
        (_uploader(manager, record), _task(manager, item), record)
        for item, record in zip(items, records, strict=True)
    ]
    # NOTE: neighbours in the list share layers; apart, they wait less for each other.
    random.shuffle(queue)
    theirs: list[ImageRecord] = []
    for uploader, task, record in queue:
        if isinstance(uploader, PluginImageUploader):
            uploader.add(task, record)
        else:
            uploader.add_upload_task(task)
            theirs.append(record)
    failures = []
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
    return items


def _run_theirs(uploader: Any, records: list[ImageRecord], journal: Journal) -> None:
    """Run the tasks of the host's own uploader, which tells of them all together or not at all."""
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
    """Have the host ask again: it takes a port for secure that was closed when it asked."""
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
    item["push_destination"] = manager.get_push_destination(item)
    return image_uploader.UploadTask(
        item["imagename"],
        item.get("pull_source"),
        item["push_destination"],
        item.get("modify_append_tag"),
        item.get("modify_role"),
        item.get("modify_vars"),
        manager.cleanup,
        item.get("multi_arch", manager.multi_arch),
    )


def _items(manager: Any) -> list[dict[str, Any]]:
    """The entries of both sections.

    The host gives up on a section that one of the files lacks, so each is
    read from just the files that have it.
    """
    items: list[dict[str, Any]] = []
    for section in (manager.UPLOADS, manager.CONTAINER_IMAGES):
        files = [name for name in manager.config_files if _has(name, section)]
        part = base.BaseImageManager(files, manager.template_dir, manager.images)
        items += part.load_config_files(section) or []
    return items


def _has(name: str, section: str) -> bool:
    path = Path(name)
    if not path.is_file():
        return True  # for the host to complain about
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return isinstance(content, dict) and bool(content.get(section))
