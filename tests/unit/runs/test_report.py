# SPDX-License-Identifier: Apache-2.0
"""The report is the JSON of its fields, and is written without being held as a whole."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path

import pytest

from image_uploader_plugins import files
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.runs import report
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import (
    BlobRecord,
    ChildRecord,
    Ending,
    ImageRecord,
    Kind,
    Outcome,
    RunRecord,
    Status,
)

MANY = 1000
LAYERS = 6


def image(number: int) -> ImageRecord:
    digest = Digest.of(b"%d" % number)
    record = ImageRecord(f"registry.example.org/ns/image{number}:1.0", "local-export")
    record.become(Status.COPIED)
    record.targets, record.digest = [f"ns/image{number}:1.0"], digest.value
    for layer in range(LAYERS):
        blob = Descriptor("application/x", Digest.of(b"%d of %d" % (layer, number)), number)
        record.blobs.append(BlobRecord.of(blob, Kind.LAYER, Outcome.FETCHED, 'a "quoted"\nreason'))
    record.children.append(ChildRecord(digest.value, "application/x", None, "linux/amd64"))
    return record


def run(*images: ImageRecord, left: tuple[str, ...] = ()) -> RunRecord:
    return RunRecord("upload", 1.0, 2.0, Ending.FAILED, 'a ] } , "why"', images, left)


@pytest.mark.parametrize("left", [(), ("one", "two")])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_parts_are_the_json_of_the_fields(count: int, left: tuple[str, ...]) -> None:
    images = [image(number) for number in range(count)]
    text = "".join(report.parts(run(*images, left=left)))
    fields = json.loads(text)
    assert text == json.dumps(fields, indent=2) + "\n"
    assert fields["images"] == [dataclasses.asdict(image) for image in images]
    assert fields["entries_left"] == list(left)
    assert list(fields)[-2:] == ["images", "entries_left"]
    assert fields["summary"]["images"] == {
        "total": count,
        **{status.value: count * (status is Status.COPIED) for status in Status},
    }
    assert fields["summary"]["layers"]["fetched"] == {
        "count": LAYERS * count,
        "bytes": sum(LAYERS * number for number in range(count)),
    }


def test_a_report_of_many_images_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        journal = Journal()
        for number in range(MANY):
            made, planned = image(number), journal.plan("", "")
            for field in dataclasses.fields(planned):
                setattr(planned, field.name, getattr(made, field.name))
        records, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        files.write(tmp_path / "report", report.parts(journal.run("upload", Ending.FAILED, None)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "report").stat().st_size > records / 2
    assert peak < 1.2 * records


def test_images_that_share_layers_share_the_digest() -> None:
    blobs = [
        BlobRecord.of(
            Descriptor("application/x", Digest("sha256:" + f"{7:064}"), 1),
            Kind.LAYER,
            Outcome.MOUNTED,
        )
        for _ in range(2)
    ]
    assert blobs[0].digest is blobs[1].digest
    assert blobs[0].media_type is blobs[1].media_type
