# SPDX-License-Identifier: Apache-2.0
"""What is said of the images of a run that failed."""

from __future__ import annotations

import pickle

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.lists.reasons import Failures, ImagesFailed
from image_uploader_plugins.runs.records import ImageRecord

SPEC = "quay.io/spec"


def failed(*found: tuple[str, Exception]) -> ImagesFailed:
    failures = Failures()
    for name, error in found:
        failures.of_image(ImageRecord(name, "u"), name, error)
    with pytest.raises(ImagesFailed) as caught:
        failures.check(100)
    return caught.value


def down(host: str, path: str = "") -> errors.RegistryUnreachable:
    return errors.RegistryUnreachable(f"https://{host}/v2/{path}", "Connection refused")


def test_a_registry_that_is_down_is_one_line() -> None:
    images = [(f"a.example/spec/image{n:02}:1", down("a.example", f"{n}/")) for n in range(30)]
    error = failed(*images, ("b.example/x:1", down("b.example")))
    head, first, second = error.lines
    assert head == "31 of 100 images failed"
    assert first.startswith("30 images: https://a.example/v2/0/: Connection refused (a.example/")
    assert first.endswith(
        "(a.example/spec/image00:1, a.example/spec/image01:1, a.example/spec/image02:1, "
        "a.example/spec/image03:1, a.example/spec/image04:1 and 25 more)"
    )
    assert second == "b.example/x:1: https://b.example/v2/: Connection refused"
    assert str(error) == f"{head}: {first}; {second}"


def test_reasons_of_images_are_a_line_each() -> None:
    """Also where they are equal: they are for each image to be looked at."""
    error = failed(*((f"{SPEC}/{n}:1", errors.ImageUnknown("not there")) for n in range(30)))
    assert len(error.lines) == 31
    assert error.lines[1] == f"{SPEC}/0:1: not there"


@pytest.mark.parametrize(
    ("one", "other", "lines"),
    [
        (
            errors.RegistryError("https://a/v2/", 503),
            errors.RegistryError("https://a/v2/x", 503),
            1,
        ),
        (errors.RegistryError("https://a/v2/", 503), errors.RegistryError("https://a/v2/", 500), 2),
        (errors.RegistryError("https://a/v2/", 503), errors.RegistryError("https://b/v2/", 503), 2),
        (errors.RateLimited("a", 60, 30), errors.RateLimited("a", 61, 30), 1),
        (errors.RateLimited("a", 60, 30), errors.RateLimited("b", 60, 30), 2),
        (down("a"), errors.RegistryUnreachable("https://a/v2/", "timed out"), 2),
    ],
)
def test_which_reasons_are_equal(one: Exception, other: Exception, lines: int) -> None:
    assert len(failed(("a/one:1", one), ("a/other:1", other)).lines) == 1 + lines


def test_no_line_is_long() -> None:
    error = failed(*((f"{SPEC}/{n}:1", errors.UploaderError("why " * 999)) for n in range(30)))
    assert max(map(len, (*error.lines, str(error)))) <= 1000


def test_one_failure_is_told_as_it_is() -> None:
    assert str(failed(("a/b:1", down("a")))) == "a/b:1: https://a/v2/: Connection refused"


def test_failures_of_several_count_one_by_one() -> None:
    several = failed(("a/b:1", down("a")), ("a/c:1", down("a")))
    outer = ImagesFailed.of([several, ValueError("x")], 3)
    assert outer.lines[0] == "3 of 3 images failed"


def test_they_come_back_from_other_processes() -> None:
    error = failed(("a/b:1", down("a")), ("a/c:1", down("a")))
    found = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (found.lines, str(found)) == (error.lines, str(error))
