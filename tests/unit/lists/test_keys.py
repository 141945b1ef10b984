# SPDX-License-Identifier: Apache-2.0
"""What the keys of an entry mean together, and for the run's options."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.lists import image_list, keys
from image_uploader_plugins.lists.image_list import Entry
from tests.support.platforms import AMD64, ARM64

SPDX, BUNDLE = "text/spdx+json", "application/vnd.dev.sigstore.bundle.v0.3+json"
ITEM = {"imagename": "quay.io/a/b:1", "push_destination": "192.0.2.1:8787"}


def wished(run: CopyOptions, default: bool = False, **more: Any) -> tuple[CopyOptions, bool]:
    """The options for an entry of a run, and whether all platforms are copied."""
    entry = Entry.of(keys.mended(ITEM | more, "here"), "tree", multi_arch=default)
    return dataclasses.replace(run, **entry.wishes), entry.multi_arch


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("linux/amd64", (AMD64,)),
        ("linux/arm64/v8, linux/x86_64", (ARM64, AMD64)),
        (["linux/amd64", "linux/arm64"], (AMD64, ARM64)),
        (["linux/amd64", "linux/amd64/v1"], (AMD64,)),
    ],
)
@pytest.mark.parametrize("run", [None, (ARM64,)])
@pytest.mark.parametrize("default", [True, False])
def test_an_entry_chooses_platforms(
    given: object, expected: object, run: Any, *, default: bool
) -> None:
    options, _ = wished(CopyOptions(platforms=run), default, platforms=given)
    assert options.platforms == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ((ARM64,), False)),
        ({"platforms": None}, ((ARM64,), False)),
        ({"platforms": "all"}, (None, True)),
        ({"platforms": ["all"]}, (None, True)),
        ({"multi_arch": True}, (None, True)),
        ({"multi_arch": "false"}, (None, False)),
    ],
)
def test_an_entry_goes_before_the_platforms_of_the_run(
    more: dict[str, Any], expected: object
) -> None:
    options, multi_arch = wished(CopyOptions(platforms=(ARM64,)), **more)
    assert (options.platforms, multi_arch) == expected


@pytest.mark.parametrize("run", [True, False])
def test_types_of_artifacts_are_wished_for(*, run: bool) -> None:
    options, _ = wished(CopyOptions(signatures=run), artifact_types=[SPDX, BUNDLE])
    assert (options.signatures, options.artifact_types) == (True, (SPDX, BUNDLE))
    options, _ = wished(CopyOptions(artifact_types=(SPDX,)), signatures=False)
    assert not options.signatures


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"platforms": "amd64"}, "here: platforms: not a platform: 'amd64'; one has the form OS/"),
        ({"platforms": "all,linux/amd64"}, "here: platforms: all is for every platform"),
        ({"platforms": []}, "here: platforms must be a text or a list of texts"),
        ({"platforms": [1]}, "here: platforms must be a text or a list of texts"),
        ({"platforms": {"linux": "amd64"}}, "here: platforms must be a text or a list of texts"),
        (
            {"platforms": "linux/amd64", "multi_arch": True},
            "here: platforms and multi_arch both say what is copied",
        ),
        (
            {"platforms": "linux/amd64", "modify_role": "r"},
            "here: modify_role makes an image for one platform",
        ),
        ({"artifact_types": "spdx"}, "here: artifact_types: not a type of artifacts: 'spdx'"),
        ({"artifact_types": []}, "here: artifact_types must be a text or a list of texts"),
        (
            {"artifact_types": SPDX, "signatures": False},
            "here: artifact_types are of what 'signatures: false' leaves behind",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        keys.mended(ITEM | more, "here")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("more", "run", "problem"),
    [
        ({"platforms": "linux/amd64"}, CopyOptions(), "choose platforms"),
        ({}, CopyOptions(platforms=(AMD64,)), "choose platforms"),
        ({"artifact_types": SPDX}, CopyOptions(), "choose types of artifacts"),
        ({}, CopyOptions(artifact_types=(SPDX,)), "choose types of artifacts"),
        ({}, CopyOptions(full_names=True), "give full names"),
        ({"platforms": "all"}, CopyOptions(platforms=(AMD64,)), None),
        ({"multi_arch": False}, CopyOptions(platforms=(AMD64,)), None),
    ],
)
def test_the_uploader_that_pushes_cannot_choose(
    more: dict[str, Any], run: CopyOptions, problem: str | None
) -> None:
    entry = keys.mended(ITEM | more, "here")
    keys.check_wishes(entry, "tree", "here", run)
    if problem is None:
        keys.check_wishes(entry, keys.PUSHING, "here", run)
    else:
        with pytest.raises(errors.ConfigurationError, match=f"here: .* cannot {problem}; "):
            keys.check_wishes(entry, keys.PUSHING, "here", run)


def test_of_two_entries_for_an_image_the_first_chooses(tmp_path: Any) -> None:
    names = []
    for number, key in enumerate(("platforms: linux/arm64", "multi_arch: true")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"container_images:\n- imagename: quay.io/a/b:1\n  {key}\n")
        names.append(str(path))
    for order, expected in ((names, ((ARM64,), True)), (names[::-1], (None, True))):
        (item,) = image_list.items(image_list.read(order), "tree")
        entry = Entry.of(item, "tree", multi_arch=False)
        assert (entry.wishes["platforms"], entry.multi_arch) == expected
