"""The mesh of the demonstration as its directory says it: the files to edit while it runs. *Pure.*"""

from __future__ import annotations

from collections.abc import Mapping

CANARY = {"stable": 95, "beta": 5}
"""Weights at the start, by instance set of `recommendations`."""
EVEN = {"stable": 50, "beta": 50}
VERSION_OF = {"stable": "v1", "beta": "beta"}
HOLD_S = 1.0
"""Between two waves of a rollout."""

_MESH = f"""\
# The platform team's file. Each service has a file of its own in services/.
mesh: demo
authorization: {{mode: enforce}}       # who is not among a service's `callers` is refused
defaults:                            # of every service; each may say otherwise
  timeout: 5s
rollout:
  waves: [one, 100%]
  hold: {HOLD_S:g}s                           # after all of a wave run the new file, before the next
  thin: {{after: {HOLD_S:g}s, then: go}}                  # with too few requests to compare, go on all the same
"""

_STOREFRONT = """\
service: storefront
app: 127.0.0.1:8080
calls:                               # what it calls; its sidecars are told of nothing else
  recommendations: {}
  payments: {}
"""

_RECOMMENDATIONS = """\
# Edit and save: every caller follows, first one instance, a second later the rest; a mistake changes nothing.
service: recommendations
app: 127.0.0.1:8080
callers: [storefront]                # add `reports`, and its calls are answered
instances:                           # sets that routes can name, by the version that each sidecar was started with
  stable: {{registered: {{version: v1}}}}
  beta: {{registered: {{version: beta}}}}
routes:                              # they hold for every caller
  - name: beta-users
    match: {{cookies: {{BETA_USER: "true"}}}}
    to: beta
  - name: canary
    # sidecar: ignore split-without-sticky
    to: {{{split}}}{stamp}
calls:
  catalog: {{}}
"""

_CATALOG = """\
service: catalog
app: 127.0.0.1:8080
callers: [recommendations]
calls:
  prices: {{}}
{more}"""

_PRICES = """\
# A service of gRPC: no word of it is needed, for calls are known by what they are. Routes may ask for methods.
service: prices
app: 127.0.0.1:8080
callers: [catalog]
calls: {}                            # nobody: without the key it would be told of every service that admits it
"""

_REPORTS = """\
# It would like to know what is recommended, and nobody has asked the team of that service: each call is refused.
service: reports
app: 127.0.0.1:8080
calls:
  recommendations: {}
"""

_PAYMENTS = """\
# Outside of the mesh: it has no sidecar, so that its callers are told where it is.
service: payments
endpoints: ["127.0.0.1:{port}"]
"""


def mesh_files(
    payments_port: int, weights: Mapping[str, int] = CANARY, edition: str = "", catalog_timeout: str = ""
) -> dict[str, str]:
    """
    All files of the directory, by name.

    Args:
        weights: Of the instance sets of `recommendations`.
        edition: If given, answers of `recommendations` get it as `x-edition`, which shows when the file took effect.
        catalog_timeout: Of calls to `catalog`, such as `3s`.
    """
    split = ", ".join(f"{name}: {weight}" for name, weight in weights.items())
    stamp = f'\n    response_headers: {{set: {{x-edition: "{edition}"}}}}' if edition else ""
    more = f"timeout: {catalog_timeout}\n" if catalog_timeout else ""
    return {
        "mesh.yaml": _MESH,
        "services/storefront.yaml": _STOREFRONT,
        "services/recommendations.yaml": _RECOMMENDATIONS.format(split=split, stamp=stamp),
        "services/catalog.yaml": _CATALOG.format(more=more),
        "services/prices.yaml": _PRICES,
        "services/reports.yaml": _REPORTS,
        "services/payments.yaml": _PAYMENTS.format(port=payments_port),
    }


def by_version(weights: Mapping[str, int]) -> dict[str, int]:
    """Weights by what the apps say that they are."""
    return {VERSION_OF[name]: weight for name, weight in weights.items()}


def broken(text: str) -> str:
    """A service's file with a mistake that people make."""
    return text.replace("    match: {cookies", "    mach: {cookies", 1)


def local_file(*, inbound: int, outbound: int, metrics: int, admin: int, app: int) -> str:
    """What a sidecar's own file says in a mesh: the ports of this machine, and nothing of routing."""
    return f"""\
inbound: {{listen: "127.0.0.1:{inbound}", app: "127.0.0.1:{app}"}}
outbound: {{listen: "127.0.0.1:{outbound}"}}
admin: {{listen: "127.0.0.1:{admin}"}}
telemetry:
  metrics: {{listen: "127.0.0.1:{metrics}"}}
  access_log: {{path: /dev/null}}
drain: {{timeout: 5s}}
"""
