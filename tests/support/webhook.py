"""
A real `sidecar inject serve` as a subprocess, and a client of TLS that calls it as the API server does.

    with running_webhook(tmp_path, "--config", "c", api=api) as webhook:
        webhook.ask(review(pod()), bundle)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sidecar.control.authority import certificates as pki
from sidecar.webhook.authority import due
from sidecar.webhook.certificate import LEAF_S
from tests.support.control import ROOT
from tests.support.fake_kubernetes import TOKEN, FakeKubernetes
from tests.support.process import Response, request
from tests.support.wait import eventually, free_port

HOST = "sidecar-webhook.shop.svc"
CONFIGURATION = "sidecar-webhook"


def write_certificate(folder: Path, host: str, now_s: float) -> tuple[str, str, str]:
    """Paths of a certificate, its key and its root."""
    root = due((), host, now_s)[0]
    key = pki.new_key()
    leaf = pki.make_host_leaf(host, key.public_key(), root.certificate, root.key, now_s, LEAF_S)
    for name, text in (
        ("tls.crt", pki.text_of([leaf])),
        ("tls.key", pki.text_of_key(key)),
        ("ca.crt", pki.text_of([root.certificate])),
    ):
        (folder / name).write_text(text)
    return str(folder / "tls.crt"), str(folder / "tls.key"), str(folder / "ca.crt")


def configure(api: FakeKubernetes, *services: str) -> None:
    """A MutatingWebhookConfiguration as it is applied: it does not say whom to believe."""
    webhooks = [
        {
            "name": f"w{number}.sidecar.mesh",
            "clientConfig": {"service": {"namespace": "shop", "name": name, "path": "/inject", "port": 443}},
            "sideEffects": "None",
        }
        for number, name in enumerate(services or ("sidecar-webhook",))
    ]
    api.apply("MutatingWebhookConfiguration", CONFIGURATION, webhooks=webhooks)


class Webhook:
    """
    The subprocess.

    Args:
        folder: For its log and what it prints.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.ops_port = free_port()
        self._out, self._err = folder / "webhook.out", folder / "webhook.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """Start it, and do not wait."""
        program = [
            sys.executable, "-m", "sidecar", "inject", "serve", "--listen", f"127.0.0.1:{self.port}",
            "--ops-listen", f"127.0.0.1:{self.ops_port}", *arguments,
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
        with open(self._out, "ab") as out, open(self._err, "ab") as err:
            self.process = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip

    def why_not_ready(self) -> str | None:
        """What `/ready` says; None if nobody answers."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            answer = request(self.ops_port, "/ready")
        except OSError:
            return None
        return "" if answer.status == 200 else answer.text.strip()

    def ask(
        self, body: Any, bundle: str, *, host: str = HOST, path: str = "/inject?timeout=5s", **headers: str
    ) -> Response:
        """A review by TLS, whose server must have this name and be believed by this bundle."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.connected(bundle, host) as connection:
            fields = {
                "content-type": "application/json",
                **{key.replace("_", "-"): one for key, one in headers.items()},
            }
            connection.request("POST", path, raw, fields)
            answer = connection.getresponse()
            return Response(answer.status, {key.lower(): one for key, one in answer.getheaders()}, answer.read())

    @contextlib.contextmanager
    def connected(self, bundle: str, host: str = HOST) -> Iterator[http.client.HTTPConnection]:
        """A connection by TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=bundle)
        connection = http.client.HTTPConnection(host)
        with socket.create_connection(("127.0.0.1", self.port), 10) as plain:
            connection.sock = context.wrap_socket(plain, server_hostname=host)
            try:
                yield connection
            finally:
                connection.close()

    def lines(self) -> list[Any]:
        """What it has said of reviews until now; the last is written a moment after its answer."""
        whole, _, _ = self._out.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def log(self) -> str:
        """What it wrote on stderr."""
        return self._err.read_text()

    def metrics(self) -> dict[str, float]:
        """Of the webhook, by the sample's name with its labels."""
        lines = request(self.ops_port, "/metrics").text.splitlines()
        found = (line.rpartition(" ") for line in lines if line.startswith("sidecar_webhook"))
        return {name: float(value) for name, _, value in found}

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)


def of_the_api(folder: Path, api: FakeKubernetes) -> list[str]:
    """Options by which it finds the API."""
    token = folder / "token"
    token.write_text(TOKEN)
    return ["--kubernetes", api.url, "--kubernetes-token-file", str(token), "--kubernetes-namespace", "shop"]


@contextlib.contextmanager
def running_webhook(folder: Path, *arguments: str, waits: bool = True) -> Iterator[Webhook]:
    """One that is ready, if it is waited for."""
    webhook = Webhook(folder)
    try:
        webhook.start(*arguments)
        if waits:
            eventually(lambda: webhook.why_not_ready() == "", f"a webhook that is ready: {webhook.log()}")
        yield webhook
        assert "Traceback" not in webhook.log(), webhook.log()
    finally:
        if webhook.process is not None and webhook.process.poll() is None:
            os.killpg(webhook.process.pid, signal.SIGKILL)
            webhook.process.wait(30)
