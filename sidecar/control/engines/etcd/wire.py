"""
What goes over the wire to etcd and comes back: its gateway's JSON. *Pure.*

Keys and values are base64; 64-bit integers are strings; whatever is 0, false or empty is left out of an answer
(proto3's JSON). A stream is a line of JSON for each message, in chunks that know nothing of lines.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sidecar.control.engines.interface import Unavailable

MAX_VALUE_BYTES: Final = 1_500_000
"""Of one value: etcd takes requests of 1,572,864 octets unless it was told otherwise (`--max-request-bytes`)."""

MAX_OPS: Final = 128
"""In one transaction (`--max-txn-ops`)."""

MAX_LINE_BYTES: Final = 256 * 1024 * 1024
"""Of one message of a stream. A watch that catches up brings a thousand revisions in one."""

# Of gRPC (its `code.proto`), as the gateway gives them in `code` or `grpc_code`.
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
PERMISSION_DENIED: Final = 7
FAILED_PRECONDITION: Final = 9
OUT_OF_RANGE: Final = 11
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

_ELSEWHERE: Final = frozenset({CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE})


class EtcdError(Unavailable):
    """
    A call that did not succeed.

    Attributes:
        text: As etcd said it, without the member that did.
        code: Of gRPC; `UNAVAILABLE` also where no answer came.
        is_unsent: Nothing was sent: it was not done.
    """

    def __init__(self, text: str, code: int = UNAVAILABLE, *, at: str = "", is_unsent: bool = False) -> None:
        super().__init__(f"etcd {at}: {text}" if at else f"etcd: {text}")
        self.text = text
        self.code = code
        self.is_unsent = is_unsent

    @property
    def is_of_member(self) -> bool:
        """Whether another member may do it: this one has no leader, is going, or does not answer."""
        return self.code in _ELSEWHERE

    @property
    def is_token(self) -> bool:
        """Whether the token was refused, or is missing: nothing was done, and who authenticates again may try again."""
        return (
            self.code == UNAUTHENTICATED
            # Of INVALID_ARGUMENT, and of UNKNOWN in the reason of a cancelled watch: etcd tells them by text alone.
            or "invalid auth token" in self.text
            or "user name is empty" in self.text
            or "auth: revision in header is old" in self.text
        )

    @property
    def is_compacted(self) -> bool:
        """Whether a revision was asked for that etcd has forgotten."""
        return self.code == OUT_OF_RANGE and "compacted" in self.text


# --- keys and values ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyValue:
    """
    A key as it stands at some revision.

    Attributes:
        lease: Its lease; empty for none.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: str = ""


def written(octets: bytes) -> str:
    """A key or value as the gateway takes it."""
    return base64.b64encode(octets).decode()


def octets(values: Mapping[str, Any], name: str) -> bytes:
    """A key or value as the gateway gives it. Raises EtcdError."""
    try:
        return base64.b64decode(values.get(name, ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise unintelligible(f"{name} is not base64") from None


def number(values: Mapping[str, Any], name: str) -> int:
    """A 64-bit integer, 0 where it was left out. Raises EtcdError."""
    try:
        return int(values.get(name, 0))
    except (TypeError, ValueError):
        raise unintelligible(f"{name} is no integer") from None


def part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A message within another, empty where it was left out. Raises EtcdError."""
    found = values.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise unintelligible(f"{name} is no object")
    return found


def parts(values: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Messages within another, none where they were left out. Raises EtcdError."""
    found = values.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise unintelligible(f"{name} is no list of objects")
    return found


def read_key_value(values: Mapping[str, Any]) -> KeyValue:
    """Understand a `mvccpb.KeyValue`. Raises EtcdError."""
    lease = number(values, "lease")
    return KeyValue(
        octets(values, "key"),
        octets(values, "value"),
        number(values, "create_revision"),
        number(values, "mod_revision"),
        str(lease) if lease else "",
    )


def key_values(answer: Mapping[str, Any]) -> list[KeyValue]:
    """What a range found. Raises EtcdError."""
    return [read_key_value(one) for one in parts(answer, "kvs")]


def revision(answer: Mapping[str, Any]) -> int:
    """Of the store when it answered; 0 if it did not say. Raises EtcdError."""
    return number(part(answer, "header"), "revision")


def prefix_end(prefix: bytes) -> bytes:
    """
    The first key behind all that begin with `prefix`, for `range_end`.

    A prefix of nothing but 0xff has none; `b"\\0"` then means every key from it on (etcd, `RangeRequest.range_end`).
    """
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else b"\0"


# --- requests -----------------------------------------------------------------------------------------------------


def range_of(key: bytes, end: bytes = b"", **more: object) -> dict[str, Any]:
    """
    A read, of one key or of all before `end`. Linearizable: never older than a write that was answered.

    Args:
        more: Further fields of `RangeRequest`: `limit`, `revision`, `keys_only`, `sort_target`, ...
    """
    return {"key": written(key)} | ({"range_end": written(end)} if end else {}) | more


def put(key: bytes, value: bytes, lease: str = "") -> dict[str, Any]:
    """A write."""
    return {"key": written(key), "value": written(value)} | ({"lease": lease} if lease else {})


def is_at(key: bytes, mod_revision: int) -> dict[str, Any]:
    """The condition that a key was written last at this revision; 0: that it is not there."""
    return {"key": written(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(mod_revision)}


def is_before(key: bytes, end: bytes, mod_revision: int) -> dict[str, Any]:
    """The condition that every key from `key` to before `end` was written last before this revision."""
    condition = {"target": "MOD", "result": "LESS", "mod_revision": str(mod_revision)}
    return {"key": written(key), "range_end": written(end)} | condition


def transaction(
    conditions: Sequence[Mapping[str, Any]],
    *,
    puts: Sequence[Mapping[str, Any]] = (),
    deletes: Sequence[Mapping[str, Any]] = (),
    ranges: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """All of the operations if every condition holds, else none; in one revision."""
    operations = [{"request_put": one} for one in puts]
    operations += [{"request_delete_range": one} for one in deletes]
    operations += [{"request_range": one} for one in ranges]
    assert len(operations) <= MAX_OPS
    assert len(conditions) <= MAX_OPS
    return {"compare": list(conditions), "success": operations}


def has_succeeded(answer: Mapping[str, Any]) -> bool:
    """Whether a transaction's conditions held."""
    return answer.get("succeeded") is True


# --- answers ------------------------------------------------------------------------------------------------------


def unintelligible(why: str) -> EtcdError:
    """The error for an answer that is not of etcd, or of an etcd that nobody has seen."""
    return EtcdError(f"expected an answer of etcd: {why}", UNKNOWN)


def read_answer(status: int, raw: bytes) -> Mapping[str, Any]:
    """
    Understand the answer to a call.

    Raises:
        EtcdError: It is a refusal, or no answer of etcd.
    """
    if status == 404 and not raw.lstrip().startswith(b"{"):
        raise EtcdError("expected etcd 3.4 or later, found a server that does not know /v3", NOT_FOUND)
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        raise unintelligible(f"status {status} and no JSON") from None
    if not isinstance(values, dict):
        raise unintelligible("no object")
    if status != 200 or values.get("error") is not None:
        raise _refusal(values, status)
    return values


def read_message(line: bytes) -> Mapping[str, Any]:
    """
    Understand a message of a stream.

    Raises:
        EtcdError: It is a refusal, after which the stream ends, or no message of etcd.
    """
    return part(read_answer(200, line), "result")


def _refusal(values: Mapping[str, Any], status: int) -> EtcdError:
    # Of a call: {"error": text, "message": text, "code": n}. In a stream: {"error": {"message", "grpc_code"}}.
    error = values.get("error")
    inner = error if isinstance(error, dict) else values
    text = inner.get("message") or (error if isinstance(error, str) else "") or f"status {status}"
    code = inner.get("grpc_code", inner.get("code", UNKNOWN))
    return EtcdError(str(text)[:500], code if isinstance(code, int) else UNKNOWN)
