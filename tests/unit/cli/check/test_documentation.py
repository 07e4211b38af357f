"""docs/check.md keeps what it says; and what the house shows to people surprises nobody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.cli.check.judged import Judged, judge
from sidecar.config.source import make_source
from sidecar.config.warnings.rules import PAGE, RULES

ROOT = Path(__file__).parents[4]
TEXT = (ROOT / PAGE).read_text()
SECTIONS = dict(re.findall(r"^### `([a-z-]+)`\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAIRS = [(rule, *BLOCK.findall(text)) for rule, text in SECTIONS.items() if "```yaml" in text]
FILES = [
    *sorted(ROOT.glob("config/resilience/*.yaml")),
    *(
        ROOT / "config" / "examples" / name
        for name in ("minimal.yaml", "full.yaml", "grpc.yaml", "jwt.yaml", "compose/sidecar.yaml")
    ),
    *sorted(ROOT.glob("config/examples/tls/**/*.yaml")),
]


def judged(block: str) -> Judged:
    """A part of a file, with what it needs besides."""
    frame = "" if "service:" in block else "service: storefront\n"
    if not re.search("^(inbound|outbound):", block, re.MULTILINE):
        frame += "outbound: {}\n"
    if not re.search("^upstreams:", block, re.MULTILINE) and re.search(
        "^outbound:|recommendations", frame + block, re.M
    ):
        frame += "upstreams: {recommendations: {dns: 'a:80'}, recommendations-beta: {dns: 'b:80'}}\n"
    return judge(make_source("docs", (frame + block).encode()), {"PORT": "8080"})


def test_every_rule_has_a_section() -> None:
    """And no section is of a rule that there is not."""
    assert list(SECTIONS) == list(dict.fromkeys(SECTIONS))
    assert set(SECTIONS) == set(RULES)


@pytest.mark.parametrize(("rule", "bad", "good"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_what_is_shown_is_warned_of_and_what_is_shown_instead_is_not(rule: str, bad: str, good: str) -> None:
    """Each pair of examples."""
    assert bad.startswith("# warned of\n")
    assert good.startswith("# instead\n")
    found, after = judged(bad), judged(good)
    assert (found.problems, after.problems) == ((), ())
    assert rule in {one.rule for one in found.warnings}
    assert {one.rule for one in after.warnings} - {"upstream-unused"} == set()


def test_most_rules_have_examples() -> None:
    """Those that are of one file."""
    assert len(PAIRS) >= 12


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT / "config")) for path in FILES])
def test_examples_of_the_house_surprise_nobody(path: Path) -> None:
    """None of them is warned of."""
    found = judge(make_source(str(path), path.read_bytes()), {})
    assert (found.problems, found.warnings) == ((), ())


@pytest.mark.parametrize("page", ["configuration.md", "routing.md", "resilience.md", "upstreams.md"])
def test_examples_of_other_pages_surprise_nobody(page: str) -> None:
    """Parts of files, as far as they can be judged alone; what they leave out may leave an upstream unused."""
    found = [one for block in BLOCK.findall((ROOT / "docs" / page).read_text()) for one in judged(block).warnings]
    assert [str(one) for one in found if one.rule != "upstream-unused"] == []
