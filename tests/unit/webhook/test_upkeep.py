"""What is looked after: when the webhook is ready, and when it stops saying so."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

from sidecar.control.engines.interface import EngineError, Unavailable
from sidecar.control.engines.kubernetes.wire import ApiError
from sidecar.webhook.registration import Registration
from sidecar.webhook.upkeep import Upkeep


class Shown:
    """A certificate that is there, or why not."""

    def __init__(self) -> None:
        self.bundle = "one"
        self.error: Exception | None = None
        self.has_context = True

    async def refresh(self) -> None:
        if self.error is not None:
            raise self.error

    def context(self) -> ssl.SSLContext | None:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if self.has_context else None

    def endings(self) -> Mapping[str, float]:
        return {}


class Entry(Registration):
    """An entry of the API that takes what it is told, or says why not."""

    def __init__(self) -> None:
        self.error: EngineError | None = None
        self.put_in: list[str] = []

    async def put(self, bundle: str) -> None:
        if self.error is not None:
            raise self.error
        self.put_in.append(bundle)


def test_ready_as_soon_as_the_api_believes_what_is_shown() -> None:
    """Each reason for not being ready is said, the certificate's first."""

    async def begin() -> None:
        shown, entry = Shown(), Entry()
        upkeep = Upkeep(shown, entry)
        assert upkeep.why_not_ready() == "the API is not told whom to believe: not yet"
        shown.error, shown.has_context = OSError("no file"), False
        await upkeep.look()
        assert upkeep.why_not_ready() == "no certificate to show: no file"
        shown.error, shown.has_context = None, True
        entry.error = Unavailable("there is no entry")
        await upkeep.look()
        assert upkeep.why_not_ready() == "the API is not told whom to believe: there is no entry"
        entry.error = None
        await upkeep.look()
        assert (upkeep.why_not_ready(), upkeep.is_believed) == ("", True)

    asyncio.run(begin())


def test_api_that_does_not_answer_changes_nothing_and_one_that_has_lost_our_entry_does() -> None:
    """What it was told holds while it is away; an entry that somebody deleted is known."""

    async def begin() -> None:
        shown, entry = Shown(), Entry()
        upkeep = Upkeep(shown, entry)
        await upkeep.look()
        for error in (ApiError("no answer in time"), ApiError("busy", 429), ApiError("down", 503), ApiError("no", 403)):
            entry.error = error
            await upkeep.look()
            assert upkeep.why_not_ready() == ""
        entry.error = Unavailable("there is no entry")
        await upkeep.look()
        assert upkeep.is_believed is False

    asyncio.run(begin())


def test_bundle_that_may_be_old_is_not_written_over_a_newer_one() -> None:
    """While the authority cannot be read, another replica may have renewed it."""

    async def begin() -> None:
        shown, entry = Shown(), Entry()
        upkeep = Upkeep(shown, entry)
        await upkeep.look()
        shown.error = Unavailable("kubernetes: no answer in time")
        await upkeep.look()
        assert entry.put_in == ["one"]
        assert upkeep.why_not_ready() == ""

    asyncio.run(begin())


def test_entry_that_is_somebody_elses_business_is_never_asked_for() -> None:
    """Without a registration, or without a bundle to say, a certificate is enough."""

    async def begin() -> None:
        shown, entry = Shown(), Entry()
        alone = Upkeep(shown, None)
        await alone.look()
        assert (alone.why_not_ready(), alone.is_believed) == ("", None)
        shown.bundle = ""
        await Upkeep(shown, entry).look()
        assert entry.put_in == []

    asyncio.run(begin())
