"""The YAML file of the demonstration's sidecar: the one to edit while it runs. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass

CANARY = {"recommendations": 95, "recommendations-beta": 5}
"""Weights at the start, by upstream."""
EVEN = {"recommendations": 50, "recommendations-beta": 50}
BETA_ROUTE = "beta-users"
CANARY_ROUTE = "canary"
VERSION_OF = {"recommendations": "v1", "recommendations-beta": "beta"}
"""What the app behind each upstream says it is."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Ports on 127.0.0.1 that the file names."""

    inbound: int
    outbound: int
    metrics: int
    admin: int
    storefront: int
    recommendations: int
    beta: int
    collector: int


def configuration(at: Addresses, weights: dict[str, int], edition: str = "") -> str:
    """
    The file.

    Args:
        weights: Of the upstreams of the route `canary`.
        edition: If given, responses of the app get it as `x-edition`, which shows when the file took effect.
    """
    split = ", ".join(f"{name}: {weight}" for name, weight in weights.items())
    stamp = f'\n      response_headers: {{set: {{x-edition: "{edition}"}}}}' if edition else ""
    return f"""\
# The storefront's sidecar. Edit and save: it takes effect within a second, and a mistake changes nothing.
# Try other weights at `canary`, or a route of your own: the first that matches wins.
service: {{name: storefront, namespace: demo}}

inbound:                             # requests to the storefront
  listen: 127.0.0.1:{at.inbound}
  app: 127.0.0.1:{at.storefront}
  routes:
    - name: teapot
      match: {{path: /teapot}}
      respond: {{status: 418, body: "short and stout\\n", headers: {{content-type: text/plain}}}}
    - name: pages
      match: {{path: {{prefix: /}}}}{stamp}

outbound:                            # requests from the storefront, which has HTTP_PROXY=http://127.0.0.1:{at.outbound}
  listen: 127.0.0.1:{at.outbound}
  routes:
    - name: {BETA_ROUTE}
      match:
        host: recommendations
        cookies: {{BETA_USER: "true"}}
      to: recommendations-beta
    - name: {CANARY_ROUTE}
      match: {{host: recommendations}}
      to: {{{split}}}    # sidecar: ignore split-without-sticky

upstreams:
  recommendations: {{endpoints: ["127.0.0.1:{at.recommendations}"]}}
  recommendations-beta: {{endpoints: ["127.0.0.1:{at.beta}"]}}

drain: {{timeout: 5s}}
admin: {{listen: "127.0.0.1:{at.admin}"}}
telemetry:
  metrics: {{listen: "127.0.0.1:{at.metrics}"}}
  traces: {{otlp_endpoint: "http://127.0.0.1:{at.collector}"}}
  access_log: {{path: /dev/stdout, format: json}}
"""


def broken(text: str) -> str:
    """The file with a mistake that people make."""
    return text.replace("      match:\n", "      mach:\n", 1)
