# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader serve``."""

from __future__ import annotations

import argparse
import contextlib

from image_uploader_plugins.cli import arguments
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.extras import require
from image_uploader_plugins.local_export import options
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.serving import cross_origin, webservers

# The port that registries of deployments are on.
PORT = 8787


class Serve(LocalTree, Command):
    """Serve a tree of local-export as a read-only registry, or print what a web server needs to.

    The embedded server is for demonstrations, CI and small sites. It answers
    what Apache and nginx answer, and has no authentication: where not everybody
    may read everything, let one of those serve the tree. With --allow-origin,
    pages of other sites may read the answers in a browser.

    It ends with status 0 at SIGTERM or SIGINT, when requests in flight are
    done, 8 seconds later at most.
    """

    examples = (
        "image-uploader serve",
        "image-uploader serve -v --host 192.168.24.1",
        "image-uploader serve --host :: --port 443 \\\n"
        "      --tls-certificate /etc/pki/tls/certs/registry.crt \\\n"
        "      --tls-key /etc/pki/tls/private/registry.key",
        "image-uploader serve --allow-origin https://registry-ui.example.com",
        "image-uploader serve --print nginx >/etc/nginx/conf.d/image-serve.conf",
        "image-uploader serve --print apache --server-name registry.example.com",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--host",
            metavar="ADDR",
            help="address to listen on, 0.0.0.0 for all of IPv4, :: for all (default: 127.0.0.1, "
            "since every client that reaches the server can read everything; with --print, all "
            "addresses, for nginx all of IPv4)",
        )
        parser.add_argument(
            "--port",
            type=arguments.port,
            default=PORT,
            metavar="N",
            help="port to listen on, 0 for any that is free (default: %(default)s)",
        )
        _add_tls(parser)
        parser.add_argument(
            "--allow-origin",
            action="append",
            default=[],
            metavar="ORIGIN",
            help="let pages of this origin, SCHEME://HOST[:PORT], read the registry in a browser; "
            "several times for several, * for all (default: none)",
        )
        parser.add_argument(
            "--print",
            choices=sorted(webservers.KINDS),
            help="print the configuration of a web server for this tree, and serve nothing",
        )
        parser.add_argument(
            "--server-name",
            metavar="NAME",
            help="with --print: the host name in the configuration (default: any)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        if bool(parsed_args.tls_certificate) != bool(parsed_args.tls_key):
            self.misused("--tls-certificate and --tls-key go together")
        if parsed_args.print:
            self.app.stdout.write(self._configuration(parsed_args))
        elif parsed_args.server_name:
            self.misused("--server-name is for --print")
        else:
            self._serve(parsed_args)

    def _configuration(self, parsed_args: argparse.Namespace) -> str:
        site = webservers.Site(
            root=Tree(options.values(self.tree_conf(parsed_args)).root).storage.root,
            port=parsed_args.port,
            host=parsed_args.host,
            server_name=parsed_args.server_name,
            certificate=parsed_args.tls_certificate,
            key=parsed_args.tls_key,
            allow_origins=tuple(parsed_args.allow_origin),
        )
        return webservers.KINDS[parsed_args.print](site)

    def _serve(self, parsed_args: argparse.Namespace) -> None:
        cross_origin.check(parsed_args.allow_origin)
        with self.tree(parsed_args) as tree:
            root = tree.storage.root
        listener = require("serve", "image_uploader_plugins.serving.listener")
        tls = None
        if parsed_args.tls_certificate:
            tls = listener.tls_context(parsed_args.tls_certificate, parsed_args.tls_key)
        host = parsed_args.host or "127.0.0.1"
        log = self._say if self.app.options.verbose_level > 1 else None
        listening = listener.Listener(
            root, host, parsed_args.port, tls, log, parsed_args.allow_origin
        )
        listener.run(listening, lambda url: self._say(f"serving {root} on {url}"))

    def _say(self, line: str) -> None:
        # Nobody may be reading any more; one write, for threads not to mix their lines.
        with contextlib.suppress(OSError, ValueError):
            self.app.stdout.write(line + "\n")
            self.app.stdout.flush()


def _add_tls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tls-certificate",
        type=arguments.absolute_path,
        metavar="FILE",
        help="serve HTTPS (TLS 1.2 and later) with this certificate, in PEM, "
        "followed by the chain that leads to its CA",
    )
    parser.add_argument(
        "--tls-key",
        type=arguments.absolute_path,
        metavar="FILE",
        help="the certificate's key, in PEM without a password",
    )
