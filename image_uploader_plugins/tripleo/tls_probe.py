# SPDX-License-Identifier: Apache-2.0
"""A probe whether a target speaks TLS, for parameters that tripleo-common writes."""

from __future__ import annotations

import ssl
from typing import Any

import certifi
import urllib3

from image_uploader_plugins import errors
from image_uploader_plugins.sources.session import Session

_TIMEOUT = 30  # seconds, tripleo-common's


def learn(uploader: Any, host: str) -> None:
    """Find out whether ``host`` speaks TLS, and say so in the class's three sets.

    As tripleo-common's is_insecure_registry does, which reads whatever is answered.
    """
    if host in uploader.secure_registries | uploader.insecure_registries:
        return
    if host in uploader.no_verify_registries:
        return
    found = uploader.insecure_registries
    for verify, kind in (
        (True, uploader.secure_registries),
        (False, uploader.no_verify_registries),
    ):
        try:
            with (
                Session(context=_context(verify=verify), read_timeout=_TIMEOUT) as asking,
                asking.send("GET", f"https://{host}", {}),
            ):
                pass
        except urllib3.exceptions.SSLError:
            continue
        except (urllib3.exceptions.HTTPError, OSError, ValueError, errors.TransferTooSlow):
            found = uploader.secure_registries  # it may be away for the moment
        else:
            found = kind
        break
    found.add(host)


def _context(*, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
