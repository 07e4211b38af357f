"""The examples of docs/configuration.md are files that load."""

from __future__ import annotations

import pathlib
import re

import pytest

from sidecar.config.load import load_text
from sidecar.config.values import unsupported

PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


NOT_READ = PAGE[PAGE.index("## Not read yet") :]


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_of_the_documentation_load(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block is a whole file, or parts of one that get a frame; keys that the page says are not read yet count."""
    monkeypatch.setattr(unsupported, "NOT_YET", frozenset())
    frame = ""
    if not re.search("^service:", block, re.MULTILINE):
        frame += "service: storefront\n"
    if not re.search("^(inbound|outbound):", block, re.MULTILINE):
        frame += "outbound: {}\n"
    if not re.search("^upstreams:", block, re.MULTILINE):
        frame += "upstreams: {recommendations: {dns: 'a:80'}, recommendations-beta: {dns: 'b:80'}}\n"
    assert load_text((frame + block).encode(), "docs", {"PORT": "8080"}).service.name == "storefront"


def test_the_page_names_every_key_that_is_not_read_yet() -> None:
    """So that nobody looks for what is promised only."""
    assert {name.rpartition(".")[2] for name in unsupported.NOT_YET} <= set(re.findall("`([a-z0-9_]+)`", NOT_READ))


def test_the_documentation_has_examples() -> None:
    """The table above is not empty."""
    assert len(BLOCKS) >= 5
