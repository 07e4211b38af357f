"""The lock files say what `pyproject.toml` asks for, completely, pinned by hash, and name no package index."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of a lock file: exactly this version, in exactly these files, where the marker holds."""

    version: str
    marker: str | None
    hashes: frozenset[str]

    def applies(self) -> bool:
        """Whether the pin counts on the machine that runs the tests."""
        return self.marker is None or Marker(self.marker).evaluate()


def _pins(lock: str) -> dict[str, Pin]:
    """Every pin of a lock file by canonical name; a line that is not a pin with hashes fails the test."""
    pins: dict[str, Pin] = {}
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        head, *hashes = re.split(r"\s+(?=--)", line.strip())
        found = _PIN.fullmatch(head.strip())
        assert found is not None, f"{lock}: not a pin: {head!r}"
        assert hashes, f"{lock}: {head!r} has no hash"
        assert all(_HASH.fullmatch(item) for item in hashes), f"{lock}: {head!r} has an option that is no hash"
        name = canonicalize_name(found["name"])
        assert name not in pins, f"{lock}: {name} comes twice"
        pins[name] = Pin(found["version"], found["marker"], frozenset(hashes))
    return pins


def _asked_for(lock: str) -> list[Requirement]:
    """What `pyproject.toml` asks of this lock file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    build = list(groups["build"])
    if lock == "requirements-build.lock":
        lines = build
    else:
        # The image runs a sidecar or a control plane; the extras are for who installs the package without a lock file.
        extras = project["project"]["optional-dependencies"]
        lines = [*project["project"]["dependencies"], *extras["control"], *extras["jwt"]]
    if lock == "requirements-dev.lock":
        lines += build + [line for line in groups["dev"] if line != {"include-group": "build"}]
    return [Requirement(line) for line in lines]


def _is_met(requirement: Requirement, pins: dict[str, Pin]) -> bool:
    """Whether a pin exists for this requirement and its version is one that the requirement allows."""
    pin = pins.get(canonicalize_name(requirement.name))
    return pin is not None and requirement.specifier.contains(pin.version, prereleases=True)


def _needs(name: str, extras: frozenset[str]) -> list[Requirement]:
    """What an installed distribution needs on this machine, with the extras that were asked of it."""
    needed = []
    for line in metadata.requires(name) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            needed.append(requirement)
    return needed


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_file_satisfies_every_requirement_of_the_project(lock: str) -> None:
    """A requirement that was added or raised without `make lock` is found."""
    pins = _pins(lock)
    missing = [str(requirement) for requirement in _asked_for(lock) if not _is_met(requirement, pins)]
    assert not missing, f"{lock} does not provide {missing}; run make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_file_is_complete_and_has_nothing_superfluous(lock: str) -> None:
    """What the pinned distributions need is pinned too, and every pin is needed by something."""
    pins = _pins(lock)
    reached: set[str] = set()
    todo = _asked_for(lock)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        assert _is_met(requirement, pins), f"{lock} does not provide {requirement}; run make lock"
        if name not in reached or requirement.extras:
            reached.add(name)
            todo += [need for need in _needs(name, frozenset(requirement.extras)) if need not in todo]
    here = {name for name, pin in pins.items() if pin.applies()}
    assert here - reached == set(), f"{lock} has pins that nothing needs; run make lock"


def test_environment_has_the_pinned_versions() -> None:
    """The tests run with what is pinned, not with what happened to be installed."""
    pins = _pins("requirements-dev.lock")
    found = {name: metadata.version(name) for name, pin in pins.items() if pin.applies()}
    assert found == {name: pin.version for name, pin in pins.items() if pin.applies()}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_development_lock_pins_what_the_container_is_made_of(lock: str) -> None:
    """The tests run with the very versions and files that the image carries and is compiled with."""
    pins, development = _pins(lock), _pins("requirements-dev.lock")
    assert {name: development.get(name) for name in pins} == pins


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_file_names_no_index_and_no_address(lock: str) -> None:
    """Where packages come from is the machine's business: no index, no link, no trusted host."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=)", text, re.MULTILINE)
