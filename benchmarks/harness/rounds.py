"""One round: prove that a subject does the work, load it for some seconds, and read what that has cost."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .processes import get, machine_busy_s, tree_cpu_s, tree_pss_mib
from .site import HERE, SERVICES, Running

SETTLE_S = 8.0  # how long logs and spans may arrive after the last request; exporters wait up to 5 s for a batch


class WrongWorkError(Exception):
    """A subject does not do what is compared: a route goes elsewhere, or the split is not 95 to 5."""


@dataclass(frozen=True, slots=True)
class Load:
    """How each round loads."""

    seconds: float
    connections: int
    users: int
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """What one subject did in one round; times in microseconds unless the name says otherwise."""

    subject: str
    requests: int  # answered with 2xx
    failed: int  # other statuses, and connections that failed
    failed_scrapes: int  # of the metrics
    cpu_us: float  # user and system time of the subject's process tree for each request
    rate: float  # requests a second, at saturation
    busy: float  # share of one core that the subject used while it was loaded; may pass 1 with several threads
    p50_us: int
    p99_us: int
    p999_us: int
    logs: float | None  # log lines for each request
    spans: float | None  # spans that reached the collector for each request
    pss_mib: float
    foreign: float  # cores that processes outside of the comparison kept busy meanwhile
    steal: float  # cores that the hypervisor took away

    def as_json(self) -> dict[str, object]:
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def faults(self) -> list[str]:
        """Why this round does not count as the work that was asked for."""
        found = []
        if self.failed:
            found.append(f"{self.failed} of {self.requests + self.failed} requests failed")
        if self.failed_scrapes:
            found.append(f"{self.failed_scrapes} scrapes of the metrics failed")
        for name, share in (("log lines", self.logs), ("spans", self.spans)):
            if share is not None and not 0.99 <= share <= 1.01:
                found.append(f"{share:.3f} {name} a request")
        return found


def verify(subject: str, running: Running) -> None:
    """
    Ask for every kind of route and see by `x-version` where it went.

    Raises:
        WrongWorkError: The first answer that is not as the routes say.
    """
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)

    def ask(path: str, cookie: str) -> tuple[int, str]:
        connection.request("GET", path, headers={"Host": "recommendations", "Cookie": cookie})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("x-version", "")

    def expect(path: str, cookie: str, wanted: tuple[int, str]) -> None:
        if (found := ask(path, cookie)) != wanted:
            raise WrongWorkError(f"{subject}: GET {path} with cookie {cookie!r}: expected {wanted}, got {found}")

    try:
        for path in SERVICES:
            expect(path + "/x", "uid=1", (200, "v1"))
        for _ in range(20):
            expect("/v1/items/1", "uid=1; BETA_USER=true; theme=dark", (200, "beta"))
        expect("/elsewhere", "uid=1", (404, ""))
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


def _wrk(port: int, load: Load, seconds: float) -> dict[str, int]:
    argv = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds:g}s", "-s", str(HERE / "load.lua"), "--timeout", "10s"]
    argv += [f"http://127.0.0.1:{port}/", "--", str(load.users), str(random.randrange(1, 1 << 30))]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
        preexec_fn=(lambda: os.sched_setaffinity(0, load.cpus)) if load.cpus else None,
    )
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
            return result
    raise RuntimeError(f"wrk ended with code {done.returncode}:\n{done.stdout}{done.stderr}")


def _spans(sink_port: int) -> int:
    return int(json.loads(get(sink_port, "/count", {})[2])["spans"])


class Evidence:
    """What a subject has logged and exported since this was made: proof of the work, and the sign that it is over."""

    def __init__(self, running: Running, sink_port: int) -> None:
        self._log = LogCounter(running.log) if running.log is not None else None
        self._sink_port = sink_port if running.has_spans else None
        if self._log is not None:
            self._log.empty()
        self._spans_before = _spans(sink_port) if running.has_spans else 0

    def logs(self) -> int | None:
        return self._log.read() if self._log is not None else None

    def spans(self) -> int | None:
        return _spans(self._sink_port) - self._spans_before if self._sink_port is not None else None

    def wait_for(self, requests: int) -> None:
        """Wait until every request is in the log and in the collector; at most `SETTLE_S`."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            if all(count is None or count >= requests for count in (self.logs(), self.spans())):
                return
            time.sleep(0.1)


def warm(running: Running, sink_port: int, load: Load) -> None:
    """A short load that is not measured: pools fill, caches and branch predictors learn."""
    evidence = Evidence(running, sink_port)
    evidence.wait_for(_wrk(running.port, load, 1.0)["requests"])


def measure(subject: str, running: Running, sink_port: int, load: Load) -> Round:
    """
    Load one subject and charge it with all CPU time from the first request until its last log line and span are out.

    Time that the subject spends on flushing after the load belongs to these requests; so it is waited for.
    """
    evidence = Evidence(running, sink_port)
    scraper = Scraper(*running.scrape) if running.scrape is not None else None
    own, pid = os.getpid(), running.process.pid
    busy_before, steal_before = machine_busy_s()
    ours_before, cpu_before, began = tree_cpu_s(own), tree_cpu_s(pid), time.monotonic()
    if scraper is not None:
        scraper.start()
    result = _wrk(running.port, load, load.seconds)
    loaded_s = result["duration_us"] / 1e6
    cpu_loaded = tree_cpu_s(pid) - cpu_before
    if scraper is not None:
        scraper.stop()
    answered = result["requests"]
    evidence.wait_for(answered)
    cpu = tree_cpu_s(pid) - cpu_before
    elapsed = time.monotonic() - began
    busy, steal = machine_busy_s()
    foreign = (busy - busy_before) - (tree_cpu_s(own) - ours_before)
    logs, spans = evidence.logs(), evidence.spans()
    good = answered - result["non_2xx"]
    return Round(
        subject=subject,
        requests=good,
        failed=result["non_2xx"] + result["connect"] + result["read"] + result["write"] + result["timeout"],
        failed_scrapes=scraper.failed if scraper is not None else 0,
        cpu_us=cpu / max(good, 1) * 1e6,
        rate=good / loaded_s,
        busy=cpu_loaded / loaded_s,
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        p999_us=result["p999_us"],
        logs=logs / max(answered, 1) if logs is not None else None,
        spans=spans / max(answered, 1) if spans is not None else None,
        pss_mib=tree_pss_mib(pid),
        foreign=max(foreign, 0.0) / elapsed,
        steal=(steal - steal_before) / elapsed,
    )
