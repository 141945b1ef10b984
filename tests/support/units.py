# SPDX-License-Identifier: Apache-2.0
"""Units of systemd, read and run as systemd does where this machine has none that runs.

Source: systemd.syntax(7); systemd.service(5), "Command Lines"; systemd.exec(5),
"EnvironmentFile=".  Nothing of a unit's sandbox is there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

_HOST_NAME = "machine.example.com"
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)\}")
_FAILED = """\
Job for {name} failed because the control process exited with error code.
See "systemctl status {name}" and "journalctl -xeu {name}" for details.
"""
PLACES = "UNIT_PLACES"
"""The variable that has, as JSON, where what units name is in a test."""


class Unit:
    """A unit in a folder, with its drop-ins; ``places`` maps what it names to where that is."""

    def __init__(self, folder: Path, name: str, places: Mapping[str, str]) -> None:
        self._name, _, kind = name.rpartition(".")
        prefix, _, self._instance = self._name.partition("@")
        file = f"{prefix}@.{kind}" if self._instance else name
        drop_ins = [*folder.glob(f"{file}.d/*.conf"), *folder.glob(f"image-uploader-.{kind}.d/*")]
        self.lines: list[tuple[str, str]] = []
        for path in (folder / file, *sorted(drop_ins)):
            text = path.read_text()
            for place, real in places.items():
                text = text.replace(place, real)
            self.lines += _settings(text)

    def values(self, key: str) -> list[str]:
        """All values of a key; an empty one forgets those before it."""
        found: list[str] = []
        for name, value in self.lines:
            if name == key:
                found = [*found, value] if value else []
        return found

    def commands(self, environment: Mapping[str, str]) -> list[list[str]]:
        return [list(self._words(line, environment)) for line in self.values("ExecStart")]

    def environment(self) -> dict[str, str]:
        """What the unit adds to the environment; of the state directory, the folder is made."""
        found = dict(
            word.split("=", 1) for line in self.values("Environment") for word in shlex.split(line)
        )
        for name in self.values("EnvironmentFile"):
            path = Path(name.removeprefix("-"))
            if path.exists() or not name.startswith("-"):
                found |= _assignments(path)
        for state in self.values("StateDirectory"):
            folder = Path(os.environ.get("STATE", "/var/lib")) / state
            folder.mkdir(parents=True, exist_ok=True)
            found["STATE_DIRECTORY"] = str(folder)
        return found

    def run(self, journal: IO[bytes] | None = None) -> int:
        """Run its commands until one fails; return the exit status of the last."""
        environment = os.environ | self.environment()
        for command in self.commands(environment):
            done = subprocess.run(
                command, check=False, env=environment, stdout=journal, stderr=journal
            )
            if done.returncode:
                return done.returncode
        return 0

    def is_success(self, status: int) -> bool:
        return status == 0 or str(status) in " ".join(self.values("SuccessExitStatus")).split()

    def followers(self, status: int) -> list[str]:
        """What is started after it has ended with a status."""
        key = "OnSuccess" if self.is_success(status) else "OnFailure"
        return [self._specified(name) for line in self.values(key) for name in line.split()]

    def _words(self, line: str, environment: Mapping[str, str]) -> Iterator[str]:
        for word in shlex.split(self._specified(line)):
            if whole := re.fullmatch(r"\$(\w+)", word):
                yield from environment.get(whole[1], "").split()
            else:
                yield _VARIABLE.sub(lambda m: environment.get(m[1], "") if m[1] else "$", word)

    def _specified(self, text: str) -> str:
        known = {"%%": "%", "%i": self._instance, "%N": self._name, "%H": _HOST_NAME}
        return re.sub("%.", lambda match: known[match[0]], text)


def _settings(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line and line[0] not in "#;[":
            key, separator, value = line.partition("=")
            assert separator and key.isalnum(), line
            yield key, value.strip()


def _assignments(path: Path) -> dict[str, str]:
    found = dict(_settings_of_environment(path.read_text()))
    return {name: value.strip('"') for name, value in found.items()}


def _settings_of_environment(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield name, value


def systemctl(folder: Path, arguments: Iterable[str]) -> int:
    """Do what ``systemctl start`` does, and check what is enabled; return the exit status.

    What a unit prints is in the folder, in a file ``NAME.journal``.
    """
    verb, *names = [word for word in arguments if word != "--now"]
    if verb == "enable":
        for name in names:
            assert Unit(folder, name, {}).values("WantedBy") == ["timers.target"]
    return max(_start(folder, name) for name in names) if verb == "start" else 0


def _start(folder: Path, name: str) -> int:
    full = name if "." in name else f"{name}.service"
    unit = Unit(folder, full, json.loads(os.environ[PLACES]))
    with (folder / f"{full.removesuffix('.service')}.journal").open("ab") as journal:
        status = unit.run(journal)
    for follower in unit.followers(status):
        _start(folder, follower)
    if unit.is_success(status):
        return 0
    sys.stderr.write(_FAILED.format(name=full))
    return 1


if __name__ == "__main__":
    sys.exit(systemctl(Path(sys.argv[1]), sys.argv[2:]))
