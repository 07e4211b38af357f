"""In which form somebody wants an answer: `Accept` and `Accept-Encoding` (RFC 9110, 12.5). *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.telemetry.metrics.exposition import Format

_MAX_MEMBERS = 64
_OPENMETRICS = ("application/openmetrics-text",)
_TEXT = ("text/plain", "text/*", "*/*")


def format_of(accept: str) -> Format:
    """
    OpenMetrics if it is preferred to plain text, as Prometheus does; else the text format, also for what names neither.

    Parameters but for `q` are ignored: both formats have one version in use, and names here need no escaping.
    """
    weights = _weights(accept)
    openmetrics = max((weights[name] for name in _OPENMETRICS if name in weights), default=0.0)
    # The most specific range counts (RFC 9110, 12.5.1).
    text = next((weights[name] for name in _TEXT if name in weights), 0.0)
    return Format.OPENMETRICS if openmetrics > text else Format.TEXT


def wants_page(accept: str) -> bool:
    """
    Whether a person's browser asks: HTML is named, and nothing is said to be better than it.

    Ranges do not name it: curl, probes and scripts accept anything (`*/*`), and want what they have always got.
    """
    weights = _weights(accept)
    html = weights.get("text/html", 0.0)
    return html > 0 and html >= max(weights.get("text/plain", 0.0), weights.get("application/json", 0.0))


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip may be sent: it is named, or `*` is, with a weight above zero."""
    weights = _weights(accept_encoding)
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weights(header: str) -> dict[str, float]:
    """The members of a list, lower case, with the highest weight that each is given."""
    weights: dict[str, float] = {}
    for name, weight in _members(header):
        weights[name] = max(weight, weights.get(name, 0.0))
    return weights


def _members(header: str) -> Iterator[tuple[str, float]]:
    for member in header.lower().split(",")[:_MAX_MEMBERS]:
        name, *parameters = (part.strip() for part in member.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = _weight(value.strip())
        if name:
            yield name, weight


def _weight(value: str) -> float:
    """`qvalue` (RFC 9110, 12.4.2); what is none counts as 0, so that nothing unclear is sent."""
    whole, _, rest = value.partition(".")
    if whole not in ("0", "1") or len(rest) > 3 or not ((rest.isascii() and rest.isdigit()) or not rest):
        return 0.0
    return min(float(f"{whole}.{rest or 0}"), 1.0)
