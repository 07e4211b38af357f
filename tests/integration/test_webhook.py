"""`sidecar inject serve` as the API server meets it: real sockets, real TLS, an API that keeps what it is told."""

from __future__ import annotations

import asyncio
import base64
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.control.engines.interface import Unavailable
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.settings import KubernetesSettings
from sidecar.control.engines.secrets.kubernetes import KubernetesSecrets
from sidecar.inject.wanted import Wanted
from sidecar.webhook.authority import bundle_of, shared
from sidecar.webhook.desk import MAX_BODY_BYTES
from sidecar.webhook.registration import Registration
from sidecar.webhook.start import Options, StartError, fitted
from tests.support.authority import BEGAN_S
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.process import request
from tests.support.reviews import patched, pod, review, written
from tests.support.wait import eventually
from tests.support.webhook import (
    CONFIGURATION,
    HOST,
    Webhook,
    configure,
    of_the_api,
    running_webhook,
    write_certificate,
)

WANTED = ("--control", "https://control.shop:15010", "--mesh", "shop", "--roots", "mesh-roots")


@pytest.fixture(scope="module")
def api() -> Iterator[FakeKubernetes]:
    """With our entry, as it is applied."""
    with FakeKubernetes() as found:
        configure(found)
        yield found


@pytest.fixture(scope="module")
def webhook(api: FakeKubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """One for all tests that do not end it."""
    folder = tmp_path_factory.mktemp("webhook")
    with running_webhook(folder, *WANTED, *of_the_api(folder, api)) as found:
        yield found


def bundle(api: FakeKubernetes) -> str:
    """Whom the API was told to believe; of all of our webhooks the same."""
    webhooks = api.objects("MutatingWebhookConfiguration")[CONFIGURATION]["webhooks"]
    (found,) = {one["clientConfig"].get("caBundle", "") for one in webhooks}
    return base64.b64decode(found).decode()


def test_pod_is_injected_by_what_the_api_was_told_to_believe(webhook: Webhook, api: FakeKubernetes) -> None:
    """The authority is in a Secret, its certificate in our entry; the patch is there, and a line says what was done."""
    answer = webhook.ask(review(pod(), uid="first"), bundle(api))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    names = [one["name"] for one in patched(pod(), answer.json())["spec"]["initContainers"]]
    assert names == ["sidecar-capture", "sidecar"]
    assert "sidecar-mesh.webhook" in api.objects("Secret")
    (line,) = eventually(lambda: [one for one in webhook.lines() if one.get("uid") == "first"], "its line")
    assert line["duration_ms"] >= 0
    shown = ("event", "decision", "kind", "namespace", "name", "operation", "dry_run", "status", "added")
    assert [line[name] for name in shown] == [
        "review", "injected", "Pod", "storefront", "web-7d9f8b6c5-", "CREATE", False, 200,
        "a native sidecar and capture; service web, app port 8080",
    ]  # fmt: skip


def test_what_was_decided_is_counted(webhook: Webhook, api: FakeKubernetes) -> None:
    """By decision, with how long it took; and when our certificates end."""
    before = webhook.metrics()
    webhook.ask(review(pod(hostNetwork=True)), bundle(api))
    webhook.ask(b"{", bundle(api))
    after = webhook.metrics()
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    assert grown['sidecar_webhook_reviews_total{decision="refused"}'] == 1
    assert grown['sidecar_webhook_reviews_total{decision="injected"}'] == 0
    assert grown['sidecar_webhook_refused_total{status="400"}'] == 1
    assert grown["sidecar_webhook_review_duration_seconds_count"] == 1
    assert grown['sidecar_webhook_review_duration_seconds_bucket{le="+Inf"}'] == 1
    assert after["sidecar_webhook_ca_bundle_ok"] == 1
    ends = {name for name in after if name.startswith("sidecar_webhook_certificate_expiry_timestamp_seconds")}
    assert len(ends) == 2


@pytest.mark.parametrize(
    ("body", "headers", "status", "why"),
    [
        (b"{", {}, 400, "1:2: expected JSON"),
        (b"[]", {}, 400, "expected an AdmissionReview, found a list"),
        (
            written({**review(pod()), "apiVersion": "admission.k8s.io/v1beta1"}),
            {},
            400,
            "expected 'admission.k8s.io/v1'",
        ),
        (written(review(pod())), {"content_type": "application/yaml"}, 415, "expected application/json"),
        (b" " * (MAX_BODY_BYTES + 1), {}, 413, f"expected at most {MAX_BODY_BYTES} octets"),
    ],
    ids=["json", "list", "v1beta1", "type", "size"],
)
def test_what_cannot_be_answered_is_refused(
    webhook: Webhook, api: FakeKubernetes, body: bytes, headers: dict[str, str], status: int, why: str
) -> None:
    """With a status of the client's fault and one sentence."""
    answer = webhook.ask(body, bundle(api), **headers)
    assert answer.status == status
    assert why in answer.json()["error"]


def test_object_of_the_greatest_size_is_answered(webhook: Webhook, api: FakeKubernetes) -> None:
    """As large as the API takes one, and decided in a thread."""
    value = pod(annotations={"a": "x" * (MAX_BODY_BYTES - 4096)})
    answer = webhook.ask(review(value), bundle(api))
    assert answer.status == 200
    assert patched(value, answer.json())["metadata"]["annotations"]["a"] == value["metadata"]["annotations"]["a"]


def test_review_that_does_not_come_in_time_is_answered_before_the_api_gives_up(
    webhook: Webhook, api: FakeKubernetes
) -> None:
    """The API says how long it waits; it hears of us before that is over, and chooses by its failure policy."""
    began_s = time.monotonic()
    with webhook.connected(bundle(api)) as connection:
        head = f"POST /inject?timeout=1s HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
        connection.sock.sendall(f"{head}content-length: 100\r\n\r\n{{".encode())
        assert connection.sock.recv(65536).startswith(b"HTTP/1.1 504 ")
    assert time.monotonic() - began_s >= 0.9
    why = "it took longer than the API waits"
    eventually(lambda: [one for one in webhook.lines() if (one["status"], one.get("why")) == (504, why)], "its line")


def test_other_ways_lead_nowhere(webhook: Webhook, api: FakeKubernetes) -> None:
    """Nothing else is served by HTTPS, and nothing in clear; metrics and probes are on a port of their own."""
    assert webhook.ask(review(pod()), bundle(api), path="/").status == 404
    with webhook.connected(bundle(api)) as connection:
        connection.request("GET", "/inject")
        assert connection.getresponse().status == 405
    assert request(webhook.port, "/inject", method="POST", body=b"{}").status == 400
    assert request(webhook.ops_port, "/live").text == "live\n"
    assert request(webhook.ops_port, "/inject").status == 404


def test_entry_that_loses_what_we_wrote_gets_it_again(tmp_path: Path) -> None:
    """A tool that applies the configuration anew takes it away; both webhooks of ours get it back, and only ours."""

    async def begin(api: FakeKubernetes) -> None:
        client = await opened(api)
        try:
            registration = Registration(client, CONFIGURATION, "sidecar-webhook")
            for text in ("one", "two"):
                await registration.put(text)
                asked = len(api.asked)
                await registration.put(text)
                assert api.asked[asked:] == ["GET mutatingwebhookconfigurations"]
            configure(api, "sidecar-webhook", "another", "sidecar-webhook")
            await registration.put("two")
        finally:
            await client.close()

    with FakeKubernetes() as api:
        configure(api)
        asyncio.run(begin(api))
        webhooks = api.objects("MutatingWebhookConfiguration")[CONFIGURATION]["webhooks"]
        said = [one["clientConfig"].get("caBundle") for one in webhooks]
        assert said == [base64.b64encode(b"two").decode(), None, base64.b64encode(b"two").decode()]


def test_entry_that_is_missing_or_anothers_is_told() -> None:
    """With what to do, and without writing anything."""

    async def begin(api: FakeKubernetes) -> None:
        client = await opened(api)
        try:
            registration = Registration(client, CONFIGURATION, "sidecar-webhook")
            with pytest.raises(Unavailable, match="there is no MutatingWebhookConfiguration sidecar-webhook"):
                await registration.put("x")
            configure(api, "another")
            with pytest.raises(Unavailable, match=r"no webhook of .* calls the service shop/sidecar-webhook"):
                await registration.put("x")
        finally:
            await client.close()

    with FakeKubernetes() as api:
        asyncio.run(begin(api))
        assert "PUT mutatingwebhookconfigurations" not in api.asked


def test_replicas_agree_on_one_authority_in_the_api() -> None:
    """Four that begin at once: each Secret is made once, and all have what is in it."""

    async def begin(api: FakeKubernetes) -> set[str]:
        clients = [await opened(api) for _ in range(4)]
        try:
            found = await asyncio.gather(*(shared(KubernetesSecrets(one), HOST, BEGAN_S) for one in clients))
            return {bundle_of(one) for one in found}
        finally:
            for one in clients:
                await one.close()

    with FakeKubernetes() as api:
        assert len(asyncio.run(begin(api))) == 1


async def opened(api: FakeKubernetes) -> Client:
    api.tokens.add("")
    client = Client(KubernetesSettings(api.url, namespace="shop"))
    await client.open()
    return client


def test_it_is_not_ready_before_the_api_believes_it_and_ends_in_peace(tmp_path: Path) -> None:
    """
    Without our entry it says why it is not ready. A review that is open when it is told to end is answered, `/ready` is
    503 and says so at once, and it exits with 0.
    """
    with (
        FakeKubernetes() as api,
        running_webhook(tmp_path, *WANTED, *of_the_api(tmp_path, api), "--linger", "2s", waits=False) as webhook,
    ):
        eventually(lambda: "there is no MutatingWebhookConfiguration" in (webhook.why_not_ready() or ""), "why not")
        (secret,) = api.objects("Secret").values()
        assert secret["type"] == "Opaque"
        configure(api)
        eventually(lambda: webhook.why_not_ready() == "", "the entry to be found")
        body = written(review(pod()))
        with webhook.connected(bundle(api)) as connection:
            head = f"POST /inject HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
            connection.sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[:100])
            assert webhook.process is not None
            webhook.process.send_signal(signal.SIGTERM)
            eventually(lambda: webhook.why_not_ready() == "it ends", "/ready to say so")
            late = webhook.ask(review(pod()), bundle(api))  # of who has not heard of it yet
            assert (late.status, late.headers["connection"]) == (200, "close")
            connection.sock.sendall(body[100:])
            assert connection.sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert webhook.process.wait(30) == 0
        assert [line["decision"] for line in webhook.lines()] == ["injected", "injected"]


@pytest.mark.parametrize(
    ("said", "is_plain", "why"),
    [
        (("1", "28+"), False, "need Kubernetes 1.29, found 1.28: upgrade it, or say --plain"),
        (("1", "28"), True, ""),
        (("1", "29"), False, ""),
        (("2", "0"), False, ""),
        (("1", "x"), False, "expected a version from the API"),
    ],
)
def test_old_cluster_is_refused_at_the_start_unless_sidecars_are_plain(
    said: tuple[str, str], is_plain: bool, why: str
) -> None:
    """It is the API that says its version; 1.28 takes a native sidecar for an init container that never ends."""

    async def begin(api: FakeKubernetes) -> None:
        client = await opened(api)
        try:
            found = await fitted(Options(wanted=Wanted(is_plain=is_plain)), client)
            assert found.kubernetes == tuple(map(int, said))
            assert not why
        except StartError as error:
            assert why
            assert why in str(error)  # noqa: PT017
        finally:
            await client.close()

    with FakeKubernetes() as api:
        api.version = said
        asyncio.run(begin(api))


def test_certificate_of_files_needs_no_api(tmp_path: Path) -> None:
    """With version and certificate given nothing is asked, and the certificate is theirs."""
    certificate, key, ca = write_certificate(tmp_path, HOST, time.time())
    given = ("--config", "c", "--no-api", "--kubernetes-version", "1.31", "--tls-cert", certificate, "--tls-key", key)
    with running_webhook(tmp_path, *given) as webhook:
        assert webhook.ask(review(pod()), Path(ca).read_text()).json()["response"]["allowed"] is True
        with pytest.raises(ssl.SSLCertVerificationError):
            webhook.ask(review(pod()), Path(ca).read_text(), host="other.shop.svc")
        assert "sidecar_webhook_ca_bundle_ok" not in webhook.metrics()
        with socket.create_connection(("127.0.0.1", webhook.port), 10) as half_open:
            half_open.sendall(b"\x16\x03\x01")  # the beginning of a handshake does not hold up the end
            assert webhook.stop(signal.SIGINT) == 0
