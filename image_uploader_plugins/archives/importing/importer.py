# SPDX-License-Identifier: Apache-2.0
"""Copying the images of an archive into a driver."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import NamedTuple

from image_uploader_plugins import errors, media_types, parallel
from image_uploader_plugins.archives.archive import Archive, MissingBlobs
from image_uploader_plugins.archives.importing.plan import Job
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.transfers import Transfers
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.runs.journal import Journal

# Of indexes that list the same again, each is small and takes as long as what it lists.
MANIFESTS_LIMIT = 100_000


class Inspected(NamedTuple):
    """Images of an archive of which everything has been read and is intact.

    ``absent`` are blobs that only the target may have.
    """

    archive: Archive
    jobs: Sequence[Job]
    absent: dict[RepositoryName, set[Descriptor]]

    def copy_to(self, driver: UploaderDriver, name: str, journal: Journal) -> None:
        """Copy each image to the driver, which has that ``name``, and note it in the journal.

        Raises MissingBlobs, before any is copied, and what a Copier does.
        """
        missing: set[Digest] = set()
        for repository, blobs in self.absent.items():
            digests = {blob.digest for blob in blobs}
            missing |= digests - driver.mount_layers(repository, blobs)
        if missing:
            raise MissingBlobs(sorted(missing))
        # Indexes that list the same images again are many in a repository of nightly builds.
        settled: dict[RepositoryName, set[Digest]] = collections.defaultdict(set)
        planned = [(job, journal.plan(str(job), name)) for job in self.jobs]
        with Transfers() as transfers:
            for job, record in planned:
                with journal.turn(record) as meter:
                    copier = Copier(
                        driver,
                        job.repository,
                        self.archive,
                        record,
                        meter,
                        settled=settled[job.repository],
                        transfers=transfers,
                    )
                    copier.copy(job.descriptor, job.tag, all_platforms=True)
                journal.tell(record)


def inspect(archive: Archive, jobs: Sequence[Job]) -> Inspected:
    """Read everything that is to be imported, each blob once; nothing is written anywhere.

    A target verifies as well, but image by image: what is wrong with the last
    one must not be found out after the first is there.  Raises ArchiveInvalid.
    """
    present: set[Descriptor] = set()
    absent: dict[RepositoryName, set[Descriptor]] = collections.defaultdict(set)
    count = 0
    for image, repository in dict.fromkeys((job.descriptor, job.repository) for job in jobs):
        for part, _ in archive.parts(image):
            count += 1
            if count > MANIFESTS_LIMIT:
                reason = f"lists more than {MANIFESTS_LIMIT} manifests, all in all"
                raise errors.ArchiveInvalid(archive.files.path, reason)
            archive.check_layers(part)
            _note_elsewhere(archive, repository, part)
            for blob in part.blobs():
                if archive.holds(blob.digest):
                    present.add(Descriptor(media_types.OCTET_STREAM, blob.digest, blob.size))
                else:
                    absent[repository].add(blob)
    for _ in parallel.each(archive.verify, sorted(present, key=lambda blob: blob.digest)):
        pass
    return Inspected(archive, jobs, dict(absent))


def _note_elsewhere(archive: Archive, repository: RepositoryName, part: Manifest) -> None:
    elsewhere = sum(bool(layer.urls) for layer in part.layers)
    if elsewhere:
        archive.notes.append(
            f"{repository}@{part.digest}: {elsewhere} of {len(part.layers)} layers are not "
            "imported: clients get them from the URLs in the manifest"
        )
