# SPDX-License-Identifier: Apache-2.0
"""What the records of a run add up to."""

from __future__ import annotations

import pytest

from image_uploader_plugins.runs.records import (
    BlobRecord,
    ImageRecord,
    Kind,
    Outcome,
    Status,
    Totals,
)


def image(
    status: Status, *blobs: tuple[Kind, Outcome, int | None], fetched: int = 0
) -> ImageRecord:
    records = [
        BlobRecord(f"sha256:{number:064}", kind, "a/type", size, outcome)
        for number, (kind, outcome, size) in enumerate(blobs)
    ]
    return ImageRecord("from", "driver", status, bytes_fetched=fetched, blobs=records)


COPIED = image(
    Status.COPIED,
    (Kind.CONFIG, Outcome.FETCHED, 10),
    (Kind.LAYER, Outcome.FETCHED, 1000),
    (Kind.LAYER, Outcome.MOUNTED, 200),
    (Kind.LAYER, Outcome.PRESENT, None),
    (Kind.LAYER, Outcome.SKIPPED, 5000),
    fetched=1500,
)
UNCHANGED = image(
    Status.UNCHANGED, (Kind.CONFIG, Outcome.PRESENT, 3), (Kind.LAYER, Outcome.PRESENT, 40)
)
FAILED = image(
    Status.FAILED,
    (Kind.LAYER, Outcome.MOUNTED, 100),
    (Kind.LAYER, Outcome.FAILED, 7),
    (Kind.LAYER, Outcome.SKIPPED, 7),
    fetched=2,
)
WRITTEN = image(Status.COPIED, (Kind.LAYER, Outcome.WRITTEN, 10**6))
NEVER_BEGUN = image(Status.SKIPPED)


def test_all_images_add_up() -> None:
    totals = Totals.of([COPIED, UNCHANGED, FAILED, WRITTEN, NEVER_BEGUN], 2.04)
    assert totals == Totals(
        images=3,
        layers_uploaded=1,
        layers_mounted=4,
        bytes_fetched=1502,
        bytes_saved=343,
        seconds=2.04,
        layers_elsewhere=1,
        images_failed=1,
    )
    assert str(totals) == (
        "3 images, 1 layers uploaded, 4 layers mounted, 1.5 kB fetched, 343 B saved, 2.0 seconds; "
        "1 layers are elsewhere, clients get them by their urls; 1 image failed"
    )


@pytest.mark.parametrize("images", [[], [NEVER_BEGUN]])
def test_nothing_was_done(images: list[ImageRecord]) -> None:
    assert str(Totals.of(images, 0)) == (
        "0 images, 0 layers uploaded, 0 layers mounted, 0 B fetched, 0 B saved, 0.0 seconds"
    )
