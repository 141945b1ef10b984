# SPDX-License-Identifier: Apache-2.0
"""The units in etc/systemd that run ``image-uploader sync``, completed for one command line.

Source: systemd.syntax(7), "Quoting"; systemd.service(5), "Command Lines";
systemd.unit(5), "Specifiers"; systemd.exec(5).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.text import shown

NAME = "image-uploader-sync"
USER = "image-uploader"

_PLAIN = re.compile(r"[\w./:@=+,-]+", re.ASCII)
_ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%"}
_EMPTY_LINES = re.compile(r"\n{3,}")

_HEAD = """\
# /etc/systemd/system/{name}.service
#
{who}
# That user's logins at registries: REGISTRY_AUTH_FILE, as containers-auth.json(5) says."""

_NEW_USER = """\
# It writes as the user {user}, to whom the tree must belong:
#   useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {user}
#   install -d -o {user} -g {user} {root}
#   chown -R {user}: {root}"""

_AUTHENTICATION = "#Environment=REGISTRY_AUTH_FILE=/etc/image-uploader/auth.json"
# What belongs to the other units in etc/systemd, and to the file that all of them read.
_OTHERS = ("OnSuccess", "OnFailure", "Group", "EnvironmentFile", "StateDirectory")


def units(
    command: Sequence[str],
    root: Path | None,
    written: Iterable[Path] = (),
    owner: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Return a service that runs ``command``, and a timer for it.

    ``root`` is what it writes to, None where nobody knows, and ``written``
    are other folders; ``owner`` is the user that the root belongs to, None
    where one has to be made; ``variables`` are for its environment.  Raises
    ConfigurationError for words that no unit can have.
    """
    user = owner or USER
    paths = [_path(str(path)) for path in dict.fromkeys(written)]
    roots = [_path(str(root))] if root else []
    own: dict[str, Sequence[str]] = {
        **dict.fromkeys(_OTHERS, ()),
        "RequiresMountsFor": [f"RequiresMountsFor={path}" for path in roots],
        "ExecStart": [f"ExecStart={_command(command)}"],
        "User": [f"User={user}"],
        "Environment": [_AUTHENTICATION, *map(_assignment, (variables or {}).items())],
        "ReadWritePaths": [
            *([] if root else ["#ReadWritePaths= what the driver writes to"]),
            *(f"ReadWritePaths={path}" for path in (*roots, *paths)),
        ],
    }
    head = _HEAD.format(name=NAME, who=_who(user, root, is_owner=bool(owner)))
    service = _text([head, *_completed(f"{NAME}.service", own)])
    timer = _text([f"# /etc/systemd/system/{NAME}.timer", *_completed(f"{NAME}.timer", {})])
    return f"{service}\n{timer}"


def _who(user: str, root: Path | None, *, is_owner: bool) -> str:
    if is_owner:
        return f"# It writes as the user {user}, who owns the tree."
    if root:
        return _NEW_USER.format(user=user, root=shlex.quote(str(root)))
    return f"# It writes as the user {user}, who must be allowed to write to the target."


def _completed(name: str, own: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a unit without comments; those of some keys are our own."""
    told = set()
    for line in resources.files(__package__).joinpath(name).read_text("utf-8").splitlines():
        key = line.partition("=")[0]
        if line.startswith("#") or key in told:
            continue
        if key in own:
            told.add(key)
        yield from own.get(key, [line])


def _text(lines: Iterable[str]) -> str:
    return _EMPTY_LINES.sub("\n\n", "\n".join(lines)).rstrip() + "\n"


def _command(words: Sequence[str]) -> str:
    program, *arguments = words
    # Of the program itself, no variables are read.
    told = [_word(program), *(_word(argument).replace("$", "$$") for argument in arguments)]
    return " ".join(told)


def _assignment(variable: tuple[str, str]) -> str:
    return f"Environment={_word('='.join(variable))}"


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
