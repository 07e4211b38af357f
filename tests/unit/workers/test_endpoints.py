"""What a supervisor says to its workers of discovered names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.address import Address, parse_address
from sidecar.upstream.discovery.discovery import Discovery
from sidecar.upstream.discovery.endpoint_set import EndpointSet, Source
from sidecar.upstream.discovery.endpoint_sink import EndpointSink, OwnEndpoints
from sidecar.workers.endpoints import GroupEndpoints

A, B = parse_address("10.0.0.1:80"), parse_address("[::1]:80")


class Hearing:
    """A worker that notes what it is told, as messages have it."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def tell(self, name: str, *values: object) -> None:
        """As `Member.tell`."""
        self.heard.append((name, *values))


def test_what_is_told_reaches_all_and_those_that_start_later_what_holds_by_then() -> None:
    """Each name once, with what was told last; the same again is no message."""
    here = [Hearing(), Hearing()]
    sink = GroupEndpoints(lambda: here)
    told: EndpointSink = sink
    told.tell("web", EndpointSet({A: 1.0}))
    told.tell("web", EndpointSet({A: 1.0}))
    told.tell("empty", EndpointSet())
    told.tell("web", EndpointSet({B: 2.0, A: 0.5}, {A: "z"}, {B: False}))
    last = ("endpoints", "web", (("[::1]:80", 2.0, "", False), ("10.0.0.1:80", 0.5, "z", None)))
    for each in here:
        assert each.heard == [
            ("endpoints", "web", (("10.0.0.1:80", 1.0, "", None),)), ("endpoints", "empty", ()), last
        ]  # fmt: skip
    late = Hearing()
    sink.catch_up(late)
    assert late.heard == [last, ("endpoints", "empty", ())]


def test_a_single_process_tells_its_own_discovery() -> None:
    """Before anybody follows the name, too."""
    discovery = Discovery()
    sink: EndpointSink = OwnEndpoints(discovery)
    sink.tell("web", EndpointSet({A: 3.0}))
    assert discovery.known(Source("name", "web")) == EndpointSet({A: 3.0})


addresses = st.sampled_from(["10.0.0.1:80", "[::1]:81", "web.shop:82", "unix:/run/x"]).map(parse_address)


ways = st.sampled_from([None, False, True])


@given(st.dictionaries(addresses, st.tuples(st.floats(0, 1e6), st.sampled_from(["", "a", "b c"]), ways)))
def test_a_message_loses_nothing_of_a_set(drawn: dict[Address, tuple[float, str, bool | None]]) -> None:
    """Its order included."""
    weights = {address: weight for address, (weight, _, _) in drawn.items()}
    zones = {address: zone for address, (_, zone, _) in drawn.items() if zone}
    tls = {address: is_tls for address, (_, _, is_tls) in drawn.items() if is_tls is not None}
    found = EndpointSet(weights, zones, tls)
    again = EndpointSet.of(found.listed())
    assert again == found
    assert list(again.weights) == list(weights)
