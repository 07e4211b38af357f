"""The examples of docs/mesh.md are files of a mesh that is good."""

from __future__ import annotations

import pathlib
import re

import pytest

from sidecar.mesh.read import read_mesh
from sidecar.mesh.verify import verify

PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "mesh.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SERVICES = [block for block in BLOCKS if block.startswith("service: ")]
OTHER = "service: search\n"


def problems(files: dict[str, str]) -> list[str]:
    """What `sidecar mesh check` says."""
    mesh = read_mesh({name: text.encode() for name, text in files.items()}, has_identity=True)
    return [str(problem) for problem in verify(mesh)]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.startswith("mesh: ")])
def test_examples_of_the_meshs_own_file_are_good(block: str) -> None:
    """Each is a whole file."""
    assert problems({"mesh.yaml": block}) == []


def test_the_services_of_the_page_are_one_mesh() -> None:
    """With the test of the last example in the file that it is about."""
    assert len(SERVICES) == 3
    files = {f"{number}.yaml": block for number, block in enumerate(SERVICES)}
    last = next(block for block in BLOCKS if block.startswith("tests:"))
    caller = next(name for name, block in files.items() if block.startswith("service: storefront"))
    files[caller] += last
    assert problems({"mesh.yaml": "mesh: shop\n", "search.yaml": OTHER, **files}) == []


def test_who_may_call_is_a_part_of_a_service() -> None:
    """With its test, beside those whom it names."""
    block = next(block for block in BLOCKS if block.startswith("callers:"))
    around = next(block for block in BLOCKS if block.startswith("mesh: ") and "first:" in block)
    service = f"service: recommendations\napp: 127.0.0.1:8080\n{block}"
    caller = "service: storefront\ncalls: {recommendations: {}}\n"
    assert problems({"mesh.yaml": around, "a.yaml": service, "b.yaml": OTHER, "c.yaml": caller}) == []
