# SPDX-License-Identifier: Apache-2.0
"""Docker Hub's mirror, as a deployment names it."""

from __future__ import annotations

import re
import urllib.parse

from image_uploader_plugins import errors
from image_uploader_plugins.sources.image_name import is_address
from image_uploader_plugins.sources.trust import Trust
from image_uploader_plugins.text import shown

PARAMETER = "DockerRegistryMirror"


def checked(mirror: object, trust: Trust) -> str:
    """Return a mirror's URL without a slash or the API's path at its end, https if it says none.

    Raises ConfigurationError, also for http unless the host may be asked without TLS.
    """
    if not isinstance(mirror, str):
        raise errors.ConfigurationError(f"{PARAMETER} must be a URL, as https://mirror.example.com")
    text = mirror.strip()
    if "@" in text:
        raise errors.ConfigurationError(
            f"{PARAMETER}: a user and a password do not belong into it; name them in "
            "ContainerImageRegistryCredentials, with the mirror's host"
        )
    text = text if "://" in text else f"https://{text}"
    try:
        parts = urllib.parse.urlsplit(text)
    except ValueError:
        parts = urllib.parse.urlsplit("")
    host = parts.netloc.lower()
    bare = not (parts.query or parts.fragment)
    if parts.scheme not in ("http", "https") or not is_address(host) or not bare:
        raise errors.ConfigurationError(f"{PARAMETER} is no URL of a registry: {shown(text)}")
    if parts.scheme == "http" and not trust.may_be_plain(host):
        raise errors.ConfigurationError(
            f"{PARAMETER}: {host} is not asked in the clear; say https, or name it in "
            "DockerInsecureRegistryAddress or [image_uploader] insecure_registries"
        )
    path = re.sub(r"/+(v2/*)?$", "", parts.path)
    return f"{parts.scheme}://{host}{path}"
