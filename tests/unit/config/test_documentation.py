"""The examples of docs/configuration.md are files that load."""

from __future__ import annotations

import pathlib
import re

import pytest

from sidecar.config.load import load_text

PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_of_the_documentation_load(block: str) -> None:
    """Each block is a whole file, or parts of one that get a frame."""
    frame = ""
    if "service:" not in block:
        frame += "service: storefront\n"
    if not re.search("^(inbound|outbound):", block, re.MULTILINE):
        frame += "outbound: {}\n"
    if not re.search("^upstreams:", block, re.MULTILINE):
        frame += "upstreams: {recommendations: {dns: 'a:80'}, recommendations-beta: {dns: 'b:80'}}\n"
    assert load_text((frame + block).encode(), "docs", {"PORT": "8080"}).service.name == "storefront"


def test_the_documentation_has_examples() -> None:
    """The table above is not empty."""
    assert len(BLOCKS) >= 5
