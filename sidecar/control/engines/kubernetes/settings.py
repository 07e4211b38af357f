"""Where the API of Kubernetes is, and who we are to it. *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from sidecar.control.addresses import is_loopback

ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet mounts a pod's token, CA and namespace."""

DEFAULT_MESH: Final = "mesh"

_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """
    What the options `--kubernetes...` say.

    Attributes:
        url: Of the API, without a `/` at its end.
        token_file: With a bearer token, followed; empty for none.
        ca: Path of the certificates that the API's is signed by; empty for the system's.
        namespace: In which all objects are; empty: what `namespace_file` says.
        mesh: Value of the label of the mesh's ConfigMaps, and part of the name of each of our objects.
    """

    url: str
    token_file: str = ""
    ca: str = ""
    namespace: str = ""
    namespace_file: str = ""
    mesh: str = DEFAULT_MESH

    @property
    def is_tls(self) -> bool:
        """Whether it is spoken to by TLS."""
        return self.url.startswith("https:")


def read_settings(
    environment: Mapping[str, str],
    *,
    url: str = "",
    token_file: str = "",
    ca: str = "",
    namespace: str = "",
    mesh: str = "",
) -> KubernetesSettings:
    """
    Settings by `--kubernetes`, `--kubernetes-token-file`, `-ca`, `-namespace` and `-mesh`; without a URL, those of the
    pod that this runs in.

    Raises:
        ValueError: They do not fit; the text names the option.
    """
    for option, value in (("namespace", namespace), ("mesh", mesh)):
        if value and _LABEL.fullmatch(value) is None:
            raise ValueError(
                f"--kubernetes-{option}: expected lower-case letters, digits and `-`, at most 63, found {value!r}"
            )
    mesh = mesh or DEFAULT_MESH
    if url:
        at = _url(url)
        if token_file and at.startswith("http:") and not is_loopback(urlsplit(at).hostname or ""):
            raise ValueError("--kubernetes-token-file is given with an address in clear; expected https://")
        if ca and at.startswith("http:"):
            raise ValueError("--kubernetes-ca is given with an address in clear; expected https://")
        if not namespace:
            raise ValueError("--kubernetes is given without --kubernetes-namespace")
        return KubernetesSettings(at, token_file, ca, namespace, "", mesh)
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ValueError("this is no pod of Kubernetes (KUBERNETES_SERVICE_HOST is not set); give --kubernetes URL")
    return KubernetesSettings(
        _url(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"),
        token_file or f"{ACCOUNT}/token",
        ca or f"{ACCOUNT}/ca.crt",
        namespace,
        f"{ACCOUNT}/namespace",
        mesh,
    )


def _url(written: str) -> str:
    wrong = ValueError("--kubernetes: expected https://HOST[:PORT][/PATH] and nothing else")
    try:
        parts = urlsplit(written)
        has_port = parts.port is None or 1 <= parts.port <= 65535
    except ValueError:
        raise wrong from None
    # A user's password is not shown: it does not belong into a command line that everybody can list.
    is_bare = not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in ("https", "http") or not parts.hostname or not has_port or not is_bare:
        raise wrong
    return written.rstrip("/")
