"""A control plane that signs without a key, files without a disk, and a clock that the test holds."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from sidecar.link.identity.held import Held
from sidecar.link.identity.interfaces import JoinSettings, Proved, UnusableError
from sidecar.link.identity.joiner import Joiner
from sidecar.link.identity.key_maker import KeyMakerError, SigningRequest
from sidecar.link.identity.messages import Joined, JoinRequest
from sidecar.link.identity.token_file import TokenFile, parse_token
from sidecar.link.transport.http_client import TransportError
from sidecar.link.transport.refusal import Refusal
from sidecar.link.transport.server import Server
from sidecar.link.transport.tls import Tls
from tests.support.certificates import Authority
from tests.support.held_loop import run_held

DAY = 86_400.0
EPOCH = 1_800_000_000.0
"""When the test begins; the loop's clock is 0 then."""
TOKEN = "sct_" + "t" * 43
OTHER_TOKEN = "sct_" + "u" * 43
IDENTITY = "spiffe://shop/storefront"


@cache
def root(name: str = "shop root") -> str:
    """PEM of a root."""
    return Authority(name).pem.decode()


def pin_of(pem: str) -> str:
    """SHA-256 of its DER."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


Act = Callable[[Server, Tls, JoinRequest], Joined | Refusal]


@dataclass
class World:
    """
    Everything around a joiner.

    Attributes:
        token: What the token file has; None if there is none.
        act: What a control plane makes of a request; it may raise.
        asked: When, since the beginning, and what.
        missed: When somebody asked and nobody was there.
        told: Each that the joiner says it holds.
    """

    token: str | None = f"{TOKEN}#sha256:{{pin}}"
    roots: str = ""
    act: Act | None = None
    chance: Callable[[], float] = lambda: 0.5
    lifetime_s: float = 7 * DAY
    settings: JoinSettings = field(
        default_factory=lambda: JoinSettings(("https://control:15010",), "storefront", "/run/token")
    )
    asked: list[tuple[float, Tls, JoinRequest]] = field(default_factory=list)
    trusts: list[float] = field(default_factory=list)
    told: list[Held] = field(default_factory=list)
    missed: list[float] = field(default_factory=list)
    keys: int = 0
    signed: list[tuple[str, str]] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    key_error: str = ""
    identity: str = IDENTITY
    is_away: bool = False
    clock: Callable[[], float] = lambda: 0.0

    def __post_init__(self) -> None:
        self.roots = self.roots or root()
        if self.token is not None:
            self.token = self.token.replace("{pin}", pin_of(root()))

    # --- `JoinClient` ------------------------------------------------------------------------------------------

    async def trust(self, server: Server) -> str | Refusal:
        self.trusts.append(self.now())
        self._must_be_there()
        return self.roots

    async def nonce(self, server: Server, tls: Tls) -> str | Refusal:
        self._must_be_there()
        return "nonce-1"

    async def join(self, server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
        self.asked.append((self.now(), tls, request))
        self._must_be_there()
        if self.act is not None:
            return self.act(server, tls, request)
        return self.joined()

    def joined(self) -> Joined:
        """A certificate of now."""
        now_s = EPOCH + self.now()
        number = len(self.asked)
        return Joined(
            f"leaf {number}", self.roots, "shop", self.identity, int(now_s + self.lifetime_s),
            int(now_s + self.lifetime_s / 7),
        )  # fmt: skip

    def _must_be_there(self) -> None:
        if self.is_away:
            self.missed.append(self.now())
            raise TransportError("no connection: connection refused")

    # --- the others --------------------------------------------------------------------------------------------

    async def make(self, nonce: str = "", old_key: str = "") -> SigningRequest:
        if self.key_error:
            raise KeyMakerError(self.key_error)
        self.keys += 1
        if old_key:
            self.signed.append((nonce, old_key))
        return SigningRequest(f"SECRET key {self.keys}", f"csr {self.keys}", "signature" if old_key else "")

    async def read_token(self) -> TokenFile:
        if self.token is None:
            raise FileNotFoundError(2, "No such file or directory")
        return parse_token(self.token)

    async def read_trust(self) -> str:
        return self.roots

    async def prove(self, certificate: str, key: str, trust: str) -> Proved:
        if certificate in self.bad:
            raise UnusableError(self.bad[certificate])
        now_s = EPOCH + self.now()
        return Proved(self.identity, "CN=shop issuer", now_s - 600, now_s + self.lifetime_s)

    def now(self) -> float:
        """Since the beginning."""
        return self.clock()

    def times(self) -> list[float]:
        """Of all attempts."""
        return [when for when, *_ in self.asked]

    def proofs(self) -> list[str]:
        """Their kinds."""
        return [type(request.proof).__name__.removesuffix("Proof") for _, _, request in self.asked]

    def held(self, **values: object) -> Held:
        """Of an earlier process, a day old."""
        given: dict[str, object] = {
            "certificate": "old leaf", "key": "SECRET old key", "trust": root(), "trust_domain": "shop",
            "identity": IDENTITY, "issuer": "CN=shop issuer", "not_before_s": EPOCH - DAY,
            "not_after_s": EPOCH + 6 * DAY, "renew_after_s": EPOCH + 0.5 * DAY, "obtained_s": EPOCH - DAY,
        }  # fmt: skip
        return Held(**{**given, **values})  # type: ignore[arg-type]

    def run(self, seconds: float, *steps: tuple[float, Callable[[Joiner], object]], kept: Held | None = None) -> Joiner:
        """
        Let a joiner live for so long.

        Args:
            steps: What happens, at which second.
            kept: What it begins with.
        """

        async def main() -> Joiner:
            self.clock = asyncio.get_running_loop().time
            joiner = Joiner(
                self.settings, client=self, maker=self, files=_Files(self), prove=self.prove,
                instance=lambda: "storefront-1", chance=lambda: self.chance(), now_s=lambda: EPOCH + self.now(),
            )  # fmt: skip
            joiner.on_held = self.told.append
            await joiner.begin(kept)
            task = asyncio.create_task(joiner.run())
            for at_s, step in sorted(steps, key=lambda one: one[0]):
                await asyncio.sleep(at_s - self.now())
                step(joiner)
            await asyncio.sleep(seconds - self.now())
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return joiner

        return run_held(main())


@dataclass
class _Files:
    world: World

    async def token(self) -> TokenFile:
        return await self.world.read_token()

    async def trust(self) -> str:
        return await self.world.read_trust()
