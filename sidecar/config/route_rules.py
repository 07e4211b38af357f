"""The rules between the values of one route. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence, Set

import re2

from sidecar.config.model.matches import KeySource, Match, PathMatch, ValueMatch
from sidecar.config.model.resilience import RateLimit, Retry
from sidecar.config.model.routes import Destination, HeaderEdits, Redirect, Respond, Rewrite, Route
from sidecar.config.problems import At, Reporter, did_you_mean
from sidecar.config.values.addresses import split_pattern
from sidecar.config.values.words import regex_options
from sidecar.config.warnings.routes import warn_of_match, warn_of_retry, warn_of_route

_REDIRECTS = (301, 302, 303, 307, 308)
_OF_FORWARDING = (
    "sticky",
    "rewrite",
    "request_headers",
    "timeout",
    "retry",
    "mirror",
    "fault",
    "rate_limit",
    "upgrades",
)
_WITHOUT_BODY = (204, 205, 304)
_OF_RULES = tuple(kind for kind in PathMatch.kinds if kind != "template")
"""Tests of paths that rules of who may pass may use."""


def check_route(
    route: Route,
    at: At,
    upstreams: Set[str],
    report: Reporter,
    *,
    needs_action: bool,
    earlier: Sequence[Route] = (),
    unknown: str = "there is no upstream `{}`",
) -> None:
    """
    Check one route.

    Args:
        at: Its location.
        upstreams: Names that `to` may use.
        needs_action: Whether there is no app to which a route without an action could lead.
        earlier: Routes that are tried before it.
        unknown: What is said of a name that is none of `upstreams`.
    """
    given = [name for name in ("to", "redirect", "respond") if getattr(route, name) is not None]
    if len(given) > 1:
        found = " and ".join(f"`{name}`" for name in given)
        report(at, f"expected one of `to`, `redirect` and `respond`, found {found}", "make two routes of it")
    elif not given and needs_action:
        hint = "or set `inbound.app`, to which a route without them leads" if at[0] == "inbound" else ""
        report(at, "expected one of `to`, `redirect` and `respond`, found none", hint)
    for index, match in enumerate(route.match):
        check_match(match, (*at, "match", index), report)
    _check_templates(route, at, report)
    _check_destinations(route, at, upstreams, report, unknown, earlier)
    _check_policies(route, at, upstreams, report, unknown)
    if route.rewrite is not None:
        _check_rewrite(route.rewrite, (*at, "rewrite"), route, report)
    for name in ("request_headers", "response_headers"):
        _check_edits(getattr(route, name), (*at, name), report)
    warn_of_route(route, at, report)
    if route.redirect is not None:
        _check_redirect(route.redirect, (*at, "redirect"), route, earlier, report)
    if route.respond is not None:
        _check_respond(route.respond, (*at, "respond"), report)
    if len(given) == 1 and given[0] != "to":
        for name in _OF_FORWARDING:
            if getattr(route, name) is not None:
                report((*at, name), f"`{name}` has no effect beside `{given[0]}`", "remove it", at_key=True)


def check_key_source(source: KeySource, at: At, report: Reporter) -> None:
    """Check that exactly one source is given, and that `source_ip` is not `false`."""
    given = [name for name in KeySource.kinds if getattr(source, name) is not None]
    if len(given) != 1:
        report(at, f"expected one of `cookie`, `header`, `query` and `source_ip`, found {_and(given)}")
    elif source.source_ip is False:
        report((*at, "source_ip"), "expected `true`, found false", "name what is to be used instead")


def _check_destinations(
    route: Route, at: At, upstreams: Set[str], report: Reporter, unknown: str, earlier: Sequence[Route]
) -> None:
    destinations = route.to or []
    for index, destination in enumerate(destinations):
        name = destination.upstream
        here = (*at, "to", index)
        if (name is None) == (destination.redirect is None):
            found = "none" if name is None else "both"
            report(here, f"expected one of `upstream` and `redirect`, found {found}")
        if name is not None:
            if name not in upstreams:
                report((*here, "upstream"), unknown.format(name), did_you_mean(name, upstreams))
            if any(one.upstream == name and one.rewrite == destination.rewrite for one in destinations[:index]):
                hint = "add up its weights, or give each a `rewrite` of its own"
                report((*here, "upstream"), f"the upstream `{name}` comes twice", hint)
        if destination.rewrite is not None:
            _check_rewrite(destination.rewrite, (*here, "rewrite"), route, report)
        if destination.redirect is not None:
            _check_side(destination, here, route, earlier, report)
        _check_edits(destination.request_headers, (*here, "request_headers"), report)
        _check_edits(destination.response_headers, (*here, "response_headers"), report)
    if destinations and not any(destination.weight for destination in destinations):
        report((*at, "to"), "weights sum to 0", "give at least one upstream a positive weight")
    if route.sticky is not None:
        check_key_source(route.sticky, (*at, "sticky"), report)
        if len(destinations) < 2 and route.action in ("to", None):
            report((*at, "sticky"), "`sticky` needs at least two upstreams in `to`", "remove it", at_key=True)


def _check_side(destination: Destination, at: At, route: Route, earlier: Sequence[Route], report: Reporter) -> None:
    """A side that redirects; `earlier` is for what it shares with a route that does."""
    assert destination.redirect is not None
    _check_redirect(destination.redirect, (*at, "redirect"), route, earlier, report)
    if route.to is not None and len(route.to) == 1 and destination.upstream is None:
        report((*at, "redirect"), "a redirect is all that the route does", "write `redirect` of the route", at_key=True)
    for name in ("rewrite", "request_headers"):
        if getattr(destination, name) is not None:
            report((*at, name), f"`{name}` has no effect beside `redirect`", "remove it", at_key=True)


def _check_policies(route: Route, at: At, upstreams: Set[str], report: Reporter, unknown: str) -> None:
    if route.retry is not None:
        check_retry(route.retry, (*at, "retry"), route.timeout, report)
    mirrors = [mirror.to for mirror in route.mirror or ()]
    for index, name in enumerate(mirrors):
        here = (*at, "mirror", index, "to")
        if name not in upstreams:
            report(here, unknown.format(name), did_you_mean(name, upstreams))
        if name in mirrors[:index]:
            report(here, f"the mirror `{name}` comes twice", "remove one, or add up the shares")
    if route.fault is not None:
        if route.fault.delay is None and route.fault.abort is None:
            report((*at, "fault"), "expected `delay` or `abort`, found none", at_key=True)
        for name, test in route.fault.header.items():
            _check_test(test, (*at, "fault", "header", name), report)
        abort = route.fault.abort
        if abort is not None and abort.grpc_status is not None and "status" in abort.model_fields_set:
            message = "expected one of `status` and `grpc_status`, found both"
            report((*at, "fault", "abort", "status"), message, "a gRPC error has the status 200", at_key=True)
    if route.rate_limit is not None:
        check_rate_limit(route.rate_limit, (*at, "rate_limit"), report)


def check_retry(retry: Retry, at: At, timeout: float | None, report: Reporter) -> None:
    """Check a policy and, where there is one, the timeout that it lives with."""
    if retry.backoff.base > retry.backoff.max:
        report((*at, "backoff"), "`base` is longer than `max`", "the waits would begin above their bound", at_key=True)
    if retry.per_try_timeout is not None and timeout is not None and retry.per_try_timeout > timeout:
        hint = "`timeout` is for all attempts together, so this one would never end an attempt"
        report((*at, "per_try_timeout"), "longer than the route's `timeout`", hint, at_key=True)
    for index, condition in enumerate(retry.on):
        if condition in retry.on[:index]:
            report((*at, "on", index), f"`{condition}` comes twice", "remove one")
    warn_of_retry(retry, at, timeout, report)


def check_rate_limit(limit: RateLimit, at: At, report: Reporter) -> None:
    """Check a limit of a route or of a side."""
    if limit.key is not None:
        check_key_source(limit.key, (*at, "key"), report)


def check_match(match: Match, at: At, report: Reporter) -> None:
    """Check what a request must be, of a route or of a rule, which may give several paths."""
    if match.grpc is not None:
        _check_grpc(match, at, report)
    path: PathMatch | list[PathMatch] | None = match.path
    if isinstance(path, list):
        for index, one in enumerate(path):
            if one.template is None:
                _check_test(one, (*at, "path", index), report, _OF_RULES)
            else:
                hint = (
                    "a segment to us, `a%2Fb`, is two to some servers; use `prefix`, which takes in all that is below"
                )
                message = "`template` is for routes, and not for rules of who may pass"
                report((*at, "path", index, "template"), message, hint, at_key=True)
    elif path is not None:
        _check_test(path, (*at, "path"), report)
    for name in ("headers", "cookies", "query"):
        tests: dict[str, ValueMatch] = getattr(match, name)
        for key, test in tests.items():
            _check_test(test, (*at, name, key), report)
    warn_of_match(match, at, report)


def _check_grpc(match: Match, at: At, report: Reporter) -> None:
    """A call is known by its method, its path and its content type, which therefore nothing else asks."""
    assert match.grpc is not None
    for key in ("path", "methods"):
        if getattr(match, key):
            hint = "a call of gRPC is POST of `/SERVICE/METHOD`: say `service` and `method`, or leave `grpc` out"
            report((*at, key), f"expected one of `grpc` and `{key}`, found both", hint, at_key=True)
    if "content-type" in match.headers:
        message = "expected one of `grpc` and a header `content-type`, found both"
        hint = "`grpc` asks for it already; remove the header, or `grpc`"
        report((*at, "headers", "content-type"), message, hint, at_key=True)
    if match.grpc.method is not None and match.grpc.service is None:
        hint = "methods of different services may have one name; say whose it is"
        report((*at, "grpc", "method"), "`method` without a `service`", hint, at_key=True)


def _check_test(test: ValueMatch | PathMatch, at: At, report: Reporter, kinds: tuple[str, ...] | None = None) -> None:
    given = [name for name in test.kinds if getattr(test, name) is not None]
    if len(given) != 1:
        report(at, f"expected one of {_or(kinds or test.kinds)}, found {_and(given)}")
    elif test.ignore_case and given[0] in ("range", "present"):
        report((*at, "ignore_case"), f"`ignore_case` has no effect beside `{given[0]}`", "remove it", at_key=True)


def _check_templates(route: Route, at: At, report: Reporter) -> None:
    """What a template says that `http.route` will not, and what looks as if it were a name."""
    tests = [match.path for match in route.match]
    for index, test in enumerate(tests):
        if test is not None and test.template is not None:
            for segment in test.template.split("/"):
                if segment.startswith(":") or segment in ("*", "**"):
                    wanted = "{rest...}" if segment == "**" else f"{{{segment.strip(':*') or 'name'}}}"
                    message = f"`{segment}` in a template stands for itself"
                    here = (*at, "match", index, "path", "template")
                    report(here, message, f"did you mean `{wanted}`?", rule="template-without-names")
    templates = {test.template if test is not None and not test.invert else None for test in tests}
    if len(templates) > 1 and templates != {None}:
        message = "`http.route` is the route's name, because not all of its matches have the same template"
        report((*at, "match"), message, "make a route of each template", at_key=True, rule="templates-differ")


def _check_rewrite(rewrite: Rewrite, at: At, route: Route, report: Reporter) -> None:
    given = [name for name in ("path", "prefix", "regex") if getattr(rewrite, name) is not None]
    if not given and rewrite.host is None:
        report(at, "expected `host`, `path`, `prefix` or `regex`, found none", at_key=True)
    if len(given) > 1:
        report(at, f"expected one of `path`, `prefix` and `regex`, found {_and(given)}")
    if rewrite.prefix is not None:
        _check_prefix(route, (*at, "prefix"), report)
    if rewrite.regex is not None:
        pattern = rewrite.regex.pattern
        groups = re2.compile(pattern.encode(), regex_options(pattern)).groups
        _check_substitution(rewrite.regex.substitution, groups, (*at, "regex", "substitution"), report)


def _check_substitution(text: str, groups: int, at: At, report: Reporter) -> None:
    position = text.find("\\")
    while position >= 0:
        follower = text[position + 1 : position + 2]
        if follower.isascii() and follower.isdigit():
            if int(follower) > groups:
                report(at, f"`\\{follower}` names a group, of which the pattern has {groups}")
                return
        elif follower != "\\":
            report(at, f"expected a digit or `\\` after `\\`, found `{follower}`", "write `\\\\` for a backslash")
            return
        position = text.find("\\", position + 2)


def _check_prefix(route: Route, at: At, report: Reporter) -> None:
    """What replaces the prefix that was matched needs a match that has one, whichever match holds."""
    for match in route.match or [Match()]:
        path = match.path
        if match.grpc is not None and match.grpc.service is not None:
            continue
        if path is None or path.invert or not (path.prefix or path.starts_with or path.exact):
            hint = "give every match of the route `path: {prefix: ...}`"
            report(at, "there is no matched prefix to replace", hint, at_key=True)
            return


def _check_redirect(redirect: Redirect, at: At, route: Route, earlier: Sequence[Route], report: Reporter) -> None:
    if not any(getattr(redirect, name) is not None for name in ("scheme", "host", "port", "path", "prefix")):
        # 303 to its own address turns a POST into a GET of what it made; with any other status the same comes again.
        if redirect.status != 303:
            hint = "it would lead to itself; only 303, which is followed by GET, may stand alone"
            report(at, "expected `scheme`, `host`, `port`, `path` or `prefix`, found none", hint)
        elif _takes_its_own_get(route, earlier):
            message = "leads to itself: the GET that follows is answered by this route again"
            hint = "give it `methods: [POST]`, or put a route that takes the GET before it"
            report(at, message, hint, rule="redirect-to-itself")
    if redirect.path is not None and redirect.prefix is not None:
        report(at, "expected one of `path` and `prefix`, found both")
    if redirect.prefix is not None:
        _check_prefix(route, (*at, "prefix"), report)
    if redirect.status not in _REDIRECTS:
        report((*at, "status"), f"expected 301, 302, 303, 307 or 308, found {redirect.status}")


def _takes_its_own_get(route: Route, earlier: Sequence[Route]) -> bool:
    """Whether a GET of what matched comes to this route again, and no earlier one could take it."""
    own = [match for match in route.match or [Match()] if _takes_get(match)]
    others = [match for other in earlier for match in other.match or [Match()] if _takes_get(match)]
    return any(not any(_could_meet(one, other) for other in others) for one in own)


def _takes_get(match: Match) -> bool:
    return match.grpc is None and (not match.methods or "GET" in match.methods)


def _could_meet(one: Match, other: Match) -> bool:
    """Whether some request could match both, as far as exact hosts and paths can tell."""
    if not _could_be_one_host(one.host, other.host):
        return False
    first, second = (
        path.exact if path is not None and not path.invert and not path.ignore_case else None
        for path in (one.path, other.path)
    )
    return first is None or second is None or first == second


def _could_be_one_host(some: Sequence[str], others: Sequence[str]) -> bool:
    if not some or not others or any("*" in host for host in (*some, *others)):
        return True
    ports: dict[str, set[int | None]] = {}
    for host, port in map(split_pattern, some):
        ports.setdefault(host, set()).add(port)
    for host, port in map(split_pattern, others):
        found = ports.get(host, set())
        if port in found or None in found or (port is None and found):
            return True
    return False


def _check_respond(respond: Respond, at: At, report: Reporter) -> None:
    if respond.body and respond.status in _WITHOUT_BODY:
        report((*at, "body"), f"a response with status {respond.status} has no body", "remove it", at_key=True)


def _check_edits(edits: HeaderEdits | None, at: At, report: Reporter) -> None:
    if edits is None:
        return
    for index, name in enumerate(edits.remove):
        if name in edits.set:
            report((*at, "remove", index), f"the header `{name}` is also in `set`", "`set` already replaces it")


def _or(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names[:-1]) + f" and `{names[-1]}`"


def _and(names: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in names) or "none"
