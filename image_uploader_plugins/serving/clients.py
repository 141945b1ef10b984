# SPDX-License-Identifier: Apache-2.0
"""The configuration of clients for a tree that stands in for registries.

Each function returns the files of one client for ``registries``, of which ALL is
every other one.  Sources: containerd's docs/hosts.md, containers-registries.conf(5)
and containers-certs.d(5), K3s' and RKE2's "Private Registry Configuration",
dockerd(8), Talos' "v1alpha1 Config" (RegistriesConfig), OpenShift's "Config APIs"
(ImageDigestMirrorSet, ImageTagMirrorSet, Image).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import ssl
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import tomli_w
import yaml

from image_uploader_plugins import errors
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.sources import image_name
from image_uploader_plugins.text import shown

ALL = "*"
"""In the place of a registry's name: every registry."""

DOCKER_HUB = "docker.io"

_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(
    rf"(?P<host>{_DOMAIN}(?:\.{_DOMAIN})*|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?"
)

Files = dict[PurePosixPath, str]

# What no machine reads by itself.
_FOR_CLUSTERS = PurePosixPath("/etc/image-serve")
_NAME_OF_CA = "image-serve-ca"


@dataclasses.dataclass(frozen=True)
class Mirror:
    """A server of a tree, ``http[s]://host[:port][/path]``.

    The path is what the names of the registry's images begin with in the tree:
    with ``/quay.io``, the image ``ns/name`` is ``quay.io/ns/name`` there.
    With ``full_names`` they begin with the path and then their registry.
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
    full_names: bool = False

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

    def path_of(self, registry: str) -> str:
        """Return the prefix of the names of a registry's images in the tree; "" for none."""
        own = image_name.prefix_of(registry) if self.full_names and registry != ALL else ""
        return "/".join(filter(None, (self.path, own)))

    def location(self, registry: str) -> str:
        """Return what the names of a registry's images begin with for clients of the mirror."""
        return "/".join(filter(None, (self.address, self.path_of(registry))))

    def api(self, registry: str) -> str:
        """Return the URL of a registry's images, with ``/v2`` where it has a path.

        NOTE: containerd puts /v2 behind a host, and takes a path as it is.
        """
        path = self.path_of(registry)
        return f"{self.server}/v2/{path}" if path else self.server


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


def containerd(registries: Sequence[str], mirror: Mirror) -> Files:
    """Return one directory for each registry, which is read anew for every pull."""
    files: Files = {}
    for registry in registries:
        files |= _hosts(registry, mirror)
    return files


def _hosts(registry: str, mirror: Mirror) -> Files:
    folder = PurePosixPath("/etc/containerd/certs.d", "_default" if registry == ALL else registry)
    url = mirror.api(registry)
    fields = _containerd_fields(registry, mirror, folder)
    if mirror.only:
        # The first keys are about the server, which is asked after all other hosts.
        # NOTE: containerd 1 does not read a file without this table.
        content = {"server": url, **fields, "host": {}}
    else:
        server = {} if registry == ALL else {"server": _upstream(registry)}
        content = {**server, "host": {url: fields}}
    files = {folder / "ca.crt": mirror.ca} if mirror.ca else {}
    return {folder / "hosts.toml": tomli_w.dumps(content), **files}


def _containerd_fields(registry: str, mirror: Mirror, folder: PurePosixPath) -> dict[str, Any]:
    """Return how the mirror is asked, with the headers that it is sent."""
    fields: dict[str, Any] = {"capabilities": ["pull", "resolve"]}
    if mirror.path_of(registry):
        fields["override_path"] = True
    if mirror.ca:
        fields["ca"] = str(folder / "ca.crt")
    if mirror.insecure:
        fields["skip_verify"] = True
    if mirror.login:
        fields["header"] = {"Authorization": [f"Basic {_encoded(mirror.login)}"]}
    return fields


def podman(registries: Sequence[str], mirror: Mirror) -> Files:
    """Return files for podman, buildah, skopeo and CRI-O, one for each registry.

    Raises ConfigurationError for ALL alone.
    """
    files: Files = {}
    for registry in _named(registries, "podman has mirrors of named registries only"):
        asked: dict[str, Any] = {"location": mirror.location(registry)}
        if mirror.insecure or not mirror.secure:
            asked["insecure"] = True
        if not mirror.only:
            asked = {"location": registry, "mirror": [asked]}
        content = {"registry": [{"prefix": registry, **asked}]}
        path = f"/etc/containers/registries.conf.d/50-{_file_name(registry)}.conf"
        files[PurePosixPath(path)] = tomli_w.dumps(content)
    if mirror.ca:
        files[PurePosixPath("/etc/containers/certs.d", mirror.address, "ca.crt")] = mirror.ca
    if mirror.login:
        auths = {"auths": {mirror.address: {"auth": _encoded(mirror.login)}}}
        files[PurePosixPath("/root/.config/containers/auth.json")] = _json(auths)
    return files


def k3s(registries: Sequence[str], mirror: Mirror) -> Files:
    """Return one file for all registries, which is read when K3s starts."""
    return _rancher(PurePosixPath("/etc/rancher/k3s"), registries, mirror)


def rke2(registries: Sequence[str], mirror: Mirror) -> Files:
    """Return one file for all registries, which is read when RKE2 starts."""
    return _rancher(PurePosixPath("/etc/rancher/rke2"), registries, mirror)


def _rancher(folder: PurePosixPath, registries: Sequence[str], mirror: Mirror) -> Files:
    content: dict[str, Any] = {"mirrors": {}}
    for registry in registries:
        asked: dict[str, Any] = {"endpoint": [mirror.server]}
        if path := mirror.path_of(registry):
            asked["rewrite"] = {"^(.*)$": f"{path}/$1"}
        content["mirrors"][registry] = asked
    files: Files = {}
    access: dict[str, Any] = {}
    if mirror.ca:
        path_of_ca = folder / f"ca-{_file_name(mirror.address)}.crt"
        files[path_of_ca] = mirror.ca
        access["tls"] = {"ca_file": str(path_of_ca)}
    if mirror.insecure:
        access["tls"] = {"insecure_skip_verify": True}
    if mirror.login:
        access["auth"] = _named_login(mirror.login)
    if access:
        content["configs"] = {mirror.address: access}
    if mirror.only:
        option = folder / "config.yaml.d" / "50-image-serve.yaml"
        files[option] = _yaml({"disable-default-registry-endpoint": True})
    return {folder / "registries.yaml": _yaml(content), **files}


def docker(registries: Sequence[str], mirror: Mirror) -> Files:
    """Return files for dockerd, which has mirrors of Docker Hub only.

    Raises ConfigurationError where Docker Hub is not among the registries,
    and for what such mirrors cannot be told.  A tree with full names is of use
    to Docker only with containerd's image store, which says to a mirror whose
    image it asks for (moby's daemon/containerd/resolver.go).
    """
    for refused, reason in (
        (DOCKER_HUB not in registries, f"docker has mirrors of {DOCKER_HUB} only"),
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


def talos(registries: Sequence[str], mirror: Mirror) -> Files:
    """Return a patch of Talos' machine configuration, for ``talosctl patch machineconfig``.

    Talos 1.12 and later also have documents of their own for this, and go on
    to read what is here ("Document Map").
    """
    mirrors: dict[str, Any] = {}
    for registry in registries:
        mirrors[registry] = {"endpoints": [mirror.api(registry)]}
        if mirror.path_of(registry):
            mirrors[registry]["overridePath"] = True
        if mirror.only:
            mirrors[registry]["skipFallback"] = True
    content: dict[str, Any] = {"mirrors": mirrors}
    access: dict[str, Any] = {}
    if mirror.ca:
        access["tls"] = {"ca": base64.b64encode(mirror.ca.encode()).decode()}
    if mirror.insecure:
        access["tls"] = {"insecureSkipVerify": True}
    if mirror.login:
        access["auth"] = _named_login(mirror.login)
    if access:
        content["config"] = {mirror.address: access}
    return {_FOR_CLUSTERS / "talos.yaml": _yaml({"machine": {"registries": content}})}


def openshift(registries: Sequence[str], mirror: Mirror) -> Files:
    """Return objects for ``oc apply``, and a patch of the cluster's Image, where that needs one.

    Digests and tags have mirrors of their own.  Raises ConfigurationError for
    ALL alone, and for a password, which is one of the cluster's (its pull secret).
    """
    named = _named(registries, "OpenShift has mirrors of named registries only")
    if mirror.login:
        raise errors.ConfigurationError(
            "OpenShift's mirrors have no passwords of their own: add it to those of the cluster "
            "(oc registry login)"
        )
    objects = [
        _mirror_set("ImageDigestMirrorSet", "imageDigestMirrors", named, mirror),
        _mirror_set("ImageTagMirrorSet", "imageTagMirrors", named, mirror),
    ]
    image: dict[str, Any] = {}
    if mirror.ca:
        if "[" in mirror.address:
            raise errors.ConfigurationError("OpenShift has no CA for an IPv6 address")
        # NOTE: no key of a ConfigMap has a colon.
        data = {mirror.address.replace(":", ".."): mirror.ca}
        place = {"name": _NAME_OF_CA, "namespace": "openshift-config"}
        objects += [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": data}]
        image = {"additionalTrustedCA": {"name": _NAME_OF_CA}}
    if mirror.insecure or not mirror.secure:
        image = {"registrySources": {"insecureRegistries": [mirror.address]}}
    patch = {_FOR_CLUSTERS / "openshift-image.yaml": _yaml({"spec": image})} if image else {}
    return {_FOR_CLUSTERS / "openshift.yaml": "---\n".join(map(_yaml, objects)), **patch}


def _mirror_set(kind: str, key: str, registries: Sequence[str], mirror: Mirror) -> dict[str, Any]:
    policy = "NeverContactSource" if mirror.only else "AllowContactingSource"
    items = [
        {
            "source": registry,
            "mirrors": [mirror.location(registry)],
            "mirrorSourcePolicy": policy,
        }
        for registry in registries
    ]
    return {
        "apiVersion": "config.openshift.io/v1",
        "kind": kind,
        "metadata": {"name": "image-serve"},
        "spec": {key: items},
    }


CLIENTS = {
    "containerd": containerd,
    "podman": podman,
    "k3s": k3s,
    "rke2": rke2,
    "docker": docker,
    "talos": talos,
    "openshift": openshift,
}


def remarks(client: str, registries: Sequence[str], mirror: Mirror) -> list[str]:
    """Return what the files of a client cannot do, a line each."""
    found = []
    if client == "docker" and mirror.full_names:
        found.append("docker takes full names only with containerd's image store")
    others = ", ".join(each for each in registries if each not in (ALL, DOCKER_HUB))
    if client == "docker" and others:
        found.append(f"docker has no mirror of {others}")
    return found


def registries_in(names: Sequence[RepositoryName], path: str) -> list[str]:
    """Return the registries that full names in a tree begin with, after ``path``, in order."""
    before = f"{path}/" if path else ""
    rest = (name.value.removeprefix(before) for name in names if name.value.startswith(before))
    firsts = {first for first, slash, _ in (each.partition("/") for each in rest) if slash}
    return sorted(filter(None, map(image_name.registry_of, firsts)))


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


def _named(registries: Sequence[str], reason: str) -> list[str]:
    """Return the registries but ALL; raise ConfigurationError where none is left."""
    named = [registry for registry in registries if registry != ALL]
    if not named:
        raise errors.ConfigurationError(reason)
    return named


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


def _named_login(login: tuple[str, str]) -> dict[str, str]:
    return dict(zip(("username", "password"), login, strict=True))


def _yaml(content: dict[str, Any]) -> str:
    return str(yaml.safe_dump(content, default_flow_style=False, sort_keys=False))


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
