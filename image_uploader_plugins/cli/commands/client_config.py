# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader client-config``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from image_uploader_plugins import errors, files
from image_uploader_plugins.cli.base import ROOT_VARIABLE, Command
from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.serving import clients

_LIMIT = 4096  # characters of a password, and of what follows it


class ClientConfig(LocalTree, Command):
    """Print what clients need to pull a registry's images from where the tree is served.

    IMAGE-HOST is the registry in the images' names, like quay.io; "*" is all
    of them, for containerd, k3s, RKE2 and Talos. Its image
    quay.io/namespace/name is namespace/name in the tree or, with a path behind
    the mirror's address, path/namespace/name. With --full-names the registry
    follows in the name, as prepare and sync write it, and --all takes the
    registries from the tree. What the tree does not have, clients get from the
    registry itself, unless they are told to ask the mirror only.
    """

    examples = (
        "image-uploader client-config quay.io --mirror http://192.168.24.1:8787",
        "image-uploader client-config docker.io --mirror https://registry.example.com \\\n"
        "      --ca ca.crt --for containerd --for docker",
        "image-uploader client-config quay.io --mirror http://192.168.24.1:8787/quay.io --only",
        "image-uploader client-config quay.io --mirror https://registry.example.com -o / \\\n"
        "      --username puller --password-file /root/puller.password",
        "image-uploader client-config '*' --mirror http://192.168.24.1:8787 --for k3s -o /",
        "image-uploader client-config --all --mirror https://registry.example.com --ca ca.crt",
        "image-uploader client-config docker.io quay.io --full-names \\\n"
        "      --mirror https://registry.example.com --for talos --for openshift",
    )
    notes = """\
containerd reads /etc/containerd/certs.d if config_path in the section
[plugins."io.containerd.grpc.v1.cri".registry] of its config.toml says so
(containerd 2: [plugins."io.containerd.cri.v1.images".registry]). k3s, RKE2
and docker read their files when they start, containerd and podman for every pull.
Those in /etc/image-serve are for a cluster: give talos.yaml to talosctl patch
machineconfig --patch @FILE, openshift.yaml to oc apply -f FILE, and
openshift-image.yaml to oc patch image.config.openshift.io/cluster --type merge
--patch-file FILE, which replaces a list that is there already."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "registries",
            nargs="*",
            metavar="IMAGE-HOST",
            help="the registries to stand in for: quay.io, *",
        )
        parser.add_argument(
            "--all",
            action="store_true",
            help="stand in for all registries that names in the tree begin with and, where the "
            "client can, for those that will come (--full-names)",
        )
        parser.add_argument(
            "--full-names",
            action="store_true",
            help="names in the tree begin with their registry (names: full)",
        )
        parser.add_argument(
            "--mirror",
            required=True,
            metavar="URL",
            help="where the tree is served; a path is what the registry's names begin with there",
        )
        parser.add_argument(
            "--only",
            action="store_true",
            help="never ask the registry itself (docker cannot be told so)",
        )
        parser.add_argument(
            "--for",
            dest="clients",
            action="append",
            choices=sorted(clients.CLIENTS),
            help="a client to configure, may be given several times (default: all that can)",
        )
        _add_access(parser)
        parser.add_argument(
            "-o",
            "--output",
            type=Path,
            metavar="DIR",
            help="write the files below DIR, / for this machine; a file that is there with "
            "other content is never replaced",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        mirror = self._mirror(parsed_args)
        registries = self._registries(parsed_args, mirror)
        texts = self._texts(registries, mirror, parsed_args.clients)
        if parsed_args.output is None:
            blocks = [f"# {path}\n{text}" for path, text in texts.items()]
            self.app.stdout.write("\n".join(blocks))
            return
        private = mirror.login is not None
        for path in files.write_new(parsed_args.output, texts, private=private):
            print(path, file=self.app.stdout)

    def _registries(self, parsed_args: argparse.Namespace, mirror: clients.Mirror) -> list[str]:
        if bool(parsed_args.registries) == parsed_args.all:
            self.misused("name registries like quay.io, or say --all")
        if not parsed_args.all:
            if parsed_args.root and not os.environ.get(ROOT_VARIABLE):
                self.misused("--root is for --all")
            return [*dict.fromkeys(map(clients.check_registry, parsed_args.registries))]
        with self.tree(parsed_args) as tree:
            found = clients.registries_in(tree.repositories(), mirror.path)
            root = tree.storage.root
        if not found:
            raise errors.ConfigurationError(f"no name in {root} begins with a registry")
        # Behind a path, the mirror cannot tell by ?ns= alone where names begin.
        return found if mirror.path else [*found, clients.ALL]

    def _mirror(self, parsed_args: argparse.Namespace) -> clients.Mirror:
        login = None
        if bool(parsed_args.username) != bool(parsed_args.password_file):
            self.misused("--username and --password-file go together")
        if parsed_args.username:
            if parsed_args.output is None:
                self.misused("a password is written with -o, and never printed")
            login = parsed_args.username, _password(parsed_args.password_file)
        ca = clients.certificate(parsed_args.ca) if parsed_args.ca else None
        url = parsed_args.mirror.rstrip("/")
        full_names = parsed_args.full_names or parsed_args.all
        return clients.Mirror(url, parsed_args.insecure, ca, login, parsed_args.only, full_names)

    def _texts(
        self, registries: list[str], mirror: clients.Mirror, names: list[str] | None
    ) -> clients.Files:
        texts: clients.Files = {}
        for name in names or clients.CLIENTS:
            try:
                texts |= clients.CLIENTS[name](registries, mirror)
            except errors.ConfigurationError as e:
                if names:
                    raise
                print(f"left out: {e}", file=self.app.stderr)
                continue
            for remark in clients.remarks(name, registries, mirror):
                print(f"note: {remark}", file=self.app.stderr)
        return texts


def _add_access(parser: argparse.ArgumentParser) -> None:
    """Add how the mirror is verified, and who asks it."""
    verification = parser.add_mutually_exclusive_group()
    verification.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="the certificate, in PEM, of the CA that the mirror's is verified with",
    )
    verification.add_argument(
        "--insecure", action="store_true", help="do not verify the mirror's certificate"
    )
    parser.add_argument(
        "--username", metavar="NAME", help="log in to the mirror (docker cannot); with -o"
    )
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="the password, on the file's first line; - is standard input",
    )


def _password(name: str) -> str:
    """Return the first line of a file; raises ConfigurationError."""
    return files.text_of(name, _LIMIT).partition("\n")[0].removesuffix("\r")
