"""The admin listener's page: who gets it, under which policy, and what it may ask by POST that other pages may not."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from sidecar.admin import endpoints as admin_endpoints
from sidecar.admin.endpoints import Endpoints, Reply, request_of
from sidecar.admin.hosts import AllowedHosts
from sidecar.admin.page import PREFIX, is_from_own_page, is_from_page, read_page
from sidecar.admin.server import AdminServer
from sidecar.page import files
from tests.unit.admin.process import FakeProcess
from tests.unit.admin.test_server import converse, get, read_reply

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def ask(target: str, accept: str = BROWSER, method: str = "GET", tag: str = "", *, read_only: bool = False) -> Reply:
    made = Endpoints.read_only if read_only else Endpoints.everything
    request = request_of(method, target, False, accept, if_none_match=tag)
    return asyncio.run(made(FakeProcess()).answer(request))


def fields_of(reply: Reply) -> dict[bytes, bytes]:
    return dict(reply.headers)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_browser_gets_the_page_and_curl_the_list(method: str) -> None:
    """The same address for both, and caches are told what it depends on."""
    page, index = ask("/", method=method), ask("/", "*/*", method)
    assert page.body.startswith(b"<!doctype html>")
    assert fields_of(page)[b"content-type"] == b"text/html; charset=utf-8"
    assert index.body.startswith(b"GET  /metrics\n")
    assert index.content_type == b"text/plain; charset=utf-8"
    assert fields_of(page)[b"vary"] == fields_of(index)[b"vary"] == b"accept"


def test_addresses_of_the_page_are_those_of_its_files() -> None:
    """What the page links to is below the one prefix that is looked for."""
    assert PREFIX == files.PREFIX


@pytest.mark.parametrize("target", ["/", "/page/app.js", "/page/base.css", "/page/reasons.json", "/page/app.js?x=1"])
def test_page_and_its_files_come_under_the_policy(target: str) -> None:
    """As the mesh's: nothing from elsewhere, no script but its own, in no frame, and a copy is compared each time."""
    reply = ask(target)
    fields = fields_of(reply)
    assert reply.status == 200
    assert fields[b"content-security-policy"] == files.POLICY.encode()
    assert fields[b"cache-control"] == b"no-cache"
    again = ask(target, tag=fields[b"etag"].decode())
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("target", ["/page/", "/page/../files.py", "/page/map.js", "/page/app.js/x", "/page/%61pp.js"])
def test_other_addresses_below_page_are_not_found(target: str) -> None:
    """Nothing leads out of the folder, and the mesh's own files are not this page's."""
    assert ask(target).status == 404


def test_files_of_the_page_are_only_read() -> None:
    """Any other method is refused with what is allowed."""
    reply = ask("/page/app.js", method="POST")
    assert (reply.status, fields_of(reply)[b"allow"]) == (405, b"GET, HEAD")


@pytest.mark.parametrize("target", ["/page/app.js", "/page/reasons.json"])
def test_metrics_listener_has_no_page(target: str) -> None:
    """What the network reaches stays as it was, for browsers, too."""
    assert ask("/", read_only=True).body.startswith(b"GET  /metrics\n")
    assert ask(target, read_only=True).status == 404


def test_fields_of_the_page_stand_once_on_the_wire() -> None:
    """They are sent instead of those that every answer has; a 304 has neither a body nor a length."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(get("/", extra=f"Accept: {BROWSER}\r\n"))
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")[1:-2]
        names = [line.partition(":")[0] for line in lines]
        assert sorted(names) == sorted(set(names))
        fields = dict(line.split(": ", 1) for line in lines)
        assert (fields["cache-control"], fields["x-content-type-options"]) == ("no-cache", "nosniff")
        await reader.readexactly(int(fields["content-length"]))
        writer.write(get("/", extra=f"Accept: {BROWSER}\r\nIf-None-Match: {fields['etag']}\r\n") + get("/live"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 304 not modified\r\n")
        assert "content-length" not in head
        assert "\r\ncontent-type" not in head
        assert (await read_reply(reader))[::2] == (200, b"live\n")

    converse(conversation)


def test_page_is_refused_to_a_name_that_was_rebound() -> None:
    """A page that rebinds its name to loopback gets no page of ours that it could read or act through."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        for path in ("/", "/page/app.js"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nAccept: {BROWSER}\r\n\r\n".encode())
            assert (await read_reply(reader))[0] == 421

    converse(conversation, hosts=AllowedHosts("127.0.0.1:0"))


OURS = "127.0.0.1:9901"


@pytest.mark.parametrize(
    ("site", "origin", "host", "is_page", "is_own"),
    [
        (None, None, OURS, False, False),
        ("none", None, OURS, False, False),
        ("same-origin", f"http://{OURS}", OURS, True, True),
        ("Same-Origin", f"http://{OURS}", OURS, True, True),
        ("same-origin", None, OURS, True, True),
        # An address that the browser does not trust gets no Sec-Fetch-Site.
        (None, "http://sidecar.internal:9901", "Sidecar.internal:9901", True, True),
        (None, "https://sidecar.internal", "sidecar.internal", True, True),
        (None, "http://[::1]:9901", "[::1]:9901", True, True),
        (None, f"http://{OURS}", "127.0.0.1:9902", True, False),
        (None, f"http://{OURS}", "localhost:9901", True, False),
        (None, f"http://{OURS}", "", True, False),
        (None, "http://evil.example", OURS, True, False),
        (None, "null", OURS, True, False),
        (None, "", OURS, True, False),
        (None, "http://[", OURS, True, False),
        (None, f"ftp://{OURS}", OURS, True, False),
        (None, f"http://{OURS}, http://evil.example", OURS, True, False),
        ("same-site", f"http://{OURS}", OURS, True, False),
        ("cross-site", f"http://{OURS}", OURS, True, False),
        ("none", f"http://{OURS}", OURS, True, False),
        ("same-origin", "http://evil.example", OURS, True, False),
        ("same-origin,cross-site", f"http://{OURS}", OURS, True, False),
    ],
)
def test_own_page_is_told_by_what_no_page_can_choose(
    site: str | None, origin: str | None, host: str, is_page: bool, is_own: bool
) -> None:
    """By `Sec-Fetch-Site` and `Origin`, both where both are sent; another port of this machine is another origin."""
    fields = {b"host": host}
    if site is not None:
        fields[b"sec-fetch-site"] = site
    if origin is not None:
        fields[b"origin"] = origin
    assert (is_from_page(fields), is_from_own_page(fields)) == (is_page, is_own)


@pytest.mark.parametrize(
    ("path", "is_ours", "status"), [("/preview", True, 200), ("/preview", False, 403), ("/reload", True, 403)]
)
def test_own_page_may_ask_for_a_preview_and_for_nothing_else(path: str, is_ours: bool, status: int) -> None:
    """A preview changes nothing; what does is closed to pages, ours included."""
    asked: list[str] = []

    def handle(_: object, request: admin_endpoints.Request) -> Reply:
        asked.append(request.path)
        return admin_endpoints.text(200, "done")

    endpoints = Endpoints(FakeProcess(), {"/preview": {"POST": handle}, "/reload": {"POST": handle}}, has_page=True)
    request = request_of("POST", path, True, is_from_own_page=is_ours)
    assert asyncio.run(endpoints.answer(request)).status == status
    assert asked == ([path] if status == 200 else [])


def test_no_file_of_the_page_is_read_before_a_browser_asks() -> None:
    """A sidecar that nobody looks at pays for no page: neither the module that has the files, nor what it imports."""
    code = "import sys, sidecar.runtime.server, sidecar.admin.page; print('sidecar.page.files' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True, check=True)
    assert done.stdout == "False\n"
    found = read_page("/", "")
    assert found is not None
    assert found[0] == 200
