"""Problems show what the file says, never what a variable holds or a secret field's value."""

from __future__ import annotations

import pytest

from sidecar.config.load import load_text
from sidecar.config.problems import ConfigError

SECRET = "Hunter22-of-the-database"


def complaint(text: str, **env: str) -> str:
    """The only problem of a file with these upstreams or routes."""
    with pytest.raises(ConfigError) as refusal:
        load_text(f"service: s\noutbound: {{}}\n{text}\n".encode(), "f", env)
    (problem,) = refusal.value.problems
    return str(problem)


def test_a_value_from_a_variable_is_shown_as_it_is_written() -> None:
    """With what was expected, and where."""
    said = complaint('upstreams: {a: {dns: "${DB_PASSWORD}"}}', DB_PASSWORD=SECRET)
    assert said == (
        "f:3:22: upstreams.a.dns: expected an address such as `shop.default.svc.cluster.local:8080`, found"
        ' "${DB_PASSWORD}"; what variables hold is not shown'
    )


def test_a_hint_without_the_value_stays() -> None:
    """It is what the reader needs."""
    assert complaint('upstreams: {a: {dns: "h:${PORT}"}}', PORT="99999").endswith("ports go from 1 to 65535")


@pytest.mark.parametrize(
    "text",
    [
        'upstreams: {a: {dns: "${X}"}}',
        'upstreams: {a: {endpoints: ["${X}"]}}',
        'upstreams: {a: {endpoints: ["unix:${X}"]}}',
        'upstreams: {a: {hosts: "${X}/", endpoints: []}}',
        'upstreams: {a: {load_balancing: "${X}", endpoints: []}}',
        'upstreams: {a: {connect_timeout: "${X}", endpoints: []}}',
        'limits: {max_headers: "${X}"}',
        'limits: {max_header_bytes: "1${X}"}',
        'telemetry: {traces: {otlp_endpoint: "${X}"}}',
        'telemetry: {traces: {otlp_endpoint: "ftp://me:${X}@h"}}',
        'telemetry: {access_log: {format: "{${X}}"}}',
        'telemetry: {access_log: {when: {status: "${X}"}}}',
        'telemetry: {metrics: {compat: "${X}"}}',
        'tests: [{name: n, request: {url: "${X}"}, expect: {status: 404}}]',
        'tests: [{name: n, request: {url: "http://a", method: "a ${X}"}, expect: {status: 404}}]',
        'tests: [{name: n, request: {url: "http://a", headers: {x: "${X}\\n"}}, expect: {status: 404}}]',
    ],
)
@pytest.mark.parametrize("name", ["DB_PASSWORD", "PLAIN"])
def test_no_problem_repeats_what_a_variable_holds(text: str, name: str) -> None:
    """Neither in what was found nor in a hint that would mend it, whatever the variable is called."""
    said = complaint(text.replace("${X}", f"${{{name}}}"), **{name: SECRET}).lower()
    assert not [at for at in range(len(SECRET) - 4) if SECRET[at : at + 5].lower() in said]


@pytest.mark.parametrize(
    "route",
    [
        '{match: {}, to: "${X}"}',
        '{match: {}, mirror: "${X}", to: a}',
        '{match: {path: {regex: "(${X}"}}, to: a}',
        '{match: {host: "${X}:0"}, to: a}',
        '{match: {host: "http://${X}:80"}, to: a}',
        '{match: {headers: {x-api-key: {regex: "(${X}"}}}, to: a}',
        '{match: {}, to: a, request_headers: {remove: "${X}\\n"}}',
    ],
)
def test_no_problem_of_a_route_repeats_what_a_variable_holds(route: str) -> None:
    """Rules between values as little as values by themselves."""
    text = f"service: s\noutbound:\n  routes:\n    - {route}\nupstreams: {{a: {{endpoints: []}}}}\n"
    with pytest.raises(ConfigError) as refusal:
        load_text(text.replace("${X}", "${PLAIN}").encode(), "f", {"PLAIN": SECRET})
    said = str(refusal.value).lower()
    assert not [at for at in range(len(SECRET) - 4) if SECRET[at : at + 5].lower() in said]


def test_a_literal_under_a_secret_name_is_not_repeated() -> None:
    """Though whoever reads the file sees it there: the log has other readers."""
    text = """
service: s
outbound:
  routes:
    - {match: {headers: {authorization: {prefix: [s3cr3t-one]}, x-api-key: {regex: "(s3cr3t-two"}}}, to: a}
    - {match: {cookies: {session: {regex: "(s3cr3t-three"}, BETA: {regex: "(shown"}}}, to: a}
upstreams: {a: {endpoints: []}}
"""
    with pytest.raises(ConfigError) as refusal:
        load_text(text.encode(), "f", {})
    said = str(refusal.value)
    assert len(refusal.value.problems) == 4
    assert "s3cr3t" not in said
    assert "shown" in said


def test_a_secret_that_a_rule_quotes_of_another_place_is_hidden() -> None:
    """The address of the listener that a second one collides with."""
    text = 'service: s\noutbound: {listen: ["unix:/run/${TOKEN}", "unix:/run/s3cr3t-one"]}\n'
    with pytest.raises(ConfigError) as refusal:
        load_text(text.encode(), "f", {"TOKEN": "s3cr3t-one"})
    assert "already listened on" in str(refusal.value)
    assert "s3cr3t-one" not in str(refusal.value)
