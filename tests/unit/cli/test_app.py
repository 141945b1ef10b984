# SPDX-License-Identifier: Apache-2.0

import gc
import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from image_uploader_plugins.cli import app


def test_whoever_calls_the_program_keeps_its_own_settings_of_garbage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual, found = gc.get_threshold(), []

    def run(argv: list[str]) -> int:
        found.append(gc.get_threshold())
        if argv:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(app, "_run", run)
    assert app.main([]) == 0
    assert app.main(["interrupted"]) == 130
    assert gc.get_threshold() == usual
    assert all(few[0] > 10 * usual[0] for few in found)


def test_what_is_rarely_used_is_imported_when_it_is_used() -> None:
    """Whoever imports it has all of it, in each way in which it can be imported."""
    script = """if True:
        import sys
        from image_uploader_plugins.cli import app
        app.main(["--version"])
        from oslo_config import types
        before = {"netaddr.core", "rfc3986.uri"} & sys.modules.keys()
        assert not before, before
        assert types.URI()("http://a/b") == "http://a/b"
        assert types.IPAddress()("192.0.2.1") == "192.0.2.1"
        import netaddr.core
        from rfc3986 import uri_reference
        assert sys.modules["netaddr"].IPAddress("192.0.2.1") == netaddr.IPAddress("192.0.2.1")
        assert uri_reference("http://a").host == "a"
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_what_is_not_installed_fails_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_RARELY_USED", ("no_such_module_anywhere",))
    assert app.main(["--version"]) == 0
    module = importlib.import_module("no_such_module_anywhere")
    with pytest.raises(ModuleNotFoundError):
        module.anything  # noqa: B018


def test_requests_are_recorded_for_those_who_read_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = logging.getLogger("urllib3.connectionpool")
    for options, is_read in (
        ([], False),
        (["-q"], False),
        (["-vv"], True),
        (["--log-file", str(tmp_path / "log")], True),
    ):
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        assert app.main([*options, "help"]) == 0
        assert asked.isEnabledFor(logging.DEBUG) is is_read, options
        for handler in logging.getLogger().handlers:
            handler.close()
