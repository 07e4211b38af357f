"""
The unattended demonstration: the same traffic for a while, an edit, a mistake, the end, and a verdict on each claim.

Every claim is settled with what somebody else saw: customers count what they were answered, the collector the spans
that came, the ledger the lines of the access log; the sidecar's metrics have to agree with them.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from sidecar.demo.claims import Claims, Say, settle_split
from sidecar.demo.collector import Collector
from sidecar.demo.processes import cancelled
from sidecar.demo.samples import Samples, total
from sidecar.demo.single.configuration import BETA_ROUTE, CANARY, EVEN, VERSION_OF, broken, configuration
from sidecar.demo.single.ledger import Ledger
from sidecar.demo.single.observer import overhead_ms
from sidecar.demo.single.stage import Stage
from sidecar.demo.traffic import Tally, percentile

EFFECT_S = 1.0
"""What the product promises for an edit."""
TRIES = 3
"""Edits that are made until one is in time: a machine may stall, and three times in a row it does not."""
GIVE_UP_S = 10.0
MIN_SAMPLE = 50
"""Requests below which a split says nothing."""


async def verify(stage: Stage, seconds: float, say: Say) -> bool:
    """
    Run the demonstration for so long, then a few seconds for the edits, end it, and say what held.

    Returns:
        Whether everything did. The sidecar and the apps have ended.
    """
    claims, traffic = Claims(say), stage.traffic
    sending = asyncio.create_task(traffic.run())
    try:
        first = traffic.tally
        await asyncio.sleep(seconds)
        await _until_sample(stage, first)
        even = await _edit(claims, stage)
        await asyncio.sleep(min(1.0, seconds))
        await _until_sample(stage, even)
        await _break(claims, stage)
    finally:
        await cancelled(sending)
    await traffic.finish()
    samples = await stage.metrics()
    codes = {stage.sidecar.name: await stage.stop_sidecar()}
    for app in stage.apps:
        codes[app.name] = await app.stop()

    _settle_answers(claims, traffic.tallies)
    _settle_split(claims, first, CANARY, "the split of the file")
    _settle_split(claims, even, EVEN, "after the edit")
    _settle_cookie(claims, traffic.tallies, stage.ledger)
    _settle_metrics(claims, traffic.tallies, samples)
    _settle_log(claims, stage.ledger)
    _settle_spans(claims, stage.ledger.sent, stage.collector)
    ends = ", ".join(f"{name} {code}" for name, code in codes.items())
    claims.settle(not any(codes.values()), f"SIGTERM ends all with code 0: {ends}")
    _say_latency(say, first, samples)
    say(f"{claims.held} claims hold, {claims.failed} do not")
    return not claims.failed


# --- edits -------------------------------------------------------------------------------------------------------


async def _edit(claims: Claims, stage: Stage) -> Tally:
    """Change the weights; returns where requests under the new ones are counted."""
    before = (await stage.admin("/config"))["live"]["generation"]
    stage.traffic.next_phase()
    times: list[float] = []
    for number in range(1, TRIES + 1):
        edition = f"even-{number}"
        stage.write(configuration(stage.at, EVEN, edition))
        times.append(await _until_edition(stage, edition))
        if times[-1] <= EFFECT_S:
            break
    tally = stage.traffic.next_phase()
    after = (await stage.admin("/config"))["live"]
    shown = ", ".join(f"{seconds:.2f} s" for seconds in times)
    claims.settle(
        times[-1] <= EFFECT_S and after["generation"] == before + len(times),
        f"an edit is seen by customers within {EFFECT_S:g} s: {shown}; generation {before} -> {after['generation']},"
        f" hash {after['hash']}",
    )
    return tally


async def _until_edition(stage: Stage, edition: str) -> float:
    """Seconds from now until a customer's response carries the edition; infinite if none does in time."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < GIVE_UP_S and stage.sidecar.exit_code is None:
        response = await stage.traffic.send()
        if response is not None and response.headers.get("x-edition") == edition:
            return time.monotonic() - began
        await asyncio.sleep(max(0.0, 0.02 - (time.monotonic() - began - waited)))
    return math.inf


async def _break(claims: Claims, stage: Stage) -> None:
    """Make a mistake in the file, look, and repair it."""
    good = stage.file.read_text()
    before = (await stage.admin("/config"))["live"]
    edition = await _current_edition(stage)
    stage.write(broken(good))
    page = await _until_load(stage, is_ok=False)
    refused = await stage.metrics()
    still = await _current_edition(stage)
    problems = [problem["text"] for problem in page["last_load"]["problems"]]
    claims.settle(
        page["live"] == before and still == edition and bool(edition),
        f"a broken edit changes nothing: generation {before['generation']} stays,"
        f" responses still say {still or 'nothing'}",
    )
    gauge = total(refused, "sidecar_config_last_reload_successful")
    shown = problems[0].removeprefix(str(stage.file.parent) + "/") if problems else "nothing"
    claims.settle(
        not page["last_load"]["ok"] and bool(problems) and gauge == 0,
        f"it is reported: sidecar_config_last_reload_successful {gauge:g}, /config says {shown}",
    )
    stage.write(good)
    page = await _until_load(stage, is_ok=True)
    gauge = total(await stage.metrics(), "sidecar_config_last_reload_successful")
    claims.settle(
        page["last_load"]["ok"] and page["live"]["hash"] == before["hash"] and gauge == 1,
        f"the repaired file is taken: generation {page['live']['generation']},"
        f" sidecar_config_last_reload_successful {gauge:g}",
    )


async def _current_edition(stage: Stage) -> str:
    response = await stage.traffic.send()
    return response.headers.get("x-edition", "") if response is not None else ""


async def _until_load(stage: Stage, *, is_ok: bool) -> Any:
    """The page `/config` as soon as the last load came out so, or as it is after a while."""
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        page = await stage.admin("/config")
        if page["last_load"]["ok"] is is_ok or time.monotonic() > deadline:
            return page
        await asyncio.sleep(0.05)


async def _until_sample(stage: Stage, tally: Tally) -> None:
    """Wait for more traffic, within reason."""
    deadline = time.monotonic() + GIVE_UP_S
    while tally.sent < MIN_SAMPLE and stage.sidecar.exit_code is None and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


# --- verdicts ----------------------------------------------------------------------------------------------------


def _settle_answers(claims: Claims, tallies: list[Tally]) -> None:
    sent, ok = sum(tally.sent for tally in tallies), sum(tally.ok for tally in tallies)
    failures = [f"{count} x {what}" for tally in tallies for what, count in tally.failed.items()]
    more = f"; {'; '.join(failures[:3])}" if failures else ""
    claims.settle(0 < sent == ok, f"every request is answered 200, reloads included: {ok} of {sent}{more}")


def _settle_split(claims: Claims, tally: Tally, weights: dict[str, int], name: str) -> None:
    settle_split(claims, tally.plain, {VERSION_OF[upstream]: weight for upstream, weight in weights.items()}, name)


def _settle_cookie(claims: Claims, tallies: list[Tally], ledger: Ledger) -> None:
    sent = sum(tally.beta.total() for tally in tallies)
    beta = sum(tally.beta["beta"] for tally in tallies)
    claims.settle(0 < sent == beta, f"every request with the cookie BETA_USER=true goes to beta: {beta} of {sent}")
    claims.settle(
        0 < sent == ledger.beta_routed and not ledger.beta_wrong,
        f"by the route {BETA_ROUTE}, which takes no other: {ledger.beta_routed} of {sent}, {ledger.beta_wrong} others",
    )


def _settle_metrics(claims: Claims, tallies: list[Tally], samples: Samples) -> None:
    ok = sum(tally.ok for tally in tallies)
    for direction, histogram in (("inbound", "http_server"), ("outbound", "http_client")):
        counted = total(samples, "sidecar_requests_total", direction=direction)
        good = total(samples, "sidecar_requests_total", direction=direction, code="200", flag="-")
        timed = total(samples, f"{histogram}_request_duration_seconds_count")
        claims.settle(
            counted == good == timed == ok,
            f"/metrics agrees with the customers, {direction}: sidecar_requests_total {counted:.0f},"
            f" {histogram}_request_duration_seconds_count {timed:.0f}, answered {ok}",
        )
    for upstream, version in VERSION_OF.items():
        counted = total(samples, "sidecar_requests_total", direction="outbound", upstream=upstream)
        answered = sum(tally.beta[version] + tally.plain[version] for tally in tallies)
        claims.settle(
            counted == answered, f"/metrics agrees with the answers of {version}: {counted:.0f} and {answered}"
        )


def _settle_log(claims: Claims, ledger: Ledger) -> None:
    claims.settle(
        ledger.inbound == ledger.outbound == ledger.sent and not (ledger.missing or ledger.strays or ledger.unreadable),
        f"the access log has one line a request: {ledger.inbound} inbound, {ledger.outbound} outbound of {ledger.sent};"
        f" {ledger.missing} missing, {ledger.strays} too many, {ledger.unreadable} unreadable",
    )


def _settle_spans(claims: Claims, sent: int, collector: Collector) -> None:
    claims.settle(
        collector.inbound == collector.outbound == sent and not (collector.others or collector.refused),
        f"the collector has one span a request: {collector.inbound} SERVER, {collector.outbound} CLIENT of {sent}",
    )
    claims.settle(
        collector.children == sent and not (collector.strangers or collector.unpaired),
        f"each CLIENT span is the child of the SERVER span of its trace: {collector.children} of {sent},"
        f" {collector.strangers} are not, {collector.unpaired} alone",
    )


def _say_latency(say: Say, tally: Tally, samples: Samples) -> None:
    latencies = sorted(tally.latencies_s)
    p50, p99 = (1000 * percentile(latencies, share) for share in (0.5, 0.99))
    mean = overhead_ms(samples)
    added = f"; the sidecar adds {mean:.2f} ms to an exchange, on average" if mean else ""
    say(f"        latency p50 {p50:.1f} ms, p99 {p99:.1f} ms{added}")
