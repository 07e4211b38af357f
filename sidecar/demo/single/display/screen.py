"""The demonstration on a terminal, drawn with rich; imported only there."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sidecar.demo.single.display.text import commands, cookie_line, latency_line, places, reload_lines, trace_lines
from sidecar.demo.single.observer import Board, Split
from sidecar.demo.single.stage import Stage

BAR_CELLS = 24


class Screen:
    """The whole terminal while it is open; what was there before comes back at the end."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._live = Live(console=Console(), screen=True, auto_refresh=False, transient=True)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, board: Board) -> None:
        """Draw one moment."""
        self._live.update(draw(self._stage, board), refresh=True)


def draw(stage: Stage, board: Board) -> RenderableType:
    """Everything, the most important first, for a low terminal cuts the end off."""
    parts: list[RenderableType] = [_title(stage, board), _guide(stage), Text()]
    if board.trouble:
        parts.append(Text(f"the sidecar cannot be asked: {board.trouble}", style="bold red"))
        return Group(*parts)
    parts += [_configuration(board), _split(board), Text()]
    parts += [_requests(board), Text(), _traces(board)]
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _title(stage: Stage, board: Board) -> Text:
    title = _line("sidecar demo, Ctrl-C ends it: ", "bold")
    failed = board.failed.total()
    title.append(f"{board.uptime_s:.0f} s, {stage.traffic.per_second:g} requests/s: {board.ok} answered, ", "not bold")
    title.append(f"{failed} failed", "bold red" if failed else "not bold")
    title.append(f", {latency_line(board)}", "not bold")
    return title


def _guide(stage: Stage) -> RenderableType:
    lines: list[Text] = []
    for command, shows in commands(stage):
        line = _line("try       ", "dim")
        line.append(command, "not dim cyan")
        line.append(f"  # {shows}")
        lines.append(line)
    for name, place in places(stage):
        line = Text(f"{name:<10}", style="dim", overflow="fold")  # a long path is better broken than cut
        line.append(place, "not dim bold cyan" if name == "edit" else "not dim")
        lines.append(line)
    return Group(*lines)


def _configuration(board: Board) -> RenderableType:
    style = "bold red" if board.is_refused else "green" if board.reloads else ""
    return Group(*(Text(line, style=style) for line in reload_lines(board)[:4]))


def _split(board: Board) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    for _ in range(2):
        grid.add_column(no_wrap=True)
    for _ in range(3):
        grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True)
    for split in board.splits:
        for upstream in split.weights:
            grid.add_row(
                split.route, upstream, str(split.counts[upstream]), f"{split.share(upstream):.1f} %",
                Text(f"file {split.weight_share(upstream):.3g} %", style="dim"), _bar(split, upstream),
            )  # fmt: skip
    return Group(grid, _line(f"of customers with the cookie {cookie_line(board)}", "magenta"))


def _bar(split: Split, upstream: str) -> Text:
    filled = round(split.share(upstream) / 100 * BAR_CELLS)
    bar = Text("█" * filled, style="blue")
    bar.append("░" * (BAR_CELLS - filled), style="dim")
    return bar


def _requests(board: Board) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("direction", "route", "to", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("requests", "per s", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in board.rows:
        table.add_row(
            row.direction, row.route or "-", row.upstream or "-", f"{row.code} {row.flag}".removesuffix(" -"),
            str(row.count), f"{row.per_second:.1f}", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}",
            style="red" if row.code >= "500" else "",
        )  # fmt: skip
    return table


def _traces(board: Board) -> RenderableType:
    lines = [line for trace in reversed(board.traces) for line in trace_lines(trace)]
    return Group(*(_line(line, "yellow" if line.startswith("trace") else "") for line in lines))
