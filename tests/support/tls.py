# SPDX-License-Identifier: Apache-2.0
"""A certificate of one's own for 127.0.0.1."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import programs

# Names that clients with a directory of certificates read the one of, and not the other.
CERTIFICATE, KEY = "ca.crt", "key.pem"


def make(folder: Path, *options: str, names: str = "") -> tuple[Path, Path]:
    """A certificate that is its own CA, and its key, both readable by servers.

    ``names`` are more than 127.0.0.1, as in "DNS:a.test,DNS:b.test".
    """
    alternatives = ",".join(filter(None, ["IP:127.0.0.1,IP:::1", names]))
    certificate, key = folder / CERTIFICATE, folder / KEY
    command = [
        *(programs.require("openssl"), "req", "-x509", "-newkey", "ec", "-days", "2"),
        *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=127.0.0.1"),
        *("-addext", f"subjectAltName={alternatives}", "-keyout", key, "-out", certificate),
        *(options or ("-nodes",)),
    ]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return certificate, key


class Authority:
    """A CA in ``folder``, whose certificate is ``NAME.crt`` there, and what it signs."""

    def __init__(self, folder: Path, name: str = "ca", issuer: Authority | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = name
        self.certificate = folder / f"{name}.crt"
        if issuer:
            issuer.sign(name, "basicConstraints=critical,CA:TRUE")
        else:
            self._openssl("req", "-x509", *self._key(name), "-days", "2", "-out", f"{name}.crt")

    def sign(
        self, name: str, extension: str = "subjectAltName=IP:127.0.0.1", days: int = 2
    ) -> tuple[Path, Path]:
        """A certificate and its key; with ``days`` below zero one that has ended."""
        self._openssl("req", *self._key(name), "-out", f"{name}.csr")
        (self._folder / "extension").write_text(f"{extension}\n")
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{self._name}.crt"),
            *("-CAkey", f"{self._name}.key", "-CAcreateserial", "-days", str(days)),
            *("-extfile", "extension", "-out", f"{name}.crt"),
        )
        return self._folder / f"{name}.crt", self._folder / f"{name}.key"

    @staticmethod
    def _key(name: str) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        return (*curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        command = [programs.require("openssl"), *arguments]
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True)
