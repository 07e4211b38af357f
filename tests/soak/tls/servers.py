"""Servers behind TLS as processes, and what befalls their handshakes: one of them at a time, as with the shaky ones."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.soak.faults import SHAKY_CALM
from tests.soak.recorder import Temper
from tests.soak.servers import Server
from tests.soak.tls.recorder import SealedTemper
from tests.support.wait import eventually

CALM = SealedTemper(
    close_after=SHAKY_CALM.close_after, close_idle=SHAKY_CALM.close_idle, delay_max_s=SHAKY_CALM.delay_max_s
)
_OF_NEW_CONNECTIONS = replace(CALM, close_after=0.9)
"""What befalls handshakes is not felt by connections that are there: they close, so that others are made."""

REASONS = {
    "hang": "upstream_tls_timeout",
    "reset": "upstream_tls_failed",
    "clear": "upstream_tls_failed",
    "wrong_name": "upstream_identity_mismatch",
    "expired": "upstream_certificate_expired",
    "untrusted": "upstream_certificate_untrusted",
    "alpn": "upstream_tls_alpn",
    "refuse": "upstream_refused_certificate",
}
"""What the sidecar must say of a connection that met this."""
TEMPERS: dict[str, SealedTemper] = {
    **{mode: replace(_OF_NEW_CONNECTIONS, mode=mode) for mode in REASONS},
    "cut": replace(CALM, cut_within=0.5),
    "key_update": replace(CALM, key_update=0.8),
}
MOST_S = 60.0
"""Until a server that is to be met by somebody was."""


class SealedServer(Server):
    """
    One recorder behind TLS.

    Args:
        folder: What it shows and believes, now.
    """

    def __init__(
        self, name: str, directory: Path, folder: Callable[[], str], address: str, calm: SealedTemper = CALM
    ) -> None:
        super().__init__(name, directory, address, calm=calm)
        self._folder = folder
        self._one_at_a_time = threading.RLock()
        self._now = calm

    def program(self) -> list[str]:
        """A module and its arguments."""
        return ["tests.soak.tls.recorder", self.name, str(self.journal), *self.addresses]

    def temper(self, temper: Temper) -> None:
        """Behave like this from now on; may be said by several threads."""
        assert isinstance(temper, SealedTemper)
        with self._one_at_a_time:
            self._now = temper
            super().temper(replace(temper, folder=self._folder()))

    def renew(self) -> None:
        """Show what is in the folder now, to whoever connects from now on."""
        with self._one_at_a_time:
            self.temper(self._now)

    def has_hurt(self, kind: str) -> int:
        """How many connections or answers of it were hurt so."""
        if not self.journal.exists():
            return 0
        text = self.journal.read_text()
        return text.count(f"H - {kind}\n") if kind in REASONS else text.count(f" {kind}_within\n")


class Strikes:
    """
    Hurts one server after the other, each until somebody has met it.

    Args:
        servers: That may be hurt.
        seed: Decides which, how, and for how long.
        wait: Lets so many seconds go by, or fewer when all is to end.
        pace: By which the length of each is multiplied.

    Attributes:
        counts: What was done, by kind.
    """

    def __init__(
        self, servers: Sequence[SealedServer], seed: str, wait: Callable[[float], object], pace: float = 1.0
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._servers = servers
        self._chance = random.Random(seed)
        self._wait = wait
        self._pace = pace
        self._left: list[str] = []

    @property
    def has_done_all(self) -> bool:
        """Whether each kind has come once."""
        return len(self.counts) == len(TEMPERS)

    def strike(self) -> None:
        """One, from its beginning to its end; all kinds come before one comes again."""
        chance = self._chance
        if not self._left:
            self._left = chance.sample(list(TEMPERS), len(TEMPERS))
        kind, server = self._left.pop(), chance.choice(self._servers)
        before = server.has_hurt(kind)
        server.temper(TEMPERS[kind])
        self._wait(chance.uniform(0.2, 0.6) * self._pace)
        if kind != "key_update":
            eventually(lambda: server.has_hurt(kind) > before, f"{kind} at {server.name} to be met", MOST_S)
        server.temper(server.calm)
        self.counts[kind] += 1
        self._wait(chance.uniform(0.1, 0.4) * self._pace)
