# SPDX-License-Identifier: Apache-2.0
"""Errors: whose fault, what they keep, and what they never show."""

from __future__ import annotations

import ast
import pickle
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import image_uploader_plugins
from image_uploader_plugins import errors
from image_uploader_plugins.archives.archive import MissingBlobs
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.lists.reasons import ImagesFailed
from image_uploader_plugins.storage import NotFound

PACKAGE = Path(image_uploader_plugins.__file__).parent
HELLO = Digest.of(b"hello")
MARK = "s3cr3t"
SIGNED = f"https://user:{MARK}@storage.example.com/a/b?X-Amz-Signature={MARK}"
SHOWN = "https://storage.example.com/a/b"

EXAMPLES: list[errors.UploaderError] = [
    errors.UploaderError("whatever"),
    errors.Interrupted("interrupted"),
    errors.UsageError("not so"),
    errors.ConfigurationError("root must be absolute"),
    errors.InvalidReference("not a tag: '!'"),
    errors.ImageUnknown("no such image: ns/a:1", "ns/a:1"),
    errors.SourceError("nothing there"),
    errors.RegistryError(SHOWN, 403, "DENIED", "not yours", login=True),
    errors.RegistryUnreachable(SHOWN, "no such host", False),
    errors.RateLimited("quay.io", 90.0, 60.0),
    errors.TransferTooSlow("quay.io:443/v2/a", "10 bytes in 30 seconds", False),
    errors.ArchiveInvalid(Path("/x.tar"), "is cut off"),
    errors.ContentError("not so"),
    errors.ManifestInvalid("is not JSON", Path("/x")),
    errors.NeedUnknown([errors.Doubt("a:1", "/x: is not JSON", ("a:1",))], Deletion((HELLO,))),
    errors.ContentMismatch("not so"),
    errors.DigestMismatch(HELLO, Digest.of(b"")),
    errors.SizeMismatch(1, 2),
    errors.BlobUnknown([HELLO], {HELLO: (1, 2)}),
    errors.StorageError(Path("/x"), "Input/output error", 5),
    errors.StorageFull(Path("/x"), "No space left on device", 28),
    errors.StorageDenied(Path("/x"), "Permission denied", 13),
    MissingBlobs([HELLO]),
    ImagesFailed("base:1: not found"),
    NotFound(Path("/x"), "No such file or directory", 2),
]


def classes(kind: type[errors.UploaderError] = errors.UploaderError) -> Iterator[type]:
    """Yield a class of the package and all below it, as in a drawing of the tree."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith(image_uploader_plugins.__name__):
            yield from classes(child)


def depth(kind: type) -> int:
    return len([base for base in kind.__mro__ if issubclass(base, errors.UploaderError)])


def test_the_drawing_is_the_tree() -> None:
    pattern = re.compile(r"^ {4}([│├└─ ]*)(\w+)(?: +(.*))?$", re.MULTILINE)
    drawn = [(len(m[1]) // 4 + 1, m[2]) for m in pattern.finditer(errors.__doc__ or "")]
    found = [(depth(c), c.__name__) for c in classes() if c.__module__ == errors.__name__]
    assert drawn == found


def test_there_is_an_example_of_each() -> None:
    public = {kind for kind in classes() if not kind.__name__.startswith("_")}
    assert {type(error) for error in EXAMPLES} == public


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_everything(error: errors.UploaderError, protocol: int) -> None:
    given = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    given.add_note("blob sha256:...")
    given.__cause__ = cause = errors.StorageError("/cause", "Input/output error", 5)
    cause.__cause__ = OSError(5, "Input/output error")
    copy = pickle.loads(pickle.dumps(given, protocol))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert (str(copy), copy.args, copy.retryable) == (str(error), error.args, error.retryable)
    assert vars(copy) == vars(error) | {"__notes__": ["blob sha256:..."]}
    assert isinstance(copy.__cause__, errors.StorageError)
    assert vars(copy.__cause__) == vars(cause)
    assert getattr(copy.__cause__.__cause__, "errno", None) == 5


class _Picky(Exception):
    """An error that cannot be made from what it keeps."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


@pytest.mark.parametrize("cause", [ValueError(threading.Lock()), _Picky("a", "b")])
def test_a_cause_that_cannot_be_pickled_stays_behind(cause: Exception) -> None:
    error = errors.RegistryUnreachable(SHOWN, "no such host")
    error.__cause__ = cause
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(copy), copy.__cause__) == (str(error), None)


@pytest.mark.parametrize(
    "error",
    [
        errors.RegistryError(SIGNED, 403, "DENIED", f"see {SIGNED}"),
        errors.RegistryUnreachable(SIGNED, f"leads to {SIGNED}"),
        errors.TransferTooSlow(SIGNED, f"{SIGNED} gave nothing"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_user_and_no_query_is_kept_of_a_url(error: errors.UploaderError) -> None:
    assert SHOWN in str(error)
    for kept in (str(error), repr(error), repr(vars(error)), pickle.dumps(error).decode("latin1")):
        assert MARK not in kept
        assert "user" not in kept


# What reads a text that it did not write itself.
_PARSING = {
    *("startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition"),
    *("split", "rsplit", "find", "index", "replace", "search", "match", "fullmatch"),
}
_NO_OTHER_WAY = {
    # NOTE: http.client tells what a proxy answered to CONNECT in the message alone.
    "sources/network_errors.py": 1,
    # OpenSSL's reasons are names, as KEY_VALUES_MISMATCH, and no words for people.
    "serving/listener.py": 1,
}


def parsed(tree: ast.AST) -> Iterator[int]:
    """Yield the lines where a message is read: ``str(e)`` searched, cut or compared."""
    caught = {h.name for h in ast.walk(tree) if isinstance(h, ast.ExceptHandler) and h.name}
    caught |= {"error", "cause", "failure", "exception", "problem"}

    def is_message(node: ast.AST) -> bool:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found = bool(node.args) and node.func.id in ("str", "repr")
            return found and isinstance(node.args[0], ast.Name) and node.args[0].id in caught
        is_dunder = isinstance(node, ast.Attribute) and node.attr == "__str__"
        return is_dunder or (
            isinstance(node, ast.Attribute)
            and node.attr in ("reason", "message", "args", "strerror")
            and isinstance(node.value, ast.Name)
            and node.value.id in caught
        )

    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            if any(map(is_message, (node.left, *node.comparators))):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = (node.func.value, *node.args)
            if node.func.attr in _PARSING and any(map(is_message, given)):
                yield node.lineno


@pytest.mark.slow
def test_no_message_is_parsed() -> None:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if lines := list(parsed(ast.parse(path.read_text()))):
            found[str(path.relative_to(PACKAGE))] = len(lines)
    assert found == _NO_OTHER_WAY


@pytest.mark.parametrize(
    "text",
    [
        "try: f()\nexcept E as e:\n    'x' in str(e)",
        "try: f()\nexcept E as e:\n    str(e).rpartition(': ')",
        "try: f()\nexcept E as e:\n    PATTERN.search(str(e))",
        "try: f()\nexcept E as e:\n    e.reason == 'x'",
    ],
)
def test_parsing_is_seen(text: str) -> None:
    assert list(parsed(ast.parse(text))) == [3]
