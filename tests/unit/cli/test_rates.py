"""What happened between two scrapes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli.rates import Interval, between, quantile, read

INF = math.inf


def requests(direction: str, route: str, upstream: str, code: int, value: float) -> str:
    labels = f'direction="{direction}",route="{route}",upstream="{upstream}",code="{code}",flag="-"'
    return f"sidecar_requests_total{{{labels}}} {value}\n"


def calls(counts_as: int, grpc_status: str, value: float, code: int = 200, flag: str = "-") -> str:
    labels = f'code="{code}",counts_as="{counts_as}",direction="inbound",flag="{flag}",grpc_status="{grpc_status}"'
    return f'sidecar_grpc_requests_total{{{labels},route="app",upstream="app"}} {value}\n'


def durations(side: str, route: str, counts: dict[str, int], more: str = "") -> str:
    labels = f'http_request_method="GET",http_response_status_code="200",http_route="{route}"{more}'
    lines = [
        f'http_{side}_request_duration_seconds_bucket{{{labels},le="{le}"}} {count}\n' for le, count in counts.items()
    ]
    return "".join(lines)


def interval(earlier: str, later: str, seconds: float = 2.0) -> Interval:
    return between(read(earlier, 10.0), read(later, 10.0 + seconds))


class TestQuantile:
    """`quantile`: https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile"""

    @pytest.mark.parametrize(
        ("share", "buckets", "expected"),
        [
            (0.5, [(1.0, 10), (2.0, 10), (INF, 10)], 0.5),
            (1.0, [(1.0, 10), (INF, 10)], 1.0),
            (0.9, [(1.0, 50), (2.0, 100), (INF, 100)], 1.8),
            (0.99, [(1.0, 50), (2.0, 90), (INF, 100)], 2.0),
            (0.5, [(1.0, 0), (2.0, 0), (4.0, 8), (INF, 8)], 3.0),
            (0.0, [(1.0, 0), (2.0, 4), (INF, 4)], 0.0),
        ],
    )
    def test_is_linear_within_the_bucket(
        self, share: float, buckets: list[tuple[float, float]], expected: float
    ) -> None:
        """From 0 in the first, and never above the highest finite bound."""
        assert quantile(share, buckets) == pytest.approx(expected)

    @pytest.mark.parametrize("buckets", [[], [(INF, 3)], [(1.0, 0), (INF, 0)], [(1.0, 2), (2.0, 2)]])
    def test_is_not_a_number_without_observations_or_bounds(self, buckets: list[tuple[float, float]]) -> None:
        """As Prometheus says it."""
        assert math.isnan(quantile(0.5, buckets))

    @given(st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any), st.floats(0, 1))
    def test_lies_in_the_bucket_of_its_rank(self, counts: list[int], share: float) -> None:
        """Against the observations themselves, put at their buckets' ends."""
        bounds = [float(index + 1) for index in range(len(counts) - 1)] + [INF]
        cumulative = [sum(counts[: index + 1]) for index in range(len(counts))]
        value = quantile(share, zip(bounds, cumulative, strict=True))
        rank = share * cumulative[-1]
        index = next(index for index, count in enumerate(cumulative) if count >= rank)
        if math.isinf(bounds[index]):
            assert value == bounds[-2]
        else:
            assert (bounds[index - 1] if index else 0.0) <= value <= bounds[index]


class TestBetween:
    """`between`: two scrapes."""

    def test_counts_by_direction_route_and_upstream(self) -> None:
        """Failed from 500, refused from 400, 499 is a client that left."""
        later = (
            requests("outbound", "canary", "v1", 200, 100)
            + requests("outbound", "canary", "beta", 200, 8)
            + requests("outbound", "canary", "beta", 503, 2)
            + requests("outbound", "", "", 404, 5)
            + requests("inbound", "app", "app", 499, 1)
        )
        found = interval(requests("outbound", "canary", "v1", 200, 40), later)
        assert found.seconds == 2.0
        assert {key: flow.requests for key, flow in found.upstreams.items()} == {
            ("outbound", "canary", "v1"): 60, ("outbound", "canary", "beta"): 10, ("outbound", "", ""): 5,
            ("inbound", "app", "app"): 1,
        }  # fmt: skip
        assert found.upstreams["outbound", "canary", "beta"].success == pytest.approx(0.8)
        assert found.routes["outbound", "canary"].success == pytest.approx(1 - 2 / 70)
        assert found.totals["outbound"].requests == 75
        assert (found.routes["outbound", ""].refused, found.routes["outbound", ""].success) == (5, 1.0)
        assert (found.totals["inbound"].left, found.totals["inbound"].refused) == (1, 0)

    def test_calls_count_as_what_stands_for_how_they_ended(self) -> None:
        """Failed, refused, left; once, also where the status of HTTP said so already; and they are told by name."""
        earlier = requests("inbound", "app", "app", 200, 5) + calls(503, "UNAVAILABLE", 5)
        later = requests("inbound", "app", "app", 200, 25) + requests("inbound", "app", "app", 503, 5)
        later += calls(200, "OK", 7) + calls(503, "UNAVAILABLE", 9) + calls(404, "NOT_FOUND", 3)
        later += calls(499, "CANCELLED", 2) + calls(503, "UNAVAILABLE", 5, code=503)
        found = interval(earlier, later)
        for flow in (
            found.totals["inbound"], found.routes["inbound", "app"], found.upstreams["inbound", "app", "app"]
        ):  # fmt: skip
            assert (flow.requests, flow.failed, flow.refused, flow.left) == (25, 9, 3, 2)
            assert flow.success == pytest.approx(1 - 9 / 25)
            assert flow.calls == {"OK": 7, "UNAVAILABLE": 9, "NOT_FOUND": 3, "CANCELLED": 2}

    def test_a_call_that_ends_while_the_scrape_is_written_is_no_less_than_no_success(self) -> None:
        """Its line may be of a later instant than that of all requests."""
        flow = interval("", requests("inbound", "app", "app", 200, 1) + calls(503, "UNAVAILABLE", 2)).totals["inbound"]
        assert flow.success == 0

    def test_without_requests_nothing_is_known(self) -> None:
        """No rate of success and no latency, rather than a wrong one."""
        same = requests("inbound", "app", "app", 200, 9) + durations("server", "app", {"1.0": 9, "+Inf": 9})
        flow = interval(same, same).routes["inbound", "app"]
        assert (flow.requests, flow.success, flow.quantile(0.5)) == (0, None, None)

    def test_a_counter_that_went_back_began_anew(self) -> None:
        """The sidecar was restarted between the scrapes."""
        found = interval(requests("inbound", "app", "app", 200, 900), requests("inbound", "app", "app", 200, 30))
        assert found.totals["inbound"].requests == 30

    def test_latency_is_of_the_interval_only(self) -> None:
        """What was before does not count; methods and codes are added up."""
        earlier = durations("server", "app", {"0.1": 1000, "1.0": 1000, "+Inf": 1000})
        later = durations("server", "app", {"0.1": 1000, "1.0": 1010, "+Inf": 1010})
        later += durations("server", "app", {"0.1": 0, "1.0": 10, "+Inf": 10}, ',error_type="500"')
        assert interval(earlier, later).routes["inbound", "app"].quantile(0.5) == pytest.approx(0.55)

    def test_a_route_with_one_upstream_lends_it_its_latency(self) -> None:
        """Where the histogram does not tell upstreams apart; of two none is guessed."""
        later = durations("client", "one", {"1.0": 4, "+Inf": 4}) + durations("client", "two", {"1.0": 4, "+Inf": 4})
        later += requests("outbound", "one", "a", 200, 4)
        later += requests("outbound", "two", "a", 200, 2) + requests("outbound", "two", "b", 200, 2)
        found = interval("", later)
        assert found.upstreams["outbound", "one", "a"].quantile(0.5) == 0.5
        assert found.upstreams["outbound", "two", "a"].quantile(0.5) is None
        assert found.routes["outbound", "two"].quantile(0.5) == 0.5

    def test_latency_is_that_of_the_route_and_not_of_its_template(self) -> None:
        """By the label `route` of the histogram, where there is one; two routes may share a template."""
        later = durations("client", "/orders/{id}", {"1.0": 4, "2.0": 4, "+Inf": 4}, ',route="one"')
        later += durations("client", "/orders/{id}", {"1.0": 0, "2.0": 4, "+Inf": 4}, ',route="two"')
        found = interval("", later)
        assert found.routes["outbound", "one"].quantile(0.5) == 0.5
        assert found.routes["outbound", "two"].quantile(0.5) == 1.5

    def test_latency_by_upstream_is_read_where_it_is_told(self) -> None:
        """By the label `upstream` of the histogram."""
        later = durations("client", "two", {"1.0": 4, "2.0": 4, "+Inf": 4}, ',upstream="a"')
        later += durations("client", "two", {"1.0": 0, "2.0": 4, "+Inf": 4}, ',upstream="b"')
        later += requests("outbound", "two", "a", 200, 4) + requests("outbound", "two", "b", 200, 4)
        found = interval("", later)
        assert found.upstreams["outbound", "two", "a"].quantile(0.5) == 0.5
        assert found.upstreams["outbound", "two", "b"].quantile(0.5) == 1.5

    def test_losses_and_overhead_are_of_the_interval(self) -> None:
        """Counters of what telemetry lost, and what the proxy added."""
        earlier = 'sidecar_spans_dropped_total{reason="queue_full"} 5\n'
        later = 'sidecar_spans_dropped_total{reason="queue_full"} 9\nsidecar_log_lines_dropped_total{reason="x"} 1\n'
        later += 'sidecar_overhead_seconds_bucket{direction="inbound",le="0.001"} 2\n'
        later += 'sidecar_overhead_seconds_bucket{direction="inbound",le="+Inf"} 2\n'
        found = interval(earlier, later)
        assert found.losses == {"sidecar_spans_dropped_total": 4, "sidecar_log_lines_dropped_total": 1}
        assert found.overhead.quantile(0.5) == 0.0005

    def test_metrics_that_are_not_shown_are_not_parsed(self) -> None:
        """Thousands of lines of others cost nothing, whatever is in them."""
        assert (
            read("other_total{ 5\n" + requests("inbound", "a", "a", 200, 1), 0.0).total("sidecar_requests_total") == 1
        )
