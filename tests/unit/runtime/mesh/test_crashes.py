"""Whether a file ends the process again and again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.runtime.mesh.crashes import MAX_STARTS, Record, at_start, ended, in_force, read_record, survived

NEW = Record(release="1")


def start(record: Record, file_hash: str = "f", *, is_news: bool = False) -> Record:
    """A start that puts this file in force."""
    return in_force(at_start(record, "1"), file_hash, is_news=is_news)


def test_three_starts_that_end_early_condemn_a_file() -> None:
    """Not one less."""
    record = NEW
    for _ in range(MAX_STARTS):
        assert at_start(record, "1").condemned == ""
        record = start(record)
    assert at_start(record, "1") == Record("", {}, False, "f", "1")


@pytest.mark.parametrize("end", [survived, ended])
def test_an_end_that_was_asked_for_or_came_late_says_nothing_of_the_file(end: object) -> None:
    """However often."""
    record = NEW
    for _ in range(3 * MAX_STARTS):
        record = end(start(record))  # type: ignore[operator]
    assert at_start(record, "1").condemned == ""


def test_a_file_that_survives_is_innocent_of_what_was_before() -> None:
    """Two early ends, then a long life."""
    record = survived(start(start(start(NEW))))
    assert record.starts == {}


def test_ends_with_different_files_do_not_add_up() -> None:
    """It is the file that is judged."""
    record = NEW
    for name in "abcabcabc":
        record = start(record, name, is_news=True)
    assert at_start(record, "1").condemned == ""


def test_the_last_good_file_in_between_does_not_end_the_count() -> None:
    """Each start begins with what is on disk, and ends with what is pushed, which is the one to be blamed."""
    record = NEW
    for _ in range(MAX_STARTS):
        assert at_start(record, "1").condemned == ""
        record = in_force(start(record, "good"), "bad", is_news=True)
    record = at_start(record, "1")
    assert record.condemned == "bad"
    record = in_force(record, "good", is_news=False)
    assert (record.hash, record.condemned) == ("good", "bad")


def test_a_condemned_file_stays_so_until_another_one_is_pushed() -> None:
    """The one before, from disk, is none."""
    record = NEW
    for _ in range(MAX_STARTS):
        record = start(record)
    record = survived(start(record, "before"))
    assert record.condemned == "f"
    assert in_force(record, "next", is_news=True).condemned == ""


def test_another_release_begins_anew_as_the_same_instance() -> None:
    """What ended the last one need not end this one."""
    record = Record("f", {"f": 2}, True, "g", "1", "shop-1")
    assert at_start(record, "2") == Record(release="2", instance="shop-1")


_VALUES = st.none() | st.integers() | st.text() | st.booleans() | st.dictionaries(st.text(), st.integers() | st.text())


@given(st.dictionaries(st.sampled_from(list(Record.__slots__)), _VALUES))
def test_whatever_is_on_disk_is_a_record(value: dict[str, object]) -> None:
    """And what was one is the same."""
    record = read_record(value)
    assert read_record(record.shown()) == record
    assert read_record(None) == Record()
