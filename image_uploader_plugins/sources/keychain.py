# SPDX-License-Identifier: Apache-2.0
"""The logins for registries.

Sources: containers-auth.json(5), docker's config.json and its credential
helpers (docker-credential-helpers, "Development").
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from image_uploader_plugins import errors, strict_json
from image_uploader_plugins.sources.credential_helpers import Helpers
from image_uploader_plugins.sources.image_name import HUB, canonical

LOG = logging.getLogger(__name__)

_HUB_KEY = "https://index.docker.io/v1/"  # Docker Hub, in the files of docker
_TOKEN_USER = "<token>"  # noqa: S105 - what a helper says for an identity token


@dataclasses.dataclass(frozen=True)
class Login:
    """A user and a password or, where there is one, an identity token for a token server."""

    username: str
    password: str = dataclasses.field(default="", repr=False)
    identity_token: str = dataclasses.field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Return the value of Authorization (RFC 7617, in UTF-8)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what only its registry may know, in each form in which it is sent."""
        return self.password, self.identity_token, self.basic.partition(" ")[2]


class Keychain:
    """The logins of ``named`` registries first, then those that other tools have stored.

    Keys of ``named`` are registries, ``host[:port]``, maybe with a scheme or a
    path behind them.  A longer match of host and path wins.
    """

    def __init__(
        self,
        named: Mapping[str, Login] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._named = {_key(name): login for name, login in (named or {}).items()}
        self._environment = dict(os.environ if environment is None else environment)
        self._helpers = Helpers()

    def login(self, registry: str, repository: str = "") -> Login | None:
        """Return who we are for a repository of a registry; None where nobody says.

        Raises ConfigurationError for a file that is broken, or a helper that
        fails, with its name and without what is in it.
        """
        for key in _candidates(registry, repository):
            if key in self._named:
                return self._named[key]
        for path, explicit in _files(self._environment):
            config = _load(path, explicit=explicit)
            login = config and _stored(path, config, registry, repository, self._helpers)
            if login:
                return login
        return None


def named(entries: object, parameter: str) -> dict[str, Login]:
    """Read ContainerImageRegistryCredentials: ``{registry: {user: password}}``.

    Raises ConfigurationError that names the parameter and the registry, and
    nothing that is a secret.
    """
    if not isinstance(entries, dict):
        raise errors.ConfigurationError(
            f"{parameter} must be a mapping of registries to {{user: password}}"
        )
    found = {}
    for registry, entry in entries.items():
        if not isinstance(registry, str) or not _key(registry):
            raise errors.ConfigurationError(f"{parameter}: a registry must be a host, as quay.io")
        if not isinstance(entry, dict) or len(entry) != 1:
            raise errors.ConfigurationError(
                f"{parameter}, {_key(registry)}: must be one user with one password, "
                "{user: password}"
            )
        ((user, password),) = entry.items()
        if not isinstance(user, str) or not isinstance(password, str):
            raise errors.ConfigurationError(
                f"{parameter}, {_key(registry)}: user and password must be strings (in quotes, "
                "where they look like numbers)"
            )
        found[registry] = Login(user, password)
    return found


def _key(name: str) -> str:
    """Return a registry as the files may write it, as ``host[:port][/path]``."""
    name = name.partition("://")[2] or name
    name = name.rpartition("@")[2].rstrip("/")
    host, _, path = name.partition("/")
    host = canonical(host).lower()
    return host if path in ("", "v1", "v2") else f"{host}/{path}"


def _candidates(registry: str, repository: str) -> Iterator[str]:
    """Yield the keys that fit a repository, the longest first."""
    parts = [_key(registry), *filter(None, repository.split("/"))]
    for length in range(len(parts), 0, -1):
        yield "/".join(parts[:length])


def _files(environment: Mapping[str, str]) -> Iterator[tuple[Path, bool]]:
    """Yield the files of logins, each with whether somebody named it."""
    if named_file := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named_file), True
        return
    home = Path(environment.get("HOME") or "/nonexistent")
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers", "auth.json"), False
    yield Path("/run/containers", str(os.getuid()), "auth.json"), False
    config = environment.get("XDG_CONFIG_HOME")
    yield (Path(config) if config else home / ".config") / "containers" / "auth.json", False
    docker = environment.get("DOCKER_CONFIG")
    yield (Path(docker) if docker else home / ".docker") / "config.json", False


def _load(path: Path, *, explicit: bool) -> dict[str, Any] | None:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, PermissionError) as e:
        if explicit and not isinstance(e, FileNotFoundError):
            raise errors.ConfigurationError(f"cannot read {path}: {e.strerror}") from None
        return None  # "podman logout" removes it
    except OSError as e:
        raise errors.ConfigurationError(f"cannot read {path}: {e.strerror}") from None
    try:
        found = strict_json.load_leniently(content)
    except ValueError:
        raise errors.ConfigurationError(f"{path} is not JSON") from None
    if not isinstance(found, dict):
        raise errors.ConfigurationError(f"{path} is not an object in JSON")
    return found


def _stored(
    path: Path, config: dict[str, Any], registry: str, repository: str, programs: Helpers
) -> Login | None:
    auths, helpers = _mapping(config, "auths"), _mapping(config, "credHelpers")
    known = {_key(name): entry for name, entry in auths.items()}
    for key in _candidates(registry, repository):
        for name, program in helpers.items():
            if _key(name) == key and isinstance(program, str):
                return _helped(programs.ask(program, name))
        if isinstance(known.get(key), dict) and (login := _entry(path, key, known[key])):
            return login
    store = config.get("credsStore")
    if isinstance(store, str) and store:
        return _helped(programs.ask(store, _HUB_KEY if _key(registry) == HUB else registry))
    return None


def _mapping(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _entry(path: Path, key: str, entry: dict[str, Any]) -> Login | None:
    """Return a login that is in the file itself; None for one that a store keeps."""
    token = entry.get("identitytoken")
    token = token if isinstance(token, str) else ""
    user, password = entry.get("username"), entry.get("password")
    encoded = entry.get("auth")
    if isinstance(encoded, str) and encoded:
        try:
            text = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise errors.ConfigurationError(f"{path}: 'auth' of {key} is not base64") from None
        user, _, password = text.rstrip("\0").partition(":")
    if not isinstance(user, str) or not isinstance(password, str):
        return Login("", identity_token=token) if token else None
    return Login(user, password, token)


def _helped(answer: tuple[str, str] | None) -> Login | None:
    """Return the login in a helper's answer, which calls an identity token a user's secret."""
    if answer and answer[0] == _TOKEN_USER:
        return Login("", identity_token=answer[1])
    return Login(*answer) if answer else None
