"""Names that are resolved: all records are used, changes are followed, failures change nothing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.names import SidecarWithNames
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.support.wire import Client, Upstream

NAME = "web.sidecar.test"


def endpoints(sidecar: SidecarProcess, upstream: str = "web") -> set[str]:
    """Addresses that the upstream has now, as `/upstreams` tells them."""
    said = sidecar.admin("/upstreams").json()[upstream]
    return {endpoint["address"] for endpoint in said["endpoints"]}


def test_every_record_of_a_name_is_an_endpoint(tmp_path: Path, upstream: Upstream) -> None:
    """Of `localhost`, whatever this machine says it is; requests reach it."""
    port = upstream.port
    found = socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    expected = {f"[{info[4][0]}]:{port}" if ":" in str(info[4][0]) else f"{info[4][0]}:{port}" for info in found}
    with contextlib.ExitStack() as stack:
        if any(address.startswith("[") for address in expected):
            stack.enter_context(Upstream(("::1", port)))
        text = f"""
            service: x
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{web: {{dns: "localhost:{port}", load_balancing: round_robin}}}}
        """
        sidecar = stack.enter_context(running_sidecar(tmp_path, text))
        assert endpoints(sidecar) == expected
        for _ in expected:
            with Client(sidecar.outbound_port) as client:
                client.get("/", host="web")
        upstream.accept().serve()


def test_an_endpoint_may_be_a_name_as_well(tmp_path: Path, upstream: Upstream) -> None:
    """It stays one endpoint and is resolved at each new connection."""
    text = f"""
        service: x
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{web: {{endpoints: ["localhost:{upstream.port}"]}}}}
    """
    with running_sidecar(tmp_path, text) as sidecar, Client(sidecar.outbound_port) as client:
        assert endpoints(sidecar) == {f"localhost:{upstream.port}"}
        client.get("/", host="web")
        upstream.accept().serve(b"by name")
        assert client.response().body == b"by name"


def test_a_name_that_is_unknown_refuses_nothing(tmp_path: Path) -> None:
    """The sidecar starts; the upstream has no endpoint, `UH`, until there is an answer."""
    text = """
        service: x
        outbound: {listen: "127.0.0.1:${OUTBOUND_PORT}"}
        upstreams: {web: {dns: "no-such-name.invalid:80"}}
    """
    with running_sidecar(tmp_path, text) as sidecar:
        response = sidecar.outbound("/", host="web")
        assert (response.status, response.json()["flag"]) == (503, "UH")
        eventually(lambda: "dns_failed" in sidecar.stderr(), "the failure to be logged")


# --- names that change ---------------------------------------------------------------------------------------------


class PrivateNames(SidecarWithNames):
    """One that sees an `/etc/hosts` of its own, and no name server."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        # Refused at once: nobody listens there.
        self.resolv.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")

    def know(self, *addresses: str) -> None:
        """What the name means from now on."""
        lines = [f"{address} {NAME}\n" for address in addresses]
        self.hosts.write_text("".join(["127.0.0.1 localhost\n", *lines]))


@pytest.fixture
def private(tmp_path: Path) -> Iterator[PrivateNames]:
    """Not started; ended with the test."""
    sidecar = PrivateNames(tmp_path)
    yield sidecar
    sidecar.kill()


def ask(sidecar: SidecarProcess, server: Upstream) -> None:
    """A request that must reach this server."""
    with Client(sidecar.outbound_port) as client:
        client.get("/", host="web")
        server.accept().serve(server.authority.encode())
        assert client.response().status == 200


@pytest.mark.long
def test_a_name_that_changes_is_followed_and_one_that_vanishes_is_kept(private: PrivateNames) -> None:
    """
    A new address is used within 5 s and a little, the old one's idle connections are closed, what is in flight there
    ends in its own time; when the name is unknown the last good answer goes on.
    """
    with Upstream(("127.0.0.1", 0)) as first, Upstream(("127.0.0.2", first.port)) as second:
        private.know("127.0.0.1")
        private.rewrite(f"""
            service: x
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{web: {{dns: "{NAME}:{first.port}", idle_timeout: 1m}}}}
        """)
        private.start()
        private.wait_ready()
        old, new = f"127.0.0.1:{first.port}", f"127.0.0.2:{first.port}"
        assert endpoints(private) == {old}
        with Client(private.outbound_port) as waiting:
            ask(private, first)
            waiting.get("/in-flight", host="web")
            in_flight = first.accepted[0]
            assert in_flight.request().target == "/in-flight"
            with Client(private.outbound_port) as other:
                other.get("/idle", host="web")
                idle = first.accept()
                idle.serve()
                assert other.response().status == 200

            private.know("127.0.0.2")
            eventually(lambda: endpoints(private) == {new}, "the new address to be used", 15)
            ask(private, second)
            assert idle.is_ended()
            in_flight.answer(b"old but whole")
            assert waiting.response().body == b"old but whole"
            assert in_flight.is_ended()

        private.know()
        eventually(lambda: "dns_failed" in private.stderr(), "the outage to be noticed")
        assert endpoints(private) == {new}
        with Client(private.outbound_port) as client:
            client.get("/", host="web")
            server = second.accepted[0]
            server.serve(b"still there")
            assert client.response().body == b"still there"

        private.know("127.0.0.1", "127.0.0.2")
        eventually(lambda: endpoints(private) == {old, new}, "both addresses")
        eventually(lambda: "dns_recovered" in private.stderr(), "the log to say so")
        assert private.metric("sidecar_upstream_endpoints", upstream="web") == 2
        assert private.stop() == 0
    assert "Traceback" not in private.stderr()
