"""What `sidecar mesh status`, `top` and `wait` make of what a control plane shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.cli.admin_client import AskError
from sidecar.cli.mesh.asking import ControlPlane
from sidecar.cli.mesh.status import written as status
from sidecar.cli.mesh.top import written as top
from sidecar.cli.mesh.wait import judged


def instance(name: str, runs: str = "h2", wanted: int = 2, **values: Any) -> dict[str, Any]:
    return {
        "id": name, "service": "a", "version": "v1", "zone": "", "address": "10.0.0.1", "state": "healthy",
        "connected": True, "config": {"hash": runs, "revision": 2, "since": 990.0, "source": "pushed"},
        "wanted": {"hash": "h2", "revision": wanted}, "refused": None, "endpoints_behind": 0, "problems": [],
        "last_seen": 999.0, **values,
    }  # fmt: skip


def shown(*instances: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {
        "mesh": "shop", "revision": 2, "time": 1000.0, "started": 400.0, "engine": "files",
        "source": {"problems": [], "since": None}, "services": [{"name": "a", "kind": "mesh"}],
        "instances": list(instances), "edges": [], "discovery": [],
        "doubt": {"fresh": 1, "stale": 0, "removing": True}, "rollouts": [], **values,
    }  # fmt: skip


PROBLEM = {"file": "a.yaml", "line": 3, "column": 5, "path": "timeout", "message": "expected x", "hint": "write y"}
REFUSED = {"hash": "h2", "revision": 2, "crashed": False, "problems": [PROBLEM]}


def why(told: dict[str, Any], revision: int = 2) -> list[str]:
    return [one.why for one in judged(told, revision)[0]]


def test_everyone_who_is_connected_is_waited_for() -> None:
    """A lost one, one that drains, and one of a service that is no longer there never block."""
    others = (
        instance("lost", "h1", connected=False),
        instance("drains", "h1", state="draining"),
        instance("gone", "h1", service="b") | {"wanted": None},
    )
    assert judged(shown(instance("x"), *others), 2) == ([], False)
    assert why(shown(instance("x", "h1"))) == ["it runs revision 2"]
    assert why(shown(instance("x", wanted=1))) == ["its wave has not come: it is to run revision 1"]
    assert why(shown(instance("x", "h1", refused=REFUSED))) == ["it refused revision 2: expected x"]
    old = instance("x", "h1", wanted=0) | {"wanted": None, "none": "this sidecar knows language 1: update it"}
    assert why(shown(old)) == ["it gets no file: this sidecar knows language 1: update it"]


def test_revision_that_is_not_there_yet_is_waited_for_and_says_why() -> None:
    """Also that the mesh's files are refused."""
    assert why(shown(), 3) == ["the wanted revision is 2"]
    assert "a.yaml:3" in why(shown(source={"problems": [PROBLEM], "since": 1.0}), 3)[0]


def test_halted_rollout_ends_the_wait() -> None:
    """Waiting would change nothing."""
    halted = {"service": "a", "revision": 2, "state": "halted", "why": "i-1 refused it"}
    missing, is_final = judged(shown(instance("x", "h1"), rollouts=[halted]), 2)
    assert is_final
    assert missing[0].why == "its rollout is halted: i-1 refused it"
    assert judged(shown(rollouts=[{**halted, "revision": 1}]), 2) == ([], False)


def test_status_shows_what_stands_in_the_way() -> None:
    """Problems of the files, refusals, sources that fail, suspended removal."""
    text = status(
        shown(
            instance("x", refused=REFUSED),
            instance("y", connected=False, problems=["ports.http: loopback"]),
            instance("z") | {"wanted": None, "none": "update it"},
            source={"problems": [PROBLEM], "since": 940.0},
            discovery=[{"name": "b", "kind": "file", "error": "no such file"}],
            doubt={"fresh": 1, "stale": 5, "removing": False},
        )
    )
    for part in (
        "a.yaml:3:5: timeout: expected x; write y", "since 1m", "REFUSED 2", "healthy, lost", "NOTHING IS REMOVED",
        "b (file): no such file", "ports.http: loopback", "2 of 3 connected",
        "a/z gets no file: update it",
    ):  # fmt: skip
        assert part in text
    assert "no sidecar is known" in status(shown())


def test_names_of_reports_move_no_terminal() -> None:
    """Escapes are shown, not obeyed."""
    text = status(shown(instance("\x1b[2Jx\n")))
    assert "\x1b" not in text
    assert "\\x1b[2Jx" in text


def test_top_shows_the_busiest_first() -> None:
    """And how many it left out."""
    edge = {"from": "a", "to": "b", "version": "", "success": 0.5, "p50_s": 0.001, "p99_s": None, "failures": {"UH": 2}}
    edges = [{**edge, "route": f"r{number}", "rate": number} for number in range(50)]
    lines = top(shown(edges=edges)).splitlines()
    assert "r49" in lines[3]
    assert "50.00%" in lines[3]
    assert "UH:2" in lines[3]
    assert lines[-1].startswith("and 10 quieter")
    assert "no calls" in top(shown())


def test_status_tells_when_certificates_end() -> None:
    """How long each is good for, and what is to be looked at; nothing of it where nobody has one."""
    good = {"identity": "spiffe://shop/a", "not_after": 1000 + 6 * 86400.0, "warning": None, "trouble": None}
    ends = {**good, "not_after": 1000 + 7200.0, "warning": "its certificate ends in 2h", "trouble": "no answer"}
    over, none = {**ends, "not_after": 900.0}, {**ends, "not_after": None}
    instances = [instance(str(n), certificate=one) for n, one in enumerate((good, ends, over, none, None))]
    text = status(shown(*instances))
    rows = [line.split() for line in text.splitlines() if line.startswith("a ")]
    assert [row[-2] for row in rows] == ["6d", "2h!", "ENDED!", "NONE!", "-"]
    assert "a/1: its certificate ends in 2h" in text
    assert "a/1: no answer" in text
    assert "a/0:" not in text
    assert "CERT" not in status(shown(instance("x", certificate=None)))
    assert "a 7" in status(shown(services=[{"name": "a", "unidentified": 7}, {"name": "b", "unidentified": 0}]))


def test_top_tells_of_connections_that_carry_no_requests() -> None:
    """By connections and octets; where there are requests, too, by those."""
    tcp = {"rate": 0.5, "octet_rate": 2048.0, "connections": 30, "failed": 0, "received_bytes": 1, "sent_bytes": 2}
    edge = {"from": "a", "to": "b", "version": "", "success": None, "p50_s": None, "p99_s": None, "failures": {}}
    edge |= {"rate": 0.0, "requests": 0, "route": "", "tcp": tcp}
    text = top(shown(edges=[edge, {**edge, "rate": 7.0, "requests": 420, "success": 1.0, "route": "r"}]))
    assert "TCP 0.5, 2.0KiB/s" in text.splitlines()[4]
    assert "7.0" in text.splitlines()[3]
    assert "TCP" not in text.splitlines()[3]


def test_top_tells_of_tls_and_of_refusals() -> None:
    """And nothing of both in a mesh in clear."""
    edge = {"from": "a", "to": "b", "version": "", "success": 1.0, "p50_s": 0.001, "p99_s": None, "failures": {}}
    edge |= {"rate": 1.0, "route": "r"}
    clear = top(shown(edges=[{**edge, "tls": "none"}], refused=[]))
    assert clear == top(shown(edges=[edge]))
    assert "TLS" not in clear
    row = {"from": "c", "to": "b", "identity": "spiffe://shop/c", "rule": "callers", "count": 3, "audit": False}
    rows = [row, {**row, "from": "", "identity": "", "count": 9, "audit": True}]
    text = top(
        shown(edges=[{**edge, "tls": "some"}, {**edge, "success": None, "route": "", "tls": None}], refused=rows)
    )
    assert [line.split()[-1] for line in text.splitlines()[2:5]] == ["FAILURES", "-", "some"]
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["(no", "identity)", "b", "callers", "would", "be", "9"], ["c", "b", "callers", "is", "3", "spiffe://shop/c"],
    ]  # fmt: skip
    assert "(no identity)" in top(shown(refused=rows))


def test_wrong_urls_and_tokens_are_told(tmp_path: Path) -> None:
    """Before anything is asked."""
    for url in ("", "nowhere", "ftp://x", "http://", "http://x:y"):
        with pytest.raises(AskError, match="expected a URL"):
            ControlPlane(url)
    with pytest.raises(AskError, match="no such file"):
        ControlPlane("http://x", str(tmp_path / "none"))
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(AskError, match="expected a token"):
        ControlPlane("http://x", str(tmp_path / "empty"))
    with pytest.raises(AskError, match="no answer from"):
        ControlPlane("http://127.0.0.1:9,http://127.0.0.1:9").get("/v1/mesh")
