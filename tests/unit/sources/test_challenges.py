# SPDX-License-Identifier: Apache-2.0
"""WWW-Authenticate, in every form that RFC 9110 allows and some that it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins.sources import challenges
from image_uploader_plugins.sources.challenges import Challenge, parse

BEARER = Challenge("bearer", {"realm": "https://a/token", "service": "s"})
BASIC = Challenge("basic", {"realm": "r"})
CHARSET = Challenge("basic", {"realm": "r", "charset": "UTF-8"})
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
        (["Negotiate, Basic realm=r"], [Challenge("negotiate", {}), BASIC]),
        (["Negotiate oYG2MIGz+/==, Basic realm=r"], [Challenge("negotiate", {}), BASIC]),
        (
            ["NTLM", "Negotiate", 'Basic realm="r"'],
            [Challenge("ntlm", {}), Challenge("negotiate", {}), BASIC],
        ),
        ([",, ,Basic realm=r,,"], [BASIC]),
        ([r'Basic realm="a \"b\", c=d\\"'], [Challenge("basic", {"realm": 'a "b", c=d\\'})]),
        (["Basic realm=r, realm=other"], [BASIC]),
        (["Basic"], [Challenge("basic", {})]),
        (['Basic , realm="r",\tBearer ,,service=s, realm="https://a/token"'], [BASIC, BEARER]),
        (["Negotiate a=, Basic realm=r"], [Challenge("negotiate", {}), BASIC]),
        (["Basic realm=r, Negotiate"], [BASIC, Challenge("negotiate", {})]),
        (['Basic realm = "r" , charset="UTF-8"x, Bearer realm=y'], [CHARSET]),
        (["Basic realm=r; Bearer realm=y", "Negotiate"], [BASIC, Challenge("negotiate", {})]),
        (['Basic realm="no end'], [Challenge("basic", {})]),
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


TOKEN68 = st.from_regex(r"[A-Za-z0-9._~+/-]{1,8}={0,2}", fullmatch=True)
SPACES = st.text(" \t", max_size=2)


@st.composite
def parameters(draw: st.DrawFn) -> tuple[str, str, str]:
    """A name, a value, and how they are written: name BWS "=" BWS ( token / quoted-string )."""
    name, value = draw(TOKEN), draw(st.one_of(TOKEN, VALUE))
    bare = value and all(c.isalnum() or c in "!#$%&'*+.^_`|~-" for c in value)
    if bare and draw(st.booleans()):
        written = value
    else:
        pairs = (c if c not in '\\"' and not draw(st.booleans()) else f"\\{c}" for c in value)
        written = f'"{"".join(pairs)}"'
    return name.lower(), value, f"{name}{draw(SPACES)}={draw(SPACES)}{written}"


@st.composite
def challenge_lists(draw: st.DrawFn) -> tuple[list[Challenge], list[str]]:
    """Challenges, and the elements of the list that says them (RFC 9110, 11.3 and 11.6.1)."""
    meant, elements = [], []
    for scheme in draw(st.lists(TOKEN, max_size=4)):
        found: dict[str, str] = {}
        space = draw(st.sampled_from([" ", "  ", "\t", " \t"]))
        kind = draw(st.sampled_from(["parameters", "token68", "nothing"]))
        if kind == "parameters":
            given = draw(st.lists(parameters(), min_size=1, max_size=4))
            for name, value, _ in given:
                found.setdefault(name, value)
            elements.append(scheme + space + given[0][2])
            elements += [written for _, _, written in given[1:]]
        else:
            elements.append(scheme + (space + draw(TOKEN68) if kind == "token68" else ""))
        meant.append(Challenge(scheme.lower(), found))
    return meant, elements


@pytest.mark.slow
@given(st.lists(challenge_lists(), max_size=3), st.data())
def test_what_is_written_is_read(
    fields: list[tuple[list[Challenge], list[str]]], data: st.DataObject
) -> None:
    commas = st.sampled_from([",", ", ", " ,\t", ",,", " , , "])
    written = [
        "".join(element + data.draw(commas) for element in elements[:-1]) + "".join(elements[-1:])
        for _, elements in fields
    ]
    ends = st.sampled_from(["", ",", " ", "\t, "])
    assert parse([data.draw(ends) + field + data.draw(ends) for field in written]) == [
        challenge for meant, _ in fields for challenge in meant
    ]


@given(st.lists(st.one_of(st.text(max_size=60), st.text('aB=",\\\\ \t;', max_size=60)), max_size=4))
def test_nothing_makes_it_fail(fields: list[str]) -> None:
    assert all(c.scheme == c.scheme.lower() for c in parse(fields))


PIECES = ["a", "a ", "a=", 'a="', "a b=c,", "a,", ",", "\\", 'a="\\"', 'a b="\\\\', "a b=,", "a b "]


@pytest.mark.parametrize("piece", PIECES)
def test_its_work_is_bounded(piece: str) -> None:
    found = parse([piece * 1_000_000])
    assert sum(1 + len(c.parameters) for c in found) <= 16 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES)
def test_its_work_grows_as_the_text_does(monkeypatch: pytest.MonkeyPatch, piece: str) -> None:
    """Or this would not end in an hour."""
    monkeypatch.setattr(challenges, "FIELD_LIMIT", 1 << 18)
    parse([piece * (1 << 18)])
