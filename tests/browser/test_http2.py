"""Chromium at a listener with TLS: it speaks HTTP/2 to the sidecar, to an app that does not know of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.chromium import Tab
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port
from tests.support.web_app import CROWD, HALF_BYTES, WebApp

SIZE = 16 << 20


class Place:
    """
    A sidecar before the app, and a tab that is at its page.

    Attributes:
        text: The sidecar's file.
    """

    def __init__(self, sidecar: SidecarProcess, text: str, app: WebApp, tab: Tab) -> None:
        self.sidecar = sidecar
        self.text = text
        self.app = app
        self.tab = tab

    def requests(self) -> list[dict[str, Any]]:
        """Log lines of requests; of the connection at which the browser refused our certificate there is one, too."""
        return [line for line in self.sidecar.access_log() if line["path"] is not None]

    def lines(self, path: str) -> list[dict[str, Any]]:
        """Those of one path."""
        return [line for line in self.requests() if line["path"] == path]

    def hold(self) -> None:
        """Begin a download that stops halfway."""
        self.app.hold()
        self.tab.run("""(() => {
            window.got = 0; window.end = '';
            fetch('/held').then(async (answer) => {
                const reader = answer.body.getReader();
                for (;;) {
                    const {done, value} = await reader.read();
                    if (done) break;
                    window.got += value.length;
                }
                window.end = 'whole';
            }).catch((error) => { window.end = String(error); });
        })()""")
        self.tab.wait(f"window.got === {HALF_BYTES}", "half of the download")

    def end_of_download(self) -> str:
        """Let it go on: how it ended."""
        self.app.release()
        return str(self.tab.wait("window.end", "its end")) + f" {self.tab.run('window.got')}"


@pytest.fixture
def place(tmp_path: Path, shared: Tab) -> Iterator[Place]:
    root, port = Authority("root"), free_port()
    root.leaf(["localhost"]).write(tmp_path)
    shared.reset()
    shared.send("Security.enable")
    shared.send("Security.setIgnoreCertificateErrors", ignore=True)
    with WebApp() as app:
        text = f"""
            service: storefront
            inbound:
              app: "127.0.0.1:{app.port}"
              listen:
                - address: "127.0.0.1:{port}"
                  name: outside
                  tls: {{certificate: {tmp_path}/tls.crt, key: {tmp_path}/tls.key}}
            limits: {{http2: {{max_concurrent_streams: 128}}}}
            drain: {{timeout: 20s}}
        """
        try:
            with running_sidecar(tmp_path, text) as sidecar:
                shared.open(f"https://localhost:{port}/")
                yield Place(sidecar, text, app, shared)
                shared.send("Page.navigate", url="about:blank")
        finally:
            shared.send("Security.setIgnoreCertificateErrors", ignore=False)


def test_pages_uploads_and_answers_without_content(place: Place) -> None:
    """Each by HTTP/2, as the browser says and as the log does."""
    tab = place.tab
    assert tab.run("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    assert tab.text("p") == "hello"
    digest = f"fetch('/digest', {{method: 'POST', body: new Uint8Array({SIZE}).fill(7)}}).then((one) => one.text())"
    assert tab.run(digest) == sha256(b"\7" * SIZE).hexdigest()
    asked = "fetch('%s', {method: '%s'}).then(async (one) => one.status + (await one.text()))"
    assert tab.run(asked % ("/empty", "GET")) == "204"
    assert tab.run(asked % ("/cached", "HEAD")) == "200"
    assert tab.run(asked % ("/cached", "GET")) == "200kept"
    again = """fetch('/cached', {headers: {'if-none-match': '"one"'}}).then((one) => one.status)"""
    assert tab.run(again) == 304
    assert {line["protocol"] for line in place.requests()} == {"HTTP/2"}


def test_a_hundred_at_once_go_by_one_connection(place: Place) -> None:
    """The app answers none before it has all."""
    everything = f"Promise.all([...Array({CROWD})].map((_, n) => fetch('/crowd?' + n).then((one) => one.text())))"
    assert place.tab.run(f"{everything}.then((all) => all.join(' '))") == " ".join(["here"] * CROWD)
    lines = eventually(lambda: len(place.requests()) > CROWD and place.requests(), "a line of each")
    assert len({line["downstream_remote_address"] for line in lines}) == 1


def test_events_come_as_they_are_sent(place: Place) -> None:
    """`EventSource`; the first is there while the app still holds the second."""
    place.app.hold()
    place.tab.run("""(() => {
        window.heard = [];
        const source = new EventSource('/events');
        source.onmessage = (event) => window.heard.push(event.data);
        source.onerror = () => source.close();
    })()""")
    place.tab.wait("window.heard.length === 1", "the first event")
    place.app.release()
    place.tab.wait("window.heard.join() === 'first,last'", "the last event")


def test_a_websocket_goes_by_the_same_connection(place: Place) -> None:
    """RFC 8441: an extended CONNECT, which the app of HTTP/1.1 takes for an upgrade."""
    said = place.tab.run(f"""new Promise((done) => {{
        const socket = new WebSocket('wss://' + location.host + '/echo');
        const heard = [];
        socket.binaryType = 'arraybuffer';
        socket.onopen = () => {{ socket.send('word'); socket.send(new Uint8Array({1 << 20})); }};
        socket.onmessage = (event) => {{
            heard.push(event.data.byteLength || event.data);
            if (heard.length === 2) socket.close(1000);
        }};
        socket.onclose = (event) => done(heard.join() + ' ' + event.code);
    }})""")
    assert said == f"word,{1 << 20} 1000"
    (line,) = eventually(lambda: place.lines("/echo"), "its line")
    assert (line["protocol"], line["response_code"]) == ("HTTP/2", 101)
    assert line["downstream_remote_address"] == place.lines("/")[0]["downstream_remote_address"]


def test_a_download_lives_through_a_reload(place: Place) -> None:
    """What is asked meanwhile goes by the same connection, and the new file."""
    place.hold()
    place.sidecar.rewrite(place.text.replace("128}}", "127}}"))
    place.sidecar.wait_for_generation(2)
    assert place.tab.run("fetch('/empty').then((one) => one.status)") == 204
    assert place.end_of_download() == f"whole {2 * HALF_BYTES}"


def test_a_download_lives_through_the_order_to_end(place: Place) -> None:
    """And the process ends behind it."""
    place.hold()
    place.sidecar.signal(signal.SIGTERM)
    eventually(lambda: not place.sidecar.is_ready(), "the end to begin")
    assert place.end_of_download() == f"whole {2 * HALF_BYTES}"
    assert place.sidecar.wait() == 0
