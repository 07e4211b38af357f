"""Tables, goals and the page are made of a result's records, and of nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.harness import page
from benchmarks.harness.figures import Spread
from benchmarks.harness.goals import GOALS, Goal, goals
from benchmarks.harness.h2_tables import more_by_resets
from benchmarks.harness.page import MissingError, fill, read, run_of
from benchmarks.harness.records import FORMAT, Document, Record, Records
from benchmarks.harness.tables import TABLES, tables

CPU_US = {"relay": (10.0, 20.0), "haproxy": (15.0, 30.0), "envoy": (50.0, 100.0), "sidecar": (20.0, 44.0)}


def _round(subject: str, number: int, case: str = "", **figures: object) -> Record:
    return {"case": case, "round": number, "subject": subject, "faults": [], **figures}


def _document(**scenarios: list[Record]) -> Document:
    return {
        "format": FORMAT,
        "surroundings": {
            "when": "2026-01-01T00:00:00+00:00",
            "commit": "abc1234",
            "cores": 2,
            "cpu": "a processor",
            "virtual": "none",
            "kernel": "6.1",
            "python": "3.11.7",
            "versions": {"envoy": "9e55/1.40.0/Clean", "sidecar": "sidecar, version 0.1.0"},
        },
        "options": {"rounds": 2, "seconds": 3},
        "pinned": {},
        "scenarios": {name: {"seconds": 60.0, "notes": [], "records": records} for name, records in scenarios.items()},
    }


def _full(*faults: str) -> list[Record]:
    records = [
        _round(name, number, cpu_us=values[number - 1], rate=1000.0, busy=0.5, logs=1.0, spans=None, pss_mib=10.0)
        for number in (1, 2)
        for name, values in CPU_US.items()
    ]
    records[0]["faults"] = list(faults)
    return records


def test_series_holds_only_the_rounds_that_have_the_figure() -> None:
    """A figure within a figure is found by its path; a round without it is left out, not zero."""
    found = Records([_round("nginx", 1, around={"p99_ms": 2.0}), _round("nginx", 2), _round("envoy", 1)])
    assert found.series("around.p99_ms", "nginx") == {1: 2.0}
    assert found.spread("around.p99_ms", "envoy") is None


def test_table_of_a_scenario_has_every_subject_with_its_ratios() -> None:
    """Ratios are of the same round: 20/50 and 44/100, whose median is 0.42."""
    lines = tables(_document(full=_full()), "full").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in CPU_US]
    assert "| sidecar | 32.0 (20.0-44.0) | 2.10 (2.00-2.20) | 0.42 (0.40-0.44) |" in lines[-1]


def test_faults_are_said_below_the_table() -> None:
    """A table of rounds that were not all good does not look like one of good rounds."""
    assert "1 of 8 rounds had a fault" in tables(_document(full=_full("3 of 5 requests failed")), "full")
    assert "fault" not in tables(_document(full=_full()), "full")


def test_table_by_case_compares_ours_with_envoy_in_every_case() -> None:
    """Routes: a column for each table, the growth in the last, and the ratio to Envoy below."""
    records = [
        _round(name, 1, case, cpu_us=value)
        for name, case, value in (
            ("envoy", "10", 50.0),
            ("envoy", "10000", 500.0),
            ("sidecar", "10", 20.0),
            ("sidecar", "10000", 21.0),
        )
    ]
    lines = tables(_document(routes=records), "routes").splitlines()
    assert lines[0].endswith("| 10,000 against 10 |")
    assert lines[3].endswith("| 1.05 (1.05-1.05) |")
    assert lines[4] == "| sidecar against envoy | 0.40 (0.40-0.40) | 0.04 (0.04-0.04) | - |"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_well_formed_with_hardly_any_figure(name: str) -> None:
    """What a run did not measure is a dash, and every line has as many cells as the head."""
    case = "1 KiB" if name in ("bodies", "uploads") else "1"
    lines = tables(_document(**{name: [_round("sidecar", 1, case)]}), name).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) >= 3


def test_scenario_that_was_not_run_says_so() -> None:
    """An empty table would look like a result."""
    assert tables(_document(), "full") == "Not measured in this run."


def test_goal_is_reached_by_the_median_or_by_every_round() -> None:
    """A median below the limit is enough, unless the worst round counts."""
    spread = Spread(1.0, 0.5, 3.0)
    assert Goal("a", 2.0, lambda *_: spread).is_met(spread)
    assert not Goal("a", 2.0, lambda *_: spread, counts_every_round=True).is_met(spread)
    assert not Goal("a", 2.0, lambda *_: spread, is_at_least=True).is_met(spread)
    assert Goal("a", 1.0, lambda *_: spread, is_at_least=True).is_met(spread)
    assert not Goal("a", 1.0, lambda *_: spread, is_at_least=True, counts_every_round=True).is_met(spread)


def test_goals_name_what_was_measured_and_what_was_not() -> None:
    """A row for each goal; a subject that was not run has no column."""
    lines = goals(_document(full=_full())).splitlines()
    assert lines[0] == "| figure | goal | sidecar | reached |"
    assert len(lines) == 2 + len(GOALS)
    assert "| at most 0.4 | 0.42 (0.40-0.44) | no |" in lines[2]
    assert "| at most 2.5 | 2.10 (2.00-2.20) | yes |" in lines[3]
    assert "| at most 2 | not measured | - |" in lines[4]


def test_resets_are_charged_with_what_their_round_has_more() -> None:
    """p99 beside the peer less that of the same round without it; a round that lacks one has no difference."""
    measured = [("none", 1, 2.0), ("at once", 1, 5.0), ("none", 2, 10.0), ("at once", 2, 9.0), ("at once", 3, 70.0)]
    records = [_round("compiled", number, case, p99_ms=p99_ms) for case, number, p99_ms in measured]
    document = _document(h2reset=records)
    assert more_by_resets(Records(records), "compiled", "at once") == Spread(1.0, -1.0, 3.0)
    assert more_by_resets(Records(records), "compiled", "later") is None
    row = next(line for line in tables(document, "h2reset").splitlines() if "| at once |" in line)
    assert "| 1.00 (-1.00 to 3.00) |" in row
    assert "| at most 5 | 1.00 (-1.00 to 3.00) | yes |" in goals(document)


def _marked(*names: str) -> str:
    return "\n".join(f"before\n<!-- figures: {name} -->\nstale\n<!-- end -->" for name in names) + "\nafter\n"


def test_page_keeps_its_text_and_gets_the_figures_of_the_result() -> None:
    """What stood between the markers is gone; a second time nothing changes."""
    document = _document(full=_full())
    filled = fill(_marked("goals", "run", *TABLES), [("results/a.json", document)])
    assert "stale" not in filled
    assert filled.count("before") == 2 + len(TABLES)
    assert tables(document, "full") in filled
    assert "`results/a.json`: 2026-01-01T00:00:00+00:00, commit `abc1234`" in filled
    assert "envoy 1.40.0, sidecar 0.1.0" in filled
    assert fill(filled, [("results/a.json", document)]) == filled


def test_page_of_several_results_says_which_scenarios_are_whose() -> None:
    """Of one that both have, the last counts."""
    older, newer = _document(full=_full(), tls=[]), _document(tls=[_round("envoy", 1, case="in", cpu_us=1.0, rate=1.0)])
    filled = fill(_marked("goals", "run", *TABLES), [("a.json", older), ("b.json", newer)])
    assert "`a.json` (`full`): 2026" in filled
    assert "`b.json` (`tls`): 2026" in filled
    assert tables(older, "full") in filled
    assert tables(newer, "tls") in filled


def test_page_of_a_busy_machine_says_so() -> None:
    """Half of the rounds beside others' work: the figures are preliminary; a quiet machine is not called so."""
    quiet, busy = (
        [_round("envoy", 1, foreign=0.01)],
        [_round("envoy", 1, foreign=0.01), _round("envoy", 2, foreign=1.2)],
    )
    assert "Preliminary" not in run_of(_document(plain=quiet), "a.json")
    assert "Preliminary" in run_of(_document(plain=busy), "a.json")


@pytest.mark.parametrize(
    "names",
    [("goals", "run"), ("goals", "run", *TABLES, "full"), ("goals", "run", *TABLES, "unknown")],
    ids=["missing", "twice", "unknown"],
)
def test_page_whose_markers_do_not_fit_is_refused(names: tuple[str, ...]) -> None:
    """No table falls off the page in silence."""
    with pytest.raises(MissingError, match="expected one marker"):
        fill(_marked(*names), [("a.json", _document())])


def test_page_in_the_tree_has_a_marker_for_every_table() -> None:
    """What the next measurement will write has its place."""
    fill(page.PAGE.read_text(), [("a.json", _document())])


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', "{}"])
def test_result_of_another_format_is_refused(text: str, tmp_path: Path) -> None:
    """The file of an older comparison, or none at all."""
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(MissingError):
        read(path)


def test_page_in_the_tree_agrees_with_the_result_that_it_names() -> None:
    """Nobody has written a figure by hand: filling the page again with its own results changes nothing."""
    text = page.PAGE.read_text()
    named = re.findall(r"^`(benchmarks/results/compare-\w+\.json)`", text, re.MULTILINE)
    assert named
    documents = [(name, read(page.ROOT / name)) for name in named]
    assert fill(text, documents) == text
