"""The rules as people read them, and as commands for kernels that this cannot speak with. *Pure.*"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from sidecar.capture.conditions import Family
from sidecar.capture.netfilter.table import TABLE
from sidecar.capture.rules import Chain, Rule

_CHAINS: Final[dict[Chain, str]] = {"output": "OUTPUT", "prerouting": "PREROUTING"}
_COMMANDS: Final[dict[Family, str]] = {4: "iptables", 6: "ip6tables"}


def as_nft(rules: Sequence[Rule]) -> str:
    """A file for `nft -f`, which does the same as `install`: in place of what was there, as a whole."""
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    for chain in _CHAINS:
        lines += [f"\tchain {chain} {{", f"\t\ttype nat hook {chain} priority -100; policy accept;"]
        lines += [f"\t\t{_nft(rule)}" for rule in rules if rule.chain == chain]
        lines.append("\t}")
    return "\n".join([*lines, "}", ""])


def as_iptables(rules: Sequence[Rule]) -> Iterator[str]:
    """
    Commands for `iptables` and `ip6tables` that do the same where nothing of ours is there yet; not as a whole, so that
    each connection of the moments between is judged by what is there by then.
    """
    for family, command in _COMMANDS.items():
        for chain, builtin in _CHAINS.items():
            ours = _chain(chain)
            yield f"{command} -t nat -N {ours}"
            for rule in rules:
                if rule.chain == chain and rule.family in (None, family):
                    yield shlex.join((command, "-t", "nat", "-A", ours, *_iptables(rule)))
            # Last, so that no connection meets half of the rules.
            yield f"{command} -t nat -A {builtin} -j {ours}"


def without_iptables() -> Iterator[str]:
    """Commands that take away what those of `as_iptables` have put there."""
    for command in _COMMANDS.values():
        for chain, builtin in _CHAINS.items():
            ours = _chain(chain)
            yield f"{command} -t nat -D {builtin} -j {ours}"
            yield f"{command} -t nat -F {ours}"
            yield f"{command} -t nat -X {ours}"


def _chain(chain: Chain) -> str:
    return f"SIDECAR_{_CHAINS[chain]}"


def _nft(rule: Rule) -> str:
    asks = [condition.as_nft() for condition in rule.conditions]
    does = "return" if rule.port is None else f"redirect to :{rule.port}"
    return " ".join((*asks, does, f'comment "{rule.why}"'))


def _iptables(rule: Rule) -> Iterator[str]:
    has_protocol = False
    for condition in rule.conditions:
        words = condition.as_iptables()
        if "-p" in words:
            if has_protocol and words[:2] == ("-p", "tcp"):
                words = words[2:]
            has_protocol = True
        yield from words
    does = ("RETURN",) if rule.port is None else ("REDIRECT", "--to-ports", str(rule.port))
    yield from ("-m", "comment", "--comment", rule.why, "-j", *does)
