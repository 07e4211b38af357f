"""The containers that are added to a task. *Pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.inject.edits import Value
from sidecar.inject.said import NO_PORT, Said
from sidecar.inject.wanted import HEALTH, HEALTH_TEST, INBOUND, NAMES, USER

TOKEN: Final = "sidecar-token"
STATE: Final = "sidecar-state"
_TOKEN_FOLDER: Final = "/var/run/mesh"
_WRITES_TOKEN: Final = f"import os; os.umask(0o077); open('{_TOKEN_FOLDER}/token', 'w').write(os.environ['MESH_TOKEN'])"
_MAX_FILES: Final = 65536


def sidecar(said: Said, service: str, app_port: str, marks: Mapping[str, str], *, has_token: bool) -> dict[str, Value]:
    """The sidecar, by the API's spelling."""
    wanted = said.wanted
    mounts: list[Value] = []
    if wanted.config:
        mounts.append({"sourceVolume": wanted.config, "containerPath": "/etc/sidecar", "readOnly": True})
    if has_token:
        mounts.append({"sourceVolume": TOKEN, "containerPath": _TOKEN_FOLDER, "readOnly": True})
    if wanted.control:
        mounts.append({"sourceVolume": STATE, "containerPath": "/var/lib/sidecar"})
    found: dict[str, Value] = {
        "name": NAMES[0],
        "image": wanted.image,
        "essential": True,
        "user": str(USER),
        "readonlyRootFilesystem": True,
        "command": ["run"],
        "environment": _environment(said, service, app_port, has_token=has_token),
        "dependsOn": [{"containerName": TOKEN, "condition": "SUCCESS"}] if has_token else [],
        "mountPoints": mounts,
        "portMappings": [{"containerPort": port, "protocol": "tcp"} for port in (INBOUND, HEALTH)],
        # ECS does not look at an image's own.
        "healthCheck": {"command": list(HEALTH_TEST), "interval": 5, "timeout": 3, "retries": 3, "startPeriod": 30},
        "ulimits": [{"name": "nofile", "softLimit": _MAX_FILES, "hardLimit": _MAX_FILES}],
        # A drain (20 s, and 3 s of goodbye) must fit.
        "stopTimeout": 60,
    }
    return {key: value for key, value in found.items() if value != []} | {"dockerLabels": dict(marks)}


def capture(said: Said) -> dict[str, Value]:
    """What leads connections to the sidecar, and ends."""
    args: list[Value] = ["capture", "install"]
    for option, value in (("inbound", said.wanted.exclude_inbound), ("outbound", said.wanted.exclude_outbound)):
        if value:
            args += [f"--exclude-{option}", value]
    return {
        "name": NAMES[1],
        "image": said.wanted.image,
        "essential": False,
        "user": "0",
        "readonlyRootFilesystem": True,
        "command": args,
        "linuxParameters": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}},
    }


def token(said: Said) -> dict[str, Value]:
    """What gets the join token as a variable, writes it where only the sidecar reads it, and ends."""
    return {
        "name": TOKEN,
        "image": said.wanted.image,
        "essential": False,
        "user": str(USER),
        "entryPoint": ["python3", "-c"],
        "command": [_WRITES_TOKEN],
        "secrets": [{"name": "MESH_TOKEN", "valueFrom": said.wanted.token}],
        "mountPoints": [{"sourceVolume": TOKEN, "containerPath": _TOKEN_FOLDER}],
    }


def _environment(said: Said, service: str, app_port: str, *, has_token: bool) -> list[Value]:
    named = {
        "SIDECAR_SERVICE": service,
        "SIDECAR_VERSION": said.version,
        "SIDECAR_APP_PORT": "" if app_port == NO_PORT else app_port,
        "SIDECAR_CONTROL": " ".join(said.wanted.control),
        "SIDECAR_CAPTURE": said.wanted.capture_option,
        "SIDECAR_CONTROL_TOKEN_FILE": f"{_TOKEN_FOLDER}/token" if has_token else "",
    }
    return [{"name": name, "value": value} for name, value in named.items() if value]
