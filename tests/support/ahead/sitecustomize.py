"""On PYTHONPATH: a process whose wall clock is ahead by `CLOCK_AHEAD_S` seconds, as another machine's may be."""

import os
import time

_AHEAD_S = float(os.environ.get("CLOCK_AHEAD_S", "0"))
_time = time.time
time.time = lambda: _time() + _AHEAD_S
