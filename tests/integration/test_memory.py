"""Large bodies in constant memory: what the slower side has not taken waits at the faster one, not in the sidecar."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.support.process import SidecarProcess
from tests.support.wire import Client, Stream, Upstream

MIB = 1 << 20
GROWTH_KIB = 16 * 1024
_PIECE = bytes(range(256)) * 4096


class Sampler:
    """Looks at the sidecar's resident memory, from a thread, a hundred times a second."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self.highest_kib = 0
        self._sidecar = sidecar
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.highest_kib = max(self.highest_kib, self._sidecar.memory_kib())


def read_slowly(stream: Stream, size: int, bytes_per_second: int, rest: int) -> None:
    """
    Read `size` bytes: up to the last `rest` no faster than so many a second, the rest as fast as they come.

    The pace is kept by waiting between reads of 256 KiB, so the sender is paused again and again.
    """
    pace, taken, began = threading.Event(), 0, time.monotonic()
    while taken < size:
        data = stream.receive()
        assert data, f"cut after {taken} of {size}"
        position = taken % 256
        assert data[:256] == (_PIECE[position:] + _PIECE)[: min(256, len(data))]
        taken += len(data)
        if size - taken > rest:
            pace.wait(max(began + taken / bytes_per_second - time.monotonic(), 0))


def in_thread(act: Callable[[], None]) -> threading.Thread:
    """Start it."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def send_pieces(stream: Stream, size: int, *, chunked: bool = False) -> None:
    """`size` bytes, a MiB at a time."""
    piece = b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE) if chunked else _PIECE
    for _ in range(size // len(_PIECE)):
        stream.sock.sendall(piece)
    if chunked:
        stream.sock.sendall(b"0\r\n\r\n")


def warm_up(proxy: SidecarProcess, upstream: Upstream) -> int:
    """Let 8 MiB pass, so that what is allocated once is allocated; returns the memory in KiB then."""
    size = 8 * MIB
    with Client(proxy.outbound_port) as client:
        client.get("/warm", host=upstream.authority)
        server = upstream.accept()
        server.head()
        server.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        sending = in_thread(lambda: send_pieces(server, size))
        assert len(client.response().body) == size
        sending.join(15)
    return proxy.memory_kib()


def test_a_gibibyte_to_a_slow_reader_takes_no_memory(proxy: SidecarProcess, upstream: Upstream) -> None:
    """1 GiB through the proxy, half of it to a slow reader, grows the process by less than 16 MiB."""
    before = warm_up(proxy, upstream)
    size = 1024 * MIB
    with Client(proxy.outbound_port, receive_buffer=256 * 1024) as client, Sampler(proxy) as memory:
        client.get("/large", host=upstream.authority)
        server = upstream.accepted[0]
        server.head()
        server.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        sending = in_thread(lambda: send_pieces(server, size))
        client.head()
        read_slowly(client, size, 128 * MIB, rest=size // 2)
        sending.join(15)
        assert not sending.is_alive()
    assert memory.highest_kib - before < GROWTH_KIB


def test_an_upload_to_a_slow_upstream_takes_no_memory(proxy: SidecarProcess, upstream: Upstream) -> None:
    """256 MiB to an upstream that reads slowly grow the process by less than 16 MiB."""
    before = warm_up(proxy, upstream)
    size = 256 * MIB
    with Client(proxy.outbound_port) as client, Sampler(proxy) as memory:
        client.send(f"POST /up HTTP/1.1\r\nHost: {upstream.authority}\r\nContent-Length: {size}\r\n\r\n".encode())
        sending = in_thread(lambda: send_pieces(client, size))
        server = upstream.accepted[0]
        server.head()
        read_slowly(server, size, 64 * MIB, rest=size // 2)
        sending.join(15)
        server.answer(b"all")
        assert client.response().body == b"all"
    assert memory.highest_kib - before < GROWTH_KIB


def test_chunked_bodies_take_no_memory_either(proxy: SidecarProcess, upstream: Upstream) -> None:
    """An echo of 128 MiB in chunks, both ways at once, whose reader is slow at first."""
    before = warm_up(proxy, upstream)
    size = 128 * MIB
    with Client(proxy.outbound_port, receive_buffer=256 * 1024) as client, Sampler(proxy) as memory:
        client.send(f"POST /echo HTTP/1.1\r\nHost: {upstream.authority}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        sending = in_thread(lambda: send_pieces(client, size, chunked=True))
        server = upstream.accepted[0]
        server.head()

        def echo() -> None:
            server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            seen = b""
            while not seen.endswith(b"\r\n0\r\n\r\n"):
                data = server.receive()
                seen = (seen + data)[-16:]
                server.send(data)

        echoing = in_thread(echo)
        client.head()
        taken = _read_chunks(client, slow=size // 4)
        assert taken == size
        for thread in (sending, echoing):
            thread.join(15)
            assert not thread.is_alive()
    assert memory.highest_kib - before < GROWTH_KIB


def _read_chunks(client: Client, slow: int) -> int:
    pace, taken = threading.Event(), 0
    while size := int(client.read_until(b"\r\n"), 16):
        client.read_exactly(size + 2)
        taken += size
        if taken < slow:
            pace.wait(0.001)
    assert client.read_exactly(2) == b"\r\n"
    return taken
