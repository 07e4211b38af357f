"""
Has a key and a request to sign it made by a short-lived process, `link.identity.make_request`. *Cold.*

It is started as compilers are, behind the traffic, and with next to no environment. What is secret goes by pipes.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from sidecar.link.identity.key_maker import KeyMakerError, SigningRequest
from sidecar.loader.low_priority import background_niceness
from sidecar.loader.spawn import Child, spawn_python

LIMIT_S: Final = 120.0
"""It takes 0.2 s of an idle core, and stands back for all else on a busy one: nobody is to be nobody for that."""
_MAX_OUTPUT_BYTES: Final = 256 * 1024
_BOOT: Final = "from sidecar.link.identity.make_request import main; main()"
_KEPT_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")


class KeyProcess:
    """
    A `KeyMaker`.

    Args:
        spawn: Starts the process, given what it is to run, its environment and niceness.
    """

    def __init__(self, spawn: Callable[[str, dict[str, str], int | None], Child] = spawn_python) -> None:
        self._spawn = spawn

    async def make(self, nonce: str = "", old_key: str = "") -> SigningRequest:
        """As in `KeyMaker`."""
        asked = json.dumps({"nonce": nonce, "old_key": old_key} if old_key else {}).encode()
        return await asyncio.get_running_loop().run_in_executor(None, self._make, asked)

    def _make(self, asked: bytes) -> SigningRequest:
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        try:
            child = self._spawn(_BOOT, environment, background_niceness())
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise KeyMakerError(f"the process that makes keys could not be started: {why}") from None
        raw, is_late = b"", False
        try:
            with os.fdopen(child.stdin, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
                pipe.write(asked)  # less than a pipe holds
            raw = _read_all(child.stdout, time.monotonic() + LIMIT_S)
        except TimeoutError:
            is_late = True
        finally:
            os.close(child.stdout)
            with suppress(ProcessLookupError):
                if is_late:
                    os.kill(child.pid, signal.SIGKILL)
            _, status = os.waitpid(child.pid, 0)
        if is_late:
            raise KeyMakerError(f"the process that makes keys has not finished within {LIMIT_S:g} s")
        return _understood(raw, os.waitstatus_to_exitcode(status))


def _read_all(descriptor: int, deadline: float) -> bytes:
    # Not `select`, which knows no descriptor above 1023.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    pieces = bytearray()
    while len(pieces) <= _MAX_OUTPUT_BYTES:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        piece = os.read(descriptor, 64 * 1024)
        if not piece:
            break
        pieces += piece
    return bytes(pieces)


def _understood(raw: bytes, code: int) -> SigningRequest:
    try:
        said: Any = json.loads(raw)
        if "error" in said:
            raise KeyMakerError(str(said["error"]))
        return SigningRequest(str(said["key"]), str(said["csr"]), str(said["signature"]))
    except (ValueError, LookupError, TypeError):
        raise KeyMakerError(f"the process that makes keys ended before it was done: exit code {code}") from None
