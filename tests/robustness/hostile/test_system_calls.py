# SPDX-License-Identifier: Apache-2.0
"""No path outside the tree is ever opened for writing: every system call of a run is looked at."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins import media_types
from image_uploader_plugins.storage import is_temporary
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.web_server import Answer
from tests.robustness.hostile import workload
from tests.support import calls, commands, trees
from tests.support.calls import Call
from tests.support.checkout import PROJECT
from tests.support.registry import TamperedRegistry

ELSEWHERE = {"/dev/null", "/dev/tty"}


def outside(found: list[Call], *allowed: Path) -> list[str]:
    """The calls that would change something that is not below one of ``allowed``."""
    folders = tuple(os.path.realpath(folder) for folder in allowed)
    return [
        call.line
        for call in found
        for path in call.paths
        if path not in (*ELSEWHERE, *folders)
        and not path.startswith(tuple(f"{folder}/" for folder in folders))
    ]


def rewriting(found: list[Call], root: Path) -> list[str]:
    """The calls that open for writing what web servers hand out."""
    served = f"{os.path.realpath(root)}/v2/"
    return [
        call.line
        for call in found
        for path in call.paths
        if path.startswith(served)
        and (call.opens or "truncate" in call.name or "fallocate" in call.name)
        and not is_temporary(Path(path).name)
    ]


@pytest.mark.slow
def test_every_verb_with_everything_odd(root: Path, tmp_path: Path) -> None:
    workload.write_old_tree(root)
    command = calls.python("-m", "tests.robustness.hostile.workload", str(root))
    found, done = calls.changing(command, tmp_path / "calls", {"PYTHONPATH": str(PROJECT)})
    assert done.returncode == 0, done.stderr
    operations, refused = map(int, done.stdout.split())
    assert operations > 50
    assert refused > 150
    assert outside(found, root) == []
    assert rewriting(found, root) == []
    assert trees.problems(root) == []
    # It is the whole run that was watched.
    kinds = {call.name for call in found}
    assert {"openat", "mkdirat", "renameat", "linkat", "symlinkat", "unlinkat", "fchmod"} <= kinds
    assert len(found) > 2000


IMAGE = images.image("ns/img", "1.0", [images.layer({"file": b"content" * 999})])
LAYER = IMAGE.manifest.layers[0]


def fields(**changes: Any) -> Callable[[Answer, Message], Answer]:
    content = json.dumps(json.loads(IMAGE.manifest.content) | changes).encode()
    return lambda answer, headers: Answer.of(content, media_types.DOCKER_MANIFEST)


def escaping(digest: str) -> dict[str, Any]:
    return {"mediaType": media_types.DOCKER_LAYER_GZIP, "size": LAYER.size, "digest": digest}


def headers(**changed: str) -> Callable[[Answer, Message], Answer]:
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    return lambda answer, _: dataclasses.replace(answer, headers={**answer.headers, **named})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "change", "code"),
    [
        ("nothing", None, 0),
        ("manifests/", fields(layers=[escaping("../../../../tmp/evil")]), 1),
        ("manifests/", fields(layers=[escaping("sha256:/../../../../tmp/evil")]), 1),
        ("manifests/", fields(config=escaping("/tmp/evil")), 1),  # noqa: S108
        ("manifests/", fields(subject=escaping("/tmp/evil")), 1),  # noqa: S108
        ("manifests/", fields(annotations={"org.opencontainers.image.title": "../../evil"}), 0),
        ("manifests/", headers(Docker_Content_Digest="../../../evil"), 1),
        ("manifests/", headers(Content_Disposition='attachment; filename="/tmp/evil"'), 0),
        ("blobs/", headers(Location="file:///tmp/evil"), 0),
        ("blobs/", lambda answer, _: Answer(302, {"Location": "file:///tmp/evil"}), 1),
        ("blobs/", headers(Content_Encoding="gzip"), 0),
    ],
)
def test_an_upload_from_a_registry_that_tries_to_escape(
    root: Path, tmp_path: Path, part: str, change: Any, code: int
) -> None:
    registry = TamperedRegistry([IMAGE])
    if change:
        registry.tamper[part] = change
    config, listed = commands.configuration(root, tmp_path), tmp_path / "images.yaml"
    # Where stevedore keeps, from one run to the next, which entry points are installed.
    cache = tmp_path / "cache"
    cache.mkdir()
    with web_server.serving(registry) as source:
        item = {"imagename": f"{source}/ns/img:1.0", "push_destination": "192.0.2.1:8787"}
        listed.write_text(yaml.safe_dump({"container_images": [item]}))
        found, done = calls.changing(
            calls.python(*commands.line(config, "upload", listed)),
            tmp_path / "calls",
            {"XDG_CACHE_HOME": str(cache)},
        )
    assert outside(found, root, cache / "python-entrypoints") == []
    assert rewriting(found, root) == []
    assert done.returncode == code, done.stderr
    assert len(found) > (100 if code == 0 else 15)
    assert trees.problems(root) == []
    assert trees.catalog(root) == ([] if code else ["ns/img"])


def test_the_watch_sees_what_it_must(tmp_path: Path) -> None:
    """Each kind of call, by descriptor, by name and from another thread, is found."""
    root = tmp_path / "tree"
    root.mkdir()
    program = f"""
import os, pathlib, threading
root, other = pathlib.Path({str(root)!r}), pathlib.Path({str(tmp_path)!r})
threading.Thread(target=(other / "written").write_text, args=("x",)).start()
d = os.open(other, os.O_RDONLY)
os.mkdir("made", dir_fd=d)
os.symlink("/etc/passwd", "linked", dir_fd=d)
os.rename("linked", "renamed", src_dir_fd=d, dst_dir_fd=d)
os.link(other / "renamed", root / "inside", follow_symlinks=False)
os.chmod(other / "made", 0o700)
os.utime(other / "made")
os.rmdir("made", dir_fd=d)
os.unlink(other / "renamed")
os.chdir(other)
open("relative", "w").close()
open(root / ".." / "dotted", "ab").close()
f = os.open(root / "good", os.O_CREAT | os.O_RDWR)
os.ftruncate(f, 5)
os.mkfifo(other / "fifo")
"""
    found, done = calls.changing(calls.python("-c", program), tmp_path / "calls")
    assert done.returncode == 0, done.stderr
    lines = outside(found, root)
    for word in ("written", "made", "linked", "renamed", "relative", "dotted", "fifo", "inside"):
        assert any(word in line for line in lines), word
    assert {line.partition("(")[0] for line in lines} >= {
        "openat", "mkdirat", "symlinkat", "renameat", "utimensat", "unlinkat",
    }  # fmt: skip
    assert not any("good" in line for line in lines)
