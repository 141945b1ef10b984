"""``image-uploader client-config``."""

from __future__ import annotations

import argparse
from pathlib import Path

from image_uploader_plugins import clients, errors, files
from image_uploader_plugins.cli.command import Command


class ClientConfig(Command):
    """Print what clients need to pull a registry's images from where the tree is served.

    IMAGE-HOST is the registry in the images' names, like quay.io; "*" is all
    of them, for containerd and k3s. Its image quay.io/namespace/name is
    namespace/name in the tree: a tree holds no registry's name, so one tree
    can stand in for several registries whose names do not collide. What the
    tree does not have, clients get from the registry itself.
    """

    examples = (
        "image-uploader client-config quay.io --mirror http://192.168.24.1:8787",
        "image-uploader client-config docker.io --mirror https://registry.example.com \\\n"
        "      --ca ca.crt --for containerd --for docker",
        "image-uploader client-config '*' --mirror http://192.168.24.1:8787 --for k3s -o /",
    )
    notes = """\
containerd reads /etc/containerd/certs.d if config_path in the section
[plugins."io.containerd.grpc.v1.cri".registry] of its config.toml says so
(containerd 2: [plugins."io.containerd.cri.v1.images".registry]). k3s and
docker read their files when they start, the others for every pull."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "registry", metavar="IMAGE-HOST", help="the registry to stand in for: quay.io, *"
        )
        parser.add_argument(
            "--mirror", required=True, metavar="URL", help="where the tree is served"
        )
        parser.add_argument(
            "--for",
            dest="clients",
            action="append",
            choices=sorted(clients.CLIENTS),
            help="a client to configure, may be given several times (default: all that can)",
        )
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
            "-o",
            "--output",
            type=Path,
            metavar="DIR",
            help="write the files below DIR, / for this machine; a file that is there with "
            "other content is never replaced",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        registry = clients.check_registry(parsed_args.registry)
        ca = clients.certificate(parsed_args.ca) if parsed_args.ca else None
        mirror = clients.Mirror(parsed_args.mirror.rstrip("/"), parsed_args.insecure, ca)
        texts = self._texts(registry, mirror, parsed_args.clients)
        if parsed_args.output is None:
            blocks = [f"# {path}\n{text}" for path, text in texts.items()]
            self.app.stdout.write("\n".join(blocks))
            return
        for path in files.write_new(parsed_args.output, texts):
            print(path, file=self.app.stdout)

    def _texts(
        self, registry: str, mirror: clients.Mirror, names: list[str] | None
    ) -> clients.Files:
        texts: clients.Files = {}
        for name in names or clients.CLIENTS:
            try:
                texts |= clients.CLIENTS[name](registry, mirror)
            except errors.ConfigurationError as e:
                if names:
                    raise
                print(f"left out: {e}", file=self.app.stderr)
        return texts
