"""What a subject is, what it is configured for, and what surrounds it while it is measured."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .processes import Process
from .tls_certificates import Pair
from .tls_client import Tls, TlsClient

HERE = Path(__file__).resolve().parent.parent
HOST = "recommendations"


def tool(name: str) -> str | None:
    """The path of an installed program; Debian keeps some where a user's PATH does not look."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


@dataclass(frozen=True, slots=True)
class Work:
    """What every subject of a scenario is configured for."""

    is_full: bool = False  # access log, spans, and metrics that are scraped
    routes: int = 20
    clients: int = 4096  # connections of clients that must be admitted
    workers: int | None = None  # None: the subject's own way of running one; only the sidecar is asked for more
    tls: Tls | None = None  # None: all is in clear
    is_http2_in: bool = False  # clients may speak HTTP/2, beside HTTP/1.1
    is_http2_out: bool = False  # upstreams are spoken to by HTTP/2
    rules: int = 0  # of who may ask for what, of which the last lets the load in; 0: nobody is asked who he is

    @property
    def is_inward(self) -> bool:
        """Whether clients come by TLS."""
        return self.tls is not None and self.tls.is_inward

    @property
    def is_outward(self) -> bool:
        """Whether upstreams are spoken to by TLS."""
        return self.tls is not None and self.tls.is_outward

    @property
    def is_of_calls(self) -> bool:
        """Whether requests are calls of gRPC."""
        return self.is_http2_in or self.is_http2_out

    @property
    def services(self) -> list[str]:
        """Prefixes of all routes but the last two, which are the beta users and the split."""
        return [f"/service-{number:05d}" for number in range(1, self.routes - 1)]


@dataclass(frozen=True, slots=True)
class Site:
    """What surrounds the subject under test: where it writes, what it may use, whom it talks to."""

    folder: Path
    cpus: tuple[int, ...]  # cores for the subject; empty: not pinned
    v1_port: int
    beta_port: int
    sink_port: int  # this subject's port of the collector
    wrong_port: int = 0  # of an upstream over TLS that shows another's certificate; 0: there is none
    stranger_port: int = 0  # of one whose certificate nobody trusts


@dataclass(frozen=True, slots=True)
class Running:
    """A subject that answers."""

    process: Process
    port: int
    log: Path | None = None  # JSON lines, one a request
    has_spans: bool = False
    scrape: tuple[int, str] | None = None  # port and path of its metrics
    reads_http: bool = True
    reload: Callable[[list[str]], None] | None = None  # replaces the services by these and asks for a reload
    client: TlsClient | None = None  # how it is spoken to; None: in clear
    rotate: Callable[[Pair], None] | None = None  # gives it another certificate and key


@dataclass(frozen=True, slots=True)
class Subject:
    """One column of the comparison."""

    name: str
    missing: Callable[[], str | None]  # what to install, if it cannot run here
    version: Callable[[], str]
    start: Callable[[Site, Work], Running]


def output_of(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"unknown ({problem})"
    return (done.stdout + done.stderr).strip()


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file of a subject, whole or not at all: some of its readers watch it."""
    path, new = folder / name, folder / f".{name}.new"
    new.write_text(text)
    new.rename(path)
    return path
