"""The course of a run: what it was to copy, what became of it, and who is told."""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable

from image_uploader_plugins.copying import Summary
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.records import ImageRecord, Status

LOG = logging.getLogger(__name__)

Observer = Callable[[str, Summary, BaseException | None], None]
"""Told of each image when it is done: its name, what it took, and what went wrong."""


class Journal:
    """Everything about one run; the ``observer`` hears of each image.

    ``images`` are in the order in which they were asked for, and
    ``entries_left`` what a run did not come to before it knew the images.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self.observer = observer
        self.meter = Meter()
        self.images: list[ImageRecord] = []
        self.entries_left: list[str] = []

    def plan(self, image: str, uploader: str) -> ImageRecord:
        """An image that is to be copied, by the uploader of that name."""
        record = ImageRecord(image, uploader)
        self.images.append(record)
        return record

    def tell(self, record: ImageRecord, summary: Summary, error: BaseException | None) -> None:
        """An image is done; its record says so already."""
        if self.observer:
            self.observer(record.image, summary, error)
        elif error:
            LOG.error("%s", error)

    def count(self) -> dict[Status, int]:
        """How many images have which status."""
        found = collections.Counter(record.status for record in self.images)
        return {status: found[status] for status in Status}
