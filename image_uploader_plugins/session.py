"""HTTP with servers that are not trusted: no answer is without end."""

from __future__ import annotations

import io
from typing import Any

import requests
import urllib3
from requests import adapters

from image_uploader_plugins.text import redacted

ANSWER_LIMIT = 1024 * 1024
"""Bytes of an answer that is read whole, such as a token."""

_CONNECTION_ATTEMPTS = 8


class _Adapter(adapters.HTTPAdapter):
    """Leaves streams to whoever reads them, and bounds everything else.

    NOTE: requests reads all of a redirect's body, and of any answer that is
    not streamed; urllib3 itself would sleep as long as Retry-After says.
    """

    def __init__(self) -> None:
        retries = urllib3.Retry(_CONNECTION_ATTEMPTS, read=False, respect_retry_after_header=False)
        super().__init__(max_retries=retries)

    def send(
        self, request: requests.PreparedRequest, stream: bool = False, *args: Any, **kwargs: Any
    ) -> requests.Response:
        response = super().send(request, True, *args, **kwargs)
        if response.is_redirect:
            response.raw.close()
            response.raw = io.BytesIO()
        elif not stream:
            response.raw = io.BytesIO(_read(response))
        return response


def untrusting() -> requests.Session:
    """A session that bounds what it reads, redirects and waits.

    An answer of more than ANSWER_LIMIT bytes raises a RequestException with
    the response in it.
    """
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


def _read(response: requests.Response) -> bytes:
    try:
        content: bytes = response.raw.read(ANSWER_LIMIT + 1, decode_content=True)
    except urllib3.exceptions.HTTPError as e:
        raise requests.ConnectionError(redacted(f"{response.url}: {e}")) from e
    if len(content) > ANSWER_LIMIT:
        response.close()
        raise requests.RequestException(
            f"{redacted(response.url)} answers with more than {ANSWER_LIMIT} bytes",
            response=response,
        )
    response.raw.release_conn()
    return content
