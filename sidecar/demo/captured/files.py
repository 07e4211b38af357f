"""The files of the demonstration of captured traffic: of the mesh, of names, and of each host. *Pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

APP_PORT = 8080
REDIS_PORT = 6379
HTTPS_PORT = 443
BANK = "bank.example"

CONTROL_HOST = "control"
CUSTOMERS_HOST = "customers"


@dataclass(frozen=True, slots=True)
class Service:
    """
    An app with its sidecar, on a host of its own.

    Attributes:
        host: Its name.
        calls: URLs that its app calls for each page.
    """

    host: str
    service: str
    version: str
    calls: tuple[str, ...] = ()


SERVICES = (
    Service(
        "storefront", "storefront", "v1",
        ("http://recommendations/", f"http://payments:{APP_PORT}/", "redis://cart/", f"https://{BANK}/"),
    ),
    Service("recommendations-v1", "recommendations", "v1"),
    Service("recommendations-beta", "recommendations", "beta"),
)  # fmt: skip
OUTSIDE = ("payments", "cart", "bank")
"""Hosts without a sidecar: HTTP in clear, Redis, HTTPS."""
HOSTS = (CONTROL_HOST, *(one.host for one in SERVICES), *OUTSIDE, CUSTOMERS_HOST)

KNOWN_AS = {
    "storefront": ("storefront",),
    "recommendations-v1": ("recommendations", "recommendations-v1"),
    "recommendations-beta": ("recommendations-beta",),
    "payments": ("payments",),
    "cart": ("cart",),
    "bank": (BANK,),
}
"""What every host resolves. `recommendations` leads to one of its hosts; which of them answers, its routes say."""

_MESH = """\
# The platform team's file. Each service has a file of its own in services/.
mesh: demo
authorization: {mode: enforce}       # who is not among a service's `callers` is refused
defaults: {timeout: 5s}
rollout: {waves: [one, 100%], hold: 1s, thin: {after: 1s, then: go}}
"""
_STOREFRONT = """\
# Its app knows names and nothing else: no HTTP_PROXY, no port of a sidecar.
service: storefront
app: 127.0.0.1:8080
calls:
  recommendations: {}
  payments: {}
  cart: {}                           # Redis: what is no HTTP goes by as TCP
  bank: {}                           # HTTPS, which nobody here decrypts: by the name in its ClientHello
"""
_RECOMMENDATIONS = """\
# Edit and save: its callers follow.
service: recommendations
app: 127.0.0.1:8080
callers: [storefront]
instances:
  stable: {registered: {version: v1}}
  beta: {registered: {version: beta}}
routes:
  - name: canary
    to: {stable: 80, beta: 20}         # sidecar: ignore split-without-sticky
calls: {}                            # nobody: without the key it would be told of every service that admits it
"""


def mesh_files(addresses: Mapping[str, str]) -> dict[str, str]:
    """
    All files of the mesh's directory, by name.

    Args:
        addresses: Of the hosts that have no sidecar, by their names.
    """
    outside = "# Outside of the mesh: it has no sidecar.\n"
    payments, cart, bank = (addresses[name] for name in OUTSIDE)
    return {
        "mesh.yaml": _MESH,
        "services/storefront.yaml": _STOREFRONT,
        "services/recommendations.yaml": _RECOMMENDATIONS,
        "services/payments.yaml": (
            f'{outside}service: payments\nhosts: ["payments:{APP_PORT}"]\nendpoints: ["{payments}:{APP_PORT}"]\n'
        ),
        "services/cart.yaml": f'{outside}service: cart\nendpoints: ["{cart}:{REDIS_PORT}"]\n',
        "services/bank.yaml": (
            f'{outside}service: bank\nhosts: ["{BANK}:{HTTPS_PORT}"]\nendpoints: ["{bank}:{HTTPS_PORT}"]\n'
        ),
    }


def local_file() -> str:
    """What each sidecar's own file says: the same on all hosts, as each has a network of its own."""
    return f"""\
inbound: {{listen: "0.0.0.0:15000", app: "127.0.0.1:{APP_PORT}"}}
admin: {{listen: "127.0.0.1:9901"}}
telemetry:
  metrics: {{listen: "127.0.0.1:15020"}}
  access_log: {{path: /dev/null}}
drain: {{timeout: 2s}}
"""
