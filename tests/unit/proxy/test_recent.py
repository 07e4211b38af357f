"""The ring of recent heads: what is in it, what is never in it, and how much."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.recent import CHUNK, MAX_KEPT, MAX_PATH_BYTES, MAX_VALUE_BYTES, SPAN_NS, UNTOLD, Kept, KeptField
from tests.support.keeping import Keeping, head_of

FILE = """
service: shop
outbound:
  routes:
    - match: {headers: {x-tenant: acme}}
      to: one
    - match: {headers: {x-user: {prefix: b}}, query: {debug: "1"}}
      to: one
    - match: {host: rec}
      to: [{upstream: one, weight: 9}, {upstream: two}]
      sticky: {cookie: uid}
upstreams: {one: {endpoints: []}, two: {endpoints: []}}
"""
SECRETIVE = """
service: shop
outbound:
  routes:
    - {match: {headers: {authorization: "Bearer abc"}}, to: one}
    - {match: {headers: {x-api-key: {prefix: "k-"}}, cookies: {session: {present: true}}}, to: one}
upstreams: {one: {endpoints: []}}
"""


def values_of(keeping: Keeping, *fields: str, target: str = "/") -> dict[str, object]:
    entry = keeping.request("GET", "rec", target, *fields)
    return dict(zip(map(str, entry.kept.fields), entry.values, strict=True))


def test_what_routes_read_is_kept_and_nothing_else() -> None:
    """Of headers, cookies and parameters those that a match or a key names; raw only where the value is asked for."""
    keeping = Keeping(FILE)
    fields = ("X-Tenant: acme", "X-User: bob", "Cookie: uid=7; other=8", "User-Agent: curl", "Authorization: Basic x")
    found = values_of(keeping, *fields, target="/v1?debug=1&page=9")
    assert found == {
        "header x-tenant": keeping.recent.digest(b"acme"),
        "header x-user": b"bob",
        "query debug": keeping.recent.digest(b"1"),
        "cookie uid": b"7",
    }


def test_what_was_not_there_is_known_not_to_have_been_there() -> None:
    """None, which is not the same as a value that is not kept."""
    assert set(values_of(Keeping(FILE)).values()) == {None}


def test_a_secret_is_hashed_where_somebody_asks_for_it_and_else_only_known_to_be_there() -> None:
    """Also where a route asks for its prefix: then a preview does not know."""
    keeping = Keeping(SECRETIVE)
    found = values_of(keeping, "Authorization: Bearer xyz", "X-Api-Key: k-1", "Cookie: session=s3; uid=1")
    assert found == {
        "header authorization": keeping.recent.digest(b"Bearer xyz"),
        "header x-api-key": b"",
        "cookie session": keeping.recent.digest(b"s3"),
    }


def test_nothing_of_a_secret_is_in_the_ring() -> None:
    """Not in any octet of it."""
    keeping = Keeping(SECRETIVE)
    fields = ("Authorization: Bearer QQsecretQQ", "X-Api-Key: k-QQsecretQQ", "Cookie: session=QQsecretQQ")
    keeping.request("GET", "rec", "/?token=QQsecretQQ", *fields)
    (entry,) = keeping.recent.entries()
    assert entry.host == b"rec"
    assert b"QQsecretQQ" not in b"".join(keeping.recent.octets())


def test_several_fields_of_a_name_are_kept_apart_or_not_at_all() -> None:
    """A rule may look at each; of digests that cannot be told."""
    found = values_of(Keeping(FILE), "X-User: a", "X-User: b", "X-User: c", "X-Tenant: acme", "X-Tenant: other")
    assert found["header x-user"] == (b"a", b"b", b"c")
    assert found["header x-tenant"] == UNTOLD


@pytest.mark.parametrize(
    ("target", "fields"),
    [("/" + "p" * MAX_PATH_BYTES, ()), ("/", ("X-User: " + "u" * (MAX_VALUE_BYTES + 1),))],
    ids=["path", "value"],
)
def test_what_is_too_large_is_counted_and_not_kept(target: str, fields: tuple[str, ...]) -> None:
    """A client's long path takes no memory here."""
    keeping = Keeping(FILE)
    keeping.request("GET", "rec", "/")
    keeping.request("GET", "rec", target, *fields)
    assert (len(keeping.recent), keeping.recent.not_kept) == (1, 1)


def test_names_that_the_file_gives_are_kept_besides() -> None:
    """`telemetry.recent_requests`; those of secrets as digests all the same."""
    text = FILE + "telemetry: {recent_requests: {headers: [X-Extra, x-token], cookies: [c], query: q}}\n"
    keeping = Keeping(text)
    found = values_of(keeping, "X-Extra: e", "X-Token: t", "Cookie: c=d", target="/?q=w")
    assert (found["header x-extra"], found["cookie c"], found["query q"]) == (b"e", b"d", b"w")
    assert found["header x-token"] == keeping.recent.digest(b"t")


def test_what_became_of_it_is_kept_too() -> None:
    """Route, upstream, status, reason, and who asked."""
    keeping = Keeping(FILE)
    entry = keeping.request("POST", "rec", "/v1", ip="10.1.2.3", identity="spiffe://shop/front")
    assert (entry.method, entry.host, entry.path, entry.peer_ip) == (b"POST", b"rec", b"/v1", "10.1.2.3")
    assert (entry.identity, entry.route, entry.status, entry.flag) == ("spiffe://shop/front", "routes[2]", 200, "")
    lost = keeping.request("GET", "nowhere", "/")
    assert (lost.route, lost.upstream, lost.status, lost.flag) == ("", "", 404, "NR")
    assert lost.grpc_status == -1
    assert [keeping.request("POST", "rec", "/v1", grpc_status=said).grpc_status for said in (0, 14)] == [0, 14]


def test_off_keeps_nothing_and_lets_go_of_what_was_there() -> None:
    """A reload that turns it off empties it, and a side then has nobody that keeps."""
    recent = Keeping(FILE).recent
    before = Keeping(FILE, recent)
    before.request("GET", "rec", "/")
    after = Keeping(FILE + "telemetry: {recent_requests: off}\n", recent)
    assert after.plan.side_of["outbound"].kept is None
    assert (len(recent), list(recent.entries()), recent.size) == (0, [], 0)
    before.live(head_of("GET", "rec", "/"))
    assert (len(recent), recent.not_kept) == (0, 0)


def test_what_was_kept_by_an_earlier_plan_keeps_its_description() -> None:
    """A reload that keeps other fields leaves what is there."""
    recent = Keeping(FILE).recent
    Keeping(FILE, recent).request("GET", "rec", "/", "X-User: bob")
    Keeping(SECRETIVE, recent).request("GET", "rec", "/", "X-User: bob")
    kept = [[str(field) for field in entry.kept.fields] for entry in recent.entries()]
    assert kept[0] == ["header authorization", "cookie session", "header x-api-key"]
    assert "header x-user" in kept[1]


@given(st.lists(st.one_of(st.integers(1, 130), st.tuples(st.integers(0, 120), st.integers(1, 40_000))), max_size=12))
def test_ring_has_the_newest_that_fit(acts: list[int | tuple[int, int]]) -> None:
    """Whatever comes and however it is made larger or smaller meanwhile: the last ones, without a gap."""
    keeping = Keeping(FILE)
    recent = keeping.recent
    head = head_of("GET", "rec", "/")
    for act in acts:
        if isinstance(act, tuple):
            recent.configure(*act)
            continue
        for _ in range(act):
            keeping.live(head)
        # Those that have settled may be dropped for their size, and then the older ones with them.
        found = [entry.request_id for entry in recent.entries()]
        assert found == [b"r%d" % number for number in range(keeping.count, keeping.count - len(found), -1)]
        assert len(found) == len(recent) <= recent.keep
        assert recent.size <= max(recent.max_bytes, 0)
        if recent.max_bytes >= 30_000:
            assert len(found) >= min(recent.keep, act, 30_000 // 400)


def test_octets_of_the_ring_are_bounded() -> None:
    """`max_size` holds whatever clients send: older ones go for it."""
    keeping = Keeping(FILE + "telemetry: {recent_requests: {keep: 100000, max_size: 64KiB}}\n")
    for number in range(400):
        keeping.live(head_of("GET", "rec", f"/{number:0900}"))
    assert CHUNK <= len(keeping.recent) < 80
    assert keeping.recent.size <= 64 * 1024


def test_of_more_than_it_holds_those_are_kept_that_are_spread_over_the_time() -> None:
    """A burst as large as the ring whole, and then evenly; once it is over, each again."""
    keeping = Keeping(FILE + "telemetry: {recent_requests: 100}\n")
    recent, head = keeping.recent, head_of("GET", "rec", "/")

    def kept() -> list[int]:
        return [int(entry.request_id[1:]) for entry in recent.entries()][::-1]

    keeping.pace_ns = SPAN_NS // 1000
    for _ in range(101):
        keeping.live(head)
    assert (kept()[0], kept()[-1], recent.passed_over) == (2, 101, 0)
    for _ in range(2000):
        keeping.live(head)
    # Ten times as many as it holds in that time: of ten one.
    assert {after - before for before, after in zip(kept(), kept()[1:], strict=False)} == {10}
    entries = list(recent.entries())
    assert 0.98 < (entries[0].end_ns - entries[-1].end_ns) / SPAN_NS < 1
    assert 300 < keeping.count - recent.passed_over < 320
    passed_over, keeping.pace_ns = recent.passed_over, SPAN_NS // 100
    for _ in range(150):
        keeping.live(head)
    assert kept() == list(range(keeping.count - 99, keeping.count + 1))
    assert recent.passed_over - passed_over <= 1


def test_a_larger_ring_takes_what_comes_at_once() -> None:
    """A reload that wants more gets more from the next request on."""
    keeping = Keeping(FILE + "telemetry: {recent_requests: 1}\n")
    keeping.pace_ns = 0
    for _ in range(5):
        keeping.live(head_of("GET", "rec", "/"))
    assert keeping.recent.passed_over == 3
    keeping.recent.configure(10, 1 << 20)
    keeping.live(head_of("GET", "rec", "/"))
    assert (keeping.recent.passed_over, next(iter(keeping.recent.entries())).request_id) == (3, b"r6")


def test_a_description_that_says_the_same_is_the_same() -> None:
    """However often the file is loaded; and of those that say something else there are not more than so many."""
    recent = Keeping(FILE).recent
    sides = {id(Keeping(FILE, recent).plan.side_of["outbound"].kept) for _ in range(3)}
    assert len(sides) == 1
    for number in range(MAX_KEPT + 5):
        recent.learn(Kept("outbound", "outbound", [KeptField("header", f"x-{number}", 0)], (), recent))
    assert len(recent.known()) == MAX_KEPT


def test_a_request_is_found_by_its_id() -> None:
    """The newest of this id; None for one that is not there any more."""
    keeping = Keeping(FILE)
    keeping.request("GET", "rec", "/a")
    keeping.request("GET", "rec", "/b")
    found = keeping.recent.find(b"r1")
    assert found is not None
    assert found.path == b"/a"
    assert keeping.recent.find(b"r9") is None


def test_a_kept_request_takes_some_two_hundred_octets() -> None:
    """What the page on memory says: 2,000 take less than a megabyte, and nothing of them is an object of its own."""
    keeping = Keeping(FILE)
    heads = [head_of("GET", "rec", f"/v1/items/{number:05}", f"Cookie: uid=u{number:05}") for number in range(2000)]
    for head in heads:
        keeping.live(head)
    tracemalloc.start()
    for _ in range(2000):
        keeping.live(heads.pop())
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 100 < taken / 2000 < 400
