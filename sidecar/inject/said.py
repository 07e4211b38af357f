"""What a workload says of its own sidecar: `sidecar.mesh/...`, in annotations, or in labels of Compose. *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sidecar.capture.exclusions import parse_exclusions
from sidecar.config.problems import did_you_mean
from sidecar.inject.edits import Path, Value
from sidecar.inject.wanted import INJECTED, PREFIX, UNDO, Finding, Wanted
from sidecar.mesh.model.words import parse_service_name

_QUANTITY: Final = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

NO_PORT: Final = "none"


@dataclass(frozen=True, slots=True)
class Said:
    """
    What holds for one workload.

    Attributes:
        wanted: With what the workload says otherwise.
        is_wanted: False where it wants no sidecar.
        service, version, app_port: Empty where it does not say; `app_port` may be `none`.
        is_quitting: A Job's app ends its sidecar itself.
    """

    wanted: Wanted
    is_wanted: bool = True
    service: str = ""
    version: str = ""
    app_port: str = ""
    is_quitting: bool = False


def quantity(text: str) -> str:
    """
    An amount as Kubernetes writes it.

    Raises:
        ValueError: It is none.
    """
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f'expected an amount such as "100m" or "128Mi", found {text!r}')
    return text


def object_name(text: str) -> str:
    """
    The name of a ConfigMap or a Secret.

    Raises:
        ValueError: It is none.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(f"expected the name of an object of Kubernetes, found {text!r}")
    return text


def exclusions(text: str) -> str:
    """
    Ports and networks, as `sidecar capture install` takes them.

    Raises:
        ValueError: A part is none of them.
    """
    parse_exclusions(text)
    return text


def _word(text: str) -> str:
    if not text or text != text.strip():
        raise ValueError(f"expected a word, found {text!r}")
    return text


def _yes(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f'expected "true" or "false", found {text!r}')
    return text == "true"


def _port(text: str) -> str:
    if text != NO_PORT and not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
        raise ValueError(f'expected a port such as "8080", or "{NO_PORT}", found {text!r}')
    return text


_OF_WANTED: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "capture": ("is_captured", _yes),
    "proxy-env": ("has_proxy_env", _yes),
    "exclude-inbound": ("exclude_inbound", exclusions),
    "exclude-outbound": ("exclude_outbound", exclusions),
    "image": ("image", _word),
    "config": ("config", object_name),
    "cpu": ("cpu", quantity),
    "memory": ("memory", quantity),
    "cpu-limit": ("cpu_limit", quantity),
    "memory-limit": ("memory_limit", quantity),
}
_OF_POD: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "inject": ("is_wanted", _yes),
    "service": ("service", _word),
    "version": ("version", _word),
    "app-port": ("app_port", _port),
    "quits": ("is_quitting", _yes),
}
KNOWN: Final = (*_OF_POD, *_OF_WANTED)
"""All names, without what they begin with."""


def read(annotations: Value, wanted: Wanted, path: Path) -> tuple[Said, list[Finding]]:
    """
    What holds for a pod with these annotations.

    Args:
        annotations: A mapping, or None.
        path: Of it, for the findings.
    """
    own: dict[str, object] = {}
    of_pod: dict[str, object] = {}
    problems: list[Finding] = []
    for key, value in annotations.items() if isinstance(annotations, dict) else ():
        name = key.removeprefix(PREFIX)
        if name == key or key in (INJECTED, UNDO):
            continue
        here = (*path, key)
        field = _OF_WANTED.get(name) or _OF_POD.get(name)
        if field is None:
            hint = did_you_mean(name, KNOWN) or f"there are: {', '.join(KNOWN)}"
            problems.append(Finding(here, f"expected an annotation of the sidecar, found `{key}`", hint))
            continue
        try:
            found = field[1](value if isinstance(value, str) else _as_text(value))
        except ValueError as error:
            problems.append(Finding(here, str(error), "annotations are strings: put the value into quotes"))
            continue
        (own if name in _OF_WANTED else of_pod)[field[0]] = found
    said = Said(replace(wanted, **own), **of_pod)  # type: ignore[arg-type]
    return said, problems


def _as_text(value: Value) -> str:
    """A value that is no string is no annotation; what it would be as one helps to say so."""
    raise ValueError(f"expected a string, found {str(value).lower() if isinstance(value, bool) else value!r}")


def bad_service(name: str, path: Path) -> Iterator[Finding]:
    """What is wrong with the name of a service, in the words of the mesh's files."""
    try:
        parse_service_name(name)
    except ValueError as error:
        context = getattr(error, "context", None) or {}
        what = context.get("message", "")
        message = what if getattr(error, "type", "") == "refused" else f"expected as the service's name {what}"
        hint = context.get("hint") or f"say the service's name: `{PREFIX}service: NAME`"
        yield Finding(path, f"{message}, found {name!r}" if name else "nothing says its service's name", hint)
