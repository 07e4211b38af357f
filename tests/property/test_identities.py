"""Whatever is written where an identity belongs: it is one, or a problem says so; never another exception."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from sidecar.config.load import load_text
from sidecar.config.problems import ConfigError
from sidecar.config.values.identities import (
    parse_identity,
    parse_lifetime,
    parse_min_version,
    parse_trust_domain,
    parse_workload_api,
)
from sidecar.config.yaml.scalars import resolve_plain
from sidecar.spiffe import SpiffeError, parse_spiffe_id

NEAR = st.text(alphabet="spife:/.-_AZaz09%?#@[]*~ \n\x00é\ud800", max_size=40)
TEXTS = st.one_of(
    st.text(st.characters(), max_size=60),
    NEAR,
    NEAR.map("spiffe://".__add__),
    st.integers(0, 5000).map(lambda size: "spiffe://" + "a/" * size),
    st.integers(0, 5000).map(lambda size: "spiffe://" + "a" * size + "/b"),
)
SCALARS = st.one_of(TEXTS, TEXTS.map(lambda text: resolve_plain(text) if text else None), st.none(), st.booleans(),
                    st.integers(), st.lists(TEXTS, max_size=2), st.dictionaries(TEXTS, TEXTS, max_size=2))  # fmt: skip
PARSERS = (parse_identity, parse_trust_domain, parse_workload_api, parse_lifetime, parse_min_version)


@given(SCALARS)
def test_values_are_understood_or_refused_in_our_words(written: object) -> None:
    """By `PydanticCustomError` with a message, and no other exception; what is accepted is accepted again."""
    for parse in PARSERS:
        said: dict[str, object] | None = None
        try:
            value = parse(written)
        except PydanticCustomError as error:
            said = error.context or {}
        if said is not None:
            assert said["message"]
        else:
            assert isinstance(value, float) or parse(value) == value


@given(TEXTS)
def test_an_id_is_put_together_as_it_was_written(text: str) -> None:
    """Or is none, for a reason that is said in one line."""
    why = ""
    try:
        found = parse_spiffe_id(text)
    except SpiffeError as error:
        why = str(error)
    if why:
        assert why.isprintable()
        return
    assert str(found) == text
    assert text.isascii()
    assert len(text) <= 2048
    assert parse_trust_domain(found.trust_domain) == found.trust_domain


@given(st.one_of(TEXTS, st.lists(TEXTS, max_size=3)).filter(lambda value: "${" not in json.dumps(value)))
def test_a_file_with_any_identities_is_understood_or_refused(written: object) -> None:
    """At the place where they stand."""
    text = json.dumps(
        {"service": "s", "outbound": {}, "upstreams": {"a": {"dns": "h:1", "tls": {"identities": written}}}}
    )
    paths: list[str] = []
    try:
        config = load_text(text.encode(), "f", {})
    except ConfigError as error:
        paths = [one.path for one in error.problems]
    if paths:
        # Without a path: what is no text of YAML, such as half a pair of surrogates.
        assert all(path.startswith("upstreams.a.tls.identities") or not path for path in paths)
        return
    tls = config.upstreams["a"].tls
    assert tls is not None
    assert tls.identities == (written if isinstance(written, list) else [written])
