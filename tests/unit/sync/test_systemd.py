# SPDX-License-Identifier: Apache-2.0
"""Units of systemd for command lines and paths of every kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.sync import systemd


def values(units: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", units, re.MULTILINE)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("plain/word:1.0@x=y,z+", "plain/word:1.0@x=y,z+"),
        ("two words", '"two words"'),
        ("50%", '"50%%"'),
        ("$HOME", '"$$HOME"'),
        ('a"b', '"a\\"b"'),
        ("it's", '"it\'s"'),
        ("back\\slash", '"back\\\\slash"'),
        (";", '";"'),
        ("", '""'),
        ("\u00e4", '"\u00e4"'),
    ],
)
def test_words_are_quoted(word: str, told: str) -> None:
    units = systemd.units(["/usr/bin/x", word], Path("/srv"))
    assert values(units, "ExecStart") == [f"/usr/bin/x {told}"]


def test_of_a_program_no_variables_are_read() -> None:
    units = systemd.units(["/opt/$x y/bin", "$x"], Path("/srv"))
    assert values(units, "ExecStart") == ['"/opt/$x y/bin" "$$x"']


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/srv/images", "/srv/images"),
        ("/srv/two words", '"/srv/two words"'),
        ("/srv/50%", '"/srv/50%%"'),
        ("/srv/a\\b", '"/srv/a\\b"'),  # where nothing is escaped
        ('/srv/a"b', "'/srv/a\"b'"),
        ("/srv/$x", '"/srv/$x"'),
    ],
)
def test_paths_are_quoted(path: str, told: str) -> None:
    assert values(systemd.units(["/x"], Path(path)), "ReadWritePaths") == [told]


@pytest.mark.parametrize("text", ["a\nExecStartPost=/bin/evil", "\x00", "\x1b[31m", "\u2028"])
def test_what_no_unit_can_name_is_refused(text: str) -> None:
    for command, root in ((["/x", text], Path("/srv")), (["/x"], Path(f"/srv/{text}"))):
        with pytest.raises(errors.ConfigurationError, match="a unit of systemd cannot name this"):
            systemd.units(command, root)


def test_a_path_with_both_quotes_is_refused() -> None:
    with pytest.raises(errors.ConfigurationError, match="cannot name this"):
        systemd.units(["/x"], Path('/srv/"it\'s"'))


def test_of_another_driver_nobody_knows_what_it_writes_to() -> None:
    units = systemd.units(["/x"], None, [Path("/var/lib/reports")])
    assert "#ReadWritePaths= what the driver writes to\n" in units
    assert values(units, "ReadWritePaths") == ["/var/lib/reports"]
    assert values(units, "User") == ["image-uploader"]
    assert "chown" not in units


def test_folders_are_named_once() -> None:
    units = systemd.units(["/x"], Path("/srv"), [Path("/a"), Path("/a")])
    assert values(units, "ReadWritePaths") == ["/srv", "/a"]


def test_the_environment_is_the_service_s_own() -> None:
    """And not that of the units for a whole night, which other things follow."""
    told = systemd.units(["/x"], Path("/srv"), variables={"ROOT": "/srv/50% a"})
    assert values(told, "Environment") == ['"ROOT=/srv/50%% a"']
    assert values(systemd.units(["/x"], Path("/srv")), "Environment") == []
    for key in ("EnvironmentFile", "OnSuccess", "OnFailure", "Group", "StateDirectory"):
        assert values(told, key) == []
    assert values(told, "RequiresMountsFor") == ["/srv"]
    assert "SPDX" not in told
    assert "${" not in told
