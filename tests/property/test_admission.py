"""Between two files is admitted whom either of them admits, whatever the rules are."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.control.rollout.admission import with_admission_of

Values = dict[str, Any]

SOURCES = st.lists(st.sampled_from("abc"), min_size=1, unique=True)
PATHS = st.lists(st.sampled_from(["/1", "/2", "/3"]), unique=True)
DENIES = st.lists(
    st.fixed_dictionaries(
        {"deny": st.fixed_dictionaries({"from": SOURCES, "path": PATHS})}, optional={"mode": st.just("audit")}
    ),
    max_size=3,
)


def _section(data: st.DataObject, denies: list[Values]) -> Values:
    """Some `allow`s before, between and behind these `deny`s."""
    rules: list[Values] = []
    names = iter(data.draw(st.permutations(["callers", *(f"r{number}" for number in range(8))])))
    for number in range(len(denies) + 1):
        for _ in range(data.draw(st.integers(0, 2))):
            clauses = [
                {"from": data.draw(SOURCES), "path": data.draw(PATHS)} for _ in range(data.draw(st.integers(1, 2)))
            ]
            name = next(names)
            said: Values = {"name": name, "allow": clauses if len(clauses) > 1 else clauses[0]}
            if name == "callers" and data.draw(st.booleans()):
                said["mode"] = "audit"
            rules.append(said)
        if number < len(denies):
            rules.append({"name": f"d{number}", **denies[number]})
    return {"default": data.draw(st.sampled_from(["deny", "deny", "allow"])), "rules": rules}


def _is_admitted(said: Values, source: str, path: str) -> bool:
    """Rules in order, the first that matches; what is in audit refuses nobody."""
    for one in said["rules"]:
        if "deny" in one and one.get("mode") == "audit":
            continue
        clauses = one.get("allow", one.get("deny"))
        for clause in clauses if isinstance(clauses, list) else [clauses]:
            if source in clause["from"] and (not clause["path"] or path in clause["path"]):
                return "allow" in one
    is_audited = any(one["name"] == "callers" and one.get("mode") == "audit" for one in said["rules"])
    return said["default"] == "allow" or is_audited


@settings(deadline=None)
@given(st.data(), DENIES)
def test_between_two_files_is_admitted_whom_either_admits(data: st.DataObject, denies: list[Values]) -> None:
    """Exactly, where both refuse the same; and no name twice, so that it is a file."""
    own, other = _section(data, denies), _section(data, denies)
    made = with_admission_of({"authorization": own}, {"authorization": other})["authorization"]
    names = [one["name"] for one in made["rules"]]
    assert len(set(names)) == len(names)
    for source in "abcd":
        for path in ("/1", "/2", "/3", "/4"):
            wanted = any(_is_admitted(one, source, path) for one in (own, other))
            assert _is_admitted(made, source, path) is wanted
