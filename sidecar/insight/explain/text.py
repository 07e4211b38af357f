"""An account as a person reads it. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_DURATIONS: Final = ("timeout", "interval", "time", "delay", "max_age", "slow_start", "duration", "lag", "window")
_UNTAKEN: Final = "no route"


def lines_of(account: Mapping[str, Any], *, is_whole: bool = False) -> Iterator[str]:
    """
    The account, a line at a time.

    Args:
        account: As `account_of` makes it, or as the admin listener has told it.
        is_whole: Settings that nobody has written are told one by one.
    """
    yield _request(account["request"])
    if account["happened"] is not None:
        yield from _section("what happened", _happened(account["happened"]))
    if account["missing"]:
        yield from _section("not all of it was kept; what asks for these may be told wrongly", account["missing"])
    if account["authorization"] is not None:
        yield from _section("authorization", [_authorization(account["authorization"])])
    if account["routes"]:
        yield from _section("routes, in the order in which they are asked", _routes(account["routes"]))
    yield from _section("outcome", [_outcome(account)])
    if account["split"] is not None:
        yield from _section("split", _split(account["split"]))
    if account["endpoint"] is not None:
        yield from _section(f"endpoint of {account['endpoint']['upstream']}", _endpoint(account["endpoint"]))
    if account["sent"] is not None:
        lines = (f"{mark} {line}".rstrip() for mark, line in account["sent"]["lines"])
        yield from _section(f"sent to {account['sent']['upstream']}", lines)
    if account["settings"]:
        yield from _section("settings in force", _settings(account["settings"], is_whole))


def _section(title: str, lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    yield ""
    yield title
    for line in lines:
        yield f"  {line}"


def _request(request: Mapping[str, Any]) -> str:
    host, port, query = request["host"], request["port"], request["query"]
    authority = host if port is None else f"{host}:{port}"
    target = request["path"] + (f"?{query}" if query is not None else "")
    who = f" as {request['identity']}" if request.get("identity") else ""
    return f"{request['method']} {authority}{target}  ({request['direction']}, from {request['source_ip']}{who})"


def _happened(happened: Mapping[str, Any]) -> Iterator[str]:
    for name, value in happened.items():
        if value not in (None, "", []):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{name.replace('_', ' ')}: {shown}"


def _authorization(said: Mapping[str, str]) -> str:
    words = {
        "allowed": "allowed by the rule {}",
        "denied": "denied by the rule {}",
        "audit_denied": "passes, and would be denied by the rule {}, which is in audit",
    }[said["outcome"]].format(said["rule"])
    where = f"  ({said['position']})" if said["position"] else ""
    return f"{words}{where}" + (f": {said['why']}" if said["why"] else "")


def _routes(routes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    numbers = [_number(one) for one in routes]
    wide = max(map(len, numbers))
    named = max(len(one["name"]) for one in routes)
    placed = max(len(one["position"]) for one in routes)
    for number, one in zip(numbers, routes, strict=True):
        start = f"{number:>{wide}}  {one['name']:<{named}}  {one['position']:<{placed}}  "
        misses = one["matches"]
        if one["missed_at"]:
            parts = ", ".join(f"{count:,} at {part}" for part, count in one["missed_at"].items())
            yield f"{start}missed: {parts} (--all)"
            continue
        if not misses:
            yield f"{start}{one['result']}"
            continue
        yield f"{start}{_miss(misses[0])}"
        for other in misses[1:]:
            yield " " * len(start) + f"and {_miss(other)}"


def _number(one: Mapping[str, Any]) -> str:
    first = one["index"] + 1
    return f"{first}" if one["count"] == 1 else f"{first} to {first + one['count'] - 1}"


def _miss(miss: Mapping[str, Any]) -> str:
    found = "nothing" if miss["found"] is None else f"`{miss['found']}`"
    return f"missed at {miss['part']}: expected {miss['expected']}, found {found}"


def _outcome(account: Mapping[str, Any]) -> str:
    outcome = account["outcome"]
    where = f"  ({outcome['position']})" if outcome["position"] else ""
    if outcome["kind"] == "refused":
        flag = f", flag {outcome['flag']}" if outcome["flag"] else ""
        route = f"route {outcome['route']}{where}" if outcome["route"] else _UNTAKEN
        return f"{route}: the sidecar answers {outcome['status']}{flag}: {outcome['why']}"
    if outcome["kind"] == "forward":
        return f"route {outcome['route']}{where}: forwarded"
    to = f" to {outcome['why']}" if outcome["why"] else ""
    verb = "redirects" if outcome["kind"] == "redirect" else "answers"
    return f"route {outcome['route']}{where}: the sidecar {verb} with {outcome['status']}{to}"


def _split(split: Mapping[str, Any]) -> Iterator[str]:
    if split["sticky"]:
        key = "which the request does not have: by chance" if split["key"] is None else f"`{split['key']}`"
        yield f"by {split['sticky']}: {key}"
    for side in split["sides"]:
        taken = "  taken" if side["is_taken"] else ""
        note = f"  ({side['note']})" if side["note"] else ""
        yield f"{side['share']:>7.4g} of 1  {side['upstream']}{taken}{note}"


def _endpoint(endpoint: Mapping[str, Any]) -> Iterator[str]:
    taken = endpoint["would_take"]
    yield f"balancer: {endpoint['balancer']}" + (f"; takes {taken}" if taken else "")
    if endpoint["panic"]:
        yield "panic: too few are usable, so all are used"
    if not endpoint["endpoints"] and not taken:
        source = endpoint.get("source")
        yield f"none is known: they come from {source}" if source else "there is none: the sidecar answers 503, flag UH"
    for one in endpoint["endpoints"]:
        if one["state"] == "in":
            yield f"in   {one['address']}  {one['chance']:.0%}, {one['active']} under way"
        else:
            yield f"out  {one['address']}  {one['why']}"


def _settings(settings: Mapping[str, Mapping[str, Any]], is_whole: bool) -> Iterator[str]:
    told = {name: one for name, one in settings.items() if is_whole or one["from"] != "default" or _is_telling(name)}
    texts = {name: _value(name, one["value"]) for name, one in told.items()}
    named = max(map(len, texts), default=0)
    valued = max(map(len, texts.values()), default=0)
    for name, one in told.items():
        yield f"{name:<{named}}  {texts[name]:<{valued}}  {one['from']}"
    if len(told) < len(settings):
        yield f"and {len(settings) - len(told)} more by default (--all)"


def _is_telling(name: str) -> bool:
    """What is asked for first when a request took too long or was sent twice, even where nobody has set it."""
    key = name.rpartition(".")[2]
    return name in ("timeout", "retry.attempts", "retry.on") or key in ("connect_timeout", "idle_timeout")


def _value(name: str, value: object) -> str:
    if value is None:
        return "none"
    is_duration = name.rpartition(".")[2].endswith(_DURATIONS)
    if is_duration and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}s"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_value(key, inner)}" for key, inner in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)
