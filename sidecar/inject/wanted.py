"""What is wanted of an injection, and what comes of it, whatever the platform. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.inject.edits import Edit, Path

INBOUND: Final = 15000
OUTBOUND: Final = 15001
CAPTURED: Final = 15006
HEALTH: Final = 15020
OWN_PORTS: Final = (9901, INBOUND, OUTBOUND, CAPTURED, HEALTH, 15021)
"""On which a sidecar listens, or is looked for by who knows other meshes: no app's beside it may be one of them."""

USER: Final = 1337
NAMES: Final = ("sidecar", "sidecar-capture")
"""Of what is added: the sidecar, and what leads connections to it."""

PREFIX: Final = "sidecar.mesh/"
WISH: Final = PREFIX + "inject"
"""By this a workload says whether it wants a sidecar: an annotation, or a label, by which the API can select."""
INJECTED: Final = PREFIX + "injected"
"""By this is known what was injected: the release that did it, and a hash of what it added."""
UNDO: Final = PREFIX + "undo"
"""What takes it out again: `text.restore` in JSON."""

_PROXY: Final = f"http://127.0.0.1:{OUTBOUND}"
_NO_PROXY: Final = "localhost,127.0.0.1,169.254.169.254,169.254.170.2"
PROXY_ENV: Final = {"HTTP_PROXY": _PROXY, "http_proxy": _PROXY, "NO_PROXY": _NO_PROXY, "no_proxy": _NO_PROXY}
"""In both cases of letters: libraries differ in which they read. Clouds tell of machines and tasks at the addresses."""

HEALTH_TEST: Final = (
    "CMD",
    "python3",
    "-E",
    "-S",
    "-c",
    f"import socket; s = socket.create_connection(('127.0.0.1', {HEALTH}), 2); "
    "s.sendall(b'GET /ready HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n'); "
    "raise SystemExit(s.makefile('rb').readline().split()[1:2] != [b'200'])",
)
"""The image's own health check, for who does not look at an image's: a tenth of what `sidecar wait` costs."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What was asked for; a workload's own words override most of it.

    Attributes:
        image: Of the sidecar.
        control: Addresses of the control plane; empty: the file alone says what the sidecar does.
        config: What has its file: a ConfigMap, a directory of the machine that runs Compose, a volume of a task.
        mesh: Its name: by that a service account's token is made out to its control plane.
        roots: The ConfigMap with `roots.pem`, by which a control plane is believed.
        token: What has a join token: a Secret, as `token`; with Compose, a file; with ECS, the ARN of a secret.
        is_captured: The kernel leads the app's connections to the sidecar; None: as the platform is used.
        is_plain: A container like the app's, and no native sidecar.
        has_proxy_env: The app is told of the sidecar by `HTTP_PROXY`; None: as the platform is used.
        exclude_inbound, exclude_outbound: As `sidecar capture install` has them.
        cpu, memory: What is requested, as Kubernetes writes it.
        cpu_limit, memory_limit: Limits; empty for none.
        kubernetes: The cluster's version.
        services: Of a Compose file, besides those that say so themselves.
        replaces_app_mesh: App Mesh's Envoy in a task makes room for the sidecar.
    """

    image: str = "sidecar:latest"
    control: tuple[str, ...] = ()
    config: str = ""
    mesh: str = ""
    roots: str = ""
    token: str = ""
    is_captured: bool | None = None
    is_plain: bool = False
    has_proxy_env: bool | None = None
    exclude_inbound: str = ""
    exclude_outbound: str = ""
    cpu: str = "50m"
    memory: str = "128Mi"
    cpu_limit: str = ""
    memory_limit: str = "512Mi"
    kubernetes: tuple[int, int] = (1, 30)
    services: tuple[str, ...] = ()
    replaces_app_mesh: bool = False

    @property
    def capture_option(self) -> str:
        """`SIDECAR_CAPTURE`: where no file says so, a sidecar is told that connections are led to it; else empty."""
        return "passthrough" if self.is_captured and self.control else ""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Why something is refused.

    Attributes:
        path: In the document.
        message: What was expected, and what found.
        hint: What to do.
    """

    path: Path
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What is to be done with one workload.

    Attributes:
        name: For people: `Deployment shop/web`.
        path: Of what has the edits, and what undoes them: a pod template, a service, a task.
        at: Of the workload itself.
        added: In a few words; empty: nothing.
        edits: Makes them, with paths from the document's root, of the marks by which they are known later; what they
            touch, and what they add but for these marks, is the same for any.
        told: What there is to know.
        problems: Why nothing is done.
    """

    name: str
    path: Path
    at: Path
    added: str = ""
    edits: Callable[[Mapping[str, str]], tuple[Edit, ...]] = lambda _: ()
    told: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """
    What an earlier injection left behind.

    Attributes:
        name: Of the workload, for people.
        path: As `Decision.path`.
        marks: Where it stands: a mapping with `INJECTED` and `UNDO`.
        undo: The text of `UNDO`; None if there is none.
    """

    name: str
    path: Path
    marks: Path
    undo: str | None
