"""SPIFFE IDs, trust domains, agents' sockets, lifetimes and versions of TLS as a file writes them."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic_core import PydanticCustomError

from sidecar.config.values.identities import (
    parse_identity,
    parse_lifetime,
    parse_min_version,
    parse_trust_domain,
    parse_workload_api,
)
from sidecar.config.yaml.scalars import resolve_plain
from sidecar.net.tls import settings


def refusal(parse: object, written: object) -> tuple[str, str]:
    """What is said of a value, and the hint."""
    with pytest.raises(PydanticCustomError) as caught:
        parse(written)  # type: ignore[operator]
    assert caught.value.context is not None
    return str(caught.value.context["message"]), str(caught.value.context["hint"])


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("shop/storefront", "did you mean `spiffe://shop/storefront`?"),
        ("spiffe://shop/storefront/", "did you mean `spiffe://shop/storefront`?"),
        ("SPIFFE://Shop/Storefront", "did you mean `spiffe://shop/Storefront`?"),
        ("spiffe://shop", "it names a trust domain and nobody in it, who would be `spiffe://shop/NAME`"),
        ("https://shop/a", "it does not begin with `spiffe://`"),
        ("spiffe://shop/*", "a path has only letters, digits, `.`, `-` and `_` between its slashes"),
        ("", "it does not begin with `spiffe://`"),
        ("x" * 100_000, "it does not begin with `spiffe://`"),
        (["a"], ""),
        (None, ""),
    ],
)
def test_what_is_no_identity_is_told_with_what_was_meant(written: object, hint: str) -> None:
    """Or with the rule that it breaks."""
    what = "the SPIFFE ID of a workload such as `spiffe://shop/storefront`"
    assert refusal(parse_identity, written) == (what, hint)


def test_an_identity_stays_as_it_was_written() -> None:
    """It is compared octet by octet."""
    assert parse_identity("spiffe://shop/ns/a/sa/B") == "spiffe://shop/ns/a/sa/B"


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("spiffe://shop", "did you mean `shop`?"),
        ("spiffe://Shop/a", "did you mean `shop`?"),
        ("a b", "a trust domain has only lower-case letters, digits, `.`, `-` and `_`"),
        ("", "the trust domain is empty"),
        (["shop"], ""),
    ],
)
def test_what_is_no_trust_domain_is_told(written: object, hint: str) -> None:
    """With what was meant, or the rule."""
    assert refusal(parse_trust_domain, written)[1] == hint
    assert parse_trust_domain(resolve_plain("1.10")) == "1.10"


@pytest.mark.parametrize("written", ["unix:///run/agent.sock", "unix:/run/agent.sock"])
def test_a_socket_of_an_agent_has_one_form(written: str) -> None:
    """Both are the same URI."""
    assert parse_workload_api(written) == "unix:///run/agent.sock"


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("/run/agent.sock", "did you mean `unix:///run/agent.sock`?"),
        ("unix://run/agent.sock", ""),
        ("unix:agent.sock", ""),
        ("unix:///run/", ""),
        ("unix:///run/\0", ""),
        (1, ""),
    ],
)
def test_what_is_no_socket_of_an_agent_is_told(written: object, hint: str) -> None:
    """With the URI that was meant."""
    assert refusal(parse_workload_api, written) == (
        "the socket of an agent such as `unix:///run/spire/agent.sock`", hint,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("written", "read"),
    [("tcp://127.0.0.1:8081", "tcp://127.0.0.1:8081"), ("tcp://[FE80::1]:1", "tcp://[fe80::1]:1")],
)
def test_an_agent_may_be_at_an_address(written: str, read: str) -> None:
    """Where a Unix socket cannot be had."""
    assert parse_workload_api(written) == read


@pytest.mark.parametrize(
    "written",
    [
        "tcp://localhost:8081", "tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://127.0.0.1:0", "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:8081/", "tcp://::1:8081", "tcp://[127.0.0.1]:1", "tcp://[fe80::1%eth0]:1", "tcp:127.0.0.1:1",
        "tcp://a@127.0.0.1:1", "tcp://127.0.0.1:+1",
    ],
)  # fmt: skip
def test_what_is_no_address_of_an_agent_is_told(written: str) -> None:
    """SPIFFE Workload Endpoint, 4: an IP address and a port, and nothing else."""
    assert refusal(parse_workload_api, written)[0] == "an IP address and a port such as `tcp://127.0.0.1:8081`"


def test_the_path_of_a_socket_fits_into_its_address() -> None:
    """108 bytes with the NUL."""
    assert parse_workload_api("unix://" + "/" + "x" * 106)
    assert refusal(parse_workload_api, "unix:///" + "x" * 107)[0] == "a socket path of at most 107 bytes"


@pytest.mark.parametrize(("written", "seconds"), [("1h", 3600), ("60m", 3600), ("7d", 604_800), ("30d", 2_592_000)])
def test_lifetimes_are_read(written: str, seconds: float) -> None:
    """In minutes, hours or days."""
    assert parse_lifetime(written) == seconds


@pytest.mark.parametrize("written", ["59m", "31d", "721h", "1w", "0", "7 d", "3600s", "", "9" * 50 + "d", None, 7])
def test_lifetimes_are_bounded(written: object) -> None:
    """From an hour to thirty days."""
    assert refusal(parse_lifetime, written) == ("a time from `1h` to `30d`, such as `7d`", "")


@pytest.mark.parametrize("written", ["1.2", resolve_plain("1.2"), resolve_plain("1.3")])
def test_versions_need_no_quotes(written: str) -> None:
    """What is written without them looks like a number, and is the text."""
    found = parse_min_version(written)
    assert type(found) is str
    assert found in get_args(settings.MinVersion)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1.1", ("TLS 1.1 is not spoken", "it is broken (RFC 8996); the oldest is `1.2`")),
        ("TLSv1_0", ("TLS 1.0 is not spoken", "it is broken (RFC 8996); the oldest is `1.2`")),
        ("TLSv1.2", ('`"1.2"` or `"1.3"`', 'did you mean `"1.2"`?')),
        ("tls1_3", ('`"1.2"` or `"1.3"`', 'did you mean `"1.3"`?')),
        (resolve_plain("1.30"), ('`"1.2"` or `"1.3"`', "")),
        ("1.4", ('`"1.2"` or `"1.3"`', "")),
        (True, ('`"1.2"` or `"1.3"`', "")),
    ],
)
def test_other_versions_are_refused(written: object, said: tuple[str, str]) -> None:
    """Old ones as old, others with what was meant."""
    assert refusal(parse_min_version, written) == said
