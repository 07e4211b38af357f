"""The example of docs/authorization.md is a file that loads, and whose tests hold."""

from __future__ import annotations

import re
from pathlib import Path

from sidecar.config.model.authorization import Authorization, Rule, RuleMatch, Source
from tests.support.compiling import frames_of

PAGE = (Path(__file__).parents[3] / "docs" / "authorization.md").read_text()


def test_the_example_loads_and_its_tests_hold() -> None:
    """As it stands there."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    assert frames_of(blocks[0])


def test_every_key_is_explained() -> None:
    """Of the section, of a rule and of who asks."""
    for model in (Authorization, Rule, RuleMatch):
        for key in model.model_fields:
            assert f"`{key}`" in PAGE, key
    for key in Source.model_fields:
        assert key in PAGE, key
