"""A server of the page and of answers that the test sets: a control plane's outside, without its inside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sidecar.page.files import Page, page_file
from tests.support.mesh_fixture import Json, history, routes
from tests.support.page_server import Answer, Asked, answering, as_json


@dataclass
class MeshPage:
    """
    What the server answers; a test changes it between two requests.

    Attributes:
        mesh: The answer of `/v1/mesh`, and the source of `/v1/history`.
        routes: The answer of `/v1/routes` for caller and callee.
        status: Of every answer below `/v1/`.
        token: If not "", the bearer token that `/v1/` asks for.
        asked: Every request's target, and its `Authorization`.
    """

    mesh: Json
    routes: Callable[[str, str], Json] = routes
    status: int = 200
    token: str = ""
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def answer(self, asked: Asked) -> Answer:
        """A file of the page, or what is known of the mesh."""
        self.asked.append((asked.target, asked.headers.get("authorization", "")))
        if asked.path.startswith("/v1/"):
            return self._api(asked.path, asked.headers, dict(reversed(asked.params)))
        found = page_file(Page.MESH, asked.path, asked.headers.get("if-none-match", ""))
        if found is None:
            return Answer(404, b"not found")
        status, headers, body = found
        return Answer(status, body, headers)

    def _api(self, path: str, headers: Mapping[str, str], query: Mapping[str, str]) -> Answer:
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return as_json(401, {"error": "a bearer token is needed"})
        if self.status != 200:
            return as_json(self.status, {"error": "as the test says"})
        if path == "/v1/mesh":
            return as_json(200, self.mesh)
        if path == "/v1/history":
            return as_json(200, history(self.mesh))
        if path == "/v1/instances":
            return as_json(200, {"instances": self.routes("", query["service"]).get("instances", [])})
        if path == "/v1/routes":
            return as_json(200, self.routes(query["from"], query["to"]))
        return as_json(404, {"error": "no such address"})


@contextlib.contextmanager
def serving(mesh: Json) -> Iterator[MeshPage]:
    """The server on a port of its own, until leaving."""
    page = MeshPage(mesh)
    with answering(page.answer) as port:
        page.port = port
        yield page
