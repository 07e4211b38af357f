"""What is shown by TLS: real handshakes in memory, with whom the API is told to believe."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from sidecar.control.engines.secrets.disk import MemorySecrets
from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.webhook.authority import ROOT_S, SUCCEEDED_AFTER_S
from sidecar.webhook.certificate import LEAF_S, Certificate, GivenCertificate, MadeCertificate
from tests.support.authority import BEGAN_S, DAY_S, Clock
from tests.support.webhook import write_certificate

HOST = "sidecar-webhook.mesh.svc"


def shows(certificate: Certificate, bundle: str, host: str = HOST) -> str:
    """What a client that believes this bundle sees of it: the serial number. Raises `ssl.SSLError`."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=bundle)
    # The library has no clock to hold: the test's certificates are of another time than now.
    client.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
    context = certificate.context()
    assert context is not None
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        context.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[0].version() == "TLSv1.3"
    return str((ends[0].getpeercert() or {})["serialNumber"])


def test_certificate_of_our_own_is_believed_by_the_bundle_alone() -> None:
    """The API calls us by one name, and believes one authority about it."""

    async def begin() -> None:
        made = MadeCertificate(MemorySecrets(), HOST, Clock())
        assert made.context() is None
        await made.refresh()
        assert shows(made, made.bundle)
        with pytest.raises(ssl.SSLCertVerificationError):
            shows(made, made.bundle, "sidecar-webhook.other.svc")
        other = MadeCertificate(MemorySecrets(), HOST, Clock())
        await other.refresh()
        with pytest.raises(ssl.SSLCertVerificationError):
            shows(made, other.bundle)

    asyncio.run(begin())


def test_certificate_is_made_anew_in_half_its_time_and_with_another_root() -> None:
    """Replicas have one authority and a key each; what the API believes goes for old and new."""

    async def begin() -> None:
        secrets, clock = MemorySecrets(), Clock()
        one, other = (MadeCertificate(secrets, HOST, clock) for _ in range(2))
        await one.refresh()
        await other.refresh()
        assert one.bundle == other.bundle
        serial = shows(one, one.bundle)
        assert serial != shows(other, one.bundle)
        clock.now_s += LEAF_S / 2 - DAY_S
        await one.refresh()
        assert shows(one, one.bundle) == serial
        clock.now_s += 2 * DAY_S
        await one.refresh()
        assert shows(one, one.bundle) != serial
        clock.now_s = BEGAN_S + SUCCEEDED_AFTER_S
        first = one.bundle
        await one.refresh()
        assert one.bundle.startswith(first)
        assert one.bundle != first
        assert shows(one, first)
        clock.now_s += 2 * DAY_S
        await one.refresh()
        with pytest.raises(ssl.SSLCertVerificationError):
            shows(one, first)
        assert shows(one, one.bundle)
        assert one.endings()["root"] == BEGAN_S + SUCCEEDED_AFTER_S + ROOT_S

    asyncio.run(begin())


def test_certificate_that_has_ended_is_not_shown() -> None:
    """Nothing to show is told as that, instead of handshakes that the API refuses."""

    async def begin() -> None:
        clock = Clock()
        made = MadeCertificate(MemorySecrets(), HOST, clock)
        await made.refresh()
        clock.now_s += LEAF_S
        assert made.context() is None

    asyncio.run(begin())


def test_files_are_followed_and_half_a_change_is_not_taken(tmp_path: Path) -> None:
    """A certificate whose key is still to come changes nothing; with its key it is shown."""

    async def begin() -> None:
        given = GivenCertificate(*write_certificate(tmp_path, HOST, BEGAN_S), Clock())
        await given.refresh()
        serial, bundle = shows(given, given.bundle), given.bundle
        await given.refresh()
        assert shows(given, bundle) == serial
        old_key = (tmp_path / "tls.key").read_text()
        write_certificate(tmp_path, HOST, BEGAN_S)
        new_key = (tmp_path / "tls.key").read_text()
        (tmp_path / "tls.key").write_text(old_key)
        with pytest.raises(TroubleError, match="does not belong to the certificate"):
            await given.refresh()
        assert shows(given, bundle) == serial
        (tmp_path / "tls.key").write_text(new_key)
        await given.refresh()
        assert shows(given, given.bundle) != serial

    asyncio.run(begin())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tls.crt", b""),
        ("tls.crt", b"\xff\x00"),
        ("tls.key", b"x"),
        ("ca.crt", b"x"),
        ("ca.crt", b""),
        ("tls.crt", None),
    ],
)
def test_files_that_cannot_be_used_are_told_by_name(tmp_path: Path, name: str, content: bytes | None) -> None:
    """Absent, empty, no PEM: an error of the documented kinds, and nothing is shown."""
    paths = write_certificate(tmp_path, HOST, BEGAN_S)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)

    async def begin() -> None:
        given = GivenCertificate(*paths, Clock())
        with pytest.raises((ValueError, OSError, TroubleError)) as error:
            await given.refresh()
        assert f"{tmp_path}/{name}" in str(error.value)
        assert given.context() is None

    asyncio.run(begin())
