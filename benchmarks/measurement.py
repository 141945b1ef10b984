# SPDX-License-Identifier: Apache-2.0
"""The measuring of commands, and the comparison of contenders in alternating order."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.results import Case, Entry, Figures

ENOUGH = 40.0
"""Seconds after which a contender does not run again in a case."""

_LAUNCHER = Path(__file__).with_name("launcher.py")
_LARGE = 256  # KiB
_NOT_COMPILED = "PYTHONDONTWRITEBYTECODE"
_CACHES = Path("/proc/sys/vm/drop_caches")


class MeasurementError(Exception):
    """A contender that failed, or did not do the whole work."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """One of those that do the same work.

    ``run`` does it once in a folder that is empty, and returns the figures;
    ``missing`` says why it cannot, ``is_ours`` whether it is this project's.
    """

    name: str
    run: Callable[[Path], Figures]
    missing: str = ""
    is_ours: bool = False


def measure(
    command: Sequence[object], folder: Path, env: Mapping[str, str] | None = None
) -> Figures:
    """Run a command in ``folder`` to its end; return its seconds, CPU seconds and memory.

    Raises MeasurementError with the end of its output if its status is not 0.
    """
    result, log = folder / "launcher.json", folder / "launcher.log"
    words = [sys.executable, "-I", "-S", str(_LAUNCHER), str(result), str(log), *map(str, command)]
    # An installed program is compiled once, not at each start.
    inherited = {name: value for name, value in os.environ.items() if name != _NOT_COMPILED}
    subprocess.run(words, check=True, cwd=folder, env={**inherited, **(env or {})})  # noqa: S603
    figures: Figures = json.loads(result.read_bytes())
    status = figures.pop("status")
    if status:
        said = last_line(log).replace(str(folder), "")
        raise MeasurementError(f"ends with {status:.0f}: {said}")
    return figures


def last_line(log: Path) -> str:
    """Return the end of the last line of a log, where programs say why they failed."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip()[-120:] for line in reversed(lines) if line.strip()), "")


def in_turns(contenders: Sequence[Contender], runs: int) -> Iterator[Contender]:
    """Yield each contender once a round, every second round in reverse order."""
    for number in range(runs):
        yield from contenders if number % 2 == 0 else reversed(contenders)


class Bench:
    """Where contenders run: each time in a new folder, after all older writes have ended."""

    def __init__(self, folder: Path, say: Callable[[str], None], *, drop_caches: bool = False):
        self.folder = folder
        self._say = say
        self._drop_caches = drop_caches
        self._count = 0

    def compare(self, case: Case, contenders: Sequence[Contender], runs: int) -> Case:
        """Let the contenders run; return the case with their figures, or why there are none.

        One that has taken ``ENOUGH`` seconds, or has failed, does not run again.
        """
        entries = {
            one.name: Entry(one.name, note=one.missing, is_ours=one.is_ours) for one in contenders
        }
        taken = dict.fromkeys(entries, 0.0)
        for contender in in_turns(contenders, runs):
            entry = entries[contender.name]
            if entry.note or taken[contender.name] > ENOUGH:
                continue
            started = time.monotonic()
            try:
                entry.runs.append(self.once(contender.run))
            except MeasurementError as e:
                entry.note = str(e)
            taken[contender.name] += time.monotonic() - started
            self._tell(case, entry)
        return dataclasses.replace(case, entries=[*case.entries, *entries.values()])

    def once(self, run: Callable[[Path], Figures]) -> Figures:
        """Do one run in a new folder, whose large files are removed afterwards.

        NOTE: for minutes, ext4 does not use the inodes of removed files again, and
        looks at each of them for every file that is made. So whoever ran after a
        contender with many small files would pay for these.
        """
        folder = self.new_folder()
        try:
            self.settle()
            return run(folder)
        finally:
            remove_large(folder)

    def new_folder(self) -> Path:
        """Return a new folder, which servers may enter as other users."""
        self._count += 1
        folder = self.folder / f"run-{self._count}"
        folder.mkdir(mode=0o755)
        return folder

    def settle(self) -> None:
        """Wait for writes that are under way, and empty the page cache if that is wanted."""
        os.sync()
        if self._drop_caches:
            _CACHES.write_text("3")

    def _tell(self, case: Case, entry: Entry) -> None:
        last = f"{entry.runs[-1].get(case.metric, 0):.4g}" if entry.runs else ""
        self._say(f"  {case.title}: {entry.name}: {entry.note or last}")


def remove_large(folder: Path) -> None:
    """Remove the large files in a folder, which are few."""
    words = ["find", str(folder), "-type", "f", "-size", f"+{_LARGE}k", "-delete"]
    subprocess.run(words, check=True)  # noqa: S603


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it."""
    # A child is faster than shutil, and a tree may have a million names.
    subprocess.run(["rm", "-rf", str(folder)], check=True)  # noqa: S603, S607
