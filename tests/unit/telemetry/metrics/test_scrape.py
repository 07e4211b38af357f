"""A scrape of many routes gives way to requests."""

from __future__ import annotations

import asyncio
import gzip
import threading

import pytest

from sidecar.exchange import Direction
from sidecar.telemetry.metrics import exposition
from sidecar.telemetry.metrics.exposition import Format
from tests.support.work import Work
from tests.unit.telemetry.cases import Told, over, request


def telemetry_with_routes(count: int) -> Told:
    """Each with a series of every kind of its own."""
    telemetry = Told()
    head = request()
    for number in range(count):
        scope = telemetry.scope(Direction.OUTBOUND, f"route-{number}", f"upstream-{number}", "10.0.0.1")
        exchange = over(head, scope=scope, direction=Direction.OUTBOUND, endpoint="10.0.0.1:80")
        telemetry.record(exchange)
        telemetry.raw_lines()
        telemetry.raw_spans()
    return telemetry


def without_process(text: bytes) -> list[bytes]:
    """What does not change by itself."""
    return [line for line in text.splitlines() if b"process_" not in line and b"python_" not in line]


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("is_compressed", [False, True])
def test_slices_make_the_whole(form: Format, is_compressed: bool) -> None:
    """The same text, however it was made."""
    telemetry = telemetry_with_routes(20)
    sliced = asyncio.run(telemetry.scrape(form, is_compressed=is_compressed))
    if is_compressed:
        sliced = gzip.decompress(sliced)
    assert without_process(sliced) == without_process(telemetry.exposition(form))


def test_others_have_their_turn_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slice of no length, the loop goes round for every piece; no piece is more than a series of a histogram."""
    monkeypatch.setattr(exposition, "SLICE_S", 0.0)
    telemetry = telemetry_with_routes(100)
    turns = 0

    async def both() -> None:
        nonlocal turns
        scraping = asyncio.ensure_future(telemetry.scrape(Format.TEXT, is_compressed=False))
        while not scraping.done():
            turns += 1
            await asyncio.sleep(0)

    asyncio.run(both())
    assert turns > 100


def test_no_stretch_of_a_scrape_of_2000_routes_is_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What cannot be cut, with a slice of no length, is at most some thousand lines of Python: at 70 ns each 0.2 ms, where
    all of it is some 400,000.
    """
    monkeypatch.setattr(exposition, "SLICE_S", 0.0)
    telemetry = telemetry_with_routes(2000)
    most = turns = 0

    async def both() -> None:
        nonlocal most, turns
        scraping = asyncio.ensure_future(telemetry.scrape(Format.OPENMETRICS, is_compressed=True))
        while not scraping.done():
            with Work() as work:
                await asyncio.sleep(0)
            most, turns = max(most, work.lines), turns + 1

    asyncio.run(both())
    assert turns > 2000
    assert most < 3_000


def test_reloads_and_requests_between_slices_are_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Series come and go while a scrape is under way."""
    monkeypatch.setattr(exposition, "SLICE_S", 0.0)
    telemetry = telemetry_with_routes(50)

    async def both() -> bytes:
        scraping = asyncio.ensure_future(telemetry.scrape(Format.TEXT, is_compressed=False))
        number = 0
        while not scraping.done():
            number += 1
            scope = telemetry.scope(Direction.OUTBOUND, f"new-{number}", "u", "h")
            telemetry.record(over(request(), scope=scope, direction=Direction.OUTBOUND))
            telemetry.config_applied(str(number), is_reload=True)
            await asyncio.sleep(0)
        return await scraping

    text = asyncio.run(both())
    for number in range(50):
        assert (
            text.count(
                b'request_duration_seconds_count{error_type="",http_request_method="GET",http_response_'
                b'status_code="200",http_route="route-%d",' % number
            )
            == 1
        )


def test_compression_is_left_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 30 ms for 2,000 routes and lets go of the interpreter."""
    threads: list[threading.Thread] = []
    compress = gzip.compress

    def noting(data: bytes, **options: int) -> bytes:
        threads.append(threading.current_thread())
        return compress(data, **options)

    monkeypatch.setattr(exposition.gzip, "compress", noting)
    asyncio.run(telemetry_with_routes(1).scrape(Format.TEXT, is_compressed=True))
    assert threads
    assert threads[0] is not threading.main_thread()
