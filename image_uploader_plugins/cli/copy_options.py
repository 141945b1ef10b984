# SPDX-License-Identifier: Apache-2.0
"""The options of upload and prepare for copying images."""

from __future__ import annotations

import argparse

from image_uploader_plugins.copying.run_options import CopyOptions

_CLEANUP = ("full", "partial", "none")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what images are called in the target, how they are copied, and what is removed."""
    parser.add_argument(
        "--full-names",
        action="store_true",
        help="have names in the target begin with the registry (quay.io/namespace/name), of "
        "every image whose entry does not say names: path itself",
    )
    parser.add_argument(
        "--no-signatures",
        action="store_true",
        help="leave behind what signs and describes images: cosign's signatures, attestations "
        "and SBOMs, and whatever else refers to them",
    )
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
    )
