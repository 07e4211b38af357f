"""
A real Prometheus scrapes a control plane, a sidecar of its mesh and a webhook, and the mesh's dashboard finds what it
asks for.

Each query of `config/examples/grafana/mesh.json` must answer with data; the alerts are tested by promtool with the
cases beside them.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.control import Control, running_control
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.origin import Origin
from tests.support.peers import require
from tests.support.process import SidecarProcess
from tests.support.prometheus import Prometheus, as_grafana_sends, check_layout, panels, rules_of, running_prometheus
from tests.support.wait import eventually
from tests.support.webhook import configure, of_the_api, running_webhook

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "examples"
ALERTS = EXAMPLES / "prometheus" / "mesh-alerts.yml"
DASHBOARD: dict[str, Any] = json.loads((EXAMPLES / "grafana" / "mesh.json").read_text())
LOCAL = """
    inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app}"}}
    outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
"""


@dataclass(frozen=True)
class Scraped:
    """A Prometheus, and the control plane of the mesh that it scrapes."""

    prometheus: Prometheus
    control: Control


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A control plane of a service that has a sidecar, and a webhook, all scraped by a Prometheus."""
    directory = tmp_path_factory.mktemp("prometheus")
    mesh = {"mesh.yaml": "mesh: shop\n", "catalog.yaml": "service: catalog\napp: 127.0.0.1:8080\n"}
    sidecar = SidecarProcess(directory / "sidecar")
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(Origin("app"))
        control = stack.enter_context(running_control(directory / "control", mesh, "--create-ca"))
        sidecar.rewrite(LOCAL.format(app=app.port))
        stack.callback(sidecar.kill)
        url = f"http://127.0.0.1:{control.port}"
        sidecar.start("--control", url, "--service", "catalog", "--state-dir", "off")
        sidecar.wait_ready()
        api = stack.enter_context(FakeKubernetes())
        configure(api)
        webhook = stack.enter_context(running_webhook(directory, "--config", "c", *of_the_api(directory, api)))
        jobs = {"control": control.ops_port, "sidecar": sidecar.metrics_port, "webhook": webhook.ops_port}
        found = stack.enter_context(running_prometheus(directory, [ALERTS], jobs))
        yield Scraped(found, control)


@pytest.fixture
def prometheus(scraped: Scraped) -> Prometheus:
    """The Prometheus alone."""
    return scraped.prometheus


QUERIES = [pytest.param(*panel, id=panel[0]) for panel in panels(DASHBOARD)]
REVISION = "annotation New revision"


@pytest.mark.parametrize(("title", "expression"), [one for one in QUERIES if one.id != REVISION])
def test_every_query_of_the_dashboard_answers_with_data(prometheus: Prometheus, title: str, expression: str) -> None:
    """No panel is empty over a mesh that is well."""
    prometheus.wait_for_data(as_grafana_sends(DASHBOARD, expression))


def test_a_new_revision_is_an_annotation(scraped: Scraped) -> None:
    """For a minute, where the newest was scraped before; the first one that is scraped is none."""
    [query] = [one for one in QUERIES if one.id == REVISION]
    scraped.prometheus.wait_for_data("sidecar_control_mesh_revision > 0")
    scraped.control.write({"payments.yaml": "service: payments\nendpoints: [10.9.9.9:443]\n"})
    scraped.prometheus.wait_for_data(as_grafana_sends(DASHBOARD, str(query.values[1])))


@pytest.mark.parametrize(("name", "wanted"), [("job", "control"), ("sidecars", "sidecar")])
def test_every_variable_of_the_dashboard_tells_the_two_apart(prometheus: Prometheus, name: str, wanted: str) -> None:
    """Control planes are offered as such, and sidecars as sidecars."""
    variable = next(one for one in DASHBOARD["templating"]["list"] if one["name"] == name)
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found is not None
    query = {"match[]": found[1]}
    eventually(lambda: prometheus.get(f"label/{found[2]}/values", **query) == [wanted], wanted, 30)


def test_every_alert_asks_for_metrics_that_there_are(prometheus: Prometheus) -> None:
    """Whatever name stands in an alert was scraped; and none of them fires over a mesh that is well."""
    eventually(
        lambda: all(rule["health"] == "ok" for group in prometheus.get("rules")["groups"] for rule in group["rules"]),
        "all rules to be evaluated",
    )
    there = set(prometheus.get("label/__name__/values"))
    for rule in rules_of(ALERTS):
        names = set(re.findall(r"\b(?:sidecar_\w+|up)\b", rule["expr"]))
        assert names, rule
        assert names <= there, (rule["alert"], names - there)
    eventually(lambda: prometheus.get("alerts")["alerts"] == [], "no alert, pending ones included")


def test_promtool_accepts_the_rules() -> None:
    """`promtool check rules`, lint included."""
    command = [require("promtool"), "check", "rules", "--lint=all", "--lint-fatal", ALERTS]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr


def test_promtool_finds_every_alert_fire_and_keep_quiet() -> None:
    """`promtool test rules`; every alert has a case of both kinds."""
    path = ALERTS.with_name("mesh-alerts_test.yml")
    found = subprocess.run([require("promtool"), "test", "rules", path], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr
    cases = [case for test in yaml.safe_load(path.read_text())["tests"] for case in test["alert_rule_test"]]
    alerts = {rule["alert"] for rule in rules_of(ALERTS)}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


def test_panels_are_laid_out_without_overlap() -> None:
    """As those of the other dashboard."""
    check_layout(DASHBOARD)
