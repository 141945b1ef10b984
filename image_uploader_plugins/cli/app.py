# SPDX-License-Identifier: Apache-2.0
"""The start and the end of the program ``image-uploader``."""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
import types
from collections.abc import Sequence
from typing import Any

_INTERRUPTED = 128 + signal.SIGINT
_NO_READER = 128 + signal.SIGPIPE
_OBJECTS = 100_000  # new ones, after which garbage is looked for: twice what a start makes
# NOTE: oslo.config imports these for kinds of options of which there is none here, in a sixth of
# the time of a start.
_RARELY_USED = ("netaddr", "rfc3986")


class _Placeholder(types.ModuleType):
    """A module that is imported when something of it is used, and not before."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status, as ``--help`` explains them."""
    # NOTE: autopage, by which cliff writes help, takes less where nobody has named a pager.
    os.environ.setdefault("PAGER", "cat")
    # NOTE: by default Python looks for garbage after 700 new objects, which takes a tenth of the
    # time of a run. What a run makes is small, and hardly any of it is garbage.
    usual = gc.get_threshold()
    for name in _RARELY_USED:
        sys.modules.setdefault(name, _Placeholder(name))
    gc.set_threshold(_OBJECTS, 20, 100)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where a locale has no such letter
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        status = _INTERRUPTED
    finally:
        gc.set_threshold(*usual)
    status = _flush() or status
    if argv is None:
        # Or Python would look for garbage among all objects when the process ends with them.
        gc.freeze()
    return status


def _run(argv: list[str]) -> int:
    # Imported when garbage is looked for rarely, since none of it is, and a signal ends in order.
    from image_uploader_plugins.cli.program import Main  # noqa: PLC0415

    try:
        if "_ARGCOMPLETE" in os.environ:
            # A command that runs does without.
            from image_uploader_plugins.cli import completion  # noqa: PLC0415

            completion.answer(Main())
        return Main().run(argv)
    except SystemExit as e:  # from argparse, and after help
        return e.code if isinstance(e.code, int) else 0


def _flush() -> int:
    """Write what is left of the output; return a status if that fails, else 0."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as e:
        # Or the interpreter would try again, and complain in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(e, BrokenPipeError):
            return _NO_READER
        print(f"ERROR: cannot write the output: {e}", file=sys.stderr)
        return 1
    return 0
