"""What is asked for in a storm, and what becomes of it. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """
    What is asked for.

    Attributes:
        name: In the figures.
        method: GET or POST.
        host: Of the request; empty for the inbound listener.
        is_keyed: With `Idempotency-Key`.
        caller: Whom the server must see; empty: nobody.
        is_secured: It is the client that speaks TLS, as `caller`.
        version: Of HTTP, by which the client asks.
        is_call: It is a call of gRPC.
    """

    name: str
    method: str
    host: str
    is_keyed: bool = False
    caller: str = ""
    is_secured: bool = False
    version: int = 1
    is_call: bool = False

    @property
    def can_be_repeated(self) -> bool:
        """Whether the sidecar may send it twice."""
        return self.method == "GET" or self.is_keyed


@dataclass
class Outcome:
    """
    What became of one request, as its client saw it.

    Attributes:
        failure: Empty if the answer was 200, whole and its own; else `status`, `cut`, `unanswered`, `refused`, `hung`,
            `wrong`, or `left` if the client did not wait for it.
        began_s, ended_s: By the monotonic clock.
        flag: Of an answer that the sidecar made itself.
        call_status: Of gRPC, as the client was told; -1 if it was not.
        sent: Octets of the request's body.
        detail: For people.
    """

    id: str
    kind: Kind
    began_s: float
    ended_s: float = 0.0
    status: int = 0
    flag: str = ""
    failure: str = ""
    detail: str = ""
    server: str = ""
    call_status: int = -1
    sent: int = 0
