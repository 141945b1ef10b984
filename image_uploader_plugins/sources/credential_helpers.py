# SPDX-License-Identifier: Apache-2.0
"""Programs that know who we are at which registry.

Source: docker-credential-helpers, "Development".
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time

from image_uploader_plugins import errors, strict_json

ANSWER_TIMEOUT = 60.0  # seconds
_ANSWER_LIMIT = 1024 * 1024  # bytes
_PIECE = 0.1  # seconds after which a wait looks whether the program has ended
# The message of a helper that works but has no login; its status is that of an error.
_UNKNOWN = b"credentials not found"


class Helpers:
    """The helpers of this machine; one that has failed for a registry is not asked again."""

    def __init__(self) -> None:
        self._failed: dict[tuple[str, str], errors.ConfigurationError] = {}

    def ask(self, program: str, registry: str) -> tuple[str, str] | None:
        """Return the user and the secret that ``docker-credential-PROGRAM`` has for a registry.

        None where it has none.  Raises ConfigurationError, without what it
        wrote, where it is missing, fails, or gives no answer in a minute.
        """
        if failed := self._failed.get((program, registry)):
            raise failed
        try:
            return _ask(f"docker-credential-{program}", registry)
        except errors.ConfigurationError as e:
            self._failed[program, registry] = e
            raise


def _ask(name: str, registry: str) -> tuple[str, str] | None:
    found = None if "/" in name else shutil.which(name)
    if found is None:
        raise errors.ConfigurationError(
            f"the credential helper {name} of {registry} is missing: install it, or take it out "
            "of the file that names it"
        )
    try:
        status, answer = _run(found, registry.encode())
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise errors.ConfigurationError(
            f"the credential helper {name} of {registry}: {reason}"
        ) from None
    if status and _UNKNOWN in answer.lower():
        return None
    if status:
        raise errors.ConfigurationError(
            f"the credential helper {name} fails for {registry} (status {status}): see what "
            f"'echo {registry} | {name} get' says"
        )
    return _login(name, registry, answer)


def _login(name: str, registry: str, answer: bytes) -> tuple[str, str] | None:
    try:
        fields = strict_json.load_leniently(answer)
        user, secret = fields["Username"], fields["Secret"]
    except (ValueError, KeyError, TypeError):
        user = secret = None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise errors.ConfigurationError(
            f"the credential helper {name} answers what is no login for {registry}"
        )
    return (user, secret) if user or secret else None


def _run(program: str, question: bytes) -> tuple[int, bytes]:
    """Return the status and what was written; raises ValueError for too much or too late."""
    process = subprocess.Popen(  # noqa: S603 - no shell is asked
        [program, "get"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # In a session of its own, its children end with it and cannot use the terminal.
        start_new_session=True,
    )
    deadline = time.monotonic() + ANSWER_TIMEOUT
    try:
        assert process.stdin  # noqa: S101 - a pipe
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(question)
        answer = _read(process, deadline)
        return process.wait(max(0, deadline - time.monotonic())), answer
    except subprocess.TimeoutExpired:
        raise _late() from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout:
            process.stdout.close()


def _read(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Read to the end, or to that of the program: what it leaves running may keep the pipe."""
    assert process.stdout  # noqa: S101 - a pipe
    answer = bytearray()
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None
        if select.select([process.stdout], [], [], 0 if has_ended else _PIECE)[0]:
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                return bytes(answer)
            answer += piece
            if len(answer) > _ANSWER_LIMIT:
                raise ValueError(f"answers with more than {_ANSWER_LIMIT} bytes")
        elif has_ended:
            return bytes(answer)
    raise _late()


def _late() -> ValueError:
    return ValueError(f"no answer in {ANSWER_TIMEOUT:.0f} seconds")
