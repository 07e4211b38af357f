"""
The table with all rules: put in place of whatever was there, read back, taken away. *Cold, blocks briefly.*

All of it is one table of ours, so that what others have in theirs stays as it is, and nothing of ours is left behind.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Final

from sidecar.capture.netfilter import expressions
from sidecar.capture.netfilter.kernel import Kernel, KernelError
from sidecar.capture.netfilter.messages import (
    APPEND,
    CREATE,
    DELETE_TABLE,
    GET_RULE,
    NEW_CHAIN,
    NEW_RULE,
    NEW_TABLE,
    Message,
    attribute,
    covers,
    nested,
    number,
    read_attributes,
    text,
)
from sidecar.capture.rules import Chain, Rule

TABLE: Final = "sidecar"

_HOOKS: Final[dict[Chain, int]] = {"output": 3, "prerouting": 0}
_PRIORITY: Final = -100
"""Of address translation of destinations (NF_IP_PRI_NAT_DST), as iptables' own."""
_ACCEPT: Final = 1
_COMMENT: Final = 0
_MAX_COMMENT: Final = 120


class RulesDifferError(Exception):
    """What the kernel has is not what was written."""


def install(rules: Sequence[Rule]) -> None:
    """
    Put these in place of what was there, in one transaction, and read them back.

    Raises:
        KernelError: The kernel refuses; nothing has changed.
        RulesDifferError: They are not what the kernel has afterwards.
    """
    table = _table()
    messages = [
        # The first makes sure that there is one to be deleted.
        Message(NEW_TABLE, CREATE, table),
        Message(DELETE_TABLE, 0, table),
        Message(NEW_TABLE, CREATE, table),
        *(Message(NEW_CHAIN, CREATE, _chain(chain)) for chain in _HOOKS),
        *(Message(NEW_RULE, CREATE | APPEND, _rule(rule)) for rule in rules),
    ]
    with Kernel() as kernel:
        kernel.transact(messages)
        verify(kernel, rules)


def verify(kernel: Kernel, rules: Sequence[Rule]) -> None:
    """
    Whether the kernel has exactly these.

    Raises:
        KernelError: It does not say.
        RulesDifferError: It has others.
    """
    wanted = {chain: [one for one in rules if one.chain == chain] for chain in _HOOKS}
    found: dict[str, list[bytes]] = {}
    for chain, steps in _read(kernel):
        found.setdefault(chain, []).append(steps)
    for chain, some in wanted.items():
        there = found.pop(chain, [])
        if len(there) != len(some):
            raise RulesDifferError(f"{chain}: {len(some)} rules were written, {len(there)} are there")
        for position, (rule, steps) in enumerate(zip(some, there, strict=True), 1):
            if not covers(steps, _steps(rule)):
                raise RulesDifferError(f"{chain}: rule {position} ({rule.why}) is another")
    if found:
        raise RulesDifferError(f"chains that were not written: {', '.join(sorted(found))}")


def is_there() -> bool:
    """
    Whether rules of ours are there.

    Raises:
        KernelError: The kernel does not say.
    """
    with Kernel() as kernel:
        return any(True for _ in _read(kernel))


def uninstall() -> bool:
    """
    Take everything away; whether there was something.

    Raises:
        KernelError: The kernel refuses; nothing has changed.
    """
    with Kernel() as kernel:
        try:
            kernel.transact([Message(DELETE_TABLE, 0, _table())])
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
    return True


def _table() -> bytes:
    return text(1, TABLE)


def _chain(chain: Chain) -> bytes:
    hook = nested(4, number(1, _HOOKS[chain]), number(2, _PRIORITY))
    return text(1, TABLE) + text(3, chain) + hook + number(5, _ACCEPT) + text(7, "nat")


def _rule(rule: Rule) -> bytes:
    why = rule.why.encode()[:_MAX_COMMENT] + b"\0"
    comment = attribute(7, bytes((_COMMENT, len(why))) + why)
    return text(1, TABLE) + text(2, rule.chain) + nested(4, _steps(rule)) + comment


def _steps(rule: Rule) -> bytes:
    steps = b"".join(condition.expressions() for condition in rule.conditions)
    return steps + (expressions.leave() if rule.port is None else expressions.redirect(rule.port))


def _read(kernel: Kernel) -> Iterator[tuple[str, bytes]]:
    """Chain and expressions of each rule of ours, in order."""
    try:
        answers = kernel.ask(Message(GET_RULE, 0, text(1, TABLE)))
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return
        raise
    for answer in answers:
        said = dict(read_attributes(answer.body))
        if said.get(1, b"").rstrip(b"\0") == TABLE.encode():
            yield said.get(2, b"").rstrip(b"\0").decode(), said.get(4, b"")
