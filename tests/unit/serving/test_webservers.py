# SPDX-License-Identifier: Apache-2.0
"""The configurations that are printed, where no server is needed to see it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.serving import webservers
from image_uploader_plugins.serving.webservers import Site
from tests.support.checkout import PROJECT

ROOT = Path("/var/lib/image-serve")
ETC = PROJECT / "etc"
KINDS = pytest.mark.parametrize("kind", [webservers.nginx, webservers.apache])

Kind = Callable[[Site], str]


def directives(text: str) -> list[str]:
    """Return the lines that are directives, in one spelling."""
    lines = (line.partition("  # (")[0].strip() for line in text.splitlines())
    return [line.replace('"/var/lib/image-serve"', str(ROOT)) for line in lines if line.strip()]


def test_the_defaults_are_the_files_in_etc() -> None:
    def without_comments(text: str) -> list[str]:
        return [line for line in directives(text) if not line.startswith("#")]

    ours = without_comments((ETC / "nginx" / "image-serve.conf").read_text())
    assert without_comments(webservers.nginx(Site(ROOT, 8787))) == ours
    ours = without_comments((ETC / "httpd" / "image-serve.conf").read_text())
    guards = ("<IfDefine !IMAGE_SERVE", "</IfDefine>")
    ours = [line for line in ours if not line.startswith(guards)]
    assert without_comments(webservers.apache(Site(ROOT, 8787))) == ours


@KINDS
@pytest.mark.parametrize("text", ["/a\nb", "/a\rb", "/a\0b", "/a\x1b[31mb", "/a$b", "/a\udcffb"])
def test_paths_that_no_configuration_can_have(kind: Kind, text: str) -> None:
    hostile = Path(text)
    for root, certificate, key in (
        (hostile, Path("/c"), Path("/k")),
        (ROOT, hostile, Path("/k")),
        (ROOT, Path("/c"), hostile),
    ):
        with pytest.raises(errors.ConfigurationError, match="path"):
            kind(Site(root, 8787, certificate=certificate, key=key))


@pytest.mark.parametrize("character", "\"'$%*?[]\\")
def test_paths_that_apache_cannot_have(character: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="Apache's configuration cannot have"):
        webservers.apache(Site(Path(f"/a{character}b"), 8787))


def test_quoting_for_nginx() -> None:
    text = webservers.nginx(Site(Path("/a b\"c\\d'e;f{g}"), 8787))
    assert 'set $image_serve_root "/a b\\"c\\\\d\'e;f{g}";\n' in text


@KINDS
def test_the_commands_for_selinux(kind: Kind) -> None:
    """A shell takes the commands, and their pattern matches nothing but the tree."""
    root = Path("/srv/it's a.tree") if kind is webservers.nginx else Path("/srv/it is a.tree")
    text = kind(Site(root, 8787))
    lines = [line.removeprefix("#     ") for line in text.splitlines()]
    lines = [line for line in lines if line.startswith(("semanage", "restorecon"))]
    commands = {"".join(line.split()[:2]): shlex.split(line) for line in lines}
    expected = str(root).replace(" ", "\\ ").replace(".", "\\.")
    assert commands["semanagefcontext"][-1] == expected + "(/.*)?"
    assert commands["restorecon-R"][-1] == str(root)
    assert commands["semanageport"][-1] == "8787"
    assert "semanage port" not in kind(Site(root, 443))


@KINDS
@pytest.mark.parametrize("name", ["", "a b", "a;b", "a\n", "-a", "a/b", "a.", "*.a", "a" * 254])
def test_what_is_no_host_name(kind: Kind, name: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="--server-name is no host name"):
        kind(Site(ROOT, 8787, server_name=name))


def test_addresses() -> None:
    for host in ("localhost", "1.2.3", "[::1]", "::1;", "0.0.0.0\n", "", "fe80::1%eth0", "::1%\n}"):
        with pytest.raises(errors.ConfigurationError, match="--host is no address"):
            Site(ROOT, 8787, host)
    assert "    listen [::1]:8787;\n" in webservers.nginx(Site(ROOT, 8787, "::1"))
    assert "    listen 8787;\n    listen [::]:8787;\n" in webservers.nginx(Site(ROOT, 8787, "::"))
    text = webservers.apache(Site(ROOT, 8787, "::1"))
    assert "\nListen [::1]:${IMAGE_SERVE_PORT}\n<VirtualHost [::1]:${IMAGE_SERVE_PORT}>\n" in text
    with pytest.raises(errors.ConfigurationError, match="--port 0"):
        Site(ROOT, 0)


@pytest.mark.parametrize("origin", ["*", "https://ui.example", "http://[::1]:8080", "app://x-1.y"])
def test_origins(origin: str) -> None:
    assert Site(ROOT, 8787, allow_origins=(origin,)).allow_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        *("", "null", "ui.example", "https://", "https://*.example", "https://UI.example"),
        *("https://a/", "https://a b", "https://a;b", 'https://a"', "https://a\n", "https://a:1:2"),
        *("https://a:", "https://user@a", "https://\u00e9", "https://a$b", "https://a:123456"),
    ],
)
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="--allow-origin is neither"):
        Site(ROOT, 8787, allow_origins=("https://ui.example", origin))


@KINDS
def test_without_origins_nothing_is_said_of_them(kind: Kind) -> None:
    text = kind(Site(ROOT, 8787))
    assert "Access-Control" not in text
    assert "origin" not in text.lower()


def test_origins_are_no_patterns() -> None:
    site = Site(ROOT, 8787, allow_origins=("https://a.b", "http://[::1]:80"))
    pattern = r'"^(?:https://a\.b|http://\[::1\]:80)$"'
    assert f"if ($http_origin ~ {pattern}) {{" in webservers.nginx(site)
    assert f"SetEnvIf Origin {pattern} image_serve_origin=$0" in webservers.apache(site)
