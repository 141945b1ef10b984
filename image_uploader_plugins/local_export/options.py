# SPDX-License-Identifier: Apache-2.0
"""The options of ``[local_export]``."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

DRIVER = "local-export"
"""The driver's name among the entry points."""

GROUP = "local_export"

ROOT = "/var/lib/image-serve"
DEFAULT_ARCHITECTURE = "amd64"
LEASE_TIMEOUT = 24 * 60 * 60
ONE_WRITER = False
PARTIAL_LIMIT = 20 * 1000**3
PARTIAL_DAYS = 7

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
            "Seconds for which a layer that no manifest names yet is protected from being "
            "collected. Must be longer than the longest upload of one image; too short a "
            "time makes a delete beside a slow upload remove layers, and the upload fail."
        ),
    ),
    cfg.IntOpt(
        "partial_limit",
        default=PARTIAL_LIMIT,
        min=0,
        help=(
            "Bytes that may be kept, all in all, of layers whose fetch broke off, so that the "
            "next one fetches the rest alone. The oldest go first. 0 keeps nothing."
        ),
    ),
    cfg.IntOpt(
        "partial_days",
        default=PARTIAL_DAYS,
        min=1,
        help="Days after which what was kept of a layer whose fetch broke off is removed.",
    ),
    cfg.BoolOpt(
        "one_writer",
        default=ONE_WRITER,
        help=(
            "Whether somebody sees to it that just one machine writes to the tree at a time. "
            "Two that write lose each other's tags unless both see the same locks, so writing "
            "is refused where they may not: on file systems of a network whose locks stay on "
            "one machine (FUSE, NFS mounted with nolock or local_lock, cifs with nobrl, 9p, "
            "virtiofs and others), and where there are no locks at all; there, also two "
            "processes of one machine must not write at a time."
        ),
    ),
]


def list_opts() -> list[tuple[str | None, list[Any]]]:
    """Return the options, for the entry-point group ``oslo.config.opts``."""
    return [(GROUP, list(_OPTIONS))]


def values(conf: Any) -> Any:
    """Return the group's values in ``conf``, an oslo.config ConfigOpts."""
    conf.register_opts(_OPTIONS, group=GROUP)
    return conf[GROUP]
