"""
What `sidecar run` knows of a control plane before there is a process to follow it. *Cold.*

Imports next to nothing: most sidecars follow none, and a supervisor decides late.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sidecar.compile.frames import Header
from sidecar.loader.plan_source import MeshRequest
from sidecar.net.tls.settings import ControlIdentity

if TYPE_CHECKING:
    from sidecar.link.edges import EdgeReader
    from sidecar.loader.config_loader import ConfigLoader
    from sidecar.runtime.listeners import Listeners
    from sidecar.runtime.mesh.following import Following


class Control:
    """
    Args:
        header: Of what the local file alone says; it has `control`.
        request: What a configuration is made of, but for the pushed file.
        let_ask: Given what says, for the trigger of each load, what it is made of.
    """

    def __init__(
        self, header: Header, request: MeshRequest, let_ask: Callable[[Callable[[str], MeshRequest]], None]
    ) -> None:
        self._header = header
        self._request = request
        self._let_ask = let_ask

    def follow(self, process: Any, loader: ConfigLoader, listeners: Listeners, env: Mapping[str, str]) -> Following:
        """Begin to be followed by a process, which is a `follower.Host` and a `following.FollowingProcess`."""
        from sidecar.runtime.mesh.follower import Follower
        from sidecar.runtime.mesh.following import Following

        assert self._header.control is not None
        wanted = self._header.identity
        signed = wanted if isinstance(wanted, ControlIdentity) else None
        follower = Follower(
            self._header.control, self._request, process, env, signed,
            has_own_identity=wanted is not None and signed is None,
        )  # fmt: skip
        self._let_ask(follower.request)
        note, loader.on_outcome = loader.on_installed, follower.on_outcome

        def on_installed(header: Header, frames: Any) -> None:
            note(header, frames)
            follower.on_installed(header, frames)

        loader.on_installed = on_installed
        return Following(process, follower, self._header, loader, listeners)

    def edges(
        self, sections: Callable[[], Iterable[Any]], before: Callable[[], Awaitable[object]] | None = None
    ) -> EdgeReader:
        """What a process reads its edges from."""
        from sidecar.link.edges import EdgeReader

        return EdgeReader(sections, before)
