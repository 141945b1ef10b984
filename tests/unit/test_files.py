# SPDX-License-Identifier: Apache-2.0
"""Files that operators have, and what is said where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from image_uploader_plugins import errors, files


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty, and must be a mapping"),
        ("# nothing\n", "it is empty, and must be a mapping"),
        (
            "parameters:\n  ContainerImagePrepare: []\n",
            "ContainerImagePrepare is under parameters, where it has no effect: put it under "
            "parameter_defaults",
        ),
        (
            "parameter_default: {}\n",
            "'parameter_default' is no section of a Heat environment; did you mean "
            "'parameter_defaults'?",
        ),
        (
            "ContainerImagePrepare: []\n",
            "'ContainerImagePrepare' is no section of a Heat environment; known are "
            "parameter_defaults, resource_registry, parameters, encrypted_param_names, "
            "event_sinks, parameter_merge_strategies",
        ),
    ],
)
def test_environments_that_say_nothing(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(errors.ConfigurationError) as caught:
        files.environment([str(path)])
    assert str(caught.value) == f"{path}: {told}"


def test_every_section_of_heat_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(
        "parameter_defaults: {A: 1}\nparameters: {B: 2}\nresource_registry: {C: d}\n"
        "encrypted_param_names: []\nevent_sinks: []\nparameter_merge_strategies: {}\n"
    )
    assert files.environment([str(path)]) == {
        "parameter_defaults": {"A": 1},
        "resource_registry": {"C": "d"},
    }


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML without libyaml")
def test_what_is_right_is_read_by_libyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("a: [1, 2001-01-01, yes, !!str 1]\n")
    expected = yaml.safe_load(path.read_text())
    monkeypatch.delattr(yaml, "safe_load")
    assert files.mapping(str(path)) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: b: c", ", line 1, column 5: mapping values are not allowed here"),
        ("a: *b", ", line 1, column 4: found undefined alias '...'"),
        ("a: \x07", ""),
        ("{a: b: c}", ", line 1, column 6: expected ',' or '}', but got ':'"),
        ("\ta: b", ", line 1, column 1: found character '\\t' that cannot start any token"),
        ("- a\n---\n- b", ", line 2, column 1: but found another document"),
        ("[" * 201 + "]" * 201, ", line 1, column 201: values are nested more than 200 deep"),
        ("- " * 10_000, ", line 1, column 401: values are nested more than 200 deep"),
        ("[" * 10_000, ", line 1, column 201: values are nested more than 200 deep"),
    ],
)
def test_what_is_wrong_is_told_in_words_of_pyyaml(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(errors.ConfigurationError) as caught:
        files.mapping(str(path))
    assert str(caught.value) == f"{path} is not yaml{told}"
