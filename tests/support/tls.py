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
