# SPDX-License-Identifier: Apache-2.0
"""Readers that pull everything, again and again, and find fault with what they get.

Three rules.  What is answered 200 is whole (client.py sees to that).  What
the plan never deletes is always there.  Anything else may be gone, but then
the name by which it was found must be gone, too.

The third rule, step by step: a tag led to an image; something of the image
(a child, a blob) is then answered 404; the tag is then asked again.  If it
still leads to the same image, it has done so all the time, since no tag of a
plan ever comes back to an image that it has left (plan.py); the image was
incomplete while it had a name.  Any other answer proves nothing: the image
was on its way out.  Asking for the manifest by its digest would not do, since
a shared image may have been deleted and put again between two requests.  In
the same way a referrer must be there if the list named it before and after.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import re
from collections.abc import Callable, Iterator

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Manifest
from tests.robustness.stress import plan
from tests.robustness.stress.client import ALL_TYPES, NO_LISTS, Answer, BadRead, Client
from tests.robustness.stress.plan import SHARED, Plan, Put

_JSON = "application/json"
_NEXT = re.compile(r'<(/v2/[^>]+)>; rel="next"')
_NUMBERS = (None, 1, 2, 7, 63, 64, 1000)

StillNamed = Callable[[], bool]


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the plan lets a tag lead to; a stable one is always there."""

    stable: bool
    digests: frozenset[Digest]
    defaults: frozenset[Digest]  # for clients that know no lists


class Reader:
    def __init__(self, made: Plan, client: Client, seed: int) -> None:
        self._client = client
        self._rng = random.Random(seed)  # noqa: S311 - not for secrets
        self._tags = dict(_expected(made))
        self._names = {str(name) for name in made.repositories()}
        self._subjects = {
            (str(put.image.repository), put.image.manifest.subject.digest): put.digest
            for put in made.prelude
            if isinstance(put, Put) and put.image.manifest.subject
        }

    def rounds(self) -> Iterator[str | None]:
        """Read everything once, in pieces; each piece is None or what was bad about it."""
        pieces = [self._catalog, *(self._piece(self._tags_list, name) for name in self._names)]
        pieces += [self._piece(self._pages, name) for name in self._names]
        pieces += [self._piece(self._referrers, *subject) for subject in self._subjects]
        pieces += [self._piece(self._tag, *tag) for tag in self._tags]
        self._rng.shuffle(pieces)
        for piece in pieces:
            try:
                piece()
            except BadRead as e:
                yield str(e)
            else:
                yield None

    @staticmethod
    def _piece(function: Callable[..., None], *arguments: object) -> Callable[[], None]:
        return lambda: function(*arguments)

    # -- lists

    def _catalog(self) -> None:
        answer = self._stable("/v2/_catalog")
        _check_list(answer, answer.json()["repositories"], self._names, set(SHARED))

    def _tags_list(self, name: str) -> None:
        answer = self._client.ask(f"/v2/{name}/tags/list")
        self._check_tags(answer, name, *self._known(name))

    def _known(self, name: str) -> tuple[set[str], set[str]]:
        """The tags that a repository may have, and those that it has."""
        known = {tag: expected for (where, tag), expected in self._tags.items() if where == name}
        return set(known), {tag for tag, expected in known.items() if expected.stable}

    def _check_tags(self, answer: Answer, name: str, known: set[str], stable: set[str]) -> None:
        if not answer.found:
            if stable:
                raise BadRead(f"{answer.url}: 404")
            return
        fields = answer.json()
        _check_type(answer, _JSON)
        if fields["name"] != name:
            raise BadRead(f"{answer.url}: is of {fields['name']!r}")
        _check_list(answer, fields["tags"], known, stable)

    def _pages(self, name: str) -> None:
        """Follow the links from the first page; each page tells all up to where it leads."""
        number = self._rng.choice(_NUMBERS)
        path = f"/v2/{name}/tags/list" + (f"?n={number}" if number else "")
        known, stable = self._known(name)
        last = ""
        while True:
            answer = self._client.ask(path)
            if not answer.found and last and last not in stable:
                return  # deleted since: a client begins again
            link = _NEXT.fullmatch(answer.headers["Link"] or "")
            upto = link[1].rpartition("last=")[2] if link else None
            within = {tag for tag in stable if last < tag and (upto is None or tag <= upto)}
            self._check_tags(answer, name, {tag for tag in known if tag > last}, within)
            if link is None:
                return
            listed = answer.json()["tags"]
            if not listed or listed[-1] != upto or (number and len(listed) > number):
                raise BadRead(f"{answer.url}: leads on to {upto} from {listed}")
            path, last = link[1], str(upto)

    def _referrers(self, name: str, subject: Digest) -> None:
        path = f"/v2/{name}/referrers/{subject}"
        listed = self._listed(path)
        if self._subjects[name, subject] not in listed:
            raise BadRead(f"{path}: does not list {self._subjects[name, subject]}")
        for digest in listed:
            kept = digest == self._subjects[name, subject]
            self._by_digest(name, digest, functools.partial(self._expected, path, digest, kept))
        artifact_type = "application%2Fvnd.example.signature"
        self._listed(f"{path}?artifactType={artifact_type}")

    def _expected(self, path: str, digest: Digest, kept: bool) -> bool:
        """Whether a referrer has to be there: it is never deleted, or is listed still."""
        return kept or digest in self._listed(path)

    def _listed(self, path: str) -> list[Digest]:
        answer = self._stable(path)
        _check_type(answer, media_types.OCI_INDEX)
        return [Digest(described["digest"]) for described in answer.json()["manifests"]]

    # -- images

    def _tag(self, name: str, tag: str) -> None:
        expected = self._tags[name, tag]
        path = f"/v2/{name}/manifests/{tag}"
        for accept, digests in (
            (NO_LISTS, expected.defaults),
            (ALL_TYPES, expected.digests),
        ):
            answer = self._client.ask(path, accept=accept)
            if not answer.found:
                if expected.stable:
                    raise BadRead(f"{answer.url}: 404")
                return
            parsed, digest = answer.manifest()
            if digest not in digests:
                raise BadRead(f"{answer.url}: leads to {digest}, which it never stood for")
        head = self._client.ask(path, method="HEAD", accept=ALL_TYPES)
        if head.digest() not in expected.digests if head.found else expected.stable:
            raise BadRead(f"{head.url}: {head.status}, {head.headers['Docker-Content-Digest']}")
        self._image(name, parsed, digest, self._still(path, digest, expected.stable))

    def _still(self, path: str, digest: Digest, stable: bool) -> StillNamed:
        """Whether a tag leads to ``digest``; of a stable one's image all must stay for good."""

        def named() -> bool:
            if stable:
                return True
            answer = self._client.ask(path, accept=ALL_TYPES)
            return answer.found and answer.manifest()[1] == digest

        return named

    def _image(self, name: str, parsed: Manifest, digest: Digest, still: StillNamed) -> None:
        self._by_digest(name, digest, still, parsed)
        for child in parsed.manifests:
            self._by_digest(name, child.digest, still)
        for blob in parsed.blobs():
            self._blob(name, blob.digest, blob.size, still)

    def _by_digest(
        self, name: str, digest: Digest, still: StillNamed, known: Manifest | None = None
    ) -> None:
        path = f"/v2/{name}/manifests/{digest}"
        method = self._rng.choice(("HEAD", "GET"))
        answer = self._client.ask(path, method=method, accept=ALL_TYPES)
        if not answer.found:
            self._missing(answer, still)
            return
        if answer.digest() != digest:
            raise BadRead(f"{answer.url}: is {answer.digest()}")
        if method == "HEAD":
            self._check_head(answer, known)
            return
        parsed, _ = answer.manifest()
        if known is None:
            for blob in parsed.blobs():
                self._blob(name, blob.digest, blob.size, still)

    def _check_head(self, answer: Answer, known: Manifest | None) -> None:
        said = (answer.headers["Content-Type"], int(answer.headers["Content-Length"]))
        if said[0] not in media_types.MANIFEST_TYPES:
            raise BadRead(f"{answer.url}: {said}")
        if known and said != (known.media_type, len(known.content)):
            raise BadRead(f"{answer.url}: {said}, not {known.media_type}, {len(known.content)}")

    def _blob(self, name: str, digest: Digest, size: int | None, still: StillNamed) -> None:
        path = f"/v2/{name}/blobs/{digest}"
        for method in ("HEAD", "GET"):
            answer = self._client.ask(path, method=method)
            if not answer.found:
                self._missing(answer, still)
                return
            _check_type(answer, "application/octet-stream")
            if answer.digest() != digest or int(answer.headers["Content-Length"]) != size:
                raise BadRead(f"{answer.url}: {answer.digest()}, not of {size} bytes")
        if Digest.of(answer.body, digest.algorithm) != digest:
            raise BadRead(f"{answer.url}: does not hash to its name")

    # -- what all rules need

    def _stable(self, path: str) -> Answer:
        answer = self._client.ask(path)
        if not answer.found:
            raise BadRead(f"{answer.url}: 404")
        return answer

    def _missing(self, answer: Answer, still: StillNamed) -> None:
        if still():
            raise BadRead(f"{answer.url}: 404, and what it belongs to is still named")


def _check_type(answer: Answer, media_type: str) -> None:
    if answer.headers["Content-Type"] != media_type:
        raise BadRead(f"{answer.url}: Content-Type {answer.headers['Content-Type']}")


def _check_list(answer: Answer, listed: list[str], known: set[str], stable: set[str]) -> None:
    if listed != sorted(set(listed)):
        raise BadRead(f"{answer.url}: not sorted, or twice the same: {listed}")
    if not stable <= set(listed) or not set(listed) <= known:
        wrong = sorted(stable - set(listed)), sorted(set(listed) - known)
        raise BadRead(f"{answer.url}: lacks {wrong[0]}, has {wrong[1]} too many")


def _expected(made: Plan) -> Iterator[tuple[tuple[str, str], Expected]]:
    puts = (step for step in made.prelude if isinstance(step, Put))
    stable = {(str(put.image.repository), str(put.tag)) for put in puts}
    for key, found in plan.destinations(made).items():
        digests = frozenset(put.digest for put in found)
        yield key, Expected(key in stable, digests, frozenset(map(_default, found)))


def _default(put: Put) -> Digest:
    """What a client that knows no lists gets: amd64 comes first (content.py)."""
    return put.image.children[0].digest if put.image.children else put.digest
