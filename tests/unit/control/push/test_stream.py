"""What a stream is told, as a conversation: what changes, and the lines that come of it. The clock is the test's."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sidecar.control.discovery.views import View, Views
from sidecar.control.push import hub as hub_module
from sidecar.control.push.goodbyes import PATIENCE_S, Goodbyes
from sidecar.control.push.hub import AWAITED, Hub
from sidecar.control.push.stream import ANSWER_S, CONFIRMED_S, MAX_SAID, Stream
from sidecar.control.revision.compiled import CompiledFile, Origin, Source
from sidecar.control.revision.targets import Wanted
from sidecar.link.messages import (
    Absent,
    Config,
    Current,
    EndpointEntry,
    Endpoints,
    Left,
    Line,
    Move,
    Watch,
    endpoints_version,
    read_line,
)
from tests.support.octets import octets

CATALOG = Origin("catalog", "http", (Source.of("registered", {}),))
SEARCH = Origin("search", "http", (Source.of("registered", {}),))
ONE = EndpointEntry("10.0.0.1:80")
TWO = EndpointEntry("10.0.0.2:80")


class World:
    """Targets, files, endpoints and a clock, all held."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.revision = 1
        self.goals: dict[str, str] = {}
        self.absent = ""
        self.files: dict[str, CompiledFile] = {}
        self.views: dict[Origin, Views] = {CATALOG: Views(), SEARCH: Views()}
        self.hub = Hub(self, self.files.get, self.views.get, lambda: self.now_s, 5.0, lambda streams: None)
        self.file("h1", {"catalog": CATALOG})
        self.goals["s"] = "h1"

    def wanted(self, service: str, instance: str, language: int) -> tuple[Wanted | None, str]:
        found = self.goals.get(service)
        return (Wanted(self.revision, found), "") if found else (None, self.absent)

    def file(self, hash_: str, discovers: Mapping[str, Origin]) -> None:
        self.files[hash_] = CompiledFile("s", hash_, f"file {hash_}", discovers)

    def aim(self, hash_: str) -> int:
        self.goals["s"] = hash_
        self.revision += 1
        return self.hub.targets_changed()

    def endpoints(self, origin: Origin, *entries: EndpointEntry, is_sure: bool = True) -> None:
        if self.views[origin].set(entries, is_sure=is_sure):
            self.hub.origins_changed([origin])

    def open(self, instance: str = "i", config: str = "", **endpoints: str) -> Stream:
        return self.hub.open(Watch("s", instance, config=config, endpoints=endpoints))

    def lines(self, stream: Stream) -> list[Line]:
        found = [read_line(raw) for raw in self.hub.take(stream)]
        return [line for line in found if line is not None]


@pytest.fixture
def world() -> World:
    world = World()
    world.endpoints(CATALOG, ONE)
    return world


def test_new_one_is_told_everything_once(world: World) -> None:
    """File and snapshot; then silence."""
    stream = world.open()
    config, endpoints = world.lines(stream)
    assert config == Config(1, "h1", "file h1")
    assert endpoints == Endpoints("catalog", endpoints_version([ONE]), "", (ONE,))
    assert world.lines(stream) == []


def test_sidecar_more_of_a_file_costs_little(world: World) -> None:
    """Of 40 upstreams: what all who have the file have in common is in memory once."""
    origins = {f"u{one}": Origin(f"u{one}", "http", (Source.of("registered", {}),)) for one in range(40)}
    world.file("h1", origins)
    world.views = {origin: Views() for origin in origins.values()}
    world.hub = Hub(world, world.files.get, world.views.get, lambda: world.now_s, 5.0, lambda streams: None)
    for origin in origins.values():
        world.endpoints(origin, *(EndpointEntry(f"10.0.0.{one}:80") for one in range(50)))
    version = endpoints_version(EndpointEntry(f"10.0.0.{one}:80") for one in range(50))

    def join(instance: str) -> None:
        stream = world.open(instance)
        world.lines(stream)
        world.hub.on_report(stream, "h1", "", dict.fromkeys(origins, version))

    sizes = []
    for many in (10, 20):
        while len(world.hub) < many:
            join(f"i{len(world.hub)}")
        sizes.append(octets(world.hub))
    assert (sizes[1] - sizes[0]) / 10 < 9_500


def test_one_that_has_it_is_told_that_it_is_current(world: World) -> None:
    """No file, and no endpoints of a version that it named."""
    stream = world.open(config="h1", catalog=endpoints_version([ONE]))
    assert world.lines(stream) == [Current(1, "h1")]


def test_version_of_before_is_answered_by_what_changed(world: World) -> None:
    """A reconnect after a while away costs the difference."""
    world.endpoints(CATALOG, ONE, TWO)
    stream = world.open(config="h1", catalog=endpoints_version([ONE]))
    assert world.lines(stream)[1] == Endpoints(
        "catalog", endpoints_version([ONE, TWO]), endpoints_version([ONE]), (TWO,)
    )


def test_new_number_for_the_same_file_is_current(world: World) -> None:
    """Another service's change is a number for this one."""
    stream = world.open()
    world.lines(stream)
    stream.on_report("h1", "", {})
    world.aim("h1")
    assert world.lines(stream) == [Current(2, "h1")]


def test_one_file_is_outstanding_and_the_newest_wins(world: World) -> None:
    """Until it is accepted no other is told; of those that came meanwhile only the last is."""
    stream = world.open()
    world.lines(stream)
    for hash_ in ("h2", "h3"):
        world.file(hash_, {"catalog": CATALOG})
        world.aim(hash_)
        assert world.lines(stream) == []
    world.hub.on_report(stream, "h1", "", {})
    assert world.lines(stream) == [Config(3, "h3", "file h3")]


def test_silence_about_a_file_does_not_hold_up_the_next_for_ever(world: World) -> None:
    """After `ANSWER_S` a newer one is told."""
    stream = world.open()
    world.lines(stream)
    world.file("h2", {})
    world.aim("h2")
    assert stream.waits_s(world.now_s) == ANSWER_S
    world.now_s += ANSWER_S
    assert isinstance(world.lines(stream)[0], Config)


def test_refused_file_that_is_taken_back_is_current(world: World) -> None:
    """Who refused still has the old one, and is told so, not sent it again."""
    stream = world.open(config="h1", catalog=endpoints_version([ONE]))
    world.lines(stream)
    world.file("h2", {"search": SEARCH})
    world.aim("h2")
    world.endpoints(SEARCH, TWO)
    told = world.lines(stream)
    assert [type(line) for line in told] == [Config, Endpoints]
    world.hub.on_report(stream, "h1", "h2", {})
    world.aim("h1")
    assert world.lines(stream) == [Current(3, "h1")]


def test_who_comes_back_with_a_refused_file_is_told_the_endpoints_of_the_one_that_runs(world: World) -> None:
    """It names the file that it was told last; its report, or the one before, says what is in force."""
    world.file("h2", {"search": SEARCH})
    world.aim("h2")
    stream = world.open(config="h2", catalog=endpoints_version([ONE]))
    assert stream.follows.keys() == {"search"}
    world.hub.on_report(stream, "h1", "h2", {})
    world.lines(stream)
    world.endpoints(CATALOG, ONE, TWO)
    assert {line.upstream for line in world.lines(stream) if isinstance(line, Endpoints)} == {"catalog"}
    again = world.hub.open(stream.watch, "h1")
    assert again.follows.keys() == {"catalog", "search"}
    world.hub.on_report(again, "h2", "", {})
    assert again.follows.keys() == {"search"}


def test_endpoints_of_both_files_are_told_until_one_is_settled(world: World) -> None:
    """A refused file leaves the old one in force; an accepted one ends what only the old one had."""
    stream = world.open(config="h1", catalog=endpoints_version([ONE]))
    world.lines(stream)
    world.endpoints(SEARCH)
    world.file("h2", {"search": SEARCH})
    world.aim("h2")
    assert [type(line) for line in world.lines(stream)] == [Config, Endpoints]
    world.endpoints(CATALOG, ONE, TWO)
    world.endpoints(SEARCH, TWO)
    assert {line.upstream for line in world.lines(stream) if isinstance(line, Endpoints)} == {"catalog", "search"}
    world.hub.on_report(stream, "h2", "", {})
    world.endpoints(CATALOG, TWO)
    world.endpoints(SEARCH, ONE)
    assert {line.upstream for line in world.lines(stream) if isinstance(line, Endpoints)} == {"search"}
    assert not world.hub.following(CATALOG)


def test_upstream_that_was_let_go_and_comes_again_is_told_as_a_whole(world: World) -> None:
    """What was said when the stream began is long past."""
    stream = world.open(catalog=endpoints_version([ONE]))
    world.endpoints(CATALOG, TWO)
    world.lines(stream)
    world.hub.on_report(stream, "", "h1", {})
    world.aim("h1")
    assert world.lines(stream)[1:] == [Endpoints("catalog", endpoints_version([TWO]), "", (TWO,))]


def test_empty_set_is_told_to_who_knows_nothing(world: World) -> None:
    """So that its file is put in force without waiting."""
    world.endpoints(SEARCH)
    world.file("h1", {"search": SEARCH})
    assert world.lines(world.open())[1] == Endpoints("search", endpoints_version([]))


def test_one_that_knows_more_is_not_told_less_before_it_is_sure(world: World) -> None:
    """After a restart without a copy: silence, until what is known is all."""
    world.views[CATALOG] = Views()
    world.views[CATALOG].set([ONE], is_sure=False)
    stream = world.open(config="h1", catalog=endpoints_version([ONE, TWO]))
    assert world.lines(stream) == [Current(1, "h1")]
    world.endpoints(CATALOG, ONE)
    assert world.lines(stream) == [Endpoints("catalog", endpoints_version([ONE]), "", (ONE,))]


def test_edit_to_a_source_that_has_not_answered_empties_nothing(world: World) -> None:
    """
    The same upstream, found elsewhere from now on: who holds endpoints by its name keeps them for as long as nobody
    knows what is there, also in a new stream; then the difference is told, or everything.
    """
    stream = world.open(config="h1", catalog=endpoints_version([ONE]))
    world.lines(stream)
    elsewhere = Origin("catalog", "http", (Source.of("kubernetes", {}),))
    world.views[elsewhere] = Views()
    world.file("h2", {"catalog": elsewhere})
    world.aim("h2")
    for entries in ((), (TWO,), ()):
        world.endpoints(elsewhere, *entries, is_sure=False)
        assert [line for line in world.lines(stream) if isinstance(line, Endpoints)] == []
    world.hub.on_report(stream, "h2", "", {"catalog": endpoints_version([ONE])})
    assert world.lines(stream) == []
    later = world.open("later", "h2", catalog=endpoints_version([ONE]))
    assert world.lines(later) == [Current(2, "h2")]
    world.endpoints(elsewhere, TWO)
    assert world.lines(stream) == [
        Endpoints("catalog", endpoints_version([TWO]), endpoints_version([ONE]), (TWO,), (ONE.address,))
    ]
    assert world.lines(later) == [Endpoints("catalog", endpoints_version([TWO]), "", (TWO,))]


def test_source_that_is_followed_anew_empties_nothing(world: World) -> None:
    """An edit, and back: the origin is the same, but what is known of it begins anew."""
    stream = world.open()
    world.lines(stream)
    world.views[CATALOG] = Views()
    world.endpoints(CATALOG, is_sure=False)
    assert world.lines(stream) == []
    world.endpoints(CATALOG, ONE, TWO)
    assert [line.added for line in world.lines(stream) if isinstance(line, Endpoints)] == [(TWO,)]


def test_who_holds_nothing_is_told_what_is_known_before_it_is_sure(world: World) -> None:
    """Also if it was told an empty set from elsewhere; and then what changes, goodbyes included."""
    world.endpoints(CATALOG)
    stream = world.open()
    world.lines(stream)
    elsewhere = Origin("catalog", "http", (Source.of("dns", {}),))
    world.views[elsewhere] = Views()
    world.endpoints(elsewhere, ONE, is_sure=False)
    world.file("h2", {"catalog": elsewhere})
    world.hub.on_report(stream, "h1", "", {"catalog": endpoints_version([])})
    world.aim("h2")
    assert [line.added for line in world.lines(stream) if isinstance(line, Endpoints)] == [(ONE,)]
    world.endpoints(elsewhere, is_sure=False)
    assert [line.removed for line in world.lines(stream) if isinstance(line, Endpoints)] == [(ONE.address,)]


def test_few_are_asked_to_report_endpoints_at_once(world: World) -> None:
    """Many say it when their next report is due; until then nobody takes them for behind."""
    streams = [world.open(f"i{number}", "h1", catalog=endpoints_version([ONE])) for number in range(AWAITED)]
    for stream in streams:
        world.lines(stream)
    world.endpoints(CATALOG, TWO)
    few, current = streams[0], world.views[CATALOG].current
    assert current is not None
    (told,) = (line for line in world.lines(few) if isinstance(line, Endpoints))
    assert told.is_awaited
    assert few.is_behind("catalog", current, world.now_s)
    world.hub.on_report(few, "h1", "", {"catalog": current.version})
    assert not few.is_behind("catalog", current, world.now_s)
    one_more = world.open("one more", "h1", catalog=endpoints_version([ONE]))
    (told,) = (line for line in world.lines(one_more) if isinstance(line, Endpoints))
    assert not told.is_awaited
    assert one_more.is_behind("catalog", View([ONE, TWO]), world.now_s), "what it was not told yet"
    assert not one_more.is_behind("catalog", current, world.now_s)
    assert one_more.is_behind("catalog", current, world.now_s + CONFIRMED_S)


def test_slow_reader_gets_one_line_for_many_changes(world: World) -> None:
    """Nothing is queued: what it missed in between it never needs."""
    stream = world.open()
    world.lines(stream)
    for number in range(100):
        world.endpoints(CATALOG, EndpointEntry(f"10.1.0.{number}:80"))
    (line,) = world.lines(stream)
    assert isinstance(line, Endpoints)
    assert (line.base, line.removed) == (endpoints_version([ONE]), (ONE.address,))


def test_lines_that_cannot_be_worked_out_again_are_bounded(world: World) -> None:
    """Questions to one that does not read."""
    stream = world.open()
    assert all(stream.say(Left()) for _ in range(MAX_SAID))
    assert not stream.say(Left())


def test_nothing_is_said_before_anything_is_known(world: World) -> None:
    """Neither a file nor that there is none."""
    world.goals.clear()
    stream = world.open()
    assert world.lines(stream) == []
    world.absent = "the mesh has no service `s`"
    world.hub.targets_changed()
    assert world.lines(stream) == [Absent(world.absent)]
    assert world.lines(stream) == []
    world.aim("h1")
    assert isinstance(world.lines(stream)[0], Config)


def test_push_that_concerns_many_is_spread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In equal steps over `spread_s`; few are told at once."""
    monkeypatch.setattr(hub_module, "FEW", 3)
    streams = [world.open(f"i{number}", "h1") for number in range(5)]
    for stream in streams:
        world.lines(stream)
    world.file("h2", {})
    assert world.aim("h2") == 5
    assert [stream.due_s - world.now_s for stream in streams] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [stream.waits_s(world.now_s) for stream in streams] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [bool(world.lines(stream)) for stream in streams] == [True, False, False, False, False]
    world.now_s += 4.0
    assert all(world.lines(stream) for stream in streams[1:])


def test_newer_stream_takes_the_place_of_the_older(world: World) -> None:
    """Which ends, and whose end then is no loss."""
    older = world.open()
    newer = world.open()
    assert older.is_over
    assert world.lines(older)[-1:] != [Move()]
    assert not world.hub.close(older)
    assert world.hub.get("i") is newer
    assert world.hub.close(newer)
    assert len(world.hub) == 0
    assert not world.hub.following(CATALOG)


def test_end_of_a_stream_tells_to_move(world: World) -> None:
    """As the last line."""
    stream = world.open()
    stream.end(moves=True)
    assert world.lines(stream)[-1] == Move()


class TestGoodbyes:
    """Who waits to hear that everybody has applied it; whether that is so, `leaving` says."""

    def begin(self, goodbyes: Goodbyes, instance: str, *, is_applied: bool = False) -> bool:
        return goodbyes.begin(instance, "catalog", [ONE.address], 1000.0, is_applied=is_applied)

    def test_nobody_waits_for_what_is_applied_already(self) -> None:
        """And who has waited is answered at once when it says so again."""
        goodbyes = Goodbyes()
        assert self.begin(goodbyes, "known to nobody", is_applied=True)
        assert not self.begin(goodbyes, "gone")
        assert not self.begin(goodbyes, "gone", is_applied=True), "others may be asked about it just now"
        assert (len(goodbyes), goodbyes.applied(1001.0, lambda _: True), len(goodbyes)) == (1, ["gone"], 0)
        assert goodbyes.applied(1002.0, lambda _: True) == [], "it is told once"
        assert self.begin(goodbyes, "gone")

    def test_patience_has_an_end_and_nobody_is_told_then_what_is_not_so(self) -> None:
        """A drain is over by then."""
        goodbyes = Goodbyes()
        for name in ("one", "two"):
            self.begin(goodbyes, name)
        assert goodbyes.applied(999.0 + PATIENCE_S, lambda _: False) == []
        assert goodbyes.waiting == ["one", "two"]
        assert goodbyes.applied(1000.0 + PATIENCE_S, "two".__eq__) == ["two"]
        assert (goodbyes.waiting, goodbyes.get("one")) == ([], None)

    def test_return_ends_the_wait(self) -> None:
        """It is there again."""
        goodbyes = Goodbyes()
        self.begin(goodbyes, "gone")
        goodbyes.forget("gone")
        assert goodbyes.applied(1001.0, lambda _: True) == []


def test_who_comes_with_another_file_keeps_it_until_what_is_wanted_is_known_to_be_the_newest() -> None:
    """Another replica may have told it that knew of a newer revision; who has none, or what is wanted, has no doubt."""
    world = World()
    for config in ("", "h1"):
        assert not world.hub.open(Watch("s", f"i-{config}", config=config)).doubt()
    stream = world.hub.open(Watch("s", "newer", config="h2"))
    assert stream.doubt()
    assert world.hub.take(stream) == []
    assert stream.waits_s(world.now_s) is None
    world.now_s += 3600
    world.aim("h0")
    assert world.hub.take(stream) == []
    # What comes to be wanted is what it has: that is told, there is no way back in it.
    world.file("h2", {"catalog": CATALOG})
    world.aim("h2")
    assert isinstance(read_line(world.hub.take(stream)[0]), Current)
    world.file("h3", {})
    world.aim("h3")
    world.now_s += 3600
    assert not [line for line in map(read_line, world.hub.take(stream)) if isinstance(line, Config)]
    stream.assure()
    assert [line.hash for line in map(read_line, world.hub.take(stream)) if isinstance(line, Config)] == ["h3"]
    gone = world.hub.open(Watch("nobody", "gone", config="h2"))
    world.absent = "the mesh has no service `nobody`"
    world.hub.targets_changed()
    assert gone.doubt()
    assert world.hub.take(gone) == []
    gone.assure()
    assert isinstance(read_line(world.hub.take(gone)[0]), Absent)
