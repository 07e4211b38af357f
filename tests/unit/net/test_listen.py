"""Listening sockets: explicit options, clear refusals, and socket files that never take another's place."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sidecar.net.listen import BindError, admit_no_more, bind, bound_address, identity, unlink


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as opened:
        yield opened


def test_tcp_socket_listens_without_blocking_on_the_port_that_the_kernel_chose(stack: ExitStack) -> None:
    """Port 0 becomes a real port, which `bound_address` tells and a client reaches."""
    sock = stack.enter_context(closing(bind("127.0.0.1:0")))
    host, port = bound_address(sock).rsplit(":", 1)
    assert host == "127.0.0.1"
    assert int(port) > 0
    assert not sock.getblocking()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) != 0
    stack.enter_context(socket.create_connection((host, int(port)), timeout=5))


def test_a_port_in_use_is_refused_with_the_address_and_the_cause(stack: ExitStack) -> None:
    """SO_REUSEADDR does not hide that somebody else listens."""
    sock = stack.enter_context(closing(bind("127.0.0.1:0")))
    address = bound_address(sock)
    with pytest.raises(BindError, match=f"cannot listen on {address}: the address is already in use"):
        bind(address)


def test_an_overlapping_address_binds_when_both_sockets_share_the_port(stack: ExitStack) -> None:
    """A listener that moves from 0.0.0.0 to 127.0.0.1 opens before the old one closes."""
    old = stack.enter_context(closing(bind("0.0.0.0:0")))
    port = old.getsockname()[1]
    old.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    new = stack.enter_context(closing(bind(f"127.0.0.1:{port}", reuse_port=True)))
    assert bound_address(new) == f"127.0.0.1:{port}"


def test_ipv6_wildcard_leaves_the_ipv4_port_alone(stack: ExitStack) -> None:
    """`[::]` and `0.0.0.0` can be listed side by side with one port."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 in this Python")
    try:
        six = stack.enter_context(closing(bind("[::]:0")))
    except BindError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    port = six.getsockname()[1]
    assert bound_address(six) == f"[::]:{port}"
    four = stack.enter_context(closing(bind(f"0.0.0.0:{port}")))
    assert bound_address(four) == f"0.0.0.0:{port}"


def test_localhost_is_the_ipv4_loopback(stack: ExitStack) -> None:
    """A name with addresses of both families binds the one that every app knows."""
    sock = stack.enter_context(closing(bind("localhost:0")))
    assert bound_address(sock).startswith("127.0.0.1:")


def test_unix_socket_may_be_reached_by_an_app_of_another_user(stack: ExitStack, tmp_path: Path) -> None:
    """The file's mode lets everybody connect who reaches the directory."""
    path = tmp_path / "s.sock"
    sock = stack.enter_context(closing(bind(f"unix:{path}")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert bound_address(sock) == f"unix:{path}"


def test_a_stale_socket_file_is_replaced(stack: ExitStack, tmp_path: Path) -> None:
    """A file whose process is gone does not stop a start."""
    path = tmp_path / "s.sock"
    bind(f"unix:{path}").close()
    assert path.exists()
    sock = stack.enter_context(closing(bind(f"unix:{path}")))
    client = stack.enter_context(socket.socket(socket.AF_UNIX))
    client.connect(sock.getsockname())


def test_a_served_socket_file_is_left_alone(stack: ExitStack, tmp_path: Path) -> None:
    """Another process's socket is in use, not stale."""
    path = tmp_path / "s.sock"
    stack.enter_context(closing(bind(f"unix:{path}")))
    before = path.stat().st_ino
    with pytest.raises(BindError, match="already in use"):
        bind(f"unix:{path}")
    assert path.stat().st_ino == before


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    """A typing error in the address costs nobody a file."""
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(BindError, match="exists and is not a socket"):
        bind(f"unix:{path}")
    assert path.read_text() == "data"


def test_a_missing_directory_is_named_as_the_cause(tmp_path: Path) -> None:
    """The reason says what is missing."""
    with pytest.raises(BindError, match="directory of the socket file does not exist"):
        bind(f"unix:{tmp_path}/no/s.sock")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nonsense", "expected host:port"),
        ("203.0.113.7:0", "no such address"),
        ("no-such-name.invalid:80", "does not resolve"),
    ],
)
def test_addresses_that_cannot_be_bound_say_why(address: str, why: str) -> None:
    """One clear sentence each, never an errno."""
    with pytest.raises(BindError, match=why):
        bind(address)


def test_only_our_own_socket_file_is_unlinked(stack: ExitStack, tmp_path: Path) -> None:
    """A file that another process has put in place of ours stays."""
    path = tmp_path / "s.sock"
    sock = stack.enter_context(closing(bind(f"unix:{path}")))
    ours = identity(sock)
    os.rename(path, tmp_path / "aside")
    other = stack.enter_context(closing(bind(f"unix:{path}")))
    unlink(sock, ours)
    assert path.exists()
    unlink(other, identity(other))
    assert not path.exists()


def test_tcp_sockets_have_no_file_to_unlink(stack: ExitStack) -> None:
    """`identity` is None and `unlink` does nothing."""
    sock = stack.enter_context(closing(bind("127.0.0.1:0")))
    assert identity(sock) is None
    unlink(sock, None)


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
def test_who_has_connected_is_accepted_and_nobody_else_admitted(kind: str, tmp_path: Path) -> None:
    """Between the last accept and the end nobody is reset: nobody comes."""
    addresses = {"tcp": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": f"unix:{tmp_path}/s"}
    listening = bind(addresses[kind])

    early = [socket.socket(listening.family) for _ in range(3)]
    for one in early:
        one.connect(listening.getsockname())
    admit_no_more(listening)
    with socket.socket(listening.family) as late:
        late.settimeout(0.1)
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            late.connect(listening.getsockname())
    accepted = [listening.accept()[0] for _ in early]
    for one, other in zip(early, accepted, strict=True):
        other.sendall(b"x")
        assert one.recv(1) == b"x"
        one.close()
        other.close()
    with pytest.raises(OSError, match=r"unavailable|Invalid"):
        listening.accept()
    listening.close()
