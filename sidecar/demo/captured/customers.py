"""
The customers, from a host of their own: `python -m sidecar.demo.captured.customers URL PER_SECOND`.

Asks for pages at a steady rate, and says after each on standard output, as a line of JSON, what became of it: the
status, 0 where there was no answer, and the page or why there was none. The first line, `begun`, comes before all.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.error
import urllib.request

PATIENCE_S = 15.0


def ask(url: str) -> tuple[int, object]:
    """A page."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def say(text: str) -> None:
    """A line for who started this."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Ask until SIGTERM."""
    url, per_second = arguments[0], float(arguments[1])
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    say("begun")
    due = time.monotonic()
    while True:
        status, page = ask(url)
        say(json.dumps({"status": status, "page": page}))
        due = max(due + 1 / per_second, time.monotonic() - 1.0)
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1:])
