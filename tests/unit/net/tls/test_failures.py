"""What an alert says of what was shown, and what it has one do."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from sidecar import errors
from sidecar.net.tls.failures import explain
from sidecar.net.tls.shown import ShowingContext, shown_by
from sidecar.security.identity import contexts
from sidecar.security.identity.certificates.credentials import Material, read_credentials
from tests.support.certificates import DAY, NOW, Authority

SHOP = "spiffe://shop/storefront"
OURS = f"{SHOP}, signed by CN=shop root, until 2027-01-01T00:00:00Z"


def alert(name: str) -> ssl.SSLError:
    """As OpenSSL tells of one that came."""
    error = ssl.SSLError(1, f"[SSL: TLSV13_ALERT_{name}]")
    error.reason = f"TLSV13_ALERT_{name}"
    return error


@pytest.mark.parametrize("is_client", [False, True])
@pytest.mark.parametrize(
    ("name", "to_do"),
    [
        ("UNKNOWN_CA", "have it trust that root"),
        ("CERTIFICATE_EXPIRED", "have it renewed, or set that clock; the clock here says 2026-12-31T00:00:00Z"),
        ("CERTIFICATE_REVOKED", "have another one issued"),
        ("UNSUPPORTED_CERTIFICATE", "have another one issued"),
        ("ACCESS_DENIED", "its rules"),
        ("BAD_CERTIFICATE", "the other side's log says why"),
        ("CERTIFICATE_UNKNOWN", "the other side's log says why"),
    ],
)
def test_alert_about_a_certificate_says_which_was_shown_and_what_to_do(name: str, to_do: str, is_client: bool) -> None:
    """Whoever reads it has the two sides before them: what came, and whose certificate it was about."""
    now = datetime(2026, 12, 31, tzinfo=UTC)
    reason, detail = explain(alert(name), is_client=is_client, shown=OURS, now=lambda: now)
    assert reason is (errors.CLIENT_REFUSED_CERTIFICATE if is_client else errors.UPSTREAM_REFUSED_CERTIFICATE)
    said = name.lower().replace("_", " ")
    assert detail.startswith(f"alert: {said}; shown was the certificate of {OURS}; ")
    assert to_do in detail


def test_who_wants_a_certificate_and_was_shown_none_is_told_as_that() -> None:
    """With what to write where."""
    reason, detail = explain(alert("CERTIFICATE_REQUIRED"), is_client=False)
    assert reason is errors.UPSTREAM_REFUSED_CERTIFICATE
    assert detail.startswith("alert: certificate required; no certificate was shown; ")
    assert "`tls.certificate` and `tls.key`" in detail


def test_other_alerts_are_about_something_else() -> None:
    """What was shown is nothing to them."""
    assert explain(alert("PROTOCOL_VERSION"), is_client=True, shown=OURS) == (
        errors.CLIENT_TLS_FAILED, "alert: protocol version",
    )  # fmt: skip
    reason, detail = explain(alert("NO_APPLICATION_PROTOCOL"), is_client=False, shown=OURS)
    assert (reason, detail) == (errors.UPSTREAM_TLS_ALPN, "alert: no application protocol")


def test_contexts_say_what_they_show() -> None:
    """A workload by its identity; what shows nothing, or is not ours, says nothing."""
    root = Authority("shop root")
    leaf = root.workload(SHOP, ends=NOW + 7 * DAY)
    held = read_credentials(Material(leaf.chain_pem, leaf.key_pem, root.pem, "c", "k", "t"), NOW, "shop")
    for context in (contexts.mesh_server(held), contexts.mesh_client(held)):
        assert shown_by(context).startswith(f"{SHOP}, signed by CN=shop root, until 20")
    for nothing in (contexts.outside_client(None, None, "1.3"), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), None):
        assert shown_by(nothing) == ""
    assert isinstance(contexts.outside_client(None, held.pair, "1.2"), ShowingContext)
