"""What is known of a prefix, and when it is doubted."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.changes import Events, ListAgain, Seen, Snapshot, Track
from sidecar.control.engines.etcd.wire import EtcdError, KeyValue

CLUSTER = 7


def pair(key: str, revision: int, value: str = "") -> KeyValue:
    return KeyValue(key.encode(), value.encode(), revision, revision)


def put(key: str, revision: int, value: str = "") -> dict[str, Any]:
    at = {"create_revision": str(revision), "mod_revision": str(revision)}
    return {"kv": wire.put(key.encode(), value.encode()) | at}


def deleted(key: str, revision: int) -> dict[str, Any]:
    return {"type": "DELETE", "kv": {"key": wire.written(key.encode()), "mod_revision": str(revision)}}


def message(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"header": {"cluster_id": str(CLUSTER)}, "events": list(events)} | more


def track(*found: KeyValue, revision: int = 10) -> Track:
    made = Track()
    assert made.listed(list(found), revision, CLUSTER) == Snapshot(found)
    return made


def test_events_say_what_is_other_and_what_was_deleted() -> None:
    """Of a key that changed more than once only the last; a deletion says what the key was."""
    known = track(pair("a", 3, "x"), pair("b", 4))
    assert known.heard(message(created=True)) is None
    found = known.heard(message(put("c", 11), put("c", 12, "y"), deleted("a", 13), deleted("b", 14), put("b", 15)))
    assert found == Events((pair("c", 12, "y"), pair("b", 15)), (pair("a", 3, "x"),))
    assert known.revision == 15


def test_keys_that_one_operation_deleted_are_told_apart() -> None:
    """`etcdctl del --prefix`: one revision; and one that was there again since is not among them."""
    known = track(*(pair(key, 3) for key in "abcd"))
    found = known.heard(message(deleted("a", 11), *(deleted(key, 12) for key in "bcd"), put("d", 13)))
    assert found is not None
    assert {one.key for one in found.deleted} == {b"a", b"b", b"c"}
    assert found.at_once == {b"b", b"c"}
    assert known.heard(message(deleted("d", 14))) == Events((), (pair("d", 13),))


def test_what_is_brought_twice_is_old() -> None:
    """A watch that begins too early changes nothing back."""
    known = track(pair("a", 3))
    known.heard(message(put("a", 12, "new")))
    assert known.heard(message(put("a", 11, "old"))) is None


def test_compacted_watch_and_another_store_are_listed_again() -> None:
    """What a watch says of a revision that is forgotten has no events, and may name no revision of the store."""
    known = track(pair("a", 3))
    with pytest.raises(ListAgain):
        known.heard({"header": {"cluster_id": str(CLUSTER)}, "canceled": True, "compact_revision": "20"})
    with pytest.raises(ListAgain):
        known.heard(message(put("a", 11)) | {"header": {"cluster_id": "8"}})
    with pytest.raises(EtcdError, match="permission denied"):
        known.heard(message(canceled=True, cancel_reason="etcdserver: permission denied"))
    with pytest.raises(EtcdError, match="cancelled"):
        known.heard(message(canceled=True))


def test_store_that_is_older_than_what_was_known_is_another() -> None:
    """A backup was restored: a watch from the revision that we had would wait for ever."""
    known = track(pair("a", 9), revision=10)
    with pytest.raises(ListAgain):
        known.checked(Seen(CLUSTER, 9, 9, 1))
    with pytest.raises(ListAgain):
        known.checked(Seen(8, 10, 9, 1))


def test_watch_that_brings_everything_is_well() -> None:
    """Whatever else happens in the store."""
    known = track(pair("a", 9), revision=10)
    assert known.checked(Seen(CLUSTER, 500, 9, 1))
    known.heard(message(put("b", 501)))
    assert known.checked(Seen(CLUSTER, 501, 501, 2))


def test_read_that_is_ahead_of_the_watch_is_no_fault() -> None:
    """Between the read and the event there is time; a second look decides."""
    known = track(pair("a", 9), revision=10)
    assert not known.checked(Seen(CLUSTER, 11, 11, 1))
    known.heard(message(put("a", 11)))
    assert not known.checked(Seen(CLUSTER, 12, 12, 1))
    known.heard(message(put("a", 12)))
    assert known.checked(Seen(CLUSTER, 12, 12, 1))


@pytest.mark.parametrize("seen", [Seen(CLUSTER, 11, 11, 1), Seen(CLUSTER, 11, 9, 0), Seen(CLUSTER, 12, 12, 2)])
def test_silent_watch_is_found_at_the_second_look(seen: Seen) -> None:
    """A change, a deletion, a new key that does not come; if another watch does not bring it either, all is listed."""
    known = track(pair("a", 9), revision=10)
    assert not known.checked(seen)
    with pytest.raises(EtcdError, match="silent"):
        known.checked(seen)
    # What the watch before did not bring says nothing of the next.
    known.opened()
    assert not known.checked(seen)
    with pytest.raises(ListAgain):
        known.checked(seen)


def test_doubt_of_a_watch_that_was_cut_is_not_held_against_the_next() -> None:
    """It has had no time yet."""
    known = track(pair("a", 9), revision=10)
    assert not known.checked(Seen(CLUSTER, 11, 11, 1))
    known.opened()
    assert not known.checked(Seen(CLUSTER, 11, 11, 1))
    known.heard(message(put("a", 11)))
    assert known.checked(Seen(CLUSTER, 11, 11, 1))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.lists(st.integers(0, 30), max_size=5)
)
def test_told_changes_end_in_what_is_there(changes: list[tuple[str, bool]], cuts: list[int]) -> None:
    """However the events are divided into messages."""
    store: dict[bytes, KeyValue] = {}
    known, told = track(revision=10), dict[bytes, KeyValue]()
    events: list[dict[str, Any]] = []
    for number, (key, is_put) in enumerate(changes):
        if is_put:
            store[key.encode()] = pair(key, 11 + number)
            events.append(put(key, 11 + number))
        elif store.pop(key.encode(), None) is not None:
            events.append(deleted(key, 11 + number))
    at = sorted({cut for cut in cuts if cut < len(events)} | {0, len(events)})
    for begin, end in pairwise(at):
        found = known.heard(message(*events[begin:end]))
        if found is not None:
            assert not {one.key for one in found.put} & {one.key for one in found.deleted}
            told.update({one.key: one for one in found.put})
            for one in found.deleted:
                told.pop(one.key, None)
    assert told == store
    assert known.checked(Seen(CLUSTER, 99, max((one.mod_revision for one in store.values()), default=0), len(store)))
