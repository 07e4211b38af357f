"""What a process has of certificates, while files change, sources hand over, and time goes by."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.net.tls.settings import (
    ClearRule,
    ControlIdentity,
    FilesIdentity,
    MeshTls,
    OutsideTls,
    Pair,
    ServerTls,
    WorkloadTls,
)
from sidecar.security.identity import holder as holder_module
from sidecar.security.identity.certificates.credentials import Material
from sidecar.security.identity.certificates.trouble import Trouble
from sidecar.security.identity.holder import Identity
from sidecar.security.identity.numbers import expiries, rotations, troubles
from sidecar.security.identity.shown import certs, status
from tests.support.certificates import DAY, FOR_CLIENTS, FOR_SERVERS, HOUR, NOW, Authority, Leaf

STOREFRONT = "spiffe://shop/storefront"
ROOT = Authority("shop root")
ISSUER = ROOT.authority("shop issuer")

MESH = MeshTls("permissive")
SEARCH = WorkloadTls(("spiffe://shop/search",))


class World:
    """A folder, a clock, and who follows certificates in it."""

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self.folder = folder
        self.now_s: float = NOW
        self.identity = Identity(lambda: int(self.now_s * 1e9), machine_trust="")
        self._runner = runner

    def write(self, leaf: Leaf | None = None, trust: bytes | None = None) -> None:
        """The workload's own files."""
        if leaf is not None:
            leaf.write(self.folder)
        if trust is not None:
            (self.folder / "ca.crt").write_bytes(trust)

    @property
    def source(self) -> FilesIdentity:
        """Of the workload's own files."""
        return FilesIdentity(self.pair("tls"), str(self.folder / "ca.crt"))

    def pair(self, name: str) -> Pair:
        """Two files of this name."""
        return Pair(str(self.folder / f"{name}.crt"), str(self.folder / f"{name}.key"))

    def look(self, times: int = 1, after_s: float = 2.0) -> None:
        """So many looks, each so much later."""
        for _ in range(times):
            self.now_s += after_s
            self._runner.run(self.identity.look())

    def settle(self) -> list[Trouble]:
        """As a reload does before its swap."""
        return self._runner.run(self.identity.settle(600.0))

    def offer(self, leaf: Leaf, trust: bytes | None = None) -> Trouble | None:
        """As the control plane's part does."""
        trust = ROOT.pem if trust is None else trust
        material = Material(leaf.chain_pem, leaf.key_pem, trust, "its answer", "here", "its answer", NOW + DAY)
        return self._runner.run(self.identity.offer(material))

    @property
    def trouble(self) -> Trouble | None:
        """Of the workload's own."""
        return self.identity.workload.trouble


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that others keep busy is no mount that hangs."""
    monkeypatch.setattr(holder_module, "SLOW_S", 600.0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """With nothing yet."""
    with asyncio.Runner() as runner:
        yield World(tmp_path, runner)


@pytest.fixture
def mesh(world: World) -> World:
    """With the files of a storefront, read."""
    world.write(ISSUER.workload(STOREFRONT), ROOT.pem)
    world.identity.configure(world.source)
    assert world.settle() == []
    return world


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    """Events from this level on, each by its name."""
    found = [record.getMessage().split(" ")[0] for record in caplog.records if record.levelno >= level]
    caplog.clear()
    return found


class TestFilesOfAWorkload:
    """Followed, proved, and only then put in the place of what is held."""

    def test_sides_get_contexts_before_or_after_the_first_read(self, mesh: World) -> None:
        """Whoever is made later has one at once."""
        server, client = mesh.identity.server_side("in", MESH), mesh.identity.client_side("search", SEARCH)
        assert (server.version, client.version, server.trust_domain) == (1, 1, "shop")
        assert server.context is not None
        assert client.context is not None
        assert client.identities == frozenset(["spiffe://shop/search"])

    def test_nothing_is_shown_before_there_is_something(self, world: World) -> None:
        """And the side says what is missing; when it comes, it is taken."""
        world.identity.configure(world.source)
        server = world.identity.server_side("in", MESH)
        assert [one.code for one in world.settle()] == ["unreadable"]
        assert server.context is None
        assert server.why_none.endswith("tls.crt: no such file or directory")
        assert world.identity.why_not_ready() == f"no identity yet: {server.why_none}"
        world.write(ISSUER.workload(STOREFRONT), ROOT.pem)
        world.look()
        assert server.version == 1
        assert world.identity.why_not_ready() is None
        assert world.trouble is None

    def test_a_rotation_replaces_all_contexts_of_the_mesh(self, mesh: World, caplog: pytest.LogCaptureFixture) -> None:
        """Each side has another, and sessions of before are gone with it."""
        server, client = mesh.identity.server_side("in", MESH), mesh.identity.client_side("search", SEARCH)
        before = server.context, client.context
        mesh.write(ISSUER.workload(STOREFRONT))
        caplog.set_level(logging.INFO)
        mesh.look()
        assert server.version == 1
        mesh.look()
        assert (server.version, client.version) == (2, 2)
        assert server.context not in before
        assert client.context not in before
        assert lines(caplog) == ["certificate_replaced"]
        assert rotations(mesh.identity)["identity", "replaced"] == 1
        mesh.look(3)
        assert server.version == 2

    @pytest.mark.parametrize(
        ("break_it", "code"),
        [
            (lambda at: (at / "tls.key").write_bytes(ISSUER.workload(STOREFRONT).key_pem), "key_mismatch"),
            (lambda at: (at / "tls.crt").write_bytes((at / "tls.crt").read_bytes()[:-50]), "half_written"),
            (lambda at: (at / "tls.key").write_bytes(b""), "malformed"),
            (lambda at: (at / "ca.crt").unlink(), "unreadable"),
            (lambda at: (at / "ca.crt").write_bytes(Authority("other").pem), "untrusted"),
            (lambda at: ISSUER.workload(STOREFRONT, begins=NOW - 2 * HOUR, ends=NOW - HOUR).write(at), "expired"),
            (lambda at: ISSUER.workload(STOREFRONT, begins=NOW + DAY).write(at), "not_yet_valid"),
            (lambda at: ISSUER.workload("spiffe://shop/a", "spiffe://shop/b").write(at), "several_identities"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_used_changes_nothing_and_is_told(
        self, mesh: World, break_it: Callable[[Path], object], code: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """In the log once, by a metric, on the page, and to the control plane; what comes next is taken."""
        server = mesh.identity.server_side("in", MESH)
        held = mesh.identity.credentials
        break_it(mesh.folder)
        mesh.look(5)
        assert (server.version, mesh.identity.credentials) == (1, held)
        assert lines(caplog, logging.WARNING) == ["certificate_refused"]
        assert (troubles(mesh.identity), rotations(mesh.identity)["identity", "refused"]) == ({("identity",): 1}, 1)
        assert certs(mesh.identity, mesh.now_s)["identity"]["last_error"]["code"] == code  # type: ignore[index]
        assert status(mesh.identity, mesh.now_s)["trouble"]["code"] == code  # type: ignore[index]
        assert mesh.identity.why_not_ready() is None
        mesh.write(ISSUER.workload(STOREFRONT), ROOT.pem)
        caplog.set_level(logging.INFO)
        mesh.look(2)
        assert (server.version, mesh.trouble) == (2, None)
        assert sorted(lines(caplog)) == ["certificate_replaced", "certificate_trouble_over"]

    def test_trouble_is_told_again_once_a_day(self, mesh: World, caplog: pytest.LogCaptureFixture) -> None:
        """Until somebody does something."""
        (mesh.folder / "tls.key").write_bytes(b"")
        mesh.look(3)
        assert lines(caplog) == ["certificate_refused"]
        mesh.look(4, after_s=DAY / 4)
        assert lines(caplog) == ["certificate_refused"]

    def test_a_file_that_is_away_for_a_while_does_not_hide_what_was_wrong(self, mesh: World) -> None:
        """When it is back, it is as bad as it was."""
        (mesh.folder / "tls.key").write_bytes(b"")
        mesh.look(2)
        bad = mesh.trouble
        (mesh.folder / "ca.crt").unlink()
        mesh.look(2)
        assert mesh.trouble is not None
        assert mesh.trouble.code == "unreadable"
        mesh.write(trust=ROOT.pem)
        mesh.look(2)
        assert mesh.trouble == bad

    def test_one_that_begins_soon_is_taken_when_it_does(self, mesh: World, caplog: pytest.LogCaptureFixture) -> None:
        """Though its file does not change again; until then the clocks are blamed."""
        server = mesh.identity.server_side("in", MESH)
        mesh.write(ISSUER.workload(STOREFRONT, begins=NOW + 300))
        mesh.look(2)
        assert mesh.trouble is not None
        assert "NTP" in mesh.trouble.text
        assert mesh.trouble.until_s == NOW + 300
        mesh.look(after_s=200)
        assert server.version == 1
        mesh.look(after_s=100)
        assert (server.version, mesh.trouble) == (2, None)

    def test_what_is_held_is_told_while_it_comes_to_its_end(
        self, mesh: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """At each change and once a day; when it is over the process is not ready, and goes on."""
        server = mesh.identity.server_side("in", MeshTls("strict"))
        mesh.look(19, after_s=DAY / 4)  # 4.75 days after it began: two thirds of seven days are over
        assert lines(caplog) == ["certificate_renewal_overdue"]
        mesh.look(2, after_s=DAY / 4)
        assert lines(caplog) == ["certificate_ends_soon"]
        mesh.look(7, after_s=DAY / 4)
        assert lines(caplog) == ["certificate_ends_soon", "certificate_expired"]
        assert server.context is not None
        why = mesh.identity.why_not_ready()
        assert why is not None
        assert why.startswith("no identity any more: spiffe://shop/storefront ended at ")
        mesh.write(ISSUER.workload(STOREFRONT, begins=mesh.now_s, ends=mesh.now_s + 7 * DAY))
        mesh.look(2)
        assert mesh.identity.why_not_ready() is None

    def test_an_identity_that_has_ended_turns_nobody_away_who_never_needed_it(self, mesh: World) -> None:
        """As long as a listener takes what comes in clear the process is ready."""
        mesh.identity.server_side("in", MeshTls("strict"))
        mesh.identity.server_side("other", MESH)
        mesh.look(after_s=8 * DAY)
        assert certs(mesh.identity, mesh.now_s)["identity"]["life"] == "expired"  # type: ignore[index]
        assert mesh.identity.why_not_ready() is None

    def test_names_that_are_no_text_are_told(self, mesh: World) -> None:
        """What is inside a certificate is somebody else's; here a URI that is not UTF-8."""
        leaf = ISSUER.workload(STOREFRONT)
        der = ssl.PEM_cert_to_DER_cert(leaf.pem.decode()).replace(b"storefront", b"storefr\xff\xfet")
        leaf.write(mesh.folder)
        (mesh.folder / "tls.crt").write_text(ssl.DER_cert_to_PEM_cert(der))
        mesh.look(2)
        assert mesh.trouble is not None
        assert mesh.trouble.code == "malformed"

    def test_ends_of_leaf_issuer_and_root_are_numbers(self, mesh: World) -> None:
        """For metrics, by what they are."""
        assert expiries(mesh.identity) == {
            ("identity", "", "leaf"): NOW + 7 * DAY,
            ("identity", "", "issuer"): NOW + 90 * DAY,
            ("identity", "", "root"): NOW + 3650 * DAY,
        }

    def test_the_trust_domain_that_is_wanted_must_be_it(self, world: World) -> None:
        """A plan may say which."""
        world.write(ISSUER.workload(STOREFRONT), ROOT.pem)
        world.identity.configure(world.source, "bank")
        assert [one.code for one in world.settle()] == ["other_trust_domain"]
        world.identity.configure(world.source, "shop")
        assert world.settle() == []

    def test_another_source_replaces_what_is_held_once_it_is_good(self, mesh: World) -> None:
        """A reload that names other files."""
        server = mesh.identity.server_side("in", MESH)
        mesh.identity.configure(FilesIdentity(mesh.pair("other"), mesh.source.trust))
        mesh.look(2)
        assert (server.version, mesh.trouble is not None) == (1, True)
        ISSUER.workload("spiffe://shop/other").write(mesh.folder, "other.crt", "other.key")
        mesh.look(2)
        assert server.version == 2
        assert mesh.identity.credentials is not None
        assert mesh.identity.credentials.identity == "spiffe://shop/other"

    def test_what_is_staged_changes_nothing_before_it_is_adopted(
        self, mesh: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nothing of it is shown, counted, told or waited for; then it is there at once, without another look."""
        caplog.set_level(logging.INFO)
        identity = mesh.identity
        ISSUER.workload("spiffe://shop/other").write(mesh.folder, "other.crt", "other.key")
        ROOT.leaf(["shop.example"]).write(mesh.folder, "a.crt", "a.key")
        other = FilesIdentity(mesh.pair("other"), mesh.source.trust)
        listeners = [("mesh", MeshTls("permissive")), ("outside", OutsideTls((mesh.pair("a"),)))]
        upstreams = [("anybody", ServerTls(is_verified=False)), ("catalog", WorkloadTls(("spiffe://shop/catalog",)))]
        before, server = identity.credentials, identity.server_side("mesh", MeshTls("permissive"))
        caplog.clear()

        staged = identity.stage(other, "", listeners, upstreams)
        assert asyncio.run(staged.settle(600.0)) == []
        assert identity.credentials is before
        assert (identity.source, identity.kept, identity.rotations) == (mesh.source, (identity.workload,), {})
        assert (server.version, identity.unverified, lines(caplog)) == (1, (), [])

        identity.adopt(staged, other, "")
        assert (server.version, server.identity) == (2, "spiffe://shop/other")
        assert identity.rotations == {("identity", "replaced"): 1}
        assert identity.unverified == ("anybody",)
        assert set(lines(caplog)) >= {"certificate_replaced", "certificate_loaded", "upstream_not_verified"}
        outside, catalog = identity.side_of(*listeners[1]), identity.client_side(*upstreams[1])
        assert outside is not None
        assert outside.context is not None
        assert catalog.context is not None
        versions = [side.version for side in (server, outside, catalog)]
        mesh.look()
        assert [side.version for side in (server, outside, catalog)] == versions

    def test_without_a_source_nothing_is_held(self, mesh: World) -> None:
        """Nor shown, nor missed."""
        mesh.identity.configure(None)
        assert mesh.identity.credentials is None
        assert status(mesh.identity, NOW) is None
        assert certs(mesh.identity, NOW)["identity"] is None
        assert mesh.identity.why_not_ready() is None

    def test_no_exit_shows_a_key(self, mesh: World, caplog: pytest.LogCaptureFixture) -> None:
        """Neither page, nor line, nor text of an object."""
        caplog.set_level(logging.DEBUG)
        mesh.write(ISSUER.workload(STOREFRONT))
        mesh.look(2)
        secret = (mesh.folder / "tls.key").read_text().splitlines()[1]
        (mesh.folder / "tls.key").write_text((mesh.folder / "tls.key").read_text()[:-40])
        mesh.look(2)
        shown = [certs(mesh.identity, NOW), status(mesh.identity, NOW), mesh.identity.workload.made, caplog.text]
        assert "half_written" in caplog.text
        for one in shown:
            assert secret not in repr(one)
            assert "PRIVATE KEY-----" not in repr(one)


class TestHandedOver:
    """By the control plane or an agent."""

    def test_what_is_handed_over_is_proved_and_taken(self, world: World) -> None:
        """And asked for renewal as its source says."""
        world.identity.configure(ControlIdentity())
        server = world.identity.server_side("in", MESH)
        world.look()
        assert world.identity.why_not_ready() == "no identity yet"
        assert world.offer(ISSUER.workload(STOREFRONT)) is None
        assert (server.version, world.identity.why_not_ready()) == (1, None)
        ends = certs(world.identity, NOW)["identity"]["ends"]  # type: ignore[index]
        assert [one["renew_after"] is not None for one in ends] == [True, False, False]
        world.look(3)
        assert server.version == 1

    def test_what_was_handed_over_is_held_again_when_it_is_wanted_again(self, world: World) -> None:
        """A file that leaves `identity` out for a while does not cost it until the next renewal."""
        world.identity.configure(ControlIdentity())
        assert world.offer(ISSUER.workload(STOREFRONT)) is None
        world.identity.configure(None)
        assert world.identity.credentials is None
        world.identity.configure(ControlIdentity())
        assert world.settle() == []
        assert world.identity.credentials is not None

    def test_what_is_wrong_is_told_to_who_handed_it_over(self, world: World) -> None:
        """And what was good goes on."""
        world.identity.configure(ControlIdentity(), "shop")
        server = world.identity.server_side("in", MESH)
        world.offer(ISSUER.workload(STOREFRONT))
        wrong = world.offer(ISSUER.workload("spiffe://bank/storefront"))
        assert wrong is not None
        assert (wrong.code, wrong == world.trouble, server.version) == ("other_trust_domain", True, 1)
        assert world.offer(ISSUER.workload(STOREFRONT)) is None
        assert server.version == 2

    def test_one_that_begins_soon_is_taken_when_it_does(self, world: World) -> None:
        """The control plane's clock is ahead of ours."""
        world.identity.configure(ControlIdentity())
        wrong = world.offer(ISSUER.workload(STOREFRONT, begins=NOW + 60))
        assert wrong is not None
        assert wrong.code == "not_yet_valid"
        world.look(after_s=30)
        assert world.identity.credentials is None
        world.look(after_s=30)
        assert world.identity.credentials is not None

    def test_a_root_is_rotated_by_three_pushes(self, world: World) -> None:
        """Both are believed, then the new one signs, then the old one goes: each is taken."""
        world.identity.configure(ControlIdentity())
        server = world.identity.server_side("in", MESH)
        new = Authority("shop root")
        old_leaf, new_leaf = ISSUER.workload(STOREFRONT), new.workload(STOREFRONT)
        steps = [
            (old_leaf, ROOT.pem),
            (old_leaf, ROOT.pem + new.pem),
            (new_leaf, ROOT.pem + new.pem),
            (new_leaf, new.pem),
        ]
        for leaf, trust in steps:
            assert world.offer(leaf, trust) is None
        assert server.version == 4
        wrong = world.offer(old_leaf, new.pem)  # skipping a step is refused before any peer does
        assert wrong is not None
        assert wrong.code == "untrusted"

    def test_a_source_without_an_answer_is_told(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        """By who asked it."""
        world.identity.configure(ControlIdentity())
        world.identity.source_failed("no control plane answers; the last one said: 503")
        assert world.identity.server_side("in", MESH).why_none == "no control plane answers; the last one said: 503"
        assert lines(caplog) == ["certificate_refused"]
        assert world.identity.why_not_ready() == "no identity yet: no control plane answers; the last one said: 503"
        world.look(2)
        assert lines(caplog) == []


class TestSides:
    """What listeners and upstreams read."""

    @pytest.mark.parametrize(
        ("settings", "takes_clear", "is_strict"),
        [
            (MeshTls("permissive"), True, False),
            (MeshTls("strict"), False, True),
            (MeshTls("strict", (ClearRule(paths=("/ready",)),)), True, True),
        ],
    )
    def test_what_is_taken_in_clear(self, world: World, settings: MeshTls, takes_clear: bool, is_strict: bool) -> None:
        """As the mode says."""
        side = world.identity.server_side("in", settings)
        assert (side.is_mesh, side.takes_clear, side.is_strict) == (True, takes_clear, is_strict)

    def test_a_reload_keeps_the_sides_of_what_is_the_same(self, mesh: World) -> None:
        """And makes others beside them for what is not, until the swap."""
        same, calling = mesh.identity.server_side("in", MESH), mesh.identity.client_side("search", SEARCH)
        strict = mesh.identity.server_side("in", MeshTls("strict"))
        assert mesh.identity.server_side("in", MESH) is same
        assert mesh.identity.server_side("other", MESH) is not same
        assert mesh.identity.client_side("search", SEARCH) is calling
        mesh.identity.keep_only([("in", MeshTls("strict"))], [])
        mesh.write(ISSUER.workload(STOREFRONT))
        mesh.look(2)
        assert (same.version, calling.version, strict.version) == (1, 1, 2)


class TestOutside:
    """Files of listeners and upstreams for outside are followed alike."""

    def test_a_listener_shows_its_own_and_follows_it(self, world: World) -> None:
        """Replaced when it is good."""
        ROOT.leaf(["shop.example"]).write(world.folder, "a.crt", "a.key")
        settings = OutsideTls((world.pair("a"),))
        side = world.identity.server_side("web", settings)
        assert world.identity.why_not_ready() == "no certificate for the listener web yet"
        assert world.settle() == []
        assert (side.is_mesh, side.version, world.identity.why_not_ready()) == (False, 1, None)
        (world.folder / "a.crt").write_bytes(b"")
        world.look(2)
        assert side.version == 1
        ROOT.leaf(["shop.example"]).write(world.folder, "a.crt", "a.key")
        world.look(2)
        assert side.version == 2
        (shown,) = certs(world.identity, NOW)["listeners"]  # type: ignore[misc]
        assert (shown["of"], shown["life"], shown["replaced"], shown["refused"]) == (["web"], "fine", 1, 1)

    def test_one_that_has_ended_is_shown_if_there_is_no_other(self, world: World) -> None:
        """Whoever comes learns more by it than by none; one that is good is not replaced by it."""
        ended = ROOT.leaf(["shop.example"], begins=NOW - 9 * DAY, ends=NOW - DAY)
        ended.write(world.folder, "a.crt", "a.key")
        side = world.identity.server_side("web", OutsideTls((world.pair("a"),)))
        assert [one.code for one in world.settle()] == ["expired"]
        assert side.version == 1
        ROOT.leaf(["shop.example"]).write(world.folder, "a.crt", "a.key")
        world.look(2)
        assert side.version == 2
        ended.write(world.folder, "a.crt", "a.key")
        world.look(2)
        assert side.version == 2

    def test_keys_of_tickets_of_1_2_live_for_a_day(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        """A context that stays for months would open all that was recorded meanwhile; it is no rotation."""
        ROOT.leaf(["shop.example"], ends=NOW + 60 * DAY).write(world.folder, "a.crt", "a.key")
        old = world.identity.server_side("old", OutsideTls((world.pair("a"),), min_version="1.2"))
        new = world.identity.server_side("new", OutsideTls((world.pair("a"),)))
        world.settle()
        caplog.set_level(logging.INFO)
        caplog.clear()
        world.look(5, after_s=DAY / 4)
        assert (old.version, new.version) == (2, 1)
        assert rotations(world.identity) == {}
        assert lines(caplog) == []

    def test_upstreams_of_equal_trust_share_a_context_and_nothing_else(self, world: World) -> None:
        """A context with the roots of a machine takes a megabyte; sessions are each upstream's own."""
        world.write(trust=ROOT.pem)
        trust = str(world.folder / "ca.crt")
        one = world.identity.client_side("a", ServerTls("a.example", trust))
        other = world.identity.client_side("b", ServerTls("b.example", trust))
        same = world.identity.client_side("c", ServerTls("a.example", trust))
        assert world.settle() == []
        assert one.context is other.context is same.context is not None
        assert len({id(side) for side in (one, other, same)}) == 3
        assert (one.server_name, other.server_name) == ("a.example", "b.example")
        assert [shown["of"] for shown in certs(world.identity, NOW)["upstreams"]] == [["a", "b", "c"]]  # type: ignore[attr-defined]

    def test_of_several_certificates_of_a_listener_the_first_end_is_a_number(self, world: World) -> None:
        """One series for each listener, whatever it shows; what it counted stays when it goes."""
        for name, days in (("a", 40), ("b", 20)):
            ROOT.leaf([f"{name}.example"], ends=NOW + days * DAY).write(world.folder, f"{name}.crt", f"{name}.key")
        settings = OutsideTls((world.pair("a"), world.pair("b")))
        for name in ("web", "other"):
            world.identity.server_side(name, settings)
        world.settle()
        end = NOW + 20 * DAY
        assert expiries(world.identity) == {("listener", "web", "leaf"): end, ("listener", "other", "leaf"): end}
        ROOT.leaf(["a.example"]).write(world.folder, "a.crt", "a.key")
        world.look(2)
        world.identity.keep_only([], [])
        assert (expiries(world.identity), rotations(world.identity)) == ({}, {("listener", "replaced"): 1})

    def test_a_machine_without_roots_says_so(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        """A container from scratch; what is not verified needs none."""
        world.identity.client_side("a", ServerTls())
        unverified = world.identity.client_side("b", ServerTls(is_verified=False))
        assert ["no file of roots" in one.text for one in world.settle()] == [True]
        assert unverified.version == 1
        assert world.identity.unverified == ("b",)
        assert world.identity.why_not_ready() is None

    @pytest.mark.parametrize("is_server", [True, False])
    def test_a_certificate_for_the_other_part_is_refused(self, world: World, is_server: bool) -> None:
        """Which peers would do."""
        wrong = ROOT.leaf(["shop.example"], uses=[FOR_CLIENTS if is_server else FOR_SERVERS])
        wrong.write(world.folder, "a.crt", "a.key")
        world.write(trust=ROOT.pem)
        if is_server:
            world.identity.server_side("web", OutsideTls((world.pair("a"),)))
        else:
            world.identity.client_side("api", ServerTls(trust=str(world.folder / "ca.crt"), pair=world.pair("a")))
        assert [one.code for one in world.settle()] == ["wrong_purpose"]


class TestSlow:
    """A mount that hangs."""

    def test_a_mount_that_hangs_is_told_and_holds_nobody_else(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What its look comes to in the end is taken."""
        monkeypatch.setattr(holder_module, "SLOW_S", 0.0)
        go_on = threading.Event()
        ROOT.leaf(["shop.example"]).write(world.folder, "a.crt", "a.key")
        hanging = world.identity.server_side("web", OutsideTls((world.pair("a"),)))
        kept = world.identity.kept[0]
        assert kept.files is not None
        monkeypatch.setattr(kept, "files", _Hanging(kept.files, go_on))
        world.look(3)
        assert hanging.context is None
        assert "not read within" in hanging.why_none
        assert lines(caplog) == ["certificate_refused"]
        monkeypatch.setattr(holder_module, "SLOW_S", 600.0)
        other = world.identity.client_side("b", ServerTls(is_verified=False))
        world.look()
        assert (hanging.version, other.version) == (0, 1)
        go_on.set()
        while hanging.context is None:
            world.look()
        assert kept.trouble is None

    def test_a_process_without_descriptors_tries_again(self, mesh: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """What could not be loaded has not been judged."""
        server = mesh.identity.server_side("in", MESH)
        mesh.write(ISSUER.workload(STOREFRONT))

        def none_left(name: str) -> int:
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as without:
            without.setattr(os, "memfd_create", none_left)
            mesh.look(3)
            assert mesh.trouble is not None
            assert mesh.trouble.text == "cannot load a key now, and try again: too many open files"
        mesh.look()
        assert (server.version, mesh.trouble) == (2, None)


class _Hanging:
    """Files on a mount that answers later."""

    def __init__(self, files: object, go_on: threading.Event) -> None:
        self._files, self._go_on = files, go_on

    def look(self, now_ns: int) -> object:
        self._go_on.wait()
        return self._files.look(now_ns)  # type: ignore[attr-defined]

    @property
    def paths(self) -> object:
        return self._files.paths  # type: ignore[attr-defined]
