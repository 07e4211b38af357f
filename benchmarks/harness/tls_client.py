"""
How a load speaks TLS to a subject: wrk with a client certificate, and Python's `ssl`.

wrk speaks TLS and can neither show a certificate nor say what it did. `wrk_tls.c`, put under it by the dynamic linker,
does both, so that the load is the same program in clear, in TLS and in mutual TLS. What else there is was looked at:
`openssl s_time` makes handshakes only, ApacheBench (`-E`) asks for one address with one set of headers, h2load shows no
certificate, and a client in Python costs more than most subjects.

All speak TLS 1.3 with keys on P-256. wrk and the upstreams allow one cipher suite and one group, so that handshakes and
records cost the same, whoever the subject is.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .tls_certificates import Certificates, Pair

SOURCE = Path(__file__).resolve().parent.parent / "wrk_tls.c"
MESH_PROTOCOL = "sidecar-http/1.1"  # what sidecars ask each other for; Envoy takes any name
SUITE = "TLS_AES_128_GCM_SHA256"
REPORT = "TLS "  # begins the line that wrk_tls.c prints


def missing_tls() -> str | None:
    """What to install for the scenarios with TLS."""
    for program, package in (("openssl", "openssl"), ("gcc", "gcc and libc6-dev")):
        try:
            subprocess.run([program, "--version"], capture_output=True, timeout=20, check=False)
        except OSError:
            return f"{package} (apt-get install {package.replace(' and', '')})"
    return None


def build_wrk_tls(folder: Path) -> Path:
    """Compile what is put under wrk."""
    library = folder / "wrk_tls.so"
    if not library.exists():
        argv = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(argv, check=True, timeout=120)
    return library


@dataclass(frozen=True, slots=True)
class Handshakes:
    """What wrk did."""

    count: int
    resumed: int
    kind: str  # version, cipher suite and protocol of the first


@dataclass(frozen=True, slots=True)
class TlsClient:
    """
    A client of one subject.

    Attributes:
        library: Of `build_wrk_tls`.
        trust: Roots; what the subject shows must chain to them.
        pair: What is shown; None: nothing.
        protocol: Asked for by ALPN.
    """

    library: Path
    trust: Path
    pair: Pair | None
    protocol: str

    @property
    def kind(self) -> str:
        """What `Handshakes` must say."""
        return f"TLSv1.3 {SUITE} {self.protocol}"

    def environment(self, *, resumes: bool) -> dict[str, str]:
        """Of wrk."""
        return {
            **os.environ,
            "LD_PRELOAD": str(self.library),
            "WRK_TLS_TRUST": str(self.trust),
            "WRK_TLS_PAIR": str(self.pair.certificate) if self.pair else "",
            "WRK_TLS_KEY": str(self.pair.key) if self.pair else "",
            "WRK_TLS_PROTOCOL": self.protocol,
            "WRK_TLS_RESUMES": "1" if resumes else "0",
        }

    def order(self) -> dict[str, str]:
        """What steady.py is told."""
        shown = {"certificate": str(self.pair.certificate), "key": str(self.pair.key)} if self.pair else {}
        return {"trust": str(self.trust), "protocol": self.protocol, **shown}

    def context(self) -> ssl.SSLContext:
        """For what is asked between loads. Names are not compared: who it is, is told by the SPIFFE ID."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.trust)
        context.set_alpn_protocols([self.protocol])
        if self.pair is not None:
            context.load_cert_chain(self.pair.certificate, self.pair.key)
        return context


@dataclass(frozen=True, slots=True)
class Tls:
    """
    How a subject is spoken to, and how it speaks to its upstreams.

    Attributes:
        files: Whose certificates there are.
        library: Of `build_wrk_tls`.
        is_inward: Clients come by TLS, and see the subject's certificate.
        is_mutual: They show one, too, and who they are is known by it.
        is_outward: Upstreams are spoken to by TLS: they want the subject's certificate, and theirs is verified.
    """

    files: Certificates
    library: Path
    is_inward: bool = False
    is_mutual: bool = False
    is_outward: bool = False

    def client(self, protocol: str) -> TlsClient | None:
        """Of the load; None: it comes in clear."""
        if not self.is_inward:
            return None
        return TlsClient(self.library, self.files.trust, self.files.client if self.is_mutual else None, protocol)


def handshakes_of(stderr: str) -> Handshakes:
    """What wrk_tls.c printed in the end."""
    for line in stderr.splitlines():
        if line.startswith(REPORT):
            found = json.loads(line.removeprefix(REPORT))
            return Handshakes(found["handshakes"], found["resumed"], found["kind"])
    raise RuntimeError(f"wrk said nothing of its handshakes:\n{stderr}")
