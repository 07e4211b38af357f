"""What the parts of the engine decide without asking etcd."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.control.engines import exchange
from sidecar.control.engines.etcd import compiled, mesh
from sidecar.control.engines.etcd.client import Client, Members
from sidecar.control.engines.etcd.discover import Endpoints, read_endpoint
from sidecar.control.engines.etcd.leases import Lease
from sidecar.control.engines.etcd.mesh import Pushed, batches, read_manifest, write_manifest
from sidecar.control.engines.etcd.settings import parse_etcd_url
from sidecar.control.engines.etcd.wire import MAX_OPS, EtcdError, KeyValue
from sidecar.control.engines.interface import Sighted, Sighting
from sidecar.link.fields import MessageError


class Held:
    """A clock that the test holds."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class TestMembers:
    """Who is tried, in which order."""

    def test_failed_member_is_tried_last_for_a_time_that_doubles(self) -> None:
        """Then in its place again; one answer, and all is forgotten."""
        clock = Held()
        members = Members(("a", "b", "c"), clock, lambda: 1.0)
        assert members.in_order() == ["a", "b", "c"]
        for wait_s in (0.5, 1.0, 2.0, 4.0):
            members.has_failed("a")
            assert members.in_order() == ["b", "c", "a"]
            clock.now_s += wait_s - 0.01
            assert members.in_order() == ["b", "c", "a"]
            clock.now_s += 0.02
            assert members.in_order() == ["a", "b", "c"]
        members.has_answered("a")
        members.has_failed("a")
        clock.now_s += 0.51
        assert members.in_order() == ["a", "b", "c"]

    def test_back_off_has_an_end_and_is_spread(self) -> None:
        """Half of it at least is waited, and never more than a bound."""
        clock = Held()
        for share, least_s, most_s in ((0.0, 7.49, 7.51), (1.0, 14.99, 15.01)):
            members = Members(("a", "b"), clock, lambda share=share: share)
            for _ in range(100):
                members.has_failed("a")
            clock.now_s += least_s
            assert members.in_order() == ["b", "a"]
            clock.now_s += most_s - least_s
            assert members.in_order() == ["a", "b"]

    def test_where_all_failed_the_nearest_is_first(self) -> None:
        """A call always tries somebody."""
        clock = Held()
        members = Members(("a", "b", "c"), clock, lambda: 1.0)
        for _ in range(3):
            members.has_failed("a")
        members.has_failed("b")
        members.has_failed("b")
        members.has_failed("c")
        assert members.in_order() == ["c", "b", "a"]


def test_revisions_tell_what_is_old_and_what_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """`revision_before` never says that something is older than it is, `revision_since` never that it is younger."""
    clock = Held()
    asked = Client(parse_etcd_url("etcd://a"), clock)
    assert (asked.revision_before(0), asked.revision_since(1000)) == (0, 0)
    for at_s, revision in ((1000.0, 10), (1000.5, 11), (1030.0, 20), (1070.0, 30)):
        clock.now_s = at_s
        asked._note(revision)
    clock.now_s = 1090.0
    # The second came too soon after the first to be noted.
    assert [asked.revision_before(age_s) for age_s in (91, 90, 60, 20, 0)] == [0, 10, 20, 30, 30]
    assert [asked.revision_since(age_s) for age_s in (91, 89, 59, 20, 19)] == [10, 20, 30, 30, 0]


class TestMesh:
    """Manifests, and files in groups."""

    @settings(deadline=None)
    @given(st.dictionaries(st.text(max_size=20), st.tuples(st.text(max_size=20), st.integers(0, 2**40)), max_size=8))
    def test_manifest_comes_back_as_it_was(self, files: dict[str, tuple[str, int]]) -> None:
        """Names in any script."""
        pushed = {name: Pushed(key, size, "0" * 64) for name, (key, size) in files.items()}
        assert read_manifest(write_manifest(pushed, 1.5)) == pushed

    @settings(deadline=None)
    @given(st.dictionaries(st.text(max_size=6), st.integers(0, mesh.MAX_FETCH_BYTES * 2), max_size=300))
    def test_groups_hold_everything_once_within_bounds(self, sizes: dict[str, int]) -> None:
        """One that is larger than the bound is alone."""
        found = batches(sizes)
        assert [key for batch in found for key in batch] == list(sizes)
        for batch in found:
            assert 1 <= len(batch) <= MAX_OPS
            assert len(batch) == 1 or sum(sizes[key] for key in batch) <= mesh.MAX_FETCH_BYTES

    def test_manifest_that_is_none_is_refused(self) -> None:
        """With its place."""
        for raw, said in ((b"x", "expected JSON"), (b'{"files":{"a":{}}}', "files.a.key"), (b'{"files":[]}', "files")):
            with pytest.raises(MessageError, match=said):
                read_manifest(raw)


class TestCompiled:
    """Files in parts."""

    def test_parts_are_put_together_and_half_of_them_are_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also beside the parts of another division."""
        monkeypatch.setattr(compiled, "PART_BYTES", 100)
        content = random.Random(2).randbytes(950)
        parts = compiled.pack(content)
        assert len(parts) == 10
        assert compiled.unpack(parts | {"kept": b"", "3/0000": b"other", "x/y": b""}) == content
        for name in parts:
            assert compiled.unpack({key: value for key, value in parts.items() if key != name}) is None
        assert compiled.unpack(parts | {"10/0003": b"damaged"}) is None
        assert compiled.unpack({}) is None
        assert compiled.unpack({"0/0000": b""}) is None

    @settings(deadline=None)
    @given(st.binary(max_size=2000))
    def test_any_content_comes_back(self, content: bytes) -> None:
        """Nothing at all, too."""
        assert compiled.unpack(compiled.pack(content)) == content

    @settings(deadline=None)
    @given(st.lists(st.lists(st.sampled_from([0, 9, 300_000]), min_size=1, max_size=3), max_size=8))
    def test_writes_of_one_file_are_never_divided(self, sizes: list[list[int]]) -> None:
        """Its mark is written with its last part."""
        puts = [{f"{at}/{index}": bytes(size) for index, size in enumerate(one)} for at, one in enumerate(sizes)]
        found = compiled.batches(puts)
        assert {key for batch in found for key in batch} == {key for one in puts for key in one}
        for one in puts:
            assert sum(not batch.keys().isdisjoint(one) for batch in found) == 1
        for batch in found:
            assert len(batch) <= MAX_OPS


class Replies(Client):
    """A client whose answers the test gives, and during which time goes by."""

    def __init__(self, clock: Held) -> None:
        super().__init__(parse_etcd_url("etcd://a"))
        self.clock = clock
        self.takes_s = 0.0
        self.reply: Mapping[str, Any] | EtcdError = {}

    async def call(self, path: str, body: Mapping[str, Any], *, is_repeatable: bool = True) -> Mapping[str, Any]:
        self.clock.now_s += self.takes_s
        if isinstance(self.reply, EtcdError):
            raise self.reply
        return self.reply


def test_lease_is_trusted_from_before_it_was_asked_for_and_for_less_than_its_time() -> None:
    """An answer that took long makes it shorter; one that did not come changes nothing; one without a time ends it."""

    async def test() -> None:
        clock = Held()
        replies = Replies(clock)
        lease = Lease(replies, 10, clock)
        assert not lease.is_alive
        replies.takes_s, replies.reply = 3.0, {"ID": "77", "TTL": "10"}
        await lease.grant()
        assert (lease.id, lease.is_alive) == ("77", True)
        clock.now_s += 4.99
        assert lease.is_alive
        clock.now_s += 0.02
        assert not lease.is_alive
        replies.reply = {"result": {"ID": "77", "TTL": "10"}}
        assert await lease.keep()
        assert lease.is_alive
        replies.reply = EtcdError("no answer in time")
        with pytest.raises(EtcdError):
            await lease.keep()
        assert lease.is_alive
        clock.now_s += 2.01
        assert not lease.is_alive
        replies.reply = {"result": {"ID": "77"}}
        assert not await lease.keep()
        assert lease.id == ""

    asyncio.run(test())


class TestEndpoints:
    """The kind `etcd` of a mesh file's instances."""

    @pytest.mark.parametrize(
        ("raw", "found"),
        [
            (b'{"address": "10.0.0.1:80"}', Sighted("10.0.0.1:80")),
            (b'{"address": "[::1]:80", "weight": 0, "zone": "z"}', Sighted("[::1]:80", 0.0, "z")),
            (b'{"address": "a.example:80", "ready": false, "owner": {}}', Sighted("a.example:80", is_ready=False)),
        ],
    )
    def test_value_is_read(self, raw: bytes, found: Sighted) -> None:
        """What is not known is not looked at."""
        assert read_endpoint(raw) == found

    @pytest.mark.parametrize(
        ("raw", "said"),
        [
            (b"10.0.0.1:80", "expected JSON"),
            (b"{}", "address: the field is missing"),
            (b'{"address": "10.0.0.1"}', "address: "),
            (b'{"address": "unix:/run/x"}', "address: expected an address such as"),
            (b'{"address": "10.0.0.1:0"}', "address: "),
            (b'{"address": "10.0.0.1:80", "weight": 1e9}', "weight: expected a number from 0 to 1e+06"),
            (b'{"address": "10.0.0.1:80", "weight": -1}', "weight: "),
            (b'{"address": "10.0.0.1:80", "ready": "yes"}', "ready: "),
        ],
    )
    def test_value_that_is_none_is_refused(self, raw: bytes, said: str) -> None:
        """With its place."""
        with pytest.raises(MessageError) as raised:
            read_endpoint(raw)
        assert said in str(raised.value)

    def test_address_of_two_keys_is_gone_with_the_second(self) -> None:
        """Until then it counts with the sum of their weights."""
        endpoints = Endpoints()

        def key(name: str, raw: bytes) -> KeyValue:
            return KeyValue(name.encode(), raw, 1, 1)

        a, b = (
            key("a", b'{"address": "h:1", "weight": 2}'),
            key("b", b'{"address": "h:1", "zone": "z", "ready": false}'),
        )
        assert endpoints.listed((a, b)) == Sighting((Sighted("h:1", 3.0, "z"),))
        assert endpoints.changed((), (b"a",), ()) == Sighting((Sighted("h:1", 1.0, "z", False),))
        assert endpoints.changed((), (b"b",), ()) == Sighting((), frozenset(("h:1",)))

    def test_what_is_missing_after_a_list_has_vanished_and_what_moved_is_gone(self) -> None:
        """An entry that names another address has said so; a list says nothing of what it has not."""
        endpoints = Endpoints()
        one = KeyValue(b"a", b'{"address": "h:1"}', 1, 1)
        endpoints.listed((one, KeyValue(b"b", b'{"address": "h:2"}', 1, 1)))
        moved = KeyValue(b"a", b'{"address": "h:3"}', 1, 2)
        assert endpoints.changed((moved,), (), ()) == Sighting((Sighted("h:3"), Sighted("h:2")), frozenset(("h:1",)))
        assert endpoints.listed((moved,)) == Sighting((Sighted("h:3"),))
        bad = (KeyValue(b"a", b"nonsense", 1, 3), KeyValue(b"c", b"{}", 1, 3))
        assert endpoints.changed(bad, (), ()) == Sighting((Sighted("h:3"),))
        assert endpoints.problem == "etcd: a: expected JSON (and 1 more)"
        assert endpoints.changed((), (b"a", b"c"), ()) == Sighting((), frozenset(("h:3",)))
        assert endpoints.problem == ""


def test_work_of_many_calls_ends_with_the_first_error() -> None:
    """As an error of its own, not as a group."""

    async def test() -> None:
        done: list[int] = []

        async def act(number: int) -> None:
            if number == 20:
                raise EtcdError("no")
            await asyncio.sleep(0)
            done.append(number)

        await exchange.each([])
        with pytest.raises(EtcdError, match="no"):
            await exchange.each([lambda number=number: act(number) for number in range(1000)])
        assert set(range(20)) <= set(done)
        assert len(done) < 999

    asyncio.run(test())
