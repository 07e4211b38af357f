"""
Where the link and the process meet: what the link asks of it, what it tells it, how it is set, and how it stands.

`client.Link` is the one implementation of the link; whoever runs it (`runtime` or, with workers, the supervisor) is
its `Subject` and its `Receiver`. All methods are called on the event loop; none may block, and one that raises is
logged and does the stream no harm.

    link = Link(settings, subject, receiver, known={"recommendations": entries of last good, ...})
    task = create_task(link.run())           never ends and never raises, but for being cancelled
    link.changed()                           something of the subject has changed: report soon; bursts are one report
    link.keep_endpoints(names)               of the `discover`s in force; what is known of others is forgotten
    link.endpoints()                         entries by upstream, to be kept on disk
    link.state                               how it stands
    await link.goodbye(timeout_s)            whether all concerned said in time that they sent nothing more
    await link.close()                       without a goodbye, as after a takeover
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from sidecar.link.messages import Ask, Config, Current, Watch
from sidecar.link.report import Counted, Health, IdentityReport, Port, Refused, Running
from sidecar.upstream.discovery.endpoint_set import EndpointSet

Form = Literal["auto", "stream", "poll"]
"""How lines are had: `auto` is a stream, and polls as long as no lines of a stream come through."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """
    Where the control plane is, and how it is spoken to.

    Attributes:
        addresses: `http://host:port` or `https://host:port`, perhaps with a path before `/v1/`; at least one.
        token_file: Of a bearer token, read anew for each request; empty for none.
        trust_file: Of the certificates (PEM) that an `https` control plane may chain to, read anew when it changes;
            empty for the system's.
        form: Stream or long polls.
        address: By which others reach this instance: an IP address or a name; empty to find it out.
        connect_timeout_s: For resolving, connecting and the handshake.
        head_timeout_s: From a request to the head of its answer; of a long poll beyond what it waits.
    """

    addresses: tuple[str, ...]
    token_file: str = ""
    trust_file: str = ""
    form: Form = "auto"
    address: str = ""
    connect_timeout_s: float = 5.0
    head_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class LinkState:
    """
    How the link is.

    Attributes:
        is_connected: Lines come.
        address: Of the control plane that is connected or was tried last.
        since_s: When it became so; since the Unix epoch.
        last_heard_s: When something came last; 0 for never.
        revision: Newest that was heard of; 0 for none.
        failures: Attempts in a row that came to nothing.
        why: Why it is not connected; empty if it is, or if nothing was tried yet.
        is_polling: Lines are had by long polls.
        own_address: By which others reach this instance, as it is reported; empty if it is not known.
        own_address_why: Where it was had from, or why it is not known.
    """

    is_connected: bool = False
    address: str = ""
    since_s: float = 0.0
    last_heard_s: float = 0.0
    revision: int = 0
    failures: int = 0
    why: str = ""
    is_polling: bool = False
    own_address: str = ""
    own_address_why: str = ""


class Receiver(Protocol):
    """Who is told what the control plane says."""

    def on_config(self, config: Config) -> None:
        """Run this file. It may be one that was refused before: whoever asks keeps what it thought of a hash."""

    def on_current(self, current: Current) -> None:
        """The file of `Watch.config` is the one wanted, perhaps by a newer revision's number."""

    def on_absent(self, why: str) -> None:
        """There is no file for this sidecar now; what runs goes on."""

    def on_renew(self, within_s: float) -> None:
        """The authority has changed: ask for another certificate at some time from now to then."""

    def on_endpoints(self, upstream: str, version: str, found: EndpointSet) -> None:
        """
        These are the endpoints of `discover: upstream` from now on: for `Discovery.tell`. When it returns they are
        taken to be in force and are reported as `version`.
        """

    async def answer(self, ask: Ask) -> Mapping[str, object] | None:
        """
        Answer a question; None for a kind that is not known. What it raises is told as the error. Cancelled after
        `reports.answers.ANSWER_LIMIT_S`.
        """
        ...

    def on_state(self, state: LinkState) -> None:
        """Something of the link has changed; not called for `last_heard_s` alone, which `Link.state` has."""


class Subject(Protocol):
    """What a report and the question that opens a stream need of the process."""

    def watch(self) -> Watch:
        """
        Who this is. `config` is the hash of the pushed file that was had last, be it in force, being prepared or
        refused, so that it is not sent again; `endpoints` is filled in by the link.
        """
        ...

    def health(self) -> Health:
        """Of the app: `app_health.AppHealth.health`."""
        ...

    def running(self) -> Running:
        """What is in force."""
        ...

    def refused(self) -> Refused | None:
        """The last pushed file, if it was refused."""
        ...

    def ports(self, host: str) -> Mapping[str, Port]:
        """
        The app's ports by name, as others reach them.

        Args:
            host: This instance's own address, an IP address without brackets or a name; never empty.
        """
        ...

    def identity_report(self) -> IdentityReport | None:
        """What is held of it: `identity.joiner.Joiner.report`, or of another source; None where there is to be none."""
        ...

    def weight(self) -> float:
        """Relative to the other instances of the service."""
        ...

    async def counts(self) -> Counted:
        """
        What was counted since the last call: `edges.EdgeReader.read`. The link keeps it until it is delivered, so
        each count is to be told once. Called once for each report, never for a request.
        """
        ...
