"""What a reload took away is forgotten, but not at once; what stays goes on counting."""

from __future__ import annotations

import pytest

from sidecar import clock
from sidecar.exchange import Direction
from sidecar.telemetry.scope import Scope
from sidecar.telemetry.scopes import GRACE_NS
from sidecar.upstream.stats import ClusterStats
from tests.unit.telemetry.cases import Told, over, request

OUT = Direction.OUTBOUND


class Time:
    """The clock, held."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def pass_ns(self, span_ns: int) -> None:
        self.now_ns += span_ns


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """A clock that stands still."""
    held = Time()
    monkeypatch.setattr(clock, "monotonic_ns", held)
    return held


def stats() -> ClusterStats:
    """Its counters."""
    found = ClusterStats()
    found.requests = 5
    return found


class Cluster:
    """An upstream of which only the name matters."""

    endpoints = ()
    stats = stats()

    def __init__(self, name: str) -> None:
        self.name = name


def routes(telemetry: Told) -> set[str]:
    """Routes that the exposition names, anywhere."""
    return {
        part.partition('"')[2].rstrip('"')
        for name in telemetry.samples()
        for part in name.replace("}", ",").split(",")
        if part.startswith(("route=", "http_route="))
    } - {""}


def load(telemetry: Told, *names: str, is_good: bool = True) -> list[Scope]:
    """Compile a plan with these routes, and put it in force or refuse it."""
    scopes = [telemetry.scope(OUT, name, f"to-{name}", "h") for name in names]
    if is_good:
        telemetry.config_applied("hash", is_reload=True)
    else:
        telemetry.config_refused()
    return scopes


def record(telemetry: Told, scope: Scope) -> None:
    """One exchange there."""
    telemetry.record(over(request(), scope=scope, direction=OUT, endpoint="1.1.1.1:1"))


def test_series_of_a_removed_route_go_after_the_grace_period(time: Time) -> None:
    """Not before, and those of routes that stay never."""
    telemetry = Told()
    for scope in load(telemetry, "stays", "goes"):
        record(telemetry, scope)
    load(telemetry, "stays")
    time.pass_ns(GRACE_NS - 1)
    assert routes(telemetry) == {"stays", "goes"}
    time.pass_ns(1)
    assert routes(telemetry) == {"stays"}
    time.pass_ns(100 * GRACE_NS)
    assert routes(telemetry) == {"stays"}


def test_a_route_that_comes_back_in_time_goes_on_counting(time: Time) -> None:
    """As if it had never been away; later it begins anew."""
    telemetry = Told()
    series = 'sidecar_requests_total{code="200",direction="outbound",flag="-",route="a",upstream="to-a"}'
    (scope,) = load(telemetry, "a")
    record(telemetry, scope)
    load(telemetry)
    time.pass_ns(GRACE_NS - 1)
    (again,) = load(telemetry, "a")
    time.pass_ns(2 * GRACE_NS)
    assert again is scope
    record(telemetry, again)
    assert telemetry.samples()[series] == 2
    load(telemetry)
    time.pass_ns(GRACE_NS)
    assert series not in telemetry.samples()
    (new,) = load(telemetry, "a")
    record(telemetry, new)
    assert telemetry.samples()[series] == 1


def test_scopes_of_a_refused_file_go_and_the_live_ones_stay(time: Time) -> None:
    """However often a bad file is read."""
    telemetry = Told()
    (live,) = load(telemetry, "live")
    record(telemetry, live)
    for number in range(5):
        load(telemetry, "live", f"refused-{number}", is_good=False)
    assert len(telemetry._scopes) == 2 + 1 + 5
    time.pass_ns(GRACE_NS)
    assert routes(telemetry) == {"live"}
    assert len(telemetry._scopes) == 2 + 1


def test_scopes_go_even_where_nobody_scrapes(time: Time) -> None:
    """Binding new ones makes room for them."""
    telemetry = Told()
    for number in range(100):
        load(telemetry, f"route-{number}-a", f"route-{number}-b")
        time.pass_ns(GRACE_NS // 2)
    assert len(telemetry._scopes) < 12


def test_series_that_a_living_scope_shares_stay(time: Time) -> None:
    """An upstream whose address changes: its requests are one series, its durations two."""
    telemetry = Told()
    for address in ("here", "there"):
        record(telemetry, telemetry.scope(OUT, "route", "moved", address))
    telemetry.config_applied("1", is_reload=False)
    telemetry.scope(OUT, "route", "moved", "here")
    telemetry.config_applied("2", is_reload=True)
    time.pass_ns(GRACE_NS)
    samples = telemetry.samples()
    assert [value for name, value in samples.items() if name.startswith("sidecar_requests_total")] == [2]
    durations = [name for name in samples if name.startswith("http_client_request_duration_seconds_count")]
    assert len(durations) == 1
    assert 'server_address="here"' in durations[0]


def test_an_exchange_that_outlives_its_route_is_told_all_the_same(time: Time) -> None:
    """It brings its series back for another grace period; nothing is left after that."""
    telemetry = Told()
    (scope,) = load(telemetry, "old")
    record(telemetry, scope)
    load(telemetry, "new")
    time.pass_ns(GRACE_NS)
    assert routes(telemetry) == set()
    record(telemetry, scope)
    assert routes(telemetry) == {"old"}
    time.pass_ns(GRACE_NS)
    assert routes(telemetry) == set()
    assert len(telemetry._scopes) == 2 + 1


def test_the_old_scope_of_a_route_that_was_made_anew_leaves_the_new_one_its_series(time: Time) -> None:
    """Both count in the same series; when the old one goes, it stays."""
    telemetry = Told()
    (old,) = load(telemetry, "a")
    load(telemetry)
    time.pass_ns(GRACE_NS)
    telemetry.exposition()
    (new,) = load(telemetry, "a")
    assert new is not old
    record(telemetry, new)
    record(telemetry, old)
    time.pass_ns(GRACE_NS)
    series = 'sidecar_requests_total{code="200",direction="outbound",flag="-",route="a",upstream="to-a"}'
    assert telemetry.samples()[series] == 2
    record(telemetry, new)
    assert telemetry.samples()[series] == 3


def test_a_route_whose_template_changes_goes_on_counting(time: Time) -> None:
    """Under its name; only what is told by the template begins anew."""
    telemetry = Told()
    scopes = [telemetry.scope(OUT, "r", "u", "h", template) for template in ("/a/{b}", "/a/{c}")]
    for scope in scopes:
        record(telemetry, scope)
    assert scopes[0] is not scopes[1]
    samples = telemetry.samples()
    assert [value for name, value in samples.items() if name.startswith("sidecar_requests_total")] == [2]
    durations = {
        name: value for name, value in samples.items() if name.startswith("http_client_request_duration_seconds_count")
    }
    assert sorted(durations.values()) == [1, 1]


def test_what_reached_no_route_is_never_forgotten(time: Time) -> None:
    """Every plan has it."""
    telemetry = Told()
    telemetry.record(over(request(), status=404))
    load(telemetry)
    time.pass_ns(2 * GRACE_NS)
    samples = telemetry.samples()
    assert samples['sidecar_requests_total{code="404",direction="inbound",flag="-",route="",upstream=""}'] == 1


def test_a_removed_upstream_is_shown_for_the_grace_period(time: Time) -> None:
    """With its last values, and its connect times; then it is gone, and so is what was dialled for it."""
    upstreams = [Cluster("stays"), Cluster("goes")]
    telemetry = Told(clusters=lambda: upstreams)
    telemetry.config_applied("1", is_reload=False)
    for cluster in upstreams:
        telemetry.connected(cluster.name, 1)
    del upstreams[1]
    telemetry.config_applied("2", is_reload=True)
    time.pass_ns(GRACE_NS - 1)
    assert telemetry.samples()['sidecar_upstream_requests_total{upstream="goes"}'] == 5
    assert telemetry.samples()['sidecar_upstream_requests_total{upstream="stays"}'] == 5
    time.pass_ns(1)
    assert 'sidecar_upstream_requests_total{upstream="goes"}' not in telemetry.samples()
    telemetry.config_applied("3", is_reload=True)
    left = [name for name in telemetry.samples() if 'upstream="goes"' in name]
    assert left == []
    assert telemetry._upstreams._leaving == {}


def test_an_upstream_that_comes_back_is_shown_once(time: Time) -> None:
    """The new one, not the old one beside it."""
    upstreams = [Cluster("u")]
    telemetry = Told(clusters=lambda: upstreams)
    telemetry.config_applied("1", is_reload=False)
    back = upstreams.pop()
    telemetry.config_applied("2", is_reload=True)
    upstreams.append(back)
    assert telemetry.exposition().count(b'sidecar_upstream_requests_total{upstream="u"}') == 1
    telemetry.config_applied("3", is_reload=True)
    assert telemetry.exposition().count(b'sidecar_upstream_requests_total{upstream="u"}') == 1
    assert telemetry._upstreams._leaving == {}
