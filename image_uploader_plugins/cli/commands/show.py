# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader show``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterator
from typing import Any

from cliff.columns import FormattableColumn

from image_uploader_plugins import errors
from image_uploader_plugins.cli import arguments, progress
from image_uploader_plugins.cli.base import ShowOne
from image_uploader_plugins.cli.cells import Size, Words
from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.reports.holdings import Holdings, Image
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import completeness
from image_uploader_plugins.manifest import ARTIFACT, IMAGE, LIST, SCHEMA1, Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, Tag
from image_uploader_plugins.text import one_line
from image_uploader_plugins.units import age, rfc_3339, size

_HOST = "127.0.0.1:8787"
_SHARERS = 3
_COMMAND_LIMIT = 1000  # characters: names and digests are never cut
_LIMIT = 200  # characters of a stranger's text in a line

_COLUMNS = (
    *("Image", "Tags", "Digest", "Media type", "Kind", "Platforms", "Elsewhere"),
    *(
        "Size",
        "Own",
        "Shared",
        "Changed",
        "Created",
        "Config",
        "Layers",
        "Images",
        "Referrers",
        "Annotations",
        "Labels",
    ),
    *("Pull", "Complete", "Notes"),
)


class Show(LocalTree, ShowOne):
    """Show one image of a tree of local-export: what it consists of, and whether it is complete.

    Own is what a delete would free, Shared what other images hold as well.
    Layers come with the images of the repository and the other repositories
    that share them; a list comes with its images, each of which can be shown by
    its digest. Elsewhere are the platforms that were left out on purpose. Notes
    tell what else was, and what clients get from elsewhere. The exit status is
    1 where something that the image needs is missing or has the wrong size or,
    with --verify, the wrong content.
    """

    examples = (
        "image-uploader show prometheus/node-exporter:v1.3.1",
        "image-uploader show --verify -f json base:1.0",
        "image-uploader show --host https://registry.example.com -c Pull -f value base:1.0",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "image",
            type=arguments.image,
            metavar="IMAGE",
            help="REPOSITORY:TAG or REPOSITORY@DIGEST",
        )
        parser.add_argument(
            "--host",
            type=arguments.address,
            default=_HOST,
            metavar="ADDRESS",
            help="where the tree is served, for the commands to pull with: host and maybe port, "
            "with https:// before it where it speaks TLS (default: %(default)s)",
        )
        parser.add_argument(
            "--verify", action="store_true", help="read all content and compare it with its digest"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, ...]:
        wanted: ImageRef = parsed_args.image
        with (
            self.tree(parsed_args, look=True) as tree,
            progress.metered(self.app.stderr, self.meter, quiet=self.quiet),
        ):
            holdings = Holdings(tree, wanted.repository)
            found = _find(holdings, wanted)
            if found.manifest is None or found.digest is None:
                raise errors.ManifestInvalid(f"{found}: {found.problem}")
            hashing = parsed_args.verify
            problems = list(
                completeness.problems(tree, holdings, found.digest, self.meter, hashing=hashing)
            )
            notes = holdings.notes(found.digest)
            is_whole = not holdings.left_out(found.digest)
            for problem in problems:
                self.complain(f"{found}: {problem}")
            sharers = _sharers(tree, holdings, found.manifest)
            for names in sharers.values():
                names.discard(str(found))
        return _COLUMNS, (
            *_summary(holdings, found, found.manifest),
            *_parts(holdings, found, found.manifest, sharers),
            Words(_commands(found, parsed_args.host, is_whole=is_whole), _COMMAND_LIMIT),
            not problems,
            Words(notes, _COMMAND_LIMIT),
        )


class _Lines(FormattableColumn[list[dict[str, Any]]]):
    """Several things that have fields: a line each in a table."""

    def human_readable(self) -> str:
        return "\n".join(
            "  ".join(one_line(str(part), _LIMIT) for part in self.parts(**fields) if part)
            for fields in self._value
        )

    def parts(self, **fields: Any) -> Iterator[Any]:
        raise NotImplementedError


class _Blobs(_Lines):
    def parts(self, **fields: Any) -> Iterator[Any]:
        yield fields["digest"]
        yield size(fields["size"])
        yield fields["media_type"]
        shared = fields.get("shared_with", [])
        more = f" and {len(shared) - _SHARERS} more" if len(shared) > _SHARERS else ""
        yield f"shared with {', '.join(shared[:_SHARERS])}{more}" if shared else ""


class _Manifests(_Lines):
    def parts(self, **fields: Any) -> Iterator[Any]:
        yield fields["digest"]
        yield fields.get("platform", "")
        yield fields.get("artifact_type") or fields["media_type"]
        absent = "elsewhere" if fields.get("left_out") else "missing"
        yield "" if fields.get("present", True) else absent


class _Notes(FormattableColumn[dict[str, str]]):
    """Names and values, as a manifest or configuration has them."""

    def human_readable(self) -> str:
        return "\n".join(one_line(f"{k}={v}", _LIMIT) for k, v in self._value.items())


class _Moment(FormattableColumn[float]):
    """A moment, in seconds since the epoch."""

    def human_readable(self) -> str:
        elapsed = age(max(0, int(time.time() - self._value)))
        return f"{self.machine_readable()} ({elapsed} ago)"

    def machine_readable(self) -> str:  # type: ignore[override]
        return rfc_3339(self._value)


def _sharers(tree: Tree, holdings: Holdings, manifest: Manifest) -> dict[Digest, set[str]]:
    """Return who shares each layer: images of the repository, and names of other repositories.

    Which of their images it is would take reading all manifests of the tree.
    """
    found: dict[Digest, set[str]] = {layer.digest: set() for layer in manifest.layers}
    for who, digest in holdings.uses(found.keys()):
        found[digest].add(who)
    for name in tree.repositories():
        repository = tree.repository(name)
        for digest, sharers in found.items() if name != holdings.name else ():
            if repository.blob(digest):
                sharers.add(name.value)
    return found


def _find(holdings: Holdings, wanted: ImageRef) -> Image:
    if isinstance(wanted.reference, Tag):
        known = wanted.reference in holdings.tags
        found = list(holdings.tagged(wanted.reference)) if known else []
    else:
        found = list(holdings.by_digest(wanted.reference))
    if not found:
        raise errors.ImageUnknown(f"no such image: {wanted}", wanted)
    return found[0]


def _summary(holdings: Holdings, found: Image, manifest: Manifest) -> Iterator[Any]:
    created = holdings.config(manifest).get("created", "") if found.kind == IMAGE else ""
    tags = holdings.tags_of(found.digest) if found.digest else []
    yield str(found)
    yield Words([tag.value for tag in tags])
    yield str(found.digest)
    yield manifest.media_type
    yield found.kind
    yield Words(found.platforms)
    yield Words(found.elsewhere)
    yield from map(Size, (found.size, found.own, found.shared))
    yield _Moment(found.changed)
    yield one_line(created, _LIMIT) if isinstance(created, str) else ""


def _parts(
    holdings: Holdings, found: Image, manifest: Manifest, sharers: dict[Digest, set[str]]
) -> Iterator[Any]:
    yield _Blobs([_blob(holdings, manifest.config)] if manifest.config else [])
    yield _Blobs(
        [
            {**_blob(holdings, layer), "shared_with": sorted(sharers[layer.digest])}
            for layer in manifest.layers
        ]
    )
    left = holdings.left_out(found.digest) if found.digest else frozenset()
    yield _Manifests([_child(holdings, child, left) for child in manifest.manifests])
    yield _Manifests([_referrer(holdings, digest) for digest in found.referrers])
    yield _Notes(dict(manifest.annotations))
    yield _Notes(_labels(holdings, manifest) if found.kind == IMAGE else {})


def _blob(holdings: Holdings, blob: Descriptor) -> dict[str, Any]:
    return {
        "digest": str(blob.digest),
        "size": holdings.size(blob),
        "media_type": blob.media_type,
    }


def _child(holdings: Holdings, child: Descriptor, left: Collection[Digest]) -> dict[str, Any]:
    return {
        "digest": str(child.digest),
        "platform": str(child.platform),
        "media_type": child.media_type,
        "present": child.digest in holdings.manifests,
        "left_out": child.digest in left,
    }


def _referrer(holdings: Holdings, digest: Digest) -> dict[str, Any]:
    manifest = holdings.manifests[digest]
    artifact_type = manifest.artifact_type or (
        manifest.config.media_type if manifest.config else ""
    )
    return {
        "digest": str(digest),
        "media_type": manifest.media_type,
        "artifact_type": artifact_type,
    }


def _labels(holdings: Holdings, manifest: Manifest) -> dict[str, str]:
    settings = holdings.config(manifest).get("config")
    labels = settings.get("Labels") if isinstance(settings, dict) else None
    pairs = labels.items() if isinstance(labels, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, str)}


def _commands(found: Image, host: str, *, is_whole: bool) -> Iterator[str]:
    """Yield a command to pull the image for each client that knows its kind."""
    every = found.kind == LIST and is_whole
    scheme, _, address = host.rpartition("://")
    plain = scheme != "https"
    name = f"{address}/{found}"
    where = f"dir:{found.name.value.rpartition('/')[2]}"
    skopeo = "skopeo copy" + (" --src-tls-verify=false" if plain else "")
    podman = "podman pull" + (" --tls-verify=false" if plain else "")
    if found.kind in (IMAGE, LIST, SCHEMA1):
        yield f"{podman} {name}"
        yield f"docker pull {name}"
    yield f"{skopeo}{' --all' if every else ''} docker://{name} {where}"
    if found.kind in (IMAGE, LIST):
        yield f"ctr images pull{' --plain-http' if plain else ''} {name}"
    if found.kind == ARTIFACT:
        yield f"oras pull{' --plain-http' if plain else ''} {name}"
