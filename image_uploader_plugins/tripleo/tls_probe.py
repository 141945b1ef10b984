# SPDX-License-Identifier: Apache-2.0
"""A probe whether a target speaks TLS, for parameters that tripleo-common writes."""

from __future__ import annotations

from typing import Any

import requests

from image_uploader_plugins import errors
from image_uploader_plugins.sources import session

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
                session.untrusting() as asking,
                asking.get(
                    f"https://{host}",
                    timeout=_TIMEOUT,
                    verify=verify,
                    stream=True,
                    allow_redirects=False,
                ),
            ):
                pass
        except requests.exceptions.SSLError:
            continue
        except (requests.RequestException, errors.TransferTooSlow):
            found = uploader.secure_registries  # it may be away for the moment
        else:
            found = kind
        break
    found.add(host)
