"""
A real Prometheus scrapes a real sidecar, and the dashboard, the rules and `sidecar top` find what they ask for.

Each query of `config/examples/grafana/sidecar.json` and each recording rule must answer with data; the alerts are
tested by promtool with the cases beside them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.cli.rates import quantile, read
from tests.support.origin import Origin
from tests.support.peers import require
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.prometheus import Prometheus, as_grafana_sends, check_layout, panels, rules_of, running_prometheus
from tests.support.wait import eventually, free_port
from tests.unit.telemetry.collector import Collector

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "examples"
RULES = EXAMPLES / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((EXAMPLES / "grafana" / "sidecar.json").read_text())

CONFIG = """
    service: {{name: storefront, version: "1.4"}}
    inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{v1}"}}
    outbound:
      listen: "127.0.0.1:${{OUTBOUND_PORT}}"
      routes:
        - {{name: canary, match: {{host: shop, path: {{prefix: /canary}}}}, to: {{shop: 1, shop-beta: 1}}}}
        - {{name: measured, match: {{host: shop, path: /measured}}, to: shop}}
        - {{name: fixed, match: {{host: shop, path: /fixed}}, respond: {{status: {fixed}}}}}
    upstreams:
      shop: {{endpoints: ["127.0.0.1:{v1}"]}}
      shop-beta: {{dns: "localhost:{beta}"}}
      fresh: {{endpoints: ["127.0.0.1:{v1}"], idle_timeout: 1ms}}
      down: {{endpoints: ["127.0.0.1:{closed}"]}}
    admin: {{listen: "127.0.0.1:${{ADMIN_PORT}}"}}
    telemetry:
      metrics: {{listen: "127.0.0.1:${{METRICS_PORT}}"}}
      traces: {{otlp_endpoint: "{collector}"}}
      access_log: {{path: "{log}"}}
"""


class World:
    """A sidecar with something to do, and the Prometheus that scrapes it."""

    def __init__(self, sidecar: SidecarProcess, prometheus: Prometheus) -> None:
        self.sidecar = sidecar
        self.prometheus = prometheus
        self.get = prometheus.get
        self.query = prometheus.query
        self.has_data = prometheus.has_data
        self.wait_for_data = prometheus.wait_for_data


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Requests of every kind go on while the tests ask, and reloads."""
    directory = tmp_path_factory.mktemp("prometheus")
    with contextlib.ExitStack() as stack:
        v1, beta, collector = (stack.enter_context(one) for one in (Origin("v1"), Origin("beta"), Collector()))
        values = {
            "v1": v1.port, "beta": beta.port, "closed": free_port(), "collector": collector.url,
            "log": directory / "access.log",
        }  # fmt: skip
        text = CONFIG.format(**values, fixed=200)
        sidecar = stack.enter_context(running_sidecar(directory / "sidecar", text))
        rules = [RULES / "recording.yml", RULES / "alerts.yml"]
        prometheus = stack.enter_context(running_prometheus(directory, rules, {"sidecar": sidecar.metrics_port}))
        stack.enter_context(_load(sidecar, (text, CONFIG.format(**values, fixed=404))))
        yield World(sidecar, prometheus)


@contextlib.contextmanager
def _load(sidecar: SidecarProcess, files: tuple[str, str]) -> Iterator[None]:
    """A few dozen requests a second, good, refused and failing, in both directions; and now and then another file."""
    stop = threading.Event()

    def run() -> None:
        for turn in itertools.count(1):
            if stop.wait(0.05):
                return
            if turn % 100 == 0:
                sidecar.rewrite(files[turn // 100 % 2])
            sidecar.inbound("/items", method="POST", body=b"x" * 100)
            for _ in range(3):
                sidecar.outbound("/canary", host="shop")
            sidecar.outbound("/fixed", host="shop")
            sidecar.outbound("/", host="fresh")
            sidecar.outbound("/", host="down")
            sidecar.outbound("/", host="nowhere")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.parametrize(("title", "expression"), [pytest.param(*panel, id=panel[0]) for panel in panels(DASHBOARD)])
def test_every_query_of_the_dashboard_answers_with_data(world: World, title: str, expression: str) -> None:
    """No panel is empty over a sidecar that has something to do, a canary, a failure and a reload."""
    world.wait_for_data(as_grafana_sends(DASHBOARD, expression))


@pytest.mark.parametrize("name", [one["name"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"])
def test_every_variable_of_the_dashboard_has_values(world: World, name: str) -> None:
    """What can be chosen is what is there."""
    variable = next(one for one in DASHBOARD["templating"]["list"] if one["name"] == name)
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found is not None
    query, label = as_grafana_sends(DASHBOARD, found[1]), found[2]
    wanted = {
        "job": {"sidecar"}, "instance": {f"127.0.0.1:{world.sidecar.metrics_port}"},
        "route": {"app", "canary", "fixed", "down"}, "upstream": {"app", "shop", "shop-beta", "down"},
    }[name]  # fmt: skip
    eventually(lambda: wanted <= set(world.get(f"label/{label}/values", **{"match[]": query})), f"{wanted}", 30)


@pytest.mark.parametrize("name", [rule["record"] for rule in rules_of(RULES / "recording.yml")])
def test_every_recording_rule_records(world: World, name: str) -> None:
    """Evaluated by Prometheus, not by us."""
    world.wait_for_data(name)


def test_every_rule_is_healthy(world: World) -> None:
    """No evaluation ends in an error, and all rules of both files are there."""

    def rules() -> list[dict[str, Any]]:
        return [rule for group in world.get("rules")["groups"] for rule in group["rules"]]

    eventually(lambda: all(rule["health"] == "ok" for rule in rules()), "all rules to be evaluated", 30)
    names = {rule["name"] for rule in rules()}
    assert names == {
        rule.get("record") or rule["alert"]
        for name in ("recording.yml", "alerts.yml")
        for rule in rules_of(RULES / name)
    }


def test_prometheus_scrapes_without_complaint(world: World) -> None:
    """Its target is up, with all samples that a scrape has; it speaks OpenMetrics where it may choose."""
    (target,) = world.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert world.has_data("scrape_samples_post_metric_relabeling > 100")


def test_counters_in_prometheus_are_those_of_the_sidecar(world: World) -> None:
    """What was scraped is what was said; also through OpenMetrics, which Prometheus prefers."""
    before = world.sidecar.metric("sidecar_requests_total", route="canary")
    expression = 'sum(sidecar_requests_total{route="canary"})'
    value = eventually(
        lambda: next(
            (float(one["value"][1]) for one in world.query(expression) if float(one["value"][1]) >= before), 0
        ),
        "the next scrape",
    )
    assert before <= value <= world.sidecar.metric("sidecar_requests_total", route="canary")


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
def test_top_computes_quantiles_as_prometheus_does(world: World, share: float) -> None:
    """The same histogram, asked of both."""
    count = int(world.sidecar.metric("http_client_request_duration_seconds_count", http_route="measured"))
    for _ in range(15):
        assert world.sidecar.outbound("/measured", host="shop").status == 200
    selector = '{http_route="measured"}'
    seen = f"sum(http_client_request_duration_seconds_count{selector}) == {count + 15}"
    eventually(lambda: world.has_data(seen), "the requests to be scraped", 30)
    (series,) = world.query(
        f"histogram_quantile({share}, sum by (le) (http_client_request_duration_seconds_bucket{selector}))"
    )
    samples = read(world.sidecar.metrics().text, 0).samples["http_client_request_duration_seconds_bucket"]
    buckets: dict[float, float] = {}
    for labels, value in samples.items():
        if dict(labels)["http_route"] == "measured":
            bound = float(dict(labels)["le"])
            buckets[bound] = buckets.get(bound, 0) + value
    assert quantile(share, buckets.items()) == pytest.approx(float(series["value"][1]), rel=1e-9)


class TestPromtool:
    """promtool, on what is real."""

    def test_finds_nothing_to_say_about_the_metrics(self, world: World) -> None:
        """`promtool check metrics` on a scrape of a sidecar under load."""
        text = world.sidecar.metrics().body
        found = subprocess.run([require("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=60)
        assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")

    def test_accepts_the_rules(self) -> None:
        """`promtool check rules`, lint included."""
        files = [RULES / "recording.yml", RULES / "alerts.yml"]
        command = [require("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *files]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert found.returncode == 0, found.stdout + found.stderr

    def test_finds_every_alert_fire_and_keep_quiet(self) -> None:
        """`promtool test rules`; every alert has a case of both kinds."""
        path = RULES / "alerts_test.yml"
        found = subprocess.run([require("promtool"), "test", "rules", path], capture_output=True, text=True, timeout=60)
        assert found.returncode == 0, found.stdout + found.stderr
        cases = [case for test in yaml.safe_load(path.read_text())["tests"] for case in test["alert_rule_test"]]
        alerts = {rule["alert"] for rule in rules_of(RULES / "alerts.yml")}
        assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
        assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


class TestFiles:
    """The files without a Prometheus."""

    def test_every_query_names_metrics_that_there_are(self) -> None:
        """Of the catalogue, of the recording rules, or of the process."""
        from sidecar.telemetry.metrics.catalogue import METRICS

        known = {metric.name for metric in METRICS} | {rule["record"] for rule in rules_of(RULES / "recording.yml")}
        known |= {
            "up",
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
        }
        queries = [expression for _, expression in panels(DASHBOARD)]
        queries += [rule["expr"] for name in ("recording.yml", "alerts.yml") for rule in rules_of(RULES / name)]
        for query in queries:
            bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\b(?:by|on|ignoring|group_left) \([^)]*\)|\[[^\]]*\]", "", query)
            names = set(re.findall(r"[a-z_][a-z0-9_]*(?::[a-z0-9_:]+)*(?!\w|\()", bare)) - {"or", "and", "unless", "by"}
            names -= {"sum", "min", "max", "count", "group_left", "on", "s"}
            for name in names:
                assert re.sub(r"_(bucket|sum|count)$", "", name) in known or name in known, (name, query)

    def test_panels_are_laid_out_without_overlap(self) -> None:
        """24 columns, no place taken twice, ids unique."""
        check_layout(DASHBOARD)

    def test_provisioning_names_one_data_source_and_a_folder(self) -> None:
        """Parsed as Grafana would."""
        folder = EXAMPLES / "grafana" / "provisioning"
        (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
        (provider,) = yaml.safe_load((folder / "dashboards" / "sidecar.yml").read_text())["providers"]
        assert (source["type"], provider["type"]) == ("prometheus", "file")
        assert provider["options"]["path"].startswith("/")
