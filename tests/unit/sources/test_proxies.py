# SPDX-License-Identifier: Apache-2.0
"""Who is asked by the environment's proxies, and who directly."""

from __future__ import annotations

import pytest
import urllib3

from image_uploader_plugins.sources import session
from image_uploader_plugins.sources.proxies import is_excepted, proxies, proxy
from image_uploader_plugins.sources.requester import Requester
from image_uploader_plugins.sources.settings import Settings

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("exceptions", "yes", "no"),
    [
        ("", "", "quay.io:443"),
        ("*", "quay.io:443 10.0.0.1:80 [fd00::1]:443", ""),
        ("quay.io", "quay.io:443 QUAY.io:80 quay.io.:443 cdn.quay.io:443", "notquay.io:443 io:443"),
        (".quay.io", "quay.io:443 cdn.quay.io:443 a.b.quay.io:1", "notquay.io:443"),
        ("*.quay.io", "cdn.quay.io:443 a.b.quay.io:1", "quay.io:443 notquay.io:443"),
        ("quay.io.", "quay.io:443", "quay:443"),
        ("quay.io:8443", "quay.io:8443 cdn.quay.io:8443", "quay.io:443"),
        ("quay.io:443", "quay.io:443", "quay.io:80"),
        ("*.quay.io:80", "cdn.quay.io:80", "cdn.quay.io:443 quay.io:80"),
        ("a, b  c\td,,e", "a:1 b:1 c:1 d:1 e:1", "f:1"),
        ("Quay.IO", "quay.io:443", ""),
        ("10.0.0.0/8", "10.1.2.3:443 10.255.0.1:1", "11.0.0.1:443 quay.io:443 [fd00::1]:443"),
        ("10.1.2.3/8", "10.9.9.9:443", "11.0.0.1:443"),
        ("0.0.0.0/0", "8.8.8.8:443", "quay.io:443 [fd00::1]:443"),
        ("fd00::/8", "[fd00::1]:443 [fdff:1::]:5000", "[fe80::1]:443 10.0.0.1:443"),
        ("::/0", "[2001:db8::1]:443", "10.0.0.1:443"),
        ("192.168.0.0/16", "[::ffff:192.168.1.1]:443 192.168.1.1:443", "192.169.0.1:443"),
        ("10.0.0.1", "10.0.0.1:443 10.0.0.1:80", "10.0.0.10:443 110.0.0.1:443"),
        ("10.0.0.1:80", "10.0.0.1:80", "10.0.0.1:443"),
        ("fd00::1", "[fd00::1]:443 [fd00:0:0::1]:80", "[fd00::2]:443"),
        ("[fd00::1]", "[fd00::1]:443", "[fd00::2]:443"),
        ("[fd00::1]:80", "[fd00::1]:80", "[fd00::1]:443"),
        ("10.0.0.0/33,quay.io/8,/,/8,.,*.,:80,[,[]:1,a:b", "", "quay.io:443 10.0.0.1:80 a:1"),
    ],
)
def test_exceptions(exceptions: str, yes: str, no: str) -> None:
    for expected, hosts in ((True, yes), (False, no)):
        for host, _, port in (text.rpartition(":") for text in hosts.split()):
            assert is_excepted(host.strip("[]"), int(port), exceptions) is expected, host


@pytest.mark.parametrize(
    ("url", "exceptions", "direct"),
    [
        ("https://quay.io/v2/", "", False),
        ("https://quay.io/v2/", "quay.io:443", True),
        ("http://quay.io/v2/", "quay.io:443", False),
        ("http://quay.io/v2/", "quay.io:80", True),
        ("https://quay.io:8443/v2/", "quay.io:443", False),
        ("https://10.1.2.3:5000/v2/", "10.0.0.0/8", True),
        ("https://[fd00::1]:5000/v2/", "fd00::/8", True),
        ("https://[fd00::1]/v2/", "[fd00::1]:443", True),
        ("https://localhost:5000/v2/", "", True),
        ("http://127.0.0.1/v2/", "x", True),
        ("http://[::1]:5000/v2/", "", True),
    ],
)
def test_a_url(environment: pytest.MonkeyPatch, url: str, exceptions: str, direct: bool) -> None:
    environment.setenv("https_proxy", PROXY)
    environment.setenv("http_proxy", PROXY)
    environment.setenv("no_proxy", exceptions)
    assert (not proxies(url)) is direct


def test_names_in_lower_case_count_more(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("NO_PROXY", "quay.io")
    environment.setenv("HTTPS_PROXY", "http://upper")
    assert proxies("https://quay.io/") == {}
    assert proxies("https://ghcr.io/")["https"] == "http://upper"
    environment.setenv("no_proxy", "ghcr.io")
    environment.setenv("https_proxy", "http://lower")
    assert proxies("https://quay.io/")["https"] == "http://lower"
    assert proxies("https://ghcr.io/") == {}


@pytest.mark.parametrize("exceptions", ["10.0.0.0/8", "fd00::/8"])
def test_requests_are_sent_so(environment: pytest.MonkeyPatch, exceptions: str) -> None:
    """What the interpreter's own would not know of: it has no networks."""
    environment.setenv("https_proxy", PROXY)
    environment.setenv("no_proxy", exceptions)
    sent: list[str | None] = []

    class Pool(urllib3.HTTPSConnectionPool):
        def urlopen(self, *_: object, **__: object) -> urllib3.BaseHTTPResponse:
            sent.append(self.proxy and f"{self.proxy}")
            return urllib3.HTTPResponse(status=200)

    environment.setattr(session, "_pool_classes", lambda *_: {"https": Pool})
    asking = Requester(Settings())
    for host in ("10.1.2.3", "[fd00::1]", "quay.io"):
        asking.send("GET", f"https://{host}/v2/", {})
    asking.close()
    direct = 0 if exceptions.startswith("10") else 1
    assert sent == [None if number == direct else PROXY for number in range(3)]


def test_a_proxy_for_all_is_for_what_has_none(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("all_proxy", PROXY)
    environment.setenv("https_proxy", "http://other")
    assert proxy("https://quay.io/") == "http://other"
    assert proxy("http://quay.io/") == PROXY
    assert proxy("http://localhost/") == ""
