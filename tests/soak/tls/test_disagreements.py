"""What the siege's judge holds for wrong: too much and too little of each, and what nobody has provoked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.soak.tls.verdict import Provoked, Told, disagreements

PROVOKED = Provoked(
    visits={"expired": 2, "nonsense": 3, "reset": 1, "garbage": 4, "vanish": 1},
    opened=100,
    left=2,
    at_servers={"ok": 50, "hang": 2, "refuse": 3, "wrong_name": 1},
)
TOLD = Told(
    clients=100,
    servers=53,
    clients_failed={"client_certificate_expired": 2, "client_tls_failed": 5},
    servers_failed={
        "upstream_tls_timeout": 2, "upstream_refused_certificate": 3, "upstream_identity_mismatch": 1,
    },
)  # fmt: skip


def test_what_fits_is_good() -> None:
    """Exactly what was provoked; of who left at once nobody knows how far its handshake came."""
    assert disagreements(PROVOKED, TOLD) == []
    assert (
        disagreements(
            PROVOKED, replace(TOLD, clients=98, clients_failed={**TOLD.clients_failed, "client_tls_failed": 7})
        )
        == []
    )


@pytest.mark.parametrize(("left", "refused", "is_good"), [(0, 2, False), (1, 2, True), (1, 1, False), (9, 0, False)])
def test_who_left_may_have_done_so_before_the_refusal(left: int, refused: int, is_good: bool) -> None:
    """But not everybody did."""
    told = replace(TOLD, servers_failed={**TOLD.servers_failed, "upstream_refused_certificate": refused})
    assert (disagreements(replace(PROVOKED, left_behind=left), told) == []) is is_good


@pytest.mark.parametrize(
    "told",
    [
        replace(TOLD, clients=90),
        replace(TOLD, clients=110),
        replace(TOLD, servers=40),
        replace(TOLD, servers=60),
        replace(TOLD, clients_failed={"client_certificate_expired": 1, "client_tls_failed": 5}),
        replace(TOLD, clients_failed={**TOLD.clients_failed, "client_tls_alpn": 1}),
        replace(TOLD, clients_failed={**TOLD.clients_failed, "client_tls_failed": 3}),
        replace(TOLD, clients_failed={**TOLD.clients_failed, "client_tls_failed": 9}),
        replace(TOLD, servers_failed={**TOLD.servers_failed, "upstream_refused_certificate": 0}),
        replace(TOLD, servers_failed={**TOLD.servers_failed, "upstream_certificate_untrusted": 1}),
        replace(TOLD, servers_failed={**TOLD.servers_failed, "upstream_tls_timeout": 20}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(told: Told) -> None:
    """Each number for itself."""
    assert len(disagreements(PROVOKED, told)) >= 1
