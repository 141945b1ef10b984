# SPDX-License-Identifier: Apache-2.0
"""Documents that web servers and clients read, made by pure functions.

Only a Digest, a Tag or one of media_types.MANIFEST_TYPES gets into a web
server's configuration: values that cannot contain a quote or a newline.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from image_uploader_plugins import errors, media_types, strict_json
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.manifest import index_fields
from image_uploader_plugins.reference import RepositoryName

API_ROOT = b"{}"

# The rules that TripleO's virtual host lacks; the file gives the reasons.
API_HTACCESS = resources.files(__package__).joinpath("api.htaccess").read_bytes()

# In the browser, the page reads everything from the registry's API.
PAGE = resources.files(__package__).joinpath("page.html").read_bytes()
_PAGE_TITLE = b"<title>Container images</title>"

_ONE_VARIANT = re.compile(
    rb"URI: [!-.0-~]+\n\nContent-Type: [!-:<-~]+\n"
    rb"URI: \.?(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})/index\.json\n\n"
)


class Variant(NamedTuple):
    """A manifest that a reference offers, by its media type; ``quality`` as in RFC 9110, 12.4.2."""

    media_type: str
    digest: Digest
    quality: float = 1.0


def page(title: str = "") -> bytes:
    """Return the page, with a title that is shown as the registry's name.

    Without a title the page shows its own host.
    """
    title = title.strip()
    if not title:
        return PAGE
    # With all names of letters in HTML: it takes long to load.
    import html  # noqa: PLC0415

    text = html.escape(title).encode("ascii", "xmlcharrefreplace")
    return PAGE.replace(_PAGE_TITLE, b"<title>" + text + b"</title>")


def htaccess(media_type: str, digest: Digest) -> bytes:
    """Return the headers of one manifest, for Apache.

    NOTE: our own virtual host reads these two lines with a regular expression;
    their order and quoting are those of tripleo-common. The ETag is set in
    v2/.htaccess, for all manifests.
    """
    _check_type(media_type)
    return (
        f'Header set Content-Type "{media_type}"\nHeader set Docker-Content-Digest "{digest}"\n'
    ).encode()


def type_map(reference: str, variants: Iterable[Variant]) -> bytes:
    """Return a type map (Apache, mod_negotiation) that leads to manifests.

    NOTE: without qs Apache chooses the smallest variant. A single variant has
    no qs, so that tripleo-common finds the media type in the form that it
    knows.
    """
    variants = list(variants)
    records = [f"URI: {reference}\n\n"]
    for variant in variants:
        _check_type(variant.media_type)
        quality = f"; qs={variant.quality:.1f}" if len(variants) > 1 else ""
        folder = layout.manifest_folder(variant.digest)
        records.append(f"Content-Type: {variant.media_type}{quality}\nURI: {folder}/index.json\n\n")
    return "".join(records).encode()


def parse_type_map(text: bytes) -> list[Digest]:
    """Return the digests that a type map leads to, the one that clients prefer first.

    Reads the type maps of type_map() and of tripleo-common; raises
    ManifestInvalid for any other.

    NOTE: tripleo-common also writes a list and a child without a quality: then
    the reference is for the list.
    """
    found: list[tuple[float, bool, Digest]] = []
    media_type, quality = "", 1.0
    for line in text.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(": ")
        if key == "Content-Type":
            media_type, quality = value.partition(";")[0], _quality(value)
        elif key == "URI" and "/" in value:
            digest = layout.folder_digest(value.removesuffix("/index.json"))
            if digest is None:
                raise errors.ManifestInvalid(f"type map leads to {value!r:.200}")
            found.append((-quality, media_type not in media_types.INDEX_TYPES, digest))
    if not found:
        raise errors.ManifestInvalid("type map leads nowhere")
    return [digest for *_, digest in sorted(found, key=lambda entry: entry[:2])]


def leads_to(text: bytes) -> list[str]:
    """Return what parse_type_map() does, as texts; faster for a type map with one variant."""
    match = _ONE_VARIANT.fullmatch(text)
    return [match[1].decode()] if match else [digest.value for digest in parse_type_map(text)]


def tags_list(name: RepositoryName, tags: Iterable[str]) -> bytes:
    """Return a list of tags in lexical order (OCI distribution-spec 1.1, "Listing Tags")."""
    return _json({"name": name.value, "tags": sorted(tags)})


def catalog(names: Iterable[str]) -> bytes:
    """Return a list of repositories (Docker Registry HTTP API V2, "Listing Repositories")."""
    return _json({"repositories": sorted(names)})


def filled(empty: bytes, items: Sequence[str]) -> bytes:
    """Return the list ``empty``, of tags_list() or catalog(), with ``items`` in it.

    These are sorted and need no escapes in JSON. Much faster than the functions
    that sort and escape.
    """
    if not items:
        return empty
    return b"".join((empty[:-3], b'["', '","'.join(items).encode(), b'"]}'))


def items_of(empty: bytes, text: bytes) -> list[str] | None:
    """Return the inverse of filled(); None for a list that is not sorted or written otherwise.

    What needs an escape in JSON may be among the items of a list that others wrote.
    """
    start, end = empty[:-3] + b'["', b'"]}'
    if text == empty:
        return []
    if not text.startswith(start) or not text.endswith(end) or not text.isascii():
        return None
    items = text[len(start) : -len(end)].decode().split('","')
    return items if all(map(operator.lt, items, items[1:])) else None


def window_type_map(name: str, window: str) -> bytes:
    """Return a type map that leads to a window, which tells TripleO's virtual host its name."""
    return f"URI: {name}\n\nContent-Type: {media_types.JSON}\nURI: {window}\n\n".encode()


def index(manifests: Iterable[Mapping[str, Any]]) -> bytes:
    """Return an index of these descriptors (OCI image-spec 1.1, image-index.md)."""
    return _json(index_fields(manifests))


def parse_catalog(text: bytes) -> set[str]:
    """Return the names in a catalog; raise ValueError, KeyError or TypeError if it is none."""
    names = strict_json.load_leniently(text)["repositories"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("a catalog must be a list of names")
    return set(names)


def parse_tags_list(name: RepositoryName, text: bytes) -> set[str]:
    """Return the tags in a list of ``name``; raise ValueError, KeyError or TypeError for others."""
    fields = strict_json.load_leniently(text)
    tags = fields["tags"]
    if fields["name"] != name.value or not isinstance(tags, list):
        raise ValueError(f"no list of {name}")
    return set(tags)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _quality(content_type: str) -> float:
    _, _, text = content_type.partition("; qs=")
    try:
        return float(text or 1.0)
    except ValueError as e:
        raise errors.ManifestInvalid(f"type map with the quality {text!r:.50}") from e


def _check_type(media_type: str) -> None:
    if media_type not in media_types.MANIFEST_TYPES:
        raise errors.ManifestInvalid(f"unknown manifest type {media_type!r:.200}")
