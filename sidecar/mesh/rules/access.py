"""Rules of who may call: whom `callers` and rules may name, and what can be known of them. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sidecar.config.authorization_rules import CALLERS, check_rules, hidden_rules
from sidecar.config.check import Report
from sidecar.config.model.authorization import Rule, RuleMatch, Source
from sidecar.config.problems import At, Reporter
from sidecar.config.yaml.places import Location, place_of_key
from sidecar.mesh.access.admission import callers_of, tls_mode
from sidecar.mesh.access.identities import is_identity
from sidecar.mesh.mesh import Document, Mark
from sidecar.mesh.model.access import Caller
from sidecar.mesh.model.root import MeshFile
from sidecar.mesh.model.words import ANYONE, MESH
from sidecar.mesh.rules.between import check_named
from sidecar.mesh.rules.scope import Others, Scope
from sidecar.spiffe import SCHEME

_OF_HTTP: Final = ("path", "grpc", "methods", "host", "headers", "cookies", "query")

_AUTHORITY: Final = "start its control plane with an authority: `sidecar mesh ca init`"


@dataclass(frozen=True, slots=True)
class Platform:
    """
    What holds for all services.

    Attributes:
        root: The mesh's own file.
        document: Where it is written; None if there is none.
        report: Of that file; None likewise.
        has_identity: Whether sidecars have identities.
    """

    root: MeshFile
    document: Document | None
    report: Report | None
    has_identity: bool

    def where(self, *location: int | str) -> str:
        """`file:line` of a location."""
        if self.document is None:
            return ""
        node = place_of_key(self.document.root, location).mark
        return str(Mark(self.document.name, node.line, node.column))


def check_platform(platform: Platform, others: Others, scopes: dict[str, Scope]) -> None:
    """Check the platform's own rules."""
    report = platform.report
    if report is None:
        return
    authorization = platform.root.authorization
    rules: list[tuple[Rule, At]] = []
    for key in ("first", "last"):
        own: list[Rule] = getattr(authorization, key)
        _check_rules(own, ("authorization", key), report, others, platform)
        rules += ((rule, ("authorization", key, index)) for index, rule in enumerate(own))
    for index, (rule, at) in enumerate(rules):
        for other, place in rules[:index]:
            if other.name == rule.name and place[1] != at[1]:
                hint = "names tell rules apart in metrics, logs and tests"
                report((*at, "name"), f"the name `{rule.name}` is already that of another rule of the platform", hint)
        _check_known(rule, at, report, platform, others, scopes, ANYONE)
    if not platform.has_identity:
        if "mode" in authorization.model_fields_set and authorization.mode == "enforce":
            report(("authorization", "mode"), _without("`callers` cannot be enforced"), _AUTHORITY)
        defaults = platform.root.defaults.inbound
        if defaults is not None and defaults.tls is not None and defaults.tls.mode != "off":
            at = ("defaults", "inbound", "tls")
            report(at, _without(f"`{defaults.tls.mode}` cannot be kept"), _AUTHORITY, at_key=True)


def check_access(scope: Scope, others: Others, scopes: dict[str, Scope], platform: Platform) -> None:
    """Check `callers` and the rules of one service."""
    callers = scope.service.callers or []
    matches = [(index, one) for index, one in enumerate(callers) if isinstance(one, RuleMatch)]
    if matches:
        made = Rule.model_construct(name=CALLERS, mode="enforce", allow=[one for _, one in matches], deny=None)
        check_rules([made], (), _Moved(scope, [index for index, _ in matches]), platform.root.mesh)
    for index, match in matches:
        _check_match(match, ("callers", index), scope, others, platform)
    rules = scope.service.authorization.rules if scope.service.authorization is not None else []
    _check_rules(rules, ("authorization", "rules"), scope, others, platform)
    _check_names(rules, scope, platform)
    for index, rule in enumerate(rules):
        at = ("authorization", "rules", index)
        _check_known(rule, at, scope, platform, others, scopes, scope.name)
    _check_ports(scope)
    _check_hidden(rules, scope, platform)
    if platform.has_identity:
        _check_tls(scope, others, scopes, platform)
    else:
        _check_without_identity(scope)


class _Moved:
    """Reports of a rule that was made for the check, at the `callers` that it was made from."""

    def __init__(self, scope: Scope, indices: Sequence[int]) -> None:
        self._scope = scope
        self._indices = indices

    def __call__(
        self, location: Location, message: str, hint: str = "", *, at_key: bool = False, rule: str = ""
    ) -> None:
        # `0`, `allow`, which of its matches, and where in it.
        if len(location) > 2:
            here = ("callers", self._indices[int(location[2])], *location[3:])
            self._scope(here, message, hint, at_key=at_key, rule=rule)


def _check_rules(rules: list[Rule], at: At, report: Reporter, others: Others, platform: Platform) -> None:
    check_rules(rules, at, report, platform.root.mesh)
    for index, rule in enumerate(rules):
        if rule.name == CALLERS:
            hint = "rename it: that is the rule which is made from `callers`"
            report((*at, index, "name"), f"the name `{CALLERS}` is taken", hint)
        for place, match in _matches(rule, (*at, index)):
            _check_match(match, place, report, others, platform)


def _matches(rule: Rule, at: At) -> Iterable[tuple[At, RuleMatch]]:
    for key in ("allow", "deny"):
        for number, match in enumerate(getattr(rule, key) or ()):
            yield (*at, key, number), match


def _check_match(match: RuleMatch, at: At, report: Reporter, others: Others, platform: Platform) -> None:
    for position, source in enumerate(match.sources):
        here = (*at, "from", position)
        if source.service is not None:
            check_named(source.service, here, report, others)
        if source.spiffe is not None:
            domain = source.spiffe.removeprefix(SCHEME).partition("/")[0]
            if domain != platform.root.mesh:
                hint = (
                    f"write `spiffe://{platform.root.mesh}/...`: sidecars of other trust domains are not believed yet"
                )
                report(here, f"`{source.spiffe}` is of another trust domain than this mesh", hint)


def _check_names(rules: Sequence[Rule], scope: Scope, platform: Platform) -> None:
    """All rules of a service stand in one list."""
    around = platform.root.authorization
    for index, rule in enumerate(rules):
        at = ("authorization", "rules", index)
        for key in ("first", "last"):
            for number, other in enumerate(getattr(around, key)):
                if other.name == rule.name:
                    where = platform.where("authorization", key, number, "name")
                    message = f"the name `{rule.name}` is already that of a rule of the platform ({where})"
                    scope((*at, "name"), message, "names tell rules apart in metrics, logs and tests")
                    if platform.report is not None:
                        there = f"the name `{rule.name}` is also that of a rule of `{scope.name}` ({scope.where(*at)})"
                        platform.report(("authorization", key, number, "name"), there, "rename one of the two")


def _check_hidden(rules: Sequence[Rule], scope: Scope, platform: Platform) -> None:
    """What the platform's first rules, or the service's own, hide; within one list that is told already."""
    around, mesh = platform.root.authorization, platform.root
    everything = [*around.first, *rules]
    if platform.has_identity and scope.service.listens:
        mode = tls_mode(scope.service, mesh.defaults.inbound)
        everything.append(_rule_of(callers_of(scope.service, mesh.access, mode)))
    for hidden, hiding in hidden_rules(everything, mesh.mesh):
        message = f"no request comes to this rule: `{everything[hiding].name}` matches all of it before"
        if everything[hidden].name == CALLERS and scope.service.callers is not None:
            scope(("callers",), message, "remove one of the two", at_key=True, rule="rule-never-matches")
        elif hiding < len(around.first) <= hidden < len(around.first) + len(rules):
            where = platform.where("authorization", "first", hiding, "name")
            at = ("authorization", "rules", hidden - len(around.first))
            scope(at, f"{message} ({where})", "remove it, or ask the platform's team", rule="rule-never-matches")


def _rule_of(callers: Sequence[Caller]) -> Rule:
    """The rule that is made from `callers`, by the names of services."""
    words = {ANYONE: "anyone", MESH: "authenticated"}
    named = [words.get(one, one) for one in callers if isinstance(one, str)]
    matches = [one for one in callers if isinstance(one, RuleMatch)]
    if named:
        matches.append(RuleMatch.model_validate({"from": named}))
    return Rule.model_construct(name=CALLERS, mode="enforce", allow=matches, deny=None)


def _check_known(
    rule: Rule, at: At, report: Reporter, platform: Platform, others: Others, scopes: dict[str, Scope], name: str
) -> None:
    """A rule that asks who calls is about those who can be known."""
    for place, match in _matches(rule, at):
        for position, source in enumerate(match.sources):
            here = (*place, "from", position)
            if not is_identity(source):
                continue
            if not platform.has_identity:
                report(here, _without("nobody can be known as that"), _AUTHORITY)
            elif source.service is not None and source.service in scopes and _is_off(others, source.service, platform):
                _report_off(source, here, report, scopes, platform, name)


def _report_off(
    source: Source, at: At, report: Reporter, scopes: dict[str, Scope], platform: Platform, name: str
) -> None:
    assert source.service is not None
    there = scopes[source.service]
    where = _off_place(there, platform)
    message = f"`{source.service}` has no identity: its `inbound.tls` is `off` ({where})"
    report(at, message, "say `permissive` there, or admit it by its `networks`")
    if there.service.inbound is not None and there.service.inbound.tls is not None:
        whose = "a rule of the platform" if name == ANYONE else f"a rule of `{name}`"
        there(("inbound", "tls"), f"{whose} asks for the identity of `{there.name}`, which has none so", at_key=True)


def _off_place(scope: Scope, platform: Platform) -> str:
    if scope.service.inbound is not None and scope.service.inbound.tls is not None:
        return scope.where("inbound", "tls")
    return platform.where("defaults", "inbound", "tls")


def _is_off(others: Others, name: str, platform: Platform) -> bool:
    return tls_mode(others.services[name], platform.root.defaults.inbound) == "off"


def _check_tls(scope: Scope, others: Others, scopes: dict[str, Scope], platform: Platform) -> None:
    """Where nobody comes by TLS nobody is known, and who takes none is not known either."""
    callers = scope.service.callers or []
    for index, one in enumerate(callers):
        if isinstance(one, str) and one in scopes and _is_off(others, one, platform) and one != scope.name:
            where = _off_place(scopes[one], platform)
            message = f"`{one}` has no identity to be admitted by: its `inbound.tls` is `off` ({where})"
            scope(("callers", index), message, "say `permissive` there", rule="caller-without-identity")
    if not scope.service.listens or not _is_off(others, scope.name, platform):
        return
    where = _off_place(scope, platform)
    rules = scope.service.authorization.rules if scope.service.authorization is not None else []
    for index, rule in enumerate(rules):
        for place, match in _matches(rule, ("authorization", "rules", index)):
            for position, source in enumerate(match.sources):
                if is_identity(source):
                    message = f"nobody is known here: `inbound.tls` is `off` ({where})"
                    scope((*place, "from", position), message, "say `permissive`, or ask for `networks`")
    for index, one in enumerate(callers):
        asks = any(map(is_identity, one.sources)) if isinstance(one, RuleMatch) else one != ANYONE
        if asks:
            message = f"nobody is known here: `inbound.tls` is `off` ({where})"
            scope(("callers", index), message, "say `permissive`, or `callers: anyone`")
            return


def _check_without_identity(scope: Scope) -> None:
    service = scope.service
    if service.inbound is not None and service.inbound.tls is not None and service.inbound.tls.mode != "off":
        message = _without(f"`{service.inbound.tls.mode}` cannot be kept")
        scope(("inbound", "tls"), message, _AUTHORITY, at_key=True)
    if service.authorization is not None and service.authorization.mode == "enforce":
        scope(("authorization", "mode"), _without("`callers` cannot be enforced"), _AUTHORITY)


def _without(what: str) -> str:
    return f"{what}: this mesh runs without identities"


def _check_ports(scope: Scope) -> None:
    """What a rule asks must be read there; at raw ports only the source is known."""
    raw = [name for name, port in scope.service.listens.items() if port.protocol == "tcp"]
    if not raw:
        return
    rules = scope.service.authorization.rules if scope.service.authorization is not None else []
    found = [pair for index, rule in enumerate(rules) for pair in _matches(rule, ("authorization", "rules", index))]
    callers = enumerate(scope.service.callers or [])
    found += [(("callers", index), one) for index, one in callers if isinstance(one, RuleMatch)]
    for at, match in found:
        for key in _OF_HTTP:
            if getattr(match, key):
                message = f"`{key}` cannot be judged at the port `{raw[0]}`, where nothing is read of what is sent"
                hint = "ask for `from` alone, or make a service of its own of that port"
                scope((*at, key), message, hint, at_key=True)
        for position, source in enumerate(match.sources):
            if source.jwt is not None:
                message = f"no token can be seen at the port `{raw[0]}`, where nothing is read of what is sent"
                scope((*at, "from", position), message, "make a service of its own of that port")
