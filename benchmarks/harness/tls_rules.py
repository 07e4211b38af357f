"""The rules of who may ask for what, the same for all subjects that have such."""

from __future__ import annotations

from .tls_certificates import CLIENT

CALLERS = 10  # services that the rules name in turn; the load is one of them


def rule(number: int, rules: int) -> tuple[str, str]:
    """
    Who may GET what by the rule of this number, from 1 on.

    One in `CALLERS` of them is for the load, but for another path than it asks for; only the last lets it in.
    """
    if number == rules:
        return CLIENT, "/"
    turn = number % CALLERS
    return CLIENT if turn == 0 else f"caller-{turn}", f"/rule-{number:05d}/"
