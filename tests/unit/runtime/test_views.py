"""What the admin listener shows of a process that has certificates, and of one that has none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from sidecar.compile.time_slices import Steps
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.net.tls.settings import ControlIdentity
from sidecar.redact import NO_SECRETS
from sidecar.runtime.views import Views
from sidecar.security.identity.holder import Identity


def views_of(identity: Identity | None, following: Any = None, why: str | None = None) -> Views:
    """Of a process that serves."""
    capture = SimpleNamespace(why_not_ready=lambda: why)
    process = SimpleNamespace(
        state="LIVE", identity=identity, token_keys=None, following=following, capture=capture
    )  # fmt: skip
    return Views(cast(Any, process), {})


def test_certs_has_the_same_keys_with_and_without_tls() -> None:
    """Whoever reads it needs no case for a sidecar in clear."""
    without = asyncio.run(views_of(None).certs_dump())
    with_some = asyncio.run(views_of(Identity(machine_trust="")).certs_dump())
    assert set(with_some) - set(without) == {"time"}


def test_a_process_without_its_identity_is_not_ready_and_says_why() -> None:
    """Nothing but an identity that is wanted is missing."""
    identity = Identity(machine_trust="")
    assert views_of(None).not_ready() is None
    assert views_of(identity).not_ready() is None
    identity.configure(ControlIdentity())
    identity.source_failed("no control plane answers")
    assert views_of(identity).not_ready() == "no identity yet: no control plane answers"


def test_capture_that_is_required_is_waited_for_behind_the_identity() -> None:
    """Each says why."""
    identity = Identity(machine_trust="")
    assert views_of(identity, why="not captured").not_ready() == "not captured"
    identity.configure(ControlIdentity())
    assert views_of(identity, why="not captured").not_ready() != "not captured"


def test_an_identity_that_nobody_signs_is_not_waited_for() -> None:
    """A mesh whose control plane has no authority serves in clear, as ever."""
    identity = Identity(machine_trust="")
    identity.configure(ControlIdentity())
    for is_unsigned in (True, False):
        following = SimpleNamespace(follower=SimpleNamespace(is_unsigned=is_unsigned))
        assert (views_of(identity, following).not_ready() is None) == is_unsigned


def test_the_configuration_that_is_shown_is_that_of_one_moment() -> None:
    """A reload between two slices of it is of the next page: settings and hash belong together."""
    outcomes = [LoadOutcome("file", 1.0, 0.1, True, name, generation) for generation, name in enumerate("ab", 1)]
    reloader = SimpleNamespace(path="f.yaml", last_good=outcomes[0], last=outcomes[0], secrets=NO_SECRETS)

    def effective_of(name: str) -> Any:
        def everything() -> Steps[dict[str, object]]:
            reloader.last_good = reloader.last = outcomes[1]
            reloader.effective = effective_of("b")
            yield
            return {"service": name}

        def local() -> Steps[dict[str, str]]:
            yield
            return {"service": name}

        return SimpleNamespace(everything=everything, local=local)

    reloader.effective = effective_of("a")
    process: Any = SimpleNamespace(reloader=reloader, telemetry=SimpleNamespace(effective=dict))
    page: Any = asyncio.run(Views(process, {}).config_dump())

    assert (page["live"]["hash"], page["effective"], page["elsewhere"]) == ("a", {"service": "a"}, {"service": "a"})
    assert page["last_load"] == outcomes[0].shown()
