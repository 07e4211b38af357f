"""What a control plane is told of this process's certificate, whoever signed it. *Pure, cold.*"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sidecar.link.identity.held import Held
from sidecar.link.report import IdentityReport
from sidecar.net.tls.settings import ControlIdentity
from sidecar.security.identity.certificates.facts import authorities
from sidecar.security.identity.certificates.pem import certificates
from sidecar.security.identity.certificates.trouble import TroubleError

if TYPE_CHECKING:
    # Not what a supervisor needs, which holds certificates for its workers only.
    from sidecar.security.identity.holder import Identity


class Ends:
    """When who signed a certificate ends, read once for each that is held."""

    def __init__(self) -> None:
        self._of: Held | None = None
        self._ends = 0.0, 0.0

    def beside(self, report: IdentityReport, held: Held | None) -> IdentityReport:
        """The report with these ends in it."""
        if held is None:
            return report
        if held is not self._of:
            self._of, self._ends = held, _ends(held)
        issuer_s, root_s = self._ends
        return replace(report, issuer_not_after_s=issuer_s, root_not_after_s=root_s, not_before_s=held.not_before_s)


def _ends(held: Held) -> tuple[float, float]:
    try:
        above = list(authorities(certificates(held.certificate.encode(), "certificate")[1:], "certificate").values())
        roots = list(authorities(certificates(held.trust.encode(), "trust"), "trust").values())
    except TroubleError:  # it is told where it matters, which is whoever shows it to peers
        return 0.0, 0.0
    own = [one for one in roots if one.subject in {held.issuer, *(one.issuer for one in above)}] or roots
    return min((one.not_after_s for one in above), default=0.0), max((one.not_after_s for one in own), default=0.0)


def of_holder(identity: Identity) -> IdentityReport | None:
    """Of one that has its certificate from files or a workload API; None where the control plane signs it."""
    if identity.source is None or isinstance(identity.source, ControlIdentity):
        return None
    held, trouble = identity.credentials, identity.workload.trouble
    if held is None:
        return IdentityReport(last_error=trouble.text if trouble is not None else "")
    return IdentityReport(
        held.identity,
        held.leaf.not_after_s,
        held.leaf.issuer,
        trouble.text if trouble is not None else "",
        held.issuer.not_after_s if held.issuer is not None else 0.0,
        held.root.not_after_s if held.root is not None else 0.0,
        held.leaf.not_before_s,
    )
