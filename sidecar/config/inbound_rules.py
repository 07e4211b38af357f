"""Rules for the app and its ports: whose requests go where, by names that nothing else has. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.config.model.root import Config, Inbound

APP = "app"
"""What the app behind `inbound.app` is called as an upstream; one behind a listener is called `app.NAME`."""


def app_names(inbound: Inbound | None) -> dict[str, str]:
    """The apps that there are, by the names that they have as upstreams, and which key of the file means each."""
    if inbound is None:
        return {}
    names = {APP: "inbound.app"} if inbound.app is not None else {}
    for index, spec in enumerate(inbound.listen):
        if spec.app is not None and spec.name is not None:
            names.setdefault(f"{APP}.{spec.name}", f"inbound.listen[{index}].app")
    return names


def all_have_apps(inbound: Inbound) -> bool:
    """Whether every request to the app has one that it can go to."""
    return inbound.app is not None or all(spec.app is not None for spec in inbound.listen)


def check_inbound(config: Config, report: Callable[..., None], *, is_whole: bool = True) -> None:
    """
    Check the apps of `inbound` and its listeners.

    Args:
        report: A `check.Report`.
        is_whole: As `check.check` has it: where an app is may be said elsewhere.
    """
    inbound = config.inbound
    if inbound is None:
        return
    # Where connections are captured, the app is where they were meant to go.
    is_captured = config.capture is not None and bool(config.capture.inbound)
    if is_whole and not is_captured and inbound.app is None and not inbound.routes and not all_have_apps(inbound):
        if not any(spec.app is not None for spec in inbound.listen):
            hint = "such as `app: 127.0.0.1:8080`"
            report(("inbound",), "expected `app` or `routes`, found neither", hint, at_key=True)
        for index, spec in enumerate(inbound.listen):
            if spec.app is None and any(one.app is not None for one in inbound.listen):
                hint = "give it an `app`, or `inbound` one for all that have none"
                report(("inbound", "listen", index), "what comes in here has no app to go to", hint)
    if inbound.circuit_breaker is not None and not app_names(inbound) and not is_captured:
        report(
            ("inbound", "circuit_breaker"), "`circuit_breaker` has no effect without `app`", "remove it", at_key=True
        )
    names: dict[str, int] = {}
    for index, spec in enumerate(inbound.listen):
        at = ("inbound", "listen", index)
        if spec.app is not None and spec.name is None:
            hint = "its upstream is called `app.NAME`, such as `app.grpc`"
            report((*at, "app"), "a listener with an `app` of its own needs a `name`", hint, at_key=True)
        if spec.name is not None:
            first = names.setdefault(spec.name, index)
            if first != index:
                message = f"the name `{spec.name}` is already that of inbound.listen[{first}]"
                report((*at, "name"), message, "names tell the app's ports apart")
