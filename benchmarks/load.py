# SPDX-License-Identifier: Apache-2.0
"""Load on a web server by wrk, and the memory that the server takes meanwhile."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measurement import MeasurementError
from benchmarks.results import Figures
from benchmarks.servers import Server

_SCRIPT = """\
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nresult {"requests": %d, "microseconds": %d, "bytes": %d, "p50": %f, "p99": %f, '
    .. '"errors": %d}\\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""
_POLL = 0.1  # seconds between looks at the memory
_TIMEOUT = 120  # seconds for one answer


def put_on(
    server: Server,
    path: str,
    headers: Mapping[str, str],
    connections: int,
    seconds: int,
    folder: Path,
) -> Figures:
    """Ask for one path as fast as the server answers; return rate, latencies and memory.

    Raises MeasurementError if there are errors.
    """
    script = folder / "done.lua"
    script.write_text(_SCRIPT)
    words = [*("wrk", "-t1", "-c", str(connections), "-d", f"{seconds}s")]
    words += ["--timeout", f"{_TIMEOUT}s", "-s", str(script)]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    url = f"http://{server.address}{path}"
    process = subprocess.Popen(  # noqa: S603
        [*words, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output, memory = _watched(process, server)
    found = json.loads(_result(output, url))
    # NOTE: wrk counts connections that Apache closes after some requests as errors, too.
    if found["errors"] > found["requests"] / 100 or not found["bytes"]:
        raise MeasurementError(f"{url}: {found['errors']} errors of {found['requests']} requests")
    duration = found["microseconds"] / 1e6
    return {
        "rate": found["requests"] / duration,
        "throughput": found["bytes"] / duration / 1e6,
        "p50": found["p50"] / 1000,
        "p99": found["p99"] / 1000,
        "memory": memory,
        "errors": found["errors"],
    }


def check(server: Server, path: str, headers: Mapping[str, str], size: int) -> None:
    """Ask once; raises MeasurementError unless the answer has this many bytes (0 for any)."""
    asked = urllib.request.Request(f"http://{server.address}{path}", headers=dict(headers))
    with urllib.request.urlopen(asked, timeout=_TIMEOUT) as answer:  # noqa: S310
        length = int(answer.headers["Content-Length"] or 0)
    if size and length != size:
        raise MeasurementError(f"{server.name} answers {path} with {length} bytes, not {size}")


def _watched(process: subprocess.Popen[str], server: Server) -> tuple[str, int]:
    """Wait for the end of wrk; return its output, and the most memory of the server."""
    memory = 0
    while True:
        try:
            output, _ = process.communicate(timeout=_POLL)
        except subprocess.TimeoutExpired:
            memory = max(memory, server.memory())
        else:
            return output, max(memory, server.memory())


def _result(output: str, url: str) -> str:
    for line in output.splitlines():
        if line.startswith("result "):
            return line.removeprefix("result ")
    raise MeasurementError(f"wrk on {url}: {output[-300:]}")
