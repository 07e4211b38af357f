"""
Endpoints of one origin over time: the set of now, the last few before it, and lines from one to the other. *Pure.*

A change that concerns a thousand sidecars is written once: those who have the version before share the line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from sidecar.link.messages import EndpointEntry, Endpoints, endpoints_version, write_line

HISTORY: Final = 64
"""Versions that are remembered: who is further behind is told everything."""


class View:
    """
    A set of endpoints.

    Attributes:
        version: Of the content.
        entries: By address.
    """

    __slots__ = ("_lines", "entries", "version")

    def __init__(self, entries: Iterable[EndpointEntry]) -> None:
        self.entries: Mapping[str, EndpointEntry] = {one.address: one for one in entries}
        self.version = endpoints_version(self.entries.values())
        self._lines: dict[tuple[str, str, bool], bytes] = {}

    def line(self, upstream: str, base: View | None, *, is_awaited: bool = False) -> bytes:
        """The line that makes this view out of another, or out of nothing; `is_awaited` as `Endpoints` says."""
        key = upstream, base.version if base is not None else "", is_awaited
        line = self._lines.get(key)
        if line is None:
            told = replace(change(upstream, base, self), is_awaited=is_awaited)
            line = self._lines[key] = write_line(told)
        return line

    def let_go(self) -> None:
        """It is not the newest any more: nobody will ask for its lines."""
        self._lines.clear()


def change(upstream: str, base: View | None, view: View) -> Endpoints:
    """What is other in a view; everything, if there is nothing to compare it with."""
    if base is None:
        return Endpoints(upstream, view.version, "", tuple(view.entries.values()))
    added = tuple(entry for address, entry in view.entries.items() if base.entries.get(address) != entry)
    removed = tuple(address for address in base.entries if address not in view.entries)
    return Endpoints(upstream, view.version, base.version, added, removed)


class Views:
    """
    Attributes:
        current: None until it was set; an empty set is one.
        is_sure: Whether it is all there is. Until then it is for those who know nothing: after a restart without a copy
            of what was, or before a source has answered, somebody who knows more is not told less.
    """

    __slots__ = ("_past", "current", "is_sure")

    def __init__(self) -> None:
        self.current: View | None = None
        self.is_sure = False
        self._past: OrderedDict[str, View] = OrderedDict()

    def set(self, entries: Iterable[EndpointEntry], *, is_sure: bool = True) -> bool:
        """These are the endpoints from now on; whether that is a change."""
        was_sure, self.is_sure = self.is_sure, is_sure
        known = self.current.entries if self.current is not None else {}
        # What is as it was is the same object: most of each of the versions that are remembered.
        view = View(before if (before := known.get(one.address)) == one else one for one in entries)
        if self.current is not None and self.current.version == view.version:
            return is_sure and not was_sure
        if self.current is not None:
            self.current.let_go()
        # A set that was there before is that very one again, and its lines with it.
        self.current = self._past.pop(view.version, view)
        self._past[view.version] = self.current
        while len(self._past) > HISTORY:
            self._past.popitem(last=False)
        return True

    def of(self, version: str) -> View | None:
        """A view of this version, if it is remembered."""
        return self._past.get(version)
