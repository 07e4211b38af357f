"""Connections of apps that know of no mesh, between two captured hosts by mutual TLS."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from tests.support.captured import APP, app, capturing, get
from tests.support.certificates import Authority, identity_of
from tests.support.namespaces import hosts
from tests.support.streams import PATIENCE_S, echo, greets, serving

DB, STOREFRONT = "spiffe://shop/db", "spiffe://shop/storefront"


@pytest.mark.parametrize(("port", "mode"), [(15000, "strict"), (5433, "permissive")])
def test_app_that_dials_a_name_reaches_the_other_app_by_mutual_tls(tmp_path: Path, port: int, mode: str) -> None:
    """
    The server speaks first, and nobody waits: the address belongs to an upstream that speaks TCP. Its sidecar is
    dialled at its listener, or at the app's own port, which is captured there.
    """
    root = Authority("shop root")
    with hosts(2) as (here, there):
        caller = f"""
            service: storefront
            identity: {identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)}
            capture: {{inbound: [], unmatched: deny}}
            upstreams:
              db:
                hosts: "{there.v4}:5433"
                protocol: tcp
                endpoints: ["{there.v4}:{port}"]
                tls: {{identities: "{DB}"}}
        """
        called = f"""
            service: db
            identity: {identity_of(tmp_path / "db", root.workload(DB), root)}
            inbound:
              listen: {{address: "0.0.0.0:15000", name: db, protocol: tcp}}
              app: "127.0.0.1:5433"
              tls: {mode}
              authorization: {{default: deny, rules: [{{name: shop, allow: {{from: "{STOREFRONT}"}}}}]}}
            capture: {{outbound: []}}
        """
        listener = there.do(lambda: socket.create_server(("0.0.0.0", 5433)), APP)
        with (
            serving(listener, greets),
            capturing(there, tmp_path / "there", called) as inbound,
            capturing(here, tmp_path / "here", caller) as outbound,
        ):
            client = here.do(lambda: socket.create_connection((there.v4, 5433), PATIENCE_S), APP)
            with client:
                assert client.recv(100) == b"220 ready\r\n"
                client.sendall(b"hello")
                assert client.recv(100) == b"hello"
            told = outbound.wait_for_log_lines(1)[0]
            assert (told["upstream_cluster"], told["upstream_peer_identity"]) == ("db", DB)
            told = inbound.wait_for_log_lines(1)[0]
            assert (told["protocol"], told["peer_identity"]) == ("tcp", STOREFRONT)
            # What comes to a listener by its address was not led there.
            assert inbound.metric("sidecar_capture_inbound_seen") == (port == 5433)
            assert outbound.metric("sidecar_detected_connections_total", waited="true") == 0


def test_client_in_clear_at_a_captured_port_of_tcp_is_judged(tmp_path: Path) -> None:
    """`strict`: whoever comes in clear is refused, also past the listener, at the app's own port."""
    root = Authority("shop root")
    with hosts(2) as (here, there):
        called = f"""
            service: db
            identity: {identity_of(tmp_path / "db", root.workload(DB), root)}
            inbound:
              listen: {{address: "0.0.0.0:15000", name: db, protocol: tcp}}
              app: "127.0.0.1:5433"
              tls: strict
            capture: {{outbound: []}}
        """
        listener = there.do(lambda: socket.create_server(("0.0.0.0", 5433)), APP)
        with serving(listener, echo), capturing(there, tmp_path, called) as inbound:
            client = here.do(lambda: socket.create_connection((there.v4, 5433), PATIENCE_S), APP)
            with client, contextlib.suppress(ConnectionError):
                client.sendall(b"\x00hello")
                assert client.recv(100) == b""
            assert inbound.wait_for_log_lines(1)[0]["response_code_details"] == "clear_refused"


def test_requests_by_mutual_tls_are_taken_at_the_apps_own_port(tmp_path: Path) -> None:
    """The caller's sidecar dials where the app listens, and the kernel leads it to the app's own sidecar."""
    root = Authority("shop root")
    with hosts(2) as (here, there):
        caller = f"""
            service: storefront
            identity: {identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)}
            outbound: {{}}
            capture: {{inbound: []}}
            upstreams: {{web: {{endpoints: ["{there.v4}:8080"], tls: {{identities: "{DB}"}}}}}}
        """
        called = f"""
            service: web
            identity: {identity_of(tmp_path / "web", root.workload(DB), root)}
            inbound: {{app: "127.0.0.1:8080", tls: strict}}
            capture: {{outbound: []}}
        """
        with (
            app(there, 8080, "web"),
            capturing(there, tmp_path / "there", called) as inbound,
            capturing(here, tmp_path / "here", caller) as outbound,
        ):
            assert get(here, there.v4, 8080, headers={"host": "web:8080"}) == (200, f"web / web:8080 {here.v4}")
            assert outbound.wait_for_log_lines(1)[0]["upstream_peer_identity"] == DB
            assert inbound.wait_for_log_lines(1)[0]["peer_identity"] == STOREFRONT
