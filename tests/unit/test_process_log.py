"""The process log: one line an event, whatever the values hold."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from sidecar.process_log import LEVELS, LineFormatter, configure, event, get_level, quoted, set_level
from sidecar.redact import Secrets


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts the logging of the test runner back."""
    root, ours = logging.getLogger(), logging.getLogger("sidecar")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_stays_on_its_line_and_can_be_told_apart(octet: int) -> None:
    """What a peer or a file puts into a value can forge neither a line nor a key."""
    text = quoted(f"a{chr(octet)}b")
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    if not text.startswith('"'):
        assert not any(character.isspace() or character in '"=\\' for character in text)
    else:
        inner = text[1:-1]
        assert '"' not in inner.replace('\\"', "")


def test_no_line_shows_a_secret() -> None:
    """Whatever the message and the traceback say."""
    formatter = LineFormatter(secrets=Secrets(["hunter 22"]))
    try:
        raise ValueError("bad hunter 22")
    except ValueError:
        info = sys.exc_info()
    record = logging.LogRecord("sidecar", logging.ERROR, "", 0, event("x", upstream="hunter 22"), (), info)
    text = formatter.format(record)
    assert "hunter" not in text
    assert 'upstream="[redacted]"' in text


def test_event_leaves_out_what_is_none() -> None:
    """And quotes what has spaces."""
    assert event("config_loaded", file="/a b", hash="ab12", host=None) == 'config_loaded file="/a b" hash=ab12'
    assert quoted("") == '""'


def test_lines_have_time_level_and_no_line_end_inside() -> None:
    """A message with a line end is one line."""
    record = logging.LogRecord("sidecar.x", logging.WARNING, "f", 1, "event a=%s", ("x\ny\r",), None)
    record.created = 1_700_000_000.5
    assert LineFormatter().format(record) == "2023-11-14T22:13:20.500Z warning event a=x\\ny\\r"


def test_tracebacks_follow_their_line() -> None:
    """An exception of ours is shown whole."""
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        record = logging.LogRecord("sidecar.x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    text = LineFormatter().format(record)
    assert text.splitlines()[0].endswith("error failed")
    assert text.endswith("RuntimeError: boom")


@pytest.mark.usefixtures("restored")
def test_the_level_can_be_changed_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """`/logging` uses this; libraries stay at warning."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure("warning")
    logging.getLogger("sidecar.x").info("hidden")
    set_level("DEBUG")
    assert get_level() == "debug"
    logging.getLogger("sidecar.x").debug("shown")
    logging.getLogger("asyncio").info("hidden")
    assert "hidden" not in stream.getvalue()
    assert "debug shown" in stream.getvalue()


@pytest.mark.usefixtures("restored")
def test_unknown_levels_are_refused_with_the_known_ones() -> None:
    """The message lists them."""
    for level in LEVELS:
        set_level(level)
    with pytest.raises(ValueError, match="debug, info, warning, error, got 'loud'"):
        set_level("loud")
