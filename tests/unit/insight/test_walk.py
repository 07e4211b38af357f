"""One request through a plan: who its client is, and by which listener it comes."""

from __future__ import annotations

import pytest

from sidecar.exchange import Direction
from sidecar.insight.question import Question, head_of
from sidecar.insight.walk import Visitor, listener_of, listener_of_any_host, walk
from tests.support.compiling import compiled

BEHIND = """\
    service: s
    inbound: {app: "127.0.0.1:8080", forwarded: {trusted_hops: 1}}
    """


@pytest.mark.parametrize(("is_client", "ip"), [(False, "10.9.9.9"), (True, "10.1.1.1")])
def test_a_client_that_is_known_is_not_named_anew(is_client: bool, ip: str) -> None:
    """Of a request that was served the address is the client's already, whatever a field that was kept says."""
    side = compiled(BEHIND).plan.sides[Direction.INBOUND]
    head = head_of(Question("GET", "http://s/", (("x-forwarded-for", "10.9.9.9"),)))

    assert walk(side, None, head, Visitor("10.1.1.1", is_client=is_client)).client_ip == ip


def test_a_listener_for_one_host_is_none_for_any() -> None:
    """It would give every request its own."""
    lone = compiled("service: s\noutbound: {listen: [{address: '127.0.0.1:15001', host: a}]}\n").plan
    both = compiled("service: s\noutbound: {listen: [{address: '127.0.0.1:15001', host: a}, '127.0.0.1:15002']}\n").plan

    assert listener_of_any_host(lone, lone.sides[Direction.OUTBOUND]) is None
    assert listener_of(lone, lone.sides[Direction.OUTBOUND]) is lone.listeners[0]
    found = listener_of_any_host(both, both.sides[Direction.OUTBOUND])
    assert found is not None
    assert found.address == "127.0.0.1:15002"
