"""A file that was compiled of a mesh, run by a real sidecar: calls reach what the mesh's files say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.mesh.compile.service import compile_service
from tests.support.meshes import mesh
from tests.support.origin import Origin
from tests.support.process import request, running_sidecar
from tests.support.wait import free_port


@pytest.fixture
def origins() -> Iterator[tuple[Origin, Origin]]:
    """Two servers that tell which they are."""
    with Origin("stable") as stable, Origin("beta") as beta:
        yield stable, beta


def test_calls_reach_what_the_meshs_files_say(tmp_path: Path, origins: tuple[Origin, Origin]) -> None:
    """By a producer's route, a caller's, the default, a port of its own and a host with a port; the rest gets 404."""
    stable, beta = origins
    port = free_port()
    text = f"""
        === mesh.yaml
        mesh: shop
        unmatched: deny
        === front.yaml
        service: front
        calls:
          back:
            listen: 127.0.0.1:{port}
            routes: [{{name: preview, match: {{headers: {{x-preview: "1"}}}}, to: beta}}]
          legacy: {{}}
        === back.yaml
        service: back
        hosts: [back, back.shop]
        endpoints: ["127.0.0.1:{stable.port}"]
        instances: {{beta: {{endpoints: ["127.0.0.1:{beta.port}"]}}}}
        routes: [{{name: beta-users, match: {{cookies: {{BETA_USER: "true"}}}}, to: beta}}]
        tests: [{{name: beta, request: {{url: "http://back/", cookies: {{BETA_USER: "true"}}}}, expect: {{to: beta}}}}]
        === legacy.yaml
        service: legacy
        hosts: ["back:7000"]
        endpoints: ["127.0.0.1:{beta.port}"]
    """
    made = compile_service(mesh(text), "front").text
    # What the mesh leaves to the machine: where this one listens.
    assert 'listen: ["127.0.0.1:15001"' in made
    config = made.replace('"127.0.0.1:15001"', '"127.0.0.1:${OUTBOUND_PORT}"')
    with running_sidecar(tmp_path, config) as sidecar:

        def reached(host: str, **headers: str) -> str:
            answer = sidecar.outbound(
                "/who", host=host, headers={name.replace("_", "-"): headers[name] for name in headers}
            )
            return answer.text if answer.status == 200 else str(answer.status)

        assert [reached(host) for host in ("back", "back.shop", "back:1", "back:7000")] == ["stable"] * 3 + ["beta"]
        assert reached("back", cookie="BETA_USER=true") == reached("back.shop", x_preview="1") == "beta"
        assert reached("nobody") == "404"
        assert request(port, "/who").text == "stable"
        names = [line["route_name"] for line in sidecar.wait_for_log_lines(8)]
        assert sorted(name or "" for name in names) == [
            "", "back", "back", "back", "back", "back.beta-users", "front.preview", "legacy",
        ]  # fmt: skip
