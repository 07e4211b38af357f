"""
A configuration on its way to the data path: a sequence of frames, plain bytes each, whoever carries them. *Cold.*

    compiler process --frames--> data path                             by default
    compiler process --frames--> supervisor --the same--> each worker  a supervisor keeps and forwards them verbatim

    frames = header, problem*, end                                               a file that is refused
           | header, shapes, settings, upstreams*, routes*, rules*, test*, lines*, end   a file that is good

The header is small and JSON: whether the file is good, its digest, what to listen on, how many workers. Reading it
needs nothing of the data path and builds nothing. All other frames are `deserialize`'s business; long lists are cut, so
that one frame is loaded and built within about a millisecond. The file was judged before the first frame is sent: its
own tests included, so that a good one is refused by a data path only for what the machine lacks, such as an address.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Final

from sidecar import __version__
from sidecar.config.problems import Problem
from sidecar.net.tls.settings import ControlIdentity, FilesIdentity, IdentitySource, Pair, WorkloadApiIdentity

PROBLEMS_A_FRAME: Final = 50
MAX_WARNINGS: Final = 50


class Kind(IntEnum):
    """
    What a frame is: its first byte. The rest is JSON for HEADER, PROBLEMS and REPORT (of no configuration), else
    for `deserialize` to read.
    """

    HEADER = 1
    PROBLEMS = 2
    SHAPES = 3
    SETTINGS = 4
    UPSTREAMS = 5
    ROUTES = 6
    TESTS = 7
    LINES = 8
    END = 9
    RULES = 10
    REPORT = 11


class FrameError(Exception):
    """What came is not what a compiler of this version sends; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class WantedListener:
    """
    An address that the file wants to be listened on.

    Attributes:
        role: `inbound`, `outbound`, `metrics` or `admin`.
        address: As in the file, variables replaced: `host:port`, `[v6]:port` or `unix:/path`.
        host: That every request here is for, lower case, with or without a port, or None.
        location: Where the models have it, such as `("outbound", "listen", 0, "address")`.
        line: Where the file says so, from 1; for problems. So for `column`, `path` and `file`, the name of the file.
        hosts: Of metrics and admin: by which names it may be called besides those of loopback.
        name: Of the app's port that it is, or empty.
        app: Where the app listens for what comes in here, or None where that is said for all.
        tls: What is taken there beside, or instead of, what comes in clear, in a word: `security.tls.mode_of`.
        captures: Whether the kernel leads connections here that were meant for others.
        protocol: What is spoken there: `http`, `tcp`, or `auto` for what the first octets say.
        app_protocol: Which HTTP the `app` speaks (`ClusterSpec.protocol`); of no account without one.
    """

    role: str
    address: str
    host: str | None
    location: tuple[int | str, ...]
    line: int
    column: int
    path: str
    hosts: tuple[str, ...] = ()
    file: str = ""
    name: str = ""
    app: str | None = None
    tls: str = "off"
    captures: bool = False
    protocol: str = "http"
    app_protocol: str = "auto"


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """
    What a sidecar's local file and its command line say of the control plane that it follows.

    Attributes:
        addresses: Its URLs, at least one.
        service: Who this is, in the mesh. So for `version` and `zone`, which may be empty.
        token_file: Empty for none; so for `trust`.
        form: `auto`, `stream` or `poll`.
        address: By which others reach this instance; empty to find it out.
        instance: Empty to make one.
        bootstrap: Path of a file that stands for a pushed one at need; empty for none.
        state: Directory for what was pushed; empty where nobody says, `off` for none.
    """

    addresses: tuple[str, ...]
    service: str
    version: str = ""
    zone: str = ""
    token_file: str = ""
    trust: str = ""
    form: str = "auto"
    address: str = ""
    instance: str = ""
    weight: float = 1.0
    bootstrap: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """
    What is known about a configuration without building it.

    Attributes:
        is_ok: Whether it may be put in force; else `PROBLEMS` follow, or `error` says why.
        digest_hex: SHA-256 of the file, or of the pushed one's values; empty if it could not be read.
        listeners: What to listen on; empty where `is_ok` is not.
        workers: Data-path processes that the file wants, 1 or more.
        error: Why there is no configuration, if not for something in the file: one line, else empty.
        warnings: What the file hardly means, a line each; at most `MAX_WARNINGS`.
        is_transient: Whether `error` may pass by itself.
        local_files: The files besides a pushed one that the configuration is in, `(path, SHA-256)`.
        secret_files: Files that the file reads secrets from, `(path, SHA-256)`; empty digests could not be read.
        secrets: What was read from them, which nobody may show.
        pushed: Name of the file that was pushed, or stands for one; empty where the local file is all there is.
        discovers: Names of what upstreams discover.
        control: The control plane that is to be followed, and who this is (`ControlSettings`); None for none.
        identity: Where our own certificate comes from, for who needs it before there is a plan; None for nowhere.
        guard: What a reload may do to recent requests: the share in percent of them that may go elsewhere, and how many
            there must be; None: anything.
        version: Of the compiler, which must be the reader's: a new version may be installed while an old one runs.
    """

    is_ok: bool
    digest_hex: str = ""
    listeners: tuple[WantedListener, ...] = ()
    workers: int = 1
    error: str = ""
    is_transient: bool = False
    secret_files: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    version: str = __version__
    warnings: tuple[str, ...] = ()
    pushed: str = ""
    discovers: tuple[str, ...] = ()
    control: ControlSettings | None = None
    local_files: tuple[tuple[str, str], ...] = ()
    identity: IdentitySource | None = None
    guard: tuple[float, int] | None = None

    @property
    def config_hash(self) -> str:
        """First 12 hexadecimal digits of the digest: how the file is called in logs and metrics."""
        return self.digest_hex[:12]

    def to_frame(self) -> bytes:
        """As a frame."""
        said = asdict(self)
        if self.identity is not None:
            said["identity"]["kind"] = type(self.identity).__name__
        return make_frame(Kind.HEADER, json.dumps(said).encode())


def make_frame(kind: Kind, payload: bytes = b"") -> bytes:
    """A frame of this kind."""
    return bytes((kind,)) + payload


def kind_of(frame: bytes) -> Kind:
    """
    What a frame is.

    Raises:
        FrameError: It is none.
    """
    try:
        return Kind(frame[0])
    except (IndexError, ValueError):
        raise FrameError(f"expected a frame, found {frame[:20]!r}") from None


def read_header(frame: bytes) -> Header:
    """
    The header, from the first frame.

    Raises:
        FrameError: It is something else, or of another version.
    """
    if kind_of(frame) is not Kind.HEADER:
        raise FrameError(f"expected a header, found {frame[:20]!r}")
    try:
        said = json.loads(frame[1:])
        version = said["version"]
    except (ValueError, LookupError, TypeError):
        raise FrameError(f"expected a header, found {frame[:20]!r}") from None
    if version != __version__:
        hint = "another one was installed meanwhile: restart this one"
        raise FrameError(f"expected a compiler of version {__version__}, found {version}; {hint}")
    try:
        listeners = (
            WantedListener(**{**one, "location": tuple(one["location"]), "hosts": tuple(one["hosts"])})
            for one in said["listeners"]
        )
        tuples = {
            "listeners": tuple(listeners),
            "warnings": tuple(said["warnings"]),
            "local_files": tuple((path, digest_hex) for path, digest_hex in said["local_files"]),
            "secret_files": tuple((path, digest_hex) for path, digest_hex in said["secret_files"]),
            "secrets": tuple(said["secrets"]),
            "discovers": tuple(said["discovers"]),
        }
        control = said["control"]
        if control is not None:
            control = ControlSettings(**{**control, "addresses": tuple(control["addresses"])})
        identity = _identity(said["identity"]) if said["identity"] is not None else None
        guard = (said["guard"][0], said["guard"][1]) if said["guard"] is not None else None
        return Header(**{**said, **tuples, "control": control, "identity": identity, "guard": guard})
    except (LookupError, TypeError, ValueError):
        raise FrameError("expected a header, found other keys") from None


def _identity(said: dict[str, Any]) -> IdentitySource:
    match said.pop("kind"):
        case "FilesIdentity":
            return FilesIdentity(**{**said, "pair": Pair(**said["pair"])})
        case "WorkloadApiIdentity":
            return WorkloadApiIdentity(**said)
        case "ControlIdentity":
            return ControlIdentity(**said)
        case kind:
            raise ValueError(f"expected a source of identities, found {kind!r}")


def problem_frames(problems: Sequence[Problem]) -> list[bytes]:
    """Problems as frames."""
    pieces = (problems[at : at + PROBLEMS_A_FRAME] for at in range(0, len(problems), PROBLEMS_A_FRAME))
    return [make_frame(Kind.PROBLEMS, json.dumps([asdict(one) for one in piece]).encode()) for piece in pieces]


def read_problems(frame: bytes) -> list[Problem]:
    """The problems of one frame of kind `PROBLEMS`."""
    try:
        return [Problem(**one) for one in json.loads(frame[1:])]
    except (ValueError, TypeError):
        raise FrameError(f"expected problems, found {frame[:20]!r}") from None
