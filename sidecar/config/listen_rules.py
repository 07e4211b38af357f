"""Rules for what is spoken at a listener: there must be somewhere to go with what is no HTTP. *Cold, pure.*"""

from __future__ import annotations

from sidecar.config.model.root import Config
from sidecar.config.problems import Reporter
from sidecar.config.values.addresses import split_pattern


def check_listened_protocols(config: Config, report: Reporter) -> None:
    """
    Check every `protocol` of a listener.

    Args:
        report: A `check.Report`.
    """
    inbound, outbound = config.inbound, config.outbound
    for index, spec in enumerate(inbound.listen if inbound is not None else ()):
        at = ("inbound", "listen", index)
        if spec.protocol == "http":
            continue
        if spec.host is not None and spec.protocol == "tcp":
            hint = "remove it: a connection goes to the app, whatever it is for"
            report((*at, "host"), "`host` has no effect beside `protocol: tcp`", hint, at_key=True)
        if spec.protocol == "auto" and spec.tls is not None:
            message = "`auto` cannot be told behind `tls`: clients outside say what they speak only there"
            report((*at, "protocol"), message, "write `http` or `tcp`")
        if config.capture is None and inbound is not None and inbound.app is None and spec.app is None:
            message = f"`{spec.protocol}` needs an app that connections go to, found none"
            report((*at, "protocol"), message, "give the listener an `app`, or `inbound` one for all that have none")
    for index, listen in enumerate(outbound.listen if outbound is not None else ()):
        at = ("outbound", "listen", index)
        if listen.protocol == "http":
            continue
        if listen.host is None:
            if listen.protocol == "tcp":
                message = "`tcp` needs a `host`: a connection does not say itself whom it is for"
                report((*at, "protocol"), message, "such as `host: db:5432`, which an upstream has among its `hosts`")
        elif not _has_upstream(config, listen.host):
            message = f"no upstream has `{listen.host}` among its `hosts`, so no connection from here goes anywhere"
            hint = "name the host of an upstream, with its port if it has one there"
            # A control plane may take an upstream away that a local file has a port for: no reason to refuse that.
            report((*at, "host"), message, hint, rule="listener-leads-nowhere")


def _has_upstream(config: Config, host: str) -> bool:
    """Whether a connection for this host has an upstream, as `routing.match.host_matches` would find it."""
    name, port = split_pattern(host.lower())
    for upstream, settings in config.upstreams.items():
        for written in [upstream] if settings.hosts is None else settings.hosts:
            pattern, wanted = split_pattern(written.lower())
            is_port = wanted is None or wanted == port
            if is_port and (pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))):
                return True
    return False
