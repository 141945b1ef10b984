# SPDX-License-Identifier: Apache-2.0
"""The files that operators already have, read and written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from image_uploader_plugins import errors, strict_json
from image_uploader_plugins.text import did_you_mean, shown

if TYPE_CHECKING:
    import yaml

STANDARD_INPUT = "-"
"""What names standard input in the place of a file."""

LISTS = ("uploads", "container_images")
"""The sections of a file of images."""

# A name of an image: a line of a text file that cannot be one of yaml's.
_LINE = re.compile(r"[\w.:/@\[\]+-]*[\w\]]")
_COMMENT = re.compile(r"(?:^|\s)#.*")
# The parts of a Heat environment that image preparation reads.
_SECTIONS = ("parameter_defaults", "resource_registry")
# NOTE: Heat refuses an environment with other sections than these.
_HEAT = (
    *_SECTIONS,
    "parameters",
    "encrypted_param_names",
    "event_sinks",
    "parameter_merge_strategies",
)
_PREPARE = "ContainerImagePrepare"


def environment(names: Iterable[str]) -> dict[str, Any]:
    """Return Heat environment files as one; of a key in several the last one counts.

    Raises ConfigurationError.
    """
    merged: dict[str, Any] = {section: {} for section in _SECTIONS}
    for name in names:
        content = mapping(name)
        _check_environment(name, content)
        for section in _SECTIONS:
            part = content.get(section) or {}
            if not isinstance(part, dict):
                raise errors.ConfigurationError(f"{name}: {section} must be a mapping")
            merged[section].update(part)
    return merged


def _check_environment(name: str, content: dict[str, Any]) -> None:
    for section in content:
        if section not in _HEAT:
            hint = did_you_mean(str(section), _HEAT) or f"; known are {', '.join(_HEAT)}"
            raise errors.ConfigurationError(
                f"{name}: {shown(section, 50)} is no section of a Heat environment{hint}"
            )
    parameters = content.get("parameters")
    if isinstance(parameters, dict) and _PREPARE in parameters:
        raise errors.ConfigurationError(
            f"{name}: {_PREPARE} is under parameters, where it has no effect: put it under "
            "parameter_defaults"
        )


def roles(name: str) -> list[dict[str, Any]]:
    """Return roles data, a list of roles; raises ConfigurationError."""
    content = _load(name)
    if not isinstance(content, list) or not all(
        isinstance(role, dict) and role.get("name") for role in content
    ):
        raise errors.ConfigurationError(f"{name}: must be a list of roles, each with a name")
    return content


def images(name: str, *, may_be_empty: bool = False) -> list[dict[str, Any]]:
    """Return the entries of a list of images, each with its ``imagename``.

    The list is ``container_images`` or ``uploads`` of a yaml file, all of a
    yaml file, or a text file with a name a line; a name stands for an entry
    that has nothing else.  Raises ConfigurationError.
    """
    whole = text(name)
    content: Any = [line for _, line in listed_names(name, whole)] or _parsed(name, whole)
    if isinstance(content, str):
        content = [line for _, line in lines(whole)]
    if isinstance(content, dict):
        sections = [content.get(key) for key in LISTS]
        if not any(sections) and not may_be_empty:
            raise errors.ConfigurationError(f"{name}: neither container_images nor uploads in it")
        content = [item for section in sections for item in _list(name, section)]
    found = [_entry(name, number, item) for number, item in enumerate(_list(name, content), 1)]
    if not found and not may_be_empty:
        raise errors.ConfigurationError(f"{name}: lists no image")
    return found


def listed_names(name: str, content: str) -> list[tuple[int, str]]:
    """Return the lines of a text file with a name a line; none for a file of yaml.

    One that is no name stops the others just where the file may be yaml.
    """
    found = lines(content)
    is_text = Path(name).suffix == ".txt" or all(_LINE.fullmatch(line) for _, line in found)
    return found if is_text else []


def lines(content: str) -> list[tuple[int, str]]:
    """Return the lines of a text, each with its number.

    Those that are empty, and what follows "#", are left out.
    """
    found = enumerate((_COMMENT.sub("", line).strip() for line in content.splitlines()), 1)
    return [(number, line) for number, line in found if line]


def _list(name: str, content: object) -> list[Any]:
    if content is None:
        return []
    if not isinstance(content, list):
        raise errors.ConfigurationError(f"{name}: must be a list of images, or a mapping with one")
    return content


def _entry(name: str, number: int, item: object) -> dict[str, Any]:
    entry = {"imagename": item} if isinstance(item, str) else item
    if not isinstance(entry, dict) or not isinstance(entry.get("imagename"), str):
        raise errors.ConfigurationError(
            f"{name}: image {number} must be a name, or a mapping with an imagename"
        )
    return entry


def mapping(name: str) -> dict[str, Any]:
    """Return what a yaml file maps; raises ConfigurationError naming it if it is no mapping."""
    content = _load(name)
    if not isinstance(content, dict):
        empty = "it is empty, and " if content is None else ""
        raise errors.ConfigurationError(f"{name}: {empty}must be a mapping")
    return content


def write(path: Path, text: str | Iterable[str], *, private: bool = False) -> None:
    """Replace ``path`` as a whole or not at all; raises ConfigurationError.

    A long text may come in parts, so that it is never in the memory as a whole.
    Everybody may read it or, where it is ``private``, its owner alone; but a
    private file that is there keeps its mode.
    """
    temporary = None
    try:
        with _temporary_beside(path) as file:
            temporary = Path(file.name)
            file.writelines([text] if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_mode(path, private=private))
        temporary.replace(path)
    except OSError as e:
        if temporary:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise errors.ConfigurationError(f"cannot write {path}: {e}") from e


def _mode(path: Path, *, private: bool) -> int:
    if not private:
        return 0o644
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(path.stat().st_mode)
    return 0o600


def check_writable(path: Path) -> None:
    """Raise ConfigurationError where write() could not, as far as one can know before.

    Also for a device or a symbolic link, such as /dev/stdout: write() would
    put a file in its place.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OSError("it is not a regular file")
        with _temporary_beside(path) as file:
            Path(file.name).unlink()
    except OSError as e:
        raise errors.ConfigurationError(f"cannot write {path}: {e}") from e


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Return a context in which just one process at a time is that asks for this ``folder``.

    Raises ConfigurationError.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise errors.ConfigurationError(f"cannot lock {folder}: {e}") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def text_if_any(path: Path) -> str:
    """Return a file's text, "" for one that is not there.

    Raises ConfigurationError, or ValueError for what is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as e:
        raise errors.ConfigurationError(f"cannot read {path}: {e}") from e


def _temporary_beside(path: Path) -> IO[str]:
    return tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False)


def write_new(
    folder: Path, texts: Mapping[PurePosixPath, str], *, private: bool = False
) -> Iterator[Path]:
    """Write each text to its absolute path, taken from ``folder``; yields what is written.

    A file that has its text already is left alone.  ``private`` files are for
    their owner alone.  Raises ConfigurationError, before anything is written,
    for one that has another text.
    """
    paths = {folder / path.relative_to("/"): text for path, text in texts.items()}
    missing = [path for path, text in paths.items() if not _has(path, text)]
    for path in missing:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise errors.ConfigurationError(f"cannot write {path}: {e}") from e
        write(path, paths[path], private=private)
        yield path


def _has(path: Path, text: str) -> bool:
    try:
        if path.read_bytes() == text.encode():
            return True
    except FileNotFoundError:
        return False
    except OSError as e:
        raise errors.ConfigurationError(f"cannot read {path}: {e}") from e
    raise errors.ConfigurationError(f"{path} has other content; put the two together by hand")


def text(name: str | Path, limit: int | None = None) -> str:
    """Return the text of a whole file, of ``limit`` characters at most.

    Raises ConfigurationError naming it.
    """
    # NOTE: editors of Windows write a mark before the text, which is no part of it.
    try:
        with Path(name).open(encoding="utf-8-sig") as file:
            return _bounded(file, limit)
    except (OSError, ValueError) as e:
        raise errors.ConfigurationError(f"cannot read {name}: {e}") from e


def text_of(name: str, limit: int) -> str:
    """Return the text of a file, or of standard input for ``-``, as text() does."""
    return _standard_input(limit) if name == STANDARD_INPUT else text(name, limit)


def _standard_input(limit: int) -> str:
    try:
        return _bounded(sys.stdin, limit).removeprefix("\ufeff")
    except (OSError, ValueError) as e:
        raise errors.ConfigurationError(f"cannot read standard input: {e}") from e


def _bounded(file: IO[str], limit: int | None) -> str:
    content = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(content) > limit:
        raise ValueError(f"more than {limit} characters")
    return content


def _load(name: str) -> Any:
    return _parsed(name, text(name))


def _parsed(name: str, content: str) -> Any:
    import yaml  # noqa: PLC0415 - most commands read no yaml, and it takes long to load

    try:
        return _loaded(content)
    except yaml.YAMLError as e:
        raise errors.ConfigurationError(f"{name} is not yaml{yaml_problem(e)}") from None


def _loaded(content: str) -> Any:
    import yaml  # noqa: PLC0415

    # NOTE: PyYAML has it where it was built with libyaml; it is eight times as fast.
    fast: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_levels(content, fast)
        return yaml.load(content, fast)  # noqa: S506 - both are safe
    except Exception:
        # What is wrong is told in the words and places of one of the two.
        _check_levels(content, yaml.SafeLoader)
        return yaml.safe_load(content)


def _check_levels(content: str, loader: type[yaml.SafeLoader]) -> None:
    """Raise YAMLError for values in so many levels that yaml.load() might not come back."""
    import yaml  # noqa: PLC0415

    level = 0
    for event in yaml.parse(content, loader):
        level += isinstance(event, yaml.CollectionStartEvent)
        level -= isinstance(event, yaml.CollectionEndEvent)
        if level > strict_json.LEVELS_LIMIT:
            problem = f"values are nested more than {strict_json.LEVELS_LIMIT} deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=cast(Any, event.start_mark))


def yaml_problem(error: yaml.YAMLError) -> str:
    """Return where and what, without the lines themselves: they may hold passwords."""
    import yaml  # noqa: PLC0415

    if not isinstance(error, yaml.MarkedYAMLError):
        return ""
    mark = error.problem_mark or error.context_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = error.problem or error.context or ""
    if isinstance(error, (yaml.composer.ComposerError, yaml.constructor.ConstructorError)):
        # These quote aliases and tags, which a password that begins with "*" or "!" looks like.
        problem = re.sub(r"'.+'", "'...'", problem)
    return f"{where}: {problem}"
