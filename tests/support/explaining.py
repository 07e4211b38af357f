"""Accounts of decisions by a file that stands in the test; nothing runs."""

from __future__ import annotations

import textwrap
from typing import Any

from sidecar.compile.deserialize import Written
from sidecar.compile.effective import Effective
from sidecar.compile.time_slices import at_once
from sidecar.insight.explain.account import Scene, account_of
from sidecar.insight.explain.asked import Asked, way_in
from sidecar.insight.explain.text import lines_of
from sidecar.insight.question import Question, head_of
from sidecar.insight.walk import Visitor, walk
from sidecar.redact import NO_SECRETS, Secrets
from tests.support.compiling import compiled, frames_of


def scene_of(text: str, secrets: Secrets = NO_SECRETS) -> Scene:
    """The plan of a file and what is told of its settings."""
    return Scene(compiled(text).plan, Effective("f.yaml", Written(frames_of(text)), secrets), secrets)


def account(text: str, question: Question, secrets: Secrets = NO_SECRETS, **asked: Any) -> dict[str, Any]:
    """Why a file sends a request where it does."""
    return account_by(scene_of(text, secrets), question, **asked)


def account_by(scene: Scene, question: Question, **asked: Any) -> dict[str, Any]:
    """The same, by a file that is compiled already."""
    wish = Asked(question, **asked)
    side, listener = way_in(scene.plan, wish)
    walked = walk(side, listener, head_of(question), Visitor(question.source_ip, question.requester, question.claims))
    return at_once(account_of(walked, scene, is_whole=wish.is_whole))


def told(account: dict[str, Any]) -> str:
    """The account as a person reads it."""
    return "\n".join(lines_of(account)) + "\n"


def dedented(text: str) -> str:
    """Without the margin of the test, and without the line end before its first line."""
    return textwrap.dedent(text).lstrip("\n")
