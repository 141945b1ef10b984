# SPDX-License-Identifier: Apache-2.0
"""Images that are modified on their way: what they are before, and what is left of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tripleo_common.image import exception, image_uploader

from image_uploader_plugins.copying.job import Job


class Unmodified:
    """An UploadTask without what it appends to the tag."""

    append_tag = ""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def check(task: Any, job: Job, *, keeps_index: bool) -> None:
    """Raise ImageUploaderException for an UploadTask that would modify what cannot be modified."""
    if task.modify_role and (keeps_index or job.is_local or job.tag is None):
        kind = "multi-arch" if keeps_index else "local" if job.is_local else "untagged"
        raise exception.ImageUploaderException(
            f"Cannot run a modify role on {kind} image {task.image_name}"
        )


def left_over(task: Any, before: Sequence[str], modified: str) -> list[str]:
    """Return those of a task's images in local storage that its ``cleanup`` removes.

    ``before`` are the names that the image had until it was ``modified``.
    """
    if task.cleanup == image_uploader.CLEANUP_FULL:
        return [*before, modified]
    return list(before) if task.cleanup == image_uploader.CLEANUP_PARTIAL else []
