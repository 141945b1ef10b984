# SPDX-License-Identifier: Apache-2.0
"""Which servers are believed to be who they say they are, and asked in the clear.

Sources: containers-certs.d(5), containers-registries.conf(5), dockerd(8)
("Insecure registries").
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import certifi

from image_uploader_plugins import errors
from image_uploader_plugins.sources.registries_conf import RegistriesConf
from image_uploader_plugins.text import shown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOG = logging.getLogger(__name__)

CERTIFICATES = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))

# Variables by which users of requests and curl name their own CAs.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class _Bundle(NamedTuple):
    """A file or folder of CAs, in errors called ``what``; empty for the machine's own.

    The ``identity`` tells one that was replaced from the one before.
    """

    path: Path
    what: str
    identity: tuple[int, ...]


class Trust:
    """The certificates and the exceptions of this machine.

    ``insecure`` are registries, ``host[:port]``, and networks, as
    ``192.168.24.0/24``, that the operator named: they are not verified, and
    asked by http where they do not speak TLS.  Raises ConfigurationError for
    what is neither.
    """

    def __init__(
        self,
        insecure: Iterable[str] = (),
        *,
        certificates: Iterable[Path] = CERTIFICATES,
        registries_conf: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._folders = tuple(certificates)
        self._registries_conf = RegistriesConf(registries_conf, environment)
        self._environment = dict(os.environ if environment is None else environment)
        names = [name.strip().lower().rpartition("://")[2].rstrip("/") for name in insecure]
        self._named = frozenset(name for name in names if "/" not in name)
        self._networks = [_network(name) for name in names if "/" in name]

    def is_insecure(self, registry: str) -> bool:
        """Return whether the operator named a registry as one that need not be verified.

        Networks are for addresses: what a name leads to is not the operator's word.
        """
        registry = registry.lower()
        found = address(registry)
        # The files last: what reads them takes long to load.
        return (
            _is_among(registry, self._named)
            or (found is not None and any(found in network for network in self._networks))
            or _is_among(registry, self._registries_conf.insecure)
        )

    def may_be_plain(self, registry: str) -> bool:
        """Return whether a registry may be asked by http, if it does not speak TLS."""
        return self.is_insecure(registry) or is_loopback(registry)

    def unverified(self, address: str) -> ssl.SSLContext:
        """Return how TLS is spoken with ``host[:port]`` whoever it is; warns once of each."""
        return _unverified(address)

    def verified(self, address: str, folder: Path | None = None) -> ssl.SSLContext:
        """Return how TLS is spoken with ``host[:port]``; raises ConfigurationError.

        ``folder`` has its certificates where they are not in certs.d.
        """
        if folder:
            own = _files_in(folder, must_exist=True)
        else:
            own = [path for place in self._folders for path in _files_in(place / address)]
        bundles = _bundles(self._environment)
        if not own:
            return _shared(bundles)
        context = _believing(bundles)
        for path in own:
            _load_own(context, path)
        return context


def is_loopback(registry: str) -> bool:
    """Return whether ``host[:port]`` is this machine, by its address or as localhost."""
    if _host(registry).lower().removesuffix(".") == "localhost":
        return True
    found = address(registry)
    return found is not None and found.is_loopback


def address(registry: str) -> Address | None:
    """Return the address in ``host[:port]``, as the system reads it; None for a name."""
    host = _host(registry)
    try:
        found = ipaddress.ip_address(host)
        return getattr(found, "ipv4_mapped", None) or found
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.inet_aton(host))  # 127.1 is 127.0.0.1
    except (OSError, ValueError):
        return None


def _network(name: str) -> _Network:
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        raise errors.ConfigurationError(
            f"insecure registries: {shown(name)} is neither host, host:port nor a network"
        ) from None


def _is_among(registry: str, names: Collection[str]) -> bool:
    return registry in names or any(
        name.startswith("*.") and registry.endswith(name[1:]) for name in names
    )


def _host(registry: str) -> str:
    if registry.startswith("["):
        return registry[1:].partition("]")[0]
    return registry.partition(":")[0] if registry.count(":") == 1 else registry


@functools.cache
def _unverified(address: str) -> ssl.SSLContext:
    LOG.warning("%s is insecure as configured: its certificate is not verified", address)
    # NOTE: ssl.create_default_context() would read the CAs of this machine first.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _bundles(environment: Mapping[str, str]) -> tuple[_Bundle, ...]:
    """Return where the CAs are that hold for all servers, each place once.

    What the operator named comes first, since only its errors are told. All
    variables may name one file.  Source: OpenSSL,
    SSL_CTX_set_default_verify_paths(3).
    """
    usual = ssl.get_default_verify_paths()
    places = {name: environment.get(name, "") for name in _BUNDLES}
    if usual.openssl_cafile_env not in environment:
        places[""] = usual.openssl_cafile
    found: dict[Path, str] = {}
    for name, place in places.items():
        if place:
            found.setdefault(Path(place).resolve(), name and f"{name}={place}")
    folders = environment.get(usual.openssl_capath_env, usual.openssl_capath)
    for place in filter(None, folders.split(os.pathsep)):
        found.setdefault(Path(place).resolve(), "")
    return tuple(_Bundle(path, what, _identity(path)) for path, what in found.items())


def _identity(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _believing(bundles: Iterable[_Bundle]) -> ssl.SSLContext:
    first = Path(certifi.where()).resolve()
    context = ssl.create_default_context(cafile=str(first))
    # A CA between root and server may be all that is trusted, as for podman and docker.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # NOTE: from Python 3.13 on the default refuses CAs without a key usage, which are
    # what "openssl req -x509" makes; podman and docker take them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for bundle in bundles:
        try:
            if bundle.path != first:
                _load(context, bundle.path, bundle.what)
        except errors.ConfigurationError:
            if bundle.what:
                raise
    return context


# To read the CAs of a machine takes a twentieth of a second, which each server would cost again.
_shared = functools.lru_cache(maxsize=8)(_believing)


def _load(context: ssl.SSLContext, path: Path, what: str) -> None:
    try:
        if path.is_dir():
            context.load_verify_locations(capath=str(path))
        else:
            context.load_verify_locations(cafile=str(path))
    except OSError as e:  # an SSLError is one
        reason = "holds no certificate in PEM" if isinstance(e, ssl.SSLError) else e.strerror
        raise errors.ConfigurationError(f"{what}: {reason}") from None


def _files_in(folder: Path, *, must_exist: bool = False) -> list[Path]:
    """Return CAs (``*.crt``) and clients' certificates (``NAME.cert`` with ``NAME.key``)."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in (".crt", ".cert"))
    except OSError as e:
        if isinstance(e, FileNotFoundError | NotADirectoryError) and not must_exist:
            return []
        raise errors.ConfigurationError(f"cannot read {folder}: {e.strerror}") from None


def _load_own(context: ssl.SSLContext, path: Path) -> None:
    if path.suffix == ".crt":
        _load(context, path, str(path))
    else:
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
