"""What of an identity is on a disk, and for whom: real files, and file systems of both kinds."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.link.identity.held import Held
from sidecar.runtime.mesh import kept_identity
from sidecar.runtime.mesh.candidate import read_hand_over, write_hand_over
from sidecar.runtime.mesh.crashes import Record
from sidecar.runtime.mesh.kept_identity import Keep, KeptIdentity, is_in_memory
from sidecar.runtime.mesh.last_good import LastGood, Memory
from sidecar.runtime.mesh.state_directory import StateDirectory

HELD = Held("chain", "SECRET", "roots", "shop", "spiffe://shop/a", "CN=i", 1.0, 9.0, 3.0, 2.0)


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is on a file system in memory."""
    monkeypatch.setattr(kept_identity, "is_in_memory", lambda path: True)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not."""
    monkeypatch.setattr(kept_identity, "is_in_memory", lambda path: False)


def life(path: Path, keep: Keep, held: Held | None = None, service: str = "a") -> Memory:
    """One life of a process; what it knew at its start."""

    async def run() -> Memory:
        keeper = LastGood(str(path), service, "1", KeptIdentity(keep, service))
        memory = await keeper.open()
        if held is not None:
            keeper.keep_identity(held)
        await keeper.close()
        return memory

    return asyncio.run(run())


def test_file_systems_are_told_apart() -> None:
    """By the kernel's word for their kind."""
    kinds = dict(line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    told = {path: is_in_memory(path) for path in ("/dev/shm", "/proc", "/sys") if path in kinds}
    assert not told.pop("/proc")
    assert told == {path: kinds[path] in ("tmpfs", "ramfs") for path in told}
    with pytest.raises(OSError, match="No such file"):
        is_in_memory("/nowhere")


@pytest.mark.usefixtures("in_memory")
def test_in_memory_it_is_kept_by_default(tmp_path: Path) -> None:
    """For nobody else to read; the next one of the same is what is kept."""
    assert life(tmp_path / "s", "memory", HELD).identity is None
    assert life(tmp_path / "s", "memory", replace(HELD, certificate="next")).identity == HELD
    assert life(tmp_path / "s", "memory").identity == replace(HELD, certificate="next")
    assert stat.S_IMODE(os.stat(tmp_path / "s" / "identity").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o700


@pytest.mark.usefixtures("on_disk")
def test_on_a_disk_it_is_kept_only_by_word(tmp_path: Path) -> None:
    """`identity.keep: always`."""
    life(tmp_path / "s", "memory", HELD)
    assert not (tmp_path / "s" / "identity").exists()
    life(tmp_path / "s", "always", HELD)
    assert life(tmp_path / "s", "always").identity == HELD


@pytest.mark.parametrize("keep", ["memory", "never"])
@pytest.mark.usefixtures("on_disk")
def test_a_key_that_may_not_be_there_is_removed(keep: Keep, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """So is a damaged one; it is told, with what to do."""
    life(tmp_path / "s", "always", HELD)
    (tmp_path / "s" / "identity.damaged").write_text("SECRET")
    with caplog.at_level(logging.INFO):
        assert life(tmp_path / "s", keep, HELD).identity is None
    assert not list((tmp_path / "s").glob("identity*"))
    assert "identity_removed" in caplog.text
    assert ("identity.keep: always" if keep == "memory" else "identity.keep is never") in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.usefixtures("in_memory")
def test_what_another_service_has_left_is_not_ours(tmp_path: Path) -> None:
    """The volume may have been another pod's."""
    life(tmp_path / "s", "memory", HELD)
    assert life(tmp_path / "s", "memory", service="b").identity is None


@pytest.mark.usefixtures("in_memory")
def test_a_damaged_one_is_set_aside_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And nobody else may read what was set aside."""
    life(tmp_path / "s", "memory", HELD)
    path = tmp_path / "s" / "identity"
    path.write_bytes(path.read_bytes().replace(b"SECRET", b"SECREt"))
    assert life(tmp_path / "s", "memory").identity is None
    assert "identity_damaged" in caplog.text
    assert "SECRE" not in caplog.text
    assert stat.S_IMODE(os.stat(tmp_path / "s" / "identity.damaged").st_mode) == 0o600


@pytest.mark.usefixtures("in_memory")
def test_one_of_another_release_is_left(tmp_path: Path) -> None:
    """What is not understood is nothing."""
    life(tmp_path / "s", "memory")
    directory = StateDirectory(str(tmp_path / "s"))
    directory.write("identity", {"service": "a", "held": {"certificate": 7}})
    directory.close()
    assert life(tmp_path / "s", "memory").identity is None


def test_a_successor_is_handed_it() -> None:
    """With its key; a predecessor of an older release hands over none."""
    raw = write_hand_over(Record(), None, {}, HELD)
    memory = read_hand_over(raw)
    assert memory is not None
    assert memory.identity == HELD
    older = {name: value for name, value in json.loads(raw).items() if name != "identity"}
    memory = read_hand_over(json.dumps(older).encode())
    assert memory is not None
    assert memory.identity is None
    assert "SECRET" not in repr(memory)
