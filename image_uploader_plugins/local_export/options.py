# SPDX-License-Identifier: Apache-2.0
"""The options of ``[local_export]``."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

from image_uploader_plugins import option_values

DRIVER = "local-export"
"""The driver's name among the entry points."""

GROUP = "local_export"

ROOT = "/var/lib/image-serve"
DEFAULT_ARCHITECTURE = "amd64"
LEASE_TIMEOUT = 24 * 60 * 60
ONE_WRITER = False
PARTIAL_LIMIT = 20 * 1000**3
PARTIAL_DAYS = 7
TITLE = ""

_OPTIONS = [
    cfg.StrOpt(
        "root",
        default=ROOT,
        help=(
            "The directory that holds the tree, as an absolute path. It is created where it "
            "is missing. Point the web server's document root at it. Hard links are made "
            "below it, so keep it on one file system; across several, content is copied."
        ),
    ),
    cfg.StrOpt(
        "default_architecture",
        default=DEFAULT_ARCHITECTURE,
        help=(
            "The architecture, in Go's spelling (amd64, arm64, s390x, ...), of the image "
            "that a client gets by tag when the tag stands for several architectures and "
            "the client does not know manifest lists. Without such an image, the first of "
            "the list is offered. Takes effect for a tag when the tag is written."
        ),
    ),
    cfg.IntOpt(
        "lease_timeout",
        default=LEASE_TIMEOUT,
        min=60,
        help=(
            "Seconds for which a layer that no manifest names yet is not removed as garbage. "
            "Must be longer than the longest upload of one image: otherwise, a delete during "
            "a slow upload may remove its layers, and the upload fails."
        ),
    ),
    cfg.IntOpt(
        "partial_limit",
        default=PARTIAL_LIMIT,
        min=0,
        help=(
            "How many bytes of unfinished layers are kept in total, so that the next run fetches "
            "only the rest of them. The oldest are removed first. 0 keeps none."
        ),
    ),
    cfg.IntOpt(
        "partial_days",
        default=PARTIAL_DAYS,
        min=1,
        help="Days after which the kept part of an unfinished layer is removed.",
    ),
    cfg.StrOpt(
        "title",
        default=TITLE,
        max_length=100,
        help=(
            'The name of the registry that its page shows, for example "Images of site B". '
            "Where it is empty, the page shows the host that the browser asks. Set it in the "
            "configuration of every program that writes to the tree: each writes the page with "
            "its own."
        ),
    ),
    cfg.BoolOpt(
        "one_writer",
        default=ONE_WRITER,
        help=(
            "Set this to true if you make sure that only one machine writes to the tree at a "
            "time. Machines that do not see each other's locks lose tags of each other. So "
            "writing is refused on network file systems whose locks stay on one machine (FUSE, "
            "NFS mounted with nolock or local_lock, cifs with nobrl, 9p, virtiofs and others), "
            "and on file systems without locks, unless this is true. On file systems without "
            "locks, make sure that only one process writes at a time."
        ),
    ),
]


def list_opts() -> list[tuple[str | None, list[Any]]]:
    """Return the options, for the entry-point group ``oslo.config.opts``."""
    return [(GROUP, list(_OPTIONS))]


def values(conf: Any) -> Any:
    """Return the group's values in ``conf``, an oslo.config ConfigOpts.

    Raises ConfigurationError for one that cannot be.
    """
    conf.register_opts(_OPTIONS, group=GROUP)
    option_values.check(conf, GROUP, _OPTIONS)
    return conf[GROUP]


def choose_root(conf: Any, root: str) -> None:
    """Have ``conf`` name the tree in a folder; raises ConfigurationError as values() does."""
    values(conf)
    conf.set_override("root", root, group=GROUP)
