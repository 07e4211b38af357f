"""The authority that all replicas share: when who signs, whom the API believes, and that two replicas agree."""

from __future__ import annotations

import asyncio
import json

import pytest
from cryptography import x509

from sidecar.control.authority import certificates as pki
from sidecar.control.engines.interface import Conflict, Unavailable, Versioned
from sidecar.control.engines.secrets.disk import MemorySecrets
from sidecar.webhook.authority import (
    OVERLAP_S,
    ROOT_S,
    SUCCEEDED_AFTER_S,
    Root,
    bundle_of,
    due,
    read_back,
    shared,
    signing,
    written,
)
from sidecar.webhook.known import SECRET
from tests.support.authority import BEGAN_S, DAY_S

HOST = "sidecar-webhook.mesh.svc"


def first() -> tuple[Root, ...]:
    return due((), HOST, BEGAN_S)


def test_root_is_an_authority_for_its_one_name() -> None:
    """RFC 5280, 4.2.1.10: what it signs for another name is not believed."""
    root = first()[0].certificate
    constraints = root.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.permitted_subtrees == [x509.DNSName(HOST)]
    assert pki.is_authority(root)
    assert pki.ends(root) == BEGAN_S + ROOT_S


def test_root_is_succeeded_before_it_ends_and_signs_until_all_know_the_next() -> None:
    """Two thirds of its time on there is another beside it, which signs a day later; the old one goes when it ends."""
    old = first()
    assert due(old, HOST, BEGAN_S + SUCCEEDED_AFTER_S - 1) == old
    both = due(old, HOST, BEGAN_S + SUCCEEDED_AFTER_S)
    assert len(both) == 2
    made_s = BEGAN_S + SUCCEEDED_AFTER_S
    assert signing(both, made_s) == signing(both, made_s + OVERLAP_S - 1) == both[0]
    assert signing(both, made_s + OVERLAP_S) == both[1]
    assert bundle_of(both) == bundle_of(both[:1]) + bundle_of(both[1:])
    assert due(both, HOST, BEGAN_S + ROOT_S - 1) == both
    assert due(both, HOST, BEGAN_S + ROOT_S) == both[1:]


def test_root_that_ended_while_nobody_ran_is_replaced_and_signs_at_once() -> None:
    """Nobody is left who is believed, so there is nothing to wait for."""
    later_s = BEGAN_S + ROOT_S + 30 * DAY_S
    roots = due(first(), HOST, later_s)
    assert len(roots) == 1
    assert roots != first()
    assert signing(roots, later_s) == roots[0]


def test_what_is_written_is_read_back() -> None:
    """Certificates, keys and their order."""
    roots = due(first(), HOST, BEGAN_S + SUCCEEDED_AFTER_S)
    found = read_back(written(roots))
    assert [one.certificate for one in found] == [one.certificate for one in roots]
    assert all(pki.is_pair(one.certificate, one.key) for one in found)


def changed(**fields: object) -> bytes:
    root = json.loads(written(first()))["roots"][0]
    return json.dumps({"format": 1, "roots": [{**root, **fields}]}).encode()


def of_a_leaf() -> bytes:
    """A certificate with its key, which may sign nothing."""
    root, key = first()[0], pki.new_key()
    leaf = pki.make_host_leaf(HOST, key.public_key(), root.certificate, root.key, BEGAN_S, DAY_S)
    return changed(certificate=pki.text_of([leaf]), key=pki.text_of_key(key))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"[" * 100_000,
        b'{"format": 2, "roots": []}',
        b'{"format": 1, "roots": []}',
        b'{"format": 1, "roots": [1]}',
        changed(key=None),
        changed(certificate="x"),
        changed(key="-----BEGIN PRIVATE KEY-----"),
        changed(key=pki.text_of_key(pki.new_key())),
        of_a_leaf(),
    ],
    ids=range(12),
)
def test_damaged_authority_is_refused(raw: bytes) -> None:
    """Whatever somebody has made of the Secret, it is told, and nothing is signed by it."""
    with pytest.raises(ValueError):
        read_back(raw)


class Slow(MemorySecrets):
    """Others read what one has read, before either writes."""

    conflicts = 0

    async def read(self, name: str) -> Versioned | None:
        found = await super().read(name)
        await asyncio.sleep(0)
        return found

    async def swap(self, name: str, value: bytes, expected: str) -> str:
        try:
            return await super().swap(name, value, expected)
        except Conflict:
            self.conflicts += 1
            raise


def test_two_replicas_that_begin_at_once_have_one_authority() -> None:
    """Who writes second is refused, and reads what the first one wrote."""

    async def begin() -> None:
        secrets = Slow()
        one, other = await asyncio.gather(shared(secrets, HOST, BEGAN_S), shared(secrets, HOST, BEGAN_S))
        assert bundle_of(one) == bundle_of(other)
        assert secrets.conflicts == 1
        later = await shared(secrets, HOST, BEGAN_S + DAY_S)
        assert bundle_of(later) == bundle_of(one)

    asyncio.run(begin())


class Interfered(MemorySecrets):
    """Others write between every read and write."""

    async def swap(self, name: str, value: bytes, expected: str) -> str:
        raise Conflict("expected another version")


def test_secret_that_is_damaged_or_never_ours_is_told() -> None:
    """With what to do; it is not written over, for it may be another's."""

    async def begin() -> None:
        secrets = MemorySecrets()
        await secrets.swap(SECRET, b"x", "")
        with pytest.raises(Unavailable, match="damaged: expected JSON; delete it"):
            await shared(secrets, HOST, BEGAN_S)
        with pytest.raises(Unavailable, match="all the time"):
            await shared(Interfered(), HOST, BEGAN_S)

    asyncio.run(begin())
