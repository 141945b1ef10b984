# SPDX-License-Identifier: Apache-2.0
"""Why nobody answers: what lies behind the errors of requests and urllib3."""

from __future__ import annotations

import re
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import urllib3

from image_uploader_plugins import errors

# TLS alerts are what a server says that speaks TLS.
_ALERT = re.compile(r"ALERT")
# Alerts of a server about a client's certificate that it got: RFC 8446, 6.2.
_REFUSED = re.compile(r"ALERT_(?:\w+_CERTIFICATE|CERTIFICATE_(?!REQUIRED)\w+|UNKNOWN_CA)")
# NOTE: Python before 3.11.4 takes a connection that ends for the end of TLS.
_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
# OpenSSL's errors about a server's certificate: X509_STORE_CTX_get_error(3).
_NOT_NOW = frozenset({9, 10})
_OTHER_NAME = frozenset({62, 64})
# NOTE: http.client says what a proxy answers to CONNECT in no other way.
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})\b")

NAMING = "DockerInsecureRegistryAddress or [image_uploader] insecure_registries"
"""The place where an operator names a registry that need not be verified."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Return an error and all that are behind it, each once, the outermost first."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        here = pending.pop(0)
        if isinstance(here, BaseException) and id(here) not in seen:
            seen.add(id(here))
            yield here
            pending += [*here.args, getattr(here, "reason", None), here.__cause__, here.__context__]


def speaks_tls(error: BaseException | None) -> bool:
    """Return whether a server whose handshake failed with ``error`` spoke TLS all the same.

    It sent an alert, or a certificate that is not trusted; anything else may
    come from a server that speaks plain HTTP.
    """
    return any(isinstance(e, ssl.SSLError) and _is_tls(e) for e in causes(error))


def unreachable(url: str, error: Exception, folder: Path) -> errors.RegistryUnreachable:
    """Return what to say of a request that had no answer, and whether another try can help.

    ``folder`` is where the certificates for that server belong.
    """
    for cause in causes(error):
        if isinstance(cause, urllib3.exceptions.NameResolutionError):
            return errors.RegistryUnreachable(url, f"no such host: {cause.conn.host}", False)
        if isinstance(cause, ssl.SSLError):
            return _tls(url, cause, folder)
        if tunnel := _TUNNEL.search(str(cause)) if isinstance(cause, OSError) else None:
            # The rest of its answer may repeat the request.
            transient = int(tunnel[1]) in errors.TRANSIENT_STATUSES
            return errors.RegistryUnreachable(url, f"the proxy refuses: {tunnel[1]}", transient)
    # Those that are ValueErrors, too, are about what is no URL.
    return errors.RegistryUnreachable(url, _words(error), not isinstance(error, ValueError))


def _words(error: Exception) -> str:
    """Return what the operating system says, if it does, or else what the libraries say."""
    told = (e.strerror for e in causes(error) if isinstance(e, OSError) and e.errno and e.strerror)
    return next(told, str(error))


def _tls(url: str, error: ssl.SSLError, folder: Path) -> errors.RegistryUnreachable:
    advice = _advice(error, urllib.parse.urlsplit(url).netloc, folder)
    broken = isinstance(error, _ENDED)
    return errors.RegistryUnreachable(url, f"TLS: {error}; {advice}", broken)


def _advice(error: ssl.SSLError, host: str, folder: Path) -> str:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error.verify_code, folder, host)
    pair = f"if it wants a client's certificate, put {folder}/client.cert and client.key"
    if isinstance(error, _ENDED):
        # NOTE: an alert is lost where the connection is closed behind it at once.
        return f"if it speaks plain HTTP, name {host} in {NAMING}; {pair}"
    if not _is_tls(error):
        return f"if it speaks plain HTTP, name {host} in {NAMING}"
    if _REFUSED.search(reason):
        return f"it refuses the certificate of this client that is in {folder}"
    return pair


def _unverified(code: int, folder: Path, host: str) -> str:
    if code in _NOT_NOW:
        return "it needs a new certificate, or this machine's clock is wrong"
    if code in _OTHER_NAME:
        return "use a name that is in its certificate"
    return f"put its CA into {folder} or {host} into {NAMING}"


def _is_tls(error: ssl.SSLError) -> bool:
    return isinstance(error, ssl.SSLCertVerificationError) or bool(
        _ALERT.search(error.reason or "")
    )
