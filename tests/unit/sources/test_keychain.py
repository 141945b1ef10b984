# SPDX-License-Identifier: Apache-2.0
"""Who we are where: what operators name, and what other tools have stored."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import types
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.sources import credential_helpers
from image_uploader_plugins.sources.keychain import Keychain, Login, named
from tests.support import programs

MARK = "Zq7sEcReT"


def encoded(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def auths(folder: Path, content: Any, name: str = "auth.json") -> dict[str, str]:
    """The environment of somebody who has stored this."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return {"REGISTRY_AUTH_FILE": str(path), "HOME": str(folder)}


def login(environment: dict[str, str], registry: str, repository: str = "ns/app") -> Login | None:
    return Keychain(environment=environment).login(registry, repository)


def test_what_is_named_comes_first(tmp_path: Path) -> None:
    environment = auths(tmp_path, {"auths": {"quay.io": encoded("stored:x")}})
    chain = Keychain({"quay.io": Login("named", "y")}, environment)
    assert chain.login("quay.io") == Login("named", "y")
    assert Keychain({}, environment).login("quay.io") == Login("stored", "x")
    assert chain.login("ghcr.io") is None


@pytest.mark.parametrize("key", ["quay.io", "https://quay.io", "http://quay.io/", "quay.io/v2/"])
def test_keys_with_a_scheme_or_a_slash(tmp_path: Path, key: str) -> None:
    environment = auths(tmp_path, {"auths": {key: encoded("u:p")}})
    assert login(environment, "quay.io") == Login("u", "p")
    assert Keychain(named({key: {"u": "p"}}, "P"), {}).login("quay.io") == Login("u", "p")


@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", "https://index.docker.io/v1/"])
def test_docker_hub_has_many_names(tmp_path: Path, key: str) -> None:
    environment = auths(tmp_path, {"auths": {key: encoded("u:p")}})
    for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        assert login(environment, name) == Login("u", "p")


def test_the_longest_match_wins(tmp_path: Path) -> None:
    entries = {"quay.io": "a", "quay.io/ns": "b", "quay.io/ns/app": "c", "quay.io/n": "d"}
    stored = {"auths": {key: encoded(f"{user}:p") for key, user in entries.items()}}
    environment = auths(tmp_path, stored)
    for repository, user in (("ns/app", "c"), ("ns/app/x", "c"), ("ns/x", "b"), ("nsx/a", "a")):
        found = login(environment, "quay.io", repository)
        assert found
        assert found.username == user


def test_where_tools_store(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert login(home, "quay.io") is None
    auths(tmp_path, {"auths": {"quay.io": encoded("docker:p")}}, ".docker/config.json")
    assert login(home, "quay.io") == Login("docker", "p")
    auths(tmp_path, {"auths": {"quay.io": encoded("podman:p")}}, ".config/containers/auth.json")
    assert login(home, "quay.io") == Login("podman", "p")
    auths(tmp_path, {"auths": {"quay.io": encoded("run:p")}}, "run/containers/auth.json")
    assert login(home | {"XDG_RUNTIME_DIR": f"{tmp_path}/run"}, "quay.io") == Login("run", "p")


def test_passwords_of_any_letters(tmp_path: Path) -> None:
    for password in ("p\u00e4ss:w\u00f6rd", "\u043f\u0430\u0440\u043e\u043b\u044c", ""):
        environment = auths(tmp_path, {"auths": {"quay.io": encoded(f"u:{password}")}})
        assert login(environment, "quay.io") == Login("u", password)
    assert Login("u", "p\u00e4ss").basic == "Basic dTpww6Rzcw=="


def test_identity_tokens(tmp_path: Path) -> None:
    entry = {**encoded("u:"), "identitytoken": "T"}
    environment = auths(tmp_path, {"auths": {"quay.io": entry, "ghcr.io": {"identitytoken": "G"}}})
    assert login(environment, "quay.io") == Login("u", "", "T")
    assert login(environment, "ghcr.io") == Login("", "", "G")


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.credential_helper(folder, name, script)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_credential_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'read name; test "$1" = get && printf \'{"Username":"%s","Secret":"s"}\' "$name"'
    helper(tmp_path, "echo", script, monkeypatch)
    stored = {"credHelpers": {"https://quay.io": "echo"}, "credsStore": "echo"}
    environment = auths(tmp_path, stored)
    assert login(environment, "quay.io") == Login("https://quay.io", "s")
    assert login(environment, "ghcr.io") == Login("ghcr.io", "s")
    assert login(environment, "docker.io") == Login("https://index.docker.io/v1/", "s")


def test_a_helper_with_an_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'echo \'{"Username":"<token>","Secret":"T"}\''
    helper(tmp_path, "token", script, monkeypatch)
    environment = auths(tmp_path, {"credsStore": "token"})
    assert login(environment, "quay.io") == Login("", "", "T")


def test_a_helper_that_knows_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, "none", "echo credentials not found in native keychain; exit 1", monkeypatch)
    assert login(auths(tmp_path, {"credsStore": "none"}), "quay.io") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"echo {MARK} >&2; echo {MARK}; exit 3", r"docker-credential-bad fails for quay\.io"),
        (f"echo {MARK}", "answers what is no login"),
        ("echo '{}'", "answers what is no login"),
        ('echo \'{"Username":"u","Secret":["s"]}\'', "answers what is no login"),
        (f"echo {MARK} not found; exit 1", r"fails for quay\.io \(status 1\)"),
        ("yes", "docker-credential-bad of quay.io: answers with more than 1048576 bytes"),
        ("sleep 99 & wait", "docker-credential-bad of quay.io: no answer in 1 second"),
        ("exec >&-; sleep 99", "docker-credential-bad of quay.io: no answer in 1 second"),
        (None, "docker-credential-bad of quay.io is missing"),
    ],
)
def test_helpers_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, reason: str
) -> None:
    if script:
        helper(tmp_path, "bad", script, monkeypatch)
    if "no answer" in reason:
        monkeypatch.setattr(credential_helpers, "ANSWER_TIMEOUT", 1.0)
    with pytest.raises(errors.ConfigurationError, match=reason) as caught:
        login(auths(tmp_path, {"credHelpers": {"quay.io": "bad"}}), "quay.io")
    assert MARK not in str(caught.value)


def test_a_helper_that_failed_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eighty images do not wait a minute each."""
    helper(tmp_path, "bad", f"echo x >> {tmp_path}/asked; exit 3", monkeypatch)
    chain = Keychain(environment=auths(tmp_path, {"credsStore": "bad"}))
    for _ in range(3):
        with pytest.raises(errors.ConfigurationError, match=r"status 3.*echo quay\.io \|"):
            chain.login("quay.io")
    assert (tmp_path / "asked").read_text() == "x\n"


@pytest.mark.slow
def test_nothing_of_a_helper_is_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"sleep 99 & echo $! > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/started; wait"
    helper(tmp_path, "bad", script, monkeypatch)
    # Its time is over when it has begun, which may be before its end is computed.
    later = (1000 * (tmp_path / "started").exists() for _ in itertools.count())
    moments = itertools.chain([0], later)
    clock = types.SimpleNamespace(monotonic=lambda: next(moments))
    monkeypatch.setattr(credential_helpers, "time", clock)
    with pytest.raises(errors.ConfigurationError, match="no answer in 60 seconds"):
        login(auths(tmp_path, {"credsStore": "bad"}), "quay.io")
    try:
        started = os.pidfd_open(int((tmp_path / "started").read_text()))
    except ProcessLookupError:
        return
    # A process that was killed may take a moment to end, and one that sleeps on takes 99 seconds.
    assert select.select([started], [], [], 30)[0]
    os.close(started)


def test_a_helper_that_leaves_something_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that keeps the pipe is not waited for."""
    script = 'sleep 11 & echo \'{"Username":"u","Secret":"s"}\''
    helper(tmp_path, "agent", script, monkeypatch)
    monkeypatch.setattr(credential_helpers, "ANSWER_TIMEOUT", 10.0)
    assert login(auths(tmp_path, {"credsStore": "agent"}), "quay.io") == Login("u", "s")


@pytest.mark.parametrize("answer", ["", '{"Username":"","Secret":""}'])
def test_a_helper_that_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    script = f"echo '{answer}'" if answer else "echo credentials not found; exit 1"
    helper(tmp_path, "none", script, monkeypatch)
    assert login(auths(tmp_path, {"credHelpers": {"quay.io": "none"}}), "quay.io") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"{{{MARK}", "auth.json is not JSON"),
        (f'["{MARK}"]', "auth.json is not an object"),
        ({"auths": {"quay.io": {"auth": f"{MARK}!"}}}, "'auth' of quay.io is not base64"),
    ],
)
def test_files_that_are_broken(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=reason) as caught:
        login(auths(tmp_path, content), "quay.io")
    assert MARK not in str(caught.value)


@pytest.mark.parametrize("content", [{}, {"auths": []}, {"auths": {"quay.io": 1}}, {"auths": None}])
def test_files_that_say_nothing(tmp_path: Path, content: Any) -> None:
    assert login(auths(tmp_path, content), "quay.io") is None


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "P must be a mapping"),
        ({"quay.io": MARK}, r"P, quay\.io: must be one user"),
        ({"quay.io": {"a": MARK, "b": MARK}}, r"P, quay\.io: must be one user"),
        ({"quay.io": {"a": 1}}, r"P, quay\.io: user and password must be strings"),
        ({1: {"a": "b"}}, "P: a registry must be a host"),
        ({f"https://me:{MARK}@quay.io": {}}, r"P, quay\.io: must be one user"),
    ],
)
def test_credentials_of_a_wrong_shape(entries: object, reason: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=reason) as caught:
        named(entries, "P")
    assert MARK not in str(caught.value)


def test_no_secret_is_shown() -> None:
    assert MARK not in repr(Login("u", MARK, MARK))
