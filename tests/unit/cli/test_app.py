# SPDX-License-Identifier: Apache-2.0

import gc

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
