# SPDX-License-Identifier: Apache-2.0
"""Users, passwords and signed URLs are in nothing that a run prints or writes."""

from __future__ import annotations

import stat
import subprocess
import traceback
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
import yaml

from image_uploader_plugins import errors
from image_uploader_plugins.testing import web_server
from image_uploader_plugins.testing.images import corpus
from image_uploader_plugins.testing.web_server import Answer
from tests.integration.runs.conftest import SERVED_AT, Cli, by_name, tagged
from tests.support.registry import TamperedRegistry
from tests.support.sources import source

pytestmark = pytest.mark.slow

MARK = "Zq7sEcReT"
IMAGE = by_name("openstack/plain")


@pytest.fixture
def registry() -> TamperedRegistry:
    return TamperedRegistry(corpus())


@pytest.fixture
def tampered(registry: TamperedRegistry) -> Iterator[str]:
    with web_server.serving(registry) as address:
        yield address


def told(cli: Cli, result: subprocess.CompletedProcess[str]) -> str:
    """Return all that a run has printed, and written outside of the tree."""
    files = (path.read_text() for path in cli.folder.glob("report.json"))
    return result.stdout + result.stderr + "".join(files)


def redirect(answer: Answer, headers: Message) -> Answer:
    """Redirect to a URL with a storage's key in it, as registries in clouds do."""
    signed = f"/storage/gone?X-Amz-Signature={MARK}&X-Amz-Security-Token={MARK}"
    return Answer(307, {"Location": signed, "Content-Length": "0"})


@pytest.mark.parametrize("debug", [(), ("--debug",), ("-v", "-v")])
def test_a_signed_url_that_leads_nowhere(
    cli: Cli, registry: TamperedRegistry, tampered: str, debug: tuple[str, ...]
) -> None:
    registry.tamper["/blobs/"] = redirect
    file = cli.images(tampered, IMAGE)
    result = cli.run(*debug, "upload", file, "--report", cli.report_file)
    assert result.returncode == 1
    assert "/storage/gone" in told(cli, result)
    assert MARK not in told(cli, result)


def test_a_body_that_breaks_off_behind_a_signed_url(
    cli: Cli, registry: TamperedRegistry, tampered: str
) -> None:
    registry.tamper["/blobs/"] = redirect
    cut = Answer(200, {"Content-Length": "1000"}, [b"begins"])
    registry.tamper["/storage/"] = lambda answer, headers: cut
    result = cli.upload(cli.images(tampered, IMAGE))
    assert result.returncode == 1
    assert MARK not in told(cli, result)


def test_what_a_program_gets_as_an_error(registry: TamperedRegistry, tampered: str) -> None:
    registry.tamper["/blobs/"] = redirect
    fetching = source(tampered, IMAGE.repository)
    with pytest.raises(errors.RegistryError, match="/storage/gone: 404") as caught:
        list(fetching.blob(IMAGE.manifest.layers[0]))
    assert MARK not in "".join(traceback.format_exception(caught.value))
    too_much = Answer.of(bytes(9_000_000), "text/plain")
    registry.tamper |= {"/manifests/": redirect}
    registry.tamper["/storage/"] = lambda answer, headers: too_much
    with pytest.raises(errors.ManifestInvalid, match="exceeds") as refused:
        fetching.manifest(IMAGE.digest)
    assert MARK not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "user", [f"me:{MARK}", MARK, f"me:{MARK}/x", f"me:a@{MARK}", f"me:{MARK}#1"]
)
def test_a_user_before_the_host_of_an_image(cli: Cli, user: str) -> None:
    file = cli.images(f"{user}@127.0.0.1:1", tagged(IMAGE))
    result = cli.upload(file)
    assert result.returncode == 1
    assert "do not belong into a name" in result.stderr
    assert MARK not in told(cli, result)


@pytest.mark.parametrize("key", ["pull_source", "push_destination"])
def test_a_user_elsewhere_in_an_entry(cli: Cli, key: str) -> None:
    entry = {"imagename": tagged(IMAGE), "pull_source": "127.0.0.1:1"}
    entry |= {"push_destination": SERVED_AT, key: f"me:{MARK}@127.0.0.1:1"}
    file = cli.folder / "images.yaml"
    file.write_text(yaml.safe_dump({"container_images": [entry]}))
    result = cli.upload(file)
    assert result.returncode == 1
    assert "do not belong into" in result.stderr
    assert MARK not in told(cli, result)


@pytest.mark.parametrize(
    "command", [("delete",), ("show",), ("export", "--", "out"), ("import", "x.tar", "--as")]
)
def test_a_user_in_a_name_on_the_command_line(
    cli: Cli, root: Path, command: tuple[str, ...]
) -> None:
    (root / "v2").mkdir(parents=True)
    result = cli.run(*command, f"me:{MARK}@quay.io/ns/img:1")
    assert result.returncode != 0
    assert MARK not in told(cli, result)


@pytest.mark.parametrize(
    "text",
    [
        f"parameter_defaults:\n  Password: {MARK}\n bad: [",
        f"Password: *{MARK}",
        f"Password: !{MARK}",
        f"Password: '{MARK}",
        f"Password: @{MARK}",
        f"Password: {MARK}: x",
        f"Password: \0{MARK}",
    ],
)
def test_a_file_that_is_no_yaml(cli: Cli, text: str) -> None:
    file = cli.folder / "environment.yaml"
    file.write_text(text)
    result = cli.run("prepare", "-e", file)
    assert result.returncode == 1
    assert "environment.yaml is not yaml" in result.stderr
    assert MARK not in told(cli, result)


def test_a_new_report_is_for_its_owner(cli: Cli, source: str) -> None:
    file = cli.images(source, IMAGE)
    assert cli.upload(file).returncode == 0
    assert stat.S_IMODE(cli.report_file.stat().st_mode) == 0o600
    cli.report_file.chmod(0o640)
    assert cli.upload(file).returncode == 0
    assert stat.S_IMODE(cli.report_file.stat().st_mode) == 0o640
