"""What images are copied from; a registry, over HTTP, and everything it says is checked here.

Source: OCI distribution-spec 1.1, "Pull".
"""

from __future__ import annotations

import abc
import base64
import logging
import operator
from collections.abc import Callable, Iterator, Sequence

import requests
import tenacity
import urllib3

from image_uploader_plugins import document, errors, manifest
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.text import one_line, redacted

LOG = logging.getLogger(__name__)

# Small enough that a layer which comes slowly is seen to come.
CHUNK = 64 * 1024
# A layer of schema 1 comes without a size; this is where an endless one ends.
UNKNOWN_SIZE_LIMIT = 16 * 1024**3

_ACCEPT = ", ".join(sorted(manifest.MEDIA_TYPES))
_TIMEOUT = 30  # seconds, to connect and between two pieces of a body
_ATTEMPTS = 5
_LONGEST_WAIT = 60  # seconds
# RFC 9110, section 15: worth another try; every other 4xx is an answer.
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


def is_transient(error: BaseException) -> bool:
    """Whether doing the same again can help."""
    if isinstance(error, errors.UploaderError):
        return error.retryable
    # Those that are ValueErrors, too, are about a redirect to what is no URL of ours.
    if not isinstance(error, requests.RequestException) or isinstance(error, ValueError):
        return False
    return error.response is None or error.response.status_code in _TRANSIENT | {401}


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds: what the registry asks for (RFC 9110, 10.2.3), else exponential with jitter."""
    error = state.outcome.exception() if state.outcome else None
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    if asked.isdecimal():
        return float(min(int(asked[:9]), _LONGEST_WAIT))
    return tenacity.wait_random_exponential(multiplier=1, max=10)(state)


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0
    LOG.warning("trying again in %.1f seconds: %s", wait, one_line(redacted(str(error))))


retrying = tenacity.retry(
    reraise=True,
    retry=tenacity.retry_if_exception(is_transient),
    wait=_wait,
    stop=tenacity.stop_after_attempt(_ATTEMPTS),
    before_sleep=_log_retry,
)


class Source(abc.ABC):
    """Where manifests and blobs come from; safe to use from several threads."""

    @abc.abstractmethod
    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        """The manifest under ``reference``, checked against it and the size in bytes."""

    @abc.abstractmethod
    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The blob's bytes, as many as its descriptor says; the digest is the receiver's to check.

        Raises SizeMismatch instead of ending otherwise.
        """

    def children(self, index: Manifest) -> Sequence[Descriptor]:
        """Those manifests of an index that are to be copied with it.

        Raises ImageUnknown where one is missing that should not be.
        """
        return index.manifests


class RegistrySource(Source):
    """One repository of a registry.

    ``url`` is the repository's (``https://host/v2/<name>``); ``authenticate``
    returns a session that may read it, and is asked for another one, once a
    request, when the registry answers 401: tokens expire.  Safe to use from
    several threads.
    """

    def __init__(self, url: str, authenticate: Callable[[], requests.Session]) -> None:
        self._url = url
        self._authenticate = authenticate
        self._session = authenticate()

    def close(self) -> None:
        self._session.close()

    @retrying
    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        """The manifest under ``reference``, checked against it and the size in bytes.

        Raises ImageUnknown, ManifestInvalid, ContentMismatch, or requests'
        exceptions when the registry cannot be reached.
        """
        try:
            response = self._get(f"manifests/{reference}", {"Accept": _ACCEPT})
        except requests.HTTPError as e:
            # Registries that hide what exists answer 403 for what does not.
            if e.response is not None and e.response.status_code in (403, 404):
                raise errors.ImageUnknown(f"not found: {self._url}/manifests/{reference}") from e
            raise
        with response:
            limit = manifest.SIZE_LIMIT if size is None else min(size, manifest.SIZE_LIMIT)
            content = _read(response, limit)
        if size is not None and len(content) != size:
            raise errors.SizeMismatch(size, len(content))
        return _checked(content, reference, response.headers.get("Docker-Content-Digest"))

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The blob's bytes as the registry stores them, in chunks of 64 KiB.

        Raises SizeMismatch instead of ending when there are not as many as
        the descriptor says; the digest is the receiver's to check.
        """
        with self._get(f"blobs/{descriptor.digest}", {}) as response:
            received = 0
            for chunk in _chunks(response):
                received += len(chunk)
                if received > (UNKNOWN_SIZE_LIMIT if descriptor.size is None else descriptor.size):
                    break
                yield chunk
        if descriptor.size is None:
            if received > UNKNOWN_SIZE_LIMIT:
                raise errors.SizeMismatch(UNKNOWN_SIZE_LIMIT, received)
        elif received != descriptor.size:
            raise errors.SizeMismatch(descriptor.size, received)

    def _get(self, path: str, headers: dict[str, str]) -> requests.Response:
        # Bytes as they are stored: a body encoded on the way has another digest.
        headers = {"Accept-Encoding": "identity", **headers}
        session = self._session
        response = self._request(session, path, headers)
        if response.status_code == requests.codes.unauthorized:
            response.close()
            self._session = session = self._authenticate()
            response = self._request(session, path, headers)
        try:
            response.raise_for_status()
        except requests.HTTPError as e:
            response.close()
            # A redirect may have led to storage whose URL is the key to it.
            raise requests.HTTPError(redacted(str(e)), response=response) from None
        return response

    def _request(
        self, session: requests.Session, path: str, headers: dict[str, str]
    ) -> requests.Response:
        # requests itself drops the credentials when a redirect leaves the host.
        url = f"{self._url}/{path}"
        try:
            return session.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
        except UnicodeError as e:
            raise requests.exceptions.InvalidURL(f"{url} leads to what is no URL: {e}") from e


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise requests.ConnectionError(redacted(f"{response.url}: {e}")) from e


def _read(response: requests.Response, limit: int) -> bytes:
    content = bytearray()
    for chunk in _chunks(response):
        content += chunk
        if len(content) > limit:
            raise errors.ManifestInvalid(
                f"manifest at {redacted(response.url)} exceeds {limit} bytes"
            )
    return bytes(content)


def _checked(content: bytes, reference: Tag | Digest, header: str | None) -> Manifest:
    found = Manifest.parse(content)
    # NOTE: the digest of a signed schema 1 manifest is that of its payload.
    signed = found.media_type == manifest.DOCKER_SCHEMA1_SIGNED
    payload = _payload(content) if signed else content
    if isinstance(reference, Digest):
        reference.verify(payload)
    elif header and not signed:
        Digest(header).verify(payload)
    return found


def _payload(content: bytes) -> bytes:
    """What a signed schema 1 manifest signs (its specification, "Signed Manifests").

    The signature says itself where in the content its payload is: both must
    say the same, or the digest would be checked of something else than what
    is copied.
    """
    fields = dict(document.load(content))
    try:
        protected = document.load(_decode(fields.pop("signatures")[0]["protected"]))
        length = protected["formatLength"]
        payload = content[: operator.index(length)] + _decode(protected["formatTail"])
    except (LookupError, TypeError, ValueError) as e:
        raise errors.ManifestInvalid(f"signatures of a schema 1 manifest: {e}") from e
    if document.load(payload) != fields:
        raise errors.ManifestInvalid("signatures of a schema 1 manifest are for another one")
    return payload


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
