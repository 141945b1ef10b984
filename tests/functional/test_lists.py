"""tags/list page by page, and referrers, as every server answers them.

Source: OCI distribution-spec 1.1, "Listing Tags" and "Listing Referrers".
"""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from image_uploader_plugins.demo import images
from image_uploader_plugins.demo.images import Image
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.driver import LocalExportDriver
from image_uploader_plugins.manifest import OCI_INDEX
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from tests.functional.content import referrer
from tests.support import trees, web

TIMEOUT = 30
SBOM = "application/vnd.example.sbom+json"
PLAIN_TYPE = "application/vnd.example.signature"
ODD_TYPE = "application/vnd.example!odd+a+b"

FEW = [f"v{number}" for number in range(20)]
MANY = [f"1.{number}" for number in range(150)]


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
        assert not trees.problems(root)
        yield root


@pytest.fixture(scope="module")
def listing(kind: web.Kind, tree: Path) -> Iterator[str]:
    with web.serve(kind, tree) as server:
        yield server


@contextlib.contextmanager
def served_driver(kind: web.Kind) -> Iterator[tuple[str, LocalExportDriver, Path]]:
    """A tree of one's own, served while it changes."""
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


def following(server: str, path: str) -> tuple[list[str], int]:
    """All tags from ``path`` on, and how many requests it took."""
    found, requested = [], 0
    while path:
        answer = get(server, path)
        page = tags(answer)
        found += page
        requested += 1
        link = answer.links.get("next")
        assert page or not link
        path = link["url"] if link else ""
    return found, requested


def test_all_at_once(listing: str) -> None:
    answer = get(listing, "/v2/many/tags/list")
    assert tags(answer) == sorted(MANY)
    assert "Link" not in answer.headers


@pytest.mark.parametrize("name", ["few", "many"])
@pytest.mark.parametrize("n", [1, 7, 63, 64, 65, 1000])
def test_pages_add_up_to_the_list(listing: str, name: str, n: int) -> None:
    found, requested = following(listing, f"/v2/{name}/tags/list?n={n}")
    assert found == sorted(FEW if name == "few" else MANY)
    if n >= 64:
        assert requested < len(found) / 4


@pytest.mark.parametrize("n", [*range(1, 21), 63])
def test_just_so_many_from_the_start(listing: str, n: int) -> None:
    """Clients may take fewer for the end of the list ("Listing Tags", implementers note)."""
    for name, all_tags in (("few", FEW), ("many", MANY)):
        answer = get(listing, f"/v2/{name}/tags/list?n={n}")
        assert tags(answer) == sorted(all_tags)[:n]
        assert ("next" in answer.links) == (n < len(all_tags))


@pytest.mark.parametrize("n", [1, 2, 10, 63, 64, 100])
def test_no_more_than_asked_for(listing: str, n: int) -> None:
    """Fewer are allowed, with a Link."""
    answer = get(listing, f"/v2/many/tags/list?n={n}")
    assert 1 <= len(tags(answer)) <= n
    assert answer.links["next"]["url"].startswith(f"/v2/many/tags/list?n={n}&last=")


def test_none_asked_for(listing: str) -> None:
    for query in ("n=0", "n=0&last=v1", "last=v1&n=0"):
        answer = get(listing, f"/v2/few/tags/list?{query}")
        assert answer.json() == {"name": "few", "tags": []}
        assert "Link" not in answer.headers


@pytest.mark.parametrize("at", range(20))
def test_after_each_tag_of_a_few(listing: str, at: int) -> None:
    """Without ``n`` all that follow, at once."""
    ordered = sorted(FEW)
    answer = get(listing, f"/v2/few/tags/list?last={ordered[at]}")
    assert tags(answer) == ordered[at + 1 :]
    assert "Link" not in answer.headers


@pytest.mark.parametrize("at", [0, 1, 63, 64, 100, 148, 149])
@pytest.mark.parametrize("query", ["last={}", "last={}&n=50", "n=100&last={}"])
def test_after_a_tag_of_many(listing: str, at: int, query: str) -> None:
    ordered = sorted(MANY)
    path = "/v2/many/tags/list?" + query.format(ordered[at])
    assert following(listing, path)[0] == ordered[at + 1 :]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("n=x", 400),
        ("n=-1", 400),
        ("last=..%2F..", 400),
        ("last=.htaccess", 400),
        ("last=../x", 400),
        ("last=absent", 404),
        ("n=5&last=absent", 404),
    ],
)
def test_what_is_no_page(listing: str, query: str, status: int) -> None:
    answer = get(listing, f"/v2/few/tags/list?{query}")
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["errors"][0]["code"]


def test_pages_of_an_absent_repository(listing: str) -> None:
    for query in ("", "?n=0", "?n=5", "?last=a", "?n=100"):
        answer = get(listing, f"/v2/absent/tags/list{query}")
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/json"


def ask(server: str, subject: Image, query: str = "") -> requests.Response:
    answer = get(server, f"/v2/{subject.repository}/referrers/{subject.digest}{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == OCI_INDEX
    index = answer.json()
    assert (index["schemaVersion"], index["mediaType"]) == (2, OCI_INDEX)
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
            assert answer.headers["Content-Type"] == OCI_INDEX
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
    """Copied from a registry without the API: a tag like others, and the API knows the rest."""
    tag = str(subject.digest).replace(":", "-")
    index = images.index(str(subject.repository), tag, referrers[:2], oci=True)
    with served_driver(kind) as (server, driver, _):
        trees.put(driver, subject)
        trees.put(driver, index)
        answer = get(server, f"/v2/{subject.repository}/manifests/{tag}", Accept=OCI_INDEX)
        assert answer.content == index.manifest.content
        assert found(ask(server, subject)) == {str(image.digest) for image in referrers[:2]}
        driver.delete(ImageRef(RepositoryName(str(subject.repository)), Tag(tag)))
        assert found(ask(server, subject)) == {str(image.digest) for image in referrers[:2]}
