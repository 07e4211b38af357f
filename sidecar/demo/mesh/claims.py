"""
The unattended demonstration of a mesh: traffic all the while, edits, a mistake, a control plane that is killed.

Customers count what they were answered; what the control plane shows has to agree with it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from sidecar.demo.claims import Claims, Say, settle_split
from sidecar.demo.http11 import HTTPError
from sidecar.demo.mesh.files import CANARY, EVEN, HOLD_S, broken, by_version, mesh_files
from sidecar.demo.mesh.refused import REFUSED
from sidecar.demo.mesh.stage import INSTANCES, Stage, metrics_at
from sidecar.demo.processes import cancelled
from sidecar.demo.samples import Samples, total
from sidecar.demo.traffic import Tally, Traffic, percentile

EFFECT_S = 1.0
"""What the product promises: from the beginning of a wave to a configuration that all of it run."""
TRIES = 3
"""Edits that are made until one is in time: a machine may stall, and three times in a row it does not."""
GIVE_UP_S = 30.0
AWAY_S = 2.0
"""For how long the control plane is away."""
MIN_SAMPLE = 50
"""Requests below which a split says nothing."""
LOOK_S = 0.05

EDGES = {
    ("reports", "recommendations"),
    ("storefront", "recommendations"),
    ("storefront", "payments"),
    ("recommendations", "catalog"),
    ("catalog", "prices"),
}
"""Who calls whom."""


async def verify(stage: Stage, seconds: float, say: Say) -> bool:
    """
    Run the demonstration for so long, then for the edits and the rest, end it, and say what held.

    Returns:
        Whether everything did. All processes have ended.
    """
    claims, traffic = Claims(say), stage.traffic
    sending = asyncio.create_task(stage.send())
    try:
        first = traffic.tally
        await asyncio.sleep(seconds)
        await _until_sample(first)
        even = await _edit(claims, stage)
        await _until_sample(even)
        await _waves(claims, stage)
        await _break(claims, stage)
        await _kill(claims, stage)
        await _map(claims, stage)
    finally:
        await cancelled(sending)
    await traffic.finish()
    calls = await metrics_at(stage.ports["catalog"].metrics)
    codes = await stage.end()

    _settle_answers(claims, traffic)
    _settle_calls(claims, traffic, calls)
    settle_split(claims, first.plain, by_version(CANARY), "the split of the file")
    settle_split(claims, even.plain, by_version(EVEN), "after the edit")
    asked = sum(tally.beta.total() for tally in traffic.tallies)
    served = sum(tally.beta["beta"] for tally in traffic.tallies)
    answers = stage.refused.answers
    told = ", ".join(f"{count} x {what}" for what, count in answers.items())
    claims.settle(
        answers[REFUSED] == answers.total() > 0,
        f"every call of reports, whom the callers of recommendations do not name, is refused there: {told}",
    )
    claims.settle(
        0 < asked == served, f"every request with the cookie BETA_USER=true goes to beta: {served} of {asked}"
    )
    ends = ", ".join(f"{name} {code}" for name, code in codes.items())
    claims.settle(not any(codes.values()), f"SIGTERM ends all with code 0: {ends}")
    latencies = sorted(first.latencies_s)
    p50, p99 = (1000 * percentile(latencies, share) for share in (0.5, 0.99))
    say(f"        latency p50 {p50:.1f} ms, p99 {p99:.1f} ms, with four calls and eight passes through sidecars")
    say(f"{claims.held} claims hold, {claims.failed} do not")
    return not claims.failed


# --- edits -------------------------------------------------------------------------------------------------------


async def _edit(claims: Claims, stage: Stage) -> Tally:
    """Change the weights; returns where requests under the new ones are counted."""
    before = (await stage.control.shows())["revision"]
    stage.traffic.next_phase()
    times: list[tuple[float, float]] = []
    for number in range(1, TRIES + 1):
        edition = f"even-{number}"
        known = (await stage.control.shows())["revision"]
        began = time.monotonic()
        stage.write(mesh_files(stage.payments_port, EVEN, edition))
        # The storefront has one instance: its first wave is the only one.
        wave, seen = await asyncio.gather(_until_wave(stage, "storefront", known), _until_edition(stage, edition))
        times.append((max(0.0, seen - wave), seen - began))
        if times[-1][0] <= EFFECT_S:
            break
    tally = stage.traffic.next_phase()
    shown = await stage.control.shows()
    told = ", ".join(f"{of_wave:.2f} s ({of_edit:.2f} s after the edit)" for of_wave, of_edit in times)
    claims.settle(
        times[-1][0] <= EFFECT_S and shown["revision"] > before,
        f"an edit of one service's file is seen by customers of its caller within {EFFECT_S:g} s of its wave: {told};"
        f" revision {before} -> {shown['revision']}",
    )
    return tally


async def _until_edition(stage: Stage, edition: str) -> float:
    """The time at which a customer's response first carries the edition; infinite if none does."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        response = await stage.traffic.send()
        if response is not None and b'"edition": "%b"' % edition.encode() in response.body:
            return time.monotonic()
        await asyncio.sleep(LOOK_S)
    return math.inf


async def _until_wave(stage: Stage, service: str, known: int) -> float:
    """The time at which a rollout to this service is first shown that is newer than the revision `known`."""

    async def has_begun() -> bool:
        rows = (await stage.control.shows())["rollouts"]
        return any(one["service"] == service and one["revision"] > known and one["state"] != "waiting" for one in rows)

    return time.monotonic() if await _until(has_begun) else math.inf


async def _waves(claims: Claims, stage: Stage) -> None:
    """Change what both callers of `catalog` are told, and watch one follow after the other."""
    before = {one["id"]: one["config"]["hash"] for one in (await stage.control.shows())["instances"]}
    callers = [one.name for one in INSTANCES if "catalog" in one.calls]
    edition = await _current_edition(stage)
    stage.write(mesh_files(stage.payments_port, EVEN, edition, catalog_timeout="3s"))
    at: dict[str, float] = {}
    order: list[str] = []

    async def all_have() -> bool:
        for one in (await stage.control.shows())["instances"]:
            if one["id"] in callers and one["id"] not in at and one["config"]["hash"] != before[one["id"]]:
                at[one["id"]] = one["config"]["since"]
                order.append(one["id"])
        return len(at) == len(callers)

    is_done = await _until(all_have)
    times = sorted(at.values())
    apart = times[-1] - times[0] if len(times) > 1 else 0.0
    claims.settle(
        is_done and apart >= HOLD_S,
        f"what {len(callers)} callers are told comes in waves, at least {HOLD_S:g} s apart: {' then '.join(order)},"
        f" {apart:.2f} s later",
    )


async def _current_edition(stage: Stage) -> str:
    text = (stage.directory / "services/recommendations.yaml").read_text()
    return text.partition('x-edition: "')[2].partition('"')[0]


async def _break(claims: Claims, stage: Stage) -> None:
    """Make a mistake in a file of the mesh, look, and repair it."""
    name = "services/recommendations.yaml"
    file = stage.directory / name
    good = file.read_text()
    before = await stage.control.shows()
    stage.write({name: broken(good)})

    async def is_refused() -> bool:
        return bool((await stage.control.shows())["source"]["problems"])

    await _until(is_refused)
    after = await stage.control.shows()
    problems = after["source"]["problems"]
    hashes = [{one["id"]: one["config"]["hash"] for one in shown["instances"]} for shown in (before, after)]
    claims.settle(
        bool(problems) and after["revision"] == before["revision"] and hashes[0] == hashes[1],
        f"a bad edit changes nothing: revision {after['revision']} stays, every sidecar runs what it ran",
    )
    found = next((one for one in problems if one["file"].endswith(name)), None)
    where = f"{name}:{found['line']}:{found['column']}: {found['message']}" if found is not None else "nothing"
    line = next(number for number, text in enumerate(broken(good).splitlines(), 1) if "mach:" in text)
    claims.settle(found is not None and found["line"] == line, f"it is told with its place: {where}")
    stage.write({name: good})

    async def is_taken() -> bool:
        return not (await stage.control.shows())["source"]["problems"]

    await _until(is_taken)
    repaired = await stage.control.shows()
    claims.settle(
        not repaired["source"]["problems"] and repaired["hash"] == before["hash"],
        f"the repaired file is the revision {repaired['revision']} that ran all the while",
    )


async def _kill(claims: Claims, stage: Stage) -> None:
    """SIGKILL the control plane, let customers come, start it again."""
    before = stage.traffic.tally
    sent = before.sent
    await stage.control.kill()
    await asyncio.sleep(AWAY_S)
    failed = before.failed.total()
    claims.settle(
        not failed and before.sent > sent,
        f"the control plane is killed and nothing happens: {before.sent - sent} requests, {failed} failed",
    )
    await stage.control.start()

    async def are_back() -> bool:
        shown = await stage.control.shows()
        return len(shown["instances"]) == len(INSTANCES) and all(
            one["connected"] and one["config"]["hash"] == one["wanted"]["hash"] for one in shown["instances"]
        )

    is_back = await _until(are_back)
    octets = total(await stage.control.metrics(), "sidecar_control_stream_bytes_total", type="config")
    claims.settle(
        is_back and octets == 0,
        f"it returns, all {len(INSTANCES)} sidecars are back, and it sends them {octets:.0f} octets of configuration",
    )


async def _map(claims: Claims, stage: Stage) -> None:
    """What the map shows."""

    async def has_all() -> bool:
        # No more than these, too: until it has read the mesh again, it knows callers by their identities only.
        return {(one["from"], one["to"]) for one in (await stage.control.shows())["edges"]} == EDGES

    await _until(has_all)
    edges: list[Any] = (await stage.control.shows())["edges"]
    found = sorted({(one["from"], one["to"]) for one in edges})
    told = [one for one in edges if one["success"] is not None and one["from"] != "reports"]
    bad = [one for one in told if one["success"] < 1]
    claims.settle(
        set(found) == EDGES and not bad,
        "the map shows who calls whom, without a failure: " + ", ".join(f"{one} -> {other}" for one, other in found),
    )


async def _until(holds: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it holds in time; a control plane that does not answer now is asked again."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        with suppress(HTTPError):
            if await holds():
                return True
        await asyncio.sleep(LOOK_S)
    return False


async def _until_sample(tally: Tally) -> None:
    """Wait for more traffic, within reason."""
    deadline = time.monotonic() + GIVE_UP_S
    while tally.sent < MIN_SAMPLE and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


def _settle_calls(claims: Claims, traffic: Traffic, calls: Samples) -> None:
    """Every page has a price, for which `catalog` calls by gRPC; its sidecar counts how calls ended."""
    name, pages = "sidecar_grpc_requests_total", sum(tally.ok for tally in traffic.tallies)
    through = total(calls, name, direction="outbound", grpc_status="OK")
    failed = total(calls, name, direction="outbound") - through
    claims.settle(
        0 < pages <= through and not failed,
        f"every page's price came by gRPC, over HTTP/2: {through:.0f} calls of prices for {pages} pages,"
        f" {failed:.0f} failed",
    )


def _settle_answers(claims: Claims, traffic: Traffic) -> None:
    sent, ok = sum(tally.sent for tally in traffic.tallies), sum(tally.ok for tally in traffic.tallies)
    failures = [f"{count} x {what}" for tally in traffic.tallies for what, count in tally.failed.items()]
    more = f"; {'; '.join(failures[:3])}" if failures else ""
    claims.settle(0 < sent == ok, f"every request is answered 200, through all of it: {ok} of {sent}{more}")
