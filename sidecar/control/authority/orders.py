"""
What operators order of the authority, from the command line: straight at the engine, beside whoever runs. *Cold.*

Keys never pass the network but to the engine; so these are no requests to a control plane.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sidecar.config.problems import ConfigError
from sidecar.control.authority import authority as authorities
from sidecar.control.authority import backup
from sidecar.control.authority import certificates as pki
from sidecar.control.authority import issued as issues
from sidecar.control.authority import record as steps
from sidecar.control.authority.record import AuthorityError, Record, Signer
from sidecar.control.authority.tokens import JoinTokens
from sidecar.control.engines.interface import Secrets
from sidecar.control.engines.secrets.disk import DiskSecrets
from sidecar.control.start import Options, StartError, engine_of, wanted
from sidecar.mesh.read import read_mesh


@asynccontextmanager
async def secrets_of(options: Options) -> AsyncIterator[Secrets]:
    """
    Where the authority of these options is kept.

    Raises:
        StartError, EngineError: It cannot be reached.
    """
    if options.engine == "files":
        if not options.state:
            raise StartError("give --state: the folder that the control plane keeps its state in")
        # The folder's lock is its control plane's, which may run; secrets have one of their own.
        yield DiskSecrets(Path(options.state) / "secrets")
        return
    engine = engine_of(options)
    await engine.open()
    try:
        yield engine.secrets
    finally:
        await engine.close()


async def trust_domain_of(options: Options) -> str:
    """The mesh's name. Raises StartError, EngineError, SourceError."""
    if options.engine == "files" and not options.mesh:
        raise StartError("give --trust-domain, the mesh's name, or --mesh, its directory")
    try:
        return read_mesh(await wanted(options)).name
    except ConfigError:
        raise StartError("the mesh's files have problems; give --trust-domain, the mesh's name") from None


async def init(secrets: Secrets, record: Record) -> Record:
    """Store a new authority. Raises AuthorityError: there is one."""
    found = await authorities.create(secrets, record)
    if found is not record and found != record:
        raise AuthorityError(
            f"there is an authority already, of `{found.trust_domain}`, root {found.signing[:16]}; it stays as it is"
        )
    return found


async def status(secrets: Secrets) -> dict[str, Any]:
    """All that can be shown of it. Raises AuthorityError, Unavailable."""
    record = await _read(secrets)
    now_s = time.time()
    lines, live = await issues.read(secrets, now_s)
    held = record.held
    return {
        "trust_domain": record.trust_domain,
        "created": record.created_s,
        "held": {"identity": held.identity, "issuer": held.subject, "since": held.since_s} if held else None,
        "is_only": record.is_only,
        "roots": [_root(record, one, live) for one in record.roots],
        "intermediate": {
            "subject": record.intermediate.own.subject.rfc4514_string(),
            "ends": pki.ends(record.intermediate.own),
            "renewed_here": bool(record.root.key),
        },
        "issued": [
            {"name": one.name, "identity": one.identity, "serial": one.serial, "root": one.root[:16],
             "ends": one.not_after_s}
            for one in sorted(lines, key=lambda one: one.name)
        ],
        "revoked": sorted(await issues.read_revoked(secrets)),
        "tokens": len(await JoinTokens(secrets, time.time).list()),
        "next": _next(record, now_s),
    }  # fmt: skip


async def roots(secrets: Secrets) -> str:
    """PEM of what is trusted. Raises AuthorityError, Unavailable."""
    return (await _read(secrets)).trust


async def sealed(secrets: Secrets, passphrase: str) -> bytes:
    """A backup. Raises AuthorityError, Unavailable."""
    return backup.sealed(await _read(secrets), passphrase)


async def trust(secrets: Secrets, pem: str) -> Record:
    """Trust further roots."""
    return await authorities.change(secrets, lambda one: steps.trusting(one, pem, time.time()))


async def replace(secrets: Secrets) -> Record:
    """This authority counts, and no other."""
    return await authorities.change(secrets, steps.replaced)


async def use_intermediate(secrets: Secrets, chain: str, key: str) -> Record:
    """The next intermediate that somebody gave."""
    return await authorities.change(secrets, lambda one: steps.given_again(one, chain, key, time.time()))


async def add_root(secrets: Secrets) -> Record:
    """First step of a rotation."""
    return await authorities.change(secrets, lambda one: steps.with_next_root(one, time.time()))


async def sign_by_next(secrets: Secrets, *, is_now: bool) -> Record:
    """Second step."""
    return await authorities.change(secrets, lambda one: steps.signing_by_next(one, time.time(), is_now=is_now))


async def drop_root(secrets: Secrets, which: str) -> Record:
    """Third step."""
    _, live = await issues.read(secrets, time.time())
    return await authorities.change(secrets, lambda one: steps.without_root(one, which, live, time.time()))


async def revoke(secrets: Secrets, line: str) -> bool:
    """Refuse renewals of a line; whether anything is known of it."""
    lines, _ = await issues.read(secrets, time.time())
    await issues.revoke(secrets, line, time.time())
    return any(one.name == line for one in lines)


async def _read(secrets: Secrets) -> Record:
    found = await authorities.read(secrets)
    if found is None:
        raise AuthorityError("there is no authority yet: `sidecar mesh ca init` makes it")
    return found[0]


def _root(record: Record, one: Signer, live: Counter[str]) -> dict[str, Any]:
    return {
        "fingerprint": one.fingerprint,
        "subject": one.own.subject.rfc4514_string(),
        "ends": pki.ends(one.own),
        "signs": one.fingerprint == record.signing,
        "has_key": bool(one.key),
        "live": live.get(one.fingerprint, 0),
    }


def _next(record: Record, now_s: float) -> str:
    """What an operator does next, if anything is under way."""
    if record.held is not None:
        return "decide: `sidecar mesh ca trust FILE` or `sidecar mesh ca replace`; until then nothing is issued"
    if pki.ends(record.root.own) <= now_s and record.next_root is None:
        return "the root has ended: `sidecar mesh ca rotate add`, then `sign`, and a new token file for every sidecar"
    if pki.ends(record.intermediate.own) <= now_s and not record.root.key:
        return "the intermediate has ended: `sidecar mesh ca intermediate --certificate FILE --key FILE` gives the next"
    if record.next_root is not None:
        return "a root rotation is under way: `sidecar mesh ca rotate sign`"
    if len(record.roots) > 1:
        return "several roots are trusted: `sidecar mesh ca rotate drop` when no live certificate needs the others"
    return ""
