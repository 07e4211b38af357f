"""Names of a test's own: a sidecar that sees other files under /etc, and a name server."""

from __future__ import annotations

import os
import shlex
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.peers import missing, require
from tests.support.process import SidecarProcess

SERVER = "127.0.0.54"
"""Where the name server listens: an address of loopback that nothing else has, for port 53 is not to be chosen."""


class NameServer:
    """Knows some names, has no address for others, and never answers for `hang*`."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.asked: list[str] = []
        self._is_closed = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((SERVER, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closed = True
        self._socket.sendto(b"", (SERVER, 53))  # `close` alone would not wake the thread
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if self._is_closed:
                return
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, (kind, _) = ".".join(labels), struct.unpack_from(">HH", query, at + 1)
            self.asked.append(name)
            if name.startswith("hang"):
                continue
            address = self.known.get(labels[0]) if kind == 1 else None
            answer = b""
            if address is not None:
                answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
            code = 0 if labels[0] in self.known else 3  # NXDOMAIN
            header = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, bool(answer), 0, 0)
            self._socket.sendto(header + query[12 : at + 5] + answer, client)


class SidecarWithNames(SidecarProcess):
    """
    A sidecar in a mount namespace of its own, with its own `/etc/resolv.conf` and, if a test writes one, `/etc/hosts`.

    Attributes:
        hosts: Written before the start; what is written later is seen, too, in one write, for the mount holds on to the
            file.
        resolv: What is in `/etc/resolv.conf`; at first `SERVER` is asked.
    """

    def __init__(self, directory: Path) -> None:
        probe = [require("unshare"), "--mount", "sh", "-c", "mount --bind /etc/hosts /etc/hosts"]
        done = subprocess.run(probe, capture_output=True, timeout=30, text=True)
        if done.returncode:
            missing(f"no mount namespace may be made here (root is needed): {done.stderr.strip()}")
        super().__init__(directory)
        self.hosts = directory / "hosts"
        self.resolv = directory / "resolv.conf"
        self.resolv.write_text(f"nameserver {SERVER}\noptions timeout:5 attempts:2\n")

    def start(self, *arguments: str) -> None:
        """As the base class, in the namespace."""
        mounts = "".join(
            f"mount --bind {shlex.quote(str(file))} /etc/{file.name} && "
            for file in (self.hosts, self.resolv)
            if file.exists()
        )
        run = shlex.join([sys.executable, "-m", "sidecar", "run", "--config", str(self.config), *arguments])
        command = [require("unshare"), "--mount", "sh", "-c", f"{mounts}exec {run}"]
        with open(self.directory / "stderr.log", "ab") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=err, stderr=err, env={**os.environ, **self.env}
            )
