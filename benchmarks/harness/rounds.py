"""One round at saturation: load a subject for some seconds, and read what that has cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .evidence import Evidence, Scraper, counted
from .load import Load, saturate
from .processes import Others, tree_cpu_s, tree_pss_mib
from .site import Running

MIB = 1 << 20
LONG_BODY = 1 << 18  # from here on the octets that moved say what was done, and not the answers that were completed


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a round belongs, and what its requests carry."""

    case: str
    number: int
    response_bytes: int = 1024
    receiver_port: int | None = None  # who counts the octets of uploads
    connections: str = ""  # by TLS, one for each request: `full` handshakes all of them, or `resumed`; else: kept


@dataclass(frozen=True, slots=True)
class Round:
    """What one subject did in one round; times in microseconds unless the name says otherwise."""

    case: str
    round: int
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
    body_bytes: int  # of a request's or response's body, whichever is measured
    moved: float  # octets of bodies that arrived, by those of the requests that were answered
    pss_mib: float
    foreign: float  # cores that processes outside of the comparison kept busy meanwhile
    steal: float  # cores that the hypervisor took away
    generator: float = 0.0  # share of one core that the load generator used; near 1 it is what limits the rate
    connections: str = ""  # as the stage's
    handshakes: int | None = None  # None: in clear
    resumed: int | None = None  # of them
    spare: int = 0  # connections of the load

    def as_json(self) -> dict[str, object]:
        values = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {**values, "faults": self.faults()}

    def faults(self) -> list[str]:
        """Why this round does not count as the work that was asked for."""
        found = []
        if self.requests == 0:
            found.append("no request was answered")
        if self.failed:
            found.append(f"{self.failed} of {self.requests + self.failed} requests failed")
        if self.failed_scrapes:
            found.append(f"{self.failed_scrapes} scrapes of the metrics failed")
        found += unproven(self.logs, self.spans)
        if self.moved < 1.0:
            found.append(f"{self.moved:.3f} of the octets of the bodies arrived")
        if self.handshakes is not None and self.resumed is not None:
            found += wrong_handshakes(self.connections, self.requests, self.handshakes, self.resumed, self.spare)
        return found


def wrong_handshakes(connections: str, requests: int, made: int, resumed: int, spare: int) -> list[str]:
    """
    What is wrong with the handshakes of a round.

    Args:
        connections: Of a stage.
        spare: Connections of the load: so many are under way when its time is over, and as many had no session yet.
    """
    if connections not in ("full", "resumed"):
        return [] if made <= spare else [f"{made} handshakes of {spare} connections that were to be kept"]
    found = [] if made >= requests else [f"{made} handshakes for {requests} requests, each on a connection of its own"]
    if connections == "full" and resumed:
        found.append(f"{resumed} of {made} handshakes took up an earlier session")
    if connections == "resumed" and resumed < made - spare:
        found.append(f"{resumed} of {made} handshakes took up an earlier session, all but {spare} were to")
    return found


def unproven(logs: float | None, spans: float | None) -> list[str]:
    """What is wrong with the log lines and the spans a request; None: the subject has none of them."""
    counted = (("log lines", logs), ("spans", spans))
    return [
        f"{share:.3f} {name} a request" for name, share in counted if share is not None and not 0.99 <= share <= 1.01
    ]


def warm(running: Running, sink_port: int, load: Load) -> None:
    """A short load that is not measured: pools fill, caches and branch predictors learn."""
    evidence = Evidence(running, sink_port)
    evidence.wait_for(saturate(running.port, load, 1, running.client)["requests"])


def measure(stage: Stage, subject: str, running: Running, sink_port: int, load: Load) -> Round:
    """
    Load one subject and charge it with all CPU time from the first request until its last log line and span are out.

    Time that the subject spends on flushing after the load belongs to these requests; so it is waited for. Of long
    bodies the load generator gives up some half-way when its time is over: their cost is divided by the octets that
    moved.
    """
    evidence = Evidence(running, sink_port)
    scraper = Scraper(*running.scrape) if running.scrape is not None else None
    received_before = counted(stage.receiver_port, "bytes") if stage.receiver_port is not None else 0
    others, pid = Others(), running.process.pid
    cpu_before = tree_cpu_s(pid)
    if scraper is not None:
        scraper.start()
    result = saturate(running.port, load, client=running.client)
    loaded_s = result["duration_us"] / 1e6
    cpu_loaded = tree_cpu_s(pid) - cpu_before
    if scraper is not None:
        scraper.stop()
    answered = result["requests"]
    evidence.wait_for(answered)
    cpu = tree_cpu_s(pid) - cpu_before
    foreign, steal = others.cores()
    logs, spans = evidence.shares(answered)
    good = answered - result["non_2xx"]
    octets, body_bytes = result["bytes"], stage.response_bytes
    if stage.receiver_port is not None:
        octets, body_bytes = counted(stage.receiver_port, "bytes") - received_before, load.traffic.upload_bytes
    units = octets / body_bytes if body_bytes >= LONG_BODY else good
    return Round(
        case=stage.case,
        round=stage.number,
        subject=subject,
        requests=good,
        failed=result["non_2xx"] + result["connect"] + result["read"] + result["write"] + result["timeout"],
        failed_scrapes=scraper.failed if scraper is not None else 0,
        cpu_us=cpu / max(units, 1) * 1e6,
        rate=units / loaded_s,
        busy=cpu_loaded / loaded_s,
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        p999_us=result["p999_us"],
        logs=logs,
        spans=spans,
        body_bytes=body_bytes,
        moved=octets / max(good * body_bytes, 1),
        pss_mib=tree_pss_mib(pid),
        foreign=foreign,
        steal=steal,
        generator=result["cpu_us"] / 1e6 / loaded_s,
        connections=stage.connections,
        handshakes=result.get("handshakes"),
        resumed=result.get("resumed"),
        spare=load.connections,
    )
