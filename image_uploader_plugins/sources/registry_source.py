# SPDX-License-Identifier: Apache-2.0
"""Reading one repository of a registry; everything that it says is checked here.

Source: OCI distribution-spec 1.1, "Pull".
"""

from __future__ import annotations

import dataclasses
import functools
import http
import logging
import re
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple, TypeVar

from image_uploader_plugins import errors, manifest, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources import answers, schema1
from image_uploader_plugins.sources.registries import Registry
from image_uploader_plugins.sources.session import NOT_FOUND, Answer
from image_uploader_plugins.sources.source import IsHeld, Source, without
from image_uploader_plugins.sources.tries import ATTEMPTS, Tries
from image_uploader_plugins.text import one_line, redacted

LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

# A layer of schema 1 comes without a size; this is where an endless one ends.
UNKNOWN_SIZE_LIMIT = 16 * 1024**3

_ACCEPT = ", ".join(sorted(media_types.MANIFEST_TYPES))
# The endings that cosign appends to a digest for the tags of its manifests, and how the types of
# what these hold begin (cosign, pkg/types/media.go).
_COSIGN = {
    ".sig": ("application/vnd.dev.cosign.simplesigning.v1+json",),
    ".att": ("application/vnd.dsse.envelope.v1+json",),
    ".sbom": ("text/spdx", "application/vnd.cyclonedx", "application/vnd.syft"),
}
_ENCODED_LIMIT = 64  # OCI distribution-spec 1.1, "Referrers Tag Schema"
_PAGES_LIMIT = 100  # of a list of referrers
# More at once are refused by some registries, and cut down by others.
_TAGS_AT_ONCE = 1000
_FIRST_TAGS = f"?n={_TAGS_AT_ONCE}"  # OCI distribution-spec 1.1, "Listing Tags"
# Of one list of tags: some give 50 at once, and some repositories have 100,000.
_TAGS_PAGES, _TAGS_BYTES, _TAGS_LIMIT = 20_000, 128 * 1024**2, 1_000_000
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)", re.IGNORECASE)
# A link and its parameters, and of these how it relates (RFC 8288, 3).
_LINK = re.compile(r"<([^>]*)>((?:[^,\"]|\"[^\"]*\")*)")
_RELATION = re.compile(r";\s*rel\s*=\s*(\"[^\"]*\"|[^\s;]+)", re.IGNORECASE)
_UNKNOWN_CODES = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "NOT_FOUND"})

# Errors that may pass; the caller that hashes a blob fetches it again if it is damaged.
_TRANSIENT = (errors.SourceError, errors.ContentMismatch)

# Statuses that refuse ranges: RFC 9110, 15.5.17, and of servers that know no ranges.
_PARTS_REFUSED = frozenset({400, 412, 416, 501})

# Statuses that refuse a number of tags, as distribution's PAGINATION_NUMBER_INVALID.
_COUNT_REFUSED = frozenset({400, 422})

# Statuses that say of a path that there is no such API.
_NO_API = frozenset({301, 302, 303, 307, 308, 400, 404, 405, 501})


class _NoSuchPart(errors.RegistryUnreachable):
    """An answer to a range that is of no use."""


class _TagsPage(NamedTuple):
    """What came from ``url`` for a query: names, in so many bytes, and the link that follows."""

    url: str
    query: str
    names: list[str]
    size: int
    link: str | None

    def following(self) -> str | None:
        """Return the query of the next page, None after the last one."""
        is_full = self.query.startswith(_FIRST_TAGS) and len(self.names) == _TAGS_AT_ONCE
        if self.link is not None or not is_full:
            return self.link
        # NOTE: registries may leave the link out, and then the last tag leads on.
        return f"{_FIRST_TAGS}&last={urllib.parse.quote(self.names[-1], safe='')}"


class RegistrySource(Source):
    """The repository called ``name`` of a registry; safe to use from several threads.

    ``meter`` is told of bytes of blobs that come and are of no use; its stop()
    ends whatever waits.  What may pass is tried so many ``attempts``.
    """

    def __init__(
        self,
        registry: Registry,
        name: str,
        meter: Meter | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._registry = registry
        self._name = name
        self._meter = meter or Meter()
        self._attempts = attempts
        self._check = self._meter.check
        self.is_throttled = registry.is_throttled
        self._is_silent = False  # about signatures, which is told once
        self._abilities = registry.abilities(name)
        self._unsaid: set[Tag | Digest] = set()  # what HEAD did not describe

    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        """Return the manifest under ``reference``, checked against it and the size in bytes.

        Raises ImageUnknown, ManifestInvalid, ContentMismatch, RegistryError or
        RegistryUnreachable.
        """
        found = self._tried(lambda: self._manifest(reference, size))
        if reference in self._unsaid:
            self._abilities.head = False
        return found

    def _tried(self, work: Callable[[], _T]) -> _T:
        """Return what ``work`` returns, tried again after errors that may pass."""
        tries = Tries(self._check, self._attempts)
        while True:
            try:
                return work()
            except _TRANSIENT as e:
                tries.failed(e)

    def tags(self) -> list[str]:
        """Return all tags of the repository, each once, in the registry's order; never a part.

        Names that are no tags are left out.  Raises ImageUnknown where there is
        no such repository, and RegistryError or RegistryUnreachable also for a
        list without an end.
        """
        found: dict[str, None] = {}  # which keeps their order
        asked: set[str] = set()
        query: str | None = _FIRST_TAGS
        left = _TAGS_BYTES
        while query is not None:
            asked.add(query)
            page = self._tried(functools.partial(self._tags_page, query, left))
            if found.keys() >= {*page.names} and page.names:
                raise errors.RegistryUnreachable(
                    page.url, "repeats a part of its list of tags instead of going on", False
                )
            found.update(dict.fromkeys(page.names))
            left -= page.size
            query = page.following()
            is_long = len(asked) >= _TAGS_PAGES or len(found) > _TAGS_LIMIT
            if query in asked or (query and is_long):
                raise errors.RegistryUnreachable(page.url, "its list of tags has no end", False)
        return [name for name in found if _is_tag(name)]

    def _tags_page(self, query: str, limit: int) -> _TagsPage:
        """Return a page of the list of tags, of at most ``limit`` bytes."""
        try:
            with self._found(f"tags/list{query}", media_types.JSON) as response:
                content = answers.body(response, limit)
                names, link = _tags(response, content), _next(response)
        except errors.RegistryError as e:
            # Some refuse to give so many at once.
            if query != _FIRST_TAGS or e.login or e.status not in _COUNT_REFUSED:
                raise
            return self._tags_page("", limit)
        if link == "":
            raise errors.RegistryUnreachable(response.url, "its list leads to no next page", False)
        return _TagsPage(response.url, query, names, len(content), link)

    def describe(self, reference: Tag | Digest) -> Descriptor | None:
        """Return what the answer to HEAD says, None where it says nothing of use.

        Raises RegistryError where a token server gives none, and RateLimited.
        """
        try:
            return self._described(reference)
        except errors.ImageUnknown:
            self._unsaid.add(reference)
            return None

    def _described(self, reference: Tag | Digest) -> Descriptor | None:
        """Describe; raise ImageUnknown for a 404, which only some registries mean."""
        if self._abilities.head is False:
            return None
        path, headers = f"manifests/{reference}", {"Accept": _ACCEPT}
        try:
            answered = self._registry.head(self._name, path, headers, self._check)
        except errors.RegistryError as e:
            if e.login:
                raise
            if not e.retryable:
                self._unsaid.add(reference)
            return None
        except (errors.RegistryUnreachable, errors.TransferTooSlow):
            self._unsaid.add(reference)
            return None
        if answered is None:
            raise errors.ImageUnknown(f"not found: {reference}", reference)
        described = _described(answered)
        if described:
            self._abilities.head = True
        else:
            self._unsaid.add(reference)
        return described

    def _manifest(self, reference: Tag | Digest, size: int | None) -> Manifest:
        with self._found(f"manifests/{reference}", _ACCEPT) as response:
            limit = manifest.SIZE_LIMIT if size is None else min(size, manifest.SIZE_LIMIT)
            content = _read(response, limit)
            told = response.headers.get("Docker-Content-Digest")
            media_type = _media_type(response.headers)
        if size is not None and len(content) != size:
            raise errors.SizeMismatch(size, len(content))
        return _checked(content, reference, told, media_type)

    def _found(self, path: str, accept: str) -> Answer:
        """Return the answer to GET; raise ImageUnknown where there is no such thing."""
        try:
            found = self._get(path, {"Accept": accept}, missing=True)
        except errors.RegistryError as e:
            if e.login or not _is_unknown(e):
                raise
            raise errors.ImageUnknown(f"not found: {e.url}", e.url) from e
        if found.status_code == NOT_FOUND:
            found.finish()
            url = one_line(redacted(found.url))
            raise errors.ImageUnknown(f"not found: {url}", url)
        return found

    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Return the blob's bytes as the registry stores them, in chunks of at most 256 KiB.

        Begins with the byte ``start``.  A body that breaks off goes on where
        it stopped; of a registry that does not give parts the whole is
        asked for, and its beginning dropped.  Raises SizeMismatch instead of
        ending when there are not as many as the descriptor says; the digest
        is the receiver's to check.
        """
        limit = UNKNOWN_SIZE_LIMIT if descriptor.size is None else descriptor.size
        received, tries, in_parts = start, Tries(self._check, self._attempts), True
        while True:
            try:
                for chunk in self._from(descriptor, received, in_parts=in_parts):
                    received += len(chunk)
                    tries.progressed()
                    if received > limit:
                        raise errors.SizeMismatch(limit, received)
                    yield chunk
            except errors.SourceError as e:
                tries.failed(e)
                in_parts = in_parts and not isinstance(e, _NoSuchPart)
                continue
            if descriptor.size is not None and received != descriptor.size:
                raise errors.SizeMismatch(descriptor.size, received)
            return

    def _from(self, descriptor: Descriptor, start: int, *, in_parts: bool) -> Iterator[bytes]:
        """Yield a blob from the byte ``start`` on, whatever of it the registry sends."""
        if start and start == descriptor.size:
            return
        ask = self._part if start and in_parts else self._whole
        with ask(descriptor, start) as response:
            skip = start - _begin(response)
            if skip < 0:
                raise _NoSuchPart(response.url, "sends another part than asked for")
            chunks = self._registry.chunks(response, self._check)
            for chunk in without(chunks, skip, self._drop):
                start += len(chunk)
                yield chunk
            if descriptor.size is not None and start < descriptor.size and _may_be_cut(response):
                raise errors.RegistryUnreachable(response.url, "the answer breaks off")

    def _drop(self, count: int) -> None:
        self._meter.expect(count)
        self._meter.add(count)

    def _whole(self, descriptor: Descriptor, _: int) -> Answer:
        return self._opened(descriptor, {})

    def _part(self, descriptor: Descriptor, start: int) -> Answer:
        try:
            return self._opened(descriptor, {"Range": f"bytes={start}-"})
        except errors.RegistryError as e:
            if e.status not in _PARTS_REFUSED:
                raise
            raise _NoSuchPart(e.url, f"gives no part of it: {e}") from e

    def _opened(self, descriptor: Descriptor, headers: dict[str, str]) -> Answer:
        """Return a blob's answer; of a layer that the registry does not have, that of its URLs."""
        try:
            return self._get(f"blobs/{descriptor.digest}", headers)
        except errors.RegistryError as e:
            if not _is_unknown(e):
                raise
            for number, url in enumerate(descriptor.urls, 1):
                try:
                    return self._registry.elsewhere(url, headers, self._check)
                except (errors.RegistryError, errors.RegistryUnreachable):
                    if number == len(descriptor.urls):
                        raise
            raise

    def signatures(
        self,
        digest: Digest,
        is_held: IsHeld = lambda _tag, _descriptor: False,
        types: Collection[str] = (),
    ) -> Iterator[tuple[Tag | None, Descriptor]]:
        """Return cosign's three tags for a manifest, and what refers to it.

        Tags that cannot have any of the ``types`` are not asked for.

        Sources: cosign, "Signature Specification"; OCI distribution-spec 1.1,
        "Listing Referrers" and "Referrers Tag Schema".
        """
        stem = f"{digest.algorithm}-{digest.encoded[:_ENCODED_LIMIT]}"
        for suffix, kinds in _COSIGN.items():
            if types and not any(wanted.startswith(kinds) for wanted in types):
                continue
            tag = Tag(stem + suffix)
            try:
                said = self._described(tag) if self._abilities.head else None
            except errors.ImageUnknown:
                continue
            if said and is_held(tag, said):
                yield tag, said
            elif (found := self._tagged(tag)) and _goes_by(found, types):
                yield tag, Descriptor(found.media_type, found.digest, len(found.content))
        for descriptor in self._referring(digest, Tag(stem)):
            if not types or self._is_one_of(descriptor, types, is_held):
                yield None, descriptor

    def _is_one_of(self, descriptor: Descriptor, types: Collection[str], is_held: IsHeld) -> bool:
        """Return whether what refers goes by one of the types, by the list or else by itself."""
        told = descriptor.artifact_type
        if told in types or descriptor.media_type in types:
            return True
        if told and told not in media_types.UNTELLING_TYPES:
            return False
        if descriptor.media_type not in media_types.MANIFEST_TYPES:
            return False
        if is_held(None, descriptor):
            return True
        return _goes_by(self.manifest(descriptor.digest, descriptor.size), types)

    def _referring(self, digest: Digest, fallback: Tag) -> Iterator[Descriptor]:
        """Yield what refers to a manifest, by the registry's API or, without one, by a tag."""
        query: str | None = ""
        seen: set[str] = set()
        while query is not None and query not in seen and len(seen) < _PAGES_LIMIT:
            seen.add(query)
            page, query = self._referrers(digest, query)
            if page is None and len(seen) == 1:
                page = self._tagged(fallback)
            if page and page.is_index:
                yield from page.manifests

    def _tagged(self, tag: Tag) -> Manifest | None:
        """Return what signs or describes under a tag; None for nothing, or if nobody may know."""
        try:
            found = self.manifest(tag)
        except errors.ImageUnknown:
            return None
        except errors.RegistryError as e:
            if e.retryable or e.login:
                raise
            if not self._is_silent:
                LOG.warning("signatures of %s may be left behind: %s", self._name, e)
            self._is_silent = True
            return None
        return None if found.media_type in media_types.SCHEMA1_TYPES else found

    def _referrers(self, digest: Digest, query: str) -> tuple[Manifest | None, str | None]:
        """Return a page of the registry's list, None if it has no such API, and the next query."""
        if self._abilities.referrers is False:
            return None, None
        try:
            with self._registry.get(
                self._name,
                f"referrers/{digest}{query}",
                {"Accept": media_types.OCI_INDEX},
                self._check,
                # GHCR's leads to a page for people, with limits that all images would wait for.
                away=False,
            ) as response:
                page = Manifest.parse(_read(response, manifest.SIZE_LIMIT)), _next(response)
        except errors.ManifestInvalid:
            if query:
                raise
            self._lacks_referrers()
            return None, None
        except errors.RegistryError as e:
            if e.retryable or e.login or query:
                raise
            if e.status in _NO_API:
                self._lacks_referrers()
            return None, None
        self._abilities.referrers = True
        return page

    def _lacks_referrers(self) -> None:
        """Note that there is no such API: one that is there always answers with a list."""
        if self._abilities.referrers is None:
            self._abilities.referrers = False

    def _get(self, path: str, headers: dict[str, str], *, missing: bool = False) -> Answer:
        return self._registry.get(self._name, path, headers, self._check, missing=missing)


def _goes_by(found: Manifest, types: Collection[str]) -> bool:
    return not types or not found.artifact_types.isdisjoint(types)


def _described(headers: Mapping[str, str]) -> Descriptor | None:
    """Return what the headers of a manifest say of it, None without a digest."""
    size = headers.get("Content-Length", "")
    told = int(size) if size.isascii() and size.isdecimal() and len(size) < 10 else 0
    try:
        digest = Digest(headers.get("Docker-Content-Digest", ""))
        # Proxies say 0 of a body that they do not send.
        return Descriptor(_media_type(headers), digest, told or None)
    except (errors.InvalidReference, errors.ManifestInvalid):
        return None


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip()


def _next(response: Answer) -> str | None:
    """Return the query of the next page of a list (RFC 8288), None for the last page.

    Of the link nothing else counts: nobody leads to another list, or another
    host.  "" is that of a link without a query.
    """
    for url, parameters in _LINK.findall(response.headers.get("Link", "")):
        relation = _RELATION.search(parameters)
        if relation and "next" in relation[1].strip("\"'").lower().split():
            query = url.partition("#")[0].partition("?")[2]
            return f"?{query}" if query else ""
    return None


def _tags(response: Answer, content: bytes) -> list[str]:
    """Return the names in a page of a list of tags; null is an empty one."""
    fields = answers.fields(content)
    listed = fields.get("tags", ())
    listed = [] if listed is None else listed
    if not isinstance(listed, list):
        raise errors.RegistryError(
            response.url, response.status_code, "", "answers without a list of tags"
        )
    return [name for name in listed if isinstance(name, str)]


def _is_tag(name: str) -> bool:
    try:
        Tag(name)
    except errors.InvalidReference:
        return False
    return True


def _is_unknown(error: errors.RegistryError) -> bool:
    # Registries that hide what exists answer 403, and say so in the code.
    return error.status == NOT_FOUND or error.code in _UNKNOWN_CODES


def _may_be_cut(response: Answer) -> bool:
    """Return whether a body has no end but that of the connection: RFC 9112, 6.3, rule 8."""
    coding = response.headers.get("Transfer-Encoding", "")
    return "Content-Length" not in response.headers and coding.strip().lower() != "chunked"


def _begin(response: Answer) -> int:
    """Return the number of the body's first byte: an answer to a range may be the whole."""
    if response.status_code != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None:
        raise _NoSuchPart(response.url, "sends a part and does not say which")
    return int(match[1])


def _read(response: Answer, limit: int) -> bytes:
    content = answers.whole(response, limit)
    if content is None:
        raise errors.ManifestInvalid(f"manifest at {redacted(response.url)} exceeds {limit} bytes")
    return content


def _checked(
    content: bytes, reference: Tag | Digest, header: str | None, media_type: str = ""
) -> Manifest:
    found = Manifest.parse(content)
    if not found.declares_type and media_type in media_types.MANIFEST_TYPES:
        found = Manifest.parse(content, media_type)
    # NOTE: the digest of a signed schema 1 manifest is that of its payload.
    signed = found.media_type == media_types.DOCKER_SCHEMA1_SIGNED
    payload = schema1.payload(content) if signed else content
    if isinstance(reference, Digest):
        reference.verify(payload)
    elif header and not signed:
        told = Digest(header)
        told.verify(payload)
        return dataclasses.replace(found, told=told)
    return found
