"""WWW-Authenticate, in every form that RFC 9110 allows and some that it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins.sources.challenges import Challenge, parse

BEARER = Challenge("bearer", {"realm": "https://a/token", "service": "s"})
BASIC = Challenge("basic", {"realm": "r"})
TOKEN = st.text("abcXYZ019!#$%&'*+.^_`|~-", min_size=1, max_size=8)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (['Bearer realm="https://a/token",service="s"'], [BEARER]),
        (['bearer Realm="https://a/token",SERVICE=s'], [BEARER]),
        (['BEARER\trealm = "https://a/token" ,\tservice\t=\t"s"'], [BEARER]),
        (['Basic realm="r", Bearer realm="https://a/token", service=s'], [BASIC, BEARER]),
        (['Basic realm="r"', 'Bearer realm="https://a/token",service="s"'], [BASIC, BEARER]),
        (["Negotiate, Basic realm=r"], [Challenge("negotiate"), BASIC]),
        (["Negotiate oYG2MIGz+/==, Basic realm=r"], [Challenge("negotiate"), BASIC]),
        (["NTLM", "Negotiate", 'Basic realm="r"'], [*map(Challenge, ("ntlm", "negotiate")), BASIC]),
        ([",, ,Basic realm=r,,"], [BASIC]),
        ([r'Basic realm="a \"b\", c=d\\"'], [Challenge("basic", {"realm": 'a "b", c=d\\'})]),
        (["Basic realm=r, realm=other"], [BASIC]),
        (["Basic"], [Challenge("basic")]),
        (['Basic realm="no end'], [Challenge("basic")]),
        (['Basic realm="r" Bearer realm="x"'], [BASIC]),
        (["", "???", '"quoted"', "=", ", ,"], []),
        (['Bearer scope="repository:a:pull repository:b:pull"'], None),
    ],
)
def test_forms(fields: list[str], expected: list[Challenge] | None) -> None:
    found = parse(fields)
    if expected is None:
        assert found[0].parameters == {"scope": "repository:a:pull repository:b:pull"}
    else:
        assert found == expected


@given(
    st.lists(
        st.tuples(TOKEN, st.dictionaries(TOKEN.map(str.lower), VALUE, min_size=1, max_size=4)),
        max_size=4,
    ),
    st.sampled_from([",", ", ", " ,\t", ",,"]),
)
def test_what_is_written_is_read(challenges: list[tuple[str, dict[str, str]]], comma: str) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'

    fields = [
        f"{scheme} " + comma.join(f"{name}={quoted(text)}" for name, text in parameters.items())
        for scheme, parameters in challenges
    ]
    expected = [Challenge(scheme.lower(), found) for scheme, found in challenges]
    assert parse(fields) == expected
    assert parse([comma.join(fields)]) == expected


@given(st.lists(st.text(max_size=60), max_size=4))
def test_nothing_makes_it_fail(fields: list[str]) -> None:
    assert all(c.scheme == c.scheme.lower() for c in parse(fields))


@pytest.mark.parametrize("piece", ["a", "a=", 'a="', "a b=c,", ",", "\\", 'a="\\"'])
def test_its_work_is_bounded(piece: str) -> None:
    parse([piece * 1_000_000])
