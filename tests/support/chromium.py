"""
A headless Chromium, spoken to in the DevTools protocol.

The protocol is JSON over a WebSocket, and `websockets` is among the development dependencies already; a driver
(Selenium, Playwright) would add a dozen distributions and a program whose release must fit the browser's, and would
give less: console, every request, media queries and real key strokes are the protocol's own.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.peers import require
from tests.support.wait import eventually

_KEYS = {
    "Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, ""), " ": ("Space", 32, " "),
    "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowUp": ("ArrowUp", 38, ""), "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""), "Home": ("Home", 36, ""), "End": ("End", 35, ""),
}  # fmt: skip


class Tab:
    """
    One page in a profile of its own: storage and cache are nobody else's.

    Attributes:
        problems: Exceptions that no script caught, and what was written to the console as a warning or an error.
        requests: The URL of every request that the page made, `data:` included.
    """

    def __init__(self, browser: ClientConnection) -> None:
        self._socket = browser
        self._ids = itertools.count(1)
        self._session = ""
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send(
            "Target.createTarget", url="about:blank", browserContextId=self._context, width=1440, height=900
        )
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.size(1440, 900)

    def send(self, method: str, **params: Any) -> Any:
        """Ask the browser, and return the answer; what comes in between is noted."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            said = json.loads(self._socket.recv(timeout=60))
            if said.get("id") == number and said.get("sessionId", "") == self._session:
                assert "error" not in said, f"{method}: {said['error']}"
                return said["result"]
            if said.get("sessionId") == self._session:
                self._note(said.get("method", ""), said.get("params", {}))

    def _note(self, method: str, params: Any) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def reset(self) -> None:
        """An empty page in a window as it was at first; what the last page said is forgotten."""
        self.send("Page.navigate", url="about:blank")
        self.send("Emulation.setTouchEmulationEnabled", enabled=False)
        self.prefer()
        self.size(1440, 900)
        self.run("0")
        self.problems.clear()
        self.requests.clear()

    def close(self) -> None:
        """End the page and forget its profile."""
        self._session = ""
        self.send("Target.disposeBrowserContext", browserContextId=self._context)

    def open(self, url: str) -> None:
        """Go there, and wait until the document and its modules have run."""
        self.send("Page.navigate", url=url)
        eventually(
            lambda: self.run("document.readyState") == "complete" and self.run("location.href") != "about:blank",
            f"{url} to load",
        )

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        said = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"].get("exception", said["exceptionDetails"])
        return said["result"].get("value")

    def text(self, selector: str) -> str:
        """What a reader sees of the first element, or "" if there is none."""
        return str(self.run(f"(document.querySelector({json.dumps(selector)}) || {{}}).innerText || ''"))

    def texts(self, selector: str) -> list[str]:
        """The text of every element."""
        return list(self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)"))

    def wait(self, expression: str, what: str = "") -> Any:
        """Wait until the expression is true."""
        return eventually(lambda: self.run(expression), what or expression)

    def click(self, selector: str) -> None:
        """A real click in the middle of the first element."""
        where = json.dumps(selector)
        self.wait(f"document.querySelector({where}) !== null", f"{selector} to be there")
        self.run(f"document.querySelector({where}).scrollIntoView({{block: 'nearest'}})")
        x, y = self.run(
            "(({left, top, width, height}) => [left + width / 2, top + height / 2])"
            f"(document.querySelector({where}).getBoundingClientRect())"
        )
        self.click_at(x, y)

    def click_at(self, x: float, y: float) -> None:
        """A real click at a point of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = "none" if kind == "mouseMoved" else "left"
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1)

    def touch(self, *moves: tuple[tuple[float, float], ...]) -> None:
        """Fingers: where they come down, where they are after each move; in the end all go up."""
        for number, fingers in enumerate(moves):
            points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(fingers)]
            self.send("Input.dispatchTouchEvent", type="touchMove" if number else "touchStart", touchPoints=points)
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, *keys: str) -> None:
        """Key strokes, as of a keyboard; `Shift+Tab` holds Shift."""
        for key in keys:
            name = key.removeprefix("Shift+")
            code, number, text = _KEYS.get(name, ("", ord(name.upper()[0]), name))
            event: dict[str, Any] = {
                "key": name,
                "code": code,
                "windowsVirtualKeyCode": number,
                "modifiers": 8 if name != key else 0,
            }
            self.send("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {}))
            self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        """Letters into what has the focus."""
        self.send("Input.insertText", text=text)

    def prefer(self, **features: str) -> None:
        """Answers to media queries: `prefer(prefers_color_scheme="dark")`."""
        asked = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=asked)

    def size(self, width: int, height: int) -> None:
        """The window's size in pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, path: Path) -> None:
        """The window as a PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


class Chromium:
    """A browser that runs; `tab()` gives pages, one at a time."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextlib.contextmanager
    def tab(self) -> Iterator[Tab]:
        """A page, until leaving."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/json/version", timeout=30) as answer:
            url = json.load(answer)["webSocketDebuggerUrl"]
        # No pings: a tab that a test leaves alone for long reads nothing, and so hears no answer to one.
        with connect(url, max_size=None, compression=None, open_timeout=30, ping_interval=None) as socket:
            tab = Tab(socket)
            try:
                yield tab
            finally:
                tab.close()


@contextlib.contextmanager
def chromium(directory: Path) -> Iterator[Chromium]:
    """
    Chromium with its profile in `directory`; skips, or fails with `CI=true`, where it is not installed.

    It takes no proxy and asks nobody for updates, names or lists of its own.
    """
    program = require("chromium")
    profile = directory / "profile"
    command = [
        program, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run",
        "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-extensions", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server", "--hide-scrollbars",
        # A container's root has no user namespace to build the sandbox of; only our own page is opened.
        "--no-sandbox", "about:blank",
    ]  # fmt: skip
    log = directory / "chromium.log"
    told = profile / "DevToolsActivePort"

    def port() -> int:
        if process.poll() is not None:
            raise AssertionError(f"{program} ended with {process.returncode}:\n{log.read_text()}")
        lines = told.read_text().splitlines() if told.exists() else []
        return int(lines[0]) if len(lines) > 1 else 0

    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield Chromium(eventually(port, "Chromium to listen", 60))
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        shutil.rmtree(profile, ignore_errors=True)
