# SPDX-License-Identifier: Apache-2.0
"""Runs and their target as a textfile for Prometheus' node_exporter.

Source: Prometheus' "Metric and label naming" and "Text-based format".
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from image_uploader_plugins.driver import Census
from image_uploader_plugins.runs.records import RunRecord, UpkeepRecord

_PREFIX = "image_uploader_"
_FAILURES = f"{_PREFIX}failures"

# Of runs, by command: what a file keeps of the commands that did not run.
_HELP = {
    f"{_PREFIX}last_run_timestamp_seconds": "When the last run ended, in seconds since the epoch.",
    f"{_PREFIX}last_run_duration_seconds": "How long the last run took.",
    f"{_PREFIX}last_run_success": "Whether the last run did all it was to do: 1, or else 0.",
    f"{_PREFIX}last_run_fetched_bytes": "What the last run fetched over the network.",
    f"{_PREFIX}last_run_images": "Images of the last run, by what became of them.",
    f"{_PREFIX}last_run_missing_platforms": "Platforms that the last run was to copy and that an "
    "image is not for, of all images.",
    f"{_PREFIX}last_run_freed_bytes": "What the last run gave back to the disk.",
    f"{_PREFIX}last_run_findings": "What the last verification found, by severity; of damage, a "
    "person is needed.",
    f"{_PREFIX}last_success_timestamp_seconds": "When a run last succeeded.",
    _FAILURES: "Runs that failed or were interrupted, since the file was first written.",
}
# Of the target, as a Census counts it.
_CENSUS = {
    "repositories": "Repositories in the target.",
    "tags": "Tags in the target.",
    "blobs": "Distinct blobs in the target.",
    "stored_bytes": "What blobs and manifests take on the disk.",
    "shared_bytes": "What they would take more if repositories did not share blobs.",
    "oldest_lease_age_seconds": "Age of the oldest lease of an upload in flight, 0 without any.",
}

_Labels = tuple[tuple[str, str], ...]
_Samples = dict[str, dict[_Labels, float]]
_Values = dict[tuple[str, _Labels], float]


def text(run: RunRecord | UpkeepRecord, census: Census | None, earlier: str = "") -> str:
    """Return the file's content; what ``earlier`` content says of other runs is kept.

    Raises ValueError for earlier content that is not in Prometheus' format.
    """
    samples = _kept(earlier, run.command)
    command = ("command", run.command)
    own = _of_copies(run) if isinstance(run, RunRecord) else _of_upkeep(run)
    for (name, labels), value in (_of_any(run) | own).items():
        samples[_PREFIX + name][command, *labels] = value
    failures = samples[_FAILURES]
    failures[(command,)] = failures.get((command,), 0) + (not run.is_well)
    return _written([*_families(samples), *_gauges(census)])


def _of_any(run: RunRecord | UpkeepRecord) -> _Values:
    ended = run.started + run.seconds
    values: _Values = {
        ("last_run_timestamp_seconds", ()): ended,
        ("last_run_duration_seconds", ()): run.seconds,
        ("last_run_success", ()): run.is_well,
    }
    if run.is_well:
        values["last_success_timestamp_seconds", ()] = ended
    return values


def _of_copies(run: RunRecord) -> _Values:
    missing = sum(len(image.missing_platforms) for image in run.images)
    values: _Values = {
        ("last_run_images", (("status", status),)): count
        for status, count in run.by_status().items()
    }
    values["last_run_fetched_bytes", ()] = run.bytes_fetched
    values["last_run_missing_platforms", ()] = missing
    return values


def _of_upkeep(run: UpkeepRecord) -> _Values:
    values: _Values = {
        ("last_run_findings", (("severity", severity),)): count
        for severity, count in run.findings.items()
    }
    if run.bytes_freed is not None:
        values["last_run_freed_bytes", ()] = run.bytes_freed
    return values


def _kept(earlier: str, command: str) -> _Samples:
    """Return the earlier samples, of this ``command`` just those that outlive its next run."""
    samples: _Samples = collections.defaultdict(dict)
    lasting = (_FAILURES, f"{_PREFIX}last_success_timestamp_seconds")
    for family in text_string_to_metric_families(earlier):
        for sample in family.samples if family.name in _HELP else ():
            if sample.labels.get("command") != command or family.name in lasting:
                samples[family.name][tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def _families(samples: _Samples) -> Iterator[Metric]:
    for name, described in _HELP.items():
        values = samples[name]
        labels = [label for label, _ in next(iter(values), ())]
        kind = CounterMetricFamily if name == _FAILURES else GaugeMetricFamily
        family = kind(name, described, labels=labels)
        for found, value in values.items():
            family.add_metric([text for _, text in found], value)
        if values:
            yield family


def _gauges(census: Census | None) -> Iterator[Metric]:
    if census is None:
        return
    now = time.time()
    oldest = census.oldest_lease
    values = {
        "oldest_lease_age_seconds": 0.0 if oldest is None else max(0.0, now - oldest),
        "stored_bytes": census.bytes_stored,
        "shared_bytes": census.bytes_shared,
    }
    for name, described in _CENSUS.items():
        value = values[name] if name in values else getattr(census, name)
        yield GaugeMetricFamily(_PREFIX + name, described, value=value)


class _Fixed(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _written(families: list[Metric]) -> str:
    registry = CollectorRegistry()
    registry.register(_Fixed(families))
    return generate_latest(registry).decode()
