"""Warnings of one route, by itself. *Cold, pure.*"""

from __future__ import annotations

import re
from typing import Final

from sidecar.config.model.matches import Match, ValueMatch
from sidecar.config.model.resilience import Retry
from sidecar.config.model.routes import Destination, Rewrite, Route
from sidecar.config.problems import At, Reporter

_OF_A_BETA: Final = frozenset({"alpha", "beta", "canary", "experiment", "experimental", "next", "preview", "rc"})
"""Words in the name of an upstream that say that its answers are seen to be others."""
_WORD: Final = re.compile(r"[a-z]+")
_DOLLAR: Final = re.compile(r"\$\{?([0-9])\}?")
_VALUE_TESTS: Final = ("exact", "prefix", "suffix", "contains", "regex")


def warn_of_route(route: Route, at: At, report: Reporter) -> None:
    """Warn of what a route says of its destinations and of what it sends."""
    if route.to is not None and len(route.to) > 1:
        _warn_of_split(route, route.to, at, report)
    _warn_of_rewrite(route.rewrite, (*at, "rewrite"), report)
    for index, destination in enumerate(route.to or ()):
        _warn_of_rewrite(destination.rewrite, (*at, "to", index, "rewrite"), report)


def _warn_of_rewrite(rewrite: Rewrite | None, at: At, report: Reporter) -> None:
    if rewrite is not None and rewrite.regex is not None:
        found = _DOLLAR.search(rewrite.regex.substitution)
        if found is not None:
            message = f"`{found[0]}` is no group here, but sent as it is"
            here = (*at, "regex", "substitution")
            report(here, message, f"a group is written `\\{found[1]}`", rule="dollar-in-substitution")


def _warn_of_split(route: Route, destinations: list[Destination], at: At, report: Reporter) -> None:
    weighted = [one for one in destinations if one.weight]
    if len(weighted) == 1:
        idle = " and ".join(_side(one) for one in destinations if not one.weight)
        message = f"all of the weight is on {_side(weighted[0])}: no request goes to {idle}"
        report((*at, "to"), message, "give each a share, or remove the ones that have none", rule="weights-one-sided")
        return
    total = sum(one.weight for one in weighted)
    for one in weighted:
        if route.sticky is None and one.weight * 2 <= total and one.upstream is not None and is_beta(one.upstream):
            message = f"without `sticky` a user comes to `{one.upstream}` by chance with each request"
            hint = "such as `sticky: {cookie: uid}`, so that who is on a side stays there"
            report((*at, "to"), message, hint, rule="split-without-sticky")
            return


def _side(destination: Destination) -> str:
    return f"`{destination.upstream}`" if destination.upstream is not None else "the redirect"


def is_beta(upstream: str) -> bool:
    """Whether the name of an upstream says that it is another version than most users get: `shop-beta`, `shop.next`."""
    return not _OF_A_BETA.isdisjoint(_WORD.findall(upstream.lower()))


def warn_of_match(match: Match, at: At, report: Reporter) -> None:
    """Warn of what a match asks, of a route or of a rule."""
    test: ValueMatch | None = match.headers.get("cookie")
    kind = next((kind for kind in _VALUE_TESTS if test is not None and getattr(test, kind) is not None), None)
    if kind is not None:
        message = f"`{kind}` is asked of all cookies together, whose order and number the browser chooses"
        hint = "ask the one that is meant: `cookies: {NAME: VALUE}`"
        report((*at, "headers", "cookie"), message, hint, at_key=True, rule="cookie-header-regex")


def warn_of_retry(retry: Retry, at: At, timeout: float | None, report: Reporter) -> None:
    """
    Warn of retries that there is no time for, or that nothing brings about.

    Args:
        timeout: Of the route, in seconds.
    """
    if "timeout" in retry.on and retry.per_try_timeout is None:
        message = "`timeout` has no effect without `per_try_timeout`: nothing ends an attempt but the route's `timeout`"
        report((*at, "on"), message, "say how long one attempt may take", rule="setting-without-effect")
    if retry.per_try_timeout is None or timeout is None or retry.per_try_timeout > timeout:
        return
    wanted = retry.per_try_timeout * (1 + retry.attempts)
    # Seconds were written in milliseconds at the finest; a sum of them may be off by a rounding.
    if retry.attempts and wanted > timeout * (1 + 1e-9):
        fitting = int(timeout / retry.per_try_timeout * (1 + 1e-9))
        attempts = f"{1 + retry.attempts} attempts of {seconds(retry.per_try_timeout)} take {seconds(wanted)}"
        room = f"{fitting} of them" if fitting > 1 else "one of them"
        message = f"{attempts}, and the route's `timeout` of {seconds(timeout)} has room for {room}"
        hint = "lengthen `timeout`, or shorten `per_try_timeout`"
        report((*at, "per_try_timeout"), message, hint, at_key=True, rule="retries-exceed-timeout")


def seconds(duration: float) -> str:
    """A duration as the file writes it: `250ms`, `1.5s`, `5m`."""
    if duration >= 60 and not duration % 60:
        return f"{duration / 60:g}m"
    return f"{duration * 1000:g}ms" if duration < 1 else f"{duration:g}s"
