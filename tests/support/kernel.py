"""What the kernel holds where nobody reads: its own limits, which differ from one release to the next."""

from __future__ import annotations

from pathlib import Path


def held_octets() -> int:
    """The most that can wait on the way through a proxy that has stopped reading, what it had read before included."""

    def most(name: str) -> int:
        return int(Path("/proc/sys/net/ipv4", name).read_text().split()[-1])

    return most("tcp_rmem") + 2 * most("tcp_wmem") + (8 << 20)
