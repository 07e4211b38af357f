"""
Who signs in a storm, whom everybody believes, and the files in which all of it comes.

The mesh `shop` has one root, for a while two, and then the second alone: `add`, `sign`, `drop`. What is outside has a
root of its own, and nobody believes the stranger's.
"""

from __future__ import annotations

import shutil
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tests.support.certificates import DAY, FOR_CLIENTS, HOUR, NOW, Authority, Leaf

STORM = "spiffe://shop/storm"
SEALED = "spiffe://shop/sealed"
WELL = "spiffe://shop/well"
CALLERS = tuple(f"spiffe://shop/web{number}" for number in range(3))
PARTNER = "partner"
"""The common name by which the sidecar is known outside."""
PARTNER_HOST = "partner.example"
MESH_ALPN = "sidecar-http/1.1"
MESH_ALPN_2 = "sidecar-h2"

LONG_AGO = {"begins": NOW - 2 * DAY, "ends": NOW - HOUR}
Fault = Literal["half_written", "key_mismatch", "expired"]


class Folder:
    """
    Files that are replaced together, as the volumes of Kubernetes and what cert-manager and spiffe-helper write into
    them: `tls.crt` leads to `..data/tls.crt`, and `..data` is a link that is swapped.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True)
        self.path = path
        self._generation = 0

    def put(self, files: Mapping[str, bytes]) -> None:
        """All of it, in one moment."""
        before, self._generation = self._generation, self._generation + 1
        there = self.path / f"..{self._generation}"
        there.mkdir()
        for name, content in files.items():
            (there / name).write_bytes(content)
        link = self.path / "..next"
        link.symlink_to(there.name)
        link.replace(self.path / "..data")
        for name in files:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        shutil.rmtree(self.path / f"..{before}", ignore_errors=True)


def spoilt(leaf: Leaf, fault: Fault, other: Leaf) -> tuple[bytes, bytes]:
    """Certificate and key of which a sidecar must not make anything."""
    if fault == "half_written":
        return leaf.chain_pem[: len(leaf.chain_pem) * 2 // 3], leaf.key_pem
    if fault == "key_mismatch":
        return leaf.chain_pem, other.key_pem
    return other.chain_pem, other.key_pem


class World:
    """
    Args:
        directory: For the files of all.

    Attributes:
        identity, partner: What the sidecar is given: who it is in the mesh, and who it is outside.
        root: Signs what the sidecar shows.
        newest: Signs what all others show; the same root, but between `add` and `drop`.
        believed: Roots of the mesh.
        dropped: Who was believed before; None until somebody was dropped.
    """

    def __init__(self, directory: Path) -> None:
        self.identity = Folder(directory / "identity")
        self.partner = Folder(directory / "partner")
        self._others = directory / "others"
        self._given = 0
        self.root = self.newest = Authority("root 1")
        self.dropped: Authority | None = None
        self._leaving: Authority | None = None
        self.outside, self.stranger = Authority("outside root"), Authority("stranger root")
        self.roots = 1
        self.contexts: dict[str, ssl.SSLContext] = {}

    @property
    def believed(self) -> list[Authority]:
        """Roots of the mesh, without repetition."""
        return [self.root] if self.newest is self.root else [self.root, self.newest]

    @property
    def sealed(self) -> str:
        """The folder of servers that are hurt."""
        return str(self._others / str(self._given) / "sealed")

    @property
    def well(self) -> str:
        """The folder of the server that is well, as a sidecar and as somebody outside."""
        return str(self._others / str(self._given) / "well")

    @property
    def bundle(self) -> bytes:
        """Of these, in PEM."""
        return b"".join(one.pem for one in self.believed)

    # --- the roots -----------------------------------------------------------------------------------------------

    def add(self) -> None:
        """A second root is believed; who shows it already, `give_others` says."""
        self.roots += 1
        self.newest = Authority(f"root {self.roots}")

    def drop(self) -> None:
        """The first root is believed no more."""
        self._leaving, self.root = self.root, self.newest

    # --- the sidecar's files ---------------------------------------------------------------------------------------

    def give_identity(self, signer: Authority) -> Leaf:
        """Who the sidecar is in the mesh, from now on."""
        leaf = signer.workload(STORM)
        self.identity.put({"tls.crt": leaf.chain_pem, "tls.key": leaf.key_pem, "ca.crt": self.bundle})
        return leaf

    def spoil_identity(self, fault: Fault) -> None:
        """Files of which nothing can be made."""
        past = LONG_AGO if fault == "expired" else {}
        certificate, key = spoilt(self.root.workload(STORM), fault, self.root.workload(STORM, **past))
        self.identity.put({"tls.crt": certificate, "tls.key": key, "ca.crt": self.bundle})

    def give_partner(self) -> Leaf:
        """Who the sidecar is outside, from now on."""
        leaf = self._partner()
        self.partner.put({"tls.crt": leaf.chain_pem, "tls.key": leaf.key_pem, "ca.crt": self.outside.pem})
        return leaf

    def spoil_partner(self, fault: Fault) -> None:
        """Files of which nothing can be made."""
        past = LONG_AGO if fault == "expired" else {}
        certificate, key = spoilt(self._partner(), fault, self._partner(**past))
        self.partner.put({"tls.crt": certificate, "tls.key": key, "ca.crt": self.outside.pem})

    def _partner(self, **life: float) -> Leaf:
        return self.outside.leaf(common_name=PARTNER, uses=(FOR_CLIENTS,), **life)  # type: ignore[arg-type]

    # --- everybody else --------------------------------------------------------------------------------------------

    def give_others(self) -> None:
        """New certificates for servers, in folders that nobody changes any more, and for clients."""
        folder = self._others / str(self._given + 1)
        sealed, well = folder / "sealed", folder / "well"
        shown = {
            sealed / "good": self.newest.workload(SEALED),
            sealed / "wrong_name": self.newest.workload("spiffe://shop/payments"),
            sealed / "expired": self.newest.workload(SEALED, **LONG_AGO),
            sealed / "untrusted": self.stranger.workload(SEALED),
            well / "good": self.newest.workload(WELL),
            well / "outside": self.outside.leaf([PARTNER_HOST]),
        }
        for place, leaf in shown.items():
            place.mkdir(parents=True)
            leaf.write(place)
        for place in (sealed, well):
            (place / "ca.crt").write_bytes(self.bundle)
            (place / "outside.crt").write_bytes(self.outside.pem)
            (place / "stranger.crt").write_bytes(self.stranger.pem)
        self._given += 1
        self.dropped = self._leaving
        for caller in CALLERS:
            leaf = self.newest.workload(caller)
            self.contexts[caller] = self.client(leaf)
            self.contexts[f"{caller} 2"] = self.client(leaf, alpn=MESH_ALPN_2)

    def client(
        self,
        leaf: Leaf | None,
        *,
        alpn: str = MESH_ALPN,
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        believes: bytes | None = None,
    ) -> ssl.SSLContext:
        """As a sidecar would call, unless said otherwise."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.maximum_version = newest
        context.load_verify_locations(cadata=(believes or self.bundle).decode())
        context.set_alpn_protocols([alpn])
        if leaf is not None:
            with tempfile.TemporaryDirectory() as folder:
                leaf.write(Path(folder))
                context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
        return context
