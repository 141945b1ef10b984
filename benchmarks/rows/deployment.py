# SPDX-License-Identifier: Apache-2.0
"""The images of a deployment, copied for the first time and again without a change."""

from __future__ import annotations

import dataclasses
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks import heads, servers
from benchmarks.copiers import CURLS, SYNC, UPLOAD, UPLOAD_ALONE, Copiers
from benchmarks.data import MB, Pushed
from benchmarks.measurement import Contender, MeasurementError, measure
from benchmarks.results import Case, Figures, Row
from benchmarks.workshop import Workshop


def measured(workshop: Workshop) -> Row:
    """Measure both cases."""
    images = workshop.deployment()
    blobs = {blob for image in images for blob in image.blobs}
    size = sum(blob.size for blob in blobs) // MB
    copiers = Copiers(workshop.source.address, images)
    return Row(
        "deployment",
        f"The images of a deployment: {len(images)} images, {len(blobs)} blobs, {size} MB",
        [_fresh(workshop, copiers), _unchanged(workshop, copiers, images)],
        [
            "Only image-uploader looks for signatures of the images, unless --no-referrers is "
            "given, which leaves the same work as the others have.",
            "Neither skopeo nor tripleo-common's export flushes what it writes. skopeo's "
            "directory has each image whole.",
        ],
    )


def _fresh(workshop: Workshop, copiers: Copiers) -> Case:
    contenders = [
        copiers.upload(),
        copiers.upload_alone(),
        copiers.sync(),
        copiers.prepare(),
        copiers.tripleo_export(),
        copiers.skopeo_to_registry(),
        copiers.skopeo_to_directory(),
        copiers.curls(),
    ]
    case = Case("Copied for the first time", UPLOAD, limit=CURLS)
    return workshop.bench.compare(case, contenders, workshop.settings.runs)


def _unchanged(workshop: Workshop, copiers: Copiers, images: list[Pushed]) -> Case:
    source = workshop.source.address
    kept = workshop.bench.new_folder()
    synced = workshop.bench.new_folder()
    copiers.run_upload(kept)
    copiers.run_sync(synced)
    heads_only = f"{len(images)} HEAD on one connection"
    with ExitStack() as stack:
        contenders = [
            Contender(UPLOAD, lambda _: copiers.run_upload(kept), is_ours=True),
            Contender(
                UPLOAD_ALONE, lambda _: copiers.run_upload(kept, signatures=False), is_ours=True
            ),
            Contender(SYNC, lambda _: copiers.run_sync(synced), is_ours=True),
            _skopeo_again(workshop, copiers, stack),
            Contender(heads_only, lambda folder: _heads(folder, source, images)),
        ]
        case = Case("Copied again, nothing changed", UPLOAD, limit=heads_only)
        return workshop.bench.compare(case, contenders, workshop.settings.runs)


def _skopeo_again(workshop: Workshop, copiers: Copiers, stack: ExitStack) -> Contender:
    """Return skopeo with a registry that has all the images, until the end of ``stack``."""
    contender = copiers.skopeo_to_registry()
    if contender.missing:
        return contender
    target = stack.enter_context(servers.docker_registry(workshop.bench.new_folder()))
    try:
        copiers.run_skopeo(workshop.bench.new_folder(), target.address)
    except MeasurementError as e:
        return dataclasses.replace(contender, missing=str(e))
    return Contender(contender.name, lambda folder: copiers.run_skopeo(folder, target.address))


def _heads(folder: Path, source: str, images: list[Pushed]) -> Figures:
    """Ask for each manifest's digest with the interpreter that runs our command."""
    file = folder / "images.json"
    file.write_text(json.dumps([[image.name, image.tag, image.digest] for image in images]))
    return measure([sys.executable, "-I", heads.__file__, source, file], folder)
