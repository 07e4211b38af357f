"""
The endpoints of a Service, out of its EndpointSlices. *Pure.*

A Service has any number of slices: a hundred endpoints each, one set for IPv4 and one for IPv6, and one for each
combination of port numbers where pods differ in them. The controller moves endpoints between slices, so one may be in
two for a moment; what counts is the better of both.

    deleted, or terminating, while its slice lives          a fact
    slice deleted, or not there after all were listed again vanished: doubt judges

A slice is the same as before by its UID: one that was deleted and made again says nothing of who was in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sidecar.control.engines.interface import Sighted, Sighting
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.wire import ApiError, Object
from sidecar.net.address import join_host_port

_TERMINATING: Final = 0
_NOT_READY: Final = 1
_READY: Final = 2


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Of a slice: how well it is, where, and which pod it is of (empty: nobody says)."""

    address: str
    state: int
    zone: str
    target: str
    is_v6: bool


@dataclass(frozen=True, slots=True)
class _Slice:
    """
    One of them.

    Attributes:
        endpoints: At the port that is wanted.
        ports: Names of its ports, if the wanted one is not among them though there are endpoints.
    """

    uid: str
    endpoints: tuple[_Endpoint, ...]
    ports: tuple[str, ...] = ()


class Slices:
    """
    Args:
        service: `namespace/name`, for problems.
        port: Name of the Service's port, or its number.

    Attributes:
        problem: Why there may be less than should be; empty for nothing.
    """

    def __init__(self, service: str, port: str | int) -> None:
        self.problem = ""
        self._service = service
        self._port = port
        self._name: str | None = port if isinstance(port, str) else None
        self._port_problem = ""
        self._raw: dict[str, Object] = {}
        self._slices: dict[str, _Slice] = {}
        self._damaged: dict[str, str] = {}

    def service_is(self, found: Object | None) -> Sighting:
        """
        The Service itself, of which a port's number is: slices know the numbers of pods, and the names of the Service's
        ports. Where there is no Service, for somebody else makes the slices, a number is of the slices.
        """
        self._port_problem, self._name = "", None
        if found is not None:
            ports = wire.parts(wire.part(found, "spec"), "ports")
            names = [wire.text(one, "name") for one in ports if one.get("port") == self._port and _is_tcp(one)]
            if names:
                self._name = names[0]
            else:
                known = ", ".join(f"{one.get('port')}" for one in ports if _is_tcp(one)) or "none"
                self._port_problem = f"{self._service}: the Service has no TCP port {self._port}; it has {known}"
        return self.changed(tuple(self._raw.values()), ())

    def listed(self, found: Iterable[Object]) -> Sighting:
        """These are all; nobody said where others went."""
        self._raw = {wire.name_of(one): one for one in found}
        known, self._slices, self._damaged = self._slices, {}, {}
        for name, one in self._raw.items():
            self._read(name, one, known.get(name))
        return self._sighting(set())

    def changed(self, put: Iterable[Object], deleted: Iterable[Object]) -> Sighting:
        """These came or are other; these were deleted, and with them nothing is said of who was in them."""
        gone: set[str] = set()
        for one in put:
            name = wire.name_of(one)
            self._raw[name] = one
            before = self._slices.pop(name, None)
            self._damaged.pop(name, None)
            self._read(name, one, before)
            after = self._slices.get(name)
            if before is not None and after is not None and before.uid == after.uid:
                gone |= {each.address for each in before.endpoints} - {each.address for each in after.endpoints}
        for one in deleted:
            name = wire.name_of(one)
            self._raw.pop(name, None)
            self._slices.pop(name, None)
            self._damaged.pop(name, None)
        return self._sighting(gone)

    def _read(self, name: str, one: Object, before: _Slice | None) -> None:
        try:
            self._slices[name] = self._slice(one)
        except ApiError as error:
            # What was known of it holds.
            self._damaged[name] = f"EndpointSlice {name}: {error.text}"
            if before is not None:
                self._slices[name] = before

    def _slice(self, one: Object) -> _Slice:
        family = wire.text(one, "addressType")
        uid = wire.text(wire.part(one, "metadata"), "uid")
        listed = wire.parts(one, "endpoints")
        if family not in ("IPv4", "IPv6"):
            if listed:
                raise ApiError(f"expected addresses of IPv4 or IPv6, found {family or 'none'}")
            return _Slice(uid, ())
        ports = wire.parts(one, "ports")
        number = next((port["port"] for port in ports if self._is_wanted(port)), None)
        if number is None:
            names = (f"`{wire.text(port, 'name') or port.get('port')}`" for port in ports if listed)
            return _Slice(uid, (), tuple(names))
        found = (_endpoint(each, number, family == "IPv6") for each in listed)
        return _Slice(uid, tuple(each for each in found if each is not None))

    def _is_wanted(self, port: Object) -> bool:
        if not isinstance(port.get("port"), int) or not _is_tcp(port) or self._port_problem:
            return False
        return wire.text(port, "name") == self._name if self._name is not None else port["port"] == self._port

    def _sighting(self, gone: set[str]) -> Sighting:
        best: dict[str, _Endpoint] = {}
        for _, one in sorted(self._slices.items()):
            for each in one.endpoints:
                if each.address not in best or best[each.address].state < each.state:
                    best[each.address] = each
        # A pod of two families is one endpoint, at its address of IPv4.
        of_v4 = {each.target for each in best.values() if not each.is_v6 and each.target}
        sighted = tuple(
            Sighted(each.address, zone=each.zone, is_ready=each.state == _READY)
            for each in best.values()
            if each.state != _TERMINATING and not (each.is_v6 and each.target in of_v4)
        )
        terminating = {each.address for each in best.values() if each.state == _TERMINATING}
        self.problem = self._found_wanting(bool(best))
        return Sighting(sighted, frozenset(gone - best.keys() | terminating))

    def _found_wanting(self, has_any: bool) -> str:
        if self._damaged:
            more = f" (and {len(self._damaged) - 1} more)" if len(self._damaged) > 1 else ""
            return f"{next(iter(sorted(self._damaged.items())))[1]}{more}"
        if self._port_problem:
            return self._port_problem
        if not self._slices:
            return f"{self._service}: there are no EndpointSlices of such a Service"
        ports = sorted({port for one in self._slices.values() for port in one.ports})
        if ports and not has_any:
            return f"{self._service}: no TCP port `{self._port}` in its EndpointSlices; there is {', '.join(ports)}"
        return ""


def _is_tcp(port: Object) -> bool:
    return wire.text(port, "protocol") in ("", "TCP")


def _endpoint(one: Object, port: int, is_v6: bool) -> _Endpoint | None:
    """None if it has no address, which the API never has."""
    addresses = one.get("addresses")
    if not isinstance(addresses, list) or not addresses or not isinstance(addresses[0], str):
        return None
    conditions = wire.part(one, "conditions")
    target = wire.part(one, "targetRef")
    # What is not said counts as ready (discovery.k8s.io/v1). Of several addresses only the first means anything.
    state = _READY if conditions.get("ready") is not False else _NOT_READY
    if conditions.get("terminating") is True:
        state = _TERMINATING
    return _Endpoint(
        join_host_port(addresses[0], port),
        state,
        wire.text(one, "zone"),
        wire.text(target, "uid") or wire.text(target, "name"),
        is_v6,
    )
