"""What detectors and the balancer are told of an attempt: all if they want it, else what is out of the ordinary."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar import errors
from sidecar.errors import Reason
from sidecar.upstream.balance.failing import TELLING_STATUS
from sidecar.upstream.endpoint import Endpoint
from tests.support.fakes import World

Make = Callable[..., World]


@pytest.mark.parametrize("observes_from", [0, TELLING_STATUS])
@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
def test_good_answers_are_told_only_to_who_wants_them(make_world: Make, status: int, observes_from: int) -> None:
    """A request is spared the time of telling what nobody asks for; failures are told always."""
    told: list[tuple[int, Reason | None]] = []

    def observe(endpoint: Endpoint, status: int, failure: Reason | None, latency_s: float, now: float) -> None:
        told.append((status, failure))

    world = make_world()
    world.cluster.observer = observe
    world.cluster.observes_from = observes_from
    client = world.client()
    client.get()
    _ = world.accept() >> b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status
    assert told == ([(status, None)] if status >= observes_from else [])
    client.get()
    world.servers[0].reset()
    assert told[-1] == (0, errors.UPSTREAM_RESET)
    client.leave()
