"""
What a sidecar of a mesh has kept for its next start, as if it had run for long: its file, endpoints, and a certificate
of any life, signed by the authority of a real control plane.

    record = authority_of(mesh.control)
    keep(mesh, back, held_by(record, "back", ends_s=now_s + 5))
    back.begin()
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import record as steps
from sidecar.control.authority.names import of_service
from sidecar.control.authority.record import Record
from sidecar.link.identity.held import Held
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.read import read_mesh
from sidecar.mesh.source import read_directory
from sidecar.runtime.mesh.state_directory import StateDirectory
from tests.support.control import Control
from tests.support.mesh import Member, MeshOfProcesses


def secrets_of(control: Control) -> Path:
    """The folder of what a control plane with the engine `files` must not lose, or tell."""
    return control.state / "secrets"


def authority_of(control: Control) -> Record:
    """Its authority, keys and all."""
    return steps.read_record((secrets_of(control) / "ca").read_bytes())


def give_authority(control: Control, record: Record) -> None:
    """Let it begin with this one."""
    secrets_of(control).mkdir(mode=0o700, parents=True)
    (secrets_of(control) / "ca").write_bytes(steps.written(record))


def held_by(record: Record, service: str, ends_s: float, begins_s: float = 0.0) -> Held:
    """
    What a sidecar of the service holds.

    Args:
        ends_s: Since the Unix epoch; sooner, if who signs it ends sooner.
        begins_s: Default: now.
    """
    begins_s = begins_s or time.time()
    signer, key, identity = record.intermediate, pki.new_key(), of_service(record.trust_domain, service)
    leaf = pki.make_leaf(
        identity, f"{service}-1", key.public_key(), signer.own, signer.private_key, begins_s, ends_s - begins_s
    )
    return Held(
        certificate=pki.text_of([leaf]) + signer.certificate,
        key=pki.text_of_key(key),
        trust=record.trust,
        trust_domain=record.trust_domain,
        identity=identity,
        issuer=signer.own.subject.rfc4514_string(),
        not_before_s=pki.begins(leaf),
        not_after_s=pki.ends(leaf),
        renew_after_s=pki.ends(leaf) - 0.5,
        obtained_s=begins_s,
    )


def keep(mesh: MeshOfProcesses, member: Member, held: Held, endpoints: Mapping[str, Member] | None = None) -> None:
    """
    Let this be all that a sidecar kept, which must not run.

    Args:
        endpoints: By upstream the only one of it, which takes TLS.
    """
    compiled = compile_service(read_mesh(read_directory(str(mesh.control.mesh))), member.service)
    path = member.config.with_name("state")
    shutil.rmtree(path, ignore_errors=True)
    directory = StateDirectory(str(path))
    good = {"service": member.service, "hash": compiled.hash, "revision": 1, "text": compiled.text}
    directory.write("good", good)
    directory.write("endpoints", {name: [[one.address, 1.0, "", True]] for name, one in (endpoints or {}).items()})
    directory.write("identity", {"service": member.service, "held": held.shown()})
    directory.close()
