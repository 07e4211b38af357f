"""
What can be proved of captured connections from where they begin, and what cannot. *Cold.*

That a program runs as another user, or in another namespace, is not seen from here: each answer is of whoever asks.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from sidecar.net.original_destination import PROOF_HOSTS, PROOF_LINE, PROOF_PORT

Outcome = Literal["proved", "refuted", "not provable", "not there"]

WAIT_S: Final = 2.0
"""For an answer of a sidecar on this machine; one that is busy for longer is one that does not answer."""
OTHER_PORT: Final = 15022
"""Of the same addresses, and none that is left alone for its number: only the sidecar's own user is there."""
_NO_SUCH: Final = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EHOSTUNREACH)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Attributes:
        what: Which connections: `outgoing` ones, the sidecar's `own`, `incoming` ones.
        family: `IPv4` or `IPv6`; empty for both.
        outcome: `not there`: this machine has no such connections.
        why: In a few words.
    """

    what: Literal["outgoing", "own", "incoming"]
    family: str
    outcome: Outcome
    why: str

    def __str__(self) -> str:
        what = {"outgoing": "outgoing connections", "own": "the sidecar's own", "incoming": "incoming connections"}
        by = f" by {self.family}" if self.family else ""
        return f"{self.outcome:12}  {what[self.what]}{by}: {self.why}"


def find_out(user: int) -> Iterator[Finding]:
    """
    Ask, one after another; takes seconds where nobody answers.

    Args:
        user: The sidecar's own, by number.
    """
    here = os.geteuid()
    for host, family in zip(PROOF_HOSTS, ("IPv4", "IPv6"), strict=True):
        what: Literal["outgoing", "own"] = "outgoing"
        said = _dial(host, PROOF_PORT)
        if said == PROOF_LINE:
            yield Finding(what, family, "proved", "the sidecar has answered for an address where nobody is")
        elif isinstance(said, OSError) and said.errno in _NO_SUCH:
            yield Finding(what, family, "not there", f"none can leave: {said.strerror}")
            continue
        elif isinstance(said, OSError) and said.errno == errno.ECONNREFUSED:
            yield Finding(what, family, "refuted", "led here, and no sidecar listens, or its file has no `capture`")
        elif isinstance(said, OSError):
            yield Finding(what, family, "refuted", f"nobody has answered: there are no rules, or no sidecar ({said})")
        else:
            yield Finding(what, family, "refuted", "who has answered is no sidecar, or its file has no `capture`")
        what = "own"
        if here != user:
            yield Finding(what, family, "not provable", f"as user {here}; ask as user {user}")
        elif not _is_taken(host, OTHER_PORT):
            yield Finding(what, family, "proved", "one of them was left alone")
        else:
            yield Finding(what, family, "refuted", "one came back to the sidecar: the rules are for another user")
    yield Finding(
        "incoming", "", "not provable",
        "from here; `install` has read its rules back, and a running sidecar counts what comes:"
        ' sidecar_detected_connections_total{direction="inbound"}',
    )  # fmt: skip


def _is_taken(host: str, port: int) -> bool:
    """Whether somebody takes connections there, which only rules can bring about."""
    try:
        with socket.create_connection((host, port), WAIT_S):
            return True
    except OSError:
        return False


def _dial(host: str, port: int) -> bytes | OSError:
    """What is said there first, or why nothing is."""
    try:
        with socket.create_connection((host, port), WAIT_S) as connected:
            said = b""
            while len(said) < len(PROOF_LINE) and (more := connected.recv(len(PROOF_LINE) - len(said))):
                said += more
            return said
    except OSError as error:
        return error
