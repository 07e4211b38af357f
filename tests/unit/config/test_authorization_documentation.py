"""The examples of docs/authorization.md are files that load, and whose tests hold."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from sidecar.config.model.authorization import Authorization, Rule, RuleMatch, Source
from sidecar.config.model.tokens import Jwt
from tests.support.compiling import frames_of

PAGE = (Path(__file__).parents[3] / "docs" / "authorization.md").read_text()


def test_the_examples_load_and_their_tests_hold() -> None:
    """As they stand there; one is in a list."""
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    assert all(frames_of(textwrap.dedent(block)) for block in blocks)


def test_every_key_is_explained() -> None:
    """Of the section, of a rule and of who asks."""
    for model in (Authorization, Rule, RuleMatch, Jwt):
        for key in model.model_fields:
            assert f"`{key}`" in PAGE, key
    for key in Source.model_fields:
        assert key in PAGE, key
