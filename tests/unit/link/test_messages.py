"""The messages between a sidecar and a control plane: what is written is read again, and nonsense is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.link.fields import MessageError
from sidecar.link.messages import (
    Absent,
    Ask,
    Config,
    Current,
    EndpointEntry,
    Endpoints,
    Left,
    Line,
    Move,
    Ping,
    Renew,
    Watch,
    apply_endpoints,
    endpoints_version,
    read_line,
    read_watch,
    write_line,
)
from sidecar.link.report import (
    LATENCY_BOUNDS_S,
    Carried,
    Edge,
    Port,
    Refused,
    RefusedProblem,
    Report,
    Running,
    read_report,
    write_report,
)

ONE, TWO = EndpointEntry("10.0.0.1:15000"), EndpointEntry("10.0.0.2:15000", 2.5, "a", True)
LINES: list[Line] = [
    Config(7, "ab" * 16, "service: x\n# ü\n"),
    Current(8, "cd" * 16),
    Absent("the mesh has no service `x`"),
    Endpoints("recommendations.beta", endpoints_version([ONE, TWO]), "", (ONE, TWO)),
    Endpoints("recommendations", "0" * 16, "1" * 16, (), ("10.0.0.1:15000",)),
    Ping(9),
    Left(),
    Move(),
    Renew(120.0),
]
EDGE = Edge(
    "outbound", "catalog", "catalog", 3, {"UH": 1}, {"2xx": 2, "5xx": 1}, (1,) * (len(LATENCY_BOUNDS_S) + 1), 5, 6,
    "me", tcp=Carried(4, 1, 70, 80),
)  # fmt: skip
REPORT = Report(
    "storefront", "storefront-1", 4, "v1", "a", "0.9", 1, "10.0.0.5", 1.0, {"http": Port("10.0.0.5:15000")}, "healthy",
    False, Running("ab", 7, 12.5, "pushed"), Refused("cd", 8, (RefusedProblem(3, 4, "outbound", "no", "yes"),), True),
    {"catalog": "12"}, (EDGE,),
)  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: type(line).__name__)
def test_a_line_is_read_as_it_was_written(line: Line) -> None:
    """What one side says, the other hears; a line has one end, whatever its values hold."""
    written = write_line(line)
    assert written.count(b"\n") == 1
    assert read_line(written) == line


def test_a_question_keeps_all_that_it_asks() -> None:
    """The body of an `ask` is for whoever knows its kind."""
    line = read_line(write_line(Ask("1", "explain", {"url": "http://x/"})))
    assert isinstance(line, Ask)
    assert (line.id, line.kind, line.body["url"]) == ("1", "explain", "http://x/")


def test_what_is_not_known_is_not_looked_at() -> None:
    """A later release may say more, in lines of its own and in fields of those that are known."""
    assert read_line(b'{"type":"weather","sun":true}') is None
    assert read_line(b'{"type":"ping","revision":3,"moon":[{}]}') == Ping(3)
    report = json.loads(write_report(REPORT)) | {"moon": 1, "config": {"source": "cache", "hash": "ab"}}
    assert read_report(json.dumps(report).encode()).running == Running("ab", 0, 0.0, "pushed")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "expected JSON"),
        (b"[]", "expected an object, found []"),
        (b"\xff", "expected JSON"),
        (b"{}", "type: the field is missing"),
        (b'{"type":"ping"}', "revision: the field is missing"),
        (b'{"type":"ping","revision":-1}', "revision: expected an integer from 0 to 2^53, found -1"),
        (b'{"type":"ping","revision":true}', "revision: expected an integer from 0 to 2^53, found true"),
        (b'{"type":"config","revision":1,"hash":"a","file":7}', "file: expected a string"),
        (b'{"type":"endpoints","upstream":"x","version":"y","added":[3]}', "added[0]: expected an object, found 3"),
        (b'{"type":"endpoints","upstream":"x","version":"y","added":[{"address":"a:1","weight":NaN}]}',
         "added[0].weight: expected a number that is not negative"),
        (b'{"type":"endpoints","upstream":"x","version":"y","removed":"z"}', "removed: expected a list"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_its_place(raw: bytes, said: str) -> None:
    """The error names the field, what was expected and what was found."""
    with pytest.raises(MessageError) as caught:
        read_line(raw)
    assert str(caught.value).startswith(said)


def test_a_report_is_read_as_it_was_written() -> None:
    """Everything of it."""
    assert read_report(write_report(REPORT)) == REPORT
    assert read_report(write_report(replace(REPORT, refused=None, edges=()))) == replace(REPORT, refused=None, edges=())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"direction": 7}, "direction: expected a string of at most 1024 characters, found 7"),
        ({"upstream": "u" * 1025}, "upstream: expected a string of at most 1024 characters"),
        ({"from": []}, "from: expected a string"),
        ({"requests": -1}, "requests: expected an integer from 0 to 2^53, found -1"),
        ({"requests": True}, "requests: expected an integer from 0 to 2^53, found true"),
        ({"request_bytes": 1.0}, "request_bytes: expected an integer"),
        ({"response_bytes": (1 << 53) + 1}, "response_bytes: expected an integer"),
        ({"statuses": {"2xx": -1}}, "statuses.2xx: expected an integer"),
        ({"failures": {"f" * 1025: 1}}, "failures: expected names of at most 1024 characters"),
        ({"failures": {str(n): 1 for n in range(201)}}, "failures: expected at most 200 entries, found 201"),
    ],
)
def test_an_edge_that_is_wrong_is_refused_with_its_place(change: dict[str, object], said: str) -> None:
    """Most are read as they came, all in one; what is not as it should be is found nevertheless."""
    report = json.loads(write_report(REPORT))
    report["edges"] = [report["edges"][0], report["edges"][0] | change]
    with pytest.raises(MessageError) as caught:
        read_report(json.dumps(report).encode())
    assert str(caught.value).startswith(f"edges[1].{said}")


def test_what_an_edge_does_not_say_is_as_if_nothing_was_counted() -> None:
    """A release before a field was there; integers as large as all JSON readers agree on are read."""
    report = json.loads(write_report(REPORT))
    report["edges"] = [{"upstream": "u", "requests": 1 << 53, "statuses": None}, {"failures": {}, "from": None}]
    assert read_report(json.dumps(report).encode()).edges == (
        Edge("outbound", "u", "", 1 << 53),
        Edge("outbound", "", "", 0),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"service": None}, "service: the field is missing"),
        ({"health": "great"}, "health: expected starting or healthy or unhealthy"),
        ({"ports": {"http": None}}, "http.address: the field is missing"),
        ({"ports": {str(n): {"address": "a:1"} for n in range(65)}}, "ports: expected at most 64 entries, found 65"),
        ({"edges": [{"latency": [-1]}]}, "edges[0].latency[0]: expected an integer"),
        ({"edges": [{"failures": {"UH": "x"}}]}, "edges[0].failures.UH: expected an integer"),
        ({"version": "v" * 2000}, "version: expected a string of at most 1024 characters"),
    ],
)
def test_a_report_that_is_wrong_is_refused_with_its_place(change: dict[str, object], said: str) -> None:
    """The whole report: half of one would be counted as if the rest were nothing."""
    with pytest.raises(MessageError) as caught:
        read_report(json.dumps(json.loads(write_report(REPORT)) | change).encode())
    assert str(caught.value).startswith(said)


def test_latencies_by_other_bounds_are_left_out() -> None:
    """A sidecar of another release is not refused for them."""
    report = json.loads(write_report(REPORT))
    report["edges"][0]["latency"] = [1] * 25
    assert read_report(json.dumps(report).encode()).edges == (EDGE._replace(latency=()),)


def test_a_watch_is_read_as_it_was_asked() -> None:
    """An upstream's name may have a colon and a dot."""
    watch = Watch("s", "i", "v", "z", 1, "r", "ab", {"a.b": "12", "c:9090": "34"})
    assert read_watch(watch.to_query()) == watch
    assert read_watch({"service": "s", "instance": "i", "unknown": "x"}) == Watch("s", "i")
    for query, said in [
        ({"instance": "i"}, "service: the field is missing"),
        ({"service": "", "instance": "i"}, "service: expected a name, found nothing"),
        ({"service": "s", "instance": "i", "language": "two"}, "language: expected a number"),
        ({"service": "s", "instance": "i", "endpoints": "x"}, "endpoints: expected at most"),
    ]:
        with pytest.raises(MessageError) as caught:
            read_watch(query)
        assert str(caught.value).startswith(said)


_entries = st.dictionaries(
    st.sampled_from([f"10.0.0.{number}:80" for number in range(6)]),
    st.tuples(st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from(["", "a", "b"]), st.booleans()),
).map(lambda found: {address: EndpointEntry(address, *values) for address, values in found.items()})


@given(_entries, _entries)
def test_a_change_of_endpoints_leads_from_one_set_to_the_other(
    before: dict[str, EndpointEntry], after: dict[str, EndpointEntry]
) -> None:
    """The difference applied to the old set is the new one; applied to any other it is noticed."""
    added = tuple(entry for address, entry in after.items() if before.get(address) != entry)
    removed = tuple(address for address in before if address not in after)
    version = endpoints_version(after.values())
    change = Endpoints("x", version, endpoints_version(before.values()), added, removed)
    assert apply_endpoints(before, change) == after
    assert apply_endpoints(before | {"10.9.9.9:1": EndpointEntry("10.9.9.9:1")}, change) is None
    assert apply_endpoints({}, Endpoints("x", version, "", tuple(after.values()))) == after


@given(st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner:
       st.lists(inner) | st.dictionaries(st.sampled_from(
           ["type", "service", "instance", "edges", "ports", "config", "refused", "x"]), inner)).map(
    lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_octets_do_more_than_be_refused(raw: bytes) -> None:
    """Whatever a peer sends is a message or a `MessageError`."""
    for read in (read_line, read_report):
        try:
            read(raw)
        except MessageError:
            continue
