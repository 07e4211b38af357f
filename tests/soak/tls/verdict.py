"""What a sidecar counts of handshakes, beside what was provoked: in kind, and mostly in number. *Pure.*"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.soak.tls import intruders, servers

_REFUSED = servers.REASONS["refuse"]


@dataclass
class Provoked:
    """
    Attributes:
        visits: Of intruders, by kind.
        opened: Handshakes that good clients finished, as they saw it.
        left: Clients by TLS that left in the middle, some of them before the sidecar had read all of the handshake.
        left_behind: Clients that left in the middle of what they asked of servers by TLS, some of them before the
            server's word on the sidecar's certificate had come: it comes behind the handshake, with the answer.
        at_servers: Handshakes of servers, by what came of them.
    """

    visits: Mapping[str, int] = field(default_factory=dict)
    opened: int = 0
    left: int = 0
    left_behind: int = 0
    at_servers: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Told:
    """
    What the sidecar says.

    Attributes:
        clients, servers: Handshakes that are over.
        clients_failed, servers_failed: Those that failed, by reason.
    """

    clients: int = 0
    servers: int = 0
    clients_failed: Mapping[str, int] = field(default_factory=dict)
    servers_failed: Mapping[str, int] = field(default_factory=dict)


def disagreements(provoked: Provoked, told: Told) -> list[str]:
    """What does not fit, as sentences."""
    return [*_of_clients(provoked, told), *_of_servers(provoked, told)]


def _of_clients(provoked: Provoked, told: Told) -> list[str]:
    expected = _by_reason(provoked.visits, intruders.REASONS)
    failed = Counter(told.clients_failed)
    # Who leaves at once, or vanishes, may do so before the end of its handshake.
    loose = provoked.left + provoked.visits.get("vanish", 0) + provoked.visits.get("key updates", 0)
    found = [
        f"clients failed by {reason}: {expected[reason]} were provoked, {failed[reason]} are told"
        for reason in sorted({*expected, *failed} - {"client_tls_failed"})
        if expected[reason] != failed[reason]
    ]
    surely, told_failed = expected["client_tls_failed"], failed["client_tls_failed"]
    if not surely <= told_failed <= surely + loose:
        found.append(f"clients failed: {surely} to {surely + loose} were provoked, {told_failed} are told")
    if not provoked.opened - loose <= told.clients <= provoked.opened + loose:
        found.append(f"handshakes with clients: {provoked.opened} are over, give or take {loose}; told {told.clients}")
    return found


def _of_servers(provoked: Provoked, told: Told) -> list[str]:
    at_servers, failed = Counter(provoked.at_servers), Counter(told.servers_failed)
    expected = _by_reason(at_servers, servers.REASONS)
    # On a machine that is busy a handshake with a server that is well may take too long, too.
    late = max(0, failed["upstream_tls_timeout"] - expected["upstream_tls_timeout"])
    unheard = {_REFUSED: min(provoked.left_behind, max(0, expected[_REFUSED] - 1))}
    found = [
        f"servers failed by {reason}: {expected[reason]} were met, {failed[reason]} are told"
        for reason in sorted({*expected, *failed})
        if not expected[reason] - late - unheard.get(reason, 0) <= failed[reason] <= expected[reason] + late
    ]
    if late > at_servers["failed"] + at_servers["ok"] // 20:
        found.append(f"{late} handshakes with servers that are well took too long")
    # Of a client's certificate a server of TLS 1.3 has its say behind the handshake.
    most = at_servers["ok"] + at_servers["refuse"] + at_servers["failed"]
    if not at_servers["ok"] - late <= told.servers <= most:
        found.append(f"handshakes with servers: {at_servers['ok']} to {most} are over, {told.servers} are told")
    return found


def _by_reason(counts: Mapping[str, int], reasons: Mapping[str, str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for kind, count in counts.items():
        if reasons.get(kind):
            found[reasons[kind]] += count
    return found
