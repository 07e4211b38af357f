"""The contexts of listeners and upstreams against OpenSSL's own client and server, on real sockets."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.security.identity import contexts
from sidecar.security.identity.certificates.credentials import Material, read_credentials
from sidecar.security.identity.certificates.pair import read_pair
from sidecar.security.identity.certificates.roots import read_roots
from tests.support.certificates import NOW, Authority, Leaf
from tests.support.wait import eventually, free_port

OPENSSL = shutil.which("openssl")

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")

ROOT = Authority("shop root")
ISSUER = ROOT.authority("shop issuer")


@contextlib.contextmanager
def serving(context: ssl.SSLContext, *, greets: bool = True) -> Iterator[int]:
    """A server that may greet each client and then reads until it leaves; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            accepted.settimeout(20)
            with contextlib.suppress(OSError), accepted, context.wrap_socket(accepted, server_side=True) as connection:
                if greets:
                    connection.sendall(b"hello from the server\n")
                while connection.recv(100):
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)


def s_client(port: int, *arguments: str, says: bytes = b"") -> str:
    """What `openssl s_client` prints; it leaves at the end of what it says."""
    assert OPENSSL is not None
    command = [OPENSSL, "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
    done = subprocess.run(command, input=says, capture_output=True, timeout=60, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 20):
        return True
    return False


def mesh_context(identity: str) -> ssl.SSLContext:
    """Of a listener between sidecars."""
    leaf = ISSUER.workload(identity)
    return contexts.mesh_server(read_credentials(Material(leaf.chain_pem, leaf.key_pem, ROOT.pem, "c", "k", "t"), NOW))


def outside_context(*leaves: Leaf) -> ssl.SSLContext:
    """Of a listener for clients outside, old ones among them."""
    pairs = [read_pair(leaf.chain_pem, leaf.key_pem, "c", "k") for leaf in leaves]
    return contexts.outside_server(pairs, None, "1.2")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """`ca.crt`, and a workload's `tls.crt` and `tls.key`."""
    (tmp_path / "ca.crt").write_bytes(ROOT.pem)
    ISSUER.workload("spiffe://shop/storefront").write(tmp_path)
    return tmp_path


def test_a_workload_is_served_by_1_3_and_its_chain_is_whole(files: Path) -> None:
    """OpenSSL verifies what a listener of the mesh shows, and agrees on our protocol."""
    with serving(mesh_context("spiffe://shop/search")) as port:
        seen = s_client(
            port, "-verify_return_error", "-CAfile", str(files / "ca.crt"), "-alpn", "h2,sidecar-http/1.1",
            "-cert", str(files / "tls.crt"), "-cert_chain", str(files / "tls.crt"), "-key", str(files / "tls.key"),
        )  # fmt: skip
    assert "New, TLSv1.3" in seen
    assert "Verification: OK" in seen
    assert "ALPN protocol: sidecar-http/1.1" in seen


def test_who_shows_nothing_is_told_that_a_certificate_is_required(files: Path) -> None:
    """By an alert of TLS 1.3, after the client believes the handshake to be over."""
    with serving(mesh_context("spiffe://shop/search")) as port:
        seen = s_client(port, "-CAfile", str(files / "ca.crt"), "-ign_eof")
    assert "certificate required" in seen
    assert "hello from the server" not in seen


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-tls1_2"])
def test_older_versions_are_refused_between_sidecars(files: Path, version: str) -> None:
    """Whatever the client would take."""
    with serving(mesh_context("spiffe://shop/search")) as port:
        seen = s_client(port, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in seen


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_what_is_older_than_1_2_is_refused_outside(version: str) -> None:
    """Also where a file says 1.2."""
    with serving(outside_context(ROOT.leaf(["shop.example"]))) as port:
        assert "alert protocol version" in s_client(port, version, "-cipher", "ALL:@SECLEVEL=0")


def test_renegotiation_and_compression_are_refused(files: Path) -> None:
    """A client of 1.2 that asks for another handshake is told no, and costs none."""
    with serving(outside_context(ROOT.leaf(["shop.example"])), greets=False) as port:
        seen = s_client(
            port, "-tls1_2", "-CAfile", str(files / "ca.crt"), "-comp", "-legacy_renegotiation", says=b"R\n"
        )
    assert "Secure Renegotiation IS supported" in seen  # RFC 5746 is: what is refused is to do it
    assert "no renegotiation" in seen
    assert "Compression: NONE" in seen


def test_the_certificate_for_the_name_is_shown(files: Path) -> None:
    """By 1.3 and by 1.2, verified with its name."""
    with serving(outside_context(ROOT.leaf(["shop.example"]), ROOT.leaf(["*.bank.example"]))) as port:
        for version in ("-tls1_3", "-tls1_2"):
            for name in ("shop.example", "a.bank.example"):
                seen = s_client(
                    port, version, "-CAfile", str(files / "ca.crt"), "-servername", name, "-verify_hostname", name,
                    "-verify_return_error", "-alpn", "http/1.1",
                )  # fmt: skip
                assert "Verification: OK" in seen
                assert f"Verified peername: {name.replace('a.', '*.')}" in seen
                assert "ALPN protocol: http/1.1" in seen


def test_an_upstream_outside_is_verified_and_shown_what_it_asks_for(files: Path) -> None:
    """`openssl s_server -Verify` learns whose certificate it was."""
    assert OPENSSL is not None
    ROOT.leaf(["api.example"]).write(files, "api.crt", "api.key")
    port = free_port()
    command = [
        OPENSSL, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", "api.crt", "-key", "api.key", "-Verify", "3",
        "-verify_return_error", "-CAfile", "ca.crt", "-www",
    ]  # fmt: skip
    server = subprocess.Popen(command, cwd=files, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        us = ROOT.leaf(["us.example"], common_name="us")
        roots = read_roots(ROOT.pem, "ca.crt")
        client = contexts.outside_client(roots, read_pair(us.chain_pem, us.key_pem, "c", "k"), "1.3")

        def ask(name: str) -> str:
            answer = b""
            with (
                socket.create_connection(("127.0.0.1", port), 20) as plain,
                client.wrap_socket(plain, server_hostname=name) as connection,
            ):
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while piece := connection.recv(10_000):
                    answer += piece
            return answer.decode()

        eventually(lambda: accepts(port), "openssl s_server")
        assert us.pem.decode().strip() in ask("api.example")
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            ask("other.example")
    finally:
        server.terminate()
        server.communicate(timeout=20)
