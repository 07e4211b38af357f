"""What telemetry tells of decisions: series that are bounded and go with the rules, and members of the log line."""

from __future__ import annotations

import json

from sidecar.exchange import Decision, Direction, Exchange
from sidecar.peer import Token
from sidecar.telemetry.access_log.json_line import decision_members, token_members
from sidecar.telemetry.recorder import MAX_AUTHORIZED, Telemetry, TelemetrySettings
from tests.unit.security.authorization.support import head, peer


def telemetry() -> Telemetry:
    """Of nobody in particular."""
    return Telemetry(TelemetrySettings(access_log_path=None), environment={})


def exchange(identity: str = "") -> Exchange:
    """One that a client of this identity began."""
    client = peer(identity) if identity else None
    return Exchange(Direction.INBOUND, 1, head(), ("192.0.2.1", 1), client=client)


def series(text: bytes, name: str) -> dict[str, float]:
    """Of a metric: by its labels."""
    lines = [line for line in text.decode().splitlines() if line.startswith(name) and not line.startswith("#")]
    return {line.removeprefix(name).rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_sources_share_a_series_beyond_a_bound() -> None:
    """However many clients a mesh has; nothing is lost of the count."""
    told = telemetry()
    decision = Decision("allowed", "shop", "f:1", told.scope(Direction.INBOUND, "", "", "authorization x"))
    for number in range(2 * MAX_AUTHORIZED):
        told.judged(exchange(f"spiffe://shop/s{number}"), decision)
    told.judged(exchange("spiffe://shop/s7"), decision)
    found = series(told.exposition(), "sidecar_authorization_total")
    assert len(found) == MAX_AUTHORIZED + 1
    assert sum(found.values()) == 2 * MAX_AUTHORIZED + 1
    assert found['{outcome="allowed",rule="shop",source="spiffe://shop/s7"}'] == 2
    assert found['{outcome="allowed",rule="shop",source="_OTHER"}'] == MAX_AUTHORIZED
    assert len(decision.counters) == MAX_AUTHORIZED


def test_series_go_with_the_rules_and_not_with_a_reload_that_keeps_them() -> None:
    """What counted in a scope that nobody has any more is forgotten; the unidentified are counted for ever."""
    told = telemetry()
    scope = told.scope(Direction.INBOUND, "", "", "authorization x")
    told.config_applied("a", is_reload=False)
    told.judged(exchange(), Decision("allowed", "callers", "", scope, is_unidentified=True))
    told.scope(Direction.INBOUND, "", "", "authorization x")
    told.config_applied("b", is_reload=True)
    told.judged(exchange(), Decision("allowed", "callers", "", scope, is_unidentified=True))
    label = '{outcome="allowed",rule="callers",source="unidentified"}'
    assert series(told.exposition(), "sidecar_authorization_total") == {label: 2.0}
    scope.forget()
    text = told.exposition()
    assert series(text, "sidecar_authorization_total") == {}
    assert series(text, "sidecar_authorization_unidentified_total") == {"": 2.0}


def test_a_line_says_outcome_rule_and_where_it_is_written() -> None:
    """Escaped as everything else."""
    members = decision_members("denied", 'r"\n', "dir/f.yaml:7")
    assert json.loads(b"{%b}" % members[1:]) == {"authorization": "denied", "rule": 'r"\n', "rule_at": "dir/f.yaml:7"}
    assert json.loads(b"{%b}" % decision_members("allowed", "default", "")[1:]) == {
        "authorization": "allowed", "rule": "default",
    }  # fmt: skip


def test_a_line_says_what_a_token_came_to_and_of_whom_it_is_genuine() -> None:
    """Escaped as all that others say."""
    assert token_members(Token("accepted", 'https://"id"')) == b',"jwt":"accepted","jwt_issuer":"https://\\"id\\""'
    assert token_members(Token("malformed", why="whose token cannot be read")) == b',"jwt":"malformed"'
