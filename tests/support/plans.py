"""Files with routes of few words and requests of the same, so that they meet; as text and as questions."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from sidecar.insight.question import Question

HOSTS = ["a.com", "b.a.com", "shop", "shop:9090"]
PATTERNS = [*HOSTS, "*.a.com", "*"]
PATHS = ["/", "/v1", "/v1/x", "/v1/x/y", "/v2", "/v2/"]
VALUES = ["", "1", "12", "A", "a", "true"]
UPSTREAMS = ["one", "two"]

_values = st.one_of(
    st.sampled_from(VALUES[1:]),
    st.fixed_dictionaries({"prefix": st.sampled_from(VALUES[1:])}),
    st.fixed_dictionaries({"regex": st.sampled_from(["[0-9]+", "a.*"])}),
    st.fixed_dictionaries({"present": st.booleans()}),
    st.fixed_dictionaries({"exact": st.sampled_from(VALUES[1:]), "ignore_case": st.just(True)}),
    st.fixed_dictionaries({"exact": st.sampled_from(VALUES[1:]), "invert": st.just(True)}),
)
_paths = st.one_of(
    st.sampled_from(PATHS),
    st.fixed_dictionaries({"prefix": st.sampled_from(PATHS)}),
    st.fixed_dictionaries({"starts_with": st.sampled_from(["/v", "/v1"])}),
    st.fixed_dictionaries({"regex": st.sampled_from(["/v[0-9]", "/v1/.*"])}),
)
_matches = st.fixed_dictionaries(
    {},
    optional={
        "host": st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2, unique=True),
        "path": _paths,
        "methods": st.lists(st.sampled_from(["GET", "PUT"]), min_size=1, max_size=1),
        "headers": st.fixed_dictionaries({"x-test": _values}),
        "cookies": st.fixed_dictionaries({"c": _values}),
        "query": st.fixed_dictionaries({"q": _values}),
    },
)
_actions = st.one_of(
    st.just({"respond": {"status": 200}}),
    st.sampled_from(UPSTREAMS).map(lambda name: {"to": name}),
    st.just({"to": {"one": 3, "two": 1}}),
    st.just({"to": {"one": 3, "two": 1}, "sticky": {"cookie": "c"}}),
    st.just({"to": [{"upstream": "one", "weight": 1}, {"redirect": {"host": "else"}, "weight": 1}]}),
    st.just({"to": "one", "rewrite": {"host": "else"}, "timeout": "2s"}),
)
routes = st.lists(
    st.builds(
        lambda matches, action: {**({"match": matches} if matches else {}), **action},
        st.lists(_matches, max_size=2),
        _actions,
    ),
    max_size=10,
)
questions = st.builds(
    lambda method, host, path, query, header, cookie: Question(
        method,
        f"http://{host}{path}" + (f"?q={query}" if query is not None else ""),
        (("x-test", header),) if header is not None else (),
        (("c", cookie),) if cookie is not None else (),
    ),
    st.sampled_from(["GET", "PUT"]),
    st.sampled_from([*HOSTS, "nobody"]),
    st.sampled_from(PATHS),
    st.one_of(st.none(), st.sampled_from(VALUES)),
    st.one_of(st.none(), st.sampled_from(VALUES)),
    st.one_of(st.none(), st.sampled_from(VALUES[1:])),
)


def file_of(some: list[dict[str, Any]], **more: Any) -> str:
    """A whole file, as JSON, which is YAML; routes are called `r0`, `r1`, ..."""
    named = [{"name": f"r{index}", **route} for index, route in enumerate(some)]
    return json.dumps(
        {
            "service": "s",
            "outbound": {"listen": "127.0.0.1:15001", "routes": named},
            "upstreams": {name: {"endpoints": ["127.0.0.1:1"]} for name in UPSTREAMS},
            **more,
        }
    )
