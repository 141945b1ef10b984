# SPDX-License-Identifier: Apache-2.0
"""The places that a repository is asked for: the mirrors of its registry, and itself.

Source: containers-registries.conf(5), "Remapping and mirroring registries".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.sources.image_name import canonical, is_address
from image_uploader_plugins.sources.registries import Registries, Registry
from image_uploader_plugins.sources.registries_conf import ConfRegistry


class Endpoint(NamedTuple):
    """A registry and the repository's name there; what it is asked for: tags, digests or both."""

    registry: Registry
    repository: str
    by_tag: bool = True
    by_digest: bool = True


def endpoints(registries: Registries, registry: str, repository: str) -> list[Endpoint]:
    """Return where a repository of ``host[:port]`` is asked for: mirrors first, itself last.

    The mirrors are those of the registry's rules, or else of registries.conf
    where settings have that.  What takes the place of a registry has no
    mirrors.  Raises ConfigurationError for a registry that is blocked, and
    for a mirror that cannot be named.
    """
    settings, registry = registries.settings, canonical(registry)
    if registry in settings.mirrors:
        return [Endpoint(registries.registry(registry), repository)]
    image = f"{registry}/{repository}"
    conf = settings.registries_conf.find(image) if settings.registries_conf else None
    if conf and conf.blocked:
        raise errors.ConfigurationError(f"{conf.file} blocks {conf.prefix}")
    found = list(_of_rules(registries, registry, repository))
    if conf and not found:
        found += _of_conf(registries, conf, image)
    if conf and conf.location:
        itself = _moved(registries, conf, conf.location, image, insecure=False)
    else:
        itself = Endpoint(registries.registry(registry), repository)
    return [*found, itself]


def _of_rules(registries: Registries, registry: str, repository: str) -> Iterator[Endpoint]:
    for mirror in registries.settings.rules_for(registry).mirrors:
        address, _, path = mirror.partition("/")
        name = f"{path}/{repository}" if path else repository
        yield Endpoint(registries.registry(address), name)


def _of_conf(registries: Registries, conf: ConfRegistry, image: str) -> Iterator[Endpoint]:
    for mirror in conf.mirrors:
        found = _moved(registries, conf, mirror.location, image, insecure=mirror.insecure)
        yield found._replace(by_tag=mirror.by_tag, by_digest=mirror.by_digest)


def _moved(
    registries: Registries, conf: ConfRegistry, location: str, image: str, *, insecure: bool
) -> Endpoint:
    """Return where an image is whose prefix has another location."""
    address, _, name = (location + image[conf.length(image) :]).partition("/")
    try:
        if not is_address(address):
            raise errors.InvalidReference(f"not a registry: {address}")
        repository = RepositoryName(name).value
    except errors.InvalidReference as e:
        raise errors.ConfigurationError(f"{conf.file}: {location} for {image}: {e}") from e
    return Endpoint(registries.registry(address, insecure=insecure), repository)
