"""The run that the figures of a mesh are taken of: a fleet beside real sidecars under load, ten minutes of changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .run import Size, running


async def whole(size: Size, folder: Path) -> dict[str, Any]:
    """Idle, changes, a kill; the figures."""
    async with running(size, folder) as run:
        await run.idle()
        await run.changes()
        if size.kills:
            await run.kill()
        await run.traffic()
        return run.figures
