"""The requests of the load, as octets: browser shape, from thousands of users, a tenth of them beta users.

Every user has a cookie and a target of its own, so that no proxy gains from having seen the same line a moment ago
more than it would in front of real users; what real browsers share (User-Agent, Accept...) is shared here too.
Eight headers, Host among them. A file of them, parted by NUL, is what load.lua and steady.py send.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from .site import HOST

AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Safari/605.1.15",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1",
)
CALL_BODY = b"q" * 69  # of the length of a message of 64 octets; the file of requests is parted by NUL
LANGUAGES = ("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr-FR,fr;q=0.9,en-US;q=0.8", "en-GB,en;q=0.9")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the clients of a scenario ask for."""

    users: int = 10_000
    prefix: str = "/v1"  # the route that is hit: by default the last two of the table, by cookie and by weight
    upload_bytes: int = 0  # of a POST; 0: a GET
    is_call: bool = False  # what `calls.py` sends over HTTP/2; over HTTP/1.1 it says its length
    closes: bool = False  # each request asks for the end of its connection
    hosts: tuple[str, ...] = (HOST,)  # users ask them in turn

    def requests(self, seed: int) -> list[bytes]:
        """One request for each user."""
        chance = random.Random(seed)
        if self.is_call:
            return [self._call(user, chance).encode() + CALL_BODY for user in range(1, self.users + 1)]
        body = b"x" * self.upload_bytes
        return [self._head(user, chance).encode() + body for user in range(1, self.users + 1)]

    def _call(self, user: int, chance: random.Random) -> str:
        beta = "BETA_USER=true; " if user % 10 == 0 else ""
        lines = (
            f"POST {self.prefix}/List HTTP/1.1",
            f"Host: {self.hosts[user % len(self.hosts)]}",
            "content-type: application/grpc",
            "te: trailers",
            "user-agent: grpc-python/1.85.3 grpc-c/52.0.0 (linux; chttp2)",
            "grpc-encoding: identity",
            "grpc-accept-encoding: identity,deflate,gzip",
            f"grpc-timeout: {chance.randint(50_000_000, 99_999_999)}u",
            f"traceparent: 00-{chance.getrandbits(128) | 1:032x}-{chance.getrandbits(64) | 1:016x}-01",
            f"cookie: uid=u{user:05d}; {beta}session={chance.getrandbits(64):016x}",
            f"Content-Length: {len(CALL_BODY)}",
        )
        return "\r\n".join([*lines, "", ""])

    def _head(self, user: int, chance: random.Random) -> str:
        item = chance.randint(1, 5000)
        beta = "BETA_USER=true; " if user % 10 == 0 else ""
        lines = [
            f"{'POST' if self.upload_bytes else 'GET'} {self.prefix}/items/{item}?user={user} HTTP/1.1",
            f"Host: {self.hosts[user % len(self.hosts)]}",
            f"User-Agent: {AGENTS[user % len(AGENTS)]}",
            "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            f"Accept-Language: {LANGUAGES[user % len(LANGUAGES)]}",
            "Accept-Encoding: gzip, deflate, br, zstd",
            f"Referer: http://storefront/catalogue/{item % 200}",
            f"Cookie: uid=u{user:05d}; {beta}session={chance.getrandbits(64):016x}; theme=dark",
            "Cache-Control: no-cache",
        ]
        if self.upload_bytes:
            lines.append(f"Content-Length: {self.upload_bytes}")
        if self.closes:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""])

    def write(self, folder: Path, seed: int) -> Path:
        """The file of them, made once."""
        shape = "call" if self.is_call else f"{self.upload_bytes}"
        kind = f"{self.prefix.strip('/')}-{self.users}-{shape}-{'close' if self.closes else 'keep'}-{seed}"
        path = folder / f"traffic-{kind}{''.join(f'-{host}' for host in self.hosts if host != HOST)}"
        if not path.exists():
            path.write_bytes(b"\0".join(self.requests(seed)))
        return path
