"""ClientHellos of clients as they are installed: what `openssl s_client` and curl were told to ask for is read."""

from __future__ import annotations

import shutil
import socket
import subprocess

import pytest

from sidecar.net.tls.hello import Hello, begins_tls, read_hello

WITHIN_S = 20.0


def hello_of(*command: str) -> Hello:
    """What the command sends first to the port that stands for `PORT` in it, read as it comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WITHIN_S)
        argv = [part.replace("PORT", str(listener.getsockname()[1])) for part in command]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            try:
                accepted, _ = listener.accept()
                with accepted:
                    accepted.settimeout(WITHIN_S)
                    data = b""
                    while (read := read_hello(data)) is None:
                        more = accepted.recv(100)
                        assert more, "expected a whole hello"
                        data += more
                        assert begins_tls(data)
                    return read
            finally:
                run.kill()


S_CLIENT = ("openssl", "s_client", "-connect", "127.0.0.1:PORT", "-min_protocol", "TLSv1.2")
MANY = tuple(f"protocol-{number:02d}" for number in range(60))
BOTH = (0x0304, 0x0303)


@pytest.mark.parametrize(
    ("options", "name", "protocols", "versions"),
    [
        (("-noservername",), "", (), BOTH),
        (("-servername", "Shop.example", "-alpn", "h2,http/1.1"), "shop.example", ("h2", "http/1.1"), BOTH),
        (("-max_protocol", "TLSv1.2", "-servername", "a"), "a", (), (0x0303,)),
        (("-tls1_3", "-servername", "a", "-alpn", "sidecar-http/1.1"), "a", ("sidecar-http/1.1",), (0x0304,)),
        # More than the 512 octets of a record: the hello lies in two.
        (("-max_send_frag", "512", "-servername", "a", "-alpn", ",".join(MANY)), "a", MANY, BOTH),
    ],
)
def test_hello_of_openssl(
    options: tuple[str, ...], name: str, protocols: tuple[str, ...], versions: tuple[int, ...]
) -> None:
    """With settings that change its shape."""
    read = hello_of(*S_CLIENT, *options)
    assert (read.server_name, read.protocols, read.versions) == (name, protocols, versions)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("options", "protocols", "versions"),
    [
        (("--http1.1", "--tlsv1.2"), ("http/1.1",), BOTH),
        (("--http1.1", "--tlsv1.2", "--tls-max", "1.2"), ("http/1.1",), (0x0303,)),
        (("--no-alpn", "--tlsv1.3"), (), (0x0304,)),
    ],
)
def test_hello_of_curl(options: tuple[str, ...], protocols: tuple[str, ...], versions: tuple[int, ...]) -> None:
    """It asks for the name of the address."""
    read = hello_of("curl", "-sk", "--resolve", "shop.example:PORT:127.0.0.1", *options, "https://shop.example:PORT/")
    assert (read.server_name, read.protocols, read.versions) == ("shop.example", protocols, versions)
