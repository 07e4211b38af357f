"""
The index of rules against a reading of them that was written without looking at it: one loop, in order, no index.

Who asks is read by regular expressions and `ipaddress`; what is asked of the head is `Match.matches`, question by
question, which `test_routing_table` holds to a naive reading of its own; so it holds what any of several paths is.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.compile.time_slices import at_once
from sidecar.message import RequestHead
from sidecar.peer import Peer, Token
from sidecar.routing.match import make_match
from sidecar.routing.matchers import PathMatcher, any_path, path_matcher, value_matcher
from sidecar.security.authorization.authorization import Authorization, RuleSpec, make_authorization
from sidecar.security.authorization.readings import read_paths
from sidecar.security.authorization.rules import Clause
from sidecar.security.authorization.sources import make_sources
from sidecar.security.tokens.rules import KeySource, TokenRule, make_token_rule
from tests.support.thoroughness import examples
from tests.unit.security.authorization.support import head as parsed

# Few words, so that rules and requests meet.
IDENTITIES = [
    "spiffe://shop/a",
    "spiffe://shop/b",
    "spiffe://shop/ns/x/sa/a",
    "spiffe://shop/ns/y/sa/a",
    "spiffe://o/a",
]
PATTERNS = [
    "spiffe://shop/*", "spiffe://shop/ns/*", "spiffe://shop/ns/x/*", "spiffe://shop/ns/*/sa/a", "spiffe://shop/*/x/*",
    "spiffe://o/*",
]  # fmt: skip
NETWORKS = ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.7", "::/0", "2001:db8::/32", "unix"]
ADDRESSES = ["10.1.0.7", "10.1.0.8", "10.9.9.9", "192.0.2.1", "::ffff:10.1.0.7", "2001:db8::1", "unix"]
SEGMENTS = ["v1", "x", "y", "", "..;", "%2F", "..", "x;p"]

KEYS = KeySource(file="k")
TOKENS = [make_token_rule("i", ["a"], {}, KEYS), make_token_rule("i", [], {"r": ["x"]}, KEYS)]
words = st.sampled_from(["anyone", "authenticated", *IDENTITIES[:4], *IDENTITIES[:4], *PATTERNS, *NETWORKS])
plain_paths = st.lists(st.sampled_from(SEGMENTS[:3]), max_size=3).map(lambda parts: "/" + "/".join(parts))
separated = st.tuples(st.sampled_from(["/", "/", "%2F", "%5C", ";%2F"]), st.sampled_from(SEGMENTS))
odd_paths = st.lists(separated, max_size=5).map(
    lambda parts: "/" + "".join(separator + segment for separator, segment in parts).removeprefix("/")
)
rarely = st.sampled_from([False, False, False, True])


@st.composite
def path_questions(draw: st.DrawFn) -> PathMatcher:
    kind = draw(st.sampled_from(["exact", "prefix", "prefix", "starts_with", "contains"]))
    return path_matcher(kind, draw(plain_paths), invert=draw(rarely), ignore_case=draw(rarely))


@st.composite
def clauses(draw: st.DrawFn) -> Clause:
    some = draw(st.lists(path_questions(), max_size=3))
    match = make_match(
        hosts=draw(st.lists(st.sampled_from(["a", "*.a", "b.a", "a:9090"]), max_size=1)),
        path=any_path(some) if some else None,
        methods=draw(st.lists(st.sampled_from(["GET", "PUT"]), max_size=1)),
        headers={"h": value_matcher("exact", "1", invert=draw(rarely))} if draw(rarely) else {},
    )
    tokens = draw(st.lists(st.sampled_from(TOKENS), max_size=2)) if draw(st.booleans()) else []
    return Clause(make_sources(draw(st.lists(words, min_size=0 if tokens else 1, max_size=3)), tokens), match)


@st.composite
def rule_lists(draw: st.DrawFn) -> list[RuleSpec]:
    found = []
    for number, parts in enumerate(draw(st.lists(st.lists(clauses(), min_size=1, max_size=2), max_size=14))):
        is_allow = draw(st.booleans())
        found.append(RuleSpec(f"r{number}", is_allow, not is_allow and draw(rarely), tuple(parts), ""))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(found)))
        parts = draw(st.lists(clauses(), max_size=2))
        found.insert(at, RuleSpec("callers", True, draw(st.booleans()), tuple(parts), ""))
    return found


def _word(rule: TokenRule) -> str:
    return rule.word


def token_of(request: dict[str, Any]) -> Token | None:
    return None if request["tokens"] is None else Token("accepted", "i", request["tokens"])


def requests(paths: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "target": paths,
            "method": st.sampled_from(["GET", "PUT"]),
            "host": st.sampled_from(["a", "b.a", "c", "a:9090"]),
            "header": st.sampled_from([None, "1", "2"]),
            "identity": st.sampled_from(["", *IDENTITIES]),
            "ip": st.sampled_from(ADDRESSES),
            "tokens": st.sampled_from([None, None, *((*map(_word, some),) for some in ([], TOKENS[:1], TOKENS))]),
            "is_permissive": st.booleans(),
        }
    )


whole = st.fixed_dictionaries(
    {
        "is_default_allow": st.booleans(), "is_audit": rarely, "admits_unidentified": st.booleans(),
    }
)  # fmt: skip


def naive_admits(sources: list[str], identity: str, ip: str, tokens: tuple[str, ...] | None) -> bool:
    for word in sources:
        if word.startswith("jwt:"):
            if word in (tokens or ()):
                return True
            continue
        if word == "anyone" or (word == "authenticated" and identity):
            return True
        if word.startswith("spiffe://"):
            last = word.endswith("/*")
            text = "[^/]+".join(map(re.escape, (word[:-1] if last else word).split("*"))) + (".+" if last else "")
            if identity and re.fullmatch(text, identity):
                return True
        elif word == "unix" or ip == "unix":
            if word == ip:
                return True
        elif word not in ("authenticated",):
            address = ipaddress.ip_address(ip)
            mapped = getattr(address, "ipv4_mapped", None)
            if (mapped or address) in ipaddress.ip_network(word):
                return True
    return False


def naive(specs: list[RuleSpec], how: dict[str, bool], asked: RequestHead, request: dict[str, Any]) -> tuple[str, str]:
    """Outcome and rule by one reading of the request."""
    identity, told = request["identity"], ""
    callers = next((spec for spec in specs if spec.name == "callers"), None)
    outcome, rule = "", ""
    for spec in specs:
        if not any(
            naive_admits(list(one.sources.parts()), identity, request["ip"], request["tokens"])
            and one.match.matches(asked)
            for one in spec.clauses
        ):
            continue
        if spec.is_allow:
            outcome, rule = "allowed", spec.name
        elif spec.is_audit:
            told = told or spec.name
            continue
        else:
            outcome, rule = "denied", spec.name
        break
    else:
        outcome, rule = ("allowed" if how["is_default_allow"] else "denied"), "default"
        if outcome == "denied" and callers is not None:
            rule = "callers"
            if not identity and request["is_permissive"] and how["admits_unidentified"]:
                return "allowed", rule
            if callers.is_audit:
                outcome = "audit_denied"
    if how["is_audit"] and outcome == "denied":
        outcome = "audit_denied"
    return ("audit_denied", told) if told and outcome == "allowed" else (outcome, rule)


def head_of(request: dict[str, Any]) -> RequestHead:
    lines = [f"h: {request['header']}"] if request["header"] is not None else []
    return parsed(request["target"], request["method"], *lines, host=request["host"])


def authorization_of(specs: list[RuleSpec], how: dict[str, bool]) -> Authorization:
    return at_once(make_authorization(specs, **how))


@settings(max_examples=examples(400), deadline=None)
@given(rule_lists(), whole, st.lists(requests(plain_paths), min_size=1, max_size=8))
def test_the_index_decides_as_reading_the_rules_in_order_does(
    specs: list[RuleSpec], how: dict[str, bool], asked: list[dict[str, Any]]
) -> None:
    """Outcome and rule, whoever asks, and however often."""
    authorization = authorization_of(specs, how)
    for request in (*asked, *asked):  # the second time what is remembered of a client is used
        head = head_of(request)
        if read_paths(head.path):
            continue
        client = Peer("1.3", "", identity=request["identity"]) if request["identity"] else None
        found = authorization.decide(client, request["ip"], head, request["is_permissive"], token_of(request))
        assert (found.outcome, found.rule) == naive(specs, how, head, request)
        assert found.is_allowed is (found.outcome != "denied")


def servers(path: str) -> Iterator[tuple[str, bool]]:
    """What each of all servers makes of a path, and whether it goes up in it."""

    def bare(text: str) -> str:
        return "/".join(segment.partition(";")[0] for segment in text.split("/"))

    def merged(text: str) -> str:
        return re.sub("/+", "/", text)

    for decodes, drops, merges, resolves in itertools.product(range(3), range(3), range(2), range(3)):
        text = bare(path) if drops == 1 else path
        if decodes:
            text = text.replace("%2F", "/").replace("%3B", ";")
        if decodes == 2:
            text = text.replace("%5C", "/")
        text = bare(text) if drops == 2 else text
        text = merged(text) if merges else text
        climbs = False
        if resolves and text.startswith("/"):
            kept: list[str] = []
            for segment in (segments := text[1:].split("/")):
                climbs = climbs or segment == ".."
                if segment == "..":
                    del kept[-1:]
                elif segment != ".":
                    kept.append(segment)
            text = "/" + "/".join([*kept, ""] if segments[-1] in (".", "..") else kept)
        yield merged(text) if resolves == 2 else text, climbs


GRAVITY = {"allowed": 0, "audit_denied": 1, "denied": 2}


@settings(max_examples=examples(300), deadline=None)
@given(rule_lists(), whole, st.lists(requests(odd_paths), min_size=1, max_size=8))
def test_no_reading_of_a_path_gets_past_a_rule_that_denies(
    specs: list[RuleSpec], how: dict[str, bool], asked: list[dict[str, Any]]
) -> None:
    """What a rule denies by the path as it is, or as any server may read it, is denied, and nothing more is allowed."""
    authorization = authorization_of(specs, how)
    for request in asked:
        head = head_of(request)
        client = Peer("1.3", "", identity=request["identity"]) if request["identity"] else None
        found = authorization.decide(client, request["ip"], head, request["is_permissive"], token_of(request))
        as_sent = naive(specs, how, head, request)
        gravest = GRAVITY[as_sent[0]]
        asks_path = any(one.match.path is not None for spec in specs for one in spec.clauses)
        for path, climbs in set(servers(head.path.decode())) if asks_path else ():
            other = head_of(request)
            other.path = path.encode()
            as_read = naive(specs, how, other, request)
            if climbs or as_read[1] not in ("default", "callers"):
                gravest = max(gravest, GRAVITY[as_read[0]])
        assert GRAVITY[found.outcome] == gravest


@given(rule_lists(), whole, requests(plain_paths))
def test_every_refusal_can_be_told(specs: list[RuleSpec], how: dict[str, bool], request: dict[str, Any]) -> None:
    """In one line that names who asked."""
    authorization = authorization_of(specs, how)
    head = head_of(request)
    client = Peer("1.3", "", identity=request["identity"]) if request["identity"] else None
    found = authorization.decide(client, request["ip"], head, request["is_permissive"], token_of(request))
    text = authorization.explain(found, client, request["ip"], head, token_of(request))
    assert text.startswith(request["identity"] or f"{request['ip']} without an identity")
    assert "\n" not in text
