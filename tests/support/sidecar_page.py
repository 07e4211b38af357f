"""A server of one sidecar's page and of answers that the test sets: an admin listener's outside, without its inside."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sidecar.page.files import Page, page_file
from tests.support import sidecar_fixture as fixture
from tests.support.page_server import Answer, Asked, answering, as_json

Json = dict[str, Any]
NO_ENDPOINT = b"no such endpoint; there are: /metrics /ready\n"


@dataclass
class SidecarPage:
    """
    What the server answers; a test changes it between two requests.

    Attributes:
        info, config, routes, upstreams: The answers of `/server_info`, `/config`, `/routes` and `/upstreams`.
        requests: That of `/requests`; None for a sidecar that keeps none.
        scrape: The text of `/metrics` after so many seconds.
        explain: Status and answer of `/explain`, for its parameters; None for a sidecar that has none.
        preview: The same of `/preview`, for the file.
        status: Of every answer but the page's files.
        asked: Every request.
    """

    info: Json = field(default_factory=fixture.info)
    config: Json = field(default_factory=fixture.config)
    routes: Json = field(default_factory=fixture.routes)
    upstreams: Json = field(default_factory=fixture.upstreams)
    requests: Json | None = field(default_factory=fixture.requests)
    scrape: Callable[[float], str] = fixture.scrape
    explain: Callable[[list[tuple[str, str]]], tuple[int, Any]] | None = fixture.explain
    preview: Callable[[bytes], tuple[int, Any]] | None = fixture.preview
    status: int = 200
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def paths(self) -> list[str]:
        """Targets of the requests, but for the page's files."""
        return [one.target for one in self.asked if not one.path.startswith("/page/") and one.path != "/"]

    def answer(self, asked: Asked) -> Answer:
        """A file of the page, or what is known of the sidecar."""
        self.asked.append(asked)
        found = page_file(Page.SIDECAR, asked.path, asked.headers.get("if-none-match", ""))
        if found is not None:
            status, headers, body = found
            return Answer(status, body, headers)
        if self.status != 200:
            return Answer(self.status, b"as the test says\n")
        if asked.path == "/metrics":
            return Answer(200, self.scrape(time.monotonic() - self.began_s).encode())
        if asked.path == "/explain" and self.explain is not None:
            return _said(*self.explain(asked.params))
        if asked.path == "/preview" and asked.method == "POST" and self.preview is not None:
            return _said(*self.preview(asked.body))
        said = {
            "/server_info": self.info, "/config": self.config, "/routes": self.routes, "/upstreams": self.upstreams,
            "/requests": self.requests,
        }.get(asked.path)  # fmt: skip
        return Answer(404, NO_ENDPOINT) if said is None else as_json(200, said)


def _said(status: int, said: Any) -> Answer:
    return Answer(status, said.encode()) if isinstance(said, str) else as_json(status, said)


@contextlib.contextmanager
def serving_sidecar(page: SidecarPage) -> Iterator[SidecarPage]:
    """The server on a port of its own, until leaving."""
    with answering(page.answer) as port:
        page.port = port
        yield page
