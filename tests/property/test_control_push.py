"""Whatever changes in whatever order, a sidecar that applies its lines ends with what is wanted of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.control.doubt import LEAST_FRESH, REMOVE_AFTER_S, Doubt
from sidecar.control.push.stream import Stream
from sidecar.link.messages import (
    Config,
    Current,
    EndpointEntry,
    Endpoints,
    apply_endpoints,
    endpoints_version,
)
from tests.support.thoroughness import examples
from tests.unit.control.push.test_stream import CATALOG, SEARCH, World

ENTRIES = st.lists(
    st.builds(EndpointEntry, st.sampled_from([f"10.0.0.{n}:80" for n in range(6)]), st.sampled_from([1.0, 2.0])),
    max_size=6,
    unique_by=lambda one: one.address,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("endpoints"), st.sampled_from([CATALOG, SEARCH]), ENTRIES),
        st.tuples(st.just("aim"), st.sampled_from(["h1", "h2", "h3"])),
        st.tuples(st.just("read")),
        st.tuples(st.just("report"), st.booleans()),
        st.tuples(st.just("reconnect"), st.booleans()),
    ),
    max_size=30,
)


class Sidecar:
    """The other end: applies every line, and says what it has."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runs = ""
        self.offered = ""
        self.refused = ""
        self.known: dict[str, dict[str, EndpointEntry]] = {}
        self.stream: Stream = world.open()

    def read(self) -> None:
        for line in self.world.lines(self.stream):
            if isinstance(line, Config):
                assert not self.offered, "one configuration is outstanding at most"
                self.offered = line.hash
            elif isinstance(line, Current):
                assert line.hash == self.runs
            elif isinstance(line, Endpoints):
                after = apply_endpoints(self.known.get(line.upstream, {}), line)
                assert after is not None, "a difference fits to what its receiver has"
                self.known[line.upstream] = after

    def report(self, *, accepts: bool) -> None:
        if self.offered and accepts:
            self.runs = self.offered
        elif self.offered:
            self.refused = self.offered
        self.offered = ""
        self.world.hub.on_report(self.stream, self.runs, self.refused, self.versions())

    def reconnect(self, *, forgets: bool) -> None:
        self.world.hub.close(self.stream)
        self.offered = ""
        if forgets:
            self.known.clear()
        self.stream = self.world.open(config=self.runs, **self.versions())

    def versions(self) -> dict[str, str]:
        return {name: endpoints_version(entries.values()) for name, entries in self.known.items()}


@settings(max_examples=examples(300), deadline=None)
@given(STEPS)
def test_sidecar_ends_with_what_is_wanted(steps: list[tuple[object, ...]]) -> None:
    """The newest file, unless it refuses it, and the endpoints of now."""
    world = World()
    world.endpoints(CATALOG)
    world.endpoints(SEARCH)
    world.file("h2", {"catalog": CATALOG, "search": SEARCH})
    world.file("h3", {"search": SEARCH})
    sidecar = Sidecar(world)
    for step in steps:
        match step:
            case ("endpoints", origin, entries):
                world.endpoints(origin, *entries)  # type: ignore[arg-type, misc]
            case ("aim", hash_):
                world.aim(str(hash_))
            case ("read",):
                sidecar.read()
            case ("report", accepts):
                sidecar.report(accepts=bool(accepts))
            case ("reconnect", forgets):
                sidecar.reconnect(forgets=bool(forgets))
    for _ in range(3):
        sidecar.read()
        sidecar.report(accepts=True)
    sidecar.read()
    goal = world.goals["s"]
    assert sidecar.runs == goal or sidecar.refused == goal
    for name, origin in world.files[sidecar.runs].discovers.items() if sidecar.runs else ():
        current = world.views[origin].current
        assert current is not None
        assert sidecar.known.get(name, {}) == current.entries


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["heard", "lost", "forget", "pass"]), st.integers(0, 9), st.sampled_from([1, 30, 600])
        ),
        max_size=60,
    )
)
def test_nothing_is_removed_but_by_doubts_own_rules(steps: list[tuple[str, int, int]]) -> None:
    """Never one that was heard of within ten minutes, never while less than 80 % are fresh; counts always add up."""
    now_s = 0.0
    doubt: Doubt[int] = Doubt(lambda: now_s)
    lost_s: dict[int, float | None] = {}
    for what, key, passed_s in steps:
        if what == "heard":
            doubt.heard(key)
            lost_s[key] = None
        elif what == "lost":
            doubt.lost(key)
            lost_s[key] = now_s if lost_s.get(key) is None else lost_s[key]
        elif what == "forget":
            doubt.forget(key)
            lost_s.pop(key, None)
        else:
            now_s += passed_s
            swept = doubt.sweep()
            old = {key for key, since_s in lost_s.items() if since_s is not None and now_s - since_s >= REMOVE_AFTER_S}
            stale = {key for key, since_s in lost_s.items() if since_s is not None and now_s - since_s >= 30}
            is_removing = not lost_s or len(lost_s) - len(stale) >= LEAST_FRESH * len(lost_s)
            assert set(swept.removed) == (old if is_removing else set())
            for key in swept.removed:
                del lost_s[key]
        assert doubt.fresh + doubt.stale == len(lost_s)
