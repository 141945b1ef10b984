# SPDX-License-Identifier: Apache-2.0
"""tripleo-common's uploader with a driver for its target."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import ParseResult

import requests
from tripleo_common.image import exception, image_uploader

from image_uploader_plugins.copying.engine import Engine
from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import ImageRef
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import INTERRUPTED, ImageRecord, Status
from image_uploader_plugins.sources.keychain import Keychain, named
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.tripleo import buildah, mirrors, modification
from image_uploader_plugins.tripleo.containers_storage import LocalStorage
from image_uploader_plugins.tripleo.failures import combined, failed, tripleo_errors

CREDENTIALS = "ContainerImageRegistryCredentials"
OpenDriver = Callable[[], contextlib.AbstractContextManager[UploaderDriver]]


class PluginImageUploader(image_uploader.PythonImageUploader):  # type: ignore[misc]
    """Copies the images of its tasks into a driver.

    ``open_driver`` is called once a run, and ``options`` once.  No request
    ever goes to the target.  Whatever lock tripleo-common was given, images
    are copied by threads of this process.
    """

    def __init__(
        self,
        open_driver: OpenDriver,
        name: str = "",
        journal: Journal | None = None,
        options: Callable[[], CopyOptions] = CopyOptions,
    ) -> None:
        super().__init__()
        self._open_driver = open_driver
        self._name = name
        self.journal = journal or Journal()
        self._find_options = options
        self._queue: list[tuple[Any, ImageRecord]] = []

    # -- what tripleo-common calls

    def add_upload_task(self, task: Any) -> None:
        """Queue an UploadTask; raises ImageUploaderException for one that cannot work."""
        self.add(task, self._plan(task))

    def upload_image(self, task: Any) -> list[str]:
        """Run one UploadTask; returns the local images to clean up."""
        with self._opened() as opened:
            done = self._work(opened, (task, self._plan(task)))
        if done.error:
            raise done.error
        return done.local_images

    def run_tasks(self) -> None:
        """Run what is queued; all of it, also when some of it fails.

        Raises the failure, or an ImageUploaderException that tells of all.
        """
        queue, self._queue = self._queue, []
        if not queue:
            return
        local_images: list[str] = []
        failures: list[Exception] = []
        with self._opened() as opened:
            for done in opened.engine.each(functools.partial(self._work, opened), queue):
                if done.error:
                    failures.append(done.error)
                local_images.extend(done.local_images)
                self.journal.tell(done.record)
        self.cleanup(local_images)
        if failures:
            raise combined(failures, len(queue))

    def job(self, task: Any) -> Job:
        """Return what an UploadTask asks for; raises InvalidReference."""
        return Job.of(task, full_names=self._wished(task).full_names)

    def keeps_index(self, task: Any) -> bool:
        """Return whether an UploadTask asks for an index as such, with all platforms or some."""
        return bool(task.multi_arch or self._wished(task).platforms)

    def open_registries(self) -> Registries:
        """Return the registries to copy from, to be closed; raises ConfigurationError."""
        return registries_for(self, self.options.settings)

    def _delete(self, image_url: ParseResult, session: requests.Session | None = None) -> Any:
        if image_url.scheme != "docker":
            return super()._delete(image_url, session)
        with tripleo_errors(image_url.geturl()), self._opened() as opened:
            return opened.driver.delete(ImageRef.parse(image_url.path.removeprefix("/")))

    # -- running tasks

    def _plan(self, task: Any) -> ImageRecord:
        return self.journal.plan(task.image_name, self._name)

    def add(self, task: Any, record: ImageRecord) -> None:
        """Queue an UploadTask that a journal knows; raises ImageUploaderException."""
        try:
            self._check(task)
        except exception.ImageUploaderException as e:
            failed(record, e)
            raise
        self._queue.append((task, record))

    def _check(self, task: Any) -> None:
        with tripleo_errors(task.image_name):
            job = self.job(task)
        modification.check(task, job, keeps_index=self.keeps_index(task))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[_Open]:
        with tripleo_errors("target"):
            context = self._open_driver()
            registries = self.open_registries()
        with (
            context as driver,
            contextlib.closing(registries),
            Engine(driver, registries, self.journal.meter) as engine,
        ):
            yield _Open(driver, registries, engine)

    def _wished(self, task: Any) -> CopyOptions:
        """Return the options of a run with what a task's entry wishes; others' have no wishes."""
        return dataclasses.replace(self.options, **getattr(task, "wishes", {}))

    @functools.cached_property
    def options(self) -> CopyOptions:
        """Return how images are copied, found out once; raises ConfigurationError."""
        return self._find_options()

    def _work(self, opened: _Open, queued: tuple[Any, ImageRecord]) -> _Done:
        """Run one task; errors come out as tripleo-common knows them."""
        task, record = queued
        try:
            with self.journal.turn(record) as meter, tripleo_errors(task.image_name):
                local_images = self._run_task(opened, task, record, meter)
        except Exception as e:
            failed(record, e)
            return _Done(record, error=e)
        return _Done(record, local_images)

    def _run_task(self, opened: _Open, task: Any, record: ImageRecord, meter: Meter) -> list[str]:
        job = self.job(task)
        record.targets = [job.served]
        if job.is_local:
            self._copy_local(opened.driver, job, job.source, record)
            return []
        if task.modify_role:
            return self._modify(opened, job, task, record, meter)
        every = bool(task.multi_arch)
        opened.engine.copy(job, record, meter, self._wished(task), all_platforms=every)
        return []

    # -- images on this machine

    def _copy_local(self, driver: UploaderDriver, job: Job, name: str, record: ImageRecord) -> None:
        storage = LocalStorage(
            self._containers_file_path,
            self._layer_stream_local,
            check_present=self.options.check_present,
        )
        put, blobs = storage.upload(name, driver, job.target, job.tag)
        record.digest, record.media_type = str(put.digest), put.media_type
        record.blobs += blobs
        record.become(Status.COPIED)

    def _modify(
        self, opened: _Open, job: Job, task: Any, record: ImageRecord, meter: Meter
    ) -> list[str]:
        """Copy the image as it is, modify it here, and copy the outcome under ``job.tag``."""
        plain = self.job(modification.Unmodified(task))
        modified, unmodified = job.served, plain.served
        record.targets = [unmodified, modified]
        unsigned = dataclasses.replace(self._wished(task), signatures=False)
        manifest = opened.engine.copy(plain, record, meter, unsigned, all_platforms=False)
        record.become(Status.FAILED, INTERRUPTED, retryable=True)  # there is more to come
        pulled = buildah.pull(opened.registries.registry(job.host), job, manifest.digest)
        buildah.tag(pulled, unmodified)
        self.run_modify_playbook(
            task.modify_role,
            task.modify_vars,
            unmodified,
            unmodified,
            task.append_tag,
            container_build_tool="buildah",
        )
        self._copy_local(opened.driver, job, modified, record)
        return modification.left_over(task, [pulled, unmodified], modified)


def registries_for(uploader: Any, settings: Settings) -> Registries:
    """Return registries with the credentials and mirrors that tripleo-common gave an uploader.

    Raises ConfigurationError.
    """
    keychain = Keychain(named(uploader.registry_credentials or {}, CREDENTIALS))
    found = {name: mirrors.checked(url, settings.trust) for name, url in uploader.mirrors.items()}
    return Registries(dataclasses.replace(settings, keychain=keychain, mirrors=found))


@dataclasses.dataclass(frozen=True)
class _Open:
    """What a run has open: its target, its sources, and what copies from these to that."""

    driver: UploaderDriver
    registries: Registries
    engine: Engine


@dataclasses.dataclass
class _Done:
    """The result of a task: its record, and what tripleo-common needs."""

    record: ImageRecord
    local_images: list[str] = dataclasses.field(default_factory=list)
    error: Exception | None = None
