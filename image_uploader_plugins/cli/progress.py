"""Telling how far a run has come: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import TextIO

from image_uploader_plugins.copying import Summary, size
from image_uploader_plugins.text import one_line


class Progress:
    """An Observer for image_uploader_plugins.tripleo that writes to ``stream``.

    As a context manager it gives the terminal's line back at the end.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._on_terminal = stream.isatty()
        self._total = Summary()
        self._failed = 0

    def __call__(self, image: str, summary: Summary, error: BaseException | None) -> None:
        self._total.add(summary)
        self._failed += error is not None
        if not self._on_terminal:
            outcome = "failed" if error else _outcome(summary)
            self._write(f"{one_line(image)}: {outcome}\n")
            return
        failed = f", {self._failed} failed" if self._failed else ""
        self._write(
            f"\r\x1b[K{self._total.images} images{failed}, "
            f"{size(self._total.bytes_fetched)} fetched, {size(self._total.bytes_saved)} saved"
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_terminal:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _outcome(summary: Summary) -> str:
    return (
        f"{summary.layers_uploaded} layers uploaded, {summary.layers_mounted} mounted, "
        f"{size(summary.bytes_fetched)} fetched"
    )
