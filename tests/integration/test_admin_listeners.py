"""Admin and metrics at several addresses, of one process and of several, and by which names they are called."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from tests.support.commands import sidecar_command
from tests.support.process import Response, SidecarProcess, running_sidecar
from tests.support.wait import eventually

TEXT = """
    service: x
    workers: {workers}
    outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
    admin: {{listen: [{admin}]{hosts}}}
    telemetry:
      metrics: {{listen: ["127.0.0.1:${{METRICS_PORT}}", "[::1]:${{METRICS_PORT}}"]}}
"""
BOTH = '"127.0.0.1:${ADMIN_PORT}", "[::1]:${ADMIN_PORT}"'
REBOUND = {"Host": "evil.example:9901"}


def ask(port: int, path: str, host: str = "::1") -> Response:
    """A request by IPv6."""
    connection = http.client.HTTPConnection(host, port, timeout=15)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return Response(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_admin_and_metrics_listen_at_every_address_of_the_file(tmp_path: Path, workers: int) -> None:
    """As a cluster of two address families probes them; a reload opens and closes them like others."""
    text = TEXT.format(workers=workers, admin=BOTH, hosts="")
    with running_sidecar(tmp_path, text) as sidecar:
        for path in ("/ready", "/live", "/metrics"):
            assert ask(sidecar.metrics_port, path).status == sidecar.metrics(path).status == 200
        assert ask(sidecar.admin_port, "/server_info").json()["state"] == "LIVE"
        listed = {(one["role"], one["address"]) for one in sidecar.admin("/server_info").json()["listeners"]}
        assert {("admin", f"[::1]:{sidecar.admin_port}"), ("admin", f"127.0.0.1:{sidecar.admin_port}")} <= listed
        _wait_finds(sidecar)
        sidecar.rewrite(TEXT.format(workers=workers, admin='"127.0.0.1:${ADMIN_PORT}"', hosts=""))
        sidecar.wait_for_generation(2)
        with pytest.raises(OSError, match="refused"):
            ask(sidecar.admin_port, "/live")
        assert ask(sidecar.metrics_port, "/ready").status == 200


def _wait_finds(sidecar: SidecarProcess) -> None:
    """`sidecar wait` and `sidecar top`, by each family and by the name that stands for both."""
    for host in ("127.0.0.1", "[::1]", "localhost"):
        for command in (
            ["wait", "--timeout", "0", "--address", f"{host}:{sidecar.metrics_port}"],
            ["top", "--once", "--interval", "0.1", "--admin", f"{host}:{sidecar.admin_port}"],
        ):
            result = sidecar_command(*command)
            assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_listeners_on_loopback_do_not_answer_to_other_names(tmp_path: Path, workers: int) -> None:
    """Until the file allows them, which a reload puts in force without closing the listener."""
    with running_sidecar(tmp_path, TEXT.format(workers=workers, admin=BOTH, hosts="")) as sidecar:
        for refused in (sidecar.admin("/config", headers=REBOUND), sidecar.metrics("/metrics", headers=REBOUND)):
            assert refused.status == 421
            assert "evil.example" in refused.text
            assert "admin.hosts" in refused.text
        assert sidecar.admin("/live", headers={"Host": "sidecar.localhost"}).status == 200
        sidecar.rewrite(TEXT.format(workers=workers, admin=BOTH, hosts=", hosts: [sidecar, '*.example']"))
        sidecar.wait_for_generation(2)
        assert sidecar.admin("/live", headers=REBOUND).status == 200
        assert sidecar.metrics("/live", headers={"Host": "sidecar"}).status == 200
        assert sidecar.admin("/live", headers={"Host": "another"}).status == 421


def test_metrics_that_the_network_reaches_answer_to_any_name(tmp_path: Path) -> None:
    """Prometheus calls a pod by whatever it was discovered as."""
    metrics = 'telemetry: {metrics: {listen: "0.0.0.0:${METRICS_PORT}"}, access_log: {format: "off"}}'
    with running_sidecar(
        tmp_path, f'service: x\noutbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}\n{metrics}'
    ) as one:
        assert one.metrics("/metrics", headers={"Host": "shop.default.svc"}).status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_successor_finds_the_first_by_any_address_in_common(tmp_path: Path, workers: int) -> None:
    """`--takeover` with a file that lists the admin addresses in another order, and one more."""
    with running_sidecar(tmp_path / "first", TEXT.format(workers=workers, admin=BOTH, hosts="")) as first:
        second = SidecarProcess(tmp_path / "second", env=first.env)
        for name in ("outbound_port", "admin_port", "metrics_port"):
            setattr(second, name, getattr(first, name))
        more = '"127.0.0.2:${ADMIN_PORT}", "[::1]:${ADMIN_PORT}"'
        second.rewrite(TEXT.format(workers=workers, admin=more, hosts=""))
        try:
            second.start("--takeover")
            assert first.wait() == 0
            eventually(lambda: ask(second.admin_port, "/server_info", "127.0.0.2").status == 200, "the second")
            assert second.is_ready()
            assert second.stop() == 0
        finally:
            second.kill()
