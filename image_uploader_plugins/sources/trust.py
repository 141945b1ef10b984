"""Which servers are believed to be who they say they are, and asked in the clear.

Sources: containers-certs.d(5), containers-registries.conf(5), dockerd(8)
("Insecure registries").
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import ssl
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import certifi

from image_uploader_plugins import errors

LOG = logging.getLogger(__name__)

CERTIFICATES = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))
REGISTRIES_CONF = Path("/etc/containers/registries.conf")

# What requests' and curl's users name for CAs of their own.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class Trust:
    """The certificates and the exceptions of this machine.

    ``insecure`` are registries, ``host[:port]``, that the operator named: they
    are not verified, and asked by http where they do not speak TLS.
    """

    def __init__(
        self,
        insecure: Iterable[str] = (),
        *,
        certificates: Iterable[Path] = CERTIFICATES,
        registries_conf: Path = REGISTRIES_CONF,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._named = frozenset(name.lower().rstrip("/") for name in insecure)
        self._folders = tuple(certificates)
        self._registries_conf = registries_conf
        self._environment = dict(os.environ if environment is None else environment)

    def is_insecure(self, registry: str) -> bool:
        """Whether the operator named a registry as one that need not be verified."""
        registry = registry.lower()
        return registry in self._named or registry in self._insecure_in_files

    def may_be_plain(self, registry: str) -> bool:
        """Whether a registry may be asked by http, if it does not speak TLS."""
        return self.is_insecure(registry) or is_loopback(registry)

    def context(self, address: str) -> ssl.SSLContext:
        """Return how TLS is spoken with ``host[:port]``; raises ConfigurationError."""
        if self.is_insecure(address):
            return _unverified(address)
        return self._verified(address)

    @functools.cached_property
    def _insecure_in_files(self) -> frozenset[str]:
        return frozenset(_insecure(self._registries_conf))

    def _verified(self, address: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        for name in _BUNDLES:
            if bundle := self._environment.get(name):
                _load(context, Path(bundle), f"{name}={bundle}")
        for folder in self._folders:
            _load_folder(context, folder / address)
        return context


def is_loopback(registry: str) -> bool:
    """Whether ``host[:port]`` is this machine, by its address or as localhost."""
    host = _host(registry)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(registry: str) -> str:
    if registry.startswith("["):
        return registry[1:].partition("]")[0]
    return registry.partition(":")[0] if registry.count(":") == 1 else registry


@functools.cache
def _unverified(address: str) -> ssl.SSLContext:
    LOG.warning("%s is insecure as configured: its certificate is not verified", address)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _load(context: ssl.SSLContext, path: Path, what: str) -> None:
    try:
        if path.is_dir():
            context.load_verify_locations(capath=str(path))
        else:
            context.load_verify_locations(cafile=str(path))
    except OSError as e:  # an SSLError is one
        reason = "holds no certificate in PEM" if isinstance(e, ssl.SSLError) else e.strerror
        raise errors.ConfigurationError(f"{what}: {reason}") from None


def _load_folder(context: ssl.SSLContext, folder: Path) -> None:
    """CAs are ``*.crt``; a client's certificate is ``NAME.cert`` with ``NAME.key``."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as e:
        raise errors.ConfigurationError(f"cannot read {folder}: {e.strerror}") from None
    for name in names:
        path = folder / name
        if path.suffix == ".crt":
            _load(context, path, str(path))
        elif path.suffix == ".cert":
            _load_pair(context, path)


def _load_pair(context: ssl.SSLContext, certificate: Path) -> None:
    key = certificate.with_suffix(".key")
    try:
        context.load_cert_chain(certificate, key, password=lambda: _no_password(key))
    except OSError as e:
        reason = "cannot be used together" if isinstance(e, ssl.SSLError) else e.strerror
        raise errors.ConfigurationError(f"{certificate} and {key}: {reason}") from None


def _no_password(key: Path) -> str:
    # OpenSSL would ask on the terminal.
    raise errors.ConfigurationError(f"{key} is encrypted; a client needs a key without a password")


def _insecure(path: Path) -> Iterator[str]:
    """The registries that registries.conf and the files beside it call insecure."""
    beside = path.with_name(path.name + ".d")
    files = [path, *sorted(beside.glob("*.conf"))] if beside.is_dir() else [path]
    for file in files:
        for entry in _registries(file):
            if entry.get("insecure") is True:
                name = entry.get("location") or entry.get("prefix")
                if isinstance(name, str):
                    yield name.partition("/")[0].lower()


def _registries(file: Path) -> list[dict[str, Any]]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get("registry", [])
    except (FileNotFoundError, PermissionError):
        return []
    except (OSError, ValueError) as e:
        LOG.warning("%s is passed over: %s", file, e)
        return []
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []
