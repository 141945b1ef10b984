"""What the host does with a registry before anything is copied, with bounds."""

from __future__ import annotations

from typing import Any

import requests
from tripleo_common.image import exception

from image_uploader_plugins import errors, session

_TIMEOUT = 30  # seconds, the host's


def learn(uploader: Any, host: str) -> None:
    """Find out whether ``host`` speaks TLS, and say so in the class's three sets.

    As the host's is_insecure_registry does, which reads whatever is answered.
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
                session.untrusting(attempts=0) as asking,
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
            kind = uploader.secure_registries  # it may be away for the moment
        found = kind
        break
    found.add(host)


def authenticate(uploader: Any, *args: Any) -> requests.Session:
    """The host's authenticate() with a session of ours; what it trips over has a name.

    The session is the last of ``args``.

    Raises UploaderError, and what the host raises on purpose.
    """
    try:
        authenticated: requests.Session = uploader.authenticate(*args)
    except (errors.UploaderError, requests.RequestException, exception.ImageUploaderException):
        raise
    except Exception as e:
        # NOTE: the host takes the answers apart without looking, and raises Exception.
        raise errors.UploaderError(f"cannot log in: {e or type(e).__name__}") from e
    return authenticated
