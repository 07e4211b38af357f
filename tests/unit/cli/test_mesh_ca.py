"""`sidecar mesh ca`: orders to the authority, where the engine is a folder."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from pathlib import Path

import pytest

from sidecar.control.authority import backup
from sidecar.control.authority import record as steps
from tests.support.authority import write
from tests.support.commands import sidecar_command

PASSPHRASE = "a passphrase of some length"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "COST", 2**10)


class Folder:
    """A control plane's state."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state"
        (path / "passphrase").write_text(PASSPHRASE + "\n")

    def order(self, *words: object) -> subprocess.CompletedProcess[str]:
        """A command."""
        return sidecar_command("mesh", "ca", *words, "--state", self.state)

    def done(self, *words: object) -> str:
        """One that must be carried out."""
        done = self.order(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: object) -> str:
        """One that must not."""
        done = self.order(*words)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def status(self) -> dict[str, object]:
        """As JSON."""
        found = json.loads(self.done("status", "--json"))
        assert isinstance(found, dict)
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """With nothing in it."""
    return Folder(tmp_path)


def test_authority_is_made_once_and_named_as_the_mesh(folder: Folder) -> None:
    """By the mesh's files, if it is not said."""
    (folder.path / "mesh.yaml").write_text("mesh: shop\nservices:\n  a: {app: '127.0.0.1:80', calls: {}}\n")
    assert "no authority yet" in folder.refused("status")
    assert "of `shop`" in folder.done("init", "--mesh", folder.path / "mesh.yaml")
    assert "there is an authority already" in folder.refused("init", "--trust-domain", "other")
    assert "shop" in folder.done("status")
    assert "PRIVATE" not in folder.done("status") + json.dumps(folder.status())


def test_backup_is_encrypted_and_puts_back_the_same(folder: Folder, tmp_path: Path) -> None:
    """By its passphrase alone; it writes over nothing."""
    folder.done("init", "--trust-domain", "shop")
    file = tmp_path / "backup"
    passphrase = ("--passphrase-file", tmp_path / "passphrase")
    folder.done("backup", file, *passphrase)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"PRIVATE KEY" not in file.read_bytes()
    assert folder.order("backup", file, *passphrase).returncode == 2
    (tmp_path / "b").mkdir()
    other = Folder(tmp_path / "b")
    (other.path / "passphrase").write_text("another passphrase")
    assert "the passphrase is not" in other.refused(
        "init", "--backup", file, "--passphrase-file", other.path / "passphrase"
    )
    other.done("init", "--backup", file, *passphrase)
    kept = [(one.state / "secrets" / "ca").read_bytes() for one in (folder, other)]
    assert kept[0] == kept[1]
    (tmp_path / "short").write_text("short\n")
    assert "at least 12" in folder.refused("backup", tmp_path / "x", "--passphrase-file", tmp_path / "short")


def test_intermediate_of_somebody_else_is_taken_and_replaced(folder: Folder, tmp_path: Path) -> None:
    """The root stays elsewhere, and the status says that nobody renews it here."""
    outside = steps.made("shop", time.time())
    signer = outside.intermediate
    paths = write(tmp_path, chain=signer.certificate, key=signer.key, trust=outside.trust)
    pair = ("--certificate", paths["chain"], "--key", paths["key"])
    assert folder.order("init", *pair).returncode == 2
    folder.done("init", "--trust-domain", "shop", *pair, "--trust", paths["trust"])
    assert "NOT renewed here" in folder.done("status")
    again = steps.renewed(outside, time.time()).intermediate
    paths = write(tmp_path, chain=again.certificate, key=again.key)
    folder.done("intermediate", "--certificate", paths["chain"], "--key", paths["key"])
    assert "the key is not" in folder.refused(
        "intermediate", "--certificate", paths["chain"], "--key", write(tmp_path, key=signer.key)["key"]
    )


def test_further_roots_holds_and_revocations(folder: Folder, tmp_path: Path) -> None:
    """Each order does one thing, and the status shows it."""
    folder.done("init", "--trust-domain", "shop")
    other = steps.made("shop", time.time())
    folder.done("trust", write(tmp_path, other=other.trust)["other"])
    roots = folder.status()["roots"]
    assert isinstance(roots, list)
    assert [(one["signs"], one["has_key"]) for one in roots] == [(True, True), (False, False)]
    assert folder.done("roots").count("BEGIN CERTIFICATE") == 2
    folder.done("replace")
    assert folder.status()["is_only"] is True
    assert "none is known" in folder.done("revoke", "storefront/i-1")
    assert folder.status()["revoked"] == ["storefront/i-1"]
    folder.done("rotate", "drop", other.signing[:12])
    assert "found 0" in folder.refused("rotate", "drop")


def test_what_cannot_be_used_is_said(folder: Folder, tmp_path: Path) -> None:
    """A file that is not there, one that is none, a state that is not given."""
    folder.done("init", "--trust-domain", "shop")
    assert folder.order("trust", tmp_path / "none").returncode == 2
    assert "expected certificates" in folder.refused("trust", tmp_path / "passphrase")
    assert "give --state" in sidecar_command("mesh", "ca", "status").stderr
    assert sidecar_command("mesh", "ca", "init", "--state", tmp_path / "s").returncode == 2
