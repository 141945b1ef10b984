# SPDX-License-Identifier: Apache-2.0
"""Runs one command and writes what it took as JSON: ``launcher.py RESULT LOG COMMAND...``.

NOTE: Linux counts the memory of the process that starts a command as the command's
own (ru_maxrss in getrusage(2) survives exec). So a process starts it that has
imported nothing but this.
"""

import json
import os
import sys
import time


def main() -> None:
    """Run the command of the command line, its output into the log."""
    result, log, *command = sys.argv[1:]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    actions = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    started = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    figures = {
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "memory": usage.ru_maxrss * 1024,  # of the largest process
        "status": os.waitstatus_to_exitcode(status),
    }
    written = os.open(result, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(written, json.dumps(figures).encode())


if __name__ == "__main__":
    main()
