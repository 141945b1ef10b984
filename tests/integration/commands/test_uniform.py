# SPDX-License-Identifier: Apache-2.0
"""What all commands have in common: help, exit statuses, errors."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from image_uploader_plugins.cli.commands.gc import Gc
from image_uploader_plugins.cli.program import Main
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from tests.support import commands
from tests.support.command_lines import parse, typed
from tests.support.commands import Run

COMMANDS = sorted(name for name, _ in Main().command_manager)
WORDS = ("detail", "information", "warning", "error")


@pytest.fixture
def tree(root: Path) -> Path:
    LocalExportDriver(root).close()
    return root


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_examples_that_parse(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert (result.status, result.err) == (0, "")
    _, _, examples = result.out.partition("\nExamples:\n\n")
    lines = list(typed(examples))
    assert lines
    for arguments in lines:
        parse(arguments)
    assert all(line.startswith("image-uploader ") for line in re.findall(r"\$ (.*)", examples))
    assert any(name in arguments for arguments in lines)


def test_help_without_a_command_lists_them_all(run: Run) -> None:
    for arguments in ([], ["--help"], ["help"]):
        result = run(*arguments)
        assert (result.status, result.err) == (0, "")
        listed = re.findall(r"^  (\S+) ", result.out.partition("\nCommands:\n")[2], re.MULTILINE)
        assert sorted(listed) == COMMANDS
        assert "The exit status is 0" in result.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "--no-such-option"],
        ["upload"],
        ["no-such-command"],
        ["help", "no-such-command"],
        ["no-such-command", "--help"],
        ["--no-such-option"],
        ["complete", "--shell", "no-such-shell"],
        ["sync", "bad name"],
    ],
)
def test_wrong_usage_is_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err
    assert "Traceback" not in result.err


def test_an_unknown_command_is_one_line_with_what_was_meant(run: Run) -> None:
    assert run("verfiy").err == (
        "ERROR: there is no command 'verfiy': did you mean verify? "
        "image-uploader --help lists them\n"
    )


def test_a_failure_is_1_and_one_line(run: Run, root: Path, config: Path) -> None:
    result = run("verify")
    assert (result.status, result.out) == (1, "")
    assert result.err == f"ERROR: no registry in {root} ([local_export] root in {config})\n"


def test_a_traceback_comes_with_debug_alone(run: Run) -> None:
    result = run("--debug", "verify")
    assert result.status == 1
    assert "Traceback" in result.err


@pytest.mark.usefixtures("tree")
def test_a_defect_of_ours_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("x\x1b[31m\ny")

    monkeypatch.setattr(Gc, "take_action", fail)
    result = run("gc")
    assert result.status == 1
    assert result.err == "ERROR: KeyError: 'x\\x1b[31m\\ny' (--debug shows where)\n"


def test_an_interrupt_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Gc, "take_action", interrupt)
    result = run("gc")
    assert (result.status, result.err) == (130, "")


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """An environment in which output fails at once, or when it is flushed in the end."""
    return {**os.environ, "PYTHONUNBUFFERED": request.param}


@pytest.mark.slow
@pytest.mark.usefixtures("tree")
def test_a_reader_that_leaves_is_no_trouble(config: Path, environment: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        commands.line(config, "verify", "--json"),
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
@pytest.mark.usefixtures("tree")
def test_output_that_cannot_be_written_is_a_failure(
    config: Path, environment: dict[str, str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            commands.line(config, "verify"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )
    assert done.returncode == 1
    assert re.fullmatch(r"ERROR: .*No space left on device\n", done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["commands.list_", "commands.gc", "commands.verify", "app"])
def test_commands_that_ask_no_registry_load_no_http(name: str) -> None:
    code = f"import sys, image_uploader_plugins.cli.{name}; sys.exit('urllib3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("-q", ["ERROR: error"]),
        ("-v", ["WARNING: warning", "ERROR: error", "INFO: ours"]),
        ("-vv", ["DEBUG: detail", "INFO: information", "WARNING: warning", "ERROR: error"]),
        ("--debug", ["WARNING: warning", "ERROR: error"]),
    ],
)
@pytest.mark.usefixtures("tree")
def test_what_is_shown_of_the_log(
    run: Run, monkeypatch: pytest.MonkeyPatch, option: str, shown: list[str]
) -> None:
    def log(*_: object) -> None:
        library, ours = logging.getLogger("library"), logging.getLogger(Gc.__module__)
        library.debug("detail")
        library.info("information")
        library.warning("warning")
        library.error("error")
        ours.info("ours")

    monkeypatch.setattr(Gc, "take_action", log)
    lines = run(option, "gc").err.splitlines()
    timed = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", "", line) for line in lines]
    assert (timed != lines) == option.startswith("-v")
    assert [line for line in timed if line.rpartition(": ")[2] in {*WORDS, "ours"}] == [
        *shown,
        *(["INFO: ours"] if option == "-vv" else []),
    ]
