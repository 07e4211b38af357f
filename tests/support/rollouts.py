"""
A mesh without processes: sidecars that do as they are told, or do not, and a record kept by compare-and-swap.

    mesh = Mesh(Rules(hold_s=30))
    mesh.push(shop=tree("a"))            # proposes a revision
    mesh.join("shop", "shop-1")
    mesh.look()                          # the mover looks, sidecars get their files and try them
    mesh.pass_time(30)

Every record that is written goes through JSON, so whatever a test does, a mover could have died in between.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.control.rollout.listeners import Tree
from sidecar.control.rollout.mover import Step, Target, advance, target_of
from sidecar.control.rollout.proposal import Event, Proposal, Rendered, Wanted, hurry, propose, rollback
from sidecar.control.rollout.record import EVERYONE, File, Record, Service, place_of
from sidecar.control.rollout.rules import Rules
from sidecar.control.rollout.status import rollouts
from sidecar.control.rollout.view import Instance, Period, View


def render(tree: Tree) -> Rendered:
    """JSON is YAML."""
    text = json.dumps(tree, sort_keys=True)
    return Rendered(hashlib.sha256(text.encode()).hexdigest()[:32], text)


def tree(version: str, **keys: Any) -> dict[str, Any]:
    """A file whose routes differ by version and by nothing else, so that a rollout has one part."""
    outbound = {"routes": [{"match": {"path": f"/{version}"}, "respond": {"status": 200}}]}
    return {"service": "x", "outbound": outbound, **keys}


@dataclass
class Sidecar:
    """One sidecar; `judges` says whether it takes a file: `accept`, `refuse` or `hang`."""

    id: str
    service: str
    judges: Callable[[str], str]
    connected_s: float
    hash: str = ""
    refused: str = ""
    is_connected: bool = True
    is_stale: bool = False
    is_outdated: bool = False
    is_draining: bool = False
    periods: list[Period] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)

    def take(self, wanted: str, revision: int) -> None:
        """Get a file."""
        self.revisions.append(revision)
        if wanted in ("", self.hash) or wanted == self.refused:
            return
        verdict = self.judges(wanted)
        if verdict == "accept":
            self.hash, self.refused = wanted, ""
        elif verdict == "refuse":
            self.refused = wanted


class Mesh:
    """All of them, the record and the files."""

    def __init__(self, rules: Rules | None = None, now_s: float = 1000.0) -> None:
        self.rules = rules or Rules(worse_by=None)
        self.now_s = now_s
        self.record = Record()
        self.trees: dict[str, Tree] = {}
        self.sidecars: dict[str, Sidecar] = {}
        self.events: list[Event] = []
        self.unseen: tuple[str, ...] = ()
        self.mover = "one"
        self.callees: dict[str, tuple[str, ...]] = {}

    def join(
        self,
        service: str,
        name: str,
        judges: Callable[[str], str] = lambda wanted: "accept",
        *,
        runs: str | None = None,
    ) -> Sidecar:
        """Start a sidecar, which gets what it should run at once, or runs something already."""
        sidecar = Sidecar(name, service, judges, self.now_s)
        self.sidecars[name] = sidecar
        if runs is not None:
            sidecar.hash = runs
        target = target_of(self.record, service, name)
        sidecar.take(target.hash, target.revision)
        return sidecar

    def fleet(self, service: str, count: int) -> list[Sidecar]:
        """So many of a service, sorted by place."""
        made = [self.join(service, f"{service}-{number}") for number in range(count)]
        return sorted(made, key=lambda one: place_of(one.id))

    def push(self, source: str = "", *, is_now: bool = False, **files: Tree | None) -> Proposal:
        """Change some services' files; None removes one."""
        wanted = dict(self.record.revisions[-1].files) if self.record.revisions else {}
        for service, content in files.items():
            if content is None:
                wanted.pop(service, None)
                continue
            hash_ = render(content).hash
            self.trees[hash_] = content
            wanted[service] = File(hash_, self.callees.get(service, ()))
        source = source or hashlib.sha256(repr(sorted(wanted.items())).encode()).hexdigest()
        said = Wanted(source, wanted, self.rules, is_now)
        return self._write(propose(self.record, said, self.trees.get, render, self.now_s))

    def back(self, number: int) -> Proposal:
        """Roll back."""
        return self._write(rollback(self.record, number, self.trees.get, render, self.now_s))

    def hurry(self) -> Proposal:
        """`--now`."""
        return self._write(hurry(self.record, self.now_s))

    def _write(self, proposal: Proposal) -> Proposal:
        self.trees |= {hash_: made.tree for hash_, made in proposal.made.items()}
        self.events += proposal.events
        self.swap(self.record, proposal.record)
        assert self.record.hashes() <= set(self.trees)
        return proposal

    def swap(self, read: Record, written: Record) -> bool:
        """Compare-and-swap, by way of JSON; whether it was written."""
        if read.version != self.record.version:
            return False
        assert (written is read) == (written.version == read.version)
        self.record = Record.from_json(json.loads(json.dumps(written.to_json())))
        assert self.record == written
        return True

    def view(self) -> View:
        """What the mover sees."""
        return View.of(
            (
                Instance(
                    one.id,
                    one.service,
                    one.hash,
                    one.refused,
                    is_connected=one.is_connected,
                    is_stale=one.is_stale,
                    is_outdated=one.is_outdated,
                    is_draining=one.is_draining,
                    connected_s=one.connected_s,
                    periods=tuple(one.periods),
                )
                for one in self.sidecars.values()
            ),
            self.unseen,
            self.mover,
        )

    def look(self, times: int = 1) -> Step:
        """The mover looks, and sidecars that are connected try what they get."""
        for _ in range(times):
            view = self.view()
            step = advance(self.record, view, self.now_s)
            again = advance(step.record, view, self.now_s)
            assert again.record is step.record, "a second look took a step"
            assert not again.events
            assert self.swap(self.record, step.record)
            self.events += step.events
            for one in self.sidecars.values():
                if one.is_connected:
                    target = self.target(one.id)
                    one.take(target.hash, target.revision)
        return step

    def target(self, name: str) -> Target:
        """What a sidecar should run."""
        return target_of(self.record, self.sidecars[name].service, name)

    def pass_time(
        self, seconds: float, traffic: Mapping[str, tuple[int, int]] | None = None, *, step_s: float = 5.0
    ) -> None:
        """
        Let time pass, with a look and a report every few seconds.

        Args:
            traffic: By sidecar, or by service: requests and failures of each report of each sidecar.
        """
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            before_s, self.now_s = self.now_s, min(end_s, self.now_s + step_s)
            for one in self.sidecars.values():
                counts = (traffic or {}).get(one.id, (traffic or {}).get(one.service))
                if counts is not None:
                    one.periods.append(Period(before_s, self.now_s, *counts))
            self.look()

    def until(self, holds: Callable[[], bool], traffic: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Let time pass until something holds, an hour at most."""
        end_s = self.now_s + 3600
        self.look()
        while not holds():
            assert self.now_s < end_s, rollouts(self.record, self.view(), self.now_s)
            self.pass_time(5, traffic)

    def until_done(self, traffic: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Let time pass until every service is done."""
        self.until(lambda: all(service.state == "done" for service in self.record.services.values()), traffic)

    def running(self, service: str, content: Tree) -> list[str]:
        """Who runs this."""
        wanted = render(content).hash
        return sorted(one.id for one in self.sidecars.values() if one.service == service and one.hash == wanted)

    def service(self, name: str) -> Service:
        """Its state in the record."""
        return self.record.services[name]

    def status(self, name: str) -> dict[str, Any]:
        """The last of its rows for people."""
        rows = rollouts(self.record, self.view(), self.now_s)
        return [row for row in rows if row["service"] == name][-1]

    def told(self, name: str) -> list[Event]:
        """Events of this name."""
        return [event for event in self.events if event.name == name]


def settled(rules: Rules | None = None, **fleets: int) -> Mesh:
    """A mesh whose services all run `tree("old")`, so many of each."""
    mesh = Mesh(rules)
    mesh.push(**{service: tree("old") for service in fleets})
    for service, count in fleets.items():
        mesh.fleet(service, count)
    mesh.until_done()
    mesh.events.clear()
    assert all(service.bands[-1].upto == EVERYONE for service in mesh.record.services.values())
    return mesh
