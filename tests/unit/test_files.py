# SPDX-License-Identifier: Apache-2.0
"""Files that operators have, and what is said where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

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
