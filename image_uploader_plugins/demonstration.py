# SPDX-License-Identifier: Apache-2.0
"""The demonstration: images made on the spot are prepared, served and pulled back."""

from __future__ import annotations

import contextlib
import enum
import json
import re
import tempfile
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import urllib3
import yaml
from oslo_config import cfg

from image_uploader_plugins import loader
from image_uploader_plugins.digest import VerifiedStream
from image_uploader_plugins.local_export import layout, options
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import Totals
from image_uploader_plugins.serving import listener
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sync import reading
from image_uploader_plugins.sync.synchronization import Synchronization, SyncOptions
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.registry import SourceRegistry

Say = Callable[[str], None]

# The address in a real deployment; the demonstration serves on another one.
SERVED_AT = "localhost:8787"

_DIGEST = re.compile(r"(sha(?:256|512):[0-9a-f]{8})[0-9a-f]+")


class Flow(enum.StrEnum):
    """The way that the images come into the tree."""

    PREPARE = "prepare"  # with tripleo-common
    SYNC = "sync"


def run(root: Path | None, say: Say, flow: Flow) -> None:
    """Fill a tree at ``root`` (a temporary one if None), serve it and pull everything back.

    Raises what went wrong; a digest that differs is DigestMismatch.
    """
    if root is None:
        with tempfile.TemporaryDirectory(prefix="image-uploader-demo-") as folder:
            run(Path(folder) / "image-serve", say, flow)
        return
    corpus = images.corpus()
    fill = {Flow.PREPARE: _prepare, Flow.SYNC: _sync}[flow]
    with web_server.serving(SourceRegistry(corpus)) as source:
        say(f"A source registry with {len(corpus)} images listens on {source}.\n")
        totals = fill(corpus, source, _conf(root), say)
    say(f"Copied into {root}: {totals}\n")
    with listener.serving(root) as served:
        say(f"The tree is served on {served}; the source is gone. Pulling everything back:\n")
        for image in corpus:
            say("  " + _pull(image, served))
        catalog = urllib3.request("GET", f"http://{served}/v2/_catalog", timeout=30).data.decode()
    say("\nThe tree, with the first repository as an example of all:\n")
    say("\n".join(f"  {line}" for line in tree(root, json.loads(catalog)["repositories"])))
    say(f"\nThe catalog:\n\n  {catalog}\n")
    say(_ADVICE[flow])


_ADVICE = {
    Flow.PREPARE: "Run the same with images of your own; see "
    "etc/containers-prepare-parameter.yaml:\n\n"
    "  image-uploader prepare -e containers-prepare-parameter.yaml",
    Flow.SYNC: "Run the same with images of your own:\n\n"
    "  image-uploader sync quay.io/prometheus/node-exporter:v1.8.1",
}


def _conf(root: Path) -> cfg.ConfigOpts:
    conf = loader.load_conf(config_files=[])
    options.values(conf)
    conf.set_override("root", str(root), group=options.GROUP)
    return conf


def environment_for(corpus: list[Image], source: str) -> dict[str, Any]:
    """Return a Heat environment whose ContainerImagePrepare copies ``corpus`` from ``source``.

    tripleo-common's template has a name for each OpenStack service; the one for
    ceph takes a namespace, name and tag as they come, and fits any image.
    """
    entries = []
    for image in corpus:
        *namespace, name = image.repository.value.split("/")
        entries.append(
            {
                "uploader": options.DRIVER,
                "push_destination": SERVED_AT,
                "includes": [f"/{image.repository}:"],
                "multi_arch": image.manifest.is_index,
                "set": {
                    "ceph_namespace": "/".join([source, *namespace]),
                    "ceph_image": name,
                    "ceph_tag": str(image.tag),
                },
            }
        )
    return {"parameter_defaults": {"ContainerImagePrepare": entries}}


def first_of(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the environment with its first entry alone."""
    entries = environment["parameter_defaults"]["ContainerImagePrepare"]
    return {"parameter_defaults": {"ContainerImagePrepare": entries[:1]}}


def tree(root: Path, repositories: Sequence[str]) -> Iterator[str]:
    """Yield what lies in a tree, a line each; of the ``repositories`` the first one whole.

    Digests are cut short, and the windows of lists left out.
    """
    first = layout.repository(RepositoryName(repositories[0]))
    folded = [root / folder for folder in (layout.CATALOG_WINDOWS, first.windows, layout.STATE)]
    yield from sorted(path.name for path in root.iterdir() if path != root / layout.V2)
    yield f"{layout.V2}/"
    own = {name.partition("/")[0] for name in repositories}
    for path in sorted((root / layout.V2).iterdir()):
        if path.name not in own:
            yield from _drawn(path, "  ", folded)
    yield f"  {first.name}/"
    yield from _below(root / first.top, "    ", folded)
    yield from (f"  {name}/ ..." for name in repositories[1:])


def _below(folder: Path, indent: str, folded: Collection[Path]) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        yield from _drawn(path, indent, folded)


def _drawn(path: Path, indent: str, folded: Collection[Path]) -> Iterator[str]:
    name = _short(path.name)
    if path.is_symlink():
        yield f"{indent}{name} -> {_short(str(path.readlink()))}"
    elif path in folded:
        yield f"{indent}{name}/ ..."
    elif path.is_dir():
        yield f"{indent}{name}/"
        yield from _below(path, indent + "  ", folded)
    else:
        yield indent + name


def _short(text: str) -> str:
    return _DIGEST.sub(r"\1...", text)


def _prepare(corpus: list[Image], source: str, conf: cfg.ConfigOpts, say: Say) -> Totals:
    # The other flow does without tripleo-common.
    from image_uploader_plugins import tripleo  # noqa: PLC0415

    environment = environment_for(corpus, source)
    say("Each is an entry of ContainerImagePrepare in an environment file; the first one:\n")
    say(textwrap.indent(yaml.safe_dump(first_of(environment), sort_keys=False), "  "))
    return tripleo.prepare(environment, conf=conf)[1]


def _sync(corpus: list[Image], source: str, conf: cfg.ConfigOpts, say: Say) -> Totals:
    names = [f"{source}/{image.repository}:{image.tag}" for image in corpus]
    say("The list of images, as image-uploader sync takes it:\n")
    say("\n".join(f"  {name}" for name in names) + "\n")
    journal = Journal()
    wanted = reading.read([], names)
    with Synchronization.opened(wanted, conf, journal, SyncOptions()) as synchronization:
        synchronization.run()
    return journal.totals()


def _pull(image: Image, served: str) -> str:
    """Read the image back with everything in it, each byte against its digest."""
    name = image.repository
    with contextlib.closing(Registries()) as registries:
        source = RegistrySource(registries.registry(served), str(name))
        found = source.manifest(image.tag or image.digest)
        image.digest.verify(found.content)
        manifests = [found, *(source.manifest(d.digest, d.size) for d in found.manifests)]
        blobs = [blob for manifest in manifests for blob in manifest.blobs()]
        size = 0
        for blob in blobs:
            stream = VerifiedStream(source.blob(blob), blob.digest, blob.size)
            size += sum(map(len, stream))
    kind = found.media_type.removeprefix("application/vnd.")
    return f"{name}:{image.tag}  {_short(str(found.digest))}  {len(blobs)} blobs, {size} B  {kind}"
