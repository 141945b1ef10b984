# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.robustness.stress``: writers and readers at once, until the time is over.

Exit status 1 when anything was bad.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.robustness.stress import rounds
from tests.robustness.stress.writers import Shape
from tests.support import web

_THREADS = 3
_STEPS = 80  # of each thread, in each round
_TAGS = 40  # more than one page's
_SHOWN = 10
_BOTH: tuple[web.Kind, ...] = ("nginx", "httpd")


def main() -> int:
    arguments = _arguments()
    total = rounds.Report()
    ends = time.monotonic() + arguments.seconds
    for number in itertools.count(arguments.seed):
        shape = Shape(number, arguments.workers, _THREADS, _STEPS, _TAGS)
        with _folder(arguments.root) as folder:
            report = rounds.play(folder, shape, arguments.readers, arguments.kinds)
        total.add(report)
        _show(f"seed {number}", report)
        if time.monotonic() > ends:
            break
    _show("altogether", total)
    for line in total.bad[:_SHOWN]:
        print(line)
    print(
        f"{len(total.bad)} bad reads and differences,"
        f" {sum(total.reads.values())} reads, {sum(total.operations.values())} operations"
    )
    return 1 if total.bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.stress", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="of the first round"
    )
    parser.add_argument("--seconds", type=float, default=60, help="begin no round after so many")
    parser.add_argument("--workers", type=int, default=3, help=f"processes of {_THREADS} threads")
    parser.add_argument("--readers", type=int, default=4, help="processes")
    parser.add_argument(
        "--server", choices=(*web.KINDS, "both"), default="both", help="both: nginx and httpd"
    )
    parser.add_argument("--root", type=Path, help="a folder for the trees; else a temporary one")
    arguments = parser.parse_args()
    arguments.kinds = _BOTH if arguments.server == "both" else (arguments.server,)
    arguments.readers = max(arguments.readers, len(arguments.kinds))
    return arguments


@contextlib.contextmanager
def _folder(parent: Path | None) -> Iterator[Path]:
    """A folder for one round; the web servers' user must be able to enter it."""
    if parent is None:
        with web.open_folder() as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="round-", dir=parent.resolve()) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _show(title: str, report: rounds.Report) -> None:
    operations = ", ".join(f"{n} {name}" for name, n in sorted(report.operations.items()))
    reads = ", ".join(f"{n} {name}" for name, n in sorted(report.reads.items()))
    print(f"{title}: operations: {operations}; reads: {reads}; bad: {len(report.bad)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
