# SPDX-License-Identifier: Apache-2.0
"""The options of commands that copy images from registries."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from image_uploader_plugins import errors
from image_uploader_plugins.copying.run_options import (
    CopyOptions,
    read_artifact_types,
    read_platforms,
)

_CLEANUP = ("full", "partial", "none")
_ONE = "linux/amd64 alone, or what is first, without its index"


def add_options(
    parser: argparse.ArgumentParser, *, multi_arch: bool = False, platforms: str = _ONE
) -> None:
    """Add what images are called in the target, and what of them is copied.

    With ``multi_arch`` there is that option, too; ``platforms`` says what
    those are without any option.
    """
    parser.add_argument(
        "--full-names",
        action="store_true",
        help="have names in the target begin with the registry (quay.io/namespace/name), of "
        "every image whose entry does not say names: path itself",
    )
    _add_platforms(parser.add_mutually_exclusive_group(), platforms, multi_arch=multi_arch)
    _add_signatures(parser.add_mutually_exclusive_group())
    parser.add_argument(
        "--foreign-layers",
        action="store_true",
        help="fetch layers that clients would get elsewhere, by the URLs in the manifest (as "
        "Windows has them), too",
    )
    parser.add_argument(
        "--check-present",
        action="store_true",
        help="read the blobs that the target holds already, and fetch those anew whose content "
        "is damaged (default: their names and sizes are believed)",
    )


def _add_platforms(
    group: argparse._MutuallyExclusiveGroup, default: str, *, multi_arch: bool
) -> None:
    if multi_arch:
        group.add_argument(
            "--multi-arch",
            action="store_true",
            help="copy all platforms of each image whose entry does not say multi_arch or "
            "platforms itself, as --platform all does",
        )
    group.add_argument(
        "--platform",
        action=_Names,
        read=read_platforms,
        metavar="OS/ARCHITECTURE",
        help="copy these platforms alone of an image for several, with its digest as it is, of "
        "each image whose entry does not say otherwise: as linux/amd64,linux/arm64, also given "
        f"several times; or all (default: {default})",
    )


def _add_signatures(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument(
        "--no-signatures",
        "--no-referrers",
        action="store_true",
        help="leave behind what signs and describes images: cosign's signatures, attestations "
        "and SBOMs, and whatever else refers to them",
    )
    group.add_argument(
        "--referrers",
        action=_Names,
        read=read_artifact_types,
        metavar="TYPE",
        help="of what signs and describes images copy these types of artifacts alone, with what "
        "signs them: as application/vnd.dev.sigstore.bundle.v0.3+json, several with commas, "
        "also given several times",
    )


class _Names(argparse.Action):
    """Keeps what ``read`` returns for all the texts that were given, () for none."""

    def __init__(self, *args: Any, read: Callable[[list[str]], object], **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "default": ()})
        self._read = read
        self._texts: list[str] = []

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, _: object = None
    ) -> None:
        self._texts.append(values)
        try:
            setattr(namespace, self.dest, self._read(self._texts))
        except errors.InvalidReference as e:
            raise argparse.ArgumentError(self, str(e)) from e


def add_cleanup(parser: argparse.ArgumentParser) -> None:
    """Add what is removed from local storage."""
    parser.add_argument(
        "--cleanup",
        choices=_CLEANUP,
        default=_CLEANUP[0],
        help="what to remove from local storage after images were modified: all of them, "
        "all but the modified ones, or none (default: %(default)s)",
    )


def copy_options(parsed_args: argparse.Namespace) -> CopyOptions:
    """Return how images are copied, as the command line says."""
    return CopyOptions(
        check_present=parsed_args.check_present,
        signatures=not parsed_args.no_signatures,
        foreign_layers=parsed_args.foreign_layers,
        full_names=parsed_args.full_names,
        platforms=parsed_args.platform or None,
        artifact_types=parsed_args.referrers,
    )


def all_platforms(parsed_args: argparse.Namespace) -> bool:
    """Return whether the command line says that all platforms are copied."""
    return parsed_args.platform is None or getattr(parsed_args, "multi_arch", False)
