# SPDX-License-Identifier: Apache-2.0
"""The names of the images in tripleo-common's template; as a program, it prints them as JSON."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

TAG = "1.0"

# Two releases, since the template has fewer names than a deployment has images.
_RELEASES = (("openstack", "openstack-"), ("edge", "edge-"))


def repositories(names: Sequence[str], count: int) -> list[str]:
    """Return the names of ``count`` repositories for images of the template."""
    found = [f"{folder}/{prefix}{name}" for folder, prefix in _RELEASES for name in names]
    if len(found) < count:
        raise ValueError(f"the template has names for {len(found)} images, not {count}")
    return found[:count]


def entries(source: str, repositories: Iterable[str], target: str) -> Iterator[dict[str, Any]]:
    """Yield entries of ContainerImagePrepare that copy these repositories, one a release."""
    releases = dict(_RELEASES)
    for folder, found in itertools.groupby(repositories, lambda name: name.partition("/")[0]):
        yield {
            "push_destination": target,
            "includes": [f"/{re.escape(name)}:" for name in found],
            "set": _values(f"{source}/{folder}", releases[folder]),
        }


def _values(namespace: str, prefix: str) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "name_prefix": prefix,
        "name_suffix": "",
        "tag": TAG,
        "ceph_images": False,
    }


def main() -> None:
    """Print the names of OpenStack's images, without what comes before and after them."""
    from tripleo_common.image import kolla_builder  # noqa: PLC0415

    entry = {"push_destination": "target", "set": _values("source/namespace", "prefix-")}
    environment = {"parameter_defaults": {"ContainerImagePrepare": [entry]}}
    parameters = kolla_builder.container_images_prepare_multi(environment, None, dry_run=True)
    found = (re.search(r"/prefix-([^:]+):", str(value)) for value in parameters.values())
    json.dump(sorted({match[1] for match in found if match}), sys.stdout)


if __name__ == "__main__":
    main()
