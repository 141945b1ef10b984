"""The host's two flows, with ``uploader:`` honoured entry by entry."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from oslo_config import cfg
from tripleo_common.image import image_uploader, kolla_builder
from tripleo_common.utils.locks import threadinglock

from image_uploader_plugins import errors, files, loader
from image_uploader_plugins.copying.copier import CopyOptions, Summary
from image_uploader_plugins.runs.journal import Journal, Observer
from image_uploader_plugins.sources import keychain
from image_uploader_plugins.tripleo import manager as managers
from image_uploader_plugins.tripleo.uploader import CREDENTIALS, WISHES

LOG = logging.getLogger(__name__)

CLEANUP = image_uploader.CLEANUP

# What container_images_prepare_multi reads of an entry, and what we read.
_ENTRY_KEYS = frozenset(
    {
        *("set", "push_destination", "pull_source", "tag_from_label", "excludes", "includes"),
        *("modify_role", "modify_vars", "modify_append_tag"),
        *("modify_only_with_labels", "modify_only_with_source"),
        *("multi_arch", "uploader", *WISHES),
    }
)
_UPLOAD_KEYS = ("push_destination", "pull_source", "modify_role")


def upload_files(
    names: Sequence[str],
    conf: cfg.ConfigOpts | None = None,
    *,
    cleanup: str = image_uploader.CLEANUP_FULL,
    multi_arch: bool = False,
    lock: Any = None,
    observer: Observer | None = None,
    journal: Journal | None = None,
    options: CopyOptions | None = None,
) -> Summary:
    """Upload what the ``container_images`` (or ``uploads``) of yaml files list.

    An entry without ``uploader:`` goes to the driver that ``conf`` chooses;
    ``uploader: python`` is the host's own.  Raises ConfigurationError for a
    file that is unreadable or lists nothing, before anything is done, and the
    host's exceptions for images that fail.  A ``journal``, which has its own
    observer, then says of each image what became of it.  ``options`` say how
    images are copied; their settings are those of ``conf``.
    """
    for name in names:
        files.images(name)
    with _managers(conf, journal or Journal(observer), options=options) as summary:
        image_uploader.ImageUploadManager(
            list(names), cleanup=cleanup, multi_arch=multi_arch, lock=_lock(lock)
        ).upload()
    return summary


def prepare(
    environment: dict[str, Any],
    roles_data: list[dict[str, Any]] | None = None,
    dry_run: bool = False,
    cleanup: str = image_uploader.CLEANUP_FULL,
    lock: Any = None,
    conf: cfg.ConfigOpts | None = None,
    observer: Observer | None = None,
    journal: Journal | None = None,
    options: CopyOptions | None = None,
) -> tuple[dict[str, Any], Summary]:
    """Run ``ContainerImagePrepare`` of a Heat environment.

    As the host's container_images_prepare_multi, with ``uploader:`` and
    ``multi_arch:`` of each entry honoured; the host drops the one and lets
    the other switch off the multi_arch of all later entries.  Returns the
    image parameters and what the uploads took.  Raises ConfigurationError
    for entries that cannot work, before anything is done.  A ``journal``,
    which has its own observer, then says of each image what became of it.
    ``options`` say how images are copied; their settings are those of ``conf``
    and of the environment.
    """
    journal = journal or Journal(observer)
    parameters: dict[str, Any] = {}
    summary = Summary()
    managers.forget_secure_registries()
    entries = _entries(environment)
    insecure = _insecure(environment)
    _check_credentials(environment)
    for number, entry in enumerate(entries, start=1):
        journal.entries_left = tuple(map(_where, range(number + 1, len(entries) + 1)))
        chosen = entry.pop("uploader", None)
        wished = _entry_options(entry, options or CopyOptions())
        with _managers(conf, journal, chosen, options=wished, insecure=insecure) as part:
            parameters.update(
                kolla_builder.container_images_prepare_multi(
                    _environment(environment, entry),
                    copy.deepcopy(roles_data),
                    dry_run=dry_run,
                    cleanup=cleanup,
                    lock=_lock(lock),
                )
            )
        summary.add(part)
    return parameters, summary


@contextlib.contextmanager
def _managers(
    conf: cfg.ConfigOpts | None,
    journal: Journal,
    default: str | None = None,
    *,
    options: CopyOptions | None,
    insecure: Sequence[str] = (),
) -> Iterator[Summary]:
    """Managers made meanwhile know every driver; what they took adds up in the Summary."""
    conf = loader.load_conf() if conf is None else conf
    summary = Summary()
    uploaders = []

    def hook(manager: Any) -> None:
        name = default or loader.selected(conf)
        uploaders.extend(
            managers.add_installed(manager, conf, name, journal, options=options, insecure=insecure)
        )

    started = time.monotonic()
    with managers.hooked(hook):
        yield summary
    for uploader in uploaders:
        summary.add(uploader.summary)
    summary.seconds = time.monotonic() - started


def _entry_options(entry: dict[str, Any], options: CopyOptions) -> CopyOptions:
    """The options of a run with what an entry itself wishes, which goes from it."""
    wished: dict[str, Any] = {name: bool(entry.pop(name)) for name in WISHES if name in entry}
    return dataclasses.replace(options, **wished)


def _insecure(environment: dict[str, Any]) -> list[str]:
    """The registries that a deployment calls insecure."""
    found = _parameters(environment).get("DockerInsecureRegistryAddress") or []
    found = found.split(",") if isinstance(found, str) else found
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise errors.ConfigurationError(
            "DockerInsecureRegistryAddress must be a list of registries, host or host:port"
        )
    return [name.strip() for name in found if name.strip()]


def _check_credentials(environment: dict[str, Any]) -> None:
    entries = _parameters(environment).get(CREDENTIALS)
    if entries:
        keychain.named(entries, CREDENTIALS)


def _parameters(environment: dict[str, Any]) -> dict[str, Any]:
    return environment.get("parameter_defaults") or {}


def _entries(environment: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of ContainerImagePrepare, copied, each known to be workable."""
    entries = _parameters(environment).get("ContainerImagePrepare")
    entries = copy.deepcopy(entries or kolla_builder.CONTAINER_IMAGE_PREPARE_PARAM)
    if not isinstance(entries, list):
        raise errors.ConfigurationError("ContainerImagePrepare must be a list")
    known = {managers.HOST_UPLOADER, *loader.installed()}
    for number, entry in enumerate(entries, start=1):
        where = _where(number)
        if not isinstance(entry, dict) or not isinstance(entry.get("set", {}), dict):
            raise errors.ConfigurationError(f"{where}: it and its 'set' must be mappings")
        name = entry.get("uploader", managers.HOST_UPLOADER)
        if name not in known:
            names = ", ".join(sorted(known))
            raise errors.ConfigurationError(f"{where}: unknown uploader {name!r} (known: {names})")
        if "uploader" in entry and not any(map(entry.get, _UPLOAD_KEYS)):
            raise errors.ConfigurationError(
                f"{where}: has an uploader but no push_destination, the host and port "
                "that clients will pull from"
            )
        _mend_destination(entry, where)
        for key in sorted(entry.keys() - _ENTRY_KEYS):
            LOG.warning("%s: %r is unknown and has no effect", where, key)
    return entries


def _mend_destination(entry: dict[str, Any], where: str) -> None:
    """Without what would stand twice in the parameters; raises ConfigurationError."""
    destination = entry.get("push_destination")
    if isinstance(destination, str):
        if "://" in destination or "@" in destination:
            raise errors.ConfigurationError(
                f"{where}: push_destination is a host and maybe a port, without a scheme or a user"
            )
        entry["push_destination"] = destination.rstrip("/")


def _where(number: int) -> str:
    return f"ContainerImagePrepare, entry {number}"


def _environment(environment: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The environment with ``entry`` alone, and its multi_arch put where the host looks."""
    defaults = {**environment.get("parameter_defaults", {}), "ContainerImagePrepare": [entry]}
    multi_arch = entry.pop("multi_arch", None)
    if multi_arch is not None:
        defaults["AdditionalArchitectures"] = ["any"] if multi_arch else []
    return {**environment, "parameter_defaults": defaults}


def _lock(lock: Any) -> Any:
    # The host's own uploader crashes without one.
    return lock or threadinglock.ThreadingLock()
