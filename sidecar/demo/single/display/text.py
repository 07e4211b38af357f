"""What the demonstration says in plain lines: the introduction, a line a second, an edit. *Pure.*"""

from __future__ import annotations

from sidecar.demo.collector import Span, Trace
from sidecar.demo.single.observer import Board, Split
from sidecar.demo.single.stage import Stage


def commands(stage: Stage) -> list[tuple[str, str]]:
    """Three commands to try, with what each shows."""
    inbound, outbound = f"http://127.0.0.1:{stage.at.inbound}", f"http://127.0.0.1:{stage.at.outbound}"
    return [
        (f"curl -H 'cookie: BETA_USER=true' {inbound}/", "a beta user: always `beta`; without the cookie 95 to 5"),
        (f"curl -i {inbound}/teapot", "a route that the sidecar answers itself"),
        (f"curl -i -x {outbound} http://unknown/", "from the app to nowhere: 404, and why"),
    ]


def places(stage: Stage) -> list[tuple[str, str]]:
    """Addresses and the file to edit."""
    return [
        ("edit", str(stage.file)),
        ("metrics", f"http://127.0.0.1:{stage.at.metrics}/metrics"),
        ("admin", f"http://127.0.0.1:{stage.at.admin}/  (/config /routes /upstreams)"),
        ("outbound", f"http://127.0.0.1:{stage.at.outbound}  (the storefront's HTTP_PROXY)"),
    ]


def introduction(stage: Stage) -> list[str]:
    """What is running and what to try."""
    at, pids = stage.at, " ".join(str(child.pid) for child in (stage.sidecar, *stage.apps))
    return [
        "sidecar demo: storefront with its sidecar, recommendations v1 and beta, real processes on 127.0.0.1",
        f"  traffic -> sidecar :{at.inbound} -> storefront :{at.storefront} -> sidecar :{at.outbound}"
        f" -> recommendations :{at.recommendations} | beta :{at.beta}",
        f"  pids {pids}",
        *(f"  try:  {command}    # {shows}" for command, shows in commands(stage)),
        *(f"  {name}:  {place}" for name, place in places(stage)),
    ]


def progress(board: Board) -> str:
    """One line about now."""
    if board.trouble:
        return f"{board.uptime_s:5.0f} s  the sidecar cannot be asked: {board.trouble}"
    parts = [f"{board.ok} answered, {board.failed.total()} failed"]
    parts += [split_line(split) for split in board.splits]
    parts += [cookie_line(board), latency_line(board)]
    return f"{board.uptime_s:5.0f} s  " + " | ".join(parts)


def latency_line(board: Board) -> str:
    """Percentiles that customers see, and the sidecar's own part if it is known."""
    own = f", the sidecar's part {board.overhead_ms:.2f} ms" if board.overhead_ms else ""
    return f"p50 {board.p50_ms:.1f} ms, p99 {board.p99_ms:.1f} ms{own}"


def split_line(split: Split) -> str:
    """`canary 95.2/4.8 % of 1203 (file: 95/5)`."""
    found = "/".join(f"{split.share(upstream):.1f}" for upstream in split.weights)
    wanted = "/".join(f"{split.weight_share(upstream):.3g}" for upstream in split.weights)
    return f"{split.route} {found} % of {split.total} (file: {wanted})"


def cookie_line(board: Board) -> str:
    """How many of the requests with the cookie the beta answered."""
    return f"BETA_USER {board.beta['beta']} of {board.beta.total()} to beta"


def reload_lines(board: Board) -> list[str]:
    """What came of the last edit."""
    if board.is_refused:
        return [
            "the file was refused; the configuration before it stays in force:",
            *(f"  {one}" for one in board.problems),
        ]
    word = "reloaded" if board.reloads else "in force"
    return [f"{word}: generation {board.generation}, hash {board.config_hash}, at {board.loaded_at}"]


def trace_lines(trace: Trace) -> list[str]:
    """A trace as a tree."""
    lines = [f"trace {trace.server.trace_id}", f"  {_span_line(trace.server)}"]
    if trace.client is not None:
        branch = "└─" if trace.client.parent_id == trace.server.span_id else "? "
        lines.append(f"  {branch} {_span_line(trace.client)} parent {trace.client.parent_id}")
    return lines


def _span_line(span: Span) -> str:
    to = f" -> {span.upstream}" if span.upstream else ""
    return f"{span.kind} {span.name}{to} {span.status} {span.duration_ms:.1f} ms, span {span.span_id}"
