"""Work that is counted where time would judge the machine."""

from __future__ import annotations

import sys
from types import FrameType, TracebackType
from typing import Any


class Work:
    """
    Lines of Python that this thread executes within `with`, in functions that are entered or resumed there: the same
    however busy or slow the machine is. What the data path's build has compiled executes none.

    Attributes:
        lines: So far; may be set back to 0 meanwhile.
    """

    def __init__(self) -> None:
        self.lines = 0
        self._before: Any = None

    def __enter__(self) -> Work:
        self._before = sys.gettrace()
        sys.settrace(self._count)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        sys.settrace(self._before)

    def _count(self, frame: FrameType, event: str, argument: object) -> Any:
        self.lines += event == "line"
        return self._count
