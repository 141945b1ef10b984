"""``image-uploader show``."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping, Sequence

from image_uploader_plugins.cli import cells
from image_uploader_plugins.cli.command import ShowOne
from image_uploader_plugins.local_export import description
from image_uploader_plugins.local_export.description import Description, Layer, Member
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify.contents import Contents
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import ImageRef

_SOMEWHERE = "HOST:PORT"


class Show(ShowOne):
    """Show an image in the tree of local-export, by tag or digest.

    What a registry gave, such as labels, is one line each and has escapes for
    what does not print; json and yaml have it as it is.

    The exit status is 1 where the image is not complete: a manifest or blob
    is missing or has the wrong size or, with --verify, the wrong content.
    """

    examples = (
        "image-uploader show prometheus/node-exporter:v1.3.1",
        "image-uploader show --verify --host 192.168.24.1:8787 --plain-http base:1.0",
        "image-uploader show -f json -c Layers base:1.0",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("image", metavar="IMAGE", help="REPOSITORY:TAG or REPOSITORY@DIGEST")
        parser.add_argument(
            "--verify", action="store_true", help="read every blob and compare it with its digest"
        )
        parser.add_argument(
            "--host",
            default=_SOMEWHERE,
            metavar="HOST[:PORT]",
            help="where the tree is served, for the commands that pull (default: %(default)s)",
        )
        parser.add_argument(
            "--plain-http", action="store_true", help="have them do without TLS there"
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[object]]:
        ref = ImageRef.parse(parsed_args.image)
        with contextlib.closing(Tree.existing(self.conf)) as tree:
            contents = Contents(tree.storage, lambda done, total: None)
            check = contents.problem if parsed_args.verify else None
            found = description.describe(tree, ref, check)
        for problem in found.problems:
            self.complain(f"{ref}: {problem}")
        fields = {
            **_identity(found, flat=parsed_args.formatter in cells.FLAT),
            **_content(found),
            "Annotations": cells.Pairs(dict(found.manifest.annotations)),
            "Labels": cells.Pairs(found.labels),
            "Pull": cells.Values(_pull(found, parsed_args.host, plain=parsed_args.plain_http)),
            "Complete": cells.YesNo(not found.problems),
            "Problems": cells.Lines(list(found.problems)),
        }
        return tuple(fields), tuple(fields.values())


def _identity(found: Description, *, flat: bool) -> Mapping[str, object]:
    image, artifact_type = found.image, found.manifest.artifact_type
    return {
        "Image": str(image.ref),
        "Digest": str(image.digest),
        "Tags": cells.Words([str(tag) for tag in found.tags]),
        "Kind": image.kind,
        "Media type": found.manifest.media_type,
        "Artifact type": cells.line(artifact_type or "") if flat else cells.Text(artifact_type),
        "Platforms": cells.Words(list(image.platforms)),
        "Written": cells.Moment(image.written),
    }


def _content(found: Description) -> Mapping[str, object]:
    image, parsed = found.image, found.manifest
    return {
        "Size": cells.Size(image.size),
        "Own": cells.Size(image.own),
        "Shared": cells.Size(image.shared),
        "Config": cells.Records(
            [_descriptor(parsed.config)] if parsed.config else [], _content_line
        ),
        "Layers": cells.Records(list(map(_layer, found.layers)), _layer_line),
        "Manifests": cells.Records(list(map(_member, found.children)), _member_line),
        "Subject": cells.Records(
            [_descriptor(parsed.subject)] if parsed.subject else [], _content_line
        ),
        "Referrers": cells.Records(list(map(_member, found.referrers)), _member_line),
    }


def _descriptor(described: Descriptor) -> cells.Record:
    return {
        "digest": str(described.digest),
        "media_type": described.media_type,
        "size": described.size,
    }


def _layer(layer: Layer) -> cells.Record:
    return {
        "digest": str(layer.digest),
        "media_type": layer.media_type,
        "size": layer.size,
        "shared_with": list(layer.shared_with),
    }


def _member(member: Member) -> cells.Record:
    return {
        "digest": str(member.digest),
        "media_type": member.media_type,
        "size": member.size,
        "platform": member.platform,
        "artifact_type": member.artifact_type,
        "present": member.present,
    }


def _content_line(record: cells.Record) -> str:
    size = "" if record["size"] is None else "  " + cells.Size(record["size"]).human_readable()
    return f"{record['digest']}{size}"


def _layer_line(record: cells.Record) -> str:
    shared: list[str] = record["shared_with"]
    return _content_line(record) + (f"  shared with {cells.some(shared)}" if shared else "")


def _member_line(record: cells.Record) -> str:
    words = (record["platform"], record["artifact_type"], "" if record["present"] else "MISSING")
    return "  ".join([_content_line(record), *filter(None, words)])


def _pull(found: Description, host: str, *, plain: bool) -> dict[str, str]:
    """Commands that fetch the image from where the tree is served, by the client's name."""
    ref = found.image.ref
    name, local = f"{host}/{ref}", str(ref.repository).rpartition("/")[2]
    insecure = {
        "podman": "--tls-verify=false ",
        "skopeo": "--src-tls-verify=false ",
        "ctr": "--plain-http ",
        "oras": "--plain-http ",
    }
    option = {client: text if plain else "" for client, text in insecure.items()}
    several = "--all " if found.manifest.is_index else ""
    skopeo = f"skopeo copy {several}{option['skopeo']}docker://{name} oci:{local}"
    if found.image.kind == "artifact":
        return {"skopeo": skopeo, "oras": f"oras pull {option['oras']}{name}"}
    return {
        "podman": f"podman pull {option['podman']}{name}",
        "docker": f"docker pull {name}",
        "skopeo": skopeo,
        "ctr": f"ctr images pull {option['ctr']}{name}",
    }
