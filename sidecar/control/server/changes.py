"""What people change on 15010: a push, a way back, haste; and what a push would change. *On the loop.*"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from sidecar.control.engines.interface import Conflict, EngineError, Unavailable, Unsupported
from sidecar.control.plane import Plane
from sidecar.control.revision.compiler import CompilerError
from sidecar.control.revision.judged import Considered, Rejected
from sidecar.control.rollout.proposal import RolloutError
from sidecar.control.server.access import peer_of, problem
from sidecar.control.server.bodies import read_body, read_files
from sidecar.link.fields import Fields, decode
from sidecar.process_log import event

logger = logging.getLogger(__name__)

MAX_SERVICES: Final = 10_000


class Changes:
    """Handlers; each answers with what is so after it."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._acting: set[asyncio.Task[web.Response]] = set()

    async def push(self, request: web.Request) -> web.Response:
        """`POST /v1/push`: 200 when it is the wanted revision, 202 when that takes longer."""
        asked = await read_files(request)

        async def act() -> web.Response:
            pushed = await self._plane.pushes.push(asked.files, asked.expected, is_now=asked.is_now)
            if isinstance(pushed, Rejected):
                return _refused(pushed)
            values = {**self._told(pushed.considered), "version": pushed.version, "revision": pushed.revision}
            return web.json_response(values, status=202 if pushed.revision is None else 200)

        return await self._whole(act)

    async def diff(self, request: web.Request) -> web.Response:
        """`POST /v1/diff`: what a push of these files would change, and what is wrong with them."""
        asked = await read_files(request)

        async def act() -> web.Response:
            considered = await self._plane.pushes.consider(asked.files)
            if isinstance(considered, Rejected):
                return _refused(considered)
            values = {"version": self._plane.follower.version, "revision": self._plane.rollouts.revision}
            return web.json_response({**self._told(considered), **values})

        return await _tried(act)

    async def rollback(self, request: web.Request) -> web.Response:
        """`POST /v1/rollback`: `{"revision": N, "now": false}`."""
        said = decode(await read_body(request))
        number, is_now = said.integer("revision"), said.flag("now", False)

        async def act() -> web.Response:
            rollouts = self._plane.rollouts
            logger.info(event("rollback_asked", revision=number, now=is_now, peer=peer_of(request)))
            before = {name: one.hash for name, one in rollouts.told().items()}
            await rollouts.rollback(number, self._plane.sight.view(), is_now=is_now)
            after = {name: one.hash for name, one in rollouts.told().items()}
            changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
            return web.json_response({"revision": rollouts.revision, "pinned": rollouts.pinned, "services": changed})

        return await self._whole(act)

    async def hurry(self, request: web.Request) -> web.Response:
        """`POST /v1/hurry`: `{}` or `{"services": [NAME, ...]}`."""
        said = decode(await read_body(request))
        services = _names(said)

        async def act() -> web.Response:
            logger.info(event("hurry_asked", services=",".join(services or ()) or None, peer=peer_of(request)))
            hurried = await self._plane.rollouts.hurry(self._plane.sight.view(), services)
            return web.json_response({"revision": self._plane.rollouts.revision, "services": list(hurried)})

        return await self._whole(act)

    async def _whole(self, act: Callable[[], Awaitable[web.Response]]) -> web.Response:
        """Do it to its end, also when who asked leaves in the middle."""
        task = asyncio.create_task(_tried(act))
        self._acting.add(task)
        task.add_done_callback(self._acting.discard)
        return await asyncio.shield(task)

    def _told(self, considered: Considered) -> dict[str, Any]:
        return {
            "mesh": considered.name,
            "hash": considered.hash,
            "changes": list(considered.changes),
            "warnings": list(considered.warnings),
            "pinned": self._plane.rollouts.pinned,
        }


def _names(said: Fields) -> tuple[str, ...] | None:
    return tuple(said.texts("services", MAX_SERVICES)) if "services" in said.all() else None


def _refused(rejected: Rejected) -> web.Response:
    number = len(rejected.problems)
    text = f"the mesh has {number} problem{'s' if number != 1 else ''}; nothing is changed"
    return web.json_response({"error": text, "problems": list(rejected.problems)}, status=422)


async def _tried(act: Callable[[], Awaitable[web.Response]]) -> web.Response:
    try:
        return await act()
    except Conflict as error:
        return problem(409, f"{error}; somebody else has pushed: look at what differs, and push again")
    except Unsupported as error:
        return problem(501, str(error))
    except RolloutError as error:
        return problem(404, str(error))
    except (Unavailable, CompilerError) as error:
        return problem(503, str(error))
    except EngineError as error:
        return problem(422, str(error))
