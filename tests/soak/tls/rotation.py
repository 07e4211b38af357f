"""
Certificates that change all the time, and what the sidecar must tell of each change: good ones take the place of what
there is, bad ones do not, and are told in `/certs`, in the metric and in the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.soak.surroundings import StormSidecar
from tests.soak.tls.world import Fault, World
from tests.support.certificates import Leaf
from tests.support.wait import eventually

Step = tuple[str, str]
"""What comes for the mesh (`add`, `sign` and `drop` a root, `renew`, or a fault), and what for outside (`renew`, or a
fault)."""

COURSE: Sequence[Step] = (
    ("add", "half_written"),
    ("half_written", "renew"),
    ("sign", "key_mismatch"),
    ("key_mismatch", "renew"),
    ("drop", "expired"),
    ("expired", "renew"),
    ("renew", "renew"),
)
"""Again and again."""
SHORT_COURSE: Sequence[Step] = (("add", "half_written"), ("sign", "renew"), ("key_mismatch", "expired"))
"""In the short storm; the first root is dropped as a successor takes over."""

FAULTS: tuple[Fault, ...] = ("half_written", "key_mismatch", "expired")
_MOST_S = 60.0


class Rotation:
    """
    Args:
        world: Who signs, and the files.
        sidecar: Who is to notice.
        tell_others: Has servers and clients show what the world has for them now.

    Attributes:
        counts: What was put into the files of the mesh (`identity`) and of outside (`upstream`): by place and outcome,
            `replaced` or `refused`.
        kinds: The same by what it was.
        dropped: Roots that nobody believes any more.
    """

    def __init__(self, world: World, sidecar: Callable[[], StormSidecar], tell_others: Callable[[], None]) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.kinds: Counter[str] = Counter()
        self.dropped = 0
        self._world = world
        self._sidecar = sidecar
        self._tell_others = tell_others
        self._is_bad = False
        self._shown: dict[str, Leaf] = {}

    def begin(self) -> None:
        """What the sidecar starts with."""
        world = self._world
        self._shown = {"identity": world.give_identity(world.root), "upstream": world.give_partner()}
        world.give_others()

    def step(self, step: Step) -> None:
        """Put it there, and wait until the sidecar has it, or has told why not."""
        self.put(step)
        self.see(step)

    def calm(self) -> None:
        """Good files, if the last ones were not."""
        if self._is_bad:
            self.step(("renew", "renew"))

    def last(self) -> Step:
        """For the moment of a takeover: a root goes, if one is to go."""
        return ("drop" if len(self._world.believed) > 1 else "renew", "renew")

    def put(self, step: Step) -> None:
        """Swap the files."""
        world = self._world
        mesh, outside = step
        for fault in FAULTS:
            if mesh == fault:
                world.spoil_identity(fault)
            if outside == fault:
                world.spoil_partner(fault)
        if mesh not in FAULTS:
            if mesh == "add":
                world.add()
            elif mesh == "drop":
                world.drop()
                self.dropped += 1
            signer = world.root if mesh in ("add", "renew") else world.newest
            self._shown["identity"] = world.give_identity(signer)
        if outside not in FAULTS:
            self._shown["upstream"] = world.give_partner()
        self._is_bad = mesh in FAULTS or outside in FAULTS

    def see(self, step: Step, *, is_counted: bool = True) -> None:
        """Wait until the sidecar has seen it; `is_counted`: as a change, not as what it started with."""
        for place, what in zip(("identity", "upstream"), step, strict=True):
            self._see(place, what)
            self.kinds[what] += is_counted
            self.counts[place, "refused" if what in FAULTS else "replaced"] += is_counted
        self._world.give_others()
        self._tell_others()

    def _see(self, place: str, what: str) -> None:
        shown = self._shown[place].fingerprint
        if what not in FAULTS:
            eventually(lambda: self._is_shown(place, shown), f"{what} of {place} to be shown", _MOST_S)
            return
        found: dict[str, Any] = eventually(lambda: self._trouble(place), f"{what} of {place} to be told", _MOST_S)
        sidecar = self._sidecar()
        assert found["code"] == what, found
        assert self._leaf(place) == shown, f"{what} of {place} took the place of what there was"
        assert sidecar.metric("sidecar_certificate_troubles", purpose=place) == 1
        eventually(lambda: _is_told(sidecar.stderr(), place, what), f"a line about {what} of {place}")

    def _is_shown(self, place: str, fingerprint: str) -> bool:
        if self._trouble(place) is not None or self._leaf(place) != fingerprint:
            return False
        if place == "upstream":
            return True
        held = self._held(place)
        expected = {one.fingerprint for one in map(_of_root, self._world.believed)}
        return {one["sha256"] for one in held["trust"]} == expected

    def _held(self, place: str) -> dict[str, Any]:
        said = self._sidecar().admin("/certs").json()
        found: dict[str, Any] = said["identity"] if place == "identity" else said["upstreams"][0]
        return found

    def _trouble(self, place: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._held(place)["last_error"]
        return found

    def _leaf(self, place: str) -> str:
        held = self._held(place)
        if place == "identity":
            return str(held["certificate"]["sha256"])
        return next(str(one["sha256"]) for one in held["certificates"] if one["which"] == "leaf")


def _is_told(log: str, place: str, what: str) -> bool:
    wanted = (" certificate_refused ", f" purpose={place} ", f" code={what} ")
    return any(all(one in line for one in wanted) for line in log.splitlines())


def _of_root(root: Any) -> Leaf:
    return Leaf(root.certificate, root.key)
