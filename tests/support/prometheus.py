"""
A real Prometheus as a subprocess, and the queries of a Grafana dashboard as Grafana would send them to it.

    with running_prometheus(directory, [rules], {"sidecar": port}) as prometheus:
        prometheus.wait_for_data("up == 1")
"""

from __future__ import annotations

import contextlib
import http.client
import math
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.support.peers import require
from tests.support.process import request
from tests.support.wait import eventually, free_port

RATE_INTERVAL = "10s"
"""What `$__rate_interval` is at this scrape interval."""


@dataclass(frozen=True)
class Prometheus:
    """The subprocess, by its port."""

    port: int

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of its HTTP API."""
        answer = request(self.port, f"/api/v1/{path}?{urlencode(parameters)}").json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query; a syntax error fails."""
        result: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return result

    def has_data(self, expression: str) -> bool:
        """Whether the answer has a finite value."""
        return any(math.isfinite(float(series["value"][1])) for series in self.query(expression))

    def wait_for_data(self, expression: str) -> None:
        """Wait for data, as long as a few scrapes take."""
        eventually(lambda: self.has_data(expression), f"data for {expression}", 30)


@contextlib.contextmanager
def running_prometheus(directory: Path, rules: Sequence[Path], jobs: Mapping[str, int]) -> Iterator[Prometheus]:
    """
    It is ready, and scrapes every second.

    Args:
        directory: Of its configuration, data and log.
        rules: Files that it evaluates.
        jobs: Names of jobs, each with the port on 127.0.0.1 that it scrapes.
    """
    program = require("prometheus")
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]} for job, target in jobs.items()
        ],
    }
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    command = [program, f"--config.file={path}", f"--storage.tsdb.path={directory / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with open(directory / "prometheus.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def is_ready() -> bool:
        assert process.poll() is None, (directory / "prometheus.log").read_text()
        try:
            return request(port, "/-/ready").status == 200
        except (OSError, http.client.HTTPException):
            return False

    try:
        eventually(is_ready, "Prometheus to be ready", 60)
        yield Prometheus(port)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def rules_of(path: Path) -> list[dict[str, Any]]:
    """The rules of a file of rules, of all its groups."""
    groups = yaml.safe_load(path.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every query of the dashboard with the title of its panel."""
    row = ""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        for target in panel.get("targets", ()):
            yield f"{row} / {panel['title']} / {target['refId']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]


def as_grafana_sends(dashboard: Mapping[str, Any], expression: str) -> str:
    """Variables replaced by what All stands for, and Grafana's own by its value at this scrape interval."""
    sent = expression.replace("$__rate_interval", RATE_INTERVAL)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            sent = re.sub(rf"\${variable['name']}\b", variable["allValue"], sent)
    assert "$" not in sent.replace("${1}", ""), sent
    return sent


def check_layout(dashboard: Mapping[str, Any]) -> None:
    """24 columns, no place taken twice, ids unique."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
