# SPDX-License-Identifier: Apache-2.0
"""The signed manifests of schema 1, whose digest is not that of their bytes.

Source: Docker "Image Manifest Version 2, Schema 1", "Signed Manifests".
"""

from __future__ import annotations

import base64
import operator

from image_uploader_plugins import errors, strict_json


def payload(content: bytes) -> bytes:
    """Return what a signed schema 1 manifest signs.

    The signature says itself where in the content its payload is: both must
    say the same, or the digest would be checked of something else than what
    is copied.
    """
    fields = dict(strict_json.load(content))
    try:
        protected = strict_json.load(_decode(fields.pop("signatures")[0]["protected"]))
        length = protected["formatLength"]
        signed = content[: operator.index(length)] + _decode(protected["formatTail"])
    except (LookupError, TypeError, ValueError) as e:
        raise errors.ManifestInvalid(f"signatures of a schema 1 manifest: {e}") from e
    if strict_json.load(signed) != fields:
        raise errors.ManifestInvalid("signatures of a schema 1 manifest are for another one")
    return signed


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
