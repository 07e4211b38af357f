"""
What an access-log line costs: formatted, and written by the thread.

Run `python benchmarks/micro/access_log.py`; figures are medians of rounds, in microseconds of CPU time a line.
"whole" is this process with all its threads, writing to a file.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from sidecar.exchange import Direction, Exchange
from sidecar.telemetry import json_text
from sidecar.telemetry.access_log import json_line
from sidecar.telemetry.access_log.line_template import LineTemplate
from sidecar.telemetry.access_log.writer import LogFile, LogLosses

ROUNDS, LINES = 9, 20_000
FIXED = json_line.fixed_values(
    direction="outbound", method=b"GET", version=1, status=200, flag="-", details="via_upstream", route="canary",
    upstream="recommendations",
)  # fmt: skip
JSON = json_line.JsonLine(FIXED)
TEMPLATE = LineTemplate(
    '[{start_time}] "{method} {path} {protocol}" {response_code} {response_flags} {bytes_received} {bytes_sent} '
    '{duration} {upstream_service_time} "{user_agent}" "{request_id}" "{authority}" "{upstream_host}"'
).bind(FIXED)
EXCHANGE = Exchange(Direction.OUTBOUND, 1, None, ("127.0.0.1", 51234))
AGENT = json_text.quote(b"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0")


def values() -> json_line.LineValues:
    """What the recorder knows."""
    return (
        b"2026-01-31T12:00:00", 123, json_text.quote(b"/v1/items?page=2"), b'"10.0.0.11:8080"', 0, 4321, 1_250_000,
        b"1.170", b"8a6e0804-2bd0-4672-b79d-d97027f9071a", b"4bf92f3577b34da6a3ce929d0e0e4736", b"recommendations",
        AGENT, b"127.0.0.1", b"51234", 1, b"",
    )  # fmt: skip


def line() -> bytes:
    """One line, as the recorder makes it."""
    return JSON.line(*values())


def text_line() -> bytes:
    """The same by a template of fourteen names."""
    return TEMPLATE.line(values(), EXCHANGE)


def cpu_us(action: Callable[[], object]) -> float:
    """CPU time of all threads of this process for `LINES` lines, a line, median of rounds."""
    figures = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        action()
        figures.append((time.process_time_ns() - started) / LINES / 1000)
    return statistics.median(figures)


def main() -> None:
    """Measure and print."""

    def format_all() -> None:
        for _ in range(LINES):
            line()

    with tempfile.NamedTemporaryFile() as file:
        losses = LogLosses()
        log_file = LogFile(file.name, losses, 1 << 30)

        def write_all() -> None:
            for _ in range(LINES):
                log_file.write(line())
            log_file.turn()

        out = sys.stdout.write
        out(f"octets   {len(line()):6}\n")
        out(f"format   {cpu_us(format_all):6.2f} us\n")
        out(f"template {cpu_us(lambda: [text_line() for _ in range(LINES)]):6.2f} us\n")
        out(f"whole    {cpu_us(write_all):6.2f} us\n")
        assert losses.write_failed == 0
    nasty = b'Mozilla "5.0" \\ \xc3\xa9'
    escape_us = cpu_us(lambda: [json_text.escape(nasty) for _ in range(LINES)])
    out(f"escape of what is not plain {escape_us:.2f} us\n")


if __name__ == "__main__":
    main()
