# SPDX-License-Identifier: Apache-2.0
"""What the entries of lists are for, and which of them need tripleo-common."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.lists import image_list
from image_uploader_plugins.lists.image_list import Entry
from tests.support.commands import Run


def written(folder: Path, *entries: Any) -> str:
    path = folder / "images.yaml"
    path.write_text(yaml.safe_dump({"container_images": list(entries)}))
    return str(path)


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ({}, None),
        ({"uploader": "local-export"}, None),
        ({"uploader": "nowhere"}, None),
        ({"modify_append_tag": "-a"}, None),
        ({"uploader": "python"}, "uploader python"),
        ({"modify_role": "r"}, "modify_role"),
        ({"imagename": "containers-storage:localhost/a:1"}, "an image in containers-storage"),
    ],
)
def test_what_needs_tripleo_common(
    tmp_path: Path, more: dict[str, str], needed: str | None
) -> None:
    name = written(tmp_path, "quay.io/a/b:1", {"imagename": "quay.io/a/c:1", **more})
    expected = needed and f"{name}: image 2: {needed}"
    assert image_list.needs_tripleo(image_list.read([name]), "local-export") == expected


def test_a_default_may_need_it(tmp_path: Path) -> None:
    name = written(tmp_path, "quay.io/a/b:1")
    lists = image_list.read([name])
    assert image_list.needs_tripleo(lists, "python") == f"{name}: image 1: uploader python"


def test_an_entry_says_more_than_the_run() -> None:
    item = {"imagename": "a:1", "push_destination": "192.0.2.1:8787"}
    plain = Entry.of(item, "tree", multi_arch=True)
    assert (plain.uploader, plain.multi_arch, plain.wishes) == ("tree", True, {})
    more = {"uploader": "other", "multi_arch": False, "names": "full", "signatures": False}
    own = Entry.of(item | more, "tree", multi_arch=True)
    assert (own.uploader, own.multi_arch) == ("other", False)
    assert own.wishes == {"full_names": True, "signatures": False}


@pytest.mark.parametrize("told", [None, True, False])
def test_an_undercloud_is_where_its_control_plane_is(
    monkeypatch: pytest.MonkeyPatch, told: bool | None
) -> None:
    asked = []

    def address(name: str, port: object, flags: int) -> list[Any]:
        asked.append(name)
        if len(asked) > 1:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, 0, 0, f"{name}.example.com", ())]

    monkeypatch.setattr(socket, "gethostname", lambda: "under.example.com")
    monkeypatch.setattr(socket, "getaddrinfo", address)
    expected = ("under.ctlplane.example.com:8787", "localhost:8787")
    for name in expected:
        image_list._undercloud.cache_clear()
        assert image_list.destination({"push_destination": told}) == name
        assert image_list.destination({}) == name
    image_list._undercloud.cache_clear()
    assert asked == ["under.ctlplane"] * 2


def test_unknown_keys_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = [{"imagename": f"a/b:{n}", "multiarch": True, "image_source": "x"} for n in range(9)]
    name = written(tmp_path, *entries, {"imagename": "a/b:9", "zz": 1})
    image_list.check(image_list.read([name]), "local-export", CopyOptions())
    assert caplog.messages == [
        f"{name}: image 1 and 8 more: 'multiarch' is unknown and has no effect; did you mean "
        "'multi_arch'?",
        f"{name}: image 10: 'zz' is unknown and has no effect",
    ]


def test_a_list_may_come_by_a_pipe(run: Run) -> None:
    """Which is read once, as large files are."""
    reading, writing = os.pipe()
    os.write(writing, b"container_images:\n- {imagename: 'a/b:1', uploader: nowhere}\n")
    os.close(writing)
    try:
        done = run("upload", f"/dev/fd/{reading}")
    finally:
        os.close(reading)
    assert done.status == 1
    assert "a/b:1: unknown uploader 'nowhere'" in done.said
