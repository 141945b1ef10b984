# SPDX-License-Identifier: Apache-2.0
"""Completion of command lines, by the shells themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import commands, programs
from tests.support.commands import Run

# Each is given a file with the script, and then the words of a command line.
BASH = """
source "$1"; shift
COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
_python_argcomplete image-uploader
printf "%s\\n" "${COMPREPLY[@]}"
"""
FISH = 'source "$argv[1]"; complete -C "$argv[2..]"'
ZSH = """
autoload -Uz compinit; compinit -u -D
_describe() { print -l -- ${(P)2}; }
source "$1"; shift
words=("$@"); BUFFER="$*"; CURSOR=${#BUFFER}
_python_argcomplete
"""
SHELLS = {
    "bash": ["bash", "-c", BASH, "bash"],
    "fish": ["fish", "--no-config", "-c", FISH],
    "zsh": ["zsh", "-f", "-c", ZSH, "zsh"],
}


class Shell:
    """A shell that completes as the script for it says."""

    def __init__(self, name: str, script: Path) -> None:
        self._command = [*SHELLS[name], str(script)]
        # What comes before a description: fish has a tab, zsh a colon.
        self._end = re.compile(r"(?<!\\):" if name == "zsh" else r"\t")

    def __call__(self, *words: str, **env: str) -> list[str]:
        """Return what it proposes for the last word, without descriptions."""
        folders = [str(Path(commands.PROGRAM).parent), os.environ["PATH"]]
        done = subprocess.run(
            [*self._command, "image-uploader", *words],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": os.pathsep.join(folders), **env},
        )
        assert done.stderr == ""
        found = [self._end.split(line)[0].strip() for line in done.stdout.splitlines()]
        return [word.replace("\\:", ":").removesuffix(":") for word in found if word]


@pytest.fixture(params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> Shell:
    programs.require(request.param)
    script = tmp_path / "script"
    script.write_text(run("complete", "--shell", request.param).out)
    return Shell(request.param, script)


def test_commands_options_and_values(shell: Shell) -> None:
    assert shell("ver") == ["verify"]
    assert shell("client-config", "--mi") == ["--mirror"]
    assert shell("gc", "--d") == ["--dry-run"]
    assert sorted(shell("gc", "--format", "")) == ["json", "text", "yaml"]
    assert shell("-q", "prepare", "--cleanup", "pa") == ["partial"]
    assert shell("help", "ver") == ["verify"]


def test_images_of_the_tree(shell: Shell, config: Path, filled: Path) -> None:
    assert shell("--config-file", str(config), "show", "alon") == ["alone"]
    assert shell("--config-file", str(config), "verify", "alon") == ["alone"]
    assert shell("verify", "alon", IMAGE_UPLOADER_ROOT=str(filled)) == ["alone"]
    assert shell("list", "--root", str(filled), "alon") == ["alone"]
    assert shell("verify", "--root", str(filled.parent / "absent"), "alon") == []


def test_all_commands(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(run("complete").out)
    assert set(commands.COMMANDS) <= set(Shell("bash", script)(""))


def test_tags_of_a_repository(run: Run, tmp_path: Path, filled: Path) -> None:
    script = tmp_path / "script"
    script.write_text(run("complete").out)
    found = Shell("bash", script)("show", "ns/img:", IMAGE_UPLOADER_ROOT=str(filled))
    assert sorted(found) == ["1.0", "2.0", "latest"]


def test_a_command_that_runs_does_without(run: Run) -> None:
    run("gc", "--help")
    code = (
        "import sys; from image_uploader_plugins.cli import app\n"
        "app.main(['drivers']); sys.exit('argcomplete' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
