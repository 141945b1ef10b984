"""The host's uploader with a driver for its target."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import json
import logging
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import ParseResult, urlparse

import requests
from tripleo_common.image import exception, image_uploader

from image_uploader_plugins import errors
from image_uploader_plugins.copying import Copier, Summary
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.reference import ImageRef
from image_uploader_plugins.source import RegistrySource, is_transient
from image_uploader_plugins.text import one_line
from image_uploader_plugins.tripleo import registries
from image_uploader_plugins.tripleo.job import Job
from image_uploader_plugins.tripleo.local import LocalStorage

LOG = logging.getLogger(__name__)

Observer = Callable[[str, Summary, BaseException | None], None]
"""Told of each image when it is done: its name, what it took, and what went wrong."""

OpenDriver = Callable[[], contextlib.AbstractContextManager[UploaderDriver]]


class PluginImageUploader(image_uploader.PythonImageUploader):  # type: ignore[misc]
    """Copies the images of its tasks into a driver.

    ``open_driver`` is called once a run, in the process that runs it.  No
    request ever goes to the target.  ``summary`` adds up over the runs.
    Lives at module level, and without what a worker does not need: the
    host's ProcessLock pickles it.
    """

    def __init__(self, open_driver: OpenDriver, observer: Observer | None = None) -> None:
        super().__init__()
        self._open_driver: OpenDriver | None = open_driver
        self._observer = observer
        self.summary = Summary()
        self.upload_tasks: list[tuple[PluginImageUploader, Any]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open_driver": None, "_observer": None, "upload_tasks": []}

    # -- what the host calls

    def add_upload_task(self, task: Any) -> None:
        """Queue an UploadTask; raises ImageUploaderException for one that cannot work."""
        with _host_errors(task.image_name):
            job = Job.of(task)
        if task.modify_role and (task.multi_arch or job.is_local or job.tag is None):
            kind = "multi-arch" if task.multi_arch else "local" if job.is_local else "untagged"
            raise exception.ImageUploaderException(
                f"Cannot run a modify role on {kind} image {task.image_name}"
            )
        if not job.is_local:
            self.is_insecure_registry(registry_host=job.host)
        self.upload_tasks.append((self, task))

    @classmethod
    def is_insecure_registry(cls, registry_host: str) -> bool:
        registries.learn(cls, registry_host)
        return bool(super().is_insecure_registry(registry_host))

    def upload_image(self, task: Any) -> list[str]:
        """Run one UploadTask; returns the local images to clean up."""
        with self._opened() as driver:
            local_images, summary = self.run_task(driver, task)
        self.summary.add(summary)
        return local_images

    def run_tasks(self) -> None:
        """Run what is queued; all of it, also when some of it fails.

        Raises the failure, or an ImageUploaderException that tells of all.
        """
        tasks = [task for _, task in self.upload_tasks]
        self.upload_tasks = []
        if not tasks:
            return
        started = time.monotonic()
        local_images: list[str] = []
        failures: list[Exception] = []
        with self._opened() as driver:
            for task, result in self._run_all(driver, tasks):
                if isinstance(result, Exception):
                    failures.append(result)
                    self._tell(task, Summary(), result)
                else:
                    local_images.extend(result[0])
                    self.summary.add(result[1])
                    self._tell(task, result[1], None)
        self.summary.seconds += time.monotonic() - started
        self.cleanup(local_images)
        if failures:
            raise combined(failures, len(tasks))

    def _delete(self, image_url: ParseResult, session: requests.Session | None = None) -> Any:
        if image_url.scheme != "docker":
            return super()._delete(image_url, session)
        with _host_errors(image_url.geturl()), self._opened() as driver:
            return driver.delete(ImageRef.parse(image_url.path.removeprefix("/")))

    # -- running tasks

    @contextlib.contextmanager
    def _opened(self) -> Iterator[UploaderDriver]:
        if self._open_driver is None:
            raise RuntimeError("the copy in a worker process is given its driver")
        with _host_errors("target"):
            context = self._open_driver()
        with context as driver:
            yield driver

    def _run_all(
        self, driver: UploaderDriver, tasks: list[Any]
    ) -> Iterator[tuple[Any, tuple[list[str], Summary] | Exception]]:
        with self._get_executor() as pool:
            in_process = isinstance(pool, concurrent.futures.ThreadPoolExecutor)
            run = _run if in_process else _run_and_close
            jobs = {pool.submit(run, self, driver, task): task for task in tasks}
            try:
                for job in concurrent.futures.as_completed(jobs):
                    try:
                        result: tuple[list[str], Summary] | Exception = job.result()
                    except Exception as e:
                        result = e
                    yield jobs[job], result
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _tell(self, task: Any, summary: Summary, error: BaseException | None) -> None:
        if self._observer:
            self._observer(task.image_name, summary, error)
        elif error:
            LOG.error("%s", error)

    def run_task(self, driver: UploaderDriver, task: Any) -> tuple[list[str], Summary]:
        """Run one task against an open driver; errors come out as the host knows them."""
        with _host_errors(task.image_name):
            job = Job.of(task)
            if job.is_local:
                return [], self._copy_local(driver, job, job.source)
            if task.modify_role:
                return self._modify(driver, job, task)
            return [], self._copy(driver, job, task.multi_arch)[1]

    def _copy(self, driver: UploaderDriver, job: Job, multi_arch: bool) -> tuple[Digest, Summary]:
        source = self._source(job)
        with contextlib.closing(source):
            copier = Copier(driver, job.target, source)
            manifest = copier.copy(job.reference, job.tag, all_platforms=bool(multi_arch))
        return manifest.digest, copier.summary

    def _source(self, job: Job) -> RegistrySource:
        image_url = urlparse(f"docker://{job.host}/{job.name}:{job.reference}")
        username, password = self.credentials_for_registry(job.host)

        def authenticate() -> requests.Session:
            self._forget_token(f"repository:{job.name}:pull")
            return registries.authenticate(self, image_url, username, password)

        return RegistrySource(self._build_url(image_url, f"/{job.name}"), authenticate)

    def _forget_token(self, scope: str) -> None:
        # NOTE: the host hands out a cached token again after the registry refused it.
        if self.lock:
            with self.lock.get_lock():
                self.lock.sessions().pop(scope, None)

    # -- images on this machine

    def _copy_local(self, driver: UploaderDriver, job: Job, name: str) -> Summary:
        storage = LocalStorage(self._containers_file_path, self._layer_stream_local)
        written = storage.upload(name, driver, job.target, job.tag)
        return Summary(images=1, bytes_fetched=written)

    def _modify(self, driver: UploaderDriver, job: Job, task: Any) -> tuple[list[str], Summary]:
        """Copy the image as it is, modify it here, and copy the outcome under ``job.tag``."""
        plain = Job.of(_Unmodified(task))
        digest, summary = self._copy(driver, plain, multi_arch=False)
        modified, unmodified = job.served, plain.served
        pulled = self._pull(job, digest)
        self._buildah("tag", pulled, unmodified)
        self.run_modify_playbook(
            task.modify_role,
            task.modify_vars,
            unmodified,
            unmodified,
            task.append_tag,
            container_build_tool="buildah",
        )
        summary.add(self._copy_local(driver, job, modified))
        local_images = []
        if task.cleanup in (image_uploader.CLEANUP_FULL, image_uploader.CLEANUP_PARTIAL):
            local_images += [pulled, unmodified]
        if task.cleanup == image_uploader.CLEANUP_FULL:
            local_images.append(modified)
        return local_images, summary

    def _pull(self, job: Job, digest: Digest) -> str:
        """Pull from the source, into local storage: the target need not be served yet."""
        url = urlparse(self._build_url(urlparse(f"docker://{job.host}"), "/"))
        name = f"{url.netloc}/{job.name}@{digest}"
        arguments = []
        if url.scheme == "http" or url.netloc in self.no_verify_registries:
            arguments.append("--tls-verify=false")
        with tempfile.TemporaryDirectory(prefix="image-uploader-") as private:
            username, password = self.credentials_for_registry(job.host)
            if username:
                authfile = Path(private) / "auth.json"
                authfile.write_text(_authfile(url.netloc, username, password))
                arguments.append(f"--authfile={authfile}")
            self._buildah("pull", *arguments, f"docker://{name}")
        return name

    def _buildah(self, *arguments: str) -> None:
        command = ["buildah", *arguments]
        # Its arguments went through the grammars of Job, and no shell is asked.
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise exception.ImageUploaderException(
                f"{' '.join(command)} failed: {done.stderr.strip()}"
            )


def _authfile(registry: str, username: str, password: str) -> str:
    """containers-auth.json(5)."""
    token = base64.b64encode(f"{username}:{password}".encode()).decode()
    return json.dumps({"auths": {registry: {"auth": token}}})


class _Unmodified:
    """An UploadTask without what it appends to the tag."""

    append_tag = ""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def _run(
    uploader: PluginImageUploader, driver: UploaderDriver, task: Any
) -> tuple[list[str], Summary]:
    return uploader.run_task(driver, task)


def _run_and_close(
    uploader: PluginImageUploader, driver: UploaderDriver, task: Any
) -> tuple[list[str], Summary]:
    with driver:  # a copy that came to this process for the one task
        return uploader.run_task(driver, task)


def combined(failures: list[Exception], total: int) -> Exception:
    """One error for all ``failures`` out of ``total`` images."""
    if len(failures) == 1:
        return failures[0]
    reasons = "; ".join(sorted(str(failure) for failure in failures))
    error: Exception = exception.ImageUploaderException(
        f"{len(failures)} of {total} images failed: {reasons}"
    )
    return error


@contextlib.contextmanager
def _host_errors(subject: str) -> Iterator[None]:
    """Raise errors as the host expects them, with ``subject`` named.

    What may work the next time is a requests HTTPError, a missing image an
    ImageNotFoundException, everything else an ImageUploaderException.
    """
    try:
        yield
    except (errors.UploaderError, requests.RequestException) as e:
        about = one_line(": ".join([subject, *getattr(e, "__notes__", ()), str(e)]))
        if isinstance(e, errors.ImageUnknown):
            raise exception.ImageNotFoundException(about) from e
        if getattr(getattr(e, "response", None), "status_code", None) == 401:
            about += " (credentials are missing or wrong, or there is no such image)"
        if is_transient(e):
            raise requests.exceptions.HTTPError(about) from e
        raise exception.ImageUploaderException(about) from e
    except exception.ImageUploaderException as e:
        about = str(e) if subject in str(e) else f"{subject}: {e}"
        raise type(e)(one_line(about)) from e
