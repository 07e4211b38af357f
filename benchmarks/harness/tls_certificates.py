"""Certificates for a run: made by `openssl`, on P-256, each with a SPIFFE ID and a DNS name."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

TRUST_DOMAIN = "bench"
SUBJECT, CLIENT, UPSTREAM, OTHER = "storefront", "client", "recommendations", "other"
KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -batch"
LEAF = (
    "-addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature "
    "-addext extendedKeyUsage=serverAuth,clientAuth"
)
ROOT = "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"


def spiffe(name: str) -> str:
    """The identity of a workload."""
    return f"spiffe://{TRUST_DOMAIN}/{name}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both in PEM."""

    certificate: Path
    key: Path


class Certificates:
    """
    Who is who in a run.

    Attributes:
        trust: The root that all trust.
        subject: Of what is compared.
        client: Of the load.
        upstream: What the upstreams show.
        other: Of the same root, but another's: no client that may do what needs rights, no upstream that is wanted.
        stranger: Like the upstreams', but of a root that nobody trusts; as a client's it is the load's.
    """

    def __init__(self, folder: Path) -> None:
        """
        Make all of them.

        Args:
            folder: Made if it is missing; others than its owner may read it, as nginx's workers do not.
        """
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._made = 0
        root = self._root("root")
        self._issuer = root
        self.trust = root.certificate
        self.subject = self.another()
        self.client = self._leaf(CLIENT, CLIENT, root)
        self.upstream = self._leaf(UPSTREAM, UPSTREAM, root)
        self.other = self._leaf(OTHER, OTHER, root)
        self.stranger = self._leaf("stranger", UPSTREAM, self._root("strangers-root"))

    def another(self) -> Pair:
        """One more for the subject, with a key of its own: what a rotation brings."""
        self._made += 1
        return self._leaf(f"{SUBJECT}-{self._made}", SUBJECT, self._issuer)

    def _root(self, file: str) -> Pair:
        return self._make(file, f"-subj /CN={file} {ROOT}")

    def _leaf(self, file: str, name: str, issuer: Pair) -> Pair:
        signed = f"-CA {issuer.certificate} -CAkey {issuer.key}"
        return self._make(
            file, f"-subj /CN={name} {signed} {LEAF} -addext subjectAltName=URI:{spiffe(name)},DNS:{name}"
        )

    def _make(self, file: str, options: str) -> Pair:
        pair = Pair(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        argv = f"openssl req -x509 {KEY} {options} -keyout {pair.key} -out {pair.certificate}".split()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise OSError(f"openssl ended with code {done.returncode}: {done.stderr}")
        return pair


class Identity:
    """
    A subject's own pair and its roots, in files that a rotation replaces at once, as Kubernetes does it: what is read
    is behind a symbolic link to a folder.

    Attributes:
        pair: What the subject is told to read.
        trust: Likewise.
    """

    def __init__(self, folder: Path, pair: Pair, trust: Path) -> None:
        self._link = folder / "identity"
        self._roots = trust
        self._number = 0
        self.pair = Pair(self._link / "tls.crt", self._link / "tls.key")
        self.trust = self._link / "ca.crt"
        self.put(pair)

    def put(self, pair: Pair) -> None:
        """Replace the files."""
        self._number += 1
        folder = self._link.parent / f"identity-{self._number}"
        folder.mkdir()
        for source, target in ((pair.certificate, "tls.crt"), (pair.key, "tls.key"), (self._roots, "ca.crt")):
            (folder / target).write_bytes(source.read_bytes())
        new = self._link.parent / ".identity.new"
        new.symlink_to(folder.name)
        new.rename(self._link)
