"""What is spoken at a listener: there must be somewhere to go with what is no HTTP."""

from __future__ import annotations

import pytest

from sidecar.config.load import load_source
from sidecar.config.problems import ConfigError
from sidecar.config.source import make_source


def complaints(text: str) -> list[str]:
    """Problems, or warnings, as lines."""
    try:
        return [str(one) for one in load_source(make_source("f", text.encode()), {}).warnings]
    except ConfigError as error:
        return [str(problem) for problem in error.problems]


UPSTREAM = 'upstreams: {db: {hosts: ["db:5432", "*.dbs"], protocol: tcp, endpoints: ["10.0.0.1:5432"]}}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inbound: {listen: {address: 'h:1', protocol: tcp}, app: 'h:2'}\n", []),
        ("inbound: {listen: {address: 'h:1', protocol: tcp, name: db, app: 'h:2'}}\n", []),
        (
            "inbound: {listen: {address: 'h:1', protocol: tcp}, routes: [{respond: {status: 200}}]}\n",
            ["f:2:46: inbound.listen.protocol: `tcp` needs an app that connections go to, found none; give the"
             " listener an `app`, or `inbound` one for all that have none"],
        ),
        (
            "inbound: {listen: {address: 'h:1', protocol: tcp, host: x}, app: 'h:2'}\n",
            ["f:2:51: inbound.listen.host: `host` has no effect beside `protocol: tcp`; remove it: a connection goes"
             " to the app, whatever it is for"],
        ),
        (
            "inbound: {listen: {address: 'h:1', protocol: auto, tls: {certificate: a, key: b}}, app: 'h:2'}\n",
            ["f:2:46: inbound.listen.protocol: `auto` cannot be told behind `tls`: clients outside say what they speak"
             " only there; write `http` or `tcp`"],
        ),
        (f"outbound: {{listen: {{address: 'h:1', protocol: tcp, host: 'db:5432'}}}}\n{UPSTREAM}", []),
        (f"outbound: {{listen: {{address: 'h:1', protocol: tcp, host: 'x.dbs:1'}}}}\n{UPSTREAM}", []),
        (f"outbound: {{listen: {{address: 'h:1', protocol: auto}}}}\n{UPSTREAM}", []),
        (
            f"outbound: {{listen: {{address: 'h:1', protocol: tcp}}}}\n{UPSTREAM}",
            ["f:2:47: outbound.listen.protocol: `tcp` needs a `host`: a connection does not say itself whom it is for;"
             " such as `host: db:5432`, which an upstream has among its `hosts`"],
        ),
        (
            f"outbound: {{listen: {{address: 'h:1', protocol: tcp, host: 'db:5433'}}}}\n{UPSTREAM}",
            ["f:2:58: warning: outbound.listen.host: no upstream has `db:5433` among its `hosts`, so no connection"
             " from here goes anywhere; name the host of an upstream, with its port if it has one there"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_at_its_place(text: str, expected: list[str]) -> None:
    """And what can be is taken."""
    assert complaints(f"service: s\n{text}") == expected
