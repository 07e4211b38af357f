"""The rules that warn, by names that stay: what a report, a comment that ignores one, and docs/check.md call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PAGE: Final = "docs/check.md"
"""Where each of them has a section of its name."""

RULES: Final[Mapping[str, str]] = {
    "route-never-matches": "No request takes this route: earlier ones take all that it asks for.",
    "route-shadowed": "An earlier route takes a part of what this one asks for more precisely.",
    "upstream-unused": "No request can come to this upstream.",
    "weights-one-sided": "All of the weight of a split is on one side.",
    "split-without-sticky": "A user changes between the versions of a beta from one request to the next.",
    "cookie-header-regex": "The whole `cookie` header is tested where one cookie is meant.",
    "retries-exceed-timeout": "The route's timeout ends before the retries that it asks for.",
    "limits-contradict": "One limit makes that another is never reached.",
    "own-listener": "Requests are sent to a listener of the file itself.",
    "dollar-in-substitution": "`$1` is no group in a substitution: it is sent as it is.",
    "dns-unresolved": "A name has no address, asked from here (`--resolve` only).",
    "header-dropped": "A route asks for a header that is dropped before.",
    "redirect-to-itself": "A redirection leads to the route that it comes from.",
    "listener-leads-nowhere": "No upstream has the host that a listener is for.",
    "listener-left-out": "The local list of listeners replaces a pushed one that has more.",
    "setting-without-effect": "Another setting makes that this one has no effect.",
    "template-without-names": "A segment of a template looks like a name and stands for itself.",
    "templates-differ": "The matches of a route have several templates, so that none is its `http.route`.",
    "rule-never-matches": "No request comes to this rule of authorization: earlier ones match all of it.",
    "keys-in-clear": "The keys that tokens are verified by come in clear.",
    "tls-not-verified": "Whoever answers is believed.",
    "tls-without-identity": "TLS between sidecars needs an identity, which the file does not have.",
    "tls-server-name-missing": "A certificate would have to be for an address.",
    "workload-api-remote": "A private key comes over the network in clear.",
    "otel-variable": "A variable of this environment has no effect.",
    "call-not-admitted": "A service calls another that does not admit it (files of a mesh).",
    "caller-outside": "A caller that is outside of the mesh has no identity (files of a mesh).",
    "caller-without-identity": "A caller whose TLS is off has no identity (files of a mesh).",
    "calls-not-named": "A sidecar is told of very many services that its app hardly calls (files of a mesh).",
    "https-port-in-clear": "Calls go to the port of HTTPS without TLS (files of a mesh).",
}
"""By its name, what a rule says of a file, in one sentence."""
