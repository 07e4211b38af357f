"""
A store that speaks as much of Redis's protocol (RESP) as the demonstration's app asks, where no redis-server is
installed: `python -m sidecar.demo.captured.store PORT`. It counts (`INCR`), and answers `PING`.
"""

from __future__ import annotations

import signal
import socketserver
import sys
import threading

MAX_LINE = 1024


class Store(socketserver.StreamRequestHandler):
    """One connection."""

    counts: dict[bytes, int] = {}  # noqa: RUF012  # of all connections
    lock = threading.Lock()

    def handle(self) -> None:
        """Answer commands until the client leaves."""
        while (words := self._command()) is not None:
            name = words[0].upper() if words else b""
            if name == b"PING":
                self.wfile.write(b"+PONG\r\n")
            elif name == b"INCR" and len(words) == 2:
                with self.lock:
                    number = self.counts[words[1]] = self.counts.get(words[1], 0) + 1
                self.wfile.write(b":%d\r\n" % number)
            else:
                self.wfile.write(b"-ERR unknown command\r\n")

    def _command(self) -> list[bytes] | None:
        """An array of bulk strings; None at the end, and for what is none."""
        head = self.rfile.readline(MAX_LINE)
        if head[:1] != b"*" or not head[1:].strip().isdigit():
            return None
        words = []
        for _ in range(min(int(head[1:]), 16)):
            size = self.rfile.readline(MAX_LINE)
            if size[:1] != b"$" or not size[1:].strip().isdigit():
                return None
            words.append(self.rfile.read(min(int(size[1:]), MAX_LINE)))
            self.rfile.readline(3)
        return words


class Server(socketserver.ThreadingTCPServer):
    """At all addresses of the host."""

    allow_reuse_address = True
    daemon_threads = True


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    Server(("0.0.0.0", int(arguments[0])), Store).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
