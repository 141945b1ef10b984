# SPDX-License-Identifier: Apache-2.0
"""Archives that come through a pipe, and the temporary file that takes them in."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import select
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.archives import spool
from image_uploader_plugins.archives import tar as reading
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import archives, commands, mounts, programs, trees
from tests.support.archives import bring

IMAGE = images.image("ns/img", "1.0", [images.layer({"file": b"one" * 3000}, oci=True)], oci=True)
LAYOUT = archives.layout([archives.entry(IMAGE, "ns/img:1.0")], archives.blobs([IMAGE]))


@pytest.fixture
def memory(tmp_path: Path) -> MemoryDriver:
    return MemoryDriver(str(tmp_path))


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return archives.tar(tmp_path / "packed.tar", LAYOUT)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def shell(script: str, config: Path, packed: Path) -> tuple[int, str]:
    """Run a pipeline in which ``import`` is the command, and $1 the archive."""
    function = f'import() {{ {shlex.join(commands.line(config, "import"))} "$@"; }}\n'
    done = subprocess.run(
        [programs.require("bash"), "-c", function + script, "bash", str(packed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        'cat "$1" | import -',
        'cat "$1" | import /dev/stdin',
        'import <(cat "$1")',
        'import - < "$1"',
        'gzip -c "$1" | import -',
        '(cat "$1"; sleep 0.1; printf "") | import - ns/img:1.0 --as ns/img:1.0',
        '(printf "%512s"; cat "$1") > "$1.x"; (dd bs=512 count=1 >/dev/null; import -) < "$1.x"',
    ],
)
def test_pipes(root: Path, config: Path, packed: Path, temporary: Path, script: str) -> None:
    status, output = shell(script, config, packed)
    assert status == 0, output
    assert trees.tags(root, "ns/img") == ["1.0"]
    assert not list(temporary.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "refused"),
    [
        ("import - < /dev/null", "-: is not a tar archive"),
        ("import - <&-", "-: Bad file descriptor"),
        ('head -c 3000 "$1" | import -', "is cut off"),
        ('gzip -c "$1" | head -c 300 | import -', "-: is gzip that ends too early"),
        ('tail -c +100 "$1" | import -', "-: is not a tar archive"),
    ],
)
def test_refused(
    root: Path, config: Path, packed: Path, temporary: Path, script: str, refused: str
) -> None:
    status, output = shell(script, config, packed)
    assert status == 1
    assert refused in output
    assert len(output.splitlines()) == 1, output
    assert not root.exists()
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_a_terminal_is_no_archive(config: Path) -> None:
    """A terminal as standard input is refused at once."""
    script = [programs.require("script", "bsdutils"), "-qec"]
    command = shlex.join(commands.line(config, "import", "-"))
    done = subprocess.run(
        [*script, command, "/dev/null"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "-: is a terminal: send an archive into it" in done.stdout


def test_a_fifo(memory: MemoryDriver, tmp_path: Path, packed: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(packed.read_bytes()))
    writer.start()
    assert bring(tmp_path / "fifo", memory) == ["ns/img:1.0"]
    writer.join()


@contextlib.contextmanager
def waiting(config: Path, packed: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start an import that waits for the end of its archive."""
    command = commands.line(config, "import", "-")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(packed.read_bytes()[:-512])
        process.stdin.flush()
        # It writes to its file when it has some, or waits for a whole piece.
        while not any("temporary" in target for target in _open_files(process.pid)):
            assert process.poll() is None
        yield process
        process.kill()


def _open_files(process: int) -> Iterator[str]:
    for name in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            yield str(name.readlink())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_nothing(
    config: Path, packed: Path, temporary: Path, number: signal.Signals
) -> None:
    with waiting(config, packed) as process:
        assert not list(temporary.iterdir())  # what it has open has no name
        process.send_signal(number)
        assert process.wait() != 0
    assert not list(temporary.iterdir())


class Poll:
    """A poll that finds nothing at first."""

    def __init__(self) -> None:
        self._real, self._nothing_yet = select.poll(), True
        self.limits: list[float | None] = []

    def register(self, *what: Any) -> None:
        self._real.register(*what)

    def poll(self, limit: float | None = None) -> list[tuple[int, int]]:
        self.limits.append(limit)
        nothing, self._nothing_yet = self._nothing_yet, False
        return [] if nothing else self._real.poll(limit)


def test_no_read_waits_for_who_writes(
    memory: MemoryDriver, tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that comes just before a read begins would be seen only after it."""
    polls: list[Poll] = []

    def made() -> Poll:
        polls.append(Poll())
        return polls[-1]

    def checked(descriptor: int, length: int) -> bytes:
        ready, _, _ = select.select([descriptor], [], [], 0)
        assert ready
        return os.read(descriptor, length)

    monkeypatch.setattr(reading, "select", SimpleNamespace(poll=made, POLLIN=select.POLLIN))
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(packed.read_bytes()))
    writer.start()
    # Of this module alone: other threads of the process may read, too.
    monkeypatch.setattr(reading, "os", SimpleNamespace(**{**vars(os), "read": checked}))
    assert bring(tmp_path / "fifo", memory) == ["ns/img:1.0"]
    writer.join()
    assert len(polls) > 1
    for poll in polls:
        assert len(poll.limits) > 1
        assert all(limit and limit <= 1000 for limit in poll.limits)


# -- room


def test_a_disk_that_would_be_full(
    memory: MemoryDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary file leaves room for what others have on the disk."""
    with mounts.tmpfs(tmp_path / "small", "size=2m") as disk:
        monkeypatch.setenv("TMPDIR", str(disk))
        (tmp_path / "x").write_bytes(gzip.compress(bytes(8 * 1024**2)))
        with pytest.raises(errors.StorageFull, match="TMPDIR names a place with more room"):
            bring(tmp_path / "x", memory)
        assert os.statvfs(disk).f_bavail == os.statvfs(disk).f_blocks  # all of it is given back


def test_a_place_that_there_is_not(
    memory: MemoryDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    (tmp_path / "x").write_bytes(gzip.compress(b"content"))
    with pytest.raises(errors.StorageError, match=re.escape(f"{tmp_path}/nowhere: No such file")):
        bring(tmp_path / "x", memory)


def test_where_it_goes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TMPDIR the temporary file is in /var/tmp: /tmp may be memory."""
    monkeypatch.delenv("TMPDIR")
    assert spool._folder() == Path("/var/tmp")  # noqa: S108
