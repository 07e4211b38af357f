"""How often a session may be looked at, on Pythons where each look costs memory for good and on others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sidecar.net.tls.tickets import LOSES_MEMORY, MAX_LOSING_LOOKS, Looks
from tests.support.certificates import Authority


def test_elsewhere_each_connection_looks() -> None:
    """As often as it wants: no two share a session."""
    looks = Looks(loses_memory=False)
    assert all(looks.may_look(is_resumed) for is_resumed in (True, False) for _ in range(2 * MAX_LOSING_LOOKS))


def test_where_memory_is_lost_a_session_serves_again_and_looks_are_bounded() -> None:
    """Only after a whole handshake, and only so often in a process."""
    looks = Looks(loses_memory=True)
    assert not looks.may_look(True)
    assert [looks.may_look(False) for _ in range(MAX_LOSING_LOOKS + 2)] == [True] * MAX_LOSING_LOOKS + [False] * 2
    assert not looks.may_look(True)


LOSS = """
import ssl, sys
from pathlib import Path
folder = sys.argv[1]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(folder + "/tls.crt", folder + "/tls.key")
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
for end in ends * 2:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        pass
def data_kib():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
for _ in range(200):
    ends[0].session
before = data_kib()
for _ in range(2000):
    ends[0].session
print(data_kib() - before)
"""


def test_this_python_is_taken_for_what_it_is(tmp_path: Path) -> None:
    """Two thousand looks lose eleven megabytes where the version says so, and nothing where it does not."""
    Authority("root").workload("spiffe://shop/a").write(tmp_path)
    command = [sys.executable, "-c", LOSS, str(tmp_path)]
    lost_kib = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert (lost_kib > 5000) == LOSES_MEMORY, lost_kib
