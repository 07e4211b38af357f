"""Whether an app can call upstreams by their names."""

from __future__ import annotations

import socket

from sidecar.capture.names import find_names, names_of


def test_names_are_those_of_upstreams_without_ports_patterns_and_addresses() -> None:
    """An upstream without `hosts` is called by its own name; `[]` gives it none."""
    upstreams = {
        "web": {"hosts": None},
        "db": {"hosts": ["db:5432", "db.shop", "*.dbs", "10.0.0.1:1", "[fd00::1]:80", "fd00::2"]},
        "none": {"hosts": []},
    }
    assert names_of({"upstreams": upstreams}) == ["db", "db.shop", "web"]
    assert names_of({"upstreams": None}) == names_of({}) == []


def test_what_no_resolver_would_be_asked_for_is_refuted() -> None:
    """A label of more than 63 characters is no name of DNS."""
    (found,) = find_names([f"{'a' * 64}.x"])
    assert (found.what, found.outcome) == ("name", "refuted")


def test_a_name_must_mean_something_that_is_not_loopback() -> None:
    """One of several addresses is enough."""
    known = {"a": ["10.0.0.1", "fe80::1%eth0"], "b": ["127.0.0.1", "::1"], "c": ["127.0.0.2", "10.0.0.2"]}

    def lookup(name: str) -> list[str]:
        if name not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known[name]

    assert [(one.outcome, one.why) for one in find_names(["a", "b", "c", "d"], lookup)] == [
        ("proved", "a is 10.0.0.1, fe80::1%eth0"),
        ("refuted", "b is 127.0.0.1, ::1: what goes by loopback is never captured"),
        ("proved", "c is 127.0.0.2, 10.0.0.2"),
        ("refuted", "d: Name or service not known; an app cannot call it so"),
    ]
