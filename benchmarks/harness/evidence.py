"""Proof of the work: that routes lead where they should, that log lines and spans come out, that bodies arrive."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from pathlib import Path

from .processes import connection_to, get
from .site import HOST, Running, Work

SETTLE_S = 8.0  # how long logs and spans may arrive after the last request; exporters wait up to 5 s for a batch
SAMPLED = 20  # of a table's services that are asked for


class WrongWorkError(Exception):
    """A subject does not do what is compared: a route goes elsewhere, or the split is not 95 to 5."""


def verify(subject: str, running: Running, work: Work, *, is_closed: bool = True) -> None:
    """
    Ask for every kind of route and see by `x-version` where it went.

    Args:
        is_closed: What no route names is refused; in a mesh it goes to any instance of the service.

    Raises:
        WrongWorkError: The first answer that is not as the routes say.
    """
    connection = connection_to(running.port, running.client)

    def ask(path: str, cookie: str, host: str = HOST) -> tuple[int, str]:
        connection.request("GET", path, headers={"Host": host, "Cookie": cookie})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("x-version", "")

    def expect(path: str, cookie: str, wanted: tuple[int, str], host: str = HOST) -> None:
        if (found := ask(path, cookie, host)) != wanted:
            raise WrongWorkError(f"{subject}: GET {host}{path} with cookie {cookie!r}: expected {wanted}, got {found}")

    services = work.services
    try:
        for path in {*services[:: max(1, len(services) // SAMPLED)], services[-1]}:
            expect(path + "/x", "uid=1", (200, "v1"))
        for _ in range(20):
            expect("/v1/items/1", "uid=1; BETA_USER=true; theme=dark", (200, "beta"))
        if is_closed:
            expect("/elsewhere", "uid=1", (404, ""))
            expect("/v1/items/1", "uid=1", (404, ""), host="another")
        beta = sum(ask("/v1/items/1", f"uid={user}; BETA_USER=false")[1] == "beta" for user in range(600))
    finally:
        connection.close()
    if not 9 <= beta <= 60:  # mean 30, standard deviation 5.3: outside of four of them once in ten thousand
        raise WrongWorkError(f"{subject}: {beta} of 600 requests went to beta, expected about 30")


class Scraper(threading.Thread):
    """Reads the subject's metrics once a second, as Prometheus would, until `stop`."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(daemon=True)
        self._target = port, path
        self._stop_now = threading.Event()
        self.failed = 0

    def run(self) -> None:
        while not self._stop_now.wait(1.0):
            try:
                status, _, _ = get(*self._target, {"Host": "localhost"})
            except (OSError, http.client.HTTPException):
                status = 0
            self.failed += status != 200

    def stop(self) -> None:
        self._stop_now.set()
        self.join()


class LogCounter:
    """Counts lines of a growing file; between rounds the file is emptied, for it grows by megabytes a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.lines = 0

    def read(self) -> int:
        """Count what came since; gives the lines so far in this round."""
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while block := file.read(1 << 20):
                self.lines += block.count(b"\n")
                self._offset += len(block)
        return self.lines

    def empty(self) -> None:
        """Drop what was counted. Writers append, so that the next line lands at the start."""
        if self._path.exists():
            os.truncate(self._path, 0)


def counted(port: int, what: str) -> int:
    """What a collector or a receiver has counted so far."""
    return int(json.loads(get(port, "/count", {})[2])[what])


def counted_by_metrics(port: int, series: str) -> int:
    """The value of one series, by its name and labels as they are written; 0 if there is none."""
    for line in get(port, "/metrics", {"Host": "localhost"})[2].decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name == series:
            return int(float(value))
    return 0


class Evidence:
    """What a subject has logged and exported since this was made: proof of the work, and the sign that it is over."""

    def __init__(self, running: Running, sink_port: int) -> None:
        self._log = LogCounter(running.log) if running.log is not None else None
        self._sink_port = sink_port if running.has_spans else None
        if self._log is not None:
            self._log.empty()
        self._spans_before = counted(sink_port, "spans") if running.has_spans else 0

    def logs(self) -> int | None:
        return self._log.read() if self._log is not None else None

    def spans(self) -> int | None:
        return counted(self._sink_port, "spans") - self._spans_before if self._sink_port is not None else None

    def shares(self, requests: int) -> tuple[float | None, float | None]:
        """Log lines and spans for each of so many requests."""
        logs, spans = self.logs(), self.spans()
        return (
            logs / max(requests, 1) if logs is not None else None,
            spans / max(requests, 1) if spans is not None else None,
        )

    def wait_for(self, requests: int) -> None:
        """Wait until every request is in the log and in the collector; at most `SETTLE_S`."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            if all(count is None or count >= requests for count in (self.logs(), self.spans())):
                return
            time.sleep(0.1)
