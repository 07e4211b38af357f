"""What is held and how it is: for `/certs`, and for the report to a control plane. *Pure, cold.*"""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.net.tls.settings import ControlIdentity, FilesIdentity, IdentitySource, WorkloadApiIdentity
from sidecar.security.identity.certificates.facts import Facts
from sidecar.security.identity.certificates.trouble import Trouble, moment
from sidecar.security.identity.certificates.validity import DAY_S, Life
from sidecar.security.identity.holder import Identity
from sidecar.security.identity.kept import Kept
from sidecar.security.identity.making import Held

MAX_ROOTS_SHOWN = 20
"""Of one bundle; those of a machine are some 150."""


def status(identity: Identity, now_s: float) -> dict[str, object] | None:
    """The workload's own identity in a few words, for the report to a control plane; None if it is to have none."""
    if identity.source is None:
        return None
    kept, held = identity.workload, identity.credentials
    return {
        "identity": held.identity if held is not None else None,
        "source": _source(identity.source)["from"],
        "life": _worst(kept, now_s),
        "not_after": held.leaf.not_after_s if held is not None else None,
        "issuer_not_after": held.issuer.not_after_s if held is not None and held.issuer is not None else None,
        "root_not_after": held.root.not_after_s if held is not None and held.root is not None else None,
        "roots": [one.fingerprint for one in held.roots.authorities.values()] if held is not None else [],
        "rotations": kept.replaced,
        "trouble": {"code": kept.trouble.code, "text": kept.trouble.text} if kept.trouble is not None else None,
    }


def certs(identity: Identity, now_s: float) -> dict[str, object]:
    """All that `/certs` shows; never anything of a key."""
    return {
        "time": moment(now_s),
        "identity": _identity(identity, now_s),
        "listeners": [_outside(kept, now_s) for kept in identity.kept if kept.purpose == "listener"],
        "upstreams": [_outside(kept, now_s) for kept in identity.kept if kept.purpose == "upstream"],
        "unverified_upstreams": list(identity.unverified),
    }


def _identity(identity: Identity, now_s: float) -> dict[str, object] | None:
    if identity.source is None:
        return None
    kept, held = identity.workload, identity.credentials
    shown: dict[str, object] = {
        "source": _source(identity.source),
        "id": held.identity if held is not None else None,
        "trust_domain": held.trust_domain if held is not None else None,
        **_state(kept, now_s),
    }
    if identity.agent is not None:
        shown["agent"] = {"state": identity.agent.state, "connections": identity.agent.connections}
        shown["others"] = list(kept.made.others) if kept.made is not None else []
    if held is not None:
        shown["certificate"] = _certificate(held.leaf)
        shown["chain"] = [_certificate(one) for one in held.above]
        roots = list(held.roots.authorities.values())
        shown["trust"] = [_certificate(one) for one in roots[:MAX_ROOTS_SHOWN]]
        shown["trust_size"] = len(roots)
    return shown


def _outside(kept: Kept, now_s: float) -> dict[str, object]:
    held = kept.made.certificates if kept.made is not None else ()
    return {
        "of": list(kept.names),
        "files": list(kept.files.paths) if kept.files is not None else [],
        **_state(kept, now_s),
        "certificates": [{"which": one.which, "file": one.at, **_certificate(one.facts)} for one in held],
    }


def _source(source: IdentitySource) -> dict[str, object]:
    match source:
        case FilesIdentity():
            pair = source.pair
            return {"from": "files", "certificate": pair.certificate, "key": pair.key, "trust": source.trust}
        case WorkloadApiIdentity():
            return {"from": "workload_api", "address": source.address}
        case ControlIdentity():
            return {"from": "control", "keep": source.keep}


def _state(kept: Kept, now_s: float) -> dict[str, object]:
    return {
        "life": _worst(kept, now_s),
        "ends": [_end(one, now_s) for one in kept.made.certificates] if kept.made is not None else [],
        "since": moment(kept.made_at_s) if kept.made is not None else None,
        "replaced": kept.replaced,
        "refused": kept.refused,
        "last_error": _trouble(kept.trouble, kept.trouble_since_s),
    }


_WORST: Mapping[Life, int] = {"fine": 0, "due": 1, "not_yet": 2, "last_quarter": 3, "expired": 4}


def _worst(kept: Kept, now_s: float) -> Life | None:
    lives = [one.life(now_s) for one in kept.made.certificates] if kept.made is not None else []
    return max(lives, key=_WORST.__getitem__, default=None)


def _end(held: Held, now_s: float) -> dict[str, object]:
    return {
        "which": held.which,
        "certificate": held.facts.name,
        "life": held.life(now_s),
        "not_after": moment(held.facts.not_after_s),
        "days_left": round((held.facts.not_after_s - now_s) / DAY_S, 2),
        "renew_after": moment(held.renew_after_s) if held.renew_after_s is not None else None,
    }


def _certificate(facts: Facts) -> dict[str, object]:
    return {
        "subject": facts.subject,
        "issuer": facts.issuer,
        "serial": facts.serial,
        "not_before": moment(facts.not_before_s),
        "not_after": moment(facts.not_after_s),
        "sha256": facts.fingerprint,
        "names": list(facts.names),
        "uris": list(facts.uris),
    }


def _trouble(trouble: Trouble | None, since_s: float) -> dict[str, object] | None:
    if trouble is None:
        return None
    return {
        "code": trouble.code,
        "text": trouble.text,
        "since": moment(since_s),
        "until": moment(trouble.until_s) if trouble.until_s is not None else None,
    }
