# SPDX-License-Identifier: Apache-2.0
"""``sync``: its ways to be called, what it prints, and its exit statuses."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.registry import SourceRegistry
from tests.support import programs, trees
from tests.support.command_lines import parse
from tests.support.commands import Run

MEMBERS = {
    "schema_version",
    "summary",
    "images",
    "delete",
    "problems",
}


def image(name: str, tag: str, text: str = "") -> Image:
    return images.image(name, tag, [images.layer({"x": f"{name}{tag}{text}".encode() * 99})])


ONE, TWO = image("ns/one", "1.0"), image("ns/two", "1.0")


class Source(SourceRegistry):
    """A registry, and the address that it is at."""

    address = ""

    def remove(self, image: Image) -> None:
        name, tag = str(image.repository), str(image.tag)
        del self.manifests[name, tag]
        self.tags[name].remove(tag)


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source([ONE, TWO])
    with web_server.serving(source) as source.address:
        yield source


@pytest.fixture
def names(source: Source) -> list[str]:
    return [f"{source.address}/ns/one:1.0", f"{source.address}/ns/two:1.0"]


def own_list(folder: Path, *entries: dict[str, Any] | str) -> Path:
    path = folder / "images.yaml"
    path.write_text(yaml.safe_dump({"images": list(entries)}))
    return path


def test_images_are_named_on_the_command_line(run: Run, root: Path, names: list[str]) -> None:
    result = run("sync", *names)
    assert (result.status, result.out) == (0, "")
    lines = result.err.splitlines()
    assert [
        line.partition(": copied, 1 layers fetched, ")[0] for line in sorted(lines[:2])
    ] == names
    assert lines[-1].startswith("2 images, 2 layers uploaded, 0 layers mounted, ")
    assert not lines[-1].endswith("deleted")
    assert trees.tags(root, "ns/one") == ["1.0"]
    assert not trees.problems(root)
    result = run("sync", *names)
    assert result.status == 0
    assert result.err.count(": unchanged, 0 layers fetched") == 2
    assert run("-q", "sync", *names).both == (0, "")


def test_a_list_comes_by_standard_input(
    run: Run, root: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "\n".join(names).encode() + b"\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert run("sync", "-f", "-").status == 0
    assert trees.catalog(root) == ["ns/one", "ns/two"]


def test_without_images_it_is_wrong_usage(run: Run) -> None:
    result = run("sync")
    assert (result.status, result.out) == (2, "")
    assert result.err.endswith("error: name an image, or a list with -f\n")


def test_check_says_by_its_status_whether_there_is_work(
    run: Run, names: list[str], source: Source
) -> None:
    result = run("sync", "--check", *names)
    assert result.status == 2
    assert result.out == "2 new, 0 changed, 0 unchanged, 0 failed, 0 to delete\n"
    assert run("-q", "sync", "--check", *names).both == (2, "")
    assert run("sync", *names).status == 0
    result = run("sync", "--check", *names)
    assert result.status == 0
    assert result.out == "0 new, 0 changed, 2 unchanged, 0 failed, 0 to delete\n"
    source.remove(ONE)
    result = run("sync", "--check", *names)
    assert result.status == 1
    assert result.err.startswith(f"ERROR: {names[0]}: not found")


def test_a_plan_for_people(run: Run, root: Path, names: list[str], source: Source) -> None:
    assert run("sync", *names).status == 0
    source.add(image("ns/two", "1.0", "changed"))
    source.add(image("ns/three", "1.0"))
    before = trees.served(root)
    more = [f"{source.address}/ns/three:1.0", f"{source.address}/ns/four:1.0"]
    result = run("sync", "--plan", *names, *more)
    assert trees.served(root) == before
    assert result.status == 1  # of the one that is not there
    lines = result.out.splitlines()
    assert lines[0] == "1 new, 1 changed, 1 unchanged, 1 failed, 0 to delete"
    assert re.fullmatch(
        r"\S+ \S+ to fetch, \S+ \S+ and \d+ files to store, \S+ \S+( and \d+ files)? free", lines[1]
    )
    assert re.fullmatch(rf"changed +\S+ \S+  {re.escape(names[1])}", lines[2])
    assert re.fullmatch(rf"new +\S+ \S+  {re.escape(more[0])}", lines[3])
    assert lines[4].startswith(f"failed: {more[1]}: not found:")
    assert max(map(len, lines)) <= 80
    assert names[0] not in result.out


def test_a_plan_for_programs(run: Run, names: list[str]) -> None:
    result = run("sync", "--plan", "--format", "json", *names)
    assert result.status == 0
    plan = json.loads(result.out)
    assert plan.keys() == MEMBERS
    content = [ONE, TWO]
    fetched = [sum(map(len, one.blobs.values())) for one in content]
    assert plan["summary"]["bytes_to_fetch"] == sum(fetched)
    assert plan["summary"]["new"] == 2
    assert plan["summary"]["bytes_free"] > plan["summary"]["bytes_to_store"] > sum(fetched)
    assert [(one["source"], one["target"], one["state"]) for one in plan["images"]] == [
        (name, f"ns/{short}:1.0", "new") for name, short in zip(names, ("one", "two"), strict=True)
    ]
    assert [one["bytes_to_fetch"] for one in plan["images"]] == fetched
    assert plan["images"][0]["digest"] == str(ONE.digest)
    assert plan["images"][0]["wanted_by"] == ["command line"]


def test_a_list_that_mirrors(run: Run, root: Path, source: Source, tmp_path: Path) -> None:
    for tag in ("2.0", "3.0", "4.0"):
        source.add(image("ns/one", tag))
    entry = {"repository": f"{source.address}/ns/one", "tags": "all", "mirror": True}
    file = own_list(tmp_path, entry, f"{source.address}/ns/two:1.0")
    assert run("sync", "-f", file).status == 0
    source.remove(image("ns/one", "3.0"))
    assert run("sync", "-f", file, "--check").both == (
        2,
        "0 new, 0 changed, 4 unchanged, 0 failed, 1 to delete\n",
    )
    result = run("sync", "-f", file, "--plan")
    assert result.out.splitlines()[2:] == ["delete               ns/one:3.0"]
    report = tmp_path / "report.json"
    result = run("sync", "-f", file, "--report", report)
    assert (result.status, result.out) == (0, "")
    assert result.err.splitlines()[-2] == "ns/one:3.0: deleted"
    assert result.err.splitlines()[-1].endswith("; 1 tag deleted")
    assert json.loads(report.read_text())["deleted"] == ["ns/one:3.0"]
    assert trees.tags(root, "ns/one") == ["1.0", "2.0", "4.0"]
    for tag in ("1.0", "2.0"):
        source.remove(image("ns/one", tag))
    result = run("sync", "-f", file)
    assert result.status == 1
    assert result.err.splitlines()[-1] == (
        "ERROR: mirror: 2 of the 3 tags of ns/one would go, more than --max-share 0.5 allows: "
        "nothing is deleted"
    )
    result = run("sync", "-f", file, "--plan")
    assert result.status == 1
    assert "allows: nothing is deleted" in " ".join(result.out.split())
    assert max(map(len, result.out.splitlines())) <= 80
    assert run("sync", "-f", file, "--max-share", "0.7").status == 0
    assert trees.tags(root, "ns/one") == ["4.0"]
    assert not trees.problems(root)


@pytest.mark.parametrize("option", ["--report", "--metrics"])
@pytest.mark.parametrize("mode", ["--plan", "--check"])
def test_what_is_for_copies_is_refused(
    run: Run, names: list[str], tmp_path: Path, option: str, mode: str
) -> None:
    result = run("sync", mode, option, tmp_path / "x.prom", *names)
    assert (result.status, result.out) == (2, "")
    assert result.err.endswith(
        f"error: {option} is for runs that copy, not for --plan or --check\n"
    )


def test_a_bad_list_is_one_line(run: Run, tmp_path: Path) -> None:
    result = run("sync", "-f", own_list(tmp_path, {"repository": "quay.io/a/b"}))
    assert (result.status, result.out) == (1, "")
    assert len(result.err.splitlines()) == 1
    assert f"{tmp_path}/images.yaml:2" in result.err


def test_platforms_are_those_of_the_command_line(run: Run, root: Path, source: Source) -> None:
    children = [
        images.image("ns/m", None, [images.layer({"a": arch.encode()})], architecture=arch)
        for arch in ("amd64", "arm64", "s390x")
    ]
    source.add(images.index("ns/m", "1", children))
    result = run("sync", "--platform", "linux/arm64,linux/s390x", f"{source.address}/ns/m:1")
    assert result.status == 0
    there = {path.name for path in (root / "v2" / "ns" / "m" / "manifests").glob("sha256:*")}
    assert str(children[0].digest) not in there
    assert {str(child.digest) for child in children[1:]} <= there
    result = run("sync", "--platform", "amd64", f"{source.address}/ns/m:1")
    assert result.status == 2
    assert "OS/ARCHITECTURE" in result.err


# -- systemd


def units(run: Run, *arguments: object) -> tuple[str, str]:
    result = run("sync", *arguments, "--print", "systemd")
    assert (result.status, result.err) == (0, "")
    service, separator, timer = result.out.partition("# /etc/systemd/system/image-uploader-sync.t")
    return service, separator + timer


def setting(unit: str, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)
    assert isinstance(value, str)
    return value


def test_a_service_runs_the_command_line(
    run: Run, root: Path, config: Path, names: list[str], tmp_path: Path
) -> None:
    options = [
        *("--max-share", "0.25", "--no-space-check", "--full-names", "--foreign-layers"),
        *("--check-present", "--platform", "linux/amd64,linux/arm64", "--no-referrers"),
        *("--report", "/var/lib/x y/r.json"),
    ]
    file = own_list(tmp_path, names[1])
    service, timer = units(run, "-f", file, *options, names[0])
    program, *words = [
        word.strip('"') for word in re.findall(r'"[^"]*"|\S+', setting(service, "ExecStart"))
    ]
    assert Path(program).is_absolute()
    assert words[:3] == ["--config-file", str(config), "sync"]
    wanted = vars(parse(["sync", "-f", str(file), *options, names[0]]))
    assert vars(parse(words[2:])) == wanted
    assert re.findall(r"^ReadWritePaths=(.*)$", service, re.MULTILINE) == [
        str(root),
        '"/var/lib/x y"',
    ]
    for name, value in (
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "true"),
        ("PrivateTmp", "true"),
        ("User", "image-uploader"),
    ):
        assert setting(service, name) == value
    assert setting(timer, "OnCalendar") == "daily"
    assert setting(timer, "Persistent") == "true"
    assert f"#   install -d -o image-uploader -g image-uploader {root}\n" in service
    assert not root.exists()


def test_values_are_quoted_as_systemd_reads_them(
    run: Run, config: Path, names: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / '50% of $HOME "it\'s"'
    folder.mkdir()
    file = own_list(folder, names[0])
    service, _ = units(run, "-f", file)
    told = str(file).replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    assert f' -f "{told}"' in setting(service, "ExecStart")
    config.write_text(f'[local_export]\nroot = {tmp_path}/50%% a "b"\n'.replace("%%", "%"))
    service, _ = units(run, "-f", file)
    assert setting(service, "ReadWritePaths") == f"'{tmp_path}/50%% a \"b\"'"


def test_a_tree_that_is_somebodys_is_written_by_them(
    run: Run, root: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root.mkdir()
    monkeypatch.setattr("pwd.getpwuid", lambda _: type("Entry", (), {"pw_name": "images"}))
    monkeypatch.setattr(Path, "stat", lambda _, **__: type("Status", (), {"st_uid": 993}))
    service, _ = units(run, names[0])
    assert setting(service, "User") == "images"
    assert "# It writes as the user images, who owns the tree.\n" in service
    assert "useradd" not in service


@pytest.mark.parametrize("root", ["/srv/images", "/srv/50% of 'x y'"])
def test_systemd_takes_the_units(
    run: Run, names: list[str], tmp_path: Path, config: Path, root: str
) -> None:
    program = programs.require("systemd-analyze", "systemd")
    config.write_text(f"[local_export]\nroot = {root}\n")
    service, timer = units(run, "-f", own_list(tmp_path, names[0]))
    folder = tmp_path / "units"
    folder.mkdir()
    (folder / "image-uploader-sync.service").write_text(service)
    (folder / "image-uploader-sync.timer").write_text(timer)
    done = subprocess.run(
        [program, "verify", "--man=no", *sorted(map(str, folder.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "image-uploader-sync" in line]
    assert (done.returncode, said) == (0, [])


def test_a_service_has_no_standard_input(run: Run) -> None:
    result = run("sync", "-f", "-", "--print", "systemd")
    assert (result.status, result.out) == (2, "")
    assert result.err.endswith("error: a service has no standard input: name a list with -f\n")


def test_the_schema_needs_no_images(run: Run) -> None:
    result = run("sync", "--print", "schema")
    assert (result.status, result.err) == (0, "")
    assert json.loads(result.out)["required"] == ["images"]
