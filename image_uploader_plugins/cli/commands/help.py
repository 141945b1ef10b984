# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader help``, and ``image-uploader complete``."""

from __future__ import annotations

import argparse

from cliff import help

from image_uploader_plugins.cli.base import Base, Command


class Help(Base, help.HelpCommand):
    """Show what a command does, with its options and examples."""

    examples = ("image-uploader help verify", "image-uploader verify --help")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        command = next(action for action in parser._actions if action.dest == "cmd")
        # "list -f json --help" arrives here as "help list -f json".
        command.nargs, command.help = argparse.REMAINDER, "the command's name"
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.cmd:
            try:
                self.app.command_manager.find_command(parsed_args.cmd)
            except ValueError:
                return int(self.app.refuse(parsed_args.cmd[0]))
            return int(super().take_action(parsed_args))
        self.app.print_help()
        return 0


class Complete(Command):
    """Print what makes a shell complete commands, options, their values, and images of the tree."""

    examples = (
        "image-uploader complete >/etc/bash_completion.d/image-uploader.bash",
        "image-uploader complete --shell zsh >/usr/share/zsh/site-functions/_image-uploader",
        "image-uploader complete --shell fish >/etc/fish/completions/image-uploader.fish",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--shell",
            choices=("bash", "fish", "zsh"),
            default="bash",
            help="the shell that is to complete (default: %(default)s)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from image_uploader_plugins.cli import completion  # noqa: PLC0415

        self.app.stdout.write(completion.script(self.app.NAME, parsed_args.shell))
