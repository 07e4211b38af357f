"""Each policy that a file may give to a route or an upstream, through a real sidecar and real servers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.origin import Origin
from tests.support.process import Response, SidecarProcess, request, running_sidecar
from tests.support.wait import eventually, refusing_port

Answer = Callable[["Recorded"], tuple[int, dict[str, str]]]


class Recorded:
    """
    A request that a `Recorder` got.

    Attributes:
        number: From 1, in order of arrival.
    """

    def __init__(self, number: int, handler: BaseHTTPRequestHandler) -> None:
        self.number = number
        self.method = handler.command
        self.path = handler.path
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = handler.rfile.read(int(self.headers.get("content-length", 0)))


class Recorder:
    """A server that remembers what it saw and answers as `answer` says: a status, 0 for hanging up, and fields."""

    def __init__(self, answer: Answer = lambda request: (200, {})) -> None:
        self.seen: list[Recorded] = []
        this = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                recorded = Recorded(len(this.seen) + 1, self)
                this.seen.append(recorded)
                status, fields = answer(recorded)
                if not status:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                for name, value in {"content-length": "0", **fields}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

        for method in ("GET", "POST", "PUT"):
            setattr(Handler, f"do_{method}", Handler._answer)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def outbound(tmp_path: Path, route: str, upstreams: str) -> Iterator[SidecarProcess]:
    """A sidecar with one route, to the upstream `shop`, with these settings."""
    text = f"""
        service: storefront
        outbound:
          listen: "127.0.0.1:${{OUTBOUND_PORT}}"
          routes:
            - {{name: r, match: {{host: shop}}, to: shop{route}}}
        upstreams: {{{upstreams}}}
    """
    with running_sidecar(tmp_path, text) as sidecar:
        yield sidecar


def at(*servers: Recorder | Origin, more: str = "") -> str:
    """The upstream `shop` at these servers."""
    addresses = ", ".join(f'"127.0.0.1:{server.port}"' for server in servers)
    return f"shop: {{endpoints: [{addresses}]{more}}}"


def flag(reply: Response) -> str:
    return str(json.loads(reply.body)["flag"])


def first_fails(status: int) -> Answer:
    """The first request fails so, the others succeed."""
    return lambda request: (status if request.number == 1 else 200, {})


class TestRetry:
    """`retry` of routes and `retry_budget` of upstreams."""

    def test_a_status_that_the_route_names_is_tried_again(self, tmp_path: Path) -> None:
        """The client sees only the good answer; the log tells both tries."""
        with (
            Recorder(first_fails(503)) as server,
            outbound(tmp_path, ", retry: {on: [gateway_error]}", at(server)) as sidecar,
        ):
            assert sidecar.outbound("/", host="shop").status == 200
            assert len(server.seen) == 2
            assert sidecar.wait_for_log_lines(1)[0]["attempts"] == 2

    def test_a_post_that_may_have_been_processed_is_sent_once(self, tmp_path: Path) -> None:
        """Unless the client vouches for it with an Idempotency-Key."""
        with (
            Recorder(lambda request: (0 if len(request.body) == 5 else 200, {})) as server,
            outbound(tmp_path, ", retry: {attempts: 3, on: [reset_before_response, 5xx]}", at(server)) as sidecar,
        ):
            reply = sidecar.outbound("/", host="shop", method="POST", body=b"order")
            assert (reply.status, len(server.seen)) == (503, 1)
            line = sidecar.wait_for_log_lines(1)[0]
            assert "not_idempotent" in json.dumps(line)
            reply = sidecar.outbound("/", host="shop", method="POST", body=b"order", headers={"idempotency-key": "1"})
            assert (reply.status, len(server.seen)) == (503, 5)

    def test_a_body_is_kept_up_to_its_limit(self, tmp_path: Path) -> None:
        """A longer one is not sent again, and the log says why."""
        with (
            Recorder(first_fails(502)) as server,
            outbound(tmp_path, ", retry: {on: [502], max_body: 1KiB}", at(server)) as sidecar,
        ):
            assert sidecar.outbound("/", host="shop", method="PUT", body=b"x" * 1024).status == 200
            assert [len(seen.body) for seen in server.seen] == [1024, 1024]
        with (
            Recorder(lambda request: (502, {})) as server,
            outbound(tmp_path, ", retry: {on: [502], max_body: 1KiB}", at(server)) as sidecar,
        ):
            assert sidecar.outbound("/", host="shop", method="PUT", body=b"x" * 1025).status == 502
            assert len(server.seen) == 1

    def test_a_try_that_takes_too_long_is_given_up_for_another(self, tmp_path: Path) -> None:
        """`per_try_timeout` and `timeout` as an occasion."""
        never = threading.Event()

        def answer(request: Recorded) -> tuple[int, dict[str, str]]:
            if request.number == 1:
                never.wait(20)
            return 200, {}

        with (
            Recorder(answer) as server,
            outbound(tmp_path, ", retry: {on: [timeout], per_try_timeout: 1s}", at(server)) as sidecar,
        ):
            assert sidecar.outbound("/", host="shop").status == 200
            assert len(server.seen) == 2
            never.set()

    def test_retries_stay_within_the_budget(self, tmp_path: Path) -> None:
        """With nothing allowed there is none, and a metric says why."""
        budget = ", retry_budget: {percent: 0%, min_per_second: 0}"
        with (
            Recorder(lambda request: (503, {})) as server,
            outbound(tmp_path, ", retry: {on: [503]}", at(server, more=budget)) as sidecar,
        ):
            assert sidecar.outbound("/", host="shop").status == 503
            assert len(server.seen) == 1
            assert sidecar.admin("/upstreams").json()["shop"]["stats"]["retry_skipped_budget"] == 1


class TestCircuitBreaker:
    """`circuit_breaker` of upstreams and of inbound."""

    def test_what_exceeds_the_limit_is_refused_at_once_and_the_rest_is_served(self, tmp_path: Path) -> None:
        """503, flag UO, with Retry-After."""
        with (
            Origin("slow") as server,
            ThreadPoolExecutor(1) as pool,
            outbound(tmp_path, "", at(server, more=", circuit_breaker: {max_requests: 1}")) as sidecar,
        ):
            slow = pool.submit(sidecar.outbound, "/slow", host="shop")
            assert server.entered.wait(30)
            reply = sidecar.outbound("/", host="shop")
            assert (reply.status, flag(reply), reply.headers["retry-after"]) == (503, "UO", "1")
            server.release()
            assert slow.result(10).status == 200
            assert sidecar.outbound("/", host="shop").status == 200

    def test_a_request_waits_for_a_connection_no_longer_than_its_timeout(self, tmp_path: Path) -> None:
        """With one connection, which is busy."""
        breaker = ", circuit_breaker: {max_connections: 1, pending_timeout: 200ms}"
        with (
            Origin("slow") as server,
            ThreadPoolExecutor(1) as pool,
            outbound(tmp_path, "", at(server, more=breaker)) as sidecar,
        ):
            slow = pool.submit(sidecar.outbound, "/slow", host="shop")
            assert server.entered.wait(30)
            reply = sidecar.outbound("/", host="shop")
            assert (reply.status, flag(reply)) == (503, "UO")
            assert json.loads(reply.body)["error"] == "pending_timeout"
            server.release()
            assert slow.result(10).status == 200

    def test_the_app_is_protected_too(self, tmp_path: Path) -> None:
        """By `inbound.circuit_breaker`; here by a limit that finds itself, below its bound."""
        with Origin("app") as app:
            text = f"""
                service: storefront
                inbound:
                  listen: "127.0.0.1:${{INBOUND_PORT}}"
                  app: "127.0.0.1:{app.port}"
                  circuit_breaker: {{adaptive: true, max_requests: 50}}
            """
            with running_sidecar(tmp_path, text) as sidecar:
                assert all(sidecar.inbound("/").status == 200 for _ in range(20))
                stats = sidecar.admin("/upstreams").json()["app"]["stats"]
                assert 0 < stats["concurrency_limit"] <= 50


class TestOutlierDetection:
    """`outlier_detection` of upstreams."""

    def test_an_endpoint_that_keeps_failing_is_ejected_and_returns_by_probation(self, tmp_path: Path) -> None:
        """After its time one request asks it again; answered well, it is back."""
        is_ill = True
        detection = ", load_balancing: round_robin, outlier_detection: {consecutive_5xx: 3, base_ejection_time: 3s}"
        with (
            Recorder(lambda request: (500 if is_ill else 200, {})) as bad,
            Recorder() as good,
            outbound(tmp_path, "", at(bad, good, more=detection)) as sidecar,
        ):
            statuses = [sidecar.outbound("/", host="shop").status for _ in range(20)]
            assert statuses.count(500) == len(bad.seen) == 3
            assert sidecar.admin("/upstreams").json()["shop"]["endpoints"][0]["ejected"] is True
            is_ill = False

            def is_back() -> bool:
                assert sidecar.outbound("/", host="shop").status == 200
                return not sidecar.admin("/upstreams").json()["shop"]["endpoints"][0]["ejected"]

            eventually(is_back, "the endpoint to be back")
            back = f"endpoint_returned upstream=shop endpoint=127.0.0.1:{bad.port}"
            log = eventually(lambda: back in sidecar.stderr() and sidecar.stderr(), "the log to say so")
            assert f"endpoint_ejected upstream=shop endpoint=127.0.0.1:{bad.port} cause=consecutive_5xx" in log

    def test_an_endpoint_that_cannot_be_connected_to_is_ejected_whatever_it_answered(self, tmp_path: Path) -> None:
        """By the row of its connects, with statuses not looked at; no client notices, for each connect is retried."""
        detection = "{consecutive_5xx: 0, consecutive_connect_failures: 3, base_ejection_time: 1h}"
        with Recorder(lambda request: (500, {})) as ill:
            endpoints = f'["127.0.0.1:{refusing_port()}", "127.0.0.1:{ill.port}"]'
            shop = f"shop: {{endpoints: {endpoints}, load_balancing: round_robin, outlier_detection: {detection}}}"
            with outbound(tmp_path, "", shop) as sidecar:
                assert {sidecar.outbound("/", host="shop").status for _ in range(20)} == {500}
                ejected = [one["ejected"] for one in sidecar.admin("/upstreams").json()["shop"]["endpoints"]]
                assert ejected == [True, False]
                name, reason = "sidecar_upstream_ejections_total", "consecutive_connect_failures"
                assert sidecar.metric(name, upstream="shop", reason=reason) == 1
                assert sidecar.metric(name, upstream="shop") == 1
                assert sidecar.metric("sidecar_upstream_connect_failures_total", upstream="shop") == 3


class TestLoadBalancing:
    """`load_balancing: peak_ewma`."""

    def test_a_slow_endpoint_gets_few_requests(self, tmp_path: Path) -> None:
        """One that takes 50 ms more than the other, though both are idle when each request comes."""
        pause = threading.Event()

        def slowly(request: Recorded) -> tuple[int, dict[str, str]]:
            pause.wait(0.05)
            return 200, {}

        with (
            Recorder(slowly) as slow,
            Recorder() as fast,
            outbound(tmp_path, "", at(slow, fast, more=", load_balancing: peak_ewma")) as sidecar,
        ):
            for _ in range(40):
                assert sidecar.outbound("/", host="shop").status == 200
            assert 1 <= len(slow.seen) <= 10
            assert len(slow.seen) + len(fast.seen) == 40


class TestMirror:
    """`mirror` of routes."""

    def test_a_copy_goes_to_the_mirror_and_its_answer_nowhere(self, tmp_path: Path) -> None:
        """Marked, with the body, even if the mirror fails; a body beyond the limit is not copied."""
        with (
            Recorder() as server,
            Recorder(lambda request: (500, {})) as shadow,
            outbound(
                tmp_path,
                ", mirror: {to: shadow, max_body: 10B}",
                f'{at(server)}, shadow: {{hosts: [], endpoints: ["127.0.0.1:{shadow.port}"]}}',
            ) as sidecar,
        ):
            assert sidecar.outbound("/long", host="shop", method="POST", body=b"x" * 11).status == 200
            assert sidecar.outbound("/a?b=c", host="shop", method="POST", body=b"x" * 10).status == 200
            eventually(lambda: shadow.seen, "the copy")
            (copy,) = shadow.seen
            assert (copy.method, copy.path, copy.body) == ("POST", "/a?b=c", b"x" * 10)
            assert copy.headers["x-sidecar-mirror"] == "true"
            assert [seen.path for seen in server.seen] == ["/long", "/a?b=c"]
            assert all("x-sidecar-mirror" not in seen.headers for seen in server.seen)
            assert len(sidecar.wait_for_log_lines(2)) == 2

    def test_several_mirrors_get_a_copy_each(self, tmp_path: Path) -> None:
        """By their own shares and limits; each is counted by its own upstream, and the log has one line a request."""
        with (
            Recorder() as server,
            Recorder(lambda request: (500, {})) as one,
            Recorder() as other,
            outbound(
                tmp_path,
                ", mirror: [{to: one, max_body: 10B}, other, {to: none, percent: 0}]",
                f'{at(server)}, one: {{hosts: [], endpoints: ["127.0.0.1:{one.port}"]}}, '
                f'other: {{hosts: [], endpoints: ["127.0.0.1:{other.port}"]}}, none: {{hosts: [], endpoints: []}}',
            ) as sidecar,
        ):
            assert sidecar.outbound("/a?b=c", host="shop", method="POST", body=b"x" * 10).status == 200
            assert sidecar.outbound("/long", host="shop", method="POST", body=b"x" * 11).status == 200
            eventually(lambda: len(other.seen) == 2 and one.seen, "the copies")
            assert [(copy.path, copy.body) for copy in one.seen] == [("/a?b=c", b"x" * 10)]
            assert sorted((copy.path, copy.body) for copy in other.seen) == [
                ("/a?b=c", b"x" * 10), ("/long", b"x" * 11),
            ]  # fmt: skip
            assert all(copy.headers["x-sidecar-mirror"] == "true" for copy in (*one.seen, *other.seen))
            assert [seen.path for seen in server.seen] == ["/a?b=c", "/long"]
            assert len(sidecar.wait_for_log_lines(2)) == 2
            counted = {
                name: (
                    sidecar.metric("sidecar_upstream_requests_total", upstream=name),
                    sidecar.metric("sidecar_upstream_mirror_skipped_total", upstream=name),
                )
                for name in ("one", "other", "none")
            }
            assert counted == {"one": (1, 1), "other": (2, 0), "none": (0, 0)}


class TestFault:
    """`fault` of routes."""

    def test_requests_with_the_header_fail_and_others_are_left_alone(self, tmp_path: Path) -> None:
        """The status of the file, flag FI, nothing sent."""
        with (
            Recorder() as server,
            outbound(tmp_path, ", fault: {abort: {status: 418}, header: {x-fault: yes}}", at(server)) as sidecar,
        ):
            reply = sidecar.outbound("/", host="shop", headers={"x-fault": "yes"})
            assert (reply.status, flag(reply), server.seen) == (418, "FI", [])
            assert sidecar.outbound("/", host="shop", headers={"x-fault": "no"}).status == 200
            assert sidecar.wait_for_log_lines(2)[0]["response_flags"] == "FI"

    def test_a_delayed_request_is_sent_later(self, tmp_path: Path) -> None:
        """The log's duration holds the delay."""
        with Recorder() as server, outbound(tmp_path, ", fault: {delay: {duration: 300ms}}", at(server)) as sidecar:
            assert sidecar.outbound("/", host="shop").status == 200
            assert sidecar.wait_for_log_lines(1)[0]["duration"] >= 300


class TestRateLimit:
    """`rate_limit` of routes and of inbound."""

    def test_requests_beyond_the_limit_are_429_each_key_by_itself(self, tmp_path: Path) -> None:
        """With flag RL and Retry-After; the counts outlive a reload."""
        limit = ", rate_limit: {requests: 2, per: 1h, key: {header: x-api-key}}"
        with Recorder() as server, outbound(tmp_path, limit, at(server)) as sidecar:

            def statuses(key: str, count: int) -> list[int]:
                return [sidecar.outbound("/", host="shop", headers={"x-api-key": key}).status for _ in range(count)]

            assert statuses("a", 3) == [200, 200, 429]
            assert statuses("b", 1) == [200]
            reply = sidecar.outbound("/", host="shop", headers={"x-api-key": "a"})
            assert (reply.status, flag(reply)) == (429, "RL")
            assert 1700 <= int(reply.headers["retry-after"]) <= 1800
            text = sidecar.config.read_text()
            sidecar.config.write_text(text + "limits: {max_headers: 99}\n")
            sidecar.wait_for_generation(2)
            assert statuses("a", 1) == [429]
            assert statuses("b", 2) == [200, 429]

    def test_inbound_is_limited_as_a_whole(self, tmp_path: Path) -> None:
        """Whatever route a request takes."""
        with Origin("app") as app:
            text = f"""
                service: storefront
                inbound:
                  listen: "127.0.0.1:${{INBOUND_PORT}}"
                  app: "127.0.0.1:{app.port}"
                  rate_limit: {{requests: 3, per: 1h}}
                  routes: [{{name: one, match: {{path: /one}}}}]
            """
            with running_sidecar(tmp_path, text) as sidecar:
                paths = ["/one", "/", "/one", "/", "/one"]
                assert [request(sidecar.inbound_port, path).status for path in paths] == [200, 200, 200, 429, 429]
