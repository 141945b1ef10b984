# SPDX-License-Identifier: Apache-2.0
"""Settings for requests to registries.

Apart from what asks them: commands that ask none need no HTTP.
"""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Mapping
from pathlib import Path

from image_uploader_plugins.pace import LONGEST_PAUSE, READ_TIMEOUT, Limits
from image_uploader_plugins.sources.image_name import canonical
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registries_conf import RegistriesConf
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sources.trust import CERTIFICATES, Trust

_NO_RULES = RegistryRules()


@dataclasses.dataclass(frozen=True)
class Settings:
    """The way in which registries are asked; times in seconds.

    ``mirrors`` has URLs that take the place of registries, and ``rules`` what
    the operator says of some, by their names as images have them.
    ``registries_conf`` has the mirrors, the locations and the blocked registries
    of this machine, None where these do not count.
    """

    keychain: Keychain = dataclasses.field(default_factory=Keychain)
    trust: Trust = dataclasses.field(default_factory=Trust)
    limits: Limits = dataclasses.field(default_factory=Limits)
    mirrors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rules: Mapping[str, RegistryRules] = dataclasses.field(default_factory=dict)
    registries_conf: RegistriesConf | None = None
    read_timeout: float = READ_TIMEOUT
    longest_pause: float = LONGEST_PAUSE

    def rules_for(self, address: str) -> RegistryRules:
        """Return what the operator says of the registry at ``host[:port]``."""
        return self.rules.get(canonical(address.lower()), _NO_RULES)

    def is_insecure(self, address: str) -> bool:
        """Return whether ``host[:port]`` need not be verified."""
        insecure = self.rules_for(address).insecure
        return self.trust.is_insecure(address) if insecure is None else insecure

    def may_be_plain(self, address: str) -> bool:
        """Return whether ``host[:port]`` may be asked by http, if it does not speak TLS."""
        insecure = self.rules_for(address).insecure
        return self.trust.may_be_plain(address) if insecure is None else insecure

    def context(self, address: str) -> ssl.SSLContext:
        """Return how TLS is spoken with ``host[:port]``; raises ConfigurationError."""
        if self.is_insecure(address):
            return self.trust.unverified(address)
        return self.trust.verified(address, self.rules_for(address).certs_dir)

    def certificates(self, address: str) -> Path:
        """Return the folder for the certificates that ``host[:port]`` needs."""
        return self.rules_for(address).certs_dir or CERTIFICATES[0] / address

    def login(self, address: str, repository: str) -> Login | None:
        """Return who we are for a repository at ``host[:port]``; raises ConfigurationError."""
        rules = self.rules_for(address)
        if rules.username is not None and rules.password is not None:
            return Login(rules.username, rules.password)
        return self.keychain.login(address, repository)
