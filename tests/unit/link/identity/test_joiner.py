"""What is asked for when, and what is held meanwhile, over weeks of a clock that the test holds."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace

import pytest

from sidecar.link.identity import joiner as module
from sidecar.link.identity.interfaces import JoinSettings
from sidecar.link.identity.joiner import FINAL_AGAIN_S, LOOK_S, Joiner
from sidecar.link.identity.messages import Joined, JoinRequest, ServiceAccountProof, TokenProof
from sidecar.link.identity.server_trust import ServerTrust
from sidecar.link.transport.http_client import CertificateRefusedError, TransportError, UntrustedError
from sidecar.link.transport.refusal import Refusal
from sidecar.link.transport.server import Server
from sidecar.link.transport.tls import Tls
from tests.support.held_loop import run_held
from tests.unit.link.identity.fakes import (
    DAY,
    EPOCH,
    IDENTITY,
    OTHER_TOKEN,
    TOKEN,
    World,
    pin_of,
    root,
)


def refused(code: str, status: int = 403, retry_after_s: float = 0.0) -> Refusal:
    return Refusal(f"status {status}: no", retry_after_s, False, code)


class TestJoining:
    """Before anything is held."""

    def test_a_token_is_joined_by_at_once(self) -> None:
        """With a request of this service, and nothing of the identity but what the authority says."""
        world = World()
        joiner = world.run(1)
        assert [request.proof for _, _, request in world.asked] == [TokenProof(TOKEN)]
        request = world.asked[0][2]
        assert (request.csr, request.service, request.instance) == ("csr 1", "storefront", "storefront-1")
        assert [(one.identity, one.certificate, one.key) for one in world.told] == [
            (IDENTITY, "leaf 1", "SECRET key 1")
        ]
        assert joiner.why_none() == ""
        assert joiner.report().issuer == "CN=shop issuer"

    def test_a_service_account_is_joined_by(self) -> None:
        """By the file of roots that the machine has: its token has no room for a root."""
        world = World(token="aaa.bbb.ccc")
        world.settings = replace(world.settings, trust_file="/etc/trust.pem")
        world.run(1)
        assert world.asked[0][2].proof == ServiceAccountProof("aaa.bbb.ccc")
        assert not world.trusts
        assert world.told

    def test_only_the_root_that_was_named_is_believed(self) -> None:
        """Of all that the control plane gives for its roots."""
        world = World(roots=root("another") + root())
        world.run(1)
        tls = world.asked[0][1]
        assert isinstance(tls, ServerTrust)
        assert tls._roots == root()
        assert tls._pair is None

    def test_another_root_is_told_nothing(self) -> None:
        """Not even the token: what is there is not the control plane that was meant."""
        world = World(roots=root("another"))
        joiner = world.run(1)
        assert not world.asked
        why = joiner.why_none()
        assert all(word in why for word in (pin_of(root()), pin_of(root("another")), "/run/token"))

    def test_without_a_root_nobody_is_asked(self) -> None:
        """Trust at first sight is none."""
        world = World(token=TOKEN)
        joiner = world.run(1)
        assert not world.asked
        assert "nothing says by which root" in joiner.why_none()

    def test_a_token_file_that_comes_late_is_seen_soon(self) -> None:
        """By who holds nothing."""
        world = World(token=None)

        def appear(joiner: Joiner) -> None:
            assert "/run/token: no such file" in joiner.why_none()
            world.token = f"{TOKEN}#sha256:{pin_of(root())}"

        world.run(100 + LOOK_S + 0.1, (100, appear))
        assert world.told

    @pytest.mark.parametrize("code", sorted(module.FINAL))
    def test_what_is_refused_for_good_is_asked_again_now_and_then(self, code: str) -> None:
        """An operator may change his mind, but a thousand sidecars with an old token are no load."""
        world = World(act=lambda *_: refused(code))
        joiner = world.run(3600)
        assert 6 <= len(world.asked) <= 13
        assert code in joiner.why_none()

    def test_another_token_is_tried_soon(self) -> None:
        """The file is followed."""
        world = World()

        def act(server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
            return world.joined() if request.proof == TokenProof(OTHER_TOKEN) else refused("token_unknown")

        def replaced(_: Joiner) -> None:
            world.token = f"{OTHER_TOKEN}#sha256:{pin_of(root())}"

        world.act = act
        world.run(60 + LOOK_S + 0.1, (60, replaced))
        assert len(world.asked) == 2
        assert world.told

    def test_a_control_plane_that_is_away_is_tried_for_ever(self) -> None:
        """A start waits for it: soon at first, twice a minute in the end."""
        world = World(is_away=True)

        def come_back(_: Joiner) -> None:
            world.is_away = False

        world.run(7200, (7100, come_back))
        assert len(world.trusts) > 200
        assert world.told

    def test_a_busy_one_is_left_alone_for_as_long_as_it_asks(self) -> None:
        """`retry-after`."""
        world = World(act=lambda *_: refused("", 503, 40.0))
        world.run(100)
        assert 2 <= len(world.asked) <= 3

    def test_a_key_is_made_once_for_attempts_that_fail(self) -> None:
        """The same request again: a token for one use is used once, though its answer was lost."""
        answers = iter([TransportError("cut"), TransportError("cut"), None])
        world = World()

        def act(*_: object) -> Joined:
            error = next(answers)
            if error is not None:
                raise error
            return world.joined()

        world.act = act
        world.run(60)
        assert world.keys == 1
        assert {request.csr for _, _, request in world.asked} == {"csr 1"}
        assert len(world.told) == 1

    def test_without_the_process_that_makes_keys_it_says_so(self) -> None:
        """And goes on trying."""
        world = World(key_error="the package `cryptography` is not installed")
        joiner = world.run(30)
        assert joiner.why_none() == "the package `cryptography` is not installed"

    @pytest.mark.parametrize(
        ("found", "said"),
        [("spiffe://other/storefront", "shop"), ("spiffe://shop/search", IDENTITY)],
    )
    def test_an_identity_that_was_not_said_is_not_taken(self, found: str, said: str) -> None:
        """The certificate, the words beside it and the control plane's own trust domain are to be one."""
        world = World()

        def act(*_: object) -> Joined:
            return replace(world.joined(), identity=IDENTITY)

        world.act, world.identity = act, found
        joiner = world.run(1)
        assert not world.told
        assert said in joiner.why_none()

    def test_a_mesh_that_is_not_wanted_is_not_joined(self) -> None:
        """Where the machine's file names the trust domain."""
        world = World()
        world.settings = replace(world.settings, trust_domain="staging")
        joiner = world.run(1)
        assert not world.told
        assert "staging" in joiner.why_none()

    def test_it_cannot_be_joined_in_clear(self) -> None:
        """A token would be everybody's."""

        async def main() -> None:
            world = World()
            with pytest.raises(ValueError, match="https://"):
                Joiner(
                    JoinSettings(("http://control:15010",), "shop"), client=world, maker=world, files=world,  # type: ignore[arg-type]
                    prove=world.prove,
                )  # fmt: skip

        run_held(main())


def test_a_fault_of_ours_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and tried again."""
    world = World()
    faults = iter([True, True, False])

    def act(*_: object) -> Joined:
        if next(faults):
            raise RuntimeError("broken")
        return world.joined()

    world.act = act
    world.run(300)
    assert len(world.asked) == 3
    assert world.told
    assert caplog.text.count("identity_broken") == 2


class TestRenewing:
    """What is held goes on until there is another."""

    @pytest.mark.parametrize(("chance", "part"), [(0.0, 0.9), (0.5, 1.0), (0.999, 1.1)])
    def test_the_first_renewal_is_after_a_day_or_so(self, chance: float, part: float) -> None:
        """With jitter: a fleet that was started together spreads out."""
        world = World(chance=lambda: chance)
        world.run(1.2 * DAY)
        assert world.times()[1] == pytest.approx(part * DAY, rel=0.002)
        assert world.proofs() == ["Token", "Certificate"]
        tls = world.asked[1][1]
        assert isinstance(tls, ServerTrust)
        assert tls._pair == ("leaf 1", "SECRET key 1")
        assert [one.certificate for one in world.told] == ["leaf 1", "leaf 2"]
        assert len({one.key for one in world.told}) == 2

    def test_a_control_plane_may_be_away_for_six_days(self) -> None:
        """It is asked more often near the end, and never all the time."""
        world = World()

        def leave(_: Joiner) -> None:
            world.is_away = True

        def look(joiner: Joiner) -> None:
            assert joiner.held is not None
            world.is_away = False

        joiner = world.run(7.1 * DAY, (0.5 * DAY, leave), (6.99 * DAY, look))
        gaps = [later - earlier for earlier, later in itertools.pairwise(world.missed)]
        assert 150 < len(gaps) < 1000
        assert max(gaps) <= module.next_try(0, 1e9, 99, 1.0) + 30
        assert sum(gaps[-5:]) < sum(gaps[20:25]) / 4
        assert world.told[-1].certificate != "leaf 1"
        assert joiner.held is not None

    def test_after_its_end_its_key_signs_for_it(self) -> None:
        """For seven days."""
        world = World()

        def leave(_: Joiner) -> None:
            world.is_away = True

        def look(joiner: Joiner) -> None:
            assert joiner.held is None
            assert joiner.why_none().startswith("its certificate ended at 2027-01-22T08:00:00Z: no connection")
            assert joiner.shown()["state"] == "expired"
            world.is_away = False

        joiner = world.run(7.2 * DAY, (0.5 * DAY, leave), (7.1 * DAY, look))
        assert world.proofs()[-1] == "Signed"
        assert ("nonce-1", "SECRET key 1") in world.signed
        assert joiner.held is not None

    def test_long_after_its_end_the_token_is_asked_for_again(self) -> None:
        """As if nothing had been held."""
        world = World(is_away=True)

        def come_back(_: Joiner) -> None:
            world.is_away = False

        kept = world.held(not_after_s=EPOCH - 6.9 * DAY, obtained_s=EPOCH - 14 * DAY, renew_after_s=EPOCH - 13 * DAY)
        world.run(0.12 * DAY, (0.11 * DAY, come_back), kept=kept)
        assert world.proofs() == ["Token"]
        assert world.told[-1].certificate != "old leaf"

    def test_a_revoked_certificate_is_not_shown_again_and_again(self) -> None:
        """The token is the next to be asked for."""
        world = World()

        def act(server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
            return world.joined() if isinstance(request.proof, TokenProof) else refused("revoked")

        world.act = act
        world.run(1.1 * DAY)
        assert world.proofs() == ["Token", "Certificate", "Token"]
        assert len(world.told) == 2

    def test_an_authority_that_waits_for_its_operator_is_waited_for(self) -> None:
        """It knows no such root, and issues nothing to anybody meanwhile; what is held goes on."""
        world = World()

        def act(server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
            if len(world.asked) == 1:
                return world.joined()
            return refused("ca_unavailable", 503) if isinstance(request.proof, TokenProof) else refused("root_unknown")

        world.act = act
        joiner = world.run(2 * DAY)
        assert set(world.proofs()[1:]) == {"Certificate", "Token"}
        assert len(world.asked) < 50
        assert joiner.held is not None
        assert len(world.told) == 1

    def test_a_certificate_that_a_handshake_refuses_is_signed_for(self) -> None:
        """As where the other clock is ahead, and it has ended there."""
        world = World()

        def act(server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
            if type(request.proof).__name__ == "CertificateProof":
                raise CertificateRefusedError("it refuses our certificate: certificate expired")
            return world.joined()

        world.act = act
        world.run(1.1 * DAY)
        assert world.proofs() == ["Token", "Certificate", "Signed"]
        assert len(world.told) == 2

    def test_a_replaced_authority_is_joined_where_the_token_file_names_its_root(self) -> None:
        """An operator has put another token there; what is held is of no use any more."""
        world = World()

        def act(server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
            if not isinstance(request.proof, TokenProof):
                raise UntrustedError("its certificate is not trusted: self-signed certificate in certificate chain")
            return world.joined()

        def replaced(_: Joiner) -> None:
            world.roots = root("new")
            world.token = f"{OTHER_TOKEN}#sha256:{pin_of(root('new'))}"

        world.act = act
        world.run(1.1 * DAY, (0.5 * DAY, replaced))
        assert world.proofs() == ["Token", "Certificate", "Token"]
        assert world.times()[2] - 0.5 * DAY <= 61, "long before a renewal is due: until then nothing is heard"
        assert world.told[-1].trust == root("new")

    def test_a_token_that_names_an_unknown_root_is_worth_one_attempt(self) -> None:
        """The control plane may be the old one still, and go on with what it has."""
        world = World()

        def replaced(_: Joiner) -> None:
            world.token = f"{OTHER_TOKEN}#sha256:{pin_of(root('new'))}"

        world.run(0.8 * DAY, (0.5 * DAY, replaced))
        assert world.proofs() == ["Token", "Certificate"]

    def test_one_that_is_not_believed_gets_no_token_for_the_root_that_is_held(self) -> None:
        """Whoever is between is told nothing."""
        world = World()

        def act(server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
            if isinstance(request.proof, TokenProof):
                return world.joined()
            raise UntrustedError("its certificate is not trusted: self-signed certificate in certificate chain")

        world.act = act
        world.run(2 * DAY)
        assert "Token" not in world.proofs()[1:]

    def test_a_new_certificate_that_cannot_be_used_replaces_nothing(self) -> None:
        """It is said, and another is asked for."""
        world = World(bad={"leaf 2": "its key is another's"})
        joiner = world.run(1.001 * DAY)
        assert [one.certificate for one in world.told] == ["leaf 1", "leaf 3"]
        assert joiner.report().last_error == ""

    def test_it_is_renewed_soon_if_somebody_wants_it(self) -> None:
        """Such as for another root."""
        world = World()
        world.run(200, (100, lambda joiner: joiner.renew_soon(10.0)))
        assert world.times() == [0.0, pytest.approx(105.0)]

    def test_its_end_is_told_long_before(self, caplog: pytest.LogCaptureFixture) -> None:
        """At a half of its life, a quarter, ...: once each, and at its end."""
        world = World()

        def leave(_: Joiner) -> None:
            world.is_away = True

        with caplog.at_level(logging.INFO, logger="sidecar.link"):
            world.run(7.01 * DAY, (0.5 * DAY, leave))
        lines = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
        assert [line.split()[0] for line in lines] == ["identity_ends"] * 5 + ["identity_ended"]
        assert "days_left=3.5" in lines[0]


class TestKept:
    """What an earlier process held."""

    def test_it_is_used_with_the_control_plane_away(self) -> None:
        """From the first moment."""
        world = World(is_away=True)
        joiner = world.run(60, kept=world.held())
        assert [one.certificate for one in world.told] == ["old leaf"]
        assert joiner.why_none() == ""
        assert not world.asked

    def test_it_is_renewed_when_it_would_have_been(self) -> None:
        """By the time that the authority said then."""
        world = World()
        world.run(0.6 * DAY, kept=world.held())
        assert world.times() == [pytest.approx(0.5 * DAY)]
        assert world.proofs() == ["Certificate"]

    def test_a_renewal_that_is_overdue_is_not_made_by_all_at_once(self) -> None:
        """A fleet may be started together."""
        firsts = set()
        for chance in (0.1, 0.5, 0.9):
            world = World(chance=lambda chance=chance: chance)  # type: ignore[misc]
            world.run(100, kept=world.held(renew_after_s=EPOCH - DAY / 2))
            firsts.add(round(world.times()[0]))
        assert firsts == {6, 30, 54}

    def test_one_that_has_ended_is_renewed_by_its_key(self) -> None:
        """At once: nothing is held that holds."""
        world = World()
        world.run(
            61, kept=world.held(not_after_s=EPOCH - DAY, renew_after_s=EPOCH - 6 * DAY, obtained_s=EPOCH - 8 * DAY)
        )
        assert world.proofs() == ["Signed"]
        assert world.times() == [0.0]
        assert len(world.told) == 2

    @pytest.mark.parametrize(
        "values",
        [{"not_after_s": EPOCH - 8 * DAY}, {"certificate": "bad"}, {"identity": "spiffe://shop/search"}],
        ids=["too old", "bad", "another's"],
    )
    def test_one_that_is_of_no_use_is_told_and_left(
        self, values: dict[str, object], caplog: pytest.LogCaptureFixture
    ) -> None:
        """And the mesh is joined anew."""
        world = World(bad={"bad": "it leads to no root"})
        with caplog.at_level(logging.INFO, logger="sidecar.link"):
            world.run(1, kept=world.held(**values))
        assert "identity_kept_unusable" in caplog.text
        assert world.proofs() == ["Token"]


def test_nothing_secret_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Not in a line, a page, a report or a `repr`, whatever a server says back."""
    texts: list[str] = []
    world = World()

    def act(server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
        texts.append(repr(request))
        if len(world.asked) == 1:
            return Refusal(f"status 403 Forbidden: {TOKEN} is unknown", code="token_unknown")
        if len(world.asked) == 2:
            raise TransportError(f"no such token: {TOKEN}")
        return world.joined()

    world.act = act

    def look(joiner: Joiner) -> None:
        texts.extend([repr(joiner), repr(joiner.shown()), repr(joiner.report()), joiner.why_none()])

    with caplog.at_level(logging.DEBUG):
        joiner = world.run(DAY / 2, (1, look), (FINAL_AGAIN_S + 1, look))
    look(joiner)
    texts += [caplog.text, repr(world.told), repr(world.told[-1])]
    said = "\n".join(texts)
    assert "[redacted]" in said
    assert TOKEN not in said
    assert "SECRET" not in said
