# SPDX-License-Identifier: Apache-2.0
"""What is said of values that cannot be, and of keys that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_uploader_plugins import errors, loader, option_values
from image_uploader_plugins.local_export import options


def written(folder: Path, text: str, name: str = "x.conf") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("answer_timeout = soon", "answer_timeout must be a whole number of 1 or more, not 'soon'"),
        ("answer_timeout = 0", "answer_timeout must be a whole number of 1 or more, not '0'"),
        ("longest_pause = -1", "longest_pause must be a whole number of 0 or more, not '-1'"),
    ],
)
def test_values_that_cannot_be(tmp_path: Path, text: str, told: str) -> None:
    name = written(tmp_path, f"[image_uploader]\n{text}\n")
    with pytest.raises(errors.ConfigurationError) as caught:
        loader.load_conf(config_files=[name])
    assert str(caught.value) == f"{name}: [image_uploader] {told}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lease_timeout = 1", "lease_timeout must be a whole number of 60 or more, not '1'"),
        ("one_writer = maybe", "one_writer must be true or false, not 'maybe'"),
        (f"title = {'x' * 101}", "title must be a text of 100 characters at most, not 'xxxx"),
    ],
)
def test_values_of_the_driver(tmp_path: Path, text: str, told: str) -> None:
    name = written(tmp_path, f"[local_export]\n{text}\n")
    conf = loader.load_conf(config_files=[name])
    with pytest.raises(errors.ConfigurationError) as caught:
        options.values(conf)
    assert str(caught.value).startswith(f"{name}: [local_export] {told}")


def test_the_last_file_is_named(tmp_path: Path) -> None:
    names = [
        written(tmp_path, f"[image_uploader]\nanswer_timeout = {value}\n", f"{value}.conf")
        for value in ("9", "late", "soon")
    ]
    with pytest.raises(errors.ConfigurationError, match=r"soon\.conf: .*'soon'"):
        loader.load_conf(config_files=names)


def test_a_value_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_IMAGE_UPLOADER__ANSWER_TIMEOUT", "soon")
    with pytest.raises(errors.ConfigurationError, match="OS_IMAGE_UPLOADER__ANSWER_TIMEOUT: "):
        loader.load_conf(config_files=[])


def test_where_a_value_comes_from(tmp_path: Path) -> None:
    def origin(*names: str) -> str:
        conf = loader.load_conf(config_files=list(names))
        options.values(conf)
        return option_values.origin(conf, "local_export", "root")

    default = "the default of [local_export] root: "
    empty = written(tmp_path, "", "empty.conf")
    told = written(tmp_path, "[local_export]\nroot = /x\n", "told.conf")
    assert origin() == f"{default}no configuration file was found"
    assert origin(empty) == f"{default}not in {empty}"
    assert origin(told, empty) == f"[local_export] root in {told}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[local_export]\nroots = /x\n",
            "[local_export] 'roots' has no effect; did you mean 'root'?",
        ),
        ("[local_export]\nqq = 1\n", "[local_export] 'qq' has no effect; known are root, "),
        ("[local-export]\n", "section 'local-export' has no effect; did you mean 'local_export'?"),
        ("[mine]\nroots = 1\n", None),
        ("[DEFAULT]\ndebug = true\n[local_export]\nroot = /x\n", None),
    ],
)
def test_keys_without_effect(tmp_path: Path, text: str, told: str | None) -> None:
    name = written(tmp_path, text)
    found = loader.unknown_options(loader.load_conf(config_files=[name]))
    assert len(found) == bool(told)
    assert "".join(found).startswith(f"{name}: {told}" if told else "")
