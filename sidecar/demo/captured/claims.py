"""The unattended demonstration of captured traffic: what customers were answered, and what the map shows of it."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from contextlib import suppress
from typing import Any

from sidecar.demo.captured.files import SERVICES
from sidecar.demo.captured.stage import Stage
from sidecar.demo.claims import Claims, Say
from sidecar.demo.http11 import HTTPError
from sidecar.demo.namespaces import Host
from sidecar.demo.samples import read_samples, total

GIVE_UP_S = 30.0
LOOK_S = 0.25
METRICS = "http://127.0.0.1:15020/metrics"
BY_REQUESTS = {("storefront", "recommendations"), ("storefront", "payments")}
BY_TCP = {("storefront", "cart"), ("storefront", "bank")}


async def verify(stage: Stage, seconds: float, say: Say) -> bool:
    """
    Run the demonstration for so long, and until the map has all, end it, and say what held.

    Returns:
        Whether everything did. All processes have ended.
    """
    claims = Claims(say)
    await stage.send()
    await asyncio.sleep(seconds)
    await _map(claims, stage)
    await _proof(claims, stage)
    codes = await stage.end()
    ok, sent = stage.answers[200], stage.answers.total()
    trouble = f"; {stage.last_trouble}" if stage.last_trouble else ""
    claims.settle(
        0 < ok == sent, f"every page is whole, by names that apps look up themselves: {ok} of {sent}{trouble}"
    )
    page = stage.last_page or {}
    claims.settle(
        page.get("cart", 0) == ok,
        f"the store has counted each page once, over one connection: {page.get('cart')} of {ok}",
    )
    told = ", ".join(f"{name} {code}" for name, code in codes.items())
    claims.settle(not any(codes.values()), f"SIGTERM ends all with code 0: {told}")
    say(f"\n{claims.held} claims hold, {claims.failed} do not")
    return not claims.failed


async def _map(claims: Claims, stage: Stage) -> None:
    edges: list[Any] = []
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        with suppress(HTTPError):
            edges = (await stage.control.shows())["edges"]
        if _pairs(edges, "requests") == BY_REQUESTS and _pairs(edges, "tcp") == BY_TCP:
            break
        await asyncio.sleep(LOOK_S)
    failed = [one for one in edges if one["success"] not in (1, None) or (one["tcp"] or {}).get("failed")]
    requests, tcp = sorted(_pairs(edges, "requests")), sorted(_pairs(edges, "tcp"))
    claims.settle(
        set(requests) == BY_REQUESTS and set(tcp) == BY_TCP and not failed,
        "the map shows who calls whom, without a failure: "
        + ", ".join([f"{a} -> {b}" for a, b in requests] + [f"{a} -> {b} as TCP" for a, b in tcp]),
    )
    inside = [one for one in edges if one["to"] == "recommendations"]
    claims.settle(
        bool(inside) and all(one["tls"] == "all" for one in inside),
        "between sidecars all is mutual TLS, of which the apps know nothing",
    )


def _pairs(edges: list[Any], what: str) -> set[tuple[str, str]]:
    return {(one["from"], one["to"]) for one in edges if one[what]}


async def _proof(claims: Claims, stage: Stage) -> None:
    proved = [await asyncio.to_thread(_proved, stage.hosts[one.host]) for one in SERVICES]
    claims.settle(
        all(count >= 1 for count in proved),
        "outgoing connections are proved to be captured on every host with a sidecar: "
        + ", ".join(f"{one.host} {count:.0f} families" for one, count in zip(SERVICES, proved, strict=True)),
    )


def _proved(host: Host) -> float:
    def ask() -> str:
        with urllib.request.urlopen(METRICS, timeout=5.0) as answer:
            return str(answer.read().decode())

    deadline = time.monotonic() + GIVE_UP_S
    while True:
        found = total(read_samples(host.do(ask)), "sidecar_capture_proved", what="outgoing")
        if found or time.monotonic() > deadline:
            return found
        time.sleep(LOOK_S)
