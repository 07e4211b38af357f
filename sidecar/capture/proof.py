"""
What can be proved of captured connections from where they begin, and what cannot. *Cold.*

That a program runs as another user, or in another namespace, is not seen from here: each answer is of whoever asks.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
        what: Which connections: `outgoing` ones, the sidecar's `own`, `incoming` ones; or what a `name` means.
        family: `IPv4` or `IPv6`; empty for both.
        outcome: `not there`: this machine has no such connections.
        why: In a few words.
    """

    what: Literal["outgoing", "own", "incoming", "name"]
    family: str
    outcome: Outcome
    why: str

    def __str__(self) -> str:
        what = {
            "outgoing": "outgoing connections", "own": "the sidecar's own", "incoming": "incoming connections",
            "name": "a name of an upstream",
        }  # fmt: skip
        by = f" by {self.family}" if self.family else ""
        return f"{self.outcome:12}  {what[self.what]}{by}: {self.why}"


def find_out(user: int, on_led_back: Callable[[], object] = lambda: None) -> tuple[Finding, ...]:
    """
    Ask, of all at the same time; takes seconds where nobody answers.

    Args:
        user: The sidecar's own, by number.
        on_led_back: Called from another thread as soon as it is known that the sidecar's own connections come back to
            it, long before those dials that nobody answers are over.
    """
    is_own = os.geteuid() == user

    def is_led_back(host: str) -> bool:
        taken = is_own and _is_taken(host, OTHER_PORT)
        if taken:
            on_led_back()
        return taken

    # The threads are in the network namespace, and of the user, of the one that starts them.
    with ThreadPoolExecutor(2 * len(PROOF_HOSTS), "capture-proof") as threads:
        said = [threads.submit(_dial, host, PROOF_PORT) for host in PROOF_HOSTS]
        back = [threads.submit(is_led_back, host) for host in PROOF_HOSTS]
    found: list[Finding] = []
    for family, answer, comes_back in zip(("IPv4", "IPv6"), said, back, strict=True):
        outgoing = _of_outgoing(family, answer.result())
        found.append(outgoing)
        if outgoing.outcome == "not there":
            continue
        if not is_own:
            found.append(Finding("own", family, "not provable", f"as user {os.geteuid()}; ask as user {user}"))
        elif comes_back.result():
            found.append(
                Finding("own", family, "refuted", "one came back to the sidecar: the rules are for another user")
            )
        else:
            found.append(Finding("own", family, "proved", "one of them was left alone"))
    incoming = Finding(
        "incoming", "", "not provable",
        "from here; `install` has read its rules back, and a running sidecar tells of the first that comes:"
        " sidecar_capture_inbound_seen",
    )  # fmt: skip
    return (*found, incoming)


def _of_outgoing(family: str, said: bytes | OSError) -> Finding:
    outcome: Outcome = "refuted"
    if said == PROOF_LINE:
        outcome, why = "proved", "the sidecar has answered for an address where nobody is"
    elif not isinstance(said, OSError):
        why = "who has answered is no sidecar, or its file has no `capture`"
    elif said.errno in _NO_SUCH:
        outcome, why = "not there", f"none can leave: {said.strerror}"
    elif said.errno == errno.ECONNREFUSED:
        why = "led here, and no sidecar listens, or its file has no `capture`"
    else:
        why = f"nobody has answered: there are no rules, or no sidecar ({said})"
    return Finding("outgoing", family, outcome, why)


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
