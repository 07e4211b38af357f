"""The process that makes keys."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.link.identity.key_maker import KeyMakerError, SigningRequest
from sidecar.link.identity.messages import text_to_sign
from sidecar.loader.spawn import Child, spawn
from sidecar.runtime.mesh import key_process
from sidecar.runtime.mesh.key_process import KeyProcess


def made(maker: KeyProcess, nonce: str = "", old_key: str = "") -> SigningRequest:
    return asyncio.run(maker.make(nonce, old_key))


def test_a_key_is_made_whose_request_is_signed_by_it() -> None:
    """P-256, another each time; it names nobody; and the old key signs for it."""
    old = made(KeyProcess())
    new = made(KeyProcess(), "nonce-1", old.key)
    csr = x509.load_pem_x509_csr(new.csr.encode())
    key = serialization.load_pem_private_key(new.key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert csr.public_key() == key.public_key()
    assert csr.is_signature_valid
    assert not list(csr.subject)
    assert not list(csr.extensions)
    assert old.key != new.key
    assert old.signature == ""
    old_key = serialization.load_pem_private_key(old.key.encode(), None)
    assert isinstance(old_key, ec.EllipticCurvePrivateKey)
    signed = text_to_sign("nonce-1", csr.public_bytes(serialization.Encoding.DER))
    old_key.public_key().verify(base64.urlsafe_b64decode(new.signature), signed, ec.ECDSA(hashes.SHA256()))
    assert "PRIVATE" not in repr(new)


def test_an_old_key_that_is_none_is_not_shown() -> None:
    """It may be nearly one."""
    with pytest.raises(KeyMakerError) as caught:
        made(KeyProcess(), "nonce", "-----BEGIN SECRET-----")
    assert "SECRET" not in str(caught.value)


def test_nothing_secret_is_in_its_arguments_or_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where everybody on the machine may look."""
    monkeypatch.setenv("A_PASSWORD", "SECRET")
    seen: list[object] = []

    def watching(boot: str, env: dict[str, str], niceness: int | None) -> Child:
        seen.extend([boot, env])
        # What it reads goes into a file, what it says is no answer.
        return spawn(("/bin/sh", "-c", f"cat > {tmp_path}/asked"), env)

    with pytest.raises(KeyMakerError, match="ended before it was done: exit code 0"):
        made(KeyProcess(watching), "nonce", "the old key")
    assert "SECRET" not in repr(seen)
    assert "the old key" not in repr(seen)
    assert "the old key" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("script", "why"),
    [("exit 3", "exit code 3"), ("kill -9 $$", "exit code -9"), ("""echo '{"error": "no luck"}'""", "no luck"),
     ("echo '[]'", "ended before"), ("sleep 100", "not finished within 0.2 s")],
)  # fmt: skip
def test_one_that_fails_is_told(script: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no process behind."""
    if "sleep" in script:
        monkeypatch.setattr(key_process, "LIMIT_S", 0.2)
    pids: list[int] = []

    def failing(boot: str, env: dict[str, str], niceness: int | None) -> Child:
        child = spawn(("/bin/sh", "-c", f"exec 0<&-; {script}"), env)
        pids.append(child.pid)
        return child

    with pytest.raises(KeyMakerError, match=why):
        made(KeyProcess(failing))
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_without_the_library_it_says_so(tmp_path: Path) -> None:
    """In the words of who could install it."""
    (tmp_path / "cryptography.py").write_text("raise ImportError")

    def without(boot: str, env: dict[str, str], niceness: int | None) -> Child:
        path = [str(tmp_path), *sys.path]
        return spawn((sys.executable, "-P", "-c", f"import sys; sys.path[:] = {path!r}; {boot}"), env)

    with pytest.raises(KeyMakerError, match="the package `cryptography` is not installed"):
        made(KeyProcess(without))


def test_the_data_path_does_not_load_it() -> None:
    """It takes 14 MiB."""
    names = "joiner", "join_client", "files", "proving", "server_trust"
    imports = "; ".join(f"import sidecar.link.identity.{name}" for name in names)
    code = f"import sys; {imports}; import sidecar.runtime.mesh.key_process; sys.exit('cryptography' in sys.modules)"
    assert os.waitstatus_to_exitcode(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code])) == 0
