"""The documentation page of the table of reasons, made from the table. *Cold.*"""

from __future__ import annotations

from sidecar.errors import REASONS

_HEAD = """# Every reason, one table

Made from `sidecar/errors.py` by `make docs`; do not edit. Each row feeds the reply's status, its `Proxy-Status` field
and JSON body, the log's `response_flags` and `response_code_details`, the metric labels `flag` and `error_type`, and
the span.

| reason | flag | status | source | phase | what failed | what to look at |
|---|---|---|---|---|---|---|
"""


def errors_page() -> str:
    """The text of `docs/errors.md`."""
    rows = (
        f"| `{reason.name}` | `{reason.flag}` | {reason.status} | {reason.source.value} | {reason.phase.value} "
        f"| {reason.text} | {reason.hint} |\n"
        for reason in REASONS
    )
    return _HEAD + "".join(rows)
