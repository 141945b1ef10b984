# SPDX-License-Identifier: Apache-2.0
"""What people call images."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from image_uploader_plugins import errors
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.sources import image_name
from image_uploader_plugins.sources.image_name import ImageName

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("docker.io/alpine:3", "docker.io/library/alpine:3"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("registry-1.docker.io/ns/x:1", "docker.io/ns/x:1"),
        ("team/app:1", "docker.io/team/app:1"),
        ("quay.io/ns/app", "quay.io/ns/app:latest"),
        ("Quay.IO/ns/app:V1", "quay.io/ns/app:V1"),
        ("localhost/app:1", "localhost/app:1"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("registry:5000/app:1", "registry:5000/app:1"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1"),
        ("[FD00::A]/app", "[fd00::a]/app:latest"),
        ("docker://quay.io/ns/app:1", "quay.io/ns/app:1"),
        ("docker://nginx", "docker.io/library/nginx:latest"),
        ("INDEX.docker.io/ns/x", "docker.io/ns/x:latest"),
        (f"quay.io/ns/app@{DIGEST}", f"quay.io/ns/app@{DIGEST}"),
        (f"quay.io/ns/app:1@{DIGEST}", f"quay.io/ns/app:1@{DIGEST}"),
    ],
)
def test_names(text: str, expected: str) -> None:
    found = ImageName.parse(text)
    assert str(found) == expected
    assert ImageName.parse(expected) == found
    assert str(found.reference) == (DIGEST if DIGEST in text else expected.rpartition(":")[2])


@pytest.mark.parametrize(
    "text",
    [
        *("", ":1", "/", "quay.io/", "quay.io/ns/App", "quay.io/a:b:c", "quay.io/../x", "-.io/x"),
        *("quay.io/x:", "quay.io/x@", "quay.io/x@sha256:1", "me:pw@quay.io/x", "a..b/x", "x y"),
        *("quay.io:999999/x", "http://quay.io/x", "quay.io//x", "[::1/x", "a_b.io/x"),
        *("[1.2]/x", "[::g]/x", "docker://docker://nginx", "oci:nginx/x", "docker://", "Team/x"),
    ],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(errors.InvalidReference):
        ImageName.parse(text)


@given(st.text("abAB01.:/@-_[]", max_size=30))
def test_any_text(text: str) -> None:
    try:
        found = ImageName.parse(text)
    except errors.InvalidReference:
        return
    assert ImageName.parse(str(found)) == found


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
PORT = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
HOST = st.one_of(
    st.lists(LABEL, min_size=2, max_size=3).map(".".join),
    st.just("localhost"),
    st.just("[2001:db8::1]"),
)
COMPONENT = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


@pytest.mark.slow
@given(
    st.tuples(HOST, PORT).map("".join),
    st.lists(COMPONENT, min_size=1, max_size=4).map("/".join),
    st.one_of(st.none(), TAG),
    st.one_of(st.none(), st.just(DIGEST)),
)
def test_any_name_of_the_grammar(
    registry: str, path: str, tag: str | None, digest: str | None
) -> None:
    """Source: distribution/reference, the grammar in its package's documentation."""
    assume(registry != "localhost" or "/" in path)
    found = ImageName.parse(
        f"{registry}/{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    )
    hub = registry in ("docker.io", "index.docker.io", "registry-1.docker.io")
    assert found.registry == ("docker.io" if hub else registry)
    assert found.repository.value.endswith(path)
    assert found.repository.value == path or hub
    assert (found.tag and found.tag.value) == (tag or (None if digest else "latest"))
    assert (found.digest and str(found.digest)) == digest


@pytest.mark.parametrize(
    ("registry", "prefix"),
    [
        ("quay.io", "quay.io"),
        ("localhost", "localhost"),
        ("registry:5000", "registry_5000"),
        ("192.0.2.1:80", "192.0.2.1_80"),
        ("[::1]", "0000-0000-0000-0000-0000-0000-0000-0001"),
        ("[2001:db8::a]:5000", "2001-0db8-0000-0000-0000-0000-0000-000a_5000"),
    ],
)
def test_what_full_names_begin_with(registry: str, prefix: str) -> None:
    assert image_name.prefix_of(registry) == prefix
    assert image_name.registry_of(prefix) == registry
    assert RepositoryName(prefix).value == prefix


@pytest.mark.parametrize(
    "part",
    [
        *("library", "registry", "team_1", "my_team_2024", "a..b", ".", "..", "-a.b", "a.b-"),
        *("registry:5000", "Quay.io", "registry_500000", "_5000", "0000-0001", "a_b.c", ""),
    ],
)
def test_the_first_part_of_a_name_that_is_no_registry_s(part: str) -> None:
    assert image_name.registry_of(part) is None
