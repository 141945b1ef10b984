# SPDX-License-Identifier: Apache-2.0
"""tripleo-common's two ways to copy images, with ``uploader:`` honoured entry by entry."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from oslo_config import cfg
from tripleo_common.image import exception, image_uploader, kolla_builder
from tripleo_common.utils.locks import threadinglock

from image_uploader_plugins import errors, loader
from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.lists import image_list, keys
from image_uploader_plugins.runs.journal import Journal, Observer
from image_uploader_plugins.runs.records import ImageRecord, Totals
from image_uploader_plugins.sources import keychain
from image_uploader_plugins.sources.image_name import ImageName
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.tripleo import manager as managers
from image_uploader_plugins.tripleo import mirrors
from image_uploader_plugins.tripleo.failures import combined, failed, tripleo_errors
from image_uploader_plugins.tripleo.uploader import CREDENTIALS

LOG = logging.getLogger(__name__)

CLEANUP = image_uploader.CLEANUP

# The keys of an entry: those of container_images_prepare_multi, and ours.
_ENTRY_KEYS = frozenset(
    {
        *("set", "push_destination", "pull_source", "tag_from_label", "excludes", "includes"),
        *("modify_role", "modify_vars", "modify_append_tag"),
        *("modify_only_with_labels", "modify_only_with_source"),
        *("multi_arch", "uploader", *keys.WISHES),
    }
)
_UPLOAD_KEYS = ("push_destination", "pull_source", "modify_role")
_ARTICLES = {"uploader": "an uploader", "names": "'names'"}


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
) -> Totals:
    """Upload what the ``container_images`` (or ``uploads``) of yaml files list.

    An entry without ``uploader:`` goes to the driver that ``conf`` chooses;
    ``uploader: python`` pushes.  Raises ConfigurationError for a
    file that is unreadable or lists nothing, before anything is done, and the
    exceptions of tripleo-common for images that fail.  A ``journal``, which has its own
    observer, then says of each image what became of it.  ``options`` say how
    images are copied; their settings are those of ``conf``.
    """
    conf = loader.load_conf() if conf is None else conf
    options = options or CopyOptions()
    image_list.check(image_list.read(names), loader.selected(conf), options)
    journal = journal or Journal(observer)
    with _managers(conf, journal, options=options):
        image_uploader.ImageUploadManager(
            list(names), cleanup=cleanup, multi_arch=multi_arch, lock=_lock(lock)
        ).upload()
    return journal.totals()


def prepare(  # noqa: PLR0913, PLR0917 -- those of tripleo-common's function, and ours
    environment: dict[str, Any],
    roles_data: list[dict[str, Any]] | None = None,
    dry_run: bool = False,
    cleanup: str = image_uploader.CLEANUP_FULL,
    lock: Any = None,
    conf: cfg.ConfigOpts | None = None,
    observer: Observer | None = None,
    journal: Journal | None = None,
    options: CopyOptions | None = None,
    multi_arch: bool = False,
) -> tuple[dict[str, Any], Totals]:
    """Run ``ContainerImagePrepare`` of a Heat environment.

    As tripleo-common's container_images_prepare_multi, with ``uploader:`` and
    ``multi_arch:`` of each entry honoured; that drops the one and lets
    the other switch off the multi_arch of all later entries.  What all
    entries ask for is known before anything is copied.  Returns the image
    parameters, which name images as the targets have them, and what the
    uploads took.  Raises ConfigurationError for entries that cannot work,
    before anything is done.  A ``journal``, which has its own observer, then
    says of each image what became of it.  ``options`` say how images are
    copied; their settings are those of ``conf`` and of the environment.
    ``multi_arch`` is for entries that do not say it.
    """
    conf = loader.load_conf() if conf is None else conf
    journal = journal or Journal(observer)
    # The journal of a dry run gets no images: nothing becomes of them.
    own = Journal(lambda _record: None) if dry_run else journal
    run = _Run(conf, own, options or CopyOptions(), _lock(lock), cleanup, dry_run, multi_arch)
    managers.forget_secure_registries()
    entries = _entries(environment, loader.selected(conf), run.options)
    run.insecure = _insecure(environment)
    environment = _checked(environment, loader.settings(conf, run.insecure))
    for number, entry in enumerate(entries, start=1):
        journal.entries_left = tuple(map(_where, range(number + 1, len(entries) + 1)))
        run.find(environment, entry, roles_data)
    run.copy(environment)
    if run.failures:
        raise combined(run.failures, len(run.journal.images))
    return run.parameters, run.journal.totals()


@dataclasses.dataclass
class _Run:
    """One run of prepare(): what was found out, and what is to be copied."""

    conf: cfg.ConfigOpts
    journal: Journal
    options: CopyOptions
    lock: Any
    cleanup: str
    dry_run: bool
    multi_arch: bool
    insecure: Sequence[str] = ()
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    items: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    records: list[ImageRecord] = dataclasses.field(default_factory=list)
    failures: list[Exception] = dataclasses.field(default_factory=list)

    def find(
        self,
        environment: dict[str, Any],
        entry: dict[str, Any],
        roles_data: list[dict[str, Any]] | None,
    ) -> None:
        """Find out the images of an entry and their parameters."""
        uploader = entry.pop("uploader", None) or loader.selected(self.conf)
        wished = {name: entry.pop(name) for name in keys.WISHES if name in entry}
        is_copied = any(map(entry.get, _UPLOAD_KEYS))
        with self._managers(uploader), _rendered(self._check) as images:
            found = kolla_builder.container_images_prepare_multi(
                _environment(environment, entry),
                copy.deepcopy(roles_data),
                dry_run=True,
                cleanup=self.cleanup,
                lock=self.lock,
            )
        self.parameters.update(found)
        multi_arch = {"multi_arch": _multi_arch(environment, entry, self.multi_arch)}
        for image, parameters in images:
            if is_copied:
                self._add({**image, **multi_arch, **wished, "uploader": uploader}, parameters)

    def _add(self, item: dict[str, Any], parameters: Sequence[str]) -> None:
        """Have an image copied, and the parameters name it as the target has it."""
        item["push_destination"] = image_list.destination(item)
        try:
            with tripleo_errors(item["imagename"]):
                full = keys.wishes(item).get("full_names", self.options.full_names)
                served = Job.of(managers.task_of(item), full_names=full).served
        except exception.ImageUploaderException as e:
            self._refuse(item["imagename"], e, item["uploader"])
            return
        if item["uploader"] != managers.PYTHON_UPLOADER:
            self.parameters.update(dict.fromkeys(parameters, served))
        self.items.append(item)
        self.records.append(managers.plan(self.journal, item, item["uploader"]))

    def _check(self, image: dict[str, Any]) -> bool:
        """Return whether tripleo-common may see an image: it asks for whatever is written there."""
        name = str(image.get("imagename"))
        try:
            with tripleo_errors(name):
                ImageName.parse(name)
        except exception.ImageUploaderException as e:
            self._refuse(name, e, "")
            return False
        return True

    def _refuse(self, name: str, error: Exception, uploader: str) -> None:
        record = self.journal.plan(name, uploader)
        failed(record, error)
        self.journal.tell(record)
        self.failures.append(error)

    def copy(self, environment: dict[str, Any]) -> None:
        """Copy what was found, or just see whether names are for one image each."""
        defaults = _parameters(environment)
        mirror = defaults.get("DockerRegistryMirror")
        with self._managers(managers.PYTHON_UPLOADER):
            manager = image_uploader.ImageUploadManager(
                cleanup=self.cleanup,
                mirrors={"docker.io": mirror} if mirror else None,
                registry_credentials=defaults.get(CREDENTIALS),
                lock=self.lock,
            )
            try:
                managers.upload(
                    manager, self.items, self.records, self.journal, dry_run=self.dry_run
                )
            except Exception as e:
                self.failures.append(e)

    def _managers(self, default: str) -> contextlib.AbstractContextManager[None]:
        return _managers(
            self.conf, self.journal, default, options=self.options, insecure=self.insecure
        )


@contextlib.contextmanager
def _rendered(
    is_good: Callable[[dict[str, Any]], bool],
) -> Iterator[list[tuple[dict[str, Any], list[str]]]]:
    """Note the images of templates that are rendered meanwhile, those that are good.

    Each comes with the parameters that it is for, and as it is changed
    afterwards; tripleo-common sees no other.
    """
    kind = kolla_builder.KollaImageBuilder
    real = kind.container_images_from_template
    found: list[tuple[dict[str, Any], list[str]]] = []

    def noting(self: Any, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        images = [image for image in real(self, *args, **kwargs) if is_good(image)]
        found.extend((image, list(image.get("params") or ())) for image in images)
        return images

    kind.container_images_from_template = noting
    try:
        yield found
    finally:
        kind.container_images_from_template = real


@contextlib.contextmanager
def _managers(
    conf: cfg.ConfigOpts | None,
    journal: Journal,
    default: str | None = None,
    *,
    options: CopyOptions | None,
    insecure: Sequence[str] = (),
) -> Iterator[None]:
    """Let managers that are made meanwhile know every driver."""
    conf = loader.load_conf() if conf is None else conf

    def hook(manager: Any) -> None:
        name = default or loader.selected(conf)
        managers.add_installed(manager, conf, name, journal, options=options, insecure=insecure)

    with managers.hooked(hook):
        yield


def _insecure(environment: dict[str, Any]) -> list[str]:
    """Return the registries that a deployment calls insecure."""
    found = _parameters(environment).get("DockerInsecureRegistryAddress") or []
    found = found.split(",") if isinstance(found, str) else found
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise errors.ConfigurationError(
            "DockerInsecureRegistryAddress must be a list of registries, host or host:port"
        )
    return [name.strip() for name in found if name.strip()]


def _checked(environment: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the environment, with a mirror as tripleo-common needs it.

    Raises ConfigurationError.
    """
    defaults = dict(_parameters(environment))
    if entries := defaults.get(CREDENTIALS):
        keychain.named(entries, CREDENTIALS)
    if mirror := defaults.get(mirrors.PARAMETER):
        # NOTE: tripleo-common glues "v2" to it.
        defaults[mirrors.PARAMETER] = mirrors.checked(mirror, settings.trust) + "/"
    return {**environment, "parameter_defaults": defaults}


def _parameters(environment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = environment.get("parameter_defaults") or {}
    return found


def _entries(
    environment: dict[str, Any], default: str, options: CopyOptions
) -> list[dict[str, Any]]:
    """Return the entries of ContainerImagePrepare, copied, each known to be workable."""
    entries = _parameters(environment).get("ContainerImagePrepare")
    if not entries:
        said = "no" if entries is None else "an empty"
        LOG.warning(
            "%s ContainerImagePrepare in parameter_defaults: tripleo-common's is used", said
        )
    entries = copy.deepcopy(entries or kolla_builder.CONTAINER_IMAGE_PREPARE_PARAM)
    if not isinstance(entries, list):
        raise errors.ConfigurationError("ContainerImagePrepare must be a list")
    return [
        _entry(entry, default, _where(number), options)
        for number, entry in enumerate(entries, start=1)
    ]


def _entry(given: Any, default: str, where: str, options: CopyOptions) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("set", {}), dict):
        raise errors.ConfigurationError(f"{where}: it and its 'set' must be mappings")
    known = {managers.PYTHON_UPLOADER, *loader.installed()}
    name = given.get("uploader", managers.PYTHON_UPLOADER)
    if name not in known:
        names = ", ".join(sorted(known))
        raise errors.ConfigurationError(f"{where}: unknown uploader {name!r} (known: {names})")
    entry = keys.mended(given, where)
    is_copied = any(map(entry.get, _UPLOAD_KEYS))
    for key in ("uploader", "names"):
        if key in entry and not is_copied:
            raise errors.ConfigurationError(
                f"{where}: has {_ARTICLES[key]} but no push_destination, the host and port "
                "that clients will pull from"
            )
    if is_copied:
        uploader = entry.get("uploader", default)
        keys.check_wishes(entry, uploader, where, options)
    for problem in keys.unknown(entry, _ENTRY_KEYS):
        LOG.warning("%s: %s", where, problem)
    return entry


def _where(number: int) -> str:
    return f"ContainerImagePrepare, entry {number}"


def _environment(environment: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Return the environment with ``entry`` alone."""
    alone = {name: value for name, value in entry.items() if name != "multi_arch"}
    defaults = {**_parameters(environment), "ContainerImagePrepare": [alone]}
    return {**environment, "parameter_defaults": defaults}


def _multi_arch(environment: dict[str, Any], entry: dict[str, Any], default: bool) -> bool:
    """Return what an entry itself says or else whether there are more architectures."""
    more = default or bool(_parameters(environment).get("AdditionalArchitectures"))
    return bool(entry.get("multi_arch", more))


def _lock(lock: Any) -> Any:
    # NOTE: tripleo-common's own uploader crashes without one.
    return lock or threadinglock.ThreadingLock()
