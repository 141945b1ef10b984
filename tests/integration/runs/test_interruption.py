# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM: an end in order, a report all the same, and nothing left unrecognised."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import pytest

from image_uploader_plugins import errors, loader, media_types, tripleo
from image_uploader_plugins.cli import interruption
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.registry import SourceRegistry
from image_uploader_plugins.testing.web_server import Answer
from tests.integration.runs.conftest import DEADLINE, Cli, Endless, by_name
from tests.support import commands, trees

pytestmark = pytest.mark.slow

Signals = Callable[["subprocess.Popen[str]"], None]


def once(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)


def until_it_ends(process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)


def interrupt(
    cli: Cli, endless: Endless, source: str, signals: Signals
) -> subprocess.CompletedProcess[str]:
    """Send the signals when a part of a layer has arrived."""
    file = cli.images(source, *endless.names)
    command = commands.line(cli.config, "upload", file, "--report", cli.report_file)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for_staged(cli, endless.CHUNK)
            signals(process)
            out, err = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def wait_for_staged(cli: Cli, count: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while not any(size >= count for size in staged(cli)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def staged(cli: Cli) -> list[int]:
    """Return the sizes of temporary files."""
    return list(sizes(cli.root / ".local-export" / "staging", "*/*"))


def sizes(folder: Path, pattern: str) -> Iterator[int]:
    """The sizes of what is there, and not gone when it is looked at."""
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            yield path.stat().st_size


@pytest.mark.parametrize("dripping", [True, False], ids=["dripping", "silent"])
def test_sigterm(cli: Cli, endless: Endless, endless_source: str, dripping: bool) -> None:
    endless.dripping = dripping
    done = interrupt(cli, endless, endless_source, once)
    assert (done.returncode, done.stdout) == (143, "")
    assert done.stderr == "ERROR: interrupted by SIGTERM\n"
    found = cli.report()
    assert (found["status"], found["why"]) == ("interrupted", "interrupted by SIGTERM")
    ways = {(i["status"], i["why"], i["retryable"]) for i in found["images"]}
    never = "never begun: the run ended before its turn"
    assert ways == {("failed", "interrupted", True), ("skipped", never, False)}
    assert found["summary"]["bytes_fetched"] >= endless.CHUNK
    if not dripping:
        assert staged(cli)  # or nothing hung
    assert found["summary"]["bytes_fetched"] == sum(i["bytes_fetched"] for i in found["images"])


def test_sigint(cli: Cli, endless: Endless, endless_source: str) -> None:
    endless.dripping = True
    done = interrupt(cli, endless, endless_source, lambda p: p.send_signal(signal.SIGINT))
    assert done.returncode == 130
    assert done.stderr == "ERROR: interrupted by SIGINT\n"
    assert cli.report()["status"] == "interrupted"


def test_a_second_signal_kills(cli: Cli, endless: Endless, endless_source: str) -> None:
    done = interrupt(cli, endless, endless_source, until_it_ends)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert not cli.report_file.exists()


def test_a_signal_that_comes_twice_at_once_is_one() -> None:
    """timeout(1) sends a signal to the command and to its group."""
    script = """
import os, signal, time
from image_uploader_plugins.cli import interruption

seconds = 100.0
time.monotonic = lambda: seconds
with interruption.handled(lambda: None):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    except interruption.Interruption:
        seconds += 0.2
        os.kill(os.getpid(), signal.SIGTERM)
        print("goes on", flush=True)
    seconds += 0.1
    os.kill(os.getpid(), signal.SIGTERM)
    print("is still there", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "goes on\n")


def test_a_program_that_is_interrupted_leaves_nothing_at_work(
    cli: Cli, endless: Endless, endless_source: str
) -> None:
    """Without our handlers, the exception is raised in whatever is called at the moment."""
    endless.dripping = True

    def observer(record: ImageRecord) -> None:
        raise KeyboardInterrupt

    conf = loader.load_conf(config_files=[str(cli.config)])
    endless.add(by_name("base"))
    journal = tripleo.Journal(observer)
    file = cli.images(endless_source, endless.names[0], by_name("base"))
    with pytest.raises(KeyboardInterrupt):
        tripleo.upload_files([str(file)], conf, journal=journal)
    assert journal.at_work() == []
    ways = {(record.status, record.why) for record in journal.images}
    assert ways == {(Status.FAILED, "interrupted"), (Status.COPIED, None)}


def test_transfers_that_flow_leave_nothing(cli: Cli, endless: Endless, endless_source: str) -> None:
    endless.dripping = True
    interrupt(cli, endless, endless_source, once)
    assert not list((cli.root / ".local-export" / "staging").iterdir())
    assert not list((cli.root / ".local-export" / "leases").rglob("*.*"))


def test_transfers_that_hang_leave_what_gc_knows(
    cli: Cli, endless: Endless, endless_source: str
) -> None:
    interrupt(cli, endless, endless_source, once)
    assert cli.run("gc").returncode == 0
    assert not list((cli.root / ".local-export" / "staging").iterdir())
    assert not trees.problems(cli.root)


def test_ignored_signals_stay_ignored() -> None:
    """nohup, and shells for what is in the background, have a command ignore signals."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption.handled(lambda: None):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopped: list[bool] = []
    with (
        pytest.raises(interruption.Interruption, match="interrupted by SIGTERM") as raised,
        interruption.handled(lambda: stopped.append(True)),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(DEADLINE)
    assert (raised.value.status, stopped) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is before


def test_hashing_ends_at_its_next_piece(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, images.image("ns/img", "1.0", [images.layer({"file": b"one"})]))
    meter = Meter()
    meter.stop()
    with pytest.raises(errors.Interrupted):
        Verification(Tree(root), meter=meter).report()


class Halting(SourceRegistry):
    """Gives a layer by ranges; the first answer with it waits after ``HALT`` bytes."""

    HALT = 4 * 1024 * 1024
    LAYER = images.Blob(bytes(range(256)) * 32768, media_types.OCI_LAYER_GZIP)
    IMAGE = images.image("ns/big", "1.0", [LAYER])

    def __init__(self) -> None:
        super().__init__([self.IMAGE])
        self.released = threading.Event()
        self.served = 0
        self._begun = False

    def __call__(self, path: str, headers: Message) -> Answer:
        if not path.endswith(str(self.LAYER.digest)):
            return super().__call__(path, headers)
        start = int((headers["Range"] or "bytes=0-")[len("bytes=") : -1])
        size = len(self.LAYER.content)
        told = {"Content-Length": str(size - start)}
        if start:
            told["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return Answer(206 if start else 200, told, self._body(self.LAYER.content[start:]))

    def _body(self, content: bytes) -> Iterator[bytes]:
        halts, self._begun = not self._begun, True
        self.served += self.HALT if halts else len(content)
        yield content[: self.HALT]
        if halts:
            self.released.wait(DEADLINE)
        else:
            yield content[self.HALT :]


@pytest.fixture
def halting() -> Iterator[tuple[Halting, str]]:
    registry = Halting()
    with web_server.serving(registry) as address:
        yield registry, address
        registry.released.set()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_run_goes_on_where_one_was_ended(
    cli: Cli, halting: tuple[Halting, str], how: signal.Signals
) -> None:
    registry, address = halting
    command = commands.line(cli.config, "upload", cli.images(address, registry.IMAGE))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + DEADLINE
        while kept(cli) != [registry.HALT]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(how)
    assert kept(cli) == [registry.HALT]
    assert cli.upload(cli.images(address, registry.IMAGE)).returncode == 0
    size = len(registry.LAYER.content)
    assert registry.served == size
    # The configuration may have come with the first run.
    config = registry.IMAGE.manifest.config
    fetched = cli.report()["summary"]["bytes_fetched"] - (size - registry.HALT)
    assert fetched in (0, config.size if config else 0)
    assert kept(cli) == []
    assert not trees.problems(cli.root)


def kept(cli: Cli) -> list[int]:
    return list(sizes(cli.root / layout.PARTIAL, "*"))
