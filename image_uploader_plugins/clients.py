"""What clients need to be told for a tree to stand in for a registry.

Sources: containerd's docs/hosts.md, containers-registries.conf(5) and
containers-certs.d(5), K3s' "Private Registry Configuration", dockerd(8).
"""

from __future__ import annotations

import dataclasses
import json
import re
import ssl
import urllib.parse
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from image_uploader_plugins import errors

ALL = "*"
"""In the place of a registry's name: every registry."""

DOCKER_HUB = "docker.io"

_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(
    rf"(?P<host>{_DOMAIN}(?:\.{_DOMAIN})*|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?"
)

Files = dict[PurePosixPath, str]


@dataclasses.dataclass(frozen=True)
class Mirror:
    """A server of a tree, ``http[s]://host[:port]``.

    ``ca`` is the text of the certificate that its own is verified with, None
    for those that the client has; ``insecure`` leaves it unverified.  Raises
    ConfigurationError.
    """

    url: str
    insecure: bool = False
    ca: str | None = None

    def __post_init__(self) -> None:
        scheme, _, rest = self.url.partition("://")
        if scheme not in ("http", "https"):
            raise errors.ConfigurationError(f"a mirror is http:// or https://: {self.url!r:.300}")
        if not is_host(rest):
            raise errors.ConfigurationError(
                f"a mirror is a host and maybe a port, and nothing else: {self.url!r:.300}"
            )
        if scheme == "http" and (self.insecure or self.ca):
            raise errors.ConfigurationError(f"nothing is verified with http: {self.url!r:.300}")

    @property
    def secure(self) -> bool:
        return urllib.parse.urlsplit(self.url).scheme == "https"

    @property
    def address(self) -> str:
        """``host[:port]``."""
        return self.url.partition("://")[2]


def is_host(text: str) -> bool:
    """Whether this is ``host[:port]``, as images and URLs have it."""
    match = _HOST.fullmatch(text)
    return bool(match and len(text) <= 261 and int(match["port"] or 1) in range(1, 2**16))


def certificate(path: Path) -> str:
    """A CA's certificate in PEM; raises ConfigurationError."""
    try:
        text = path.read_text(encoding="ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as e:
        raise errors.ConfigurationError(f"{path} holds no certificate in PEM") from e
    except OSError as e:
        raise errors.ConfigurationError(f"cannot read {path}: {e.strerror}") from e
    return text


def containerd(registry: str, mirror: Mirror) -> Files:
    """One directory for each registry; read anew for every pull."""
    folder = PurePosixPath("/etc/containerd/certs.d", "_default" if registry == ALL else registry)
    lines = [] if registry == ALL else [f"server = {_toml(_upstream(registry))}", ""]
    lines += [f"[host.{_toml(mirror.url)}]", '  capabilities = ["pull", "resolve"]']
    files: Files = {}
    if mirror.ca:
        files[folder / "ca.crt"] = mirror.ca
        lines.append(f"  ca = {_toml(str(folder / 'ca.crt'))}")
    if mirror.insecure:
        lines.append("  skip_verify = true")
    return {folder / "hosts.toml": _text(lines), **files}


def podman(registry: str, mirror: Mirror) -> Files:
    """For podman, buildah, skopeo and CRI-O; raises ConfigurationError for ALL."""
    if registry == ALL:
        raise errors.ConfigurationError("podman has mirrors of named registries only")
    name = _file_name(registry)
    lines = ["[[registry]]", f"prefix = {_toml(registry)}", f"location = {_toml(registry)}", ""]
    lines += ["[[registry.mirror]]", f"location = {_toml(mirror.address)}"]
    if mirror.insecure or not mirror.secure:
        lines.append("insecure = true")
    files: Files = {}
    if mirror.ca:
        files[PurePosixPath("/etc/containers/certs.d", mirror.address, "ca.crt")] = mirror.ca
    path = PurePosixPath(f"/etc/containers/registries.conf.d/50-{name}.conf")
    return {path: _text(lines), **files}


def k3s(registry: str, mirror: Mirror) -> Files:
    """One file for all registries; read when K3s starts."""
    content: dict[str, Any] = {"mirrors": {registry: {"endpoint": [mirror.url]}}}
    files: Files = {}
    tls: dict[str, Any] = {}
    if mirror.ca:
        path = PurePosixPath("/etc/rancher/k3s", f"ca-{_file_name(mirror.address)}.crt")
        files[path] = mirror.ca
        tls["ca_file"] = str(path)
    if mirror.insecure:
        tls["insecure_skip_verify"] = True
    if tls:
        content["configs"] = {mirror.address: {"tls": tls}}
    text = yaml.safe_dump(content, default_flow_style=False, sort_keys=False)
    return {PurePosixPath("/etc/rancher/k3s/registries.yaml"): text, **files}


def docker(registry: str, mirror: Mirror) -> Files:
    """Docker has mirrors of Docker Hub only; raises ConfigurationError for any other."""
    if registry != DOCKER_HUB:
        raise errors.ConfigurationError(f"docker has mirrors of {DOCKER_HUB} only")
    content: dict[str, Any] = {"registry-mirrors": [mirror.url]}
    files: Files = {}
    if mirror.insecure:
        content["insecure-registries"] = [mirror.address]
    if mirror.ca:
        files[PurePosixPath("/etc/docker/certs.d", mirror.address, "ca.crt")] = mirror.ca
    text = json.dumps(content, indent=2) + "\n"
    return {PurePosixPath("/etc/docker/daemon.json"): text, **files}


CLIENTS = {"containerd": containerd, "podman": podman, "k3s": k3s, "docker": docker}


def check_registry(registry: str) -> str:
    """A registry as images name it, or ALL; raises ConfigurationError."""
    if registry in (ALL, "_default"):
        return ALL
    # Without a dot, a port or "localhost", clients take it for a part of a name.
    qualified = registry == "localhost" or re.search(r"[.:]", registry)
    if not qualified or not is_host(registry) or registry != registry.lower():
        raise errors.ConfigurationError(
            f"not a registry as images name it, like quay.io: {registry!r:.300}"
        )
    return registry


def _upstream(registry: str) -> str:
    """Where the images are that the mirror does not have; as containerd itself would ask."""
    if registry == DOCKER_HUB:
        return "https://registry-1.docker.io"
    local = re.match(r"localhost(:|$)|127\.|\[::1\]", registry)
    return f"{'http' if local else 'https'}://{registry}"


def _file_name(host: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", host)


def _toml(text: str) -> str:
    # A string of printable ASCII is the same in both.
    return json.dumps(text)


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
