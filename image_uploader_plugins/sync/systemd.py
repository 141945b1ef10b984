# SPDX-License-Identifier: Apache-2.0
"""A service and a timer of systemd that run ``image-uploader sync``.

Source: systemd.syntax(7), "Quoting"; systemd.service(5), "Command Lines";
systemd.unit(5), "Specifiers"; systemd.exec(5).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.text import shown

NAME = "image-uploader-sync"
USER = "image-uploader"

_PLAIN = re.compile(r"[\w./:@=+,-]+", re.ASCII)
_ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%"}

_SERVICE = """\
# /etc/systemd/system/{name}.service
#
{head}
# That user's logins at registries: REGISTRY_AUTH_FILE, as containers-auth.json(5) says.

[Unit]
Description=Images for the registry of image-uploader
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={command}
User={user}
#Environment=REGISTRY_AUTH_FILE=/etc/image-uploader/auth.json
UMask=0022
Nice=10
IOSchedulingClass=idle
{writes}
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=true
PrivateDevices=true
ProtectClock=true
ProtectControlGroups=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
NoNewPrivileges=true
CapabilityBoundingSet=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""

_NEW_USER = """\
# It writes as the user {user}, to whom the tree must belong:
#   useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {user}
#   install -d -o {user} -g {user} {root}
#   chown -R {user}: {root}"""

_TIMER = """\
# /etc/systemd/system/{name}.timer

[Unit]
Description=Images for the registry of image-uploader, every day

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=true

[Install]
WantedBy=timers.target
"""


def units(
    command: Sequence[str],
    root: Path | None,
    written: Iterable[Path] = (),
    owner: str | None = None,
) -> str:
    """Return a service that runs ``command``, and a timer for it.

    ``root`` is what it writes to, None where nobody knows, and ``written``
    are other folders; ``owner`` is the user that the root belongs to, None
    where one has to be made.  Raises ConfigurationError for words that no unit
    can have.
    """
    user = owner or USER
    writes = "".join(f"\nReadWritePaths={_path(str(path))}" for path in dict.fromkeys(written))
    if root:
        writes = f"ReadWritePaths={_path(str(root))}{writes}"
        head = _NEW_USER.format(user=user, root=shlex.quote(str(root)))
    else:
        writes = f"#ReadWritePaths= what the driver writes to{writes}"
        head = f"# It writes as the user {user}, who must be allowed to write to the target."
    if owner:
        head = f"# It writes as the user {user}, who owns the tree."
    program, *arguments = command
    # Of the program itself, no variables are read.
    words = [_word(program), *(_word(argument).replace("$", "$$") for argument in arguments)]
    service = _SERVICE.format(
        name=NAME, user=user, command=" ".join(words), writes=writes, head=head
    )
    return f"{service}\n{_TIMER.format(name=NAME)}"


def _word(text: str) -> str:
    """Return a word of a command line as units have it, but for its variables."""
    _check(text)
    escaped = "".join(_ESCAPES.get(character, character) for character in text)
    return text if _PLAIN.fullmatch(text) else f'"{escaped}"'


def _path(text: str) -> str:
    """Return one of a list of paths, where a backslash escapes nothing."""
    _check(text)
    quote = "'" if '"' in text else '"'
    if quote in text:
        raise errors.ConfigurationError(f"a unit of systemd cannot name this: {shown(text)}")
    path = text.replace("%", "%%")
    return path if _PLAIN.fullmatch(text) else f"{quote}{path}{quote}"


def _check(text: str) -> None:
    if not text.isprintable():
        raise errors.ConfigurationError(f"a unit of systemd cannot name this: {shown(text)}")
