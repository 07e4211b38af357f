"""Whether each request has one record: what clients were told, beside the lines of the log and the counters. *Pure.*"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.soak.outcome import Outcome

NAMES = {
    -1: "", 0: "OK", 1: "CANCELLED", 2: "UNKNOWN", 4: "DEADLINE_EXCEEDED", 8: "RESOURCE_EXHAUSTED", 13: "INTERNAL",
    14: "UNAVAILABLE",
}  # fmt: skip
"""Of gRPC's statuses, those that a storm has."""


def disagreements(
    outcomes: Sequence[Outcome], lines: Sequence[Mapping[str, Any]], calls: Mapping[str, int]
) -> list[str]:
    """
    What does not fit, as sentences.

    Args:
        outcomes: Of the time that was counted.
        lines: Of the access log in that time, all of them.
        calls: `sidecar_grpc_requests_total`, by status.
    """
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_id.setdefault(str(line.get("request_id")), []).append(line)
    found = []
    for outcome in outcomes:
        records = by_id.get(outcome.id, [])
        if len(records) > 1:
            found.append(f"{outcome.id} {outcome.kind.name} has {len(records)} lines")
        elif not records:
            # Who left, or was not looked at, may have done so before anybody had read what he wanted.
            if outcome.failure in ("", "status", "cut", "wrong"):
                found.append(f"{outcome.id} {outcome.kind.name} {outcome.failure} has no line")
        elif (what := _difference(outcome, records[0])) != "":
            found.append(f"{outcome.id} {outcome.kind.name} {outcome.failure}: {what}")
    logged = Counter(str(line["grpc_status"]) for line in lines if line.get("grpc_status"))
    if logged != Counter(calls):
        found.append(f"calls by status: {dict(logged)} in the log, {dict(calls)} counted")
    return found


def _difference(outcome: Outcome, line: Mapping[str, Any]) -> str:
    if line["protocol"] != ("HTTP/2" if outcome.kind.version == 2 else "HTTP/1.1"):
        return f"logged as {line['protocol']}"
    if outcome.failure in ("", "status"):
        if line["response_code"] != outcome.status:
            return f"the client was told {outcome.status}, the log {line['response_code']}"
        if outcome.kind.is_call and (line.get("grpc_status") or "") != NAMES.get(outcome.call_status):
            return f"the client was told {outcome.call_status}, the log {line.get('grpc_status')}"
        if outcome.flag and outcome.flag != "408" and outcome.flag != line["response_flags"]:
            return f"the client was told {outcome.flag}, the log {line['response_flags']}"
    return ""
