"""
Whether ports of the app accept connections, for a kubelet whose own would end at the sidecar. *Cold.*

Whoever reaches the metrics listener may ask, so only ports that this sidecar was told of are asked, and only the app's:
nobody can look through it at other ports or other machines. A port is asked once at a time, however many want to know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from sidecar.net import dial
from sidecar.process_log import event

logger = logging.getLogger(__name__)

VARIABLE: Final = "SIDECAR_PROBED_PORTS"
"""Ports that may be asked, parted by commas; `sidecar inject` sets it for those whose probes it has rewritten."""
TIMEOUT_S: Final = 3.0
"""Of one connection. A kubelet waits for 1 s unless it is told otherwise, and then asks again."""
_MAX_PORTS: Final = 64
_LOOPBACK: Final = ("127.0.0.1", "::1")

Connect = Callable[[Sequence[str], int], Awaitable[None]]
"""Connects to the first of several hosts that accepts; an OSError if none does."""


class AppPorts:
    """
    The ports of one app.

    Args:
        env: `SIDECAR_PROBED_PORTS`, and `POD_IP`, on which alone an app may listen.
        connect: As it says.
    """

    def __init__(self, env: Mapping[str, str], connect: Connect | None = None) -> None:
        self._connect = connect or _connect
        self._hosts = [host for host in (env.get("POD_IP", ""), *_LOOPBACK) if host]
        self._ports = _parse(env.get(VARIABLE, ""))
        self._asked: dict[int, asyncio.Task[str]] = {}

    async def ask(self, written: str) -> tuple[bool, str] | None:
        """
        Whether a port accepts connections, and why not; None if nobody may ask about it.

        Args:
            written: The port, in decimal digits.
        """
        port = int(written) if written.isascii() and written.isdigit() and len(written) <= 5 else 0
        if port not in self._ports:
            return None
        task = self._asked.get(port)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._why_not(port))
            self._asked[port] = task
            task.add_done_callback(lambda _: self._asked.pop(port))
        # Others may wait for the same: that one of them goes away ends nothing.
        why = await asyncio.shield(task)
        return not why, why or "accepts connections"

    async def _why_not(self, port: int) -> str:
        try:
            await asyncio.wait_for(self._connect(self._hosts, port), TIMEOUT_S)
        except TimeoutError:
            return f"port {port} does not answer within {TIMEOUT_S:g} s"
        except OSError as error:
            return f"port {port}: {(error.strerror or str(error)).lower()}"
        return ""


def _parse(value: str) -> frozenset[int]:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    ports = {int(part) for part in parts if part.isascii() and part.isdigit() and 0 < int(part[:6]) < 65536}
    if len(ports) != len(parts) or len(ports) > _MAX_PORTS:
        logger.warning(event("probed_ports_ignored", variable=VARIABLE, value=value[:200], most=_MAX_PORTS))
        return frozenset()
    return frozenset(ports)


async def _connect(hosts: Sequence[str], port: int) -> None:
    connection = await dial.connect(hosts, port)
    connection.close()
