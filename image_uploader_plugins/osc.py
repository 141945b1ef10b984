# SPDX-License-Identifier: Apache-2.0
"""A plugin of python-openstackclient that adds no command.

``openstack`` imports everything in the entry-point group
``openstack.cli.extension``, so its ``tripleo container image`` commands find
our drivers.  Source: python-openstackclient, "Plugins".
"""

from __future__ import annotations

import argparse

API_NAME = "image_uploader_plugins"
API_VERSION_OPTION = "os_image_uploader_plugins_api_version"
DEFAULT_API_VERSION = "1"
API_VERSIONS = {DEFAULT_API_VERSION: "image_uploader_plugins.osc"}


def make_client(instance: object) -> None:
    """Return no client: there is no service to talk to."""


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Give every upload manager of tripleo-common our drivers; return the parser as it is.

    Of the hooks of a plugin this is the one that is called for all commands.
    """
    try:
        from image_uploader_plugins import tripleo  # noqa: PLC0415
    except ImportError:
        return parser  # without tripleo-common there is nothing to extend
    tripleo.install()
    return parser
