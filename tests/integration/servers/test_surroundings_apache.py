# SPDX-License-Identifier: Apache-2.0
"""What stands around a virtual host in Apache's files, and changes nothing that clients get.

A virtual host inherits what the main file says of all files; distributions
and administrators say a lot there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import itertools
import re
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.serving import webservers
from image_uploader_plugins.serving.webservers import Site
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image
from tests.support import content, raw, trees, web
from tests.support.checkout import PROJECT

# As RHEL's /etc/httpd/conf/magic has it for tar archives, in both kinds of format.
MAGIC = """\
0\tstring\t\\037\\213\tapplication/octet-stream\tx-gzip
257\tstring\tustar\\0\tapplication/x-tar\tposix
257\tstring\tustar\\040\\040\\0\tapplication/x-tar\tgnu
0\tstring\t{\ttext/plain
"""

# Names of tags that end in what main files have types, encodings and handlers for.
TAGS = ("1.0", "x.gz", "x.var", "x.html", "x.shtml", "x.utf8")


SERVING = PROJECT / "doc" / "source" / "serving.rst"


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Directives before the virtual host's file, and the modules that they need."""

    text: str
    modules: tuple[str, ...] = ()


def of(*directives: str, modules: str = "") -> Surroundings:
    return Surroundings("\n".join(directives), tuple(modules.split()))


SURROUNDINGS = {
    "mime_magic": of("MIMEMagicFile {folder}/magic", modules="mime_magic"),
    "deflate everything": of("SetOutputFilter DEFLATE", modules="filter deflate"),
    "brotli everything": of("SetOutputFilter BROTLI_COMPRESS", modules="filter brotli"),
    "by location": of(
        '<Location "/">', "SetOutputFilter DEFLATE", "</Location>", modules="filter deflate"
    ),
    "by files": of(
        '<FilesMatch ".">', "SetOutputFilter DEFLATE", "</FilesMatch>", modules="filter deflate"
    ),
    "by type": of(
        "AddOutputFilterByType DEFLATE application/octet-stream application/json text/html",
        "AddOutputFilterByType DEFLATE " + " ".join(sorted(media_types.MANIFEST_TYPES)),
        "AddOutputFilterByType BROTLI_COMPRESS application/octet-stream application/json",
        modules="filter deflate brotli",
    ),
    "substitute": of(
        "AddOutputFilterByType SUBSTITUTE application/json application/octet-stream text/html",
        "Substitute s/a/b/",
        modules="filter substitute",
    ),
    "includes": of(
        "<Directory />",
        "Options +Includes",
        "XBitHack full",
        "</Directory>",
        "SetOutputFilter INCLUDES",
        "AddOutputFilterByType INCLUDES text/html application/json",
        "AddOutputFilter INCLUDES .html .json .gz .shtml",
        "AddHandler server-parsed .html .shtml",
        modules="filter include",
    ),
    "a filter by extension": of(
        "AddOutputFilter DEFLATE .gz .json .html list", modules="filter deflate"
    ),
    "force-gzip": of(
        "SetOutputFilter DEFLATE",
        "SetEnv force-gzip 1",
        "SetEnvIf Request_URI . force-gzip=1 !no-gzip",
        modules="filter deflate env",
    ),
    "types": of(
        "AddType text/html .gz .json",
        'ForceType "text/plain; charset=latin1"',
        "AddDefaultCharset utf-8",
        "AddCharset utf-8 .json .html .gz .utf8",
        "AddEncoding x-gzip .gz .json .html",
        "AddLanguage en .en .gz .json .html",
    ),
    "types of blobs": of(
        "AddEncoding x-gzip .gz .json",
        "AddLanguage en .gz .json",
        "AddCharset utf-8 .json",
        "AddType text/html .json",
        "AddHandler cgi-script .json .gz",
        modules="cgid",
    ),
    "filters of all": of(
        "SetOutputFilter SUBSTITUTE;INCLUDES",
        '<Directory "/">',
        "Options +Includes",
        "Substitute s/a/b/",
        "</Directory>",
        modules="substitute filter include",
    ),
    "handlers": of(
        "AddHandler type-map .var .json .gz .html",
        "AddHandler cgi-script .json .gz .html",
        "Action application/octet-stream /nowhere virtual",
        modules="actions cgid",
    ),
    "a handler for all": of("SetHandler cgi-script", modules="cgid"),
    "negotiation": of(
        "<Directory />",
        "Options +MultiViews +Indexes",
        "</Directory>",
        "DirectoryIndex index.json index.html",
        "FallbackResource /v2/index.json",
        "LanguagePriority en",
        "CheckSpelling On",
        "CheckCaseOnly On",
        modules="speling",
    ),
    "directories": of("DirectorySlash On", "DirectoryIndex index.json", "AcceptPathInfo On"),
    "errors": of(
        *(f'ErrorDocument {status} "theirs"' for status in (400, 403, 404, 405, 416)),
        "ErrorDocument 304 /index.html",
    ),
    "memory": of("EnableSendfile On", "EnableMMAP Off"),
    "validators": of("FileETag None", "ContentDigest On"),
    "other validators": of("FileETag INode MTime Size Digest"),
    "expires": of("ExpiresActive On", 'ExpiresDefault "access plus 1 month"', modules="expires"),
    "expires by type": of(
        "ExpiresActive On",
        'ExpiresByType application/octet-stream "modification plus 1 week"',
        *(
            f'ExpiresByType {name} "access plus 1 week"'
            for name in sorted(media_types.MANIFEST_TYPES)
        ),
        modules="expires",
    ),
    "headers": of(
        'Header set Cache-Control "public, max-age=600"',
        "Header always set Cache-Control private",
        'Header set ETag "theirs"',
        "Header set Last-Modified theirs",
        "Header unset Docker-Content-Digest",
        "Header set Expires 0",
        'Header always set Expires "Thu, 01 Jan 1970 00:00:00 GMT"',
    ),
    "headers of files": of(
        '<FilesMatch "(?i)(json|gz|html|sha)">',
        'Header set Cache-Control "public, max-age=600"',
        "Header always append Cache-Control no-transform",
        "Header unset ETag",
        "FileETag None",
        "</FilesMatch>",
    ),
    "headers of locations": of(
        '<LocationMatch "^/v2/">',
        'Header set Cache-Control "public, max-age=600"',
        'Header set Last-Modified "Thu, 01 Jan 1970 00:00:00 GMT"',
        'Header set ETag "theirs"',
        "</LocationMatch>",
    ),
    "ranges": of("MaxRanges none", "MaxRangeOverlaps none", "MaxRangeReversals none"),
    "encoded slashes": of("AllowEncodedSlashes NoDecode"),
    "encoded slashes, decoded": of("AllowEncodedSlashes On"),
    "inherited rules": of(
        "RewriteEngine On",
        "RewriteOptions InheritDownBefore",
        "RewriteRule ^/v2/ /index.html [L]",
    ),
    "inherited rules, after": of(
        "RewriteEngine On", "RewriteOptions InheritDown", "RewriteRule ^/v2/ /index.html [L]"
    ),
    "aliases": of(
        "Alias /v2 /etc",
        "AliasMatch ^/index.html$ /etc/passwd",
        "Redirect /v2/base/blobs /elsewhere",
    ),
    "a cache": of(
        "CacheEnable disk /",
        "CacheRoot {folder}/cache",
        "CacheIgnoreNoLastMod On",
        "CacheDefaultExpire 600",
        "CacheStoreNoStore On",
        "CacheIgnoreCacheControl On",
        modules="cache cache_disk",
    ),
    "a proxy": of("ProxyPass /v2 http://127.0.0.1:9/", modules="proxy proxy_http"),
    "another limit": of("LimitRequestFieldSize 16380", "LimitRequestLine 16380"),
    "hostnames": of("UseCanonicalName On", "HttpProtocolOptions Unsafe", "MergeSlashes Off"),
    "buffers": of("SetOutputFilter BUFFER", "SetInputFilter BUFFER", modules="buffer"),
    "throttled": of(
        "SetOutputFilter RATE_LIMIT", "SetEnv rate-limit 4000", modules="ratelimit env"
    ),
    "negotiated documents": of("CacheNegotiatedDocs On", "ForceLanguagePriority Fallback"),
    "access": of(
        '<Location "/">',
        "AllowMethods GET HEAD POST OPTIONS PUT",
        "</Location>",
        modules="allowmethods",
    ),
    "a server's status": of(
        '<Location "/v2/">', "SetHandler server-status", "</Location>", modules="status"
    ),
    "user folders": of("UserDir public_html", modules="userdir"),
}


def image() -> Image:
    """Layers as gzip, as plain tar and empty; and as JSON, which magic takes for text."""
    tar = images.layer({"file": b"plain"})
    plain = Blob(
        gzip.decompress(tar.content), "application/vnd.oci.image.layer.v1.tar", tar.diff_id
    )
    layers = [images.layer({"file": b"packed" * 1000}, oci=True), plain]
    return images.image("base", "1.0", layers, oci=True)


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    with web.open_folder() as folder:
        root = folder / "tree"
        with LocalExportDriver(root) as driver:
            for tag in TAGS:
                trees.put(driver, image(), tag)
            for other in (content.empty_blob(), content.everything()[1]):
                trees.put(driver, other)
            trees.put(driver, content.referrer(image(), "application/x", "note"))
        yield root


Answers = dict[tuple[str, ...], tuple[int, list[tuple[str, str]], bytes]]

EVERYTHING = {
    "Accept": ", ".join(sorted(media_types.MANIFEST_TYPES)),
    "Accept-Encoding": "gzip, br, zstd, identity;q=0.5",
    "Accept-Language": "de",
    "User-Agent": "tests",
}


def answers(server: str) -> Answers:
    """Return the answer to each request: status, headers without the time, body."""
    found: Answers = {}
    for method in ("GET", "HEAD", "PUT"):
        for target in targets():
            for more in ({}, {"Range": "bytes=1-2"}, {"Range": "bytes=1-1,0-0,0-1"}):
                if more and method != "GET":
                    continue
                key = (method, target, *more.values())
                found[key] = _answer(server, target, method, **EVERYTHING, **more)
    return found


def _answer(
    server: str, target: str, method: str, **headers: str
) -> tuple[int, list[tuple[str, str]], bytes]:
    status, fields, body = raw.get(server, target, method, **headers)
    boundary = fields.get_boundary()
    # NOTE: now and then Apache's boundary is shorter.
    left_out = ("Date", "Content-Length") if boundary else ("Date",)
    kept = sorted((name, value) for name, value in fields.items() if name not in left_out)
    kept = [(name, value.partition("; boundary")[0]) for name, value in kept]
    kept = [(name, value.replace(server, "server")) for name, value in kept]
    body = body.replace((boundary or "none").encode(), b"boundary")
    return status, kept, body.replace(server.rpartition(":")[2].encode(), b"port")


def targets() -> list[str]:
    whole = image()
    blobs = [f"/v2/base/blobs/{digest}" for digest in whole.blobs]
    empty = [f"/v2/odd/empty/blobs/{digest}" for digest in content.empty_blob().blobs]
    found = ["/", "/v2/", "/v2/_catalog", "/v2/base/tags/list", "/v2/base/tags/list?n=3"]
    found += [f"/v2/base/manifests/{tag}" for tag in TAGS]
    found += [f"/v2/base/tags/list?last={tag}" for tag in TAGS]
    found += [f"/v2/base/manifests/{whole.digest}", f"/v2/base/referrers/{whole.digest}"]
    found += ["/v2/base/manifests/absent", "/v2/base/manifests/a%2fb", "/v2/base/", "/nothing"]
    found += ["/v2/base/blobs/sha256:" + "0" * 64, "/v2/base/blobs/x", "/V2/base/tags/list"]
    found += ["/v2/base/manifests/1.0/x", "/~root/", "/icons/", "/v2/base/manifests/1.0?ns=quay.io"]
    return [*found, *blobs, *empty]


def served(tree: Path, around: Surroundings, kind: web.Kind = "httpd") -> Answers:
    def write(folder: Path, port: int) -> str:
        (folder / "magic").write_text(MAGIC)
        (folder / "cache").mkdir(exist_ok=True)
        (folder / "cache").chmod(0o777)
        define = f"Define IMAGE_SERVE_ROOT {tree}\nDefine IMAGE_SERVE_PORT {port}\n"
        text = define + around.text.replace("{folder}", str(folder))
        return web.httpd_main(folder, web.VIRTUAL_HOSTS[kind], around.modules, text)

    with web.running(kind, write) as server:
        if "cache" in around.modules:
            answers(server)  # what it has, it has now
        return answers(server)


@pytest.fixture(scope="module")
def plain(tree: Path) -> Answers:
    found = served(tree, of())
    assert {status for status, _, _ in found.values()} >= {200, 206, 400, 404, 405}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("around", list(SURROUNDINGS.values()), ids=list(SURROUNDINGS))
def test_nothing_changes(tree: Path, plain: Answers, around: Surroundings) -> None:
    assert changed(served(tree, around), plain) == {}


def changed(found: Answers, plain: Answers) -> dict[tuple[str, ...], object]:
    return {key: (answer, plain[key]) for key, answer in found.items() if answer != plain[key]}


# What files below v2 can say themselves; doc/source/conformance.rst has the rest.
DEPLOYMENTS = (
    *("deflate everything", "brotli everything", "by location", "by files", "by type"),
    *("a filter by extension", "force-gzip", "directories", "memory", "other validators"),
    *("types of blobs", "filters of all"),
    *("expires by type", "encoded slashes", "another limit", "buffers"),
)


@pytest.fixture(scope="module")
def deployed(tree: Path) -> Answers:
    return below_v2(served(tree, of(), "production"))


def below_v2(found: Answers) -> Answers:
    return {key: answer for key, answer in found.items() if key[1].startswith("/v2/")}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_nothing_changes_in_deployments(tree: Path, deployed: Answers, name: str) -> None:
    found = below_v2(served(tree, SURROUNDINGS[name], "production"))
    assert changed(found, deployed) == {}


@pytest.mark.slow
def test_what_deployments_cannot_have(tree: Path, deployed: Answers) -> None:
    """Files below v2 cannot switch off mod_mime_magic, which names an encoding of archives."""
    found = below_v2(served(tree, SURROUNDINGS["mime_magic"], "production"))
    plain_layer = list(image().blobs)[-1]
    different = changed(found, deployed)
    assert different
    for key in different:
        assert key[1].endswith(str(plain_layer))
        assert ("Content-Encoding", "posix") in found[key][1]


@contextlib.contextmanager
def printed(
    tree: Path, site: Site, inside: str = "", before: str = "", modules: tuple[str, ...] = ()
) -> Iterator[str]:
    """Return what ``serve --print apache`` prints, with what an operator adds to it."""

    def write(folder: Path, port: int) -> str:
        text = webservers.apache(dataclasses.replace(site, root=tree, port=port))
        text = text.replace("</VirtualHost>", f"{inside}\n</VirtualHost>")
        (folder / "site.conf").write_text(text)
        return web.httpd_main(folder, folder / "site.conf", modules, before)

    with web.running("httpd", write) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("place", ["inside", "before"])
def test_what_an_operator_adds_holds_on_every_answer(tree: Path, place: str) -> None:
    hsts = 'Header always set Strict-Transport-Security "max-age=1"'
    inside, before = (hsts, "") if place == "inside" else ("", hsts)
    with printed(tree, Site(tree, 1), inside, before) as server:
        found = answers(server)
        assert found.keys() == {key for key, (_, fields, _) in found.items() if added(fields)}
        etag = f'"{image().digest}"'
        status, fields, _ = raw.get(server, "/v2/base/manifests/1.0", If_None_Match=etag)
        assert (status, fields["Strict-Transport-Security"]) == (304, "max-age=1")


@pytest.mark.slow
def test_the_page_may_be_compressed(tree: Path) -> None:
    """By the lines that the documentation gives, which change nothing else."""
    (lines,) = re.findall(r"<LocationMatch.*?</LocationMatch>", SERVING.read_text(), re.DOTALL)
    deflate = of(modules="filter deflate")
    folded = served(tree, deflate)
    with printed(tree, Site(tree, 1), inside=lines, modules=deflate.modules) as server:
        found = answers(server)
    different = changed(found, folded)
    assert {target for _, target, *_ in different} == {"/"}
    for method in ("GET", "HEAD"):
        status, fields, body = found[method, "/"]
        assert (status, dict(fields)["Content-Encoding"]) == (200, "gzip")
        assert "Accept-Encoding" in dict(fields)["Vary"]
        assert gzip.decompress(body) == (documents.PAGE if method == "GET" else b"")


def added(fields: list[tuple[str, str]]) -> bool:
    return fields.count(("Strict-Transport-Security", "max-age=1")) == 1


ORIGIN = "https://ui.example:8443"
EXPOSED = {
    *("Docker-Content-Digest", "Link", "Docker-Distribution-Api-Version", "OCI-Filters-Applied"),
    *("Content-Range", "ETag", "WWW-Authenticate"),
}


@pytest.mark.parametrize("allowed", [("*",), (ORIGIN, "http://other.example")])
def test_pages_of_other_origins(tree: Path, allowed: tuple[str, ...]) -> None:
    with printed(tree, Site(tree, 1, allow_origins=allowed)) as server:
        for method, target in itertools.product(("GET", "HEAD", "PUT"), targets()):
            status, fields, _ = raw.get(server, target, method, Origin=ORIGIN)
            wanted = "*" if allowed == ("*",) else ORIGIN
            assert fields.get_all("Access-Control-Allow-Origin") == [wanted], (target, status)
            assert names(fields, "Access-Control-Expose-Headers") == EXPOSED
            assert ("Origin" in names(fields, "Vary")) == (allowed != ("*",))
            assert ("Accept" in names(fields, "Vary")) == (method != "PUT" and tagged(target))
            assert "Access-Control-Allow-Methods" not in fields


def test_no_pages_of_any_other(tree: Path) -> None:
    with printed(tree, Site(tree, 1, allow_origins=(ORIGIN,))) as server:
        for origin in ("https://ui.example", f"{ORIGIN}.evil.example", f"x{ORIGIN}", "null"):
            for method in ("GET", "OPTIONS"):
                _, fields, _ = raw.get(server, "/v2/_catalog", method, Origin=origin)
                assert "Access-Control-Allow-Origin" not in fields
                assert names(fields, "Vary") == {"Origin"}


def test_what_a_browser_asks_first(tree: Path) -> None:
    """A preflight (the Fetch standard) has no credentials, and is answered all the same."""
    closed = '<Location "/">\nRequire all denied\n</Location>'
    with printed(tree, Site(tree, 1, allow_origins=(ORIGIN,)), closed) as server:
        status, fields, body = raw.get(
            server,
            "/v2/base/manifests/1.0",
            "OPTIONS",
            Origin=ORIGIN,
            Access_Control_Request_Method="GET",
            Access_Control_Request_Headers="authorization",
        )
        assert (status, body) == (204, b"")
        assert fields["Access-Control-Allow-Origin"] == ORIGIN
        assert names(fields, "Access-Control-Allow-Methods") == {"GET", "HEAD"}
        assert names(fields, "Access-Control-Allow-Headers") == {
            *("Accept", "Authorization", "If-None-Match", "Range", "Content-Type")
        }
        assert fields["Access-Control-Max-Age"] == "600"
        assert raw.get(server, "/v2/_catalog")[0] == 403


def names(fields: Message, name: str) -> set[str]:
    """Return the members of a header that is a list, in however many lines."""
    return {part.strip() for line in fields.get_all(name, []) for part in line.split(",")}


def tagged(target: str) -> bool:
    return re.search(r"^/v2/base/manifests/[A-Za-z0-9._-]+(\?|$)", target) is not None
