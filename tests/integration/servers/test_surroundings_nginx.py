# SPDX-License-Identifier: Apache-2.0
"""What stands around a server in nginx' files, and changes nothing that clients get.

A server inherits what the main file says for all of them; whatever can be said there is
said here by each test, one thing at a time and all at once.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, Tag
from image_uploader_plugins.serving import webservers
from image_uploader_plugins.serving.webservers import Site
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image
from tests.support import content, programs, raw, trees, web
from tests.support.checkout import PROJECT

pytestmark = pytest.mark.slow

SURROUNDINGS = {
    "no links": "disable_symlinks on;",
    "no links of others": "disable_symlinks if_not_owner from=/;",
    "no ranges": "max_ranges 0;",
    "one range": "max_ranges 1;",
    "charset": "charset utf-8; charset_types *; override_charset on;",
    "recoded": """
        charset_map koi8-r utf-8 { 80 E282AC; 61 D184; }
        charset utf-8; source_charset koi8-r; charset_types *;
    """,
    "ssi": "ssi on; ssi_types *; ssi_last_modified on;",
    "sub_filter": """
        sub_filter_types *; sub_filter_once off; sub_filter_last_modified on;
        sub_filter e E; sub_filter sha256 sha512; sub_filter '</head>' '<script></script></head>';
    """,
    "gzip": """
        gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any; gzip_vary on;
        gzip_http_version 1.0; gzip_comp_level 9;
    """,
    "gzip_static": "gzip_static on; gzip_vary on;",
    "gzip_static always": "gzip_static always;",
    "gunzip": "gunzip on; gzip_static on;",
    "additions": "addition_types *; add_before_body /v2/; add_after_body /v2/_catalog;",
    "headers": """
        add_header ETag '"theirs"' always; add_header Cache-Control public always;
        add_header Vary Cookie always; add_header Last-Modified theirs;
    """,
    "trailers": "add_trailer X-Trailer theirs always; add_trailer X-Other $uri;",
    "etag": "etag on;",
    "dates": "if_modified_since before;",
    "dates, exactly": "if_modified_since exact;",
    "expires": "expires max;",
    "expires, modified": "expires modified +1h;",
    "listings": "autoindex on; autoindex_format json;",
    "index": "index _catalog index.json list;",
    "redirects": "absolute_redirect off; server_name_in_redirect on; port_in_redirect off;",
    "types": "types { text/html json html gz docker-v2 oci-index list; } default_type text/plain;",
    "error pages": """
        error_page 304 400 401 403 404 405 416 500 =200 /index.html; recursive_error_pages on;
    """,
    "error pages elsewhere": "error_page 404 405 416 https://example.com/; msie_padding on;",
    "root": "root /etc;",
    "slowly": "limit_rate 1m; limit_rate_after 1k;",
    "odd headers": "underscores_in_headers on; ignore_invalid_headers off;",
    "slashes": "merge_slashes off;",
    "tokens": "server_tokens on;",
    "open files": """
        open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;
        open_file_cache_errors on; open_file_cache_min_uses 1;
    """,
    "no sendfile": "sendfile off; output_buffers 1 512; postpone_output 0;",
    "threads": "aio threads; sendfile on;",
    "direct": "directio 1; directio_alignment 4k; aio threads;",
    "pieces": "sendfile_max_chunk 1k; tcp_nopush off; tcp_nodelay off; read_ahead 64k;",
    "small buffers": "client_header_buffer_size 64; large_client_header_buffers 2 1k;",
    "small bodies": "client_max_body_size 1; client_body_buffer_size 1;",
    "small tables": "map_hash_bucket_size 32; server_names_hash_bucket_size 32;",
    "one request": "keepalive_timeout 0; keepalive_requests 1; lingering_close off;",
    "chunks": "chunked_transfer_encoding on;",
    "users": "userid on; userid_expires max; userid_p3p theirs;",
    "mirror": "mirror /mirror; mirror_request_body on;",
    "slices": "slice 1k;",
    "access": "allow all; satisfy any;",
    "dav": "dav_methods PUT DELETE MKCOL COPY MOVE; create_full_put_path on;",
    "variables of others": """
        map $uri $name { default theirs; } map $uri $tag { default theirs; }
        map $uri $digest { default sha256:0; }
    """,
}

# Names that end in what main files have types and filters for.
TAGS = ("1.0", "1.0.gz", "x.html", "x.shtml", "list")
KINDS_OF_REFERRERS = ("application/x", "application/x.gz", "text/html")
INCLUDE = b'<!--#include virtual="/v2/_catalog" --> the sea, sha256 </head>\n'

Answer = tuple[int, list[tuple[str, str]], bytes]
Answers = dict[tuple[str, ...], Answer]

EVERYTHING = {
    "Accept": ", ".join(sorted(media_types.MANIFEST_TYPES)),
    "Accept-Encoding": "gzip, deflate, br, zstd, identity;q=0.5",
    "Accept-Charset": "koi8-r",
    "User-Agent": "Mozilla/4.0 (compatible; MSIE 6.0)",
    "Cookie": "uid=1",
}


def image() -> Image:
    """Layers as gzip, tar and zstd, and as text that filters know; a config in JSON."""
    text = Blob(INCLUDE * 100, media_types.OCI_LAYER, "sha256:" + "0" * 64)
    layers = [images.layer({"f": INCLUDE * 9}, oci=True, plain=plain) for plain in (False, True)]
    return images.image("base", "1.0", [*layers, text], oci=True)


IMAGE, ZSTD, EMPTY = image(), content.zstd(), content.empty_blob()
MULTI = next(each for each in images.corpus() if each.repository.value == "multi/docker")


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            for tag in TAGS:
                trees.put(driver, IMAGE, tag)
            for other in (ZSTD, EMPTY, MULTI):
                trees.put(driver, other)
            for artifact_type in KINDS_OF_REFERRERS:
                trees.put(driver, content.referrer(IMAGE, artifact_type, artifact_type))
        yield folder / "tree"


def targets() -> list[str]:
    found = ["/", "/index.html", "/v2", "/v2/", "/v2/_catalog", "/v2/_catalog?n=1", "/nothing"]
    found += [f"/v2/base/manifests/{tag}" for tag in (*TAGS, "absent", "a%2fb", IMAGE.digest)]
    found += [f"/v2/base/tags/list{query}" for query in ("", "?n=2", "?n=0", "?n=x", "?n=1000")]
    found += [f"/v2/base/tags/list?last={tag}" for tag in TAGS]
    found += [f"/v2/base/tags/list?n={n}&last={tag}" for n in (1, 99) for tag in TAGS]
    found += ["/v2/base/tags/list?last=1%2E0", "/v2/_catalog?n=1&last=b%61se"]
    found += ["/v2/absent/tags/list", "/v2/base/", "/v2/base/manifests/", "/v2/base/tags/"]
    found += [f"/v2/multi/docker/manifests/{reference}" for reference in ("1.0", MULTI.digest)]
    for each in (IMAGE, ZSTD, EMPTY):
        found += [f"/v2/{each.repository}/blobs/{digest}" for digest in each.blobs]
    found += ["/v2/base/blobs/sha256:" + "0" * 64, "/v2/base/blobs/x", "/v2/x/referrers/x"]
    about = f"/v2/base/referrers/{IMAGE.digest}"
    found += [about, *(f"{about}?artifactType={kind}" for kind in KINDS_OF_REFERRERS)]
    return [*found, "/v2/base/referrers/sha256:" + "0" * 64, "/v2/base/tags/list?ns=quay.io"]


CONDITIONS: tuple[dict[str, str], ...] = (
    {},
    {"Range": "bytes=1-2"},
    {"Range": "bytes=0-0,2-2"},
    {"Range": "bytes=999999-"},
    {"Range": "bytes=" + "0-0," * 500 + "0-0"},
    {"Range": "bytes=0-1", "If-Range": f'"{next(iter(IMAGE.blobs))}"'},
    {"Range": "bytes=0-1", "If-Range": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"If-None-Match": "*"},
    {"If-None-Match": f'"x", W/"{IMAGE.digest}"'},
    {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"Accept": media_types.DOCKER_MANIFEST + ", " + media_types.OCI_MANIFEST},
)


def answers(server: str) -> Answers:
    """Return the answer to each request: status, headers without the time, body."""
    found: Answers = {}
    for target in targets():
        for method, more in itertools.product(("GET", "HEAD", "PUT"), CONDITIONS):
            if method == "GET" or not more:
                key = (method, target, *more.values())
                found[key] = _answer(server, target, method, EVERYTHING | more)
    return found


def _answer(server: str, target: str, method: str, headers: dict[str, str]) -> Answer:
    status, fields, body = raw.get(server, target, method, **headers)
    kept = sorted((n, v) for n, v in fields.items() if n not in ("Date", "Connection"))
    kept = [(name, value.partition("; boundary")[0]) for name, value in kept]
    boundary = fields.get_boundary()
    return status, kept, body.replace(boundary.encode(), b"boundary") if boundary else body


def served(tree: Path, around: str) -> Answers:
    with printed(Site(tree, 1), around=around) as server:
        if "open_file_cache" in around:
            answers(server)  # what is kept, is kept now
        return answers(server)


@contextlib.contextmanager
def printed(
    site: Site, around: str = "", inside: str = "", instead: tuple[str, str] = ("", "")
) -> Iterator[str]:
    """Return what ``serve --print nginx`` prints, with what is around it and added to it."""

    def write(folder: Path, port: int) -> str:
        here = Site(site.root, port, "127.0.0.1", allow_origins=site.allow_origins)
        text = webservers.nginx(here)
        assert instead[0] in text
        text = text.replace(*instead)
        assert text.endswith("}\n")
        return web.nginx_main(folder, f"{around}\n{text[:-2]}{inside}\n}}\n")

    with web.running("nginx", write) as server:
        yield server


@pytest.fixture(scope="module")
def plain(tree: Path) -> Answers:
    return served(tree, "")


def test_what_there_is_to_change(plain: Answers) -> None:
    """The answers are those of a registry, to the last header and byte."""
    common = {"Docker-Distribution-Api-Version": "registry/2.0", "Server": "nginx"}
    movable = {**common, "Cache-Control": "no-cache"}
    lasting = {**common, "Cache-Control": "max-age=31536000, immutable", "Accept-Ranges": "bytes"}
    for digest, body in IMAGE.blobs.items():
        said = {"Docker-Content-Digest": str(digest), "ETag": f'"{digest}"'}
        length = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
        for method, expected in (("GET", body), ("HEAD", b"")):
            status, headers, found = plain[method, f"/v2/base/blobs/{digest}"]
            assert (status, dict(headers), found) == (200, lasting | said | length, expected)
    said = {"Docker-Content-Digest": str(IMAGE.digest), "ETag": f'"{IMAGE.digest}"'}
    said |= {"Vary": "Accept", "Content-Type": IMAGE.manifest.media_type}
    said |= {"Content-Length": str(len(IMAGE.manifest.content))}
    for tag in TAGS:
        status, headers, found = plain["GET", f"/v2/base/manifests/{tag}"]
        assert dict(headers) == {**movable, **said, "Accept-Ranges": "bytes"}
        assert (status, found) == (200, IMAGE.manifest.content)
        status, headers, found = plain["GET", f"/v2/base/manifests/{tag}", "*"]
        assert (status, found) == (304, b"")
        assert dict(headers) | {"Content-Type": IMAGE.manifest.media_type} == movable | said
    status, headers, found = plain["GET", "/v2/base/manifests/absent"]
    said = {"Content-Type": "application/json", "Content-Length": str(len(found))}
    assert (status, dict(headers)) == (404, movable | said | {"Vary": "Accept"})
    _check_the_rest(plain)


def _check_the_rest(plain: Answers) -> None:
    for (method, target, *more), (status, headers, _) in plain.items():
        named = dict(headers)
        assert len(named) == len(headers), "said twice"
        assert "Last-Modified" not in named
        assert "ETag" not in named or named["ETag"] == f'"{named["Docker-Content-Digest"]}"'
        assert status in (200, 206, 304, 307, 400, 404, 405, 416)
        assert (status == 405) == (method == "PUT")
        assert status != 304 or "/manifests/" not in target or "ETag" in named
        digest = "/blobs/" in target or "/manifests/sha256:" in target
        kept = digest and status in (200, 206, 304)
        if named.get("Content-Length") == "0" and "bytes=0-1" in more:
            kept = False  # a range of nothing that is not looked at is taken for one that is
        assert named["Cache-Control"] == ("max-age=31536000, immutable" if kept else "no-cache")
    assert {status for status, _, _ in plain.values()} >= {200, 206, 304, 400, 404, 405, 416}


@pytest.mark.parametrize("around", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_nothing_changes(tree: Path, plain: Answers, around: str) -> None:
    found = served(tree, around)
    assert {
        key: (answer, plain[key]) for key, answer in found.items() if answer != plain[key]
    } == {}


@pytest.mark.parametrize("origins", [(), ("*",), ("https://a.example", "https://b.example")])
def test_nothing_to_warn_of(tree: Path, tmp_path: Path, origins: tuple[str, ...]) -> None:
    """nginx warns of nothing, with Debian's own main file and another tree beside."""
    own = tmp_path / "own.conf"
    sites = [Site(tree, port, allow_origins=origins) for port in (8787, 8788)]
    own.write_text("".join(map(webservers.nginx, sites)))
    main = Path("/etc/nginx/nginx.conf").read_text()
    for pattern, text in (
        (r"pid .*;", f"pid {tmp_path}/pid;"),
        (r"include /etc/nginx/conf.d/\*\.conf;", f"include {own};"),
        (r"include /etc/nginx/(?:sites|modules)-enabled/\*(?:\.conf)?;", ""),
    ):
        main, found = re.subn(pattern, text, main)
        assert found
    (tmp_path / "nginx.conf").write_text(main)
    command = [programs.require("nginx", "nginx-light"), "-t", "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_what_caches_have_from_before_is_no_validator(tree: Path) -> None:
    """nginx' own ETag, which earlier configurations sent: a second and a size."""
    file = (tree / "v2/base/tags/list").stat()
    known = f'"{int(file.st_mtime):x}-{file.st_size:x}"'
    with printed(Site(tree, 1), SURROUNDINGS["etag"]) as server:
        assert raw.get(server, "/v2/base/tags/list", If_None_Match=known)[0] == 200


def test_a_body_is_not_what_is_refused(tree: Path) -> None:
    """A client that pushes is told that it cannot, not that its layer is too large."""
    with printed(Site(tree, 1), SURROUNDINGS["small bodies"]) as server:
        request = f"PUT /v2/ HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n"
        sent = f"{request}Content-Length: 5\r\n\r\nlayer".encode()
        assert raw.exchange(server, sent)[0] == 405


def test_a_tag_that_moves_is_seen_at_once(tree: Path) -> None:
    """A tag that moves is seen at once where open_file_cache keeps every file open."""
    del tree
    one, two = (images.image("moving", "1.0", [images.layer({"f": text})]) for text in (b"1", b"2"))
    around = SURROUNDINGS["open files"] + SURROUNDINGS["dates"]
    with web.open_folder() as folder, LocalExportDriver(folder / "tree") as driver:
        trees.put(driver, one)
        with printed(Site(folder / "tree", 1), around) as server:

            def get(path: str) -> tuple[int, str | None, bytes]:
                status, headers, body = raw.get(server, f"/v2/moving/{path}")
                return status, headers["Docker-Content-Digest"], body

            for moved, later in ((one, "a"), (two, "b"), (one, "c"), (two, "d")):
                assert get(f"manifests/{later}")[0] == 404
                trees.put(driver, moved)
                trees.put(driver, moved, later)
                for tag in ("1.0", later):
                    answer = get(f"manifests/{tag}")
                    assert answer == (200, str(moved.digest), moved.manifest.content)
                assert f'"{later}"'.encode() in get("tags/list")[2]
                assert f'"{later}"'.encode() in get("tags/list?last=1.0")[2]


@contextlib.contextmanager
def logged(tree: Path, inside: str = "") -> Iterator[tuple[str, Path]]:
    """Serve a tree with what is added to the server; yields ``host:port`` and the log."""
    logs = []

    def write(folder: Path, port: int) -> str:
        logs.append(folder / "log")
        text = webservers.nginx(Site(tree, port, "127.0.0.1"))
        return web.nginx_main(folder, f"{text[:-2]}{inside}\n}}\n")

    with web.running("nginx", write) as server:
        yield server, logs[-1]


def test_what_is_absent_is_nothing_to_log(tree: Path) -> None:
    """Clients look for what may not be there, and no administrator wants to know."""
    with logged(tree) as (server, log):
        for path in ("base/manifests/absent", "absent/manifests/1.0", "absent/tags/list"):
            assert raw.get(server, f"/v2/{path}")[0] == 404
        assert raw.get(server, "/v2/base/manifests/absent", If_None_Match='"x"')[0] == 404
        older = {"Accept": f"{media_types.DOCKER_MANIFEST}, {media_types.OCI_MANIFEST}"}
        for path in ("v2/base/manifests/absent", "manifest.docker-v2"):
            assert raw.get(server, f"/{path}", **older)[0] == 404
        # Images and lists are looked for by their types.
        for path in ("base/manifests/1.0", "multi/docker/manifests/1.0"):
            assert raw.get(server, f"/v2/{path}")[0] == 200
        assert log.read_text() == ""


def test_a_tag_that_is_called_like_a_file() -> None:
    """A link that an earlier version wrote for a tag is not the manifest of another tag."""
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            trees.put(driver, IMAGE)
        link = folder / "tree/v2/base/manifests/manifest.docker-v2"
        link.symlink_to(IMAGE.digest.value)
        with printed(Site(folder / "tree", 1)) as server:
            for tag, status in (("1.0", 200), ("absent", 404)):
                assert raw.get(server, f"/v2/base/manifests/{tag}")[0] == status


@pytest.mark.parametrize("oci", [False, True])
def test_a_range_that_is_not_there(oci: bool) -> None:
    """Each type of manifest answers for itself, with the headers of a tag."""
    one = images.image("base", "1.0", [images.layer({"f": b"x"}, oci=oci)], oci=oci)
    many = images.index("base", "2.0", [one], oci=oci)
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            for each in (one, many):
                trees.put(driver, each)
        with printed(Site(folder / "tree", 1)) as server:
            for each in (one, many):
                path = f"/v2/base/manifests/{each.tag}"
                status, headers, body = raw.get(server, path, Range="bytes=99999-")
                assert status == 416
                assert b"SIZE_INVALID" in body
                assert headers.get_all("Docker-Distribution-Api-Version") == ["registry/2.0"]


def test_what_is_refused_is_logged(tree: Path) -> None:
    """Only that a tag is absent is not told; a rule that refuses clients is."""
    with logged(tree, "deny all;") as (server, log):
        for number, path in enumerate(("base/manifests/1.0", f"base/manifests/{IMAGE.digest}"), 1):
            assert raw.get(server, f"/v2/{path}")[0] == 403
            assert log.read_text().count("access forbidden by rule") == number


def test_files_that_an_operator_keeps_open() -> None:
    """With the documented line instead of ours, a tag still moves and goes at once."""
    documented = (PROJECT / "doc/source/serving.rst").read_text()
    match = re.search(
        r"open_file_cache max=\d+ inactive=\d+s; open_file_cache_valid \d+s;", documented
    )
    assert match
    kept = re.sub(r"\d+s;", "1h;", match[0])
    one, two = (images.image("moving", "1.0", [images.layer({"f": text})]) for text in (b"1", b"2"))
    with web.open_folder() as folder, LocalExportDriver(folder / "tree") as driver:
        trees.put(driver, one)
        site = Site(folder / "tree", 1)
        with printed(site, instead=("open_file_cache off;", kept)) as server:
            for moved, later in ((one, "a"), (two, "b"), (one, "c"), (two, "d")):
                assert raw.get(server, f"/v2/moving/manifests/{later}")[0] == 404
                trees.put(driver, moved)
                trees.put(driver, moved, later)
                for tag in ("1.0", later):
                    status, headers, body = raw.get(server, f"/v2/moving/manifests/{tag}")
                    told = headers["Docker-Content-Digest"]
                    assert (status, told, body) == (200, moved.digest.value, moved.manifest.content)
            driver.delete(ImageRef(two.repository, Tag("d")))
            assert raw.get(server, "/v2/moving/manifests/d")[0] == 404


def test_what_an_operator_adds_is_on_every_answer(tree: Path, plain: Answers) -> None:
    added = {"Strict-Transport-Security": "max-age=1", "Access-Control-Allow-Origin": "*"}
    lines = [f'add_header {name} "{value}" always;' for name, value in added.items()]
    with printed(Site(tree, 1), inside="\n".join(lines)) as server:
        for key, (status, headers, body) in answers(server).items():
            assert added.items() <= dict(headers).items(), key
            rest = [(name, value) for name, value in headers if name not in added]
            assert (status, rest, body) == plain[key]


@pytest.mark.parametrize("around", [False, True])
def test_nobody_learns_anything_without_a_password(tree: Path, around: bool) -> None:
    """Without a password nobody learns whether a tag is there, or a manifest still the same."""
    with web.open_folder() as folder:
        passwords = folder / "passwords"
        hashed = subprocess.check_output([programs.require("openssl"), "passwd", "-apr1", "x"])
        passwords.write_bytes(b"somebody:" + hashed)
        asked = f"auth_basic registry; auth_basic_user_file {passwords};"
        with printed(Site(tree, 1), asked if around else "", "" if around else asked) as server:
            for key, (status, headers, _) in answers(server).items():
                assert status == 401, key
                assert ("WWW-Authenticate", 'Basic realm="registry"') in headers
                assert ("Cache-Control", "no-cache") in headers
