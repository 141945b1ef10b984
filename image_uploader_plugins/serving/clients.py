# SPDX-License-Identifier: Apache-2.0
"""The configuration of clients for a tree that stands in for a registry.

Sources: containerd's docs/hosts.md, containers-registries.conf(5) and
containers-certs.d(5), K3s' "Private Registry Configuration", dockerd(8).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import ssl
from pathlib import Path, PurePosixPath
from typing import Any

import tomli_w
import yaml

from image_uploader_plugins import errors
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.text import shown

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
    """A server of a tree, ``http[s]://host[:port][/path]``.

    The path is what the names of the registry's images begin with in the tree:
    with ``/quay.io``, the image ``ns/name`` is ``quay.io/ns/name`` there.
    ``ca`` is the text of the certificate that its own is verified with, None
    for those that the client has; ``insecure`` leaves it unverified.  ``login``
    is a user's name and password, for a server that wants one.  With ``only``
    the registry itself is never asked.  Raises ConfigurationError.
    """

    url: str
    insecure: bool = False
    ca: str | None = None
    login: tuple[str, str] | None = dataclasses.field(default=None, repr=False)
    only: bool = False

    def __post_init__(self) -> None:
        scheme, _, rest = self.url.partition("://")
        address, slash, path = rest.partition("/")
        if scheme not in ("http", "https"):
            raise errors.ConfigurationError(f"a mirror is http:// or https://: {shown(self.url)}")
        if not is_host(address) or (slash and not _is_name(path)):
            raise errors.ConfigurationError(
                "a mirror is a host, maybe a port, and maybe what names begin with there (not "
                f"/v2): {shown(self.url, 300)}"
            )
        if scheme == "http" and (self.insecure or self.ca):
            raise errors.ConfigurationError(f"nothing is verified with http: {shown(self.url)}")
        if self.login and not _is_login(*self.login):
            raise errors.ConfigurationError(
                "a user has a name without a colon and a password, both of letters that print"
            )

    @property
    def secure(self) -> bool:
        """Return whether clients ask it by https."""
        return self.url.startswith("https://")

    @property
    def address(self) -> str:
        """Return ``host[:port]``."""
        return self.url.partition("://")[2].partition("/")[0]

    @property
    def path(self) -> str:
        """Return the prefix of names in the tree, without a slash at either end; "" for none."""
        return self.url.partition("://")[2].partition("/")[2]

    @property
    def server(self) -> str:
        """Return the URL without the path."""
        return self.url.removesuffix(f"/{self.path}") if self.path else self.url


def _is_login(name: str, password: str) -> bool:
    # RFC 7617, 2: a colon would end the name.
    return all((name, password, (name + password).isprintable(), ":" not in name))


def _is_name(path: str) -> bool:
    try:
        return RepositoryName(path).value.split("/")[0] != "v2"
    except errors.InvalidReference:
        return False


def is_host(text: str) -> bool:
    """Tell whether a text is ``host[:port]``, as images and URLs have it."""
    match = _HOST.fullmatch(text)
    return bool(match and len(text) <= 261 and int(match["port"] or 1) in range(1, 2**16))


def certificate(path: Path) -> str:
    """Return a CA's certificate in PEM; raises ConfigurationError."""
    try:
        text = path.read_text(encoding="ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as e:
        raise errors.ConfigurationError(f"{path} holds no certificate in PEM") from e
    except OSError as e:
        raise errors.ConfigurationError(f"cannot read {path}: {e.strerror}") from e
    return text


def containerd(registry: str, mirror: Mirror) -> Files:
    """Return one directory for each registry, which is read anew for every pull."""
    folder = PurePosixPath("/etc/containerd/certs.d", "_default" if registry == ALL else registry)
    # NOTE: containerd puts /v2 behind a host, and takes a path as it is.
    url = f"{mirror.server}/v2/{mirror.path}" if mirror.path else mirror.server
    fields = _containerd_fields(mirror, folder)
    if mirror.only:
        # The first keys are about the server, which is asked after all other hosts.
        # NOTE: containerd 1 does not read a file without this table.
        content = {"server": url, **fields, "host": {}}
    else:
        server = {} if registry == ALL else {"server": _upstream(registry)}
        content = {**server, "host": {url: fields}}
    files = {folder / "ca.crt": mirror.ca} if mirror.ca else {}
    return {folder / "hosts.toml": tomli_w.dumps(content), **files}


def _containerd_fields(mirror: Mirror, folder: PurePosixPath) -> dict[str, Any]:
    """Return how the mirror is asked, with the headers that it is sent."""
    fields: dict[str, Any] = {"capabilities": ["pull", "resolve"]}
    if mirror.path:
        fields["override_path"] = True
    if mirror.ca:
        fields["ca"] = str(folder / "ca.crt")
    if mirror.insecure:
        fields["skip_verify"] = True
    if mirror.login:
        fields["header"] = {"Authorization": [f"Basic {_encoded(mirror.login)}"]}
    return fields


def podman(registry: str, mirror: Mirror) -> Files:
    """Return files for podman, buildah, skopeo and CRI-O; raises ConfigurationError for ALL."""
    if registry == ALL:
        raise errors.ConfigurationError("podman has mirrors of named registries only")
    name = _file_name(registry)
    location = "/".join(filter(None, (mirror.address, mirror.path)))
    asked: dict[str, Any] = {"location": location}
    if mirror.insecure or not mirror.secure:
        asked["insecure"] = True
    if not mirror.only:
        asked = {"location": registry, "mirror": [asked]}
    files: Files = {}
    if mirror.ca:
        files[PurePosixPath("/etc/containers/certs.d", mirror.address, "ca.crt")] = mirror.ca
    if mirror.login:
        auths = {"auths": {mirror.address: {"auth": _encoded(mirror.login)}}}
        files[PurePosixPath("/root/.config/containers/auth.json")] = _json(auths)
    path = PurePosixPath(f"/etc/containers/registries.conf.d/50-{name}.conf")
    return {path: tomli_w.dumps({"registry": [{"prefix": registry, **asked}]}), **files}


def k3s(registry: str, mirror: Mirror) -> Files:
    """Return one file for all registries, which is read when K3s starts."""
    asked: dict[str, Any] = {"endpoint": [mirror.server]}
    if mirror.path:
        asked["rewrite"] = {"^(.*)$": f"{mirror.path}/$1"}
    content: dict[str, Any] = {"mirrors": {registry: asked}}
    files: Files = {}
    access: dict[str, Any] = {}
    if mirror.ca:
        path = PurePosixPath("/etc/rancher/k3s", f"ca-{_file_name(mirror.address)}.crt")
        files[path] = mirror.ca
        access["tls"] = {"ca_file": str(path)}
    if mirror.insecure:
        access["tls"] = {"insecure_skip_verify": True}
    if mirror.login:
        access["auth"] = dict(zip(("username", "password"), mirror.login, strict=True))
    if access:
        content["configs"] = {mirror.address: access}
    if mirror.only:
        path = PurePosixPath("/etc/rancher/k3s/config.yaml.d/50-image-serve.yaml")
        files[path] = _yaml({"disable-default-registry-endpoint": True})
    return {PurePosixPath("/etc/rancher/k3s/registries.yaml"): _yaml(content), **files}


def docker(registry: str, mirror: Mirror) -> Files:
    """Return files for dockerd, which has mirrors of Docker Hub only.

    Raises ConfigurationError for any other registry, and for what such
    mirrors cannot be told.
    """
    for refused, reason in (
        (registry != DOCKER_HUB, f"docker has mirrors of {DOCKER_HUB} only"),
        (mirror.path, "docker's mirrors have no path: names must be the same there"),
        (mirror.login, "docker gives no password to a mirror"),
        (mirror.only, f"docker asks {DOCKER_HUB} whenever a mirror does not have an image"),
    ):
        if refused:
            raise errors.ConfigurationError(reason)
    content: dict[str, Any] = {"registry-mirrors": [mirror.url]}
    files: Files = {}
    if mirror.insecure:
        content["insecure-registries"] = [mirror.address]
    if mirror.ca:
        files[PurePosixPath("/etc/docker/certs.d", mirror.address, "ca.crt")] = mirror.ca
    return {PurePosixPath("/etc/docker/daemon.json"): _json(content), **files}


CLIENTS = {"containerd": containerd, "podman": podman, "k3s": k3s, "docker": docker}


def check_registry(registry: str) -> str:
    """Return a registry as images name it, or ALL; raises ConfigurationError."""
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
    """Return the registry's own URL, which containerd asks for what the mirror lacks."""
    if registry == DOCKER_HUB:
        return "https://registry-1.docker.io"
    local = re.match(r"localhost(:|$)|127\.|\[::1\]", registry)
    return f"{'http' if local else 'https'}://{registry}"


def _file_name(host: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", host)


def _encoded(login: tuple[str, str]) -> str:
    """Return what RFC 7617 makes of a user's name and password, in UTF-8."""
    return base64.b64encode(":".join(login).encode()).decode()


def _yaml(content: dict[str, Any]) -> str:
    return str(yaml.safe_dump(content, default_flow_style=False, sort_keys=False))


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
