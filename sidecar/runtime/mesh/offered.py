"""
What a control plane has signed for this process, kept until somebody holds it. *Cold.*

It comes when it comes; the holder of certificates is there once a configuration asks for TLS. So each is told of the
other, whichever is first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sidecar.security.identity.certificates.credentials import Material


class Holder(Protocol):
    """Who is given what is held; `security.identity.holder.Identity` is one."""

    def offer(self, material: Material) -> Awaitable[object]:
        """This is held from now on."""
        ...

    def source_failed(self, text: str) -> None:
        """Nothing is held yet, or what is held could not be renewed; why."""
        ...


class Offered:
    """A `Holder` that only passes on."""

    def __init__(self) -> None:
        self._holder: Holder | None = None
        self._material: Material | None = None
        self._why = ""
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Offered [{'SOMETHING' if self._material is not None else 'NOTHING'}]>"

    def attach(self, holder: Holder) -> None:
        """Give it what there is, in a moment, and what comes from then on."""
        self._holder = holder
        if self._material is not None:
            self._task = asyncio.get_running_loop().create_task(self._give(), name="identity")
        elif self._why:
            holder.source_failed(self._why)

    async def offer(self, material: Material) -> None:
        """As in `Holder`."""
        self._material, self._why = material, ""
        await self._give()

    def source_failed(self, text: str) -> None:
        """As in `Holder`."""
        self._why = text
        if self._holder is not None:
            self._holder.source_failed(text)

    async def _give(self) -> None:
        if self._holder is not None and self._material is not None:
            await self._holder.offer(self._material)
