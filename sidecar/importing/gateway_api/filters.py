"""Filters, timeouts, retries and persistence of a rule of the Gateway API, in our words. *Cold, pure.*"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from sidecar.config.values.addresses import parse_authority
from sidecar.config.values.base import Reads
from sidecar.importing.checked import EDITED_HEADER, HEADER_VALUE, PATH, checked
from sidecar.importing.draft import Plain
from sidecar.importing.field import Field, WrongError
from sidecar.importing.spelling import LONGEST, duration, number

_AUTHORITY: Final = Reads(parse_authority, {})
# GEP-2257: one to four numbers with a unit, such as `1h30m` or `500ms`.
_DURATION: Final = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_PARTS: Final = re.compile(r"([0-9]{1,5})(ms|h|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PORTS: Final = {"http": 80, "https": 443}
_MAX_ATTEMPTS: Final = 10
EDITS: Final = {"RequestHeaderModifier": "request_headers", "ResponseHeaderModifier": "response_headers"}
"""Filters that change headers, and what does it here."""
Target = Callable[[Field], str | None]
"""The instance that a reference means; None, and told, if there is none."""


def seconds(found: Field) -> float:
    """A duration of the Gateway API, in seconds."""
    text = found.text()
    if not _DURATION.fullmatch(text):
        raise WrongError(found, f"expected a duration such as `10s` or `1h30m`, found `{text}`")
    return sum(int(part) * _SECONDS[unit] for part, unit in _PARTS.findall(text))


def put_filters(rule: Field, rest: dict[str, Plain], target: Target, *, has_prefixes: bool) -> None:
    """
    Put what a rule's filters do.

    Args:
        has_prefixes: Whether all matches of the rule have a prefix, which may be replaced.
    """
    seen: set[str] = set()
    for one in rule.each("filters"):
        try:
            kind = one.need("type")
            word = kind.text()
            if word in seen and word != "RequestMirror":
                raise WrongError(one, f"found a second {word}", "the specification has one of each")
            seen.add(word)
            if word in EDITS:
                rest[EDITS[word]] = edits(one)
            elif word == "RequestRedirect":
                rest["redirect"] = redirect(one.need("requestRedirect"), has_prefixes)
            elif word == "URLRewrite":
                rest["rewrite"] = rewrite(one.need("urlRewrite"), has_prefixes)
            elif word == "RequestMirror":
                _put_mirror(one.need("requestMirror"), rest, target)
            else:
                hint = "let the app, or a gateway before it, do it"
                one.dropped(f"the language has nothing for {word}", hint, is_lost=True)
                continue
            kind.kept("says what it does")
        except WrongError as error:
            error.give_up(one)


def edits(one: Field) -> dict[str, Plain]:
    """What a filter changes of headers."""
    kind = one.need("type")
    word = kind.text()
    where = EDITS[word]
    block = one.need(word[0].lower() + word[1:])
    found: dict[str, Plain] = {}
    for action in ("set", "add"):
        values: dict[str, Plain] = {}
        for item in block.each(action):
            name, value = item.need("name"), item.need("value")
            header = checked(name, EDITED_HEADER)
            values.setdefault(header, checked(value, HEADER_VALUE))
            item.kept(f"{where}.{action}")
        if values:
            found[action] = values
    removed = [checked(item, EDITED_HEADER) for item in block.each("remove")]
    block.keep("remove", f"{where}.remove")
    removed = [name for name in removed if name not in found.get("set", {})]  # type: ignore[operator]
    if removed:
        found["remove"] = list(dict.fromkeys(removed))
    kind.kept("says what it does")
    return found


def merged(first: Plain, second: Plain | None) -> Plain:
    """What two filters change of headers, one after the other; where both set a field, the second has the last word."""
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return first
    found: dict[str, Plain] = {}
    kept: dict[str, Plain] = {}
    for key in ("set", "add"):
        values: dict[str, Plain] = {}
        for one in (first.get(key), second.get(key)):
            values |= one if isinstance(one, Mapping) else {}
        if values:
            found[key] = values
        kept = values if key == "set" else kept
    lists = [one.get("remove") for one in (first, second)]
    removed = dict.fromkeys(str(name) for one in lists if isinstance(one, list) for name in one if name not in kept)
    if removed:
        found["remove"] = [*removed]
    return found


def _put_path(block: Field, found: dict[str, Plain], has_prefixes: bool) -> None:
    path = block.get("path")
    if path is None:
        return
    full, prefix, kind = path.get("replaceFullPath"), path.get("replacePrefixMatch"), path.get("type")
    if kind is not None:
        kind.kept("says what is replaced")
    if full is not None:
        found["path"] = checked(full, PATH)
        full.kept("path")
    elif prefix is not None:
        if not has_prefixes:
            raise WrongError(prefix, "there is no matched prefix to replace", "give every match a PathPrefix")
        found["prefix"] = checked(prefix, PATH, prefix.text() or "/")
        prefix.kept("prefix")


def rewrite(block: Field, has_prefixes: bool) -> dict[str, Plain]:
    """What a URLRewrite changes."""
    found: dict[str, Plain] = {}
    host = block.get("hostname")
    if host is not None:
        found["host"] = checked(host, _AUTHORITY)
        host.kept("rewrite.host")
    _put_path(block, found, has_prefixes)
    if not found:
        raise WrongError(block, "expected `hostname` or `path`, found none")
    return found


def redirect(block: Field, has_prefixes: bool) -> dict[str, Plain]:
    """Where a RequestRedirect leads."""
    found: dict[str, Plain] = {}
    scheme, host, port = block.get("scheme"), block.get("hostname"), block.get("port")
    if scheme is not None:
        if scheme.text() not in _PORTS:
            raise WrongError(scheme, f"expected http or https, found `{scheme.text()}`")
        found["scheme"] = scheme.text()
        scheme.kept("redirect.scheme")
    if host is not None:
        found["host"] = checked(host, _AUTHORITY)
        host.kept("redirect.host")
    if port is not None:
        if not 1 <= port.integer() <= 65535:
            raise WrongError(port, f"expected a port from 1 to 65535, found {port.integer()}")
        found["port"] = port.integer()
        port.kept("redirect.port")
    elif scheme is not None:
        # "If redirect scheme is not-empty, the redirect port MUST be the well-known port associated with [it]."
        found["port"] = _PORTS[scheme.text()]
    _put_path(block, found, has_prefixes)
    if not found:
        raise WrongError(block, "it leads to itself: nothing of the request is changed")
    status = block.get("statusCode")
    code = 302 if status is None else status.integer()
    if code not in _REDIRECTS:
        assert status is not None
        raise WrongError(status, f"expected 301, 302, 303, 307 or 308, found {code}")
    found["status"] = code
    if status is not None:
        status.kept("redirect.status")
    return found


def _put_mirror(block: Field, rest: dict[str, Plain], target: Target) -> None:
    percent, fraction = block.get("percent"), block.get("fraction")
    share = 100.0
    if percent is not None:
        share = float(percent.integer())
        percent.kept("mirror.percent")
    elif fraction is not None:
        denominator = fraction.get("denominator")
        share = (
            100 * fraction.need("numerator").integer() / (100 if denominator is None else denominator.integer() or 1)
        )
        fraction.kept("mirror.percent")
    if not 0 <= share <= 100:
        raise WrongError(percent or fraction or block, f"expected a share from 0 to 100 percent, found {share:g}")
    name = target(block.need("backendRef"))
    if name is None:
        return
    mirror: dict[str, Plain] = {"to": name}
    if share != 100:
        mirror["percent"] = f"{number(round(share, 6))}%"
    before = rest.get("mirror", [])
    mirrors = [*(before if isinstance(before, list) else [before]), mirror]
    if any(isinstance(one, dict) and one["to"] == name for one in mirrors[:-1]):
        raise WrongError(block, f"`{name}` gets a copy already, and this is a second", "add up the shares")
    rest["mirror"] = mirror if len(mirrors) == 1 else mirrors


def put_times(rule: Field, rest: dict[str, Plain]) -> None:
    """Put a rule's timeouts and retries."""
    timeouts, retry = rule.get("timeouts"), rule.get("retry")
    request = timeouts.get("request") if timeouts is not None else None
    backend = timeouts.get("backendRequest") if timeouts is not None else None
    whole: float | None = None
    if request is not None:
        whole = seconds(request)
        rest["timeout"] = duration(whole) if whole else LONGEST
        request.kept(f"timeout: {rest['timeout']}")
    policy: dict[str, Plain] = {}
    if retry is not None:
        policy = _retry(retry)
    if backend is not None:
        each = seconds(backend)
        if not each or (whole and each > whole):
            backend.dropped("it never ends an attempt: it is not shorter than the whole")
        else:
            policy["per_try_timeout"] = duration(each)
            backend.kept("retry.per_try_timeout: for an answer's head")
    if policy:
        rest["retry"] = policy


def _retry(block: Field) -> dict[str, Plain]:
    on: list[Plain] = []
    for code in block.each("codes"):
        status = code.integer()
        if 400 <= status <= 599:
            on += [status] if status not in on else []
            code.kept("retry.on")
        else:
            code.dropped("answers below 400 are none that one retries", is_lost=True)
    found: dict[str, Plain] = {"on": [*on, "connect_failure", "reset_before_response", "refused"]}
    attempts, backoff = block.get("attempts"), block.get("backoff")
    if attempts is not None:
        tries = min(max(attempts.integer(), 0), _MAX_ATTEMPTS)
        found = {"attempts": tries, **found}
        attempts.kept("retry.attempts") if tries == attempts.integer() else attempts.changed(f"retry.attempts: {tries}")
    if backoff is not None:
        base = seconds(backoff)
        found["backoff"] = {"base": duration(base), "max": duration(max(base * 10, 0.25))}
        backoff.changed("retry.backoff: waits are drawn from 0 to a bound, which doubles")
    return found


def put_persistence(rule: Field, rest: dict[str, Plain], targets: int) -> None:
    """Put what keeps a user on one side of the weights."""
    block = rule.get("sessionPersistence")
    if block is None:
        return
    name, kind = block.get("sessionName"), block.get("type")
    if name is None:
        block.dropped("it names no cookie and no header, and a sidecar makes none", "give `sessionName`", is_lost=True)
        return
    word = "header" if kind is not None and kind.text() == "Header" else "cookie"
    if targets < 2:
        hint = f"say `load_balancing: {{hash: {{{word}: {name.text()}}}}}` in the service's file"
        block.dropped("`sticky` keeps users on one side of weights, of which the rule has none", hint)
        return
    rest["sticky"] = {word: name.text()}
    hint = "the app must give it: a sidecar reads it and sets none"
    name.changed(f"sticky.{word}: keeps users on one side of the weights", hint)
    if kind is not None:
        kind.kept(f"sticky.{word}")
