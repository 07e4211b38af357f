"""
An API server of Kubernetes, as far as the engine `kubernetes` can see one: a real server over HTTP or HTTPS.

    with FakeKubernetes() as api:
        api.apply("ConfigMap", "shop", {"mesh.yaml": "mesh: shop"})
        ... api.url, api.token ...

It behaves as mesh.md, section 6, says of the real one, where fakes usually do better: a watch from a version that is
forgotten is answered by 200 and an event `ERROR` with code 410; bookmarks are almost empty; watches end by a plain EOF,
at their limit of time or at any other; pages of a list end with 410 once their version is forgotten; what is written in
the same form moves no version; pieces of a stream know nothing of lines. What it refuses it refuses with a `Status`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

from tests.support.kubernetes_store import GROUPS, OF_CLUSTER, Change, Json, Key, Refusal, Selects, Store, selector
from tests.support.wait import free_port

T = TypeVar("T")
TOKEN = "a-token"
_BY_KIND = {kind: group for group, kind in GROUPS.items()}
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "LIST": "list",
          "WATCH": "watch"}  # fmt: skip
_NAMES_ONLY = "as=PartialObjectMetadataList"


class FakeKubernetes:
    """
    Args:
        context: For HTTPS.
        bookmark_s: Between bookmarks.

    Attributes:
        tokens: Those that are known; others are refused with 401.
        asked: What was asked for, as `VERB plural`: LIST, WATCH, GET, POST, PUT, PATCH, DELETE.
        requests: The same as RBAC has it: verb, group, resource, namespace, name; each once.
        namespace: In which the test's own words put and find objects.
        version: Of the cluster, as `/version` says it.
        accounts: Who stands behind a token of a service account, and for which audiences it is.
        forbidden: What is refused with 403, as in `asked`.
        busy: Answers that are given instead: status and seconds for `retry-after`, one for each request.
        longest_watch_s: After which every watch ends, whatever it asked for.
        is_deaf: Watches stand, and say nothing.
        is_endless: Watches do not end at the limit of time that they asked for.
        forgets_pages: The place in a list is forgotten before the next page is asked for.
    """

    def __init__(self, context: ssl.SSLContext | None = None, bookmark_s: float = 0.2) -> None:
        self.tokens = {TOKEN}
        self.accounts: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.asked: list[str] = []
        self.requests: dict[tuple[str, str, str, str, str], None] = {}
        self.version = ("1", "30")
        self.namespace = "shop"
        self.forbidden: set[str] = set()
        self.busy: list[tuple[int, int]] = []
        self.longest_watch_s = 60.0
        self.bookmark_s = bookmark_s
        self.is_deaf = False
        self.is_endless = False
        self.forgets_pages = False
        self.port = free_port()
        self._store = Store()
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self._watches: set[asyncio.Event] = set()
        self._pages: dict[str, tuple[int, list[Json]]] = {}

    @property
    def url(self) -> str:
        """Of the API."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> FakeKubernetes:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    # --- for tests ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen; what was stored is there."""
        self._do(self._start)

    def stop(self) -> None:
        """Close the port and every connection."""
        self._do(self._stop)

    def cut(self) -> None:
        """End every watch by a plain EOF."""

        async def act() -> None:
            for one in self._watches:
                one.set()

        self._do(act)

    def compact(self) -> None:
        """Forget the history, and what pages of lists are of."""
        self._change(self._store.compact)

    def apply(self, kind: str, name: str, data: Any = None, labels: Json | None = None, **fields: Any) -> Json:
        """Write one, in `namespace` if in any, as `kubectl apply` does; `data` is that of a ConfigMap."""
        key = self._key(kind, name)
        if kind == "Namespace":
            self._store.namespaces.add(name)
        values: Json = {"metadata": {"name": name, **({"labels": labels} if labels else {})}, **fields}
        if data is not None:
            values["data"] = data

        def act() -> Json:
            if key not in self._store.objects:
                return self._store.create(key, values)
            old = self._store.get(key)
            version = old["metadata"]["resourceVersion"]
            kept = labels if labels is not None else old["metadata"].get("labels")
            values["metadata"] = {"name": name, "resourceVersion": version, **({"labels": kept} if kept else {})}
            return self._store.replace(key, values)

        return self._change(act)

    def mesh(self, files: dict[str, str], mesh: str = "mesh") -> None:
        """ConfigMaps of a mesh, one a file, called as it is."""
        for name, text in files.items():
            self.apply("ConfigMap", name.partition(".")[0], {name: text}, {"sidecar.mesh/mesh": mesh})

    def slice(
        self,
        name: str,
        service: str,
        endpoints: list[Json],
        ports: list[Json] | None = None,
        family: str = "IPv4",
    ) -> None:
        """An EndpointSlice; the port `http` at 8080 unless said otherwise; without endpoints it has no ports."""
        named = ports if ports is not None else [{"name": "http", "port": 8080, "protocol": "TCP"}]
        self.apply(
            "EndpointSlice", name, None, {"kubernetes.io/service-name": service}, addressType=family,
            endpoints=endpoints or None, ports=named if endpoints else None,
        )  # fmt: skip

    def delete(self, kind: str, name: str) -> None:
        """As `kubectl delete` does."""
        self._change(lambda: self._store.delete(self._key(kind, name), {}))

    def objects(self, kind: str, namespace: str = "") -> dict[str, Json]:
        """All of a kind, by name; in `namespace` unless another is named."""

        async def act() -> list[Json]:
            key = self._key(kind, "")
            return self._store.all_of(key.version, key.plural, namespace or key.namespace)

        return {one["metadata"]["name"]: one for one in self._do(act)}

    def lose(self, kind: str, name: str) -> None:
        """An object that is not there any more though nobody tells its deletion: a backup was put back."""

        async def act() -> None:
            del self._store.objects[self._key(kind, name)]
            self._store.compact()
            for one in self._watches:
                one.set()

        self._do(act)

    @property
    def watches(self) -> int:
        """How many stand."""
        return len(self._watches)

    # --- the server -----------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        app = web.Application(client_max_size=4 * 1024 * 1024)
        for root in ("/api/{version}", "/apis/{group}/{version}"):
            at = root + "/namespaces/{namespace}/{plural}"
            app.router.add_get(at, self._answer(self._list_or_watch))
            app.router.add_post(at, self._answer(self._create))
            app.router.add_get(at + "/{name}", self._answer(self._get))
            app.router.add_put(at + "/{name}", self._answer(self._put))
            app.router.add_patch(at + "/{name}", self._answer(self._patch))
            app.router.add_delete(at + "/{name}", self._answer(self._delete))
        for plural in OF_CLUSTER:
            for root in ("/api/{version}", "/apis/{group}/{version}"):
                at = f"{root}/{{plural:{plural}}}"
                app.router.add_get(at, self._answer(self._list_or_watch))
                app.router.add_post(at, self._answer(self._create))
                app.router.add_get(at + "/{name}", self._answer(self._get))
                app.router.add_put(at + "/{name}", self._answer(self._put))
        app.router.add_get("/version", self._say_version)
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._review)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._context, reuse_address=True).start()

    async def _stop(self) -> None:
        if self._runner is not None:
            for one in self._watches:
                one.set()
            await self._runner.cleanup()
            self._runner = None

    def _answer(self, act: Callable[[web.Request, Key], Any]) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            at = request.match_info
            version = f"{at['group']}/{at['version']}" if "group" in at else at["version"]
            key = Key(version, at["plural"], at.get("namespace", ""), at.get("name", ""))
            verb = request.method
            if verb == "GET" and not key.name:
                verb = "WATCH" if request.query.get("watch") == "true" else "LIST"
            self.asked.append(f"{verb} {key.plural}")
            self.requests[_VERBS[verb], at.get("group", ""), key.plural, key.namespace, key.name] = None
            try:
                if self.busy:
                    status, after_s = self.busy.pop(0)
                    headers = {"Retry-After": str(after_s)} if after_s else {}
                    said = "Too many requests, please try again later." if status == 429 else "apiserver is down"
                    return web.Response(status=status, text=said, headers=headers)
                if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
                    raise Refusal(401, "Unauthorized", "Unauthorized")
                if f"{verb} {key.plural}" in self.forbidden:
                    raise Refusal(
                        403, "Forbidden",
                        f'{key.plural} is forbidden: User "system:serviceaccount:shop:control" cannot {verb.lower()} '
                        f'resource "{key.plural}" in the namespace "{key.namespace}"',
                    )  # fmt: skip
                if (key.version, key.plural) not in GROUPS:
                    return web.Response(status=404, text="404 page not found\n")
                found = await act(request, key)
                return found if isinstance(found, web.StreamResponse) else web.json_response(found)
            except ConnectionError:
                # Who asked is gone.
                return web.Response(status=500)
            except Refusal as refusal:
                return web.json_response(refusal.values, status=refusal.code)

        return answer

    async def _review(self, request: web.Request) -> web.Response:
        """Of a token of a service account (authentication.k8s.io/v1): any answer is 201, also that it is none."""
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.json_response(Refusal(401, "Unauthorized", "Unauthorized").values, status=401)
        self.requests["create", "authentication.k8s.io", "tokenreviews", "", ""] = None
        spec = (await _body(request, "application/json"))["spec"]
        account, known = self.accounts.get(spec["token"], ("", ()))
        wanted = spec.get("audiences") or ["https://kubernetes.default.svc"]
        common = [one for one in wanted if one in known]
        status: Json = {"authenticated": True, "user": {"username": account}, "audiences": common}
        if not account or not common:
            status = {"user": {}, "error": "[invalid bearer token, token is not valid for these audiences]"}
        said = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "status": status}
        return web.json_response(said, status=201)

    async def _say_version(self, request: web.Request) -> web.Response:
        """Open to all who are known (`system:public-info-viewer`)."""
        major, minor = self.version
        return web.json_response({"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}.1"})

    async def _get(self, request: web.Request, key: Key) -> Json:
        return self._store.get(key)

    async def _create(self, request: web.Request, key: Key) -> web.Response:
        values = await _body(request, "application/json")
        if values.get("kind") != GROUPS[key.version, key.plural] or values.get("apiVersion") != key.version:
            raise Refusal(400, "BadRequest", "the object provided is unrecognized")
        made = self._store.create(Key(key.version, key.plural, key.namespace, values["metadata"]["name"]), values)
        return web.json_response(made, status=201)

    async def _put(self, request: web.Request, key: Key) -> Json:
        return self._store.replace(key, await _body(request, "application/json"))

    async def _patch(self, request: web.Request, key: Key) -> Json:
        return self._store.patch(key, await _body(request, "application/merge-patch+json"))

    async def _delete(self, request: web.Request, key: Key) -> Json:
        said = await _body(request, "application/json")
        self._store.delete(key, said.get("preconditions") or {})
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    async def _list_or_watch(self, request: web.Request, key: Key) -> Json | web.StreamResponse:
        selects = selector(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
        if request.query.get("watch") == "true":
            return await self._watch(request, key, selects)
        limit = int(request.query.get("limit", "0"))
        following = request.query.get("continue")
        if following:
            version, rest = self._pages.pop(following, (0, []))
            if version <= self._store.compacted or self.forgets_pages:
                raise Refusal(410, "Expired", "The provided continue parameter is too old to display a consistent list")
        else:
            version, rest = self._store.version, self._store.all_of(key.version, key.plural, key.namespace, selects)
        page, rest = (rest[:limit], rest[limit:]) if limit else (rest, [])
        metadata: Json = {"resourceVersion": str(version)}
        if rest:
            token = base64.urlsafe_b64encode(f"{version}:{rest[0]['metadata']['name']}".encode()).decode()
            self._pages[token] = version, rest
            metadata |= {"continue": token, "remainingItemCount": len(rest)}
        if _NAMES_ONLY in request.headers.get("Accept", ""):
            items = [{"metadata": one["metadata"]} for one in page]
            form = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return {**form, "metadata": metadata, "items": items}
        # Items of a list say neither kind nor apiVersion, and none at all is null.
        items = [{name: value for name, value in one.items() if name not in ("kind", "apiVersion")} for one in page]
        return {"kind": GROUPS[key.version, key.plural] + "List", "apiVersion": key.version, "metadata": metadata,
                "items": items or None}  # fmt: skip

    async def _watch(self, request: web.Request, key: Key, selects: Selects) -> web.StreamResponse:
        at = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if at < self._store.compacted:
            said = f"too old resource version: {at} ({self._store.compacted})"
            status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": said,
                      "reason": "Expired", "code": 410}  # fmt: skip
            await _send(response, "ERROR", status)
            return response
        ended = asyncio.Event()
        self._watches.add(ended)
        asked_s = 1800.0 if self.is_endless else float(request.query.get("timeoutSeconds", "1800"))
        until_s = self._loop.time() + min(self.longest_watch_s, asked_s)
        has_bookmarks = request.query.get("allowWatchBookmarks") == "true"
        bookmark_at_s = self._loop.time() + self.bookmark_s
        try:
            while not ended.is_set() and self._loop.time() < until_s:
                news = [] if self.is_deaf else [one for one in self._store.history if one.version > at]
                for one in news:
                    at = one.version
                    if (one.key.version, one.key.plural, one.key.namespace) == (key.version, key.plural, key.namespace):
                        event = _event(one, selects)
                        if event is not None:
                            await _send(response, *event)
                if has_bookmarks and not self.is_deaf and self._loop.time() >= bookmark_at_s:
                    bookmark_at_s = self._loop.time() + self.bookmark_s
                    at = max(at, self._store.version)
                    await _send(response, "BOOKMARK", _bookmark(key, at))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await ended.wait()
        except ConnectionError:
            pass
        finally:
            self._watches.discard(ended)
        return response

    def _key(self, kind: str, name: str) -> Key:
        version, plural = _BY_KIND[kind]
        return Key(version, plural, "" if plural in OF_CLUSTER else self.namespace, name)

    def _change(self, act: Callable[[], T]) -> T:
        async def changed() -> T:
            return act()

        return self._do(changed)

    def _do(self, act: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(30)


def _event(change: Change, selects: Selects) -> tuple[str, Json] | None:
    """What a watch with this selector is told of a change: an object that loses its label was deleted."""
    was = change.before is not None and selects(change.before)
    is_ = change.after is not None and selects(change.after)
    if is_:
        assert change.after is not None
        return "MODIFIED" if was else "ADDED", change.after
    if was:
        assert change.before is not None
        last = json.loads(json.dumps(change.before))
        last["metadata"]["resourceVersion"] = str(change.version)
        return "DELETED", last
    return None


def _bookmark(key: Key, version: int) -> Json:
    kind = GROUPS[key.version, key.plural]
    empty: Json = {"kind": kind, "apiVersion": key.version}
    empty["metadata"] = {"resourceVersion": str(version), "creationTimestamp": None}
    if kind == "EndpointSlice":
        empty |= {"addressType": "", "endpoints": None, "ports": None}
    return empty


async def _send(response: web.StreamResponse, kind: str, one: Json) -> None:
    line = json.dumps({"type": kind, "object": one}).encode() + b"\n"
    middle = len(line) // 2
    await response.write(line[:middle])
    await response.write(line[middle:])


async def _body(request: web.Request, content_type: str) -> Json:
    if request.content_type != content_type:
        said = f"the body of the request was in an unknown format - {request.content_type}"
        raise Refusal(415, "UnsupportedMediaType", said)
    values = await request.json()
    assert isinstance(values, dict)
    return values


def endpoint(address: str, zone: str = "", pod: str = "", **conditions: bool | None) -> Json:
    """Of an EndpointSlice; ready unless it says otherwise."""
    said = {"ready": True, "serving": True, "terminating": False, **conditions}
    found: Json = {"addresses": [address], "conditions": said}
    if zone:
        found["zone"] = zone
    if pod:
        found["targetRef"] = {"kind": "Pod", "name": pod, "namespace": "shop", "uid": f"uid-of-{pod}"}
    return found
