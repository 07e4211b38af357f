"""The link by a clock that the test holds: when it asks, whom, what it makes of silence, and when it reports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import count, islice, pairwise

import pytest

from sidecar.link.client import Link
from sidecar.link.interfaces import Form, LinkSettings
from sidecar.link.messages import (
    Absent,
    Ask,
    Current,
    EndpointEntry,
    Endpoints,
    Left,
    Line,
    Move,
    Ping,
    Renew,
    endpoints_version,
    write_line,
    write_poll,
)
from sidecar.link.report import Edge
from sidecar.link.session import FIRST_LINE_S, MOVE_JITTER_S, SILENT_S
from sidecar.link.transport.http_client import TransportError
from sidecar.link.transport.server import Server
from tests.support.held_loop import run_held
from tests.unit.link.fakes import FILE, HASH, FakeAnswer, FakeProcess, FakeTransport, Script

ONE, TWO = EndpointEntry("10.0.0.1:15000"), EndpointEntry("10.0.0.2:15000", 2.0, "a")
A, B = "http://a:1", "http://b:1"


def pings(until_s: float, start_s: float = 0.0) -> list[tuple[float, Line | bytes | Exception | None]]:
    """A ping every ten seconds."""
    return [(at, Ping(7)) for at in islice(count(start_s, 10.0), int((until_s - start_s) / 10) + 1)]


class Held:
    """A link on a held loop."""

    def __init__(
        self,
        script: Script,
        *,
        addresses: tuple[str, ...] = (A,),
        form: Form = "auto",
        chance: Callable[[], float] = lambda: 0.999,
        known: dict[str, list[EndpointEntry]] | None = None,
    ) -> None:
        self.process = FakeProcess()
        self.transport = FakeTransport(script)
        self._make = lambda: Link(
            LinkSettings(addresses, form=form), self.process, self.process,
            transport=self.transport, known=known, environment={}, chance=chance, now_s=lambda: 1000.0,
        )  # fmt: skip

    def run(self, seconds: float, meanwhile: Callable[[Held], object] | None = None) -> None:
        async def main() -> None:
            self.link = self._make()
            task = asyncio.create_task(self.link.run())
            if meanwhile is not None:
                result = meanwhile(self)
                if asyncio.iscoroutine(result):
                    await result
            await asyncio.sleep(max(0.0, seconds - asyncio.get_running_loop().time()))
            assert not task.done()
            await self.link.close()
            await task
            assert all(answer.is_closed for answer in self.transport.handed_out)

        run_held(main())


def refusing(server: Server, target: str) -> FakeAnswer:
    raise TransportError("no connection: connection refused")


def answering(*scripts: list[tuple[float, Line | bytes | Exception | None]]) -> Script:
    """These, one after the other; the last again and again."""
    left: Iterator[list[tuple[float, Line | bytes | Exception | None]]] = iter(scripts)
    last = scripts[-1]
    return lambda server, target: FakeAnswer(next(left, last))


class TestBackOff:
    """When it is tried again."""

    def test_waits_double_and_grow_long_only_after_a_while(self) -> None:
        """With the worst luck it waits half a second, one, two, then 5 s for 20 times, and never more than 30 s."""
        held = Held(refusing)
        held.run(200)
        times = held.transport.times()
        gaps = [round(after - before, 1) for before, after in pairwise(times)]
        assert gaps == [0.5, 1.0, 2.0, 4.0, *[5.0] * 20, 30.0, 30.0, 30.0]
        assert held.link.state.failures == len(times)
        assert held.link.state.why == "no connection: connection refused"
        assert not held.link.state.is_connected

    def test_wait_is_anything_up_to_the_ceiling(self) -> None:
        """Full jitter: with the best luck it does not wait at all, with middling luck half."""
        held = Held(refusing, chance=lambda: 0.5)
        held.run(4)
        assert held.transport.times()[:4] == [0.0, 0.25, 0.75, 1.75]

    def test_every_address_is_tried_before_the_wait_grows(self) -> None:
        """A round of all servers costs the wait of one."""
        held = Held(refusing, addresses=(A, B))
        held.run(5)
        assert [server for _, server, *_ in held.transport.asked][:4] == [B, A, B, A]
        assert [round(when, 1) for when in held.transport.times()][:4] == [0.0, 0.5, 1.0, 2.0]

    def test_a_start_is_at_random(self) -> None:
        """The first of several is not everybody's first."""
        firsts = set()
        for luck in (0.1, 0.4, 0.9):
            held = Held(refusing, addresses=(A, B, "http://c:1"), chance=lambda luck=luck: luck)
            held.run(0.001)
            firsts.add(held.transport.asked[0][1])
        assert firsts == {A, B, "http://c:1"}

    def test_a_stream_that_lived_makes_up_for_failures(self) -> None:
        """After it the first wait is short again."""
        seen = iter([TransportError("x"), TransportError("x"), TransportError("x")])

        def script(server: Server, target: str) -> FakeAnswer:
            for error in seen:
                raise error
            return FakeAnswer([*pings(20), (20, TransportError("cut"))])

        held = Held(script)
        held.run(30)
        times = held.transport.times()
        assert round(times[4] - times[3], 1) == 20.5

    def test_a_stream_that_ends_at_once_is_a_failure(self) -> None:
        """A server that lets go of everybody again and again is not asked faster for it."""
        held = Held(answering([(0, Ping(1)), (0.1, None)]))
        held.run(20)
        assert len(held.transport.asked) <= 7

    def test_retry_after_is_kept(self) -> None:
        """A server that has too much to do is left alone for as long as it says, and a quarter more at the most."""
        held = Held(lambda server, target: FakeAnswer([(0, None)], 503, {"retry-after": "20"}))
        held.run(60)
        gaps = [b - a for a, b in zip(held.transport.times(), held.transport.times()[1:], strict=False)]
        assert gaps
        assert all(20 <= gap <= 25 for gap in gaps)

    def test_another_server_is_asked_meanwhile(self) -> None:
        """What one asks for does not hold for the other."""

        def script(server: Server, target: str) -> FakeAnswer:
            if str(server) == B:
                return FakeAnswer([(0, None)], 429, {"retry-after": "100"})
            return FakeAnswer(pings(90))

        held = Held(script, addresses=(A, B))
        held.run(50)
        assert [server for _, server, *_ in held.transport.asked] == [B, A]
        assert held.link.state.is_connected

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            (401, "status 401 Unauthorized: the token is missing or wrong: why"),
            (404, "status 404 Not Found: there is no control plane at this address, or one of another release: why"),
            (500, "status 500 Internal Server Error: why"),
            (799, "status 799: why"),
        ],
    )
    def test_a_refusal_is_told_clearly(self, status: int, said: str) -> None:
        """With what the server said."""
        held = Held(lambda server, target: FakeAnswer([(0, b'{"error":"why"}'), (0, None)], status))
        held.run(3)
        assert held.link.state.why == said

    def test_the_same_trouble_is_logged_once_in_a_while(self, caplog: pytest.LogCaptureFixture) -> None:
        """Not at each try: once in five minutes."""
        held = Held(refusing)
        held.run(250)
        lines = [record for record in caplog.records if record.message.startswith("control_not_connected")]
        assert len(lines) == 1
        assert len(held.transport.asked) > 10


class TestStream:
    """What a stream's lines and silences do."""

    def test_what_it_says_is_handed_on(self) -> None:
        """File, endpoints, absence, the number of the revision."""
        change = Endpoints("b", endpoints_version([ONE, TWO]), "", (ONE, TWO))
        held = Held(
            answering(
                [
                    (0, FILE),
                    (0, change),
                    (1, Absent("gone")),
                    (2, b'{"type":"new","x":1}\n'),
                    (2, Renew(60.0)),
                    (3, Ping(9)),
                ]
            )
        )
        held.run(5)
        process, state = held.process, held.link.state
        assert process.configs == [FILE]
        assert process.absents == ["gone"]
        assert process.renewals == [60.0]
        ((upstream, version, found),) = process.endpoints
        assert (upstream, version) == ("b", change.version)
        assert {str(address): weight for address, weight in found.weights.items()} == {
            "10.0.0.1:15000": 1.0, "10.0.0.2:15000": 2.0,
        }  # fmt: skip
        assert {str(address): zone for address, zone in found.zones.items()} == {"10.0.0.2:15000": "a"}
        assert (state.is_connected, state.revision, state.address, state.why) == (True, 9, A, "")

    def test_silence_of_two_and_a_half_pings_is_death(self) -> None:
        """Not sooner: the stream is left 25 s after its last line."""
        held = Held(answering(pings(30), pings(1000)))
        held.run(60)
        left_at = next(when for when in held.transport.times() if when)
        assert 30 + SILENT_S <= left_at <= 30 + SILENT_S + 0.5
        assert held.link.state.is_connected

    def test_a_fault_of_the_process_does_not_end_the_stream(self) -> None:
        """The line would come again with the next."""
        held = Held(answering([(0, FILE), (1, Ping(8)), *pings(50, 10)]))
        held.process.is_broken = True
        held.run(40)
        assert len(held.transport.asked) == 1
        assert held.link.state.revision == 8 or held.link.state.revision == 7

    def test_who_is_current_is_told_nothing(self) -> None:
        """The next question names the file and the versions that came before."""
        change = Endpoints("b:90", endpoints_version([ONE]), "", (ONE,))
        held = Held(answering([(0, FILE), (0, change), *pings(20, 1), (22, TransportError("cut"))], pings(100)))
        held.run(40)
        first, second = held.transport.watches()
        assert (first.config, first.endpoints) == ("", {})
        assert (second.config, second.endpoints) == (HASH, {"b:90": change.version})

    def test_what_was_known_before_is_named(self) -> None:
        """Endpoints from the disk, and the process's own file."""
        held = Held(answering([(0, Current(8, HASH)), *pings(100)]), known={"b": [ONE]})
        held.process.config_hash = HASH
        held.run(5)
        (watch,) = held.transport.watches()
        assert (watch.config, watch.endpoints) == (HASH, {"b": endpoints_version([ONE])})
        assert held.process.currents == [Current(8, HASH)]

    def test_endpoints_that_do_not_fit_are_asked_for_anew(self) -> None:
        """Those only: the others are named again. What was in force stays."""
        wrong = Endpoints("b", "f" * 16, endpoints_version([ONE]), (TWO,))
        right = Endpoints("b", endpoints_version([TWO]), "", (TWO,))
        held = Held(answering([(0, Ping(7)), (1, wrong)], [(0, right), *pings(100, 1)]), known={"b": [ONE], "c": [TWO]})
        held.run(20)
        first, second = held.transport.watches()
        assert set(first.endpoints) == {"b", "c"}
        assert set(second.endpoints) == {"c"}
        assert [upstream for upstream, *_ in held.process.endpoints] == ["b"]
        assert held.link.endpoints() == {"b": (TWO,), "c": (TWO,)}

    def test_a_server_that_never_fits_is_not_asked_in_a_hurry(self) -> None:
        """Its streams are failures like others."""
        wrong = Endpoints("b", "f" * 16, "", (TWO,))
        held = Held(answering([(0, wrong)]))
        held.run(60)
        assert len(held.transport.asked) <= 16
        assert held.process.endpoints == []

    def test_nonsense_ends_the_stream(self) -> None:
        """What comes after it cannot be trusted; what was said before holds."""
        held = Held(answering([(0, FILE), (1, b"<html>\n")], pings(100)))
        held.run(5)
        assert held.process.configs == [FILE]
        assert held.link.state.is_connected
        assert [state.why for state in held.process.states if state.why] == ["expected JSON"]

    def test_a_server_that_goes_is_left_by_and_by(self) -> None:
        """Its lines count until then; then another is asked, with its own wait."""

        def script(server: Server, target: str) -> FakeAnswer:
            if str(server) == B:
                return FakeAnswer([*pings(10), (12, Move()), (13, FILE), (40, Ping(1))])
            return FakeAnswer(pings(100))

        held = Held(script, addresses=(A, B))
        held.run(20)
        (_, _, *_), (when, server, *_) = held.transport.asked
        assert server == A
        assert 12 + MOVE_JITTER_S * 0.9 < when < 12 + MOVE_JITTER_S + 0.6
        assert held.process.configs == [FILE]

    def test_a_question_is_answered_or_told_to_be_unknown(self) -> None:
        """Each by its id; what the process raises is told."""
        held = Held(answering([(0, Ask(str(number), kind)) for number, kind in enumerate(("explain", "new", "bad"))]))

        def answer(ask: Ask) -> dict[str, object] | None:
            if ask.kind == "bad":
                raise ValueError("no such route")
            return {"route": "x"} if ask.kind == "explain" else None

        held.process.answer_of = answer
        held.run(3)
        assert sorted((json.loads(body) for body in held.transport.answers), key=lambda one: one["id"]) == [
            {"id": "0", "answer": {"route": "x"}},
            {"id": "1", "error": "unsupported"},
            {"id": "2", "error": "no such route"},
        ]


class TestPolls:
    """The second form."""

    def poll(self, lines: list[Line], etag: str = '"1"') -> FakeAnswer:
        return FakeAnswer([(0, write_poll(map(write_line, lines))), (0, None)], 200, {"etag": etag})

    def test_a_stream_that_does_not_come_through_twice_is_polled_for(self) -> None:
        """A proxy that keeps what a server writes: no line within 15 s, and again."""

        def script(server: Server, target: str) -> FakeAnswer:
            if "wait=" not in target:
                return FakeAnswer()
            if len(held.transport.asked) == 3:
                return self.poll([FILE])
            return FakeAnswer([(0, None)], 304, head_after_s=55)

        held = Held(script)
        held.run(100)
        times = held.transport.times()
        assert times[1] >= FIRST_LINE_S
        assert 2 * FIRST_LINE_S <= times[2] <= 2 * FIRST_LINE_S + 2
        assert held.process.configs == [FILE]
        assert held.link.state.is_polling
        assert held.link.state.is_connected
        assert [fields.get("if-none-match") for *_, fields in held.transport.asked[2:4]] == [None, '"1"']

    def test_one_that_stops_before_a_ping_does_not_come_through_either(self) -> None:
        """A buffer that is full lets a part pass, and then nothing for long."""
        held = Held(answering([(0, FILE), (0, Ping(7))]))
        held.run(2 * SILENT_S + 3)
        assert "wait=" not in held.transport.asked[1][2]
        assert "wait=55s" in held.transport.asked[2][2]

    def test_silence_after_pings_is_no_reason_to_poll(self) -> None:
        """That is a machine that is gone."""
        held = Held(answering(pings(10)))
        held.run(300)
        assert all("wait=" not in target for *_, target, _ in held.transport.asked)

    def test_a_server_that_always_has_news_is_asked_once_a_second(self) -> None:
        """However fast it answers."""
        held = Held(lambda server, target: self.poll([Ping(1)]), form="poll")
        held.run(10)
        assert 9 <= len(held.transport.asked) <= 11

    def test_a_stream_is_tried_again_after_half_an_hour(self) -> None:
        """And one failure is then enough to go back."""

        def script(server: Server, target: str) -> FakeAnswer:
            if "wait=" not in target:
                return FakeAnswer()
            return FakeAnswer([(0, None)], 304, head_after_s=55)

        held = Held(script)
        held.run(2000)
        forms = ["wait=" in target for *_, target, _ in held.transport.asked]
        assert forms[:3] == [False, False, True]
        assert forms[3:].count(False) == 1


class TestReports:
    """When reports go, and what they hold."""

    def test_they_come_every_ten_seconds(self) -> None:
        """The first at once; the period is shortened by up to a tenth at random."""
        held = Held(answering(pings(100)), chance=lambda: 0.5)
        held.run(60)
        times = [when for when, _ in held.transport.reports]
        assert times[0] < 0.1
        assert all(9 <= after - before <= 10.1 for before, after in pairwise(times))
        report = held.transport.reports[-1][1]
        assert (report.service, report.instance, report.health) == ("shop", "shop-1", "healthy")
        assert report.address == "10.0.0.5"
        assert report.ports["http"].address == "10.0.0.5:15000"

    def test_a_burst_of_changes_is_one_report(self) -> None:
        """Soon after the first of them, and at most one a second."""

        async def burst(held: Held) -> None:
            await asyncio.sleep(5)
            for _ in range(100):
                held.link.changed()
                await asyncio.sleep(0.0001)
            for _ in range(30):
                held.link.changed()
                await asyncio.sleep(0.1)

        held = Held(answering(pings(100)))
        held.run(9, burst)
        times = [when for when, _ in held.transport.reports if 5 <= when < 8.9]
        assert 5 < times[0] < 5.2
        assert 3 <= len(times) <= 5
        assert all(after - before >= 0.99 for before, after in pairwise(times))

    def test_endpoints_are_reported_at_once_only_where_somebody_waits(self) -> None:
        """A change that concerns a thousand sidecars would cost a thousand reports more."""
        entries = [EndpointEntry(f"10.0.0.{number}:80") for number in (1, 2)]
        versions = [endpoints_version(entries[:number]) for number in (1, 2)]
        lines = [(when, Ping(1)) for when in range(0, 60, 5)]
        told = Endpoints("b", versions[0], "", (entries[0],))
        awaited = Endpoints("b", versions[1], versions[0], (entries[1],), is_awaited=True)
        held = Held(answering(sorted([*lines, (3.0, told), (12.0, awaited)], key=lambda one: one[0])))
        held.run(19)
        at = {dict(report.endpoints).get("b", ""): when for when, report in reversed(held.transport.reports)}
        assert at[versions[0]] >= 8.9
        assert 12 <= at[versions[1]] < 12.2

    def test_edges_are_kept_until_they_are_delivered(self) -> None:
        """A report that may have arrived is repeated under its number; what was counted meanwhile has the next."""
        edge = Edge("outbound", "b", "r", 3, {"UH": 1}, {"2xx": 2, "5xx": 1}, (1,) * 15, 10, 20)

        async def fail(held: Held) -> None:
            held.transport.report_status = 0
            held.process.counted = [edge]
            await asyncio.sleep(0.5)
            held.process.counted = [edge, edge]
            await asyncio.sleep(10)
            held.transport.report_status = 200

        held = Held(answering(pings(100)))
        held.run(60, fail)
        added: dict[int, int] = {}
        for _, report in held.transport.reports:
            added.setdefault(report.seq, sum(one.requests for one in report.edges))
        assert sum(added.values()) == 9
        assert len({report.seq for _, report in held.transport.reports[:3]}) == 1
        both = next(report for _, report in held.transport.reports if report.seq != held.transport.reports[0][1].seq)
        assert both.edges == (
            Edge("outbound", "b", "r", 6, {"UH": 2}, {"2xx": 4, "5xx": 2}, (2,) * 15, 20, 40),
        )  # fmt: skip

    def test_what_a_server_does_not_take_is_not_sent_again(self) -> None:
        """The same would be refused for ever."""
        edge = Edge("outbound", "b", "r", 3)

        async def refuse(held: Held) -> None:
            held.transport.report_status = 413
            held.process.counted = [edge]
            await asyncio.sleep(3)
            held.transport.report_status = 200

        held = Held(answering(pings(100)))
        held.run(30, refuse)
        assert [len(report.edges) for _, report in held.transport.reports].count(1) == 1

    def test_no_report_goes_where_no_stream_is(self) -> None:
        """What is counted waits."""
        held = Held(refusing)
        held.process.counted = [Edge("inbound", "", "", 1)]
        held.run(60)
        assert held.transport.reports == []
        assert held.process.counted


class TestGoodbye:
    """Leaving."""

    def test_it_waits_for_those_concerned(self) -> None:
        """Until the stream says so."""
        answers: list[tuple[bool, float]] = []

        async def leave(held: Held) -> None:
            await asyncio.sleep(5)
            answers.append((await held.link.goodbye(10), asyncio.get_running_loop().time()))

        held = Held(answering([(0, Ping(7)), (6.5, Left()), *pings(50, 10)]))
        held.run(20, leave)
        assert answers == [(True, 6.5)]
        assert all(report.is_goodbye for when, report in held.transport.reports if when >= 5)

    def test_an_answer_may_say_so_at_once(self) -> None:
        """Nobody was concerned."""
        answers: list[bool] = []

        async def leave(held: Held) -> None:
            await asyncio.sleep(5)
            answers.append(await held.link.goodbye(10))
            assert asyncio.get_running_loop().time() < 5.1

        held = Held(answering(pings(50)))
        held.transport.report_body = b'{"left": true}'
        held.run(20, leave)
        assert answers == [True]

    def test_it_is_given_up_in_time(self) -> None:
        """Nobody says anything, or nobody is there, or the report hangs."""

        async def leave(held: Held) -> None:
            await asyncio.sleep(5)
            assert not await held.link.goodbye(3)
            assert asyncio.get_running_loop().time() == pytest.approx(8)

        Held(answering(pings(50))).run(20, leave)
        Held(refusing).run(20, leave)
        hanging = Held(answering(pings(50)))
        hanging.transport.report_takes_s = 100.0
        hanging.run(20, leave)

    def test_without_a_stream_all_servers_are_asked(self) -> None:
        """A control plane that has just come back hears of it all the same."""
        held = Held(refusing, addresses=(A, B))
        held.transport.report_body = b'{"left": true}'

        async def leave(held: Held) -> None:
            assert await held.link.goodbye(3)

        held.run(5, leave)
        assert [report.is_goodbye for _, report in held.transport.reports] == [True]
