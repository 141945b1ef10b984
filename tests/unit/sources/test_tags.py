# SPDX-License-Identifier: Apache-2.0
"""Lists of tags: read whole, in the pages that registries make of them, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.sources import registry_source
from image_uploader_plugins.sources.tries import Tries
from tests.support.odd_registry import Asked, OddRegistry, Reply, text
from tests.support.sources import Open

PATH = "/v2/ns/app/tags/list"
MANY = [f"v{n:05}" for n in range(2500)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tries, "pause", lambda self, seconds: None)


def page(names: object, link: str | None = None) -> Reply:
    headers = [("Link", link)] if link else []
    return text({"name": "ns/app", "tags": names}, 200, *headers)


def following(query: str, rel: str = 'rel="next"', before: str = PATH) -> str:
    return f"<{before}?{query}>; {rel}"


class Paged:
    """A hook of a registry with these tags, which gives at most so many at once.

    It tells of the next page by ``link``, if at all, with a query of its own.
    """

    def __init__(
        self,
        names: Iterable[str],
        most: int = 1000,
        *,
        refused: int | None = None,
        linked: bool = True,
        last: bool = True,
        before: str = PATH,
        counted: bool = True,
    ) -> None:
        self.names = list(names)
        self.most = most
        self.refused = refused
        self.linked = linked
        self.last = last
        self.before = before
        self.counted = counted

    def __call__(self, asked: Asked) -> Reply | None:
        if asked.path != PATH:
            return None
        count = int(asked.query.get("n", ["0"])[0])
        if self.refused is not None and count > 100:
            return text({"errors": [{"code": "PAGINATION_NUMBER_INVALID"}]}, self.refused)
        count = min((self.counted and count) or self.most, self.most)
        after = asked.query.get("last", [""])[0] if self.last else ""
        left = [name for name in self.names if name > after]
        link = (
            following(f"last={left[count - 1]}&n={count}", before=self.before)
            if (self.linked and len(left) > count)
            else None
        )
        return page(left[:count], link)


def tags(open_source: Open, registry: OddRegistry, address: str, hook: object = None) -> list[str]:
    if hook:
        registry.hook = hook  # type: ignore[assignment]
    return open_source(address).tags()


@pytest.mark.parametrize(
    ("hook", "requests"),
    [
        (Paged(MANY), 3),  # docker-registry 3.1, GHCR, ECR, ACR, Harbor
        (Paged(MANY, 50), 50),  # quay.io
        (Paged(MANY, 100, refused=400), 26),  # docker-registry 3.0 and GitLab, set to fewer
        (Paged(MANY, 100_000, refused=422), 2),
        (Paged(MANY, 100_000, counted=False), 1),  # docker-registry 2.8, Nexus: all at once
        (Paged(MANY, linked=False), 3),
        (Paged(MANY[:1000], linked=False), 2),
        (Paged(MANY[:999], linked=False), 1),
        (Paged(MANY, before="https://elsewhere.invalid/v2/other/tags/list"), 3),
        (Paged(MANY, before=""), 3),
    ],
)
def test_all_pages(
    open_source: Open, registry: OddRegistry, address: str, hook: Paged, requests: int
) -> None:
    """However many a registry gives at once; where a link leads to another host only its query."""
    assert tags(open_source, registry, address, hook) == hook.names
    assert len(registry.paths(PATH)) == requests
    assert registry.asked[-1].headers["Host"] == address


def test_so_many_are_asked_for(open_source: Open, registry: OddRegistry, address: str) -> None:
    assert tags(open_source, registry, address, Paged(MANY)) == MANY
    first, second, _ = (asked for asked in registry.asked if asked.path == PATH)
    assert first.query == {"n": ["1000"]}
    assert second.query == {"n": ["1000"], "last": [MANY[999]]}


def test_a_link_keeps_what_the_registry_wrote(
    open_source: Open, registry: OddRegistry, address: str
) -> None:
    """Some have a token for the next page instead of a tag."""

    def hook(asked: Asked) -> Reply | None:
        if asked.path != PATH:
            return None
        after = asked.query.get("next_page")
        return page(["b"]) if after == ["a/+="] else page(["a"], following("next_page=a%2F%2B%3D"))

    assert tags(open_source, registry, address, hook) == ["a", "b"]


@pytest.mark.parametrize(
    "link",
    [
        following("last=a", 'rel="next"'),
        following("last=a", "rel=next"),
        following("last=a", "rel='next'"),
        following("last=a", 'title="a, b"; rel="next"'),
        following("last=a", 'rel="NEXT"'),
        following("last=a", 'rel="last next"'),
        following("last=a", 'title="x"; rel="next"'),
        following("last=b", 'rel="first"') + ", " + following("last=a"),
        following("last=a#top"),
    ],
)
def test_how_a_link_is_written(
    open_source: Open, registry: OddRegistry, address: str, link: str
) -> None:
    registry.hook = lambda asked: page(["b"]) if "last" in asked.query else page(["a"], link)
    assert open_source(address).tags() == ["a", "b"]
    assert registry.asked[-1].query == {"last": ["a"]}


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (None, []),
        ([], []),
        (["b", "a", "b"], ["b", "a"]),
        (
            ["1", "", "a/b", "..", "-x", "x" * 129, 7, None, "a\n", "\u0661", "_", "2"],
            ["1", "_", "2"],
        ),
    ],
)
def test_what_is_in_it(
    open_source: Open, registry: OddRegistry, address: str, listed: object, expected: list[str]
) -> None:
    """Each tag once, and nothing that is none."""
    registry.hook = lambda asked: page(listed)
    assert open_source(address).tags() == expected


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"tags": {}}', b'{"tags": "1"}', b'{"tags": ["1"', b"<html>"]
)
def test_what_is_no_list(
    open_source: Open, registry: OddRegistry, address: str, body: bytes
) -> None:
    registry.hook = lambda asked: None if asked.path == "/v2/" else Reply(body=body)
    with pytest.raises(errors.RegistryError, match="answers without a list of tags"):
        open_source(address).tags()
    assert len(registry.paths(PATH)) == 1


def test_nobody_has_it(open_source: Open, registry: OddRegistry, address: str) -> None:
    hidden = text({"errors": [{"code": "NAME_UNKNOWN"}]}, 403)
    replies = iter([Reply(404), hidden])
    registry.hook = lambda asked: None if asked.path == "/v2/" else next(replies)
    source = open_source(address)
    for _ in range(2):
        with pytest.raises(errors.ImageUnknown, match="not found"):
            source.tags()


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (page(["a"], following("last=a")), "repeats a part"),
        (page(["a"]), "repeats a part"),
        (page(["b"], following("last=a")), "has no end"),
        (page(["b"], following("n=1000")), "has no end"),
        (page([], following("last=a")), "has no end"),
        (page(["b"], f'<{PATH}>; rel="next"'), "leads to no next page"),
        (page({"b": 1}), "without a list of tags"),
        (Reply(body=b'{"tags": ["b"'), "without a list of tags"),
        (Reply(500), "500"),
        (Reply(400), "400"),
        (Reply(403), "403"),
        (Reply(404), "not found"),
        (Reply(200, (("Content-Length", "99"),), b'{"tags": ["b"]}', 15), "breaks off"),
    ],
)
def test_never_a_part(
    open_source: Open, registry: OddRegistry, address: str, second: Reply, told: str
) -> None:
    """Whatever is wrong with a later page: somebody may remove what is not in the list."""
    registry.hook = lambda asked: (
        None
        if asked.path == "/v2/"
        else second
        if "last" in asked.query
        else page(["a"], following("last=a"))
    )
    with pytest.raises(errors.UploaderError, match=told):
        open_source(address).tags()


def test_a_list_that_is_cut_off_and_does_not_say_so(
    open_source: Open, registry: OddRegistry, address: str
) -> None:
    """As many as were asked for, no link, and the same again: nobody knows whether that is all."""
    hook = Paged(MANY, linked=False, last=False)
    with pytest.raises(errors.RegistryUnreachable, match="repeats a part of its list of tags"):
        tags(open_source, registry, address, hook)


def test_an_empty_page_is_passed(open_source: Open, registry: OddRegistry, address: str) -> None:
    pages = {"": page(["a"], following("last=a")), "a": page([], following("last=b"))}
    registry.hook = lambda asked: (
        pages.get(asked.query.get("last", [""])[0], page(["c"])) if asked.path == PATH else None
    )
    assert open_source(address).tags() == ["a", "c"]


@pytest.mark.parametrize(
    ("limit", "value", "told"),
    [
        ("_TAGS_PAGES", 2, "has no end"),
        ("_TAGS_LIMIT", 1999, "has no end"),
        ("_TAGS_BYTES", 20_000, "answers with more than"),
    ],
)
def test_a_list_has_limits(
    open_source: Open,
    registry: OddRegistry,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
    told: str,
) -> None:
    monkeypatch.setattr(registry_source, limit, value)
    with pytest.raises(errors.RegistryUnreachable, match=told):
        tags(open_source, registry, address, Paged(MANY))
    assert len(registry.paths(PATH)) == 2


def test_limits_that_a_list_just_keeps(
    open_source: Open, registry: OddRegistry, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(
        len(json.dumps({"name": "ns/app", "tags": MANY[n : n + 1000]})) for n in (0, 1000, 2000)
    )
    for limit, value in {"_TAGS_PAGES": 3, "_TAGS_LIMIT": 2500, "_TAGS_BYTES": size}.items():
        monkeypatch.setattr(registry_source, limit, value)
    assert tags(open_source, registry, address, Paged(MANY)) == MANY


def test_each_page_is_tried_again(open_source: Open, registry: OddRegistry, address: str) -> None:
    """And those before it are not asked for anew."""
    paged, failures = Paged(MANY), {"": 2, MANY[999]: 3, MANY[1999]: 4}

    def hook(asked: Asked) -> Reply | None:
        if asked.path != PATH:
            return None
        last = asked.query.get("last", [""])[0]
        failures[last] -= 1
        return Reply(502) if failures[last] >= 0 else paged(asked)

    assert tags(open_source, registry, address, hook) == MANY
    assert len(registry.paths(PATH)) == 3 + 2 + 3 + 4


def test_who_may_not_know(open_source: Open, registry: OddRegistry, address: str) -> None:
    registry.hook = lambda asked: Reply(401) if asked.path != "/v2/" else None
    with pytest.raises(errors.RegistryError) as caught:
        open_source(address).tags()
    assert caught.value.status == 401
    assert len(registry.paths(PATH)) == 1
