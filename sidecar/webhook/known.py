"""What others must know of the webhook to have it asked: who prints its manifests, above all. *Pure.*"""

from __future__ import annotations

from typing import Final

PORT: Final = 15017
"""Of reviews; Istio's, too, so rules of firewalls between API server and nodes may know it."""
OPS_PORT: Final = 15014
"""Of probes and scrapers; as the control plane's."""
PATH: Final = "/inject"
SECRET: Final = "webhook"
"""Of its authority, behind `sidecar-MESH.`."""
TIMEOUT_S: Final = 5
"""That the API is to wait."""
EXEMPT: Final = ("kube-system", "kube-node-lease")
"""Namespaces without which a cluster does not work, whatever somebody's selectors say."""
