"""What the scenarios share: cores, folders, subjects that are started and proven, and rounds in turns."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .evidence import verify
from .load import Calls, Load
from .nginx import Impostors, start_upstreams
from .processes import Process, StartError, free_ports
from .rounds import Round, Stage, measure, warm
from .site import HERE, Running, Site, Subject, Work
from .subjects import start_sink
from .tls_certificates import Certificates
from .tls_client import TlsClient
from .tls_proof import verify_tls
from .traffic import Traffic

AVAILABLE = tuple(sorted(os.sched_getaffinity(0)))  # cores, before this program keeps to some of them

Record = dict[str, object]  # one line of the results: `case`, `round`, `subject`, `faults`, and figures


@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario found."""

    records: list[Record]
    notes: list[str] = field(default_factory=list)  # what was left out, and why


@dataclass(frozen=True, slots=True)
class Entry:
    """A subject that runs, is proven and is warm."""

    subject: str
    running: Running
    sink_port: int
    work: Work


def faults_of(record: Record) -> list[str]:
    faults = record.get("faults")
    return [str(each) for each in faults] if isinstance(faults, list) else []


def cores(is_pinned: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The subject's core, and the cores of load, upstreams, collector and this program; all for each if not pinned."""
    if not is_pinned or len(AVAILABLE) < 2:
        return AVAILABLE, AVAILABLE
    return AVAILABLE[:1], AVAILABLE[1:]


def start_receivers(folder: Path, cpus: tuple[int, ...]) -> tuple[Process, int, int]:
    """The upstreams of the uploads; gives their ports."""
    v1, beta = free_ports(2)
    process = Process("receiver", [sys.executable, str(HERE / "receiver.py"), str(v1), str(beta)], folder, cpus, {})
    process.wait_for(v1, "/count")
    process.wait_for(beta, "/count")
    return process, v1, beta


def start_answerer(
    folder: Path, cpus: tuple[int, ...], body_bytes: int, files: Certificates | None
) -> tuple[Process, int, int]:
    """The upstreams of calls; gives their ports."""
    v1, beta = free_ports(2)
    order: dict[str, object] = {"ports": [v1, beta], "body_bytes": body_bytes}
    client = None
    if files is not None:
        pair = files.upstream
        order["tls"] = {"certificate": str(pair.certificate), "key": str(pair.key), "trust": str(files.trust)}
        client = TlsClient(folder, files.trust, files.subject, "http/1.1")
    process = Process("answerer", [sys.executable, str(HERE / "answerer.py"), json.dumps(order)], folder, cpus, {})
    process.wait_for(v1, "/", client=client)
    process.wait_for(beta, "/", client=client)
    return process, v1, beta


@dataclass(frozen=True, slots=True)
class Grounds:
    """Upstreams and collector that run, and where subjects may be started."""

    folder: Path
    v1_port: int
    beta_port: int
    sink_ports: list[int]
    impostors: Impostors


@dataclass(frozen=True, slots=True)
class Bench:
    """The subjects to compare, and how long."""

    subjects: Sequence[Subject]
    folder: Path
    rounds: int
    seconds: int
    subject_cpus: tuple[int, ...]
    other_cpus: tuple[int, ...]
    keep: bool = False

    def choose(self, *names: str, without: Sequence[str] = ()) -> list[Subject]:
        """Of the subjects to compare, those of a scenario; no names: all."""
        return [each for each in self.subjects if each.name not in without and (not names or each.name in names)]

    @property
    def short_s(self) -> int:
        """For scenarios of many cases."""
        return max(1, self.seconds // 2)

    def load(
        self,
        traffic: Traffic | None = None,
        *,
        seconds: int = 0,
        connections: int = 32,
        resumes: bool = False,
        calls: Calls | None = None,
    ) -> Load:
        traffic = traffic or Traffic()
        return Load(seconds or self.seconds, traffic, self.folder, self.other_cpus, connections, resumes, calls)

    @contextlib.contextmanager
    def grounds(
        self,
        name: str,
        *,
        sinks: int = 0,
        body_bytes: int = 1024,
        uploads: bool = False,
        calls: bool = False,
        files: Certificates | None = None,
    ) -> Iterator[Grounds]:
        """
        Start upstreams and a collector with `sinks` ports; stop them in the end and remove what was written.

        Args:
            calls: Upstreams answer as gRPC does, over HTTP/2 and HTTP/1.1.
            files: Upstreams speak TLS, and two more have certificates that are not what they should be.
        """
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        with contextlib.ExitStack() as started:
            if not self.keep:
                started.callback(shutil.rmtree, folder, ignore_errors=True)
            start = start_receivers(folder, self.other_cpus) if uploads else None
            if calls:
                start = start_answerer(folder, self.other_cpus, body_bytes, files)
            impostors = Impostors(*free_ports(2)) if files is not None and not calls else Impostors()
            upstream, v1, beta = start or start_upstreams(
                folder, self.other_cpus, body_bytes, files=files, impostors=impostors
            )
            started.callback(upstream.stop)
            ports: list[int] = []
            if sinks:
                sink, ports = start_sink(folder, self.other_cpus, sinks)
                started.callback(sink.stop)
            yield Grounds(folder, v1, beta, ports, impostors)

    def start(
        self, grounds: Grounds, subject: Subject, work: Work, sink_port: int, name: str = "", *, proves: bool = True
    ) -> Entry:
        """Start one subject and prove that it does the work; `name` parts the folders of one that runs twice."""
        folder = grounds.folder / (name or subject.name)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # a worker that gives up root's rights reads its own files
        wrong, stranger = grounds.impostors.wrong, grounds.impostors.stranger
        site = Site(folder, self.subject_cpus, grounds.v1_port, grounds.beta_port, sink_port, wrong, stranger)
        running = subject.start(site, work)
        entry = Entry(subject.name, running, sink_port, work)
        try:
            if running.reads_http and proves:
                verify(subject.name, running, work)
                if work.tls is not None and not work.is_http2_in:
                    verify_tls(subject.name, running, work)
        except BaseException:
            running.process.stop()
            raise
        return entry

    @contextlib.contextmanager
    def all_started(self, grounds: Grounds, subjects: Sequence[Subject], work: Work) -> Iterator[list[Entry]]:
        """All subjects at once, each with its port of the collector, if there is one."""
        with contextlib.ExitStack() as started:
            entries = []
            for number, subject in enumerate(subjects):
                sink_port = grounds.sink_ports[number] if grounds.sink_ports else 0
                entry = self.start(grounds, subject, work, sink_port)
                started.callback(entry.running.process.stop)
                entries.append(entry)
            yield entries

    def take_turns(self, scenario: str, contests: Sequence[tuple[Stage, Entry, Load]], rounds: int) -> list[Record]:
        """Warm everybody, then measure in interleaved rounds: A B C, A B C."""
        for entry, load in {entry.running.port: (entry, load) for _, entry, load in contests}.values():
            warm(entry.running, entry.sink_port, load)
        records: list[Record] = []
        for number in range(1, rounds + 1):
            for stage, entry, load in contests:
                numbered = replace(stage, number=number)
                result = measure(numbered, entry.subject, entry.running, entry.sink_port, load)
                records.append(result.as_json())
                show(scenario, result, rounds)
                if not entry.running.process.is_running():
                    raise StartError(f"{entry.subject} ended under load:\n{entry.running.process.tail()}")
        return records


def show(scenario: str, result: Round, rounds: int) -> None:
    print(
        f"{scenario:12} {result.case:>12} {result.round}/{rounds} {result.subject:8} {result.cpu_us:9.1f} us "
        f"{result.rate:8.0f}/s  p99 {result.p99_us / 1000:8.2f} ms  others {result.foreign:.2f}  "
        f"{'; '.join(result.faults())}",
        flush=True,
    )
