"""
The questions to the compiling process; what answers them (`worker`) is imported there and nowhere else. *Cold.*
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidecar.control.revision.judged import Considered, Judged, ProblemTold, Rejected
    from sidecar.mesh.told import Told


def begin(niceness: int) -> None:
    """As `worker.begin`."""
    from sidecar.control.revision import worker

    worker.begin(niceness)


def judge(files: Mapping[str, bytes], has_identity: bool) -> Judged | Rejected:
    """As `worker.judge`."""
    from sidecar.control.revision import worker

    return worker.answer(worker.judge, files, has_identity)


def consider(files: Mapping[str, bytes], running: Mapping[str, Told], has_identity: bool) -> Considered | Rejected:
    """As `worker.consider`."""
    from sidecar.control.revision import worker

    return worker.answer(worker.consider, files, running, has_identity)


def translate(service: str, hash_: str, problems: Sequence[ProblemTold]) -> tuple[ProblemTold, ...]:
    """As `worker.translate`."""
    from sidecar.control.revision import worker

    return worker.answer(worker.translate, service, hash_, problems)


def routes(caller: str, callee: str) -> list[dict[str, Any]]:
    """As `worker.routes`."""
    from sidecar.control.revision import worker

    return worker.answer(worker.routes, caller, callee)
