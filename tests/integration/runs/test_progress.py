# SPDX-License-Identifier: Apache-2.0
"""What is told on the spot: on a terminal, elsewhere, and with -q."""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from image_uploader_plugins import errors, loader, tripleo
from image_uploader_plugins.cli import progress
from image_uploader_plugins.cli.copy_progress import Copying
from image_uploader_plugins.cli.progress import Display, Rate
from image_uploader_plugins.copying import transfers
from image_uploader_plugins.local_export import options
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import Status
from image_uploader_plugins.testing.images import corpus
from tests.integration.runs.conftest import DEADLINE, Cli, Endless, by_name
from tests.support import commands

CLEAR = "\r\x1b[K"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A pseudo-terminal that many columns wide: ``stream`` to write to, and what arrived."""

    def __init__(self, columns: int) -> None:
        self._controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream: TextIO = os.fdopen(terminal, "w")

    def arrived(self) -> str:
        """Return all that was written since the last call.

        Linux passes it on in pieces and a moment later: a mark behind it tells its end.
        """
        self.stream.write("\0")
        self.stream.flush()
        text = b""
        while not text.endswith(b"\0"):
            text += os.read(self._controller, 65536)
        return text[:-1].decode().replace("\r\n", "\n")

    def pieces(self) -> Iterator[bytes]:
        """What others write, as it arrives, until nobody has the terminal open any more."""
        self.stream.close()
        with contextlib.suppress(OSError):  # the end, as Linux tells it
            while piece := os.read(self._controller, 65536):
                yield piece

    def close(self) -> None:
        self.stream.close()
        os.close(self._controller)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal(60)
    yield terminal
    terminal.close()


def test_rate_and_time_left() -> None:
    clock = Clock()
    pace = Rate(clock)
    assert pace.text(0, 100_000_000) == "0 B of 100.0 MB"
    clock.now += 2
    assert pace.text(10_000_000, 100_000_000) == "10.0 MB of 100.0 MB, 5.0 MB/s, 0:18 left"
    clock.now += 2
    about = pace.text(20_000_000, 100_000_000_000, certain=False)
    assert about == "20.0 MB of about 100.0 GB, 5.0 MB/s, about 5:33:16 left"


def test_a_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    pace = Rate(clock)
    for second in range(1, 31):
        clock.now += 1
        pace.text(second * 1_000_000, 10**9)
    for _ in range(20):
        clock.now += 1
        text = pace.text(30_000_000, 10**9)
    assert text == "30.0 MB of 1.0 GB"  # it stands still, and nobody knows how long


def test_more_than_was_expected() -> None:
    clock = Clock()
    pace = Rate(clock)
    pace.text(0, 0)
    clock.now += 1
    assert pace.text(5000, 0) == "5.0 kB of 5.0 kB, 5.0 kB/s, 0:00 left"


def test_the_lines_of_a_run() -> None:
    clock, journal = Clock(), Journal()
    lines = Copying(journal, clock)
    first, second, _ = (journal.plan(f"registry/n{n}:1", "local-export") for n in range(3))
    with journal.turn(first) as meter:
        meter.expect(1000)
        meter.add(1000)
        first.become(Status.COPIED)
    assert lines() == ["1 of 3 images, 1.0 kB of about 3.0 kB"]
    with journal.turn(second) as meter:
        meter.expect(4000)
        assert lines()[1] == "registry/n1:1: 0 B of 4.0 kB"
        clock.now += 1
        meter.add(500)
        assert lines() == [
            "1 of 3 images, 1.5 kB of about 7.5 kB, 500 B/s, about 0:12 left",
            "registry/n1:1: 500 B of 4.0 kB, 500 B/s, 0:07 left",
        ]
        second.become(Status.FAILED, "a reason")
    assert lines()[0].startswith("2 of 3 images, 1 failed, ")


def test_an_image_that_waits_for_its_turn_is_not_shown() -> None:
    clock, journal = Clock(), Journal()
    lines = Copying(journal, clock)
    first, second = (journal.plan(f"registry/n{n}:1", "local-export") for n in range(2))
    with journal.turn(first) as waiting, journal.turn(second) as coming:
        waiting.expect(1000)
        coming.expect(1000)
        assert lines()[1].startswith("registry/n0:1: 0 B of 1.0 kB")
        coming.add(10)
        assert lines()[1].startswith("registry/n1:1: 10 B of 1.0 kB")
        waiting.add(1)
        assert lines()[1].startswith("registry/n0:1: 1 B of 1.0 kB")


def test_lines_are_redrawn_in_place_and_cut_to_the_width(terminal: Terminal) -> None:
    shown = ["first", "x" * 100]
    display = Display(terminal.stream, lambda: shown)
    display.draw()
    assert terminal.arrived() == "first\n" + "x" * 59
    shown[:] = ["second"]
    display.draw()
    assert terminal.arrived() == f"{CLEAR}\x1b[A{CLEAR}second"
    display.write("a line that stays\n")
    assert terminal.arrived() == f"{CLEAR}a line that stays\n"
    display.draw()
    assert terminal.arrived() == "second"


def test_what_is_logged_stays_above(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", DEADLINE)  # drawn when we say so
    handler = logging.StreamHandler(terminal.stream)
    logging.getLogger().addHandler(handler)
    try:
        with Display(terminal.stream, lambda: ["line"]) as display:
            display.draw()
            logging.getLogger("test").warning("trying again")
        assert handler.stream is terminal.stream
    finally:
        logging.getLogger().removeHandler(handler)
    assert terminal.arrived() == f"line{CLEAR}trying again\n"


def test_what_a_block_writes_stays_above(terminal: Terminal) -> None:
    display = Display(terminal.stream, lambda: ["line"])
    display.draw()
    with display.above():
        terminal.stream.write("a result\n")
        terminal.stream.flush()
    display.draw()
    assert terminal.arrived() == f"line{CLEAR}a result\nline"


def test_no_more_than_ten_times_a_second() -> None:
    assert progress.INTERVAL >= 0.1


def test_a_terminal_that_does_not_know_its_width() -> None:
    terminal = Terminal(0)
    Display(terminal.stream, lambda: ["x" * 100]).draw()
    assert terminal.arrived() == "x" * 79
    terminal.close()


def test_dumb_terminals_and_files_are_no_terminals(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert progress.on_terminal(terminal.stream)
    assert not progress.on_terminal(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not progress.on_terminal(terminal.stream)


def test_a_display_that_nobody_looks_at_any_more_ends_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    display = Display(stream, lambda: ["line"])
    display.draw()
    display.write("line\n")
    with contextlib.suppress(OSError):
        stream.close()


def test_parts_count_for_the_whole() -> None:
    whole = Meter()
    part = Meter(whole)
    part.expect(10)
    part.add(4)
    part.expect(-3)
    assert (part.done, part.expected, whole.done, whole.expected) == (4, 7, 4, 7)


def on_terminal(cli: Cli, *arguments: object, until: str | None = None) -> tuple[int, str]:
    """Run the command on a terminal; return its status and all that it wrote.

    It is sent SIGINT once it has written what the pattern ``until`` is found in.
    """
    terminal = Terminal(80)
    with subprocess.Popen(
        commands.line(cli.config, *arguments),
        stdout=terminal.stream,
        stderr=terminal.stream,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        written = b""
        ending = threading.Timer(DEADLINE, process.kill)
        ending.start()
        try:
            for piece in terminal.pieces():
                written += piece
                if until and re.search(until.encode(), written):
                    process.send_signal(signal.SIGINT)
                    until = None
            status = process.wait(DEADLINE)
        finally:
            ending.cancel()
            ending.join()
            process.kill()
    terminal.close()
    assert not until, "it never wrote that"
    return status, written.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_an_interrupted_upload_on_a_terminal(
    cli: Cli, endless: Endless, endless_source: str
) -> None:
    endless.dripping = True
    # Each of them comes by a thread of its own, or the one that is shown might have to wait.
    file = cli.images(endless_source, *endless.names[: transfers.WORKERS])
    # It is certain how much that is when all of their manifests have come.
    left = r"[0-9.]+ MB of (about )?[0-9.]+ TB, [0-9.]+ .?B/s, (about )?\d+:\d\d"
    run = f"0 of {transfers.WORKERS} images, {left}"
    image = rf"{endless_source}/big/n\d+:1\.0: [0-9.]+ MB of 1\.1 TB, [0-9.]+ .?B/s, \d+:\d\d"
    status, text = on_terminal(cli, "upload", file, until=image)
    assert status == 130
    *drawn, last = text.split(CLEAR)
    assert last == "ERROR: interrupted by SIGINT\n"
    lines = [line for part in drawn for line in part.removesuffix("\x1b[A").splitlines()]
    assert all(len(line) < 80 and line.isprintable() for line in lines)
    assert any(re.match(run, line) for line in lines)
    # As many lines are cleared as were drawn.
    assert text.count(CLEAR) == len([line for line in lines if line])
    assert text.count("\x1b[A") == text.count("\n") - 1


@pytest.mark.slow
def test_upload_on_a_terminal(cli: Cli, source: str) -> None:
    status, text = on_terminal(cli, "upload", cli.images(source, *corpus()))
    assert status == 0
    # Whatever was drawn is gone in the end, and one line is left.
    last = re.split(re.escape(CLEAR), text)[-1]
    assert re.fullmatch(r"7 images, \d+ layers uploaded, .* seconds\n", last)
    drawn = text.removesuffix(last)
    assert drawn == "" or re.match(r"\d of 7 images", drawn)
    assert drawn.count("\n") == drawn.count("\x1b[A")


@pytest.mark.slow
def test_verify_on_a_terminal(cli: Cli, source: str) -> None:
    cli.run("upload", cli.images(source, *corpus()))
    status, text = on_terminal(cli, "verify")
    assert status == 0
    last = re.split(re.escape(CLEAR), text)[-1]
    assert last.startswith("All is well: ")
    drawn = text.removesuffix(last)
    assert drawn == "" or re.match(r"(Read|Checked) .* of ", drawn)


@pytest.mark.slow
def test_verify_counts_what_it_hashes(cli: Cli, source: str) -> None:
    cli.run("upload", cli.images(source, *corpus()))
    meter = Meter()
    report = Verification(Tree(cli.root), meter=meter).report()
    assert meter.done == meter.expected == report.bytes_read > 0
    assert meter.steps is None


def test_a_line_about_steps_and_bytes() -> None:
    now = [100.0]
    meter = Meter()
    line = progress.Work(meter, lambda: now[0])
    assert line() == []
    meter.expect(2000)
    meter.add(1000)
    assert line() == ["Read 1.0 kB of 2.0 kB"]
    shown = []
    for _ in meter.each("Checked {} repositories", range(4)):
        shown += line()
        now[0] += 30
    assert shown == [
        "Checked 0 of 4 repositories",
        "Checked 1 of 4 repositories, 1:30 left",
        "Checked 2 of 4 repositories, 1:00 left",
        "Checked 3 of 4 repositories, 0:30 left",
    ]
    meter.add(500)
    assert line() == ["Read 1.5 kB of 2.0 kB, 4 B/s, 2:00 left"]


def test_a_stop_ends_the_steps() -> None:
    meter = Meter()
    seen = []
    with pytest.raises(errors.Interrupted):
        for item in meter.each("Checked {} repositories", range(4)):
            seen.append(item)
            meter.stop()
    assert seen == [0]
    assert meter.steps is None


@pytest.mark.slow
def test_elsewhere_there_are_plain_lines(cli: Cli, source: str) -> None:
    done = cli.run("upload", cli.images(source, *corpus()))
    lines = done.stderr.splitlines()
    assert len(lines) == len(corpus()) + 1
    assert all(line.isprintable() for line in lines)
    assert cli.run("verify").stderr == ""


@pytest.mark.slow
def test_quiet(cli: Cli, source: str) -> None:
    done = cli.run("-q", "upload", cli.images(source, by_name("base")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert on_terminal(cli, "-q", "upload", cli.images(source, by_name("base"))) == (0, "")
    done = cli.run("-q", "upload", cli.images(source, "absent:1.0"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ERROR: {source}/absent:1.0: not found")


@pytest.mark.slow
def test_quiet_means_no_warnings(cli: Cli, source: str, tmp_path: Path) -> None:
    cli.root.write_text("no folder")
    arguments = ("upload", cli.images(source, by_name("base")), "--metrics", tmp_path / "m.prom")
    assert "WARNING: " in cli.run(*arguments).stderr
    (line,) = cli.run("-q", *arguments).stderr.splitlines()
    assert line.startswith("ERROR: ")


@pytest.mark.slow
def test_all_that_was_expected_is_done_in_the_end(source: str, tmp_path: Path, root: Path) -> None:
    conf = loader.load_conf(config_files=[])
    options.values(conf)
    conf.set_override("root", str(root), group=options.GROUP)
    journal = Journal(lambda record: None)
    file = Cli(root, tmp_path, tmp_path / "none").images(source, *corpus(), multi_arch=True)
    tripleo.upload_files([str(file)], conf, journal=journal)
    assert journal.meter.done == journal.meter.expected > 0
    assert journal.at_work() == []
    assert sum(image.bytes_fetched for image in journal.images) == journal.meter.done
