"""`sidecar capture install` and `uninstall` by a real kernel, in network namespaces of the tests' own."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from sidecar.capture.netfilter.table import is_there
from tests.support.commands import sidecar_command
from tests.support.namespaces import Host, hosts
from tests.support.peers import require

APP = 1000
SIDECAR = 1337
PATIENCE_S = 10.0


@pytest.fixture
def pair() -> Iterator[Sequence[Host]]:
    with hosts(2) as made:
        yield made


def install(host: Host, *options: object) -> subprocess.CompletedProcess[str]:
    return host.do(lambda: sidecar_command("capture", "install", *options))


def uninstall(host: Host) -> subprocess.CompletedProcess[str]:
    return host.do(lambda: sidecar_command("capture", "uninstall"))


def listens(stack: contextlib.ExitStack, host: Host, port: int, address: str = "::") -> socket.socket:
    """At all addresses of both kinds, unless it says at which."""

    def make() -> socket.socket:
        return socket.create_server((address, port), family=socket.AF_INET6, dualstack_ipv6=address == "::")

    made = stack.enter_context(host.do(make))
    made.settimeout(PATIENCE_S)
    return made


def connects(stack: contextlib.ExitStack, host: Host, to: str, port: int, user: int | None = APP) -> socket.socket:
    return stack.enter_context(host.do(lambda: socket.create_connection((to, port), PATIENCE_S), user))


def accepted(stack: contextlib.ExitStack, listener: socket.socket) -> socket.socket:
    return stack.enter_context(listener.accept()[0])


def original(accepted: socket.socket, address: str) -> tuple[str, int]:
    """Where it was meant to go, as the kernel says."""
    if ":" in address:
        raw = accepted.getsockopt(socket.IPPROTO_IPV6, 80, 28)
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack_from("!H", raw, 2)[0]
    raw = accepted.getsockopt(socket.SOL_IP, 80, 16)
    return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack_from("!H", raw, 2)[0]


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_outgoing_connections_come_to_the_sidecar_and_its_own_do_not(pair: Sequence[Host], family: str) -> None:
    """With the address that they were meant for; also one that nobody has."""
    here, there = pair
    to: str = getattr(there, family)
    assert install(here).returncode == 0
    with contextlib.ExitStack() as stack:
        captured, served = listens(stack, here, 15001), listens(stack, there, 8080)
        for address in (to, {"v4": "203.0.113.9", "v6": "2001:db8:9::9"}[family]):
            connects(stack, here, address, 8080)
            assert original(accepted(stack, captured), address) == (address, 8080)
        mine = connects(stack, here, to, 8080, SIDECAR)
        assert accepted(stack, served).getpeername()[1] == mine.getsockname()[1]


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("port", [22, 53, 15010, 15021])
def test_ports_that_are_left_alone_go_where_they_were_meant_to(pair: Sequence[Host], family: str, port: int) -> None:
    """Outgoing, and but for DNS incoming, too."""
    here, there = pair
    assert install(here).returncode == install(there).returncode == 0
    with contextlib.ExitStack() as stack:
        captured = listens(stack, there, 15006)
        served = listens(stack, there, port)
        mine = connects(stack, here, getattr(there, family), port)
        met = accepted(stack, captured if port == 53 else served)
        assert met.getpeername()[1] == mine.getsockname()[1]


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_incoming_connections_come_to_the_sidecar_with_their_clients_address(pair: Sequence[Host], family: str) -> None:
    """Whatever the port; from the machine itself they do not."""
    here, there = pair
    assert install(there).returncode == 0
    address: str = getattr(there, family)
    with contextlib.ExitStack() as stack:
        captured, served = listens(stack, there, 15006), listens(stack, there, 8080)
        mine = connects(stack, here, address, 8080)
        met = accepted(stack, captured)
        assert met.getpeername()[1] == mine.getsockname()[1]
        assert met.getpeername()[0] in (getattr(here, family), f"::ffff:{here.v4}")
        assert original(met, address) == (address, 8080)
        for own in ("127.0.0.1" if family == "v4" else "::1", address):
            connects(stack, there, own, 8080)
            accepted(stack, served)


def test_exclusions(pair: Sequence[Host]) -> None:
    """By port, network and user, both ways."""
    here, there = pair
    options = "--exclude-outbound", f"5432,{there.v6}/128", "--exclude-user", "33"
    assert install(here, *options).returncode == 0
    assert install(there, "--exclude-inbound", f"9100,{here.v6}").returncode == 0
    with contextlib.ExitStack() as stack:
        out, into = listens(stack, here, 15001), listens(stack, there, 15006)
        metrics, served = listens(stack, there, 9100), listens(stack, there, 8080)
        for to, port, user, met in (
            (there.v4, 5432, APP, into), (there.v4, 8080, 33, into), (there.v4, 8080, APP, out),
            (there.v4, 9100, 33, metrics), (there.v6, 8080, APP, served),
        ):  # fmt: skip
            connects(stack, here, to, port, user)
            accepted(stack, met)


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_connections_that_are_there_already_go_on(pair: Sequence[Host], family: str) -> None:
    """In both directions, from both ends, whether the kernel has kept track of them or not."""
    here, there = pair
    with contextlib.ExitStack() as stack:
        served = listens(stack, there, 8080)
        client = connects(stack, here, getattr(there, family), 8080)
        server = accepted(stack, served)
        for host in pair:
            assert install(host).returncode == 0
        for sender, receiver in ((client, server), (server, client)) * 2:
            sender.sendall(b"still here")
            receiver.settimeout(PATIENCE_S)
            assert receiver.recv(100) == b"still here"


def test_proof_is_led_away_also_from_the_sidecar(pair: Sequence[Host]) -> None:
    """And only its port."""
    here, _ = pair
    assert install(here).returncode == 0
    with contextlib.ExitStack() as stack:
        captured = listens(stack, here, 15001)
        for address in ("192.0.2.1", "2001:db8::1"):
            connects(stack, here, address, 15002, SIDECAR)
            assert original(accepted(stack, captured), address) == (address, 15002)


def test_only_named_ports_of_a_host(pair: Sequence[Host]) -> None:
    """As on a whole machine, where ssh and all else goes on."""
    here, there = pair
    assert install(there, "--inbound-ports", "8080-8081").returncode == 0
    with contextlib.ExitStack() as stack:
        captured, served = listens(stack, there, 15006), listens(stack, there, 9000)
        for port, met in ((8081, captured), (9000, served)):
            connects(stack, here, there.v4, port)
            accepted(stack, met)


def test_install_twice_is_as_once_and_uninstall_leaves_nothing(pair: Sequence[Host]) -> None:
    """Other tables, of nft and of iptables, stay as they were."""
    here, _ = pair
    for command in ("iptables", "ip6tables"):
        here.said(require(command), "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", 7, "-j", "ACCEPT")
    here.said(require("nft"), "add table inet sidecar_others")
    before = here.said(require("nft"), "list", "ruleset")
    assert uninstall(here).stdout == "nothing was captured\n"
    assert install(here, "--exclude-outbound", "1-9").returncode == 0
    first = install(here)
    once = here.said(require("nft"), "list", "ruleset")
    assert install(here).stdout == first.stdout
    assert here.said(require("nft"), "list", "ruleset") == once
    assert once != before
    assert uninstall(here).stdout == "not captured any more\n"
    assert here.said(require("nft"), "list", "ruleset") == before
    assert not here.do(is_there)


def test_dry_run_prints_what_the_programs_take_and_changes_nothing(pair: Sequence[Host]) -> None:
    """`nft` has the same rules afterwards as `install` makes; `iptables` takes each of its commands."""
    here, there = pair
    options = "--exclude-outbound", "5432,198.51.100.64/28", "--exclude-user", "33", "--inbound-ports", "80,8000-8010"
    shown = install(here, "--dry-run", "nft", *options).stdout
    assert not here.do(is_there)
    assert here.run(require("nft"), "-f", "-", input=shown).returncode == 0
    by_nft = here.said(require("nft"), "list", "ruleset")
    assert install(here, *options).returncode == 0
    assert here.said(require("nft"), "list", "ruleset") == by_nft
    commands = install(there, "--dry-run", "iptables", *options).stdout
    assert there.run("sh", "-ec", commands).returncode == 0
    with contextlib.ExitStack() as stack:
        captured = listens(stack, there, 15001)
        connects(stack, there, here.v4, 8080)
        accepted(stack, captured)


def test_who_may_not_is_told_what_it_needs(pair: Sequence[Host]) -> None:
    """And nothing has changed."""
    here, _ = pair
    words = "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-m", "sidecar", "capture"
    done = here.run(*words, "install")
    assert done.returncode == 1
    assert "nothing has changed: not allowed: it needs the capability NET_ADMIN" in done.stderr
    assert not here.do(is_there)


def test_command_by_its_own_process(pair: Sequence[Host]) -> None:
    """With no capability but the one that it needs, as another user, on a read-only root: as an init container."""
    here, _ = pair
    words = (
        "setpriv", "--reuid=1337", "--regid=1337", "--clear-groups", "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin", "--bounding-set=-all,+net_admin", "--no-new-privs",
        sys.executable, "-m", "sidecar", "capture", "install",
    )  # fmt: skip
    done = here.run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("captured: outgoing connections by 15001, incoming by 15006; ")


def test_machines_own_network_is_not_captured_by_mistake() -> None:
    """Where it would be everybody's; nothing is tried."""
    done = sidecar_command("capture", "install")
    assert done.returncode == 2
    assert "--host says so" in done.stderr
    done = sidecar_command("capture", "install", "--host")
    assert done.returncode == 2
    assert "--inbound-ports" in done.stderr
