# SPDX-License-Identifier: Apache-2.0
"""tags/list page by page, and referrers, as every server answers them.

Source: OCI distribution-spec 1.1, "Listing Tags" and "Listing Referrers".
"""

from __future__ import annotations

import contextlib
import itertools
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import requests

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.views.tags_list import Listing
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import sources, trees, web
from tests.support.content import referrer

pytestmark = pytest.mark.slow

TIMEOUT = 30
SBOM = "application/vnd.example.sbom+json"
PLAIN_TYPE = "application/vnd.example.signature"
ODD_TYPE = "application/vnd.example!odd+a+b"

FEW = [f"v{number}" for number in range(20)]
MANY = [f"1.{number}" for number in range(150)]
LARGE = [f"v1.{number}.0" for number in range(2000)]


@pytest.fixture(scope="module")
def subject() -> Image:
    return images.corpus()[0]


@pytest.fixture(scope="module")
def referrers(subject: Image) -> list[Image]:
    return [
        referrer(subject, SBOM, "a"),
        referrer(subject, SBOM, "b"),
        referrer(subject, PLAIN_TYPE, "c"),
        referrer(subject, ODD_TYPE, "d"),
    ]


@pytest.fixture(scope="module")
def tree(subject: Image, referrers: list[Image]) -> Iterator[Path]:
    with web.open_folder() as folder:
        root = folder / "image-serve"
        with LocalExportDriver(root) as driver:
            for image in (subject, *referrers):
                trees.put(driver, image)
            for name, tags in (("few", FEW), ("many", MANY)):
                image = images.artifact(name, "x", "application/vnd.example", b"{}")
                for tag in tags:
                    trees.put(driver, image, tag)
            large = RepositoryLayout(RepositoryName("large"))
            Listing(driver._storage, large).write(LARGE)
        yield root


@pytest.fixture(scope="module")
def listing(kind: web.Kind, tree: Path) -> Iterator[str]:
    with web.serve(kind, tree) as server:
        yield server


def test_a_registry_source_reads_all_tags(listing: str) -> None:
    """Such a tree may be what others copy from."""
    for name, tags in (("few", FEW), ("many", MANY), ("large", LARGE)):
        assert sources.source(listing, name).tags() == sorted(tags)


@contextlib.contextmanager
def served_driver(kind: web.Kind) -> Iterator[tuple[str, LocalExportDriver, Path]]:
    """The driver of a tree that is served while it changes."""
    with (
        web.open_folder() as folder,
        LocalExportDriver(folder / "tree") as driver,
        web.serve(kind, folder / "tree") as server,
    ):
        yield server, driver, folder / "tree"


def get(server: str, path: str, **headers: str) -> requests.Response:
    return requests.get(f"http://{server}{path}", headers=headers, timeout=TIMEOUT)


def tags(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    found: list[str] = answer.json()["tags"]
    return found


def followed(server: str, path: str, key: str) -> list[list[str]]:
    """Return the pages from ``path`` on."""
    pages: list[list[str]] = []
    while path:
        answer = get(server, path)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json()[key])
        link = answer.links.get("next")
        assert pages[-1] or not link
        assert len(pages) < 3000
        path = link["url"] if link else ""
    return pages


def joined(pages: Iterable[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(pages))


def _each_letter(text: str) -> str:
    return "".join(f"%{ord(letter):02X}" for letter in text)


def test_all_at_once(listing: str) -> None:
    answer = get(listing, "/v2/many/tags/list")
    assert tags(answer) == sorted(MANY)
    assert "Link" not in answer.headers


SIZES = {"few": 20, "many": 150, "large": 2000}


@pytest.mark.parametrize("name", SIZES)
def test_as_many_as_there_are_at_once(listing: str, name: str) -> None:
    for n in (SIZES[name], SIZES[name] + 1, 10_000, 10**25):
        answer = get(listing, f"/v2/{name}/tags/list?n={n}")
        assert len(tags(answer)) == SIZES[name]
        assert "Link" not in answer.headers


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("few", range(16, 20)), ("many", [16, 17, 29, 49, 50, 64, 74, 75, 76, 100, 149])],
)
def test_pages_are_half_full_or_more(
    listing: str, kind: web.Kind, name: str, numbers: Iterable[int]
) -> None:
    check_pages(listing, kind, name, numbers)


@pytest.mark.parametrize("n", [100, 199, 999, 1000, 1332, 1333, 1999])
def test_pages_of_a_large_list(listing: str, kind: web.Kind, n: int) -> None:
    check_pages(listing, kind, "large", [n])


def check_pages(server: str, kind: web.Kind, name: str, numbers: Iterable[int]) -> None:
    expected = tags(get(server, f"/v2/{name}/tags/list"))
    for n in numbers:
        pages = followed(server, f"/v2/{name}/tags/list?n={n}", "tags")
        assert joined(pages) == expected
        assert max(map(len, pages)) <= n
        step = 10 ** max(len(str(n)) - 2, 0)
        assert len(pages) <= 2 * len(expected) // (n // step * step)
        if kind == "embedded":
            assert all(len(page) == n for page in pages[:-1])


@pytest.mark.parametrize("n", [1, 3, 4, 7, 15])
def test_small_numbers(listing: str, n: int) -> None:
    for name, all_tags in (("few", FEW), ("many", MANY)):
        pages = followed(listing, f"/v2/{name}/tags/list?n={n}", "tags")
        assert joined(pages) == sorted(all_tags)
        assert max(map(len, pages)) <= n


@pytest.mark.parametrize("n", range(1, 16))
def test_just_so_many_from_the_start(listing: str, n: int) -> None:
    for name, all_tags in (("few", FEW), ("many", MANY)):
        answer = get(listing, f"/v2/{name}/tags/list?n={n}")
        assert tags(answer) == sorted(all_tags)[:n]
        assert answer.links["next"]["url"].startswith(f"/v2/{name}/tags/list?n={n}&last=")


def test_none_asked_for(listing: str) -> None:
    for query in ("n=0", "n=00", "n=0&last=v1", "last=v1&n=0"):
        answer = get(listing, f"/v2/few/tags/list?{query}")
        assert answer.json() == {"name": "few", "tags": []}
        assert "Link" not in answer.headers
    assert get(listing, "/v2/_catalog?n=0").json() == {"repositories": []}


@pytest.mark.parametrize("at", range(20))
def test_after_each_tag_of_a_few(listing: str, at: int) -> None:
    """All tags that follow come at once, without ``n`` and with one that is as large."""
    rest = sorted(FEW)[at + 1 :]
    for query in ("", "&n=20", "&n=10000"):
        answer = get(listing, f"/v2/few/tags/list?last={sorted(FEW)[at]}{query}")
        assert tags(answer) == rest
        assert "Link" not in answer.headers
    for n in (1, 5, 10, 19):
        pages = followed(listing, f"/v2/few/tags/list?n={n}&last={sorted(FEW)[at]}", "tags")
        assert joined(pages) == rest
        assert max(map(len, pages)) <= n


@pytest.mark.parametrize("query", ["last={}", "last={}&n=50", "n=100&last={}", "n=1000&last={}"])
def test_after_a_tag_of_many(listing: str, query: str) -> None:
    ordered = sorted(MANY)
    for at in (*range(0, 149, 13), 148, 149):
        path = "/v2/many/tags/list?" + query.format(ordered[at])
        assert joined(followed(listing, path, "tags")) == ordered[at + 1 :]


@pytest.mark.parametrize("n", [100, 1000])
def test_from_anywhere_in_a_large_list_to_long_pages(listing: str, n: int) -> None:
    """Few short pages lead to the long ones."""
    expected = tags(get(listing, "/v2/large/tags/list"))
    for at in range(7, 1900, 271):
        path = f"/v2/large/tags/list?n={n}&last={expected[at]}"
        pages = followed(listing, path, "tags")
        assert joined(pages) == expected[at + 1 :]
        assert len(pages) <= 2 * (2000 - at) // n + 40


def test_a_client_that_stops_after_twenty_pages(listing: str) -> None:
    """Renovate asks for 10,000 tags at once, and follows 20 pages by default."""
    pages = followed(listing, "/v2/large/tags/list?n=10000", "tags")
    assert len(pages) <= 20
    assert len(joined(pages)) == 2000


@pytest.mark.parametrize("query", ["last=1%2E5", "last=%31.5", "last=1.%35", "n=%31%30&last=1%2e5"])
def test_letters_that_are_percent_encoded(listing: str, query: str) -> None:
    n = 10 if "n=" in query else 150
    pages = followed(listing, f"/v2/many/tags/list?{query}", "tags")
    assert joined(pages) == sorted(MANY)[sorted(MANY).index("1.5") + 1 :]
    assert max(map(len, pages)) <= n
    answer = get(listing, "/v2/many/tags/list?n=%31%30")
    assert tags(answer) == sorted(MANY)[:10]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("n=x", 400),
        ("n=-1", 400),
        ("n=1%2E", 400),
        ("n=any", 400),
        ("last=..%2F..", 400),
        ("last=.start", 400),
        ("last=.htaccess", 400),
        ("last=../x", 400),
        ("last=x/y", 400),
        ("last=x%00", 400),
        ("last=x%2Fy", 400),
        ("last=%252E", 400),
        ("last=absent", 404),
        ("n=5&last=absent", 404),
    ],
)
def test_what_is_no_page(listing: str, kind: web.Kind, query: str, status: int) -> None:
    answer = get(listing, f"/v2/few/tags/list?{query}")
    if kind == "embedded" and status == 404:
        assert tags(answer) == sorted(FEW)[: len(tags(answer))]  # it can compare
        return
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["errors"][0]["code"]


def test_pages_of_an_absent_repository(listing: str) -> None:
    for query in ("", "?n=0", "?n=5", "?last=a", "?n=100"):
        answer = get(listing, f"/v2/absent/tags/list{query}")
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/json"


def test_tags_that_go_between_two_pages(kind: web.Kind) -> None:
    names = [f"v{number:02}" for number in range(60)]
    with served_driver(kind) as (server, driver, _):
        Listing(driver._storage, RepositoryLayout(RepositoryName("large"))).write(names)
        for n in (3, 20, 40, 100):
            left = set(names)
            page = get(server, f"/v2/large/tags/list?n={n}")
            last = tags(page)[-1]
            for gone in ({last}, {*names[20:30], last}):
                left -= gone
                Listing(driver._storage, RepositoryLayout(RepositoryName("large"))).write(left)
                path = f"/v2/large/tags/list?n={n}&last={last}"
                found = joined(followed(server, path, "tags"))
                assert found == sorted(tag for tag in left if tag > last)
            Listing(driver._storage, RepositoryLayout(RepositoryName("large"))).write(names)
        assert joined(followed(server, "/v2/large/tags/list?n=7", "tags")) == names


NAMES = [
    *(f"ns/img{number}" for number in range(60)),
    *("ns", "ns/img", "ns/img/deep/er", "z" * 255, "z" * 200, "z" * 201, "a/" + "y" * 253),
    *("y" * 200 + "/" + "y" * 54, "y" * 199 + "/y", "z" * 199),
]


@pytest.fixture(scope="module")
def catalog(kind: web.Kind) -> Iterator[str]:
    with served_driver(kind) as (server, driver, _):
        for name in NAMES:
            driver._tree.catalog.change(added=[RepositoryName(name)])
        yield server


def names(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    found: list[str] = answer.json()["repositories"]
    return found


def test_the_catalog_at_once(catalog: str) -> None:
    for query in ("", "?n=70", "?n=10000"):
        answer = get(catalog, f"/v2/_catalog{query}")
        assert names(answer) == sorted(NAMES)
        assert "Link" not in answer.headers


@pytest.mark.parametrize("n", [1, 4, 15, 16, 35, 69])
def test_the_catalog_page_by_page(catalog: str, n: int) -> None:
    pages = followed(catalog, f"/v2/_catalog?n={n}", "repositories")
    assert joined(pages) == sorted(NAMES)
    assert max(map(len, pages)) <= n
    assert n < 16 or len(pages) <= 2 * len(NAMES) // n


@pytest.mark.parametrize("quote", [str, lambda t: urllib.parse.quote(t, safe=""), _each_letter])
def test_the_catalog_after_each_name(catalog: str, quote: Callable[[str], str]) -> None:
    ordered = sorted(NAMES)
    for at in (*range(0, 60, 7), *range(60, 70)):
        path = f"/v2/_catalog?n=10&last={quote(ordered[at])}"
        assert joined(followed(catalog, path, "repositories")) == ordered[at + 1 :]


@pytest.mark.parametrize(
    "query", ["n=x", "last=../x", "last=ns%2F..%2Fns", "last=%2Fns", "last=ns/"]
)
def test_what_is_no_page_of_the_catalog(catalog: str, query: str) -> None:
    answer = get(catalog, f"/v2/_catalog?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"]


def test_an_empty_catalog(kind: web.Kind) -> None:
    with served_driver(kind) as (server, driver, _):
        assert names(get(server, "/v2/_catalog?n=5")) == []
        driver._tree.catalog.change(added=[RepositoryName("ns/img")])
        assert names(get(server, "/v2/_catalog?n=5")) == ["ns/img"]
        driver._tree.catalog.change(removed=[RepositoryName("ns/img")])
        for query in ("", "?n=5", "?n=0"):
            assert names(get(server, f"/v2/_catalog{query}")) == []


def ask(server: str, subject: Image, query: str = "") -> requests.Response:
    answer = get(server, f"/v2/{subject.repository}/referrers/{subject.digest}{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == media_types.OCI_INDEX
    index = answer.json()
    assert (index["schemaVersion"], index["mediaType"]) == (2, media_types.OCI_INDEX)
    return answer


def found(answer: requests.Response) -> set[str]:
    return {descriptor["digest"] for descriptor in answer.json()["manifests"]}


def test_referrers(listing: str, subject: Image, referrers: list[Image]) -> None:
    answer = ask(listing, subject)
    assert found(answer) == {str(image.digest) for image in referrers}
    assert "OCI-Filters-Applied" not in answer.headers
    first = next(d for d in answer.json()["manifests"] if d["digest"] == str(referrers[0].digest))
    assert first == {
        "mediaType": referrers[0].manifest.media_type,
        "digest": str(referrers[0].digest),
        "size": len(referrers[0].manifest.content),
        "artifactType": SBOM,
        "annotations": {"org.example.name": "a"},
    }


@pytest.mark.parametrize("quote", [str, urllib.parse.quote_plus, lambda t: t.replace("/", "%2f")])
@pytest.mark.parametrize(("artifact_type", "expected"), [(SBOM, [0, 1]), (PLAIN_TYPE, [2])])
def test_referrers_of_a_type(
    listing: str,
    subject: Image,
    referrers: list[Image],
    artifact_type: str,
    expected: list[int],
    quote: Callable[[str], str],
) -> None:
    answer = ask(listing, subject, f"?artifactType={quote(artifact_type)}")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert found(answer) == {str(referrers[number].digest) for number in expected}


def test_referrers_of_a_type_that_none_has(listing: str, subject: Image) -> None:
    answer = ask(listing, subject, "?artifactType=application/vnd.example.none")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert found(answer) == set()


@pytest.mark.parametrize("artifact_type", [ODD_TYPE, "all", "../../x", "a/../b", "x" * 300])
def test_what_is_not_filtered_says_so(
    listing: str, subject: Image, referrers: list[Image], artifact_type: str
) -> None:
    answer = ask(listing, subject, "?artifactType=" + urllib.parse.quote_plus(artifact_type))
    if "OCI-Filters-Applied" in answer.headers:
        pytest.fail(f"not a type to filter by: {artifact_type}")
    assert found(answer) == {str(image.digest) for image in referrers}


def test_referrers_of_the_unknown(listing: str, subject: Image) -> None:
    """A registry with this API never answers 404 to it."""
    for digest in (Digest.of(b""), Digest.of(b"", "sha512")):
        for name in (subject.repository, "absent"):
            answer = get(listing, f"/v2/{name}/referrers/{digest}")
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == media_types.OCI_INDEX
            assert answer.json()["manifests"] == []


def test_referrers_of_nonsense(listing: str) -> None:
    for digest in ("sha256:0", "nonsense", "md5:" + "0" * 32):
        answer = get(listing, f"/v2/base/referrers/{digest}")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["code"] == "DIGEST_INVALID"


def test_deleting_referrers(kind: web.Kind, subject: Image, referrers: list[Image]) -> None:
    with served_driver(kind) as (server, driver, root):
        for image in (subject, *referrers):
            trees.put(driver, image)
        driver.delete(ImageRef(subject.repository, referrers[0].digest))
        assert found(ask(server, subject)) == {str(image.digest) for image in referrers[1:]}
        filtered = ask(server, subject, f"?artifactType={urllib.parse.quote_plus(SBOM)}")
        assert found(filtered) == {str(referrers[1].digest)}
        driver.delete(ImageRef(subject.repository, referrers[2].digest))
        assert found(ask(server, subject, f"?artifactType={PLAIN_TYPE}")) == set()
        assert isinstance(subject.tag, Tag)
        driver.delete(ImageRef(subject.repository, subject.tag))
        # The subject is gone, and what is about it can still be read.
        rest = (referrers[1], referrers[3])
        assert found(ask(server, subject)) == {str(image.digest) for image in rest}
        for digest, status in ((subject.digest, 404), *((i.digest, 200) for i in rest)):
            answer = get(server, f"/v2/{subject.repository}/manifests/{digest}")
            assert answer.status_code == status
        assert not trees.problems(root)


def test_a_referrer_that_comes_first(kind: web.Kind) -> None:
    """A subject need not exist (distribution-spec, "Pushing Manifests with Subject")."""
    missing = images.artifact("late", "1.0", "application/vnd.example", b"late")
    early = referrer(missing, SBOM, "early")
    with served_driver(kind) as (server, driver, _):
        trees.put(driver, early)
        assert found(ask(server, missing)) == {str(early.digest)}
        assert get(server, "/v2/late/tags/list").json() == {"name": "late", "tags": []}
        trees.put(driver, missing)
        assert found(ask(server, missing)) == {str(early.digest)}


def test_the_referrers_tag(kind: web.Kind, subject: Image, referrers: list[Image]) -> None:
    """The tag of a registry without the API is one like others; the API has the referrers, too."""
    tag = str(subject.digest).replace(":", "-")
    index = images.index(str(subject.repository), tag, referrers[:2], oci=True)
    with served_driver(kind) as (server, driver, _):
        trees.put(driver, subject)
        trees.put(driver, index)
        answer = get(
            server, f"/v2/{subject.repository}/manifests/{tag}", Accept=media_types.OCI_INDEX
        )
        assert answer.content == index.manifest.content
        assert found(ask(server, subject)) == {str(image.digest) for image in referrers[:2]}
        driver.delete(ImageRef(RepositoryName(str(subject.repository)), Tag(tag)))
        assert found(ask(server, subject)) == {str(image.digest) for image in referrers[:2]}
