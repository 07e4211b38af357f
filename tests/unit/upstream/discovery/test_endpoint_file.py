"""A file of endpoints: what it says, and every way in which it cannot be understood, with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.address import parse_address
from sidecar.upstream.discovery import endpoint_file
from sidecar.upstream.discovery.endpoint_file import EndpointFileError, parse_endpoints, read_endpoints
from sidecar.upstream.discovery.endpoint_set import EndpointSet


def parsed(text: str) -> tuple[dict[str, float], dict[str, str]]:
    found = parse_endpoints(text.encode())
    return {str(key): value for key, value in found.weights.items()}, {str(k): v for k, v in found.zones.items()}


def test_groups_with_weights_and_zones() -> None:
    """In the order of the file; labels of Prometheus are strings, people write numbers."""
    text = """[
        {"targets": ["10.0.0.1:80", "[::1]:80", "unix:/run/a.sock"], "labels": {"zone": "a", "weight": "2", "j": "x"}},
        {"targets": ["web:80"], "labels": {"weight": 0.5}}, {"targets": []}
    ]"""
    weights, zones = parsed(text)
    assert list(weights.items()) == [("10.0.0.1:80", 2), ("[::1]:80", 2), ("unix:/run/a.sock", 2), ("web:80", 0.5)]
    assert zones == {"10.0.0.1:80": "a", "[::1]:80": "a", "unix:/run/a.sock": "a"}


def test_an_address_that_comes_twice_has_the_sum_of_its_weights() -> None:
    """As in `endpoints`, where it may be written in two ways."""
    assert parsed('[{"targets": ["a:80", "A:80", "a:80"]}]')[0]["a:80"] >= 2


def test_a_label_says_who_is_spoken_to_by_tls() -> None:
    """A string or a boolean. Of whom nothing is said the upstream decides; of two words about an address TLS counts."""
    text = """[
        {"targets": ["a:1", "b:1"], "labels": {"tls": "true"}}, {"targets": ["c:1"], "labels": {"tls": false}},
        {"targets": ["b:1"], "labels": {"tls": "false"}}, {"targets": ["d:1", "a:1"]}
    ]"""
    found = parse_endpoints(text.encode())
    assert {str(address): is_tls for address, is_tls in found.tls.items()} == {"a:1": True, "b:1": True, "c:1": False}


def test_no_endpoints_is_an_answer() -> None:
    """And not a mistake."""
    assert len(parse_endpoints(b"[]")) == 0


WEIGHT = "[0].labels.weight: expected a number from 0 to 1e+06, found "


def labelled(label: str) -> str:
    """A file of one group with this label."""
    return f'[{{"targets": [], "labels": {{{label}}}}}]'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1: expected JSON: expecting value"),
        ('[{"targets": ["a:80"]}', "line 1, column 23: expected JSON: expecting ',' delimiter"),
        ("[" * 100_000, "expected JSON: it is not UTF-8, or nested too deeply"),
        ("{}", "expected a list of `{targets, labels}`, found {}"),
        ("[1]", "[0]: expected a mapping `{targets, labels}`, found 1"),
        ('[{"targets": []}, {"target": []}]', '[1]: expected the keys `targets` and `labels`, found "target"'),
        ('[{"labels": {}}]', "[0].targets: expected a list of addresses, found null"),
        ('[{"targets": "a:80"}]', '[0].targets: expected a list of addresses, found "a:80"'),
        ('[{"targets": [], "labels": []}]', "[0].labels: expected a mapping, found []"),
        ('[{"targets": ["a:80", 1]}]', "[0].targets[1]: expected an address such as `10.0.0.11:8080`, found 1"),
        ('[{"targets": ["a:0"]}]', '[0].targets[0]: expected an address such as `10.0.0.11:8080`, found "a:0"'),
        (labelled('"weight": -1'), WEIGHT + "-1"),
        (labelled('"weight": "x"'), WEIGHT + '"x"'),
        (labelled('"weight": true'), WEIGHT + "true"),
        (labelled('"weight": NaN'), WEIGHT + "NaN"),
        (labelled('"zone": 1'), "[0].labels.zone: expected a name of at most 128 characters, found 1"),
        (labelled('"tls": "yes"'), '[0].labels.tls: expected "true" or "false", found "yes"'),
        (labelled('"tls": 1'), '[0].labels.tls: expected "true" or "false", found 1'),
        (labelled('"tls": null'), '[0].labels.tls: expected "true" or "false", found null'),
        ('["' + "x" * 90 + '"]', '[0]: expected a mapping `{targets, labels}`, found "' + "x" * 59 + "..."),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(text: str, said: str) -> None:
    """So that whoever writes the file finds it."""
    with pytest.raises(EndpointFileError) as failure:
        parse_endpoints(text.encode())
    assert str(failure.value) == said


def test_what_is_no_address_is_told_in_the_words_of_addresses() -> None:
    """A port that is missing, a bracket that is not closed."""
    with pytest.raises(EndpointFileError, match=r"^\[0\]\.targets\[0\]: .*"):
        parse_endpoints(b'[{"targets": ["10.0.0.1"]}]')


@given(st.binary(max_size=200) | st.text('[]{}":,targetslbw 019.e-', max_size=80).map(str.encode))
def test_no_octets_do_anything_but_be_understood_or_refused(raw: bytes) -> None:
    """Nor does a file that is half of one."""
    try:
        said = repr(parse_endpoints(raw))
    except EndpointFileError as refusal:
        said = str(refusal)
    assert said.isprintable()


@given(
    st.lists(
        st.tuples(st.ip_addresses(), st.integers(1, 65535), st.integers(0, 100), st.sampled_from(["", "a", "b"])),
        max_size=20,
        unique_by=lambda one: one[:2],
    )
)
def test_what_is_written_is_read(endpoints: list[tuple[object, int, int, str]]) -> None:
    """Whatever wrote it."""
    groups, weights, zones = [], {}, {}
    for host, port, weight, zone in endpoints:
        text = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
        groups.append({"targets": [text], "labels": {"weight": str(weight), **({"zone": zone} if zone else {})}})
        weights[parse_address(text)] = float(weight)
        if zone:
            zones[parse_address(text)] = zone
    assert parse_endpoints(json.dumps(groups).encode()) == EndpointSet(weights, zones)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not read to its end."""
    monkeypatch.setattr(endpoint_file, "MAX_BYTES", 10)
    path = tmp_path / "endpoints.json"
    path.write_text("[" + " " * 8 + "]")
    assert len(read_endpoints(str(path))) == 10
    path.write_text("[" + " " * 9 + "]")
    with pytest.raises(EndpointFileError, match="expected at most 10 octets, found more"):
        read_endpoints(str(path))
