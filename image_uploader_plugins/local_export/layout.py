# SPDX-License-Identifier: Apache-2.0
"""The names in a tree, and its paths relative to the root.

No other module knows a name of the tree. Only names that were read from a
folder are joined to that folder elsewhere.

::

    index.html                               what is in the registry, for people: a page
    v2/index.json                            the answer to GET /v2/
    v2/.htaccess                             what Apache needs to be told once
    v2/_catalog                              {"repositories": [...]}
    v2/.no-referrers                         the answer for a manifest that nothing refers to
    v2/<name>/blobs/<digest>.gz              a blob whose bytes are gzip
    v2/<name>/blobs/<digest>                 any other blob
    v2/<name>/manifests/<digest>/index.json  a manifest's bytes
    v2/<name>/manifests/<digest>/.htaccess   its Content-Type and Docker-Content-Digest
    v2/<name>/manifests/<digest>/<type>      the same bytes, by a name that tells nginx the type
    v2/<name>/manifests/<digest>/.left-out   what an index lists and was left out on purpose
    v2/<name>/manifests/<tag>.type-map       what the tag offers, per media type
    v2/<name>/manifests/.pin-<digest>.type-map  a manifest that was put without a tag
    v2/<name>/manifests/<tag> -> <digest>    legacy tag
    v2/<name>/tags/list                      {"name": ..., "tags": [...]}
    v2/<name>/.tags/<tag> -> ../manifests/<digest>      the tag, for nginx and our Apache site
    v2/<name>/.defaults/<tag> -> ../manifests/<digest>  of a list, for clients that know none
    v2/<name>/.pages/<division>/<last>=      a window: the tags up to <last>, from one of these on
    v2/<name>/.pages/<division>/.end=        the last window
    v2/<name>/.pages/<division>/<tag>+ -> <last>=    the window after <tag>, or after .start
    v2/<name>/.pages/<division>/<tag>+.type-map      the same, for TripleO's virtual host
    v2/<name>/.pages/<division>/.finer -> ../<division>  where to look for a <tag> that is not there
    v2/<name>/.pages/.few/<n> -> ../<division>   for clients that ask for <n> tags, rounded down
                                             to two significant digits; else all at once
    v2/<name>/.pages/.rest -> <division>     for all that follow a tag
    v2/<name>/.pages/.gone/<tag>+ -> <last>=   the tag after a <tag> that was deleted
    v2/<name>/.pages/.gone/<last>=           a window that such a link leads to
    v2/<name>/.pages/.gone/<tag>+.type-map   the same, for TripleO's virtual host
    v2/<name>/.pages/.heads/<n>.start+ -> <last>=  the window of the first <n> tags
    v2/<name>/.pages/.heads/<last>=          that window
    v2/<name>/.pages/.heads/<n>.start+.type-map  the same, for TripleO's virtual host
    v2/<name>/.pages/.tails/<tag>+           all tags after <tag>, where they are few
    v2/<name>/.pages/.none                   a list of no tags
    v2/.catalog/                             the same for the catalog, as .pages
    v2/<name>/.referrers/<digest>/all        what refers to a manifest
    v2/<name>/.referrers/<digest>/<type>     the same, of one artifact type
    .local-export/                           private: staging, pool, leases, locks; never served
    .local-export/needs/<hex>                what the manifests of a repository need: a memory
    .local-export/partial/<algorithm>-<hex>  the first bytes of a blob whose fetch broke off

A sha512 manifest is in ``.sha512:<hex>``, and ``sha512:<hex>.type-map`` leads
to it.

NOTE: TripleO's virtual host sends every reference except sha256 digests to
``<reference>.type-map``, and Apache redirects the URL of a directory, so no
directory may have the name of a sha512 digest.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import PurePosixPath

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.storage.places import Places

PAGE = PurePosixPath("index.html")
V2 = PurePosixPath("v2")
API_ROOT = V2 / "index.json"
API_HTACCESS = V2 / ".htaccess"
CATALOG = V2 / "_catalog"
CATALOG_WINDOWS = V2 / ".catalog"
NO_REFERRERS = V2 / ".no-referrers"

STATE = PurePosixPath(".local-export")
PLACES = Places(STATE)
STAGING = PLACES.staging
PARTIAL = STATE / "partial"
POOL = STATE / "pool"
LEASES = STATE / "leases"
LOCKS = PLACES.locks
UNFINISHED = STATE / "unfinished"
UNFINISHED_CATALOG = UNFINISHED / "catalog"
NEEDS = STATE / "needs"
STATE_FOLDERS = (STAGING, PARTIAL, POOL, LEASES, LOCKS, UNFINISHED, NEEDS)

BLOBS = "blobs"
MANIFESTS = "manifests"
TAG_LINKS = ".tags"
DEFAULT_LINKS = ".defaults"
WINDOWS = ".pages"
FEW = ".few"
REFERRERS = ".referrers"

CONTENT = "index.json"
HEADERS = ".htaccess"
GZIP = ".gz"
TYPE_MAP = ".type-map"
LEFT_OUT = ".left-out"
PIN = ".pin-"
WINDOW_MARK = "="
AFTER_MARK = "+"
CUT = "@"
_LONG_NAME = 200
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_ITEM = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")

# nginx makes the Content-Type from these names; etc/nginx has the other half.
TYPE_FILES = {
    media_types.DOCKER_SCHEMA1: "manifest.docker-v1",
    media_types.DOCKER_SCHEMA1_SIGNED: "manifest.docker-v1-signed",
    media_types.DOCKER_MANIFEST: "manifest.docker-v2",
    media_types.DOCKER_LIST: "manifest.docker-list",
    media_types.OCI_MANIFEST: "manifest.oci-manifest",
    media_types.OCI_INDEX: "manifest.oci-index",
}

_OWN_FOLDERS = frozenset(
    {
        *(BLOBS, MANIFESTS, "tags", TAG_LINKS, DEFAULT_LINKS),
        *(WINDOWS, REFERRERS),
    }
)
_UNSERVABLE_TAGS = (".json", TYPE_MAP)


def check_tag(tag: Tag) -> None:
    """Raise InvalidReference for a tag that web servers would take for a file.

    NOTE: TripleO's virtual host does not rewrite references with these endings,
    so such a tag could be written but never pulled.
    """
    if tag.value.endswith(_UNSERVABLE_TAGS):
        raise errors.InvalidReference(
            f"tag {tag.value!r} cannot be served: it ends in " + " or ".join(_UNSERVABLE_TAGS)
        )


class WindowsLayout:
    """The paths of a list's windows, as texts: these are many, and paths are slow.

    An item is a tag or, in the catalog, a repository's name. It cannot contain
    the mark that follows it in a file name, so no path can be taken for another.
    """

    def __init__(self, top: PurePosixPath) -> None:
        self.top = top
        self._start = f"{top}/"
        self.none = f"{top}/.none"
        self.few_folder = f"{top}/{FEW}"
        self.rest = f"{top}/.rest"

    def few(self, n: int) -> str:
        """Return the link to the division for clients that ask for ``n`` items."""
        return f"{self.few_folder}/{n}"

    def division(self, label: str) -> str:
        """Return the folder of a division."""
        return self._start + label

    def division_of(self, path: str) -> str | None:
        """Return the folder of the division that a path is in; None for others."""
        label, slash, _ = path.removeprefix(self._start).partition("/")
        return self._start + label if slash else None

    def finer(self, label: str) -> str:
        """Return the link from a division to the next finer one."""
        return f"{self._start}{label}/.finer"

    def window(self, label: str, last: str) -> str:
        """Return the window that ends with item ``last``."""
        return f"{self._start}{label}/{_short(last)}{WINDOW_MARK}"

    def after(self, label: str, item: str) -> str:
        """Return the link to the window after an item, or that window."""
        return f"{self._start}{label}/{_short(item)}{AFTER_MARK}"

    def after_type_map(self, label: str, item: str) -> str:
        """Return the type map that leads to the window after an item."""
        return self.after(label, item) + TYPE_MAP


def item_of(name: str) -> str:
    """Return the item that a name below a division is for, without its mark."""
    return name[:-1].replace(CUT + "/", "")


def is_item(text: str) -> bool:
    """Return whether this may be an item of a list with windows."""
    return len(text) < 256 and _ITEM.fullmatch(text) is not None


def _short(item: str) -> str:
    """Shorten the last segment of a name where it, with its ending, is too long for a file name."""
    if len(item) <= _LONG_NAME:
        return item
    return re.sub(rf"([^/]{{{_LONG_NAME}}})(?=[^/]+$)", rf"\1{CUT}/", item, count=1)


class _Below:
    """A path in a repository's folder, made when it is first asked for: most of them never are."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._name = name

    def __get__(self, of: RepositoryLayout, owner: type[object]) -> PurePosixPath:
        # From now on the attribute of the object is found instead.
        found = of.__dict__[self._name] = PurePosixPath(of.start + self._place)
        return found


class RepositoryLayout:
    """The paths of one repository; raises InvalidReference for a name that cannot be stored.

    Those of files and links are texts: most of them are used once, and a path
    takes longer to make than to use.
    """

    top = _Below("")
    # is_own_folder() knows these, too.
    blobs = _Below(BLOBS)
    manifests = _Below(MANIFESTS)
    tags = _Below("tags")
    tags_list = _Below("tags/list")
    tag_links = _Below(TAG_LINKS)
    default_links = _Below(DEFAULT_LINKS)
    windows = _Below(WINDOWS)
    referrers = _Below(REFERRERS)

    def __init__(self, name: RepositoryName) -> None:
        self.name = name
        self.start = f"{V2}/{name.value}/"
        if name.value == API_ROOT.name:
            raise errors.InvalidReference(f"repository name {name.value!r} is a file of the tree")

    @functools.cached_property
    def key(self) -> str:
        """Return a file name of its own for each repository: ``a/b`` and ``a_b`` must differ."""
        return hashlib.sha256(self.name.value.encode()).hexdigest()

    @functools.cached_property
    def leases(self) -> PurePosixPath:
        """Return the folder of the leases on its blobs."""
        return LEASES / self.key

    @property
    def folders(self) -> tuple[PurePosixPath, ...]:
        """Return the repository's own folders; all else below ``top`` is other repositories."""
        return (self.blobs, self.manifests, self.tags, self.tag_links, self.default_links)

    def blob_names(self, digest: Digest) -> tuple[str, str]:
        """Return both paths that a blob may have, that of a gzipped one first."""
        return self.blob(digest, gzip=True), self.blob(digest, gzip=False)

    def blob(self, digest: Digest, *, gzip: bool) -> str:
        """Return the path of a blob, whose name tells Apache whether it is gzipped."""
        return f"{self.start}{BLOBS}/{digest.value}{GZIP if gzip else ''}"

    def manifest(self, digest: Digest) -> PurePosixPath:
        """Return the folder of a manifest."""
        return self.manifests / manifest_folder(digest)

    def manifest_content(self, digest: Digest) -> str:
        """Return the file with a manifest's bytes."""
        return self._in_manifest(digest, CONTENT)

    def manifest_headers(self, digest: Digest) -> str:
        """Return the file with the headers of a manifest, for Apache."""
        return self._in_manifest(digest, HEADERS)

    def typed_manifest(self, digest: Digest, media_type: str) -> str:
        """Return the name of a manifest's bytes that tells nginx their type."""
        return self._in_manifest(digest, TYPE_FILES[media_type])

    def _in_manifest(self, digest: Digest, name: str) -> str:
        return f"{self.start}{MANIFESTS}/{manifest_folder(digest)}/{name}"

    def tag_link(self, tag: Tag) -> str:
        """Return the link from a tag to its manifest."""
        return f"{self.start}{TAG_LINKS}/{tag.value}"

    def default_link(self, tag: Tag) -> str:
        """Return the link from a tag of a list to the manifest for clients that know no lists.

        Any other tag has none.
        """
        return f"{self.start}{DEFAULT_LINKS}/{tag.value}"

    def referrers_of(self, subject: Digest) -> PurePosixPath:
        """Return the folder with the lists of the referrers of a manifest."""
        return self.referrers / subject.value

    def lease(self, digest: Digest, unique: str) -> PurePosixPath:
        """Return the file of one lease on a blob and maybe others; there may be several."""
        return self.leases / f"{digest}.{unique}"

    @property
    def unfinished(self) -> str:
        """Return the mark of an operation on the repository that has begun."""
        return f"{UNFINISHED}/{self.key}"

    @property
    def needs(self) -> PurePosixPath:
        """Return the file that remembers what the manifests need."""
        return NEEDS / self.key

    def left_out(self, digest: Digest) -> str:
        """Return the file that lists the children of an index that were left out on purpose."""
        return self._in_manifest(digest, LEFT_OUT)

    def type_map(self, tag: Tag) -> str:
        """Return the type map of a tag."""
        return f"{self.start}{MANIFESTS}/{tag.value}{TYPE_MAP}"

    def legacy_tag(self, tag: Tag) -> str:
        """Return the symbolic link that older versions of tripleo-common write for a tag."""
        return f"{self.start}{MANIFESTS}/{tag.value}"

    def pin(self, digest: Digest) -> str:
        """Return the file that keeps a manifest without a tag."""
        return f"{self.start}{MANIFESTS}/{PIN}{digest.value}{TYPE_MAP}"

    def digest_type_map(self, digest: Digest) -> str:
        """Return the type map of a digest."""
        return f"{self.start}{MANIFESTS}/{digest.value}{TYPE_MAP}"


@functools.lru_cache(maxsize=256)
def repository(name: RepositoryName) -> RepositoryLayout:
    """Return the paths of a repository, kept for those that were used last."""
    return RepositoryLayout(name)


def is_own_folder(name: str) -> bool:
    """Return whether a folder in a repository's folder is part of it, not another repository."""
    return name in _OWN_FOLDERS


_DIGEST = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
_FOLDER = r"sha256:[0-9a-f]{64}|\.sha512:[0-9a-f]{128}"
_CONTENT = "|".join(map(re.escape, (CONTENT, HEADERS, LEFT_OUT, *TYPE_FILES.values())))
_DIVISION = r"(?:of-)?[1-9][0-9]*"
# The paths that may be below a repository's own folders, and their kinds.
_KNOWN = [
    (
        r"(?:blobs|manifests|tags|\.(?:tags|defaults|pages|referrers))",
        "folder",
    ),
    (rf"blobs/(?:{_DIGEST})(?:\{GZIP})?", "file"),
    (rf"manifests/(?:{_FOLDER})", "folder"),
    (rf"manifests/(?:{_FOLDER})/(?:{_CONTENT})", "file"),
    (rf"manifests/(?:{_TAG}|sha512:[0-9a-f]{{128}}|\{PIN}(?:{_DIGEST}))\{TYPE_MAP}", "file"),
    (rf"manifests/{_TAG}", "link"),
    (r"tags/list", "file"),
    (rf"\.(?:tags|defaults)/{_TAG}", "link"),
    (rf"\.pages/\.gone/{_TAG}\+", "link"),
    (rf"\.pages/\.gone/(?:{_TAG}|\.end)=", "file"),
    (rf"\.pages/\.gone/{_TAG}\+\{TYPE_MAP}", "file"),
    (rf"\.pages/(?:{_DIVISION}|\.gone|\.few|\.heads|\.tails)", "folder"),
    (rf"\.pages/{_DIVISION}/\.finer", "link"),
    (rf"\.pages/{_DIVISION}/(?:{_TAG}|\.start)\+", "link"),
    (rf"\.pages/{_DIVISION}/(?:{_TAG}|\.start)\+\{TYPE_MAP}", "file"),
    (rf"\.pages/{_DIVISION}/(?:{_TAG}|\.end)=", "file"),
    (r"\.pages/\.few/[1-9][0-9]*", "link"),
    (r"\.pages/\.rest", "link"),
    (r"\.pages/\.heads/[1-9][0-9]?\.start\+", "link"),
    (rf"\.pages/\.heads/[1-9][0-9]?\.start\+\{TYPE_MAP}", "file"),
    (rf"\.pages/\.heads/{_TAG}=", "file"),
    (rf"\.pages/\.tails/{_TAG}\+", "file"),
    (r"\.pages/\.tails/\.finer", "link"),
    (r"\.pages/\.none", "file"),
    (rf"\.referrers/(?:{_DIGEST})", "folder"),
    (rf"\.referrers/(?:{_DIGEST})/(?:all|{_WORD}\+{_WORD}(?:\+{_WORD})?)", "file"),
]
_POOLED = re.compile(rf"{re.escape(str(POOL))}/([^/]*)/([^/]{{2}})/(\2[^/]*)")


def kind_of(path: PurePosixPath | str) -> str | None:
    """Return the kind of a path below a repository's folder: "file", "folder" or "link".

    None where the tree never has anything.
    """
    match = _places().fullmatch(str(path))
    return _KNOWN[match.lastindex - 1][1] if match and match.lastindex else None


@functools.cache
def _places() -> re.Pattern[str]:
    """Return one pattern for all paths, which takes as long to compile as others to import."""
    return re.compile("|".join(f"({pattern})" for pattern, _ in _KNOWN))


def is_derived(path: PurePosixPath) -> bool:
    """Return whether the content of a path below a repository's folder follows from other files.

    That is so for all files that serve blobs, manifests, tags and pins, but not
    for these themselves.
    """
    if path.parts[0] not in (BLOBS, MANIFESTS):
        return kind_of(path) is not None
    served = path.name == HEADERS or path.name in TYPE_FILES.values()
    digest = folder_digest(path.name.removesuffix(TYPE_MAP))
    mapped = len(path.parts) == 2 and path.name.endswith(TYPE_MAP) and digest is not None
    return mapped or (len(path.parts) == 3 and served and kind_of(path) is not None)


def manifest_folder(digest: Digest) -> str:
    """Return the name of the folder in ``manifests/`` that holds a manifest."""
    return digest.value if digest.algorithm == "sha256" else "." + digest.value


def copied_content(folder: str) -> str:
    """Return a manifest's bytes in a tag's folder, as a copy has it that followed links."""
    return f"{folder}/{CONTENT}"


def digest_text(name: str) -> str:
    """Return the text of the digest that folder_digest() returns, which ``name`` must be of."""
    return name.removeprefix(".")


def link_target(digest: Digest) -> str:
    """Return where the link of a tag leads to, from the folder that it is in."""
    return f"../manifests/{manifest_folder(digest)}"


def folder_digest(name: str) -> Digest | None:
    """Return the digest a folder in ``manifests/`` is for; None for anything else."""
    return _digest_or_none(name.removeprefix("."))


def blob_digest(name: str) -> Digest | None:
    """Return the digest a file in ``blobs/`` is for; None for anything else."""
    return _digest_or_none(name.removesuffix(GZIP))


def blob_text(name: str) -> str:
    """Return the text of the digest that blob_digest() returns, if there is one."""
    return name.removesuffix(GZIP)


def pool_blob(digest: Digest) -> str:
    """Return the path of a blob in the pool."""
    algorithm, _, encoded = digest.value.partition(":")
    return f"{POOL}/{algorithm}/{encoded[:2]}/{encoded}"


def pool_digest(path: PurePosixPath | str) -> Digest | None:
    """Return the digest a file in the pool is for; None for any other path."""
    match = _POOLED.fullmatch(str(path))
    return _digest_or_none(f"{match[1]}:{match[3]}") if match else None


def partial(digest: Digest) -> PurePosixPath:
    """Return the path of the partial blob: the bytes that were fetched so far."""
    return PARTIAL / f"{digest.algorithm}-{digest.encoded}"


def partial_digest(path: PurePosixPath) -> Digest | None:
    """Return the digest that a partial blob's file is for; None for any other path."""
    digest = _digest_or_none(path.name.replace("-", ":", 1))
    return digest if digest and partial(digest) == path else None


@functools.lru_cache(maxsize=4096)
def _digest_or_none(text: str) -> Digest | None:
    if ":" not in text:
        return None  # at once, since most names are none
    try:
        return Digest(text)
    except errors.InvalidReference:
        return None
