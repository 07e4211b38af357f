"""What is stored of the authority, and the steps by which it changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.control.authority import authority as authorities
from sidecar.control.authority import certificates as pki
from sidecar.control.authority import record as steps
from sidecar.control.authority.authority import Authority, NoAuthority
from sidecar.control.authority.record import AuthorityError, Record
from sidecar.control.engines.interface import Unavailable, Versioned
from sidecar.control.engines.secrets.disk import MemorySecrets
from tests.support.authority import BEGAN_S, DAY_S, Clock, new_key
from tests.unit.control.authority.test_certificates import leaf_of, openssl_verify, read


def made(now_s: float = BEGAN_S) -> Record:
    return steps.made("shop", now_s)


def is_trusted(folder: Path, leaf: str, shown: Record, by: str, at_s: float = BEGAN_S) -> bool:
    """Whether a peer with these roots takes a leaf with what this record shows besides."""
    return openssl_verify(folder, by, shown.intermediate.certificate, leaf, "sslclient", at_s) == ""


class TestStored:
    """One value, of which nothing is lost."""

    def test_record_comes_back_as_it_was_written(self) -> None:
        """With keys, steps under way and a hold."""
        record = steps.with_next_root(made(), BEGAN_S + 1)
        record = steps.held_for(record, steps.Held("ab" * 32, "CN=old", "spiffe://shop/a", BEGAN_S))
        assert steps.read_record(steps.written(record)) == record

    def test_repr_shows_no_key(self) -> None:
        """Whatever logs it."""
        record = made()
        assert "PRIVATE KEY" not in repr(record)
        assert record.nonce_key not in repr(record)

    @pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"trust_domain": "shop", "created": 1, "roots": []}'])
    def test_damaged_record_is_refused(self, raw: bytes) -> None:
        """And not taken for none."""
        with pytest.raises(AuthorityError, match="cannot be used"):
            steps.read_record(raw)


class TestIntermediate:
    """90 days, renewed by itself."""

    def test_it_is_renewed_when_half_of_its_life_is_left(self) -> None:
        """Long before a leaf of 30 days would be cut short."""
        record = made()
        assert not steps.is_due(record, BEGAN_S + 44 * DAY_S)
        assert steps.is_due(record, BEGAN_S + 46 * DAY_S)
        renewed = steps.renewed(record, BEGAN_S + 46 * DAY_S)
        assert pki.ends(renewed.intermediate.own) == BEGAN_S + 136 * DAY_S
        assert renewed.signing == record.signing

    def test_one_that_was_given_is_not_renewed_here(self) -> None:
        """Its root's key is elsewhere."""
        outside = made()
        given = steps.given("shop", outside.intermediate.certificate, outside.intermediate.key, outside.trust, BEGAN_S)
        assert not given.root.key
        assert not steps.is_due(given, BEGAN_S + 80 * DAY_S)
        later = steps.renewed(outside, BEGAN_S + 80 * DAY_S)
        again = steps.given_again(given, later.intermediate.certificate, later.intermediate.key, BEGAN_S + 80 * DAY_S)
        assert again.intermediate.fingerprint == later.intermediate.fingerprint

    def test_one_whose_root_has_ended_is_not_renewed(self) -> None:
        """What it would sign had ended before it began: such a certificate cannot be made."""
        record, late_s = made(), BEGAN_S + 3651 * DAY_S
        assert not steps.is_due(record, late_s)
        assert steps.is_due(record, BEGAN_S + 3649 * DAY_S)

    def test_what_does_not_belong_together_is_not_taken(self) -> None:
        """Wrong key, wrong root, no authority, ended."""
        one, other = made(), made()
        chain, key, trust = one.intermediate.certificate, one.intermediate.key, one.trust
        with pytest.raises(AuthorityError, match="the key is not the certificate's"):
            steps.given("shop", chain, other.intermediate.key, trust, BEGAN_S)
        with pytest.raises(AuthorityError, match="does not chain"):
            steps.given("shop", chain, key, other.trust, BEGAN_S)
        with pytest.raises(AuthorityError, match="may not sign others"):
            steps.given("shop", leaf_of(one), pki.text_of_key(new_key()), trust, BEGAN_S)
        with pytest.raises(AuthorityError, match="holds from"):
            steps.given("shop", chain, key, trust, BEGAN_S + 91 * DAY_S)


class TestRotation:
    """Three steps, in none of which a peer refuses another (mesh.md, section 7)."""

    def test_at_every_step_everybody_takes_everybody(self, tmp_path: Path) -> None:
        """Also who has renewed nothing since, until the old root goes."""
        old = made()
        added = steps.with_next_root(old, BEGAN_S + DAY_S)
        signing = steps.signing_by_next(added, BEGAN_S + DAY_S, is_now=False)
        dropped = steps.without_root(signing, "", {}, BEGAN_S)
        at_s = BEGAN_S + 2 * DAY_S
        leaves = {name: leaf_of(one) for name, one in (("old", old), ("added", added), ("signing", signing))}
        shown = {"old": old, "added": added, "signing": signing}
        for leaf in leaves:
            for by in (old, added, signing):
                assert is_trusted(tmp_path, leaves[leaf], shown[leaf], by.trust, at_s), (leaf, by)
        assert is_trusted(tmp_path, leaves["signing"], dropped, dropped.trust, at_s)
        assert not is_trusted(tmp_path, leaves["old"], old, dropped.trust, at_s)
        assert len(dropped.intermediate.chain) == 1

    def test_renewed_intermediate_still_shows_what_the_old_root_signed(self, tmp_path: Path) -> None:
        """A rotation may take long."""
        old = made()
        signing = steps.signing_by_next(steps.with_next_root(old, BEGAN_S), BEGAN_S, is_now=False)
        later = steps.renewed(signing, BEGAN_S + 50 * DAY_S)
        leaf = leaf_of(later, now_s=BEGAN_S + 50 * DAY_S)
        assert is_trusted(tmp_path, leaf, later, old.trust, BEGAN_S + 51 * DAY_S)

    def test_root_with_a_live_leaf_is_not_dropped(self) -> None:
        """Whoever has it would be refused by everyone."""
        old = made()
        signing = steps.signing_by_next(steps.with_next_root(old, BEGAN_S), BEGAN_S, is_now=False)
        with pytest.raises(AuthorityError, match="2 live certificates chain"):
            steps.without_root(signing, "", {old.signing: 2}, BEGAN_S)
        assert [one.fingerprint for one in steps.without_root(signing, "", {}, BEGAN_S).roots] == [signing.signing]

    def test_steps_are_refused_out_of_order(self) -> None:
        """Each says which is next."""
        old = made()
        with pytest.raises(AuthorityError, match="rotate add"):
            steps.signing_by_next(old, BEGAN_S, is_now=True)
        with pytest.raises(AuthorityError, match="found 0"):
            steps.without_root(old, "", {}, BEGAN_S)
        added = steps.with_next_root(old, BEGAN_S + 1)
        with pytest.raises(AuthorityError, match="rotate sign"):
            steps.with_next_root(added, BEGAN_S + 2)
        with pytest.raises(AuthorityError, match="rotate sign"):
            steps.without_root(added, "", {}, BEGAN_S)
        with pytest.raises(AuthorityError, match="this root signs"):
            steps.without_root(old, old.signing[:8], {}, BEGAN_S)

    def test_a_root_that_has_ended_is_replaced_without_its_signature(self) -> None:
        """Nobody believes what it signs."""
        late_s = BEGAN_S + 3651 * DAY_S
        record = steps.signing_by_next(steps.with_next_root(made(), late_s), late_s, is_now=False)
        assert [one.subject for one in record.intermediate.chain] == [record.intermediate.own.subject]
        assert pki.ends(record.intermediate.own) == late_s + 90 * DAY_S
        assert len(steps.without_root(record, "", {}, late_s).roots) == 1

    def test_from_a_root_that_is_elsewhere_one_waits_until_all_have_the_new_one(self) -> None:
        """Nothing that the old one signed leads to the new one."""
        outside = made()
        given = steps.given("shop", outside.intermediate.certificate, outside.intermediate.key, outside.trust, BEGAN_S)
        added = steps.with_next_root(given, BEGAN_S + 1)
        with pytest.raises(AuthorityError, match="wait for 48 h more"):
            steps.signing_by_next(added, BEGAN_S + 10, is_now=False)
        assert steps.signing_by_next(added, BEGAN_S + 3 * DAY_S, is_now=False).signing != given.signing
        assert steps.signing_by_next(added, BEGAN_S + 10, is_now=True).signing != given.signing

    def test_further_roots_are_trusted_and_sign_nothing(self) -> None:
        """`ca trust`; twice is once; a leaf is no root."""
        record, other = made(), made()
        after = steps.trusting(record, other.trust, BEGAN_S)
        assert [one.fingerprint for one in after.roots] == [record.signing, other.signing]
        assert (after.signing, after.next_root) == (record.signing, None)
        assert steps.trusting(after, other.trust, BEGAN_S) == after
        with pytest.raises(AuthorityError, match="no authority"):
            steps.trusting(record, leaf_of(record), BEGAN_S)


class TestFollowed:
    """The authority that a replica has in its hands."""

    def test_two_replicas_that_start_at_once_have_one_authority(self) -> None:
        """Create-only: the slower one takes what the faster one wrote."""

        async def test() -> None:
            secrets, clock = MemorySecrets(), Clock()
            one, other = Authority(secrets, clock), Authority(secrets, clock)
            found = await asyncio.gather(one.create("shop"), other.create("shop"))
            assert found[0] == found[1] == one.record == other.record

        asyncio.run(test())

    def test_intermediate_is_renewed_by_one_and_read_by_the_other(self) -> None:
        """As time passes."""

        async def test() -> None:
            secrets, clock = MemorySecrets(), Clock()
            one, other = Authority(secrets, clock), Authority(secrets, clock)
            first = await one.create("shop")
            await other.refresh()
            clock.now_s += 50 * DAY_S
            await asyncio.gather(one.refresh(), other.refresh())
            await one.refresh()
            assert one.record is not None
            assert one.record != first
            assert one.record == other.record

        asyncio.run(test())

    def test_engine_that_is_away_stops_nothing(self) -> None:
        """What was read last signs on."""

        class Away(MemorySecrets):
            is_away = False

            async def read(self, name: str) -> Versioned | None:
                if self.is_away:
                    raise Unavailable("away")
                return await super().read(name)

        async def test() -> None:
            secrets, clock = Away(), Clock()
            one = Authority(secrets, clock)
            await one.create("shop")
            secrets.is_away = True
            await one.refresh()
            assert one.trouble == "away"
            assert one.issue(new_key().public_key(), "spiffe://shop/a", "i").identity == "spiffe://shop/a"
            secrets.is_away = False
            await one.refresh()
            assert one.trouble == ""

        asyncio.run(test())

    def test_emptied_engine_is_told_and_not_taken_for_a_first_start(self) -> None:
        """The authority goes on; nobody makes another one in its place."""

        async def test() -> None:
            secrets, clock = MemorySecrets(), Clock()
            one = Authority(secrets, clock)
            first = await one.create("shop")
            secrets._known.clear()
            await one.refresh()
            assert "gone" in one.trouble
            assert await one.create("shop") == first

        asyncio.run(test())

    def test_nothing_is_issued_without_an_authority_or_for_another_mesh(self) -> None:
        """And it says what to do."""

        async def test() -> None:
            name = "shop"
            one = Authority(MemorySecrets(), Clock(), lambda: name)
            with pytest.raises(NoAuthority, match="ca init"):
                one.usable()
            await one.create("shop")
            assert one.why_not() == ""
            name = "bank"
            with pytest.raises(NoAuthority, match="called `bank`"):
                one.usable()

        asyncio.run(test())

    def test_steps_of_two_operators_at_once_are_both_done(self) -> None:
        """By compare-and-swap."""

        async def test() -> None:
            secrets, clock = MemorySecrets(), Clock()
            await Authority(secrets, clock).create("shop")
            others = [steps.made("shop", BEGAN_S) for _ in range(3)]
            await asyncio.gather(
                *(
                    authorities.change(secrets, lambda one, pem=pem.trust: steps.trusting(one, pem, BEGAN_S))
                    for pem in others
                )
            )
            found = await authorities.read(secrets)
            assert found is not None
            assert len(found[0].roots) == 4

        asyncio.run(test())

    def test_leaf_of_the_last_day_of_an_intermediate_that_cannot_be_renewed_is_short(self) -> None:
        """It never outlives its issuer."""
        record = made()
        (leaf,) = read(leaf_of(record, now_s=BEGAN_S + 89 * DAY_S))
        assert pki.ends(leaf) == pki.ends(record.intermediate.own)
