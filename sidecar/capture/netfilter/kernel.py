"""
The conversation with the kernel: batches that are done as a whole or not at all, and questions. *Cold, blocks briefly.*
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from itertools import count
from types import TracebackType
from typing import Final

from sidecar.capture.netfilter.messages import (
    ACK,
    BATCH_BEGIN,
    BATCH_END,
    DONE,
    DUMP,
    ERROR,
    Message,
    error_of,
    message_bytes,
    read_messages,
)

_NETFILTER: Final = 12
"""NETLINK_NETFILTER."""
_NETLINK_OPTIONS: Final = 270
_SHORT_ERRORS: Final = 10
"""NETLINK_CAP_ACK: answers do not repeat what they answer."""
_TIMEOUT_S: Final = 5.0
_RECEIVED_BYTES: Final = 1 << 20


class KernelError(Exception):
    """
    The kernel does not do it.

    Attributes:
        errno: As the kernel says it; 0 if what it said was not understood.
        at: Index of the message that it refused first; -1 if it was no message of ours.
    """

    def __init__(self, text: str, number: int, at: int = -1) -> None:
        super().__init__(text)
        self.errno = number
        self.at = at


class Kernel:
    """A socket of netlink; to be used in a `with`."""

    def __init__(self) -> None:
        self._numbers = count(1)
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        except OSError as error:
            # What a kernel without netfilter's netlink says.
            raise KernelError(f"no netlink of netfilter: {os.strerror(error.errno or 0)}", error.errno or 0) from None
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_NETLINK_OPTIONS, _SHORT_ERRORS, 1)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def transact(self, messages: Sequence[Message]) -> None:
        """
        Do all of this, or nothing.

        Raises:
            KernelError: It was refused, and nothing has changed.
        """
        numbered = [message._replace(flags=message.flags | ACK, number=next(self._numbers)) for message in messages]
        begin, end = (Message(kind, 0, b"", next(self._numbers)) for kind in (BATCH_BEGIN, BATCH_END))
        self._send(b"".join(map(message_bytes, (begin, *numbered, end))))
        index_of = {message.number: index for index, message in enumerate(numbered)}
        awaited = set(index_of)
        refused: dict[int, int] = {}
        while awaited:
            for answer in self._receive():
                if answer.kind != ERROR:
                    continue
                number = error_of(answer)
                if number and answer.number not in index_of:
                    # Of the batch as a whole: who may not, or what cannot be.
                    raise KernelError(os.strerror(number), number)
                if number:
                    refused.setdefault(index_of[answer.number], number)
                awaited.discard(answer.number)
        if refused:
            first = min(refused)
            raise KernelError(os.strerror(refused[first]), refused[first], first)

    def ask(self, question: Message) -> list[Message]:
        """
        All that there is of a kind.

        Raises:
            KernelError: It was refused.
        """
        number = next(self._numbers)
        self._send(message_bytes(question._replace(flags=question.flags | DUMP, number=number)))
        found: list[Message] = []
        while True:
            for answer in self._receive():
                if answer.number != number:
                    continue
                if answer.kind == DONE:
                    return found
                if answer.kind == ERROR:
                    failed = error_of(answer)
                    raise KernelError(os.strerror(failed), failed)
                found.append(answer)

    def _send(self, data: bytes) -> None:
        try:
            # One of hundreds of rules is larger than what a socket takes by default.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(len(data) * 2, 1 << 18))
            self._socket.send(data)
        except OSError as error:
            raise KernelError(os.strerror(error.errno or 0), error.errno or 0) from None

    def _receive(self) -> list[Message]:
        try:
            return list(read_messages(self._socket.recv(_RECEIVED_BYTES)))
        except TimeoutError:
            raise KernelError(f"no answer within {_TIMEOUT_S:g} s", errno.ETIMEDOUT) from None
        except OSError as error:
            raise KernelError(os.strerror(error.errno or 0), error.errno or 0) from None
        except ValueError as error:
            raise KernelError(f"an answer that is not understood: {error}", 0) from None
