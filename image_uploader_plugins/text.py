# SPDX-License-Identifier: Apache-2.0
"""Text of strangers in messages for people: short, in one line, printable, without secrets.

What a registry or a file says may carry newlines that fake a line of a log,
escape sequences that a terminal obeys, or no end; URLs carry passwords and
signatures.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Sequence

_LIMIT = 1000  # characters
_NAME = 50  # characters of one of several
_CUT = " [...]"
_HIDDEN = "[...]"

_WORD = re.compile(r"""[^\s"'<>()]+""")
_MARKS = ".,:;"  # of a sentence, after a word
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
# NOTE: a name's digest stands after "@", too.
_AT = re.compile(r"@(?!sha(?:256|512):)")
_HOST = re.compile(r"[\w.-]+(?::\d+)?/")
_SECRETS = [
    (re.compile(pattern, re.IGNORECASE), rf"\1{_HIDDEN}")
    for pattern in (
        # RFC 9110, 11.6.2.
        r"""(authorization["']?\s*[:=]\s*["']?(?:(?:basic|bearer)\s+)?)[^\s"',]+""",
        r"""\b((?:basic|bearer)\s+)(?=[^\s\d]{0,80}\d)[\w.~+/-]{8,}=*""",
        # Answers of token servers (distribution, "Token Authentication Specification").
        r"""(["'](?:\w{0,20}token|password|secret)["']\s*:\s*["'])[^"']*""",
    )
]


def shown(value: object, limit: int = 200) -> str:
    """Return a value of any kind as Python writes it, in about ``limit`` characters."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = limit
    return one_line(short.repr(redacted(value) if isinstance(value, str) else value), limit)


def redacted(text: str) -> str:
    """Return ``text`` without the users, passwords, queries and tokens in it.

    Of a URL the scheme, the host and the path stay (RFC 3986, 3): registries
    redirect to storage whose URLs are keys to it.
    """
    text = _WORD.sub(lambda match: _word(match[0].rstrip(_MARKS)) + _marks(match[0]), text)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _marks(word: str) -> str:
    return word[len(word.rstrip(_MARKS)) :]


def _word(word: str) -> str:
    before, separator, rest = word.partition("://")
    if separator and _SCHEME.search(before):
        return before + separator + _url(rest)
    if word.startswith("/"):
        return word.partition("?")[0]  # as urllib3 writes what it asks for
    users = list(_AT.finditer(word))
    if users:
        user, host = word[: users[-1].start()], word[users[-1].end() :]
        if _HOST.match(host) or (":" in user and host):
            return f"{_HIDDEN}@{host}"
    return word


def _url(rest: str) -> str:
    """Return what follows a URL's scheme, from its host to the end of its path."""
    visible, *hidden = re.split(r"[?#]", rest, maxsplit=1)
    # A password may have characters that should be encoded, which hide where the host begins.
    if any(map(_AT.search, hidden)):
        return _HIDDEN
    return _AT.split(visible)[-1]


def one_line(text: str, limit: int = _LIMIT) -> str:
    """Return ``text`` without its line breaks, and with escapes for what does not print."""
    words = " ".join(text[: 2 * limit].split())
    line = printable(words)
    return line if len(line) <= limit else line[: limit - len(_CUT)] + _CUT


def enumerated(texts: Sequence[str], most: int = 10) -> str:
    """Return texts with commas in one line; of more than ``most`` of them say how many more."""
    some = ", ".join(one_line(text, _NAME) for text in texts[:most])
    return some + (f" and {len(texts) - most} more" if len(texts) > most else "")


def printable(text: str) -> str:
    """Return ``text`` with escapes for every character that does not print."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question for a word that may be misspelled, "" for one that is like no other."""
    # For mistakes alone.
    import difflib  # noqa: PLC0415

    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
