"""From what was read to contexts, judged on the way. *Cold; some 10 to 20 ms, for a thread.*"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sidecar.net.tls.settings import SYSTEM, FilesIdentity, OutsideTls, Pair, ServerTls
from sidecar.security.identity import contexts
from sidecar.security.identity.certificates.credentials import Credentials, Material, read_credentials
from sidecar.security.identity.certificates.facts import Facts
from sidecar.security.identity.certificates.pair import KeyPair, read_pair
from sidecar.security.identity.certificates.roots import Roots, read_roots
from sidecar.security.identity.certificates.trouble import Trouble, TroubleError
from sidecar.security.identity.certificates.validity import (
    AUTHORITY_NOTICE_S,
    LEAF_NOTICE_S,
    Life,
    judge_times,
    life_of,
)

Which = Literal["leaf", "issuer", "root"]

Contents = Mapping[str, bytes]
"""Of files, by path."""


@dataclass(frozen=True, slots=True)
class Held:
    """
    A certificate whose end is looked at.

    Attributes:
        which: `leaf` is shown; `issuer` has signed it, or who did; `root` is where a chain ends.
        facts: What it says.
        at: Where it is from.
        renew_after_s: From when on it is renewed, if that is known.
    """

    which: Which
    facts: Facts
    at: str
    renew_after_s: float | None = None

    def life(self, now_s: float) -> Life:
        """How much of its life is left."""
        notice_s = LEAF_NOTICE_S if self.which == "leaf" else AUTHORITY_NOTICE_S
        return life_of(self.facts.not_before_s, self.facts.not_after_s, now_s, self.renew_after_s, notice_s)


@dataclass(frozen=True, slots=True)
class Made:
    """
    What can be put in the place of what is held.

    Attributes:
        server: For listeners; None for upstreams outside.
        client: For upstreams; None for listeners outside.
        stream_server: Of the workload: for listeners that take more than HTTP; None for what is outside.
        stream_client: Of the workload: for upstreams that are sent what is no HTTP; None for what is outside.
        shared_client: As `client`, for connections that many requests share.
        certificates: Whose ends are looked at.
        credentials: Of the workload; None for what is outside.
        trouble: What is wrong with it all the same.
        others: Names of the identities that its source has besides.
    """

    server: ssl.SSLContext | None
    client: ssl.SSLContext | None
    certificates: tuple[Held, ...]
    credentials: Credentials | None = None
    trouble: Trouble | None = field(default=None)
    others: tuple[str, ...] = ()
    stream_server: ssl.SSLContext | None = None
    stream_client: ssl.SSLContext | None = None
    shared_client: ssl.SSLContext | None = None


def identity_paths(source: FilesIdentity) -> tuple[str, ...]:
    """What a workload's own files are."""
    return source.pair.certificate, source.pair.key, source.trust


def material_of(source: FilesIdentity, contents: Contents) -> Material:
    """A workload's own files as what is judged."""
    certificate, key, trust = identity_paths(source)
    return Material(contents[certificate], contents[key], contents[trust], certificate, key, trust)


def make_identity(material: Material, now_s: float, trust_domain: str) -> Made:
    """
    For the mesh's listeners and upstreams.

    Raises:
        TroubleError: It is not to be used.
        OSError: Not now.
    """
    found = read_credentials(material, now_s, trust_domain)
    held = [Held("leaf", found.leaf, material.certificate_at, found.renew_after_s)]
    if found.issuer is not None:
        held.append(Held("issuer", found.issuer, material.certificate_at))
    if found.root is not None:
        held.append(Held("root", found.root, material.trust_at))
    return Made(
        contexts.mesh_server(found),
        contexts.mesh_client(found),
        tuple(held),
        found,
        stream_server=contexts.mesh_server(found, takes_streams=True),
        stream_client=contexts.mesh_client(found, is_stream=True),
        shared_client=contexts.mesh_client(found, is_shared=True),
    )


def listener_paths(settings: OutsideTls) -> tuple[str, ...]:
    """The files of a listener for clients outside."""
    trust = (settings.client_trust,) if settings.client_trust else ()
    return (*(path for pair in settings.pairs for path in (pair.certificate, pair.key)), *trust)


def make_listener(settings: OutsideTls, contents: Contents, now_s: float, is_first: bool) -> Made:
    """
    For a listener for clients outside.

    Args:
        is_first: Nothing is held: one whose time it is not is better than none, for who asks is told more by it.

    Raises:
        TroubleError: It is not to be used.
        OSError: Not now.
    """
    pairs = [_pair(one, contents) for one in settings.pairs]
    for pair in pairs:
        if not pair.is_for_servers:
            raise TroubleError(
                "wrong_purpose",
                f"{pair.at}: the certificate of {pair.leaf.name} is for clients only, and a listener shows it as a "
                f"server; have {pair.leaf.issuer} sign it with the extended key usage serverAuth",
            )
    trust = read_roots(contents[settings.client_trust], settings.client_trust) if settings.client_trust else None
    trouble = _judged(pairs, now_s, is_first)
    server = contexts.outside_server(pairs, trust, settings.min_version, takes_streams=settings.takes_streams)
    return Made(server, None, (*_held_of(pairs), *_held_of_trust(trust)), trouble=trouble)


def upstream_paths(settings: ServerTls) -> tuple[str, ...]:
    """The files of an upstream outside, but for the machine's own."""
    trust = (settings.trust,) if settings.is_verified and settings.trust != SYSTEM else ()
    return (*trust, settings.pair.certificate, settings.pair.key) if settings.pair is not None else trust


def make_upstream(settings: ServerTls, contents: Contents, now_s: float, is_first: bool) -> Made:
    """
    For an upstream outside.

    Args:
        settings: With a path in the place of `SYSTEM`, if this machine has one.
        is_first: As `make_listener`.

    Raises:
        TroubleError: It is not to be used.
        OSError: Not now.
    """
    roots = None
    if settings.is_verified:
        if settings.trust == SYSTEM:
            raise TroubleError(
                "unreadable",
                "this machine has no file of roots that it trusts; install its ca-certificates, or name a file by "
                "`trust`, and start anew",
            )
        roots = read_roots(contents[settings.trust], settings.trust)
    pair = _pair(settings.pair, contents) if settings.pair is not None else None
    if pair is not None and not pair.is_for_clients:
        raise TroubleError(
            "wrong_purpose",
            f"{pair.at}: the certificate of {pair.leaf.name} is for servers only, and an upstream shows it as a "
            f"client; have {pair.leaf.issuer} sign it with the extended key usage clientAuth",
        )
    pairs = [pair] if pair is not None else []
    trouble = _judged(pairs, now_s, is_first)
    client = contexts.outside_client(roots, pair, settings.min_version, is_stream=settings.is_stream)
    shared = None if settings.is_stream else contexts.outside_client(roots, pair, settings.min_version, is_shared=True)
    certificates = (*_held_of(pairs), *_held_of_trust(roots))
    return Made(None, client, certificates, trouble=trouble, shared_client=shared)


def _pair(paths: Pair, contents: Contents) -> KeyPair:
    return read_pair(contents[paths.certificate], contents[paths.key], paths.certificate, paths.key)


def _judged(pairs: Sequence[KeyPair], now_s: float, is_first: bool) -> Trouble | None:
    try:
        for pair in pairs:
            judge_times((pair.leaf,), pair.at, now_s)
    except TroubleError as error:
        if not is_first:
            raise
        return error.trouble
    return None


def _held_of(pairs: Sequence[KeyPair]) -> list[Held]:
    held = []
    for pair in pairs:
        held.append(Held("leaf", pair.leaf, pair.at))
        if pair.authorities:
            held.append(Held("issuer", min(pair.authorities, key=lambda one: one.not_after_s), pair.at))
    return held


def _held_of_trust(roots: Roots | None) -> list[Held]:
    """The root of a bundle of one; that one of many ends is no news."""
    if roots is None or len(roots.authorities) != 1:
        return []
    return [Held("root", one, roots.at) for one in roots.authorities.values()]
