# SPDX-License-Identifier: Apache-2.0
"""Words of strangers that a person or a file gets to see: without secrets."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins.text import enumerated, redacted, shown

MARK = "Zq7sEcReT"
DIGEST = "sha256:" + "a" * 64
# What may stand in a password that nobody encoded; a space would end the URL.
ODD = st.text(string.ascii_letters + string.digits + ":@/?#%!$&+=.~_-", max_size=12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:pw@quay.io/v2/x/blobs/1", "https://quay.io/v2/x/blobs/1"),
        ("https://s3.example/b/1?X-Amz-Signature=s&e=1", "https://s3.example/b/1"),
        ("docker://me:pw@quay.io/ns/img", "docker://quay.io/ns/img"),
        ("https://host/path?sig=s: refused", "https://host/path: refused"),
        ("(https://host/path#token)", "(https://host/path)"),
        ("with url: /v2/x/blobs/1?sig=s (Caused by", "with url: /v2/x/blobs/1 (Caused by"),
        ('https://h:443 "GET /x?sig=s HTTP/1.1" 200', 'https://h:443 "GET /x HTTP/1.1" 200'),
        ("me:pw@quay.io/ns/img:1", "[...]@quay.io/ns/img:1"),
        ("token@quay.io:5000/ns/img:1", "[...]@quay.io:5000/ns/img:1"),
        ("me:p@w/x@quay.io/ns/img:1", "[...]@quay.io/ns/img:1"),
        ("me:pw@nginx", "[...]@nginx"),
        ("Authorization: Basic bWU6cHc=", "Authorization: Basic [...]"),
        ("{'Authorization': 'Bearer abc'}", "{'Authorization': 'Bearer [...]'}"),
        ("sent Bearer eyJhbGciOi.1-x", "sent Bearer [...]"),
        ('{"access_token": "abc", "n": 1}', '{"access_token": "[...]", "n": 1}'),
    ],
)
def test_secrets_go(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        f"quay.io/ns/img:1@{DIGEST}",
        f"https://quay.io:5000/v2/ns/img/manifests/{DIGEST}",
        f"/v2/ns/img@{DIGEST}",
        "not a repository name: 'Ns/img'",
        "basic authentication is needed",
        "2026-01-01 10:20:30 what? no",
        "",
    ],
)
def test_everything_else_stays(text: str) -> None:
    assert redacted(text) == text


@given(
    before=ODD,
    after=ODD,
    user=st.text(string.ascii_lowercase + string.digits, max_size=5),
    port=st.sampled_from(["", ":5000"]),
    query=ODD,
    around=st.sampled_from(["{}", "'{}'", "url={}", "({}): refused", '"{}",']),
)
def test_no_part_of_a_url_gives_its_secret_away(
    before: str, after: str, user: str, port: str, query: str, around: str
) -> None:
    url = f"https://{user}:{before}{MARK}{after}@quay.io{port}/v2/?q={query}{MARK}"
    assert MARK not in redacted(around.format(url))
    assert MARK not in redacted(around.format(f"https://quay.io{port}/v2/?{query}{MARK}"))
    assert MARK not in redacted(around.format(f"{user}:{before}{MARK}{after}@quay.io/x:1"))


@given(st.text())
def test_twice_is_once(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.slow
@pytest.mark.parametrize("piece", [":", "@", "a:", "https://", "basic ", "'token': '", "(", "/?"])
def test_its_work_grows_with_the_length_alone(piece: str) -> None:
    # With work that grows faster, this would not end.
    redacted(piece * 200_000 + "@")


def test_a_value_in_a_message() -> None:
    assert shown("me:pw@quay.io/x") == "'[...]@quay.io/x'"
    assert shown(b"bytes") == "b'bytes'"


def test_several_are_in_one_line() -> None:
    assert enumerated(["a\n1", "b"]) == "a 1, b"
    assert enumerated(list("abcdefghijkl")) == "a, b, c, d, e, f, g, h, i, j and 2 more"
    assert len(enumerated(["x" * 1000])) == 50
