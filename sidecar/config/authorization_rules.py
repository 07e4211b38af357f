"""Rules between the values of `inbound.authorization`, and which of its rules an earlier one hides. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Final

from sidecar.config.model.authorization import Authorization, Rule, RuleMatch, Source
from sidecar.config.model.matches import PathMatch
from sidecar.config.model.root import Config
from sidecar.config.model.tokens import JwtKeys
from sidecar.config.problems import At, Reporter
from sidecar.config.route_rules import check_match
from sidecar.config.values.grpc import METHOD, path_of

CALLERS: Final = "callers"
"""The rule that says who may call at all, which `mesh compile` makes; what the default refuses, it refuses."""
DEFAULT: Final = "default"

_TOKEN: Final = "jwt:"
"""How words begin that stand for what is asked of a token."""

_MAX_COMPARED: Final = 200_000
"""Pairs of clauses; beyond so many, a rule that is hidden is not told."""


def check_authorization(authorization: Authorization, at: At, report: Reporter, trust_domain: str | None) -> None:
    """
    Check the rules of one app.

    Args:
        at: Where they are.
        trust_domain: Whose services a name means; None if the file does not say it.
    """
    rules = authorization.rules
    if rules and authorization.default is None:
        hint = "say what becomes of a request that no rule matches: `default: deny`, or `allow`"
        report(at, "the key `default` is missing", hint, at_key=True)
    check_rules(rules, (*at, "rules"), report, trust_domain)
    is_callers_there = any(rule.name == CALLERS for rule in rules)
    if "unidentified" in authorization.model_fields_set and not is_callers_there:
        message = f"`unidentified` has no effect without a rule called `{CALLERS}`"
        hint = "who has no identity is judged by the rules as everybody else is"
        report((*at, "unidentified"), message, hint, at_key=True, rule="setting-without-effect")


def check_rules(rules: Sequence[Rule], at: At, report: Reporter, trust_domain: str | None) -> None:
    """Check a list of rules, wherever it stands."""
    names: dict[str, int] = {}
    for index, rule in enumerate(rules):
        here = (*at, index)
        first = names.setdefault(rule.name, index)
        if first != index:
            message = f"the name `{rule.name}` is already that of rules[{first}]"
            report((*here, "name"), message, "names tell rules apart in metrics, logs and tests")
        _check_rule(rule, here, report)
        for key in ("allow", "deny"):
            for number, match in enumerate(getattr(rule, key) or ()):
                check_match(match, (*here, key, number), report)
                for position, source in enumerate(match.sources):
                    _check_source(source, (*here, key, number, "from", position), report, trust_domain)
    for hidden, hiding in hidden_rules(rules, trust_domain):
        message = f"no request comes to this rule: `{rules[hiding].name}` matches all of it before"
        hint = "put it before that rule, or remove it"
        report((*at, hidden), message, hint, rule="rule-never-matches")


def check_requester(name: str, at: At, report: Reporter, trust_domain: str | None) -> None:
    """Check who asks in a test."""
    if "://" not in name and trust_domain is None:
        _report_nameless(name, at, report)


def _check_rule(rule: Rule, at: At, report: Reporter) -> None:
    if rule.name == DEFAULT:
        report((*at, "name"), f"the name `{DEFAULT}` means that no rule matched", "rename it")
    if (rule.allow is None) == (rule.deny is None):
        found = "none" if rule.allow is None else "both"
        report(at, f"expected one of `allow` and `deny`, found {found}", "make two rules of it" if rule.allow else "")
    elif rule.name == CALLERS and rule.deny is not None:
        hint = "rename it: this rule says who may call, and what `default: deny` refuses is refused in its name"
        report((*at, "deny"), f"the rule `{CALLERS}` must be one that allows", hint, at_key=True)
    elif rule.mode == "audit" and rule.allow is not None and rule.name != CALLERS:
        message = "a rule that allows refuses nothing that could be let pass"
        hint = "remove `mode`: it has no effect until a request is refused, which `default` or a rule that denies does"
        report((*at, "mode"), message, hint, at_key=True)


def _check_source(source: Source, at: At, report: Reporter, trust_domain: str | None) -> None:
    given = [kind for kind in Source.kinds if getattr(source, kind) is not None]
    if len(given) != 1:
        found = " and ".join(f"`{kind}`" for kind in given) or "none"
        report(at, f"expected one of {', '.join(f'`{kind}`' for kind in Source.kinds)}, found {found}")
        return
    if getattr(source, given[0]) is False:
        report((*at, given[0]), "expected `true`, found false", "name who is meant instead")
    if source.service is not None and trust_domain is None:
        _report_nameless(source.service, at, report)
    if source.jwt is not None:
        _check_keys(source.jwt.keys, (*at, "jwt", "keys"), report)


def _check_keys(keys: JwtKeys, at: At, report: Reporter) -> None:
    if (keys.file is None) == (keys.url is None):
        found = "none" if keys.file is None else "both"
        report(at, f"expected one of `file` and `url`, found {found}", "a set of keys in JSON (RFC 7517)", at_key=True)
    elif keys.url is None or keys.url.startswith("http://"):
        if "trust" in keys.model_fields_set:
            hint = "it is for the server of a `url` that begins with `https://`"
            report((*at, "trust"), "`trust` has no effect here", hint, at_key=True)
        if keys.url is not None:
            hint = "use `https://`: whoever is between can put a key of their own there, and sign any token"
            report((*at, "url"), "keys that come in clear prove nothing", hint, rule="keys-in-clear")


def _report_nameless(service: str, at: At, report: Reporter) -> None:
    message = f"`{service}` is the name of a service, and this file does not say of which trust domain"
    hint = f"write `identity: {{trust_domain: ...}}`, or the whole ID, such as `spiffe://shop/{service}`"
    report(at, message, "for Unix sockets write `{networks: unix}`" if service == "unix" else hint)


def trust_domain_of(config: Config) -> str | None:
    """The trust domain that a file says it is in; None if it does not."""
    return config.identity.trust_domain if config.identity is not None else None


# --- hidden rules ----------------------------------------------------------------------------------------------


def source_words(sources: Iterable[Source], trust_domain: str | None) -> frozenset[str]:
    """Sources as the words of `security.authorization`: services by their whole ID; of none, `anyone`."""
    words: set[str] = set()
    for source in sources:
        if source.anyone:
            words.add("anyone")
        elif source.authenticated:
            words.add("authenticated")
        elif source.service is not None:
            words.add(f"spiffe://{trust_domain or '?'}/{source.service}")
        elif source.spiffe is not None:
            words.add(source.spiffe)
        elif source.jwt is not None:
            words.add(f"{_TOKEN}{source.jwt.model_dump_json()}")
        words.update(source.networks or ())
    return frozenset(words or ("anyone",))


_Clause = tuple[frozenset[str], RuleMatch, PathMatch | None, int]
"""Who asks, what for, the one path that it is about, and the index of its rule."""


def hidden_rules(rules: Sequence[Rule], trust_domain: str | None) -> Iterator[tuple[int, int]]:
    """
    Each rule that one earlier rule, or several, match all of: its index, and that of the first of them.

    It tells only what is certain by comparing the questions as they are written, and each clause by itself.
    """
    left = _MAX_COMPARED
    earlier: dict[str, list[_Clause]] = {}
    for index, rule in enumerate(rules):
        clauses: list[_Clause] = []
        for match in rule.allow or rule.deny or ():
            words = source_words(match.sources, trust_domain)
            clauses += ((words, match, path, index) for path in _paths(match))
        hiding: list[int] = []
        for clause in clauses:
            found = None
            for candidate in _that_may_cover(earlier, clause[0]):
                left -= 1
                if left < 0:
                    return
                if _covers(candidate, clause):
                    found = candidate[3]
                    break
            if found is None:
                break
            hiding.append(found)
        if clauses and len(hiding) == len(clauses):
            yield index, min(hiding)
        if rule.deny is not None and rule.mode == "audit":
            continue  # it decides nothing
        for clause in clauses:
            for word in clause[0]:
                earlier.setdefault(_shelf_of(word), []).append(clause)


def _paths(match: RuleMatch) -> Sequence[PathMatch | None]:
    """The paths that a match is about, those of gRPC included; of any path None."""
    asked = path_of(match.grpc.service, match.grpc.method) if match.grpc is not None else None
    if asked is not None:
        kind, path = asked
        return [PathMatch(exact=path) if kind == "exact" else PathMatch(prefix=path)]
    return match.paths or (None,)


def _shelf_of(word: str) -> str:
    """Words that only equal ones cover stand by themselves."""
    if word.startswith("spiffe://"):
        return "patterns" if "*" in word else word
    if word.startswith(_TOKEN):
        return word
    return word if word in ("anyone", "authenticated", "unix") else "networks"


def _that_may_cover(earlier: Mapping[str, list[_Clause]], words: frozenset[str]) -> Iterator[_Clause]:
    one = min(words)
    for shelf in dict.fromkeys(("anyone", "authenticated", "patterns", "networks", _shelf_of(one))):
        yield from earlier.get(shelf, ())


def _covers(earlier: _Clause, later: _Clause) -> bool:
    whom, before, wide, _ = earlier
    words, match, path, _ = later
    if "anyone" not in whom and not all(_is_among(word, whom) for word in words):
        return False
    if before.grpc is not None and match.grpc is None:
        return False
    if before.methods and not (_methods(match) and _methods(match) <= set(before.methods)):
        return False
    if before.host and "*" not in before.host and not (match.host and set(match.host) <= set(before.host)):
        return False
    for name in ("headers", "cookies", "query"):
        asked, there = getattr(before, name), getattr(match, name)
        if any(there.get(key) != test for key, test in asked.items()):
            return False
    return wide is None or (path is not None and _covers_path(wide, path))


def _methods(match: RuleMatch) -> set[str]:
    return set(match.methods) if match.grpc is None else {METHOD}


def _is_among(word: str, whom: frozenset[str]) -> bool:
    if word in whom:
        return True
    if word.startswith("spiffe://"):
        return "authenticated" in whom or any(_is_below(word, one) for one in whom if one.endswith("/*"))
    if word in ("anyone", "authenticated", "unix") or word.startswith(_TOKEN):
        return False
    network = ip_network(word)
    for one in whom:
        if one in ("authenticated", "unix") or one.startswith(("spiffe://", _TOKEN)):
            continue
        other = ip_network(one)
        if network.version == other.version and network.subnet_of(other):  # type: ignore[arg-type]
            return True
    return False


def _is_below(word: str, pattern: str) -> bool:
    return pattern.count("*") == 1 and word.startswith(pattern[:-1]) and len(word) > len(pattern) - 1


def _covers_path(before: PathMatch, path: PathMatch) -> bool:
    if before == path:
        return True
    if before.invert or before.ignore_case or path.invert or path.ignore_case or before.prefix is None:
        return False
    one = path.exact or path.prefix
    # What is normalised before it is compared is left alone here.
    if one is None or any(mark in text for text in (before.prefix, one) for mark in ("%", "/.")):
        return False
    prefix = before.prefix.rstrip("/")
    return one == prefix or one.startswith(f"{prefix}/")
