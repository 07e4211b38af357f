"""Joining: who gets which certificate, by which proof, and who gets none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import issued as issued_module
from sidecar.control.authority import record as steps
from sidecar.control.authority.joining import AT_ONCE, JoinRefused
from sidecar.link.identity.messages import write_joined
from tests.support.authority import BEGAN_S, DAY_S, World, new_key, read, request, request_der, signature

STOREFRONT = "spiffe://shop/storefront"


class Accounts:
    """Of a cluster that knows one token."""

    async def reviewed(self, token: str, audience: str) -> tuple[str, str] | None:
        """For the audience of the mesh `shop`."""
        return ("shop", "storefront") if (token, audience) == ("of-the-pod", "spiffe://shop/control") else None


def run(test: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            world = World(**options)
            await world.open()
            try:
                await test(world)
            finally:
                world.joining.close()

    asyncio.run(bounded())


async def join(
    world: World, key: Any, proof: dict[str, Any], shown: bytes | None = None, **more: Any
) -> dict[str, Any]:
    body = {"csr": request(key), "service": "storefront", "instance": "i-1", "proof": proof} | more
    answer = await world.joining.join(json.dumps(body).encode(), shown, "10.0.0.5")
    return cast(dict[str, Any], json.loads(write_joined(answer)))


async def refused(asked: Coroutine[Any, Any, Any]) -> tuple[int, str]:
    with pytest.raises(JoinRefused) as caught:
        await asked
    return caught.value.status, caught.value.code


async def token_of(world: World, service: str = "storefront") -> dict[str, Any]:
    return {"token": (await world.tokens.create(service))[1]}


async def joined(world: World, key: Any, **more: Any) -> dict[str, Any]:
    """By a token."""
    return await join(world, key, await token_of(world), **more)


def signed_proof(world: World, old_key: Any, chain: str, key: Any) -> tuple[str, dict[str, Any]]:
    """A request for a new key, and the proof by an old one."""
    csr = request(key)
    nonce = world.joining.nonce()
    return csr, {"certificate": chain, "nonce": nonce, "signature": signature(old_key, nonce, request_der(csr))}


async def renewed(world: World, old_key: Any, chain: str, key: Any, **more: Any) -> dict[str, Any]:
    csr, proof = signed_proof(world, old_key, chain, key)
    return await join(world, key, proof, csr=csr, **more)


class TestToken:
    """Proof by a join token."""

    def test_certificate_is_of_the_tokens_service_and_the_requests_key(self) -> None:
        """And nothing else in the request counts."""

        async def test(world: World) -> None:
            key = new_key()
            said = await joined(world, key, csr=request(key, "root", "spiffe://shop/control"))
            leaf, intermediate = read(said["certificate"])
            assert pki.identity_of(leaf) == said["identity"] == STOREFRONT
            assert pki.key_octets(leaf.public_key()) == pki.key_octets(key.public_key())
            assert intermediate == world.record.intermediate.own
            assert (said["trust"], said["trust_domain"]) == (world.record.trust, "shop")
            assert said["not_after"] == BEGAN_S + 7 * DAY_S
            assert said["renew_after"] == BEGAN_S + DAY_S
            assert pki.common_name_of(leaf) == "i-1"

        run(test)

    def test_token_with_the_roots_hash_is_taken_too(self) -> None:
        """As the file has it."""

        async def test(world: World) -> None:
            proof = await token_of(world)
            await join(world, new_key(), {"token": f"{proof['token']}#sha256:{world.record.signing}\n"})

        run(test)

    def test_stolen_token_is_good_for_its_service_alone(self) -> None:
        """Whatever the body says."""

        async def test(world: World) -> None:
            proof = await token_of(world)
            for service in ("payments", "control", "ns/shop/sa/storefront", ""):
                assert await refused(join(world, new_key(), proof, service=service)) == (403, "service_mismatch")

        run(test)

    def test_life_may_be_asked_for_within_bounds(self) -> None:
        """1 hour to 30 days."""

        async def test(world: World) -> None:
            said = await joined(world, new_key(), lifetime_s=3600)
            assert said["not_after"] == BEGAN_S + 3600
            assert (await joined(world, new_key(), lifetime_s=0))["not_after"] == BEGAN_S + 7 * DAY_S
            for wrong in (10, 31 * DAY_S):
                assert await refused(joined(world, new_key(), lifetime_s=wrong)) == (400, "lifetime_invalid")

        run(test)

    def test_request_that_is_bad_uses_no_token_up(self) -> None:
        """Nothing is counted before it is known that something can be signed."""

        async def test(world: World) -> None:
            _, token = await world.tokens.create("storefront", is_once=True)
            assert await refused(join(world, new_key(), {"token": token}, csr="x")) == (400, "csr_invalid")
            assert await refused(join(world, new_key("P-521"), {"token": token})) == (400, "csr_invalid")
            await world.change(lambda one: steps.held_for(one, steps.Held("", "", "", 0)))
            assert await refused(join(world, new_key(), {"token": token})) == (503, "ca_unavailable")
            await world.change(steps.replaced)
            await join(world, new_key(), {"token": token})

        run(test)

    def test_names_of_instances_that_a_certificate_cannot_have_are_hashed(self) -> None:
        """Long ones, and such as no terminal should see."""

        async def test(world: World) -> None:
            for instance in ("x" * 65, "i\x1b[2J", "ü"):
                (leaf, _) = read((await joined(world, new_key(), instance=instance))["certificate"])
                assert len(pki.common_name_of(leaf)) == 32

        run(test)


class TestAccount:
    """Proof by a service-account token."""

    def test_identity_is_the_accounts_if_the_services_file_lists_it(self) -> None:
        """`identities: [ns/shop/sa/storefront]`."""

        async def test(world: World) -> None:
            proof = {"service_account_token": "of-the-pod"}
            assert await refused(join(world, new_key(), proof)) == (403, "service_mismatch")
            world.services["spiffe://shop/ns/shop/sa/storefront"] = ("storefront",)
            said = await join(world, new_key(), proof)
            assert said["identity"] == "spiffe://shop/ns/shop/sa/storefront"
            assert await refused(join(world, new_key(), proof, service="payments")) == (403, "service_mismatch")
            assert await refused(join(world, new_key(), {"service_account_token": "x"})) == (403, "token_unknown")

        run(test, accounts=Accounts())

    def test_without_a_cluster_it_is_refused(self) -> None:
        """With the engines `files` and `etcd`."""

        async def test(world: World) -> None:
            proof = {"service_account_token": "of-the-pod"}
            assert await refused(join(world, new_key(), proof)) == (403, "token_unknown")

        run(test)


class TestCertificate:
    """Proof by a certificate."""

    def test_client_of_tls_renews_by_what_it_shows(self) -> None:
        """Its identity and its line go on, whatever the body says of the instance."""

        async def test(world: World) -> None:
            said = await joined(world, new_key())
            der = read(said["certificate"])[0].public_bytes(serialization.Encoding.DER)
            world.clock.now_s += DAY_S
            again = await join(world, new_key(), {"certificate": True}, der, instance="another")
            leaf = read(again["certificate"])[0]
            assert (pki.identity_of(leaf), pki.common_name_of(leaf)) == (STOREFRONT, "i-1")
            assert await refused(join(world, new_key(), {"certificate": True})) == (403, "certificate_invalid")
            asked = join(world, new_key(), {"certificate": True}, der, service="payments")
            assert await refused(asked) == (403, "service_mismatch")

        run(test)

    @pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA"])
    def test_old_key_renews_until_a_week_after_the_end(self, kind: str) -> None:
        """By a signature, for TLS refuses what has ended."""

        async def test(world: World) -> None:
            old = new_key(kind)
            chain = (await joined(world, old))["certificate"]
            for days, is_good in ((1, True), (8, True), (13.9, True), (14, False)):
                world.clock.now_s = BEGAN_S + days * DAY_S
                if is_good:
                    assert (await renewed(world, old, chain, new_key()))["identity"] == STOREFRONT
                else:
                    assert await refused(renewed(world, old, chain, new_key())) == (403, "certificate_invalid")

        run(test)

    def test_old_leaf_is_renewed_though_its_intermediate_was_replaced(self) -> None:
        """The chain that the sidecar has leads to the root."""

        async def test(world: World) -> None:
            old = new_key()
            world.clock.now_s = BEGAN_S + 44 * DAY_S
            chain = (await joined(world, old))["certificate"]
            world.clock.now_s = BEGAN_S + 50 * DAY_S
            await world.authority.refresh()
            assert read(chain)[1] != world.record.intermediate.own
            await renewed(world, old, chain, new_key())

        run(test)

    def test_signature_of_another_key_text_or_nonce_is_refused(self) -> None:
        """Nothing can be exchanged, and nothing used later."""

        async def test(world: World) -> None:
            old, key = new_key(), new_key()
            chain = (await joined(world, old))["certificate"]
            csr, good = signed_proof(world, old, chain, key)
            other_csr, of_other = signed_proof(world, new_key(), chain, key)
            invalid = (403, "certificate_invalid")
            assert await refused(join(world, key, of_other, csr=other_csr)) == invalid
            assert await refused(join(world, key, good, csr=request(new_key()))) == invalid
            assert await refused(join(world, key, good | {"signature": ""}, csr=csr)) == invalid
            for nonce in (world.joining.nonce(),):
                assert await refused(join(world, key, good | {"nonce": nonce}, csr=csr)) == invalid
            for nonce in ("", "AAAA", "ü", "A" * 43):
                assert await refused(join(world, key, good | {"nonce": nonce}, csr=csr)) == (403, "nonce_invalid")
            world.clock.now_s += 301
            assert await refused(join(world, key, good, csr=csr)) == (403, "nonce_invalid")

        run(test)

    def test_nonce_of_one_replica_is_good_at_another(self) -> None:
        """They share its key by the engine."""

        async def test(world: World) -> None:
            other = World(secrets=world.secrets, clock=world.clock)
            await other.authority.refresh()
            old, key = new_key(), new_key()
            chain = (await joined(world, old))["certificate"]
            csr, proof = signed_proof(other, old, chain, key)
            await join(world, key, proof, csr=csr)
            other.joining.close()

        run(test)

    def test_certificate_of_the_control_plane_renews_nothing(self) -> None:
        """Nobody becomes the control plane by joining."""

        async def test(world: World) -> None:
            key = new_key()
            own = world.authority.issue(key.public_key(), "spiffe://shop/control", "r1")
            for service in ("control", "storefront"):
                asked = renewed(world, key, own.certificate, new_key(), service=service)
                assert await refused(asked) == (403, "service_mismatch")

        run(test)

    def test_revoked_line_is_not_renewed_but_may_join_anew(self) -> None:
        """Only what was issued until then is."""

        async def test(world: World) -> None:
            old, other = new_key(), new_key()
            chain = (await joined(world, old))["certificate"]
            untouched = (await joined(world, other, instance="i-2"))["certificate"]
            await issued_module.revoke(world.secrets, "storefront/i-1", world.clock.now_s)
            world.clock.now_s += 3600
            assert await refused(renewed(world, old, chain, new_key())) == (403, "revoked")
            await renewed(world, other, untouched, new_key())
            fresh = new_key()
            chain = (await joined(world, fresh))["certificate"]
            await renewed(world, fresh, chain, new_key())

        run(test)


class TestUnknownRoot:
    """A control plane with an empty disk, in a mesh that has certificates."""

    def test_older_authority_that_is_not_known_stops_everything_until_an_operator_decides(self) -> None:
        """By `ca trust`, after which the old certificates are renewed."""

        async def test(world: World) -> None:
            old_world = World()
            old_world.clock.now_s = BEGAN_S - 3 * DAY_S
            await old_world.open()
            old = new_key()
            chain = (await joined(old_world, old))["certificate"]
            old_world.joining.close()
            assert await refused(renewed(world, old, chain, new_key())) == (403, "root_unknown")
            assert await refused(joined(world, new_key())) == (503, "ca_unavailable")
            await world.change(lambda one: steps.trusting(one, old_world.record.trust, BEGAN_S))
            assert (await renewed(world, old, chain, new_key()))["identity"] == STOREFRONT

        run(test)

    def test_after_ca_replace_nobody_stops_anything(self) -> None:
        """Those who have old certificates join by a token."""

        async def test(world: World) -> None:
            old_world = World()
            old_world.clock.now_s = BEGAN_S - 3 * DAY_S
            await old_world.open()
            old = new_key()
            chain = (await joined(old_world, old))["certificate"]
            old_world.joining.close()
            await world.change(steps.replaced)
            assert await refused(renewed(world, old, chain, new_key())) == (403, "root_unknown")
            await joined(world, new_key())

        run(test)

    def test_forged_certificate_does_not_stop_an_authority_that_has_stood_for_long(self) -> None:
        """Anybody can make one; only in its first weeks can there be leaves of an earlier authority."""

        async def test(world: World) -> None:
            world.clock.now_s = BEGAN_S + 40 * DAY_S
            forger = World()
            forger.clock.now_s = BEGAN_S + 39 * DAY_S
            await forger.open()
            key = new_key()
            chain = (await joined(forger, key))["certificate"]
            forger.joining.close()
            assert await refused(renewed(world, key, chain, new_key())) == (403, "root_unknown")
            await joined(world, new_key())

        run(test)


class TestBounds:
    """What a peer may send, and how often."""

    def test_service_that_asks_too_often_is_told_to_wait(self) -> None:
        """Others are not."""

        async def test(world: World) -> None:
            proof, other = await token_of(world), await token_of(world, "search")
            key = new_key()
            for _ in range(int(AT_ONCE)):
                await join(world, key, proof)
            assert await refused(join(world, key, proof)) == (429, "rate_limited")
            await join(world, key, other, service="search")
            world.clock.now_s += 1
            await join(world, key, proof)

        run(test)

    def test_secrets_are_in_no_refusal(self) -> None:
        """Also where the body is wrong."""

        async def test(world: World) -> None:
            for proof in (
                {"token": ["the-secret"]},
                {"token": "the-secret"},
                "the-secret",
                {"certificate": "the-secret"},
            ):
                with pytest.raises(JoinRefused) as caught:
                    await join(world, new_key(), proof)  # type: ignore[arg-type]
                assert "the-secret" not in str(caught.value)

        run(test)

    def test_halves_of_surrogates_are_refused_like_any_other_text(self) -> None:
        """JSON can say them, and nothing else can be made of them."""

        async def test(world: World) -> None:
            half = "\ud800"
            csr, good = signed_proof(world, new_key(), (await joined(world, new_key()))["certificate"], new_key())
            for proof in ({"token": half}, {"certificate": half}, good | {"nonce": half}, good | {"signature": half}):
                await refused(join(world, new_key(), proof, csr=csr))
            await refused(join(world, new_key(), {"token": "x"}, service=half))
            await refused(join(world, new_key(), {"token": "x"}, csr=half))
            (leaf, _) = read((await joined(world, new_key(), instance=half))["certificate"])
            assert len(pki.common_name_of(leaf)) == 32

        run(test)

    def test_what_was_issued_is_known_by_root_until_it_ends_or_is_renewed(self) -> None:
        """Which is what dropping a root asks."""

        async def test(world: World) -> None:
            old = new_key()
            chain = (await joined(world, old))["certificate"]
            await joined(world, new_key(), instance="i-2")
            first = world.record.signing
            await world.change(lambda one: steps.with_next_root(one, BEGAN_S))
            await world.change(lambda one: steps.signing_by_next(one, BEGAN_S, is_now=False))
            await world.issued.flush()
            assert (await issued_module.read(world.secrets, BEGAN_S))[1] == {first: 2}
            await renewed(world, old, chain, new_key())
            await world.issued.flush()
            lines, live = await issued_module.read(world.secrets, BEGAN_S)
            assert live == {first: 1, world.record.signing: 1}
            assert {one.name for one in lines} == {"storefront/i-1", "storefront/i-2"}
            assert (await issued_module.read(world.secrets, BEGAN_S + 8 * DAY_S))[1] == {}

        run(test)

    def test_lines_beyond_the_bound_still_keep_their_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Until the last of them ends."""

        async def test(world: World) -> None:
            monkeypatch.setattr(issued_module, "MAX_LINES", 2)
            for number in range(5):
                world.clock.now_s += 1
                await joined(world, new_key(), instance=f"i-{number}")
            await world.issued.flush()
            lines, live = await issued_module.read(world.secrets, world.clock.now_s)
            assert [one.name for one in lines] == ["storefront/i-3", "storefront/i-4"]
            assert live[world.record.signing] == 3

        run(test)


def test_certificate_says_nothing_that_was_not_proven() -> None:
    """One URI, no DNS name, no address."""

    async def test(world: World) -> None:
        leaf = read((await joined(world, new_key()))["certificate"])[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [type(one) for one in names] == [x509.UniformResourceIdentifier]

    run(test)
