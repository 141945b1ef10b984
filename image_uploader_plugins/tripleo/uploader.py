# SPDX-License-Identifier: Apache-2.0
"""tripleo-common's uploader with a driver for its target."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import ParseResult

import requests
from tripleo_common.image import exception, image_uploader

from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import ImageRef
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import INTERRUPTED, ImageRecord, Status
from image_uploader_plugins.sources.keychain import Keychain, named
from image_uploader_plugins.sources.registries import Registries, Registry
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.tripleo import buildah, mirrors, modification
from image_uploader_plugins.tripleo.containers_storage import LocalStorage
from image_uploader_plugins.tripleo.failures import combined, failed, tripleo_errors

CREDENTIALS = "ContainerImageRegistryCredentials"
_GRACE = 3  # seconds for transfers in flight to end when the run is told to

_of_worker: dict[str, Registries] = {}
"""In a worker process, which serves one run: its registries, by the name of an uploader."""

OpenDriver = Callable[[], contextlib.AbstractContextManager[UploaderDriver]]


class PluginImageUploader(image_uploader.PythonImageUploader):  # type: ignore[misc]
    """Copies the images of its tasks into a driver.

    ``open_driver`` is called once a run, ``options`` once, in the process that
    runs it.  No request ever goes to the target.
    Lives at module level, and is pickled without what a worker does not need:
    tripleo-common's ProcessLock pickles it.
    """

    def __init__(
        self,
        open_driver: OpenDriver,
        name: str = "",
        journal: Journal | None = None,
        options: Callable[[], CopyOptions] = CopyOptions,
    ) -> None:
        super().__init__()
        self._open_driver: OpenDriver | None = open_driver
        self._name = name
        self._journal: Journal | None = journal or Journal()
        self._find_options: Callable[[], CopyOptions] | None = options
        self._options: CopyOptions | None = None
        self._registries: Registries | None = None
        self._queue: list[tuple[Any, ImageRecord]] = []

    def __getstate__(self) -> dict[str, Any]:
        left = ("_open_driver", "_find_options", "_journal", "_registries")
        return {**self.__dict__, **dict.fromkeys(left), "_queue": []}

    # -- what tripleo-common calls

    def add_upload_task(self, task: Any) -> None:
        """Queue an UploadTask; raises ImageUploaderException for one that cannot work."""
        self.add(task, self._plan(task))

    def upload_image(self, task: Any) -> list[str]:
        """Run one UploadTask; returns the local images to clean up."""
        with self._opened() as driver:
            done = self._work(driver, task, self._plan(task))
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
        with self._opened() as driver:
            for done in self._run_all(driver, queue):
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

    def open_registries(self) -> Registries:
        """Return the registries to copy from, to be closed; raises ConfigurationError."""
        return registries_for(self, self.options.settings)

    def _delete(self, image_url: ParseResult, session: requests.Session | None = None) -> Any:
        if image_url.scheme != "docker":
            return super()._delete(image_url, session)
        with tripleo_errors(image_url.geturl()), self._opened() as driver:
            return driver.delete(ImageRef.parse(image_url.path.removeprefix("/")))

    # -- running tasks

    @property
    def journal(self) -> Journal:
        """Return the run's journal; in a worker process one of its own, which nobody reads."""
        if self._journal is None:
            self._journal = Journal()
        return self._journal

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
        modification.check(task, job)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[UploaderDriver]:
        if self._open_driver is None:
            raise RuntimeError("the copy in a worker process is given its driver")
        with tripleo_errors("target"):
            context = self._open_driver()
            self._registries = self.open_registries()
        with context as driver, contextlib.closing(self._registries):
            yield driver

    def _wished(self, task: Any) -> CopyOptions:
        """Return the options of a run with what a task's entry wishes; others' have no wishes."""
        return dataclasses.replace(self.options, **getattr(task, "wishes", {}))

    @property
    def options(self) -> CopyOptions:
        """Return how images are copied, found out once; raises ConfigurationError."""
        if self._options is None and self._find_options:
            self._options = self._find_options()
        return self._options or CopyOptions()

    def _registry(self, name: str) -> Registry:
        if self._registries is None:  # in a worker process, where each task has its own uploader
            if self._name not in _of_worker:
                _of_worker[self._name] = registries_for(self, self.options.settings)
            self._registries = _of_worker[self._name]
        return self._registries.registry(name)

    def _run_all(
        self, driver: UploaderDriver, queue: list[tuple[Any, ImageRecord]]
    ) -> Iterator[_Done]:
        pool = self._get_executor()
        in_process = isinstance(pool, concurrent.futures.ThreadPoolExecutor)
        run = _run if in_process else _run_and_close
        jobs = {pool.submit(run, self, driver, task, record): record for task, record in queue}
        try:
            for job in concurrent.futures.as_completed(jobs):
                yield _result(job, jobs[job])
        except BaseException:
            self.journal.meter.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            # Transfers end at their next piece; those of silent servers are not waited for.
            running = [job for job in jobs if not job.cancelled()]
            concurrent.futures.wait(running, timeout=_GRACE)
            raise
        pool.shutdown()

    def _work(self, driver: UploaderDriver, task: Any, record: ImageRecord) -> _Done:
        """Run one task against an open driver; errors come out as tripleo-common knows them."""
        try:
            with self.journal.turn(record) as meter, tripleo_errors(task.image_name):
                local_images = self._run_task(driver, task, record, meter)
        except Exception as e:
            failed(record, e)
            return _Done(record, error=e)
        return _Done(record, local_images)

    def _run_task(
        self, driver: UploaderDriver, task: Any, record: ImageRecord, meter: Meter
    ) -> list[str]:
        job = self.job(task)
        record.targets = [job.served]
        if job.is_local:
            self._copy_local(driver, job, job.source, record)
            return []
        if task.modify_role:
            return self._modify(driver, job, task, record, meter)
        self._copy(driver, job, record, meter, self._wished(task), task.multi_arch)
        return []

    def _copy(
        self,
        driver: UploaderDriver,
        job: Job,
        record: ImageRecord,
        meter: Meter,
        options: CopyOptions,
        multi_arch: bool = False,
    ) -> Manifest:
        registry = self._registry(job.host)
        source = RegistrySource(registry, str(job.name), meter)
        copier = Copier(driver, job.target, source, record, meter, options)
        try:
            return copier.copy(job.reference, job.tag, all_platforms=bool(multi_arch))
        finally:
            record.insecure = not registry.is_verified

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
        self, driver: UploaderDriver, job: Job, task: Any, record: ImageRecord, meter: Meter
    ) -> list[str]:
        """Copy the image as it is, modify it here, and copy the outcome under ``job.tag``."""
        plain = self.job(modification.Unmodified(task))
        modified, unmodified = job.served, plain.served
        record.targets = [unmodified, modified]
        unsigned = dataclasses.replace(self._wished(task), signatures=False)
        manifest = self._copy(driver, plain, record, meter, unsigned)
        record.become(Status.FAILED, INTERRUPTED, retryable=True)  # there is more to come
        pulled = buildah.pull(self._registry(job.host), job, manifest.digest)
        buildah.tag(pulled, unmodified)
        self.run_modify_playbook(
            task.modify_role,
            task.modify_vars,
            unmodified,
            unmodified,
            task.append_tag,
            container_build_tool="buildah",
        )
        self._copy_local(driver, job, modified, record)
        return modification.left_over(task, [pulled, unmodified], modified)


def registries_for(uploader: Any, settings: Settings) -> Registries:
    """Return registries with the credentials and mirrors that tripleo-common gave an uploader.

    Raises ConfigurationError.
    """
    keychain = Keychain(named(uploader.registry_credentials or {}, CREDENTIALS))
    found = {name: mirrors.checked(url, settings.trust) for name, url in uploader.mirrors.items()}
    return Registries(dataclasses.replace(settings, keychain=keychain, mirrors=found))


@dataclasses.dataclass
class _Done:
    """The result of a task: its record, and what tripleo-common needs."""

    record: ImageRecord
    local_images: list[str] = dataclasses.field(default_factory=list)
    error: Exception | None = None


def _run(
    uploader: PluginImageUploader, driver: UploaderDriver, task: Any, record: ImageRecord
) -> _Done:
    return uploader._work(driver, task, record)


def _run_and_close(
    uploader: PluginImageUploader, driver: UploaderDriver, task: Any, record: ImageRecord
) -> _Done:
    with driver:  # a copy that came to this process for the one task
        return uploader._work(driver, task, record)


def _result(job: concurrent.futures.Future[_Done], record: ImageRecord) -> _Done:
    """Return a task's outcome; ``record`` is brought up to date from a worker process's copy."""
    try:
        done = job.result()
    except Exception as e:
        failed(record, e)
        return _Done(record, error=e)
    vars(record).update(vars(done.record))
    return dataclasses.replace(done, record=record)
