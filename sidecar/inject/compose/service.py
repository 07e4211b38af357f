"""The services that are added to a Compose file. *Pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.inject.compose.ports import led_to
from sidecar.inject.edits import Value
from sidecar.inject.said import NO_PORT, Said
from sidecar.inject.wanted import HEALTH_TEST, INBOUND, USER

MOVED: Final = (
    "ports", "expose", "networks", "hostname", "domainname", "mac_address", "dns", "dns_search", "dns_opt",
    "extra_hosts", "links", "sysctls",
)  # fmt: skip
"""What is of the network namespace, and so of the service that owns it; Docker refuses it of one that joins."""
KEPT_AS: Final = "x-sidecar-"
"""What precedes a key that was moved, where it was: Compose reads nothing that begins with `x-`."""


def sidecar(
    name: str, app: Mapping[str, Value], said: Said, service: str, app_port: str, marks: Mapping[str, str]
) -> dict[str, Value]:
    """
    The sidecar's service, which owns the network namespace: it is there before the app, and ready before it.

    Args:
        name: Of the app's service, by which others reach both.
        app: The app's service.
    """
    wanted = said.wanted
    found: dict[str, Value] = {
        "image": wanted.image,
        "command": ["run"],
        "user": f"{USER}:{USER}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        "healthcheck": {"test": list(HEALTH_TEST), "interval": "2s", "timeout": "3s", "retries": 30},
        "environment": _environment(said, service, app_port),
        "volumes": _volumes(said),
    }
    if wanted.control:
        found["tmpfs"] = [f"/var/lib/sidecar:mode=0700,uid={USER},gid={USER}"]
    found |= {key: app[key] for key in ("profiles", "platform") if key in app}
    found |= {key: app[key] for key in MOVED if key in app and key not in ("ports", "networks")}
    found["networks"] = _networks(app.get("networks"), name)
    ports = app.get("ports")
    if isinstance(ports, list):
        is_led = app_port and app_port != NO_PORT and not wanted.is_captured
        found["ports"] = [led_to(one, int(app_port), INBOUND) for one in ports] if is_led else ports
    return {key: value for key, value in found.items() if value not in ([], {})} | {"labels": dict(marks)}


def capture(owner: str, said: Said, app: Mapping[str, Value]) -> dict[str, Value]:
    """The service that leads connections to the sidecar, and ends."""
    args: list[Value] = ["capture", "install"]
    for option, value in (("inbound", said.wanted.exclude_inbound), ("outbound", said.wanted.exclude_outbound)):
        if value:
            args += [f"--exclude-{option}", value]
    found: dict[str, Value] = {
        "image": said.wanted.image,
        "command": args,
        "user": "0:0",
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": ["NET_ADMIN"],
        "security_opt": ["no-new-privileges:true"],
        "network_mode": f"service:{owner}",
        "depends_on": {owner: {"condition": "service_started", "restart": True}},
        "healthcheck": {"disable": True},
    }
    return found | {key: app[key] for key in ("profiles", "platform") if key in app}


def _environment(said: Said, service: str, app_port: str) -> dict[str, Value]:
    wanted = said.wanted
    named = {
        "SIDECAR_SERVICE": service,
        "SIDECAR_VERSION": said.version,
        "SIDECAR_APP_PORT": "" if app_port == NO_PORT else app_port,
        "SIDECAR_CONTROL": " ".join(wanted.control),
        "SIDECAR_CAPTURE": wanted.capture_option,
        "SIDECAR_CONTROL_TOKEN_FILE": "/run/secrets/sidecar-token" if wanted.control and wanted.token else "",
    }
    return {name: value for name, value in named.items() if value}


def _volumes(said: Said) -> list[Value]:
    wanted = said.wanted
    # The directory, not the file: an editor that replaces the file would leave a mounted one at its old content.
    found: list[Value] = [f"{_of_machine(wanted.config)}:/etc/sidecar:ro"] if wanted.config else []
    if wanted.control and wanted.token:
        found.append(f"{_of_machine(wanted.token)}:/run/secrets/sidecar-token:ro")
    return found


def _of_machine(path: str) -> str:
    """A path that is none of a named volume's."""
    return path if path.startswith((".", "/", "~", "$")) else f"./{path}"


def _networks(networks: Value, name: str) -> dict[str, Value]:
    """The app's networks, in each of which the sidecar has the app's name."""
    if isinstance(networks, Mapping):
        given = dict(networks)
    else:
        given = {str(one): None for one in networks} if isinstance(networks, list) else {"default": None}
    found: dict[str, Value] = {}
    for network, settings in given.items():
        own = dict(settings) if isinstance(settings, Mapping) else {}
        aliases = own.get("aliases")
        own["aliases"] = [*(aliases if isinstance(aliases, list) else []), name]
        found[network] = own
    return found
