"""
Real etcd: members as processes, on ports and folders of their own, and a relay before one that can be cut or silenced.

The election is at a tenth of the time that etcd takes by default, so that what a test waits for comes soon.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sidecar.control.engines.etcd.wire import octets, written
from tests.support.peers import require
from tests.support.wait import eventually, free_port

HEARTBEAT_MS = 50
ELECTION_MS = 500
STOP_S = 15.0


class Member:
    """
    One process.

    Args:
        number: From 0 on.
        folder: For its data and log.
        options: Further options of etcd.
        tls: Context for asking it; None: in clear.
    """

    def __init__(self, number: int, folder: Path, options: list[str], tls: ssl.SSLContext | None) -> None:
        self.name = f"m{number}"
        self.port = free_port()
        self.peer_port = free_port()
        self.tls = tls
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def peer(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    def start(self, cluster: str) -> None:
        """Start it, or start it again with its data."""
        scheme = "https" if self.tls is not None else "http"
        client = f"{scheme}://127.0.0.1:{self.port}"
        command = [
            require("etcd"), "--name", self.name, "--data-dir", str(self._folder / self.name), "--logger", "zap",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer, "--initial-cluster", cluster,
            "--heartbeat-interval", str(HEARTBEAT_MS), "--election-timeout", str(ELECTION_MS), *self._options,
        ]  # fmt: skip
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
        with open(self._folder / f"{self.name}.log", "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(STOP_S)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def is_well(self) -> bool:
        """Whether it answers, and has a leader."""
        if self._process is not None and self._process.poll() is not None:
            log = (self._folder / f"{self.name}.log").read_text()[-3000:]
            raise AssertionError(f"etcd ended with {self._process.returncode}:\n{log}")
        try:
            return bool(json.loads(self._get("/health")).get("health") == "true")
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def _connection(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def _get(self, path: str) -> bytes:
        connection = self._connection()
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def ask(self, path: str, body: Mapping[str, Any], token: str = "") -> Any:
        """A call, as another client would make it."""
        connection = self._connection()
        try:
            connection.request("POST", path, json.dumps(body), {"Authorization": token} if token else {})
            answer = connection.getresponse()
            values = json.loads(answer.read())
            assert answer.status == 200, values
            return values
        finally:
            connection.close()

    def put(self, key: str, value: str, lease: str = "") -> int:
        """Write a key; the store's revision after it."""
        body = {"key": written(key.encode()), "value": written(value.encode())} | ({"lease": lease} if lease else {})
        return int(self.ask("/v3/kv/put", body)["header"]["revision"])

    def delete(self, key: str) -> int:
        """Delete a key; the store's revision after it."""
        return int(self.ask("/v3/kv/deleterange", {"key": written(key.encode())})["header"]["revision"])

    def delete_all(self, prefix: str) -> None:
        """Delete every key that begins so, as `etcdctl del --prefix` does."""
        self.ask("/v3/kv/deleterange", _beginning(prefix))

    def keys(self, prefix: str) -> dict[str, Mapping[str, Any]]:
        """All keys that begin so, as etcd describes them."""
        found = self.ask("/v3/kv/range", _beginning(prefix))
        return {octets(one, "key").decode(): one for one in found.get("kvs", [])}

    def compact(self) -> None:
        """Forget all revisions but the newest, as `--auto-compaction-retention` does in time."""
        revision = self.ask("/v3/kv/range", {"key": written(b"/")})["header"]["revision"]
        self.ask("/v3/kv/compaction", {"revision": revision, "physical": True})


class Cluster:
    """
    Members that know each other.

    Args:
        folder: For data and logs.
        count: Of members.
        options: Further options of etcd.
        tls: Context for asking them; None: in clear.
    """

    def __init__(self, folder: Path, count: int, options: list[str], tls: ssl.SSLContext | None) -> None:
        self.members = [Member(number, folder, options, tls) for number in range(count)]

    @property
    def url(self) -> str:
        """As `--engine` takes it, without a prefix."""
        return "etcd://" + ",".join(f"127.0.0.1:{one.port}" for one in self.members)

    def start(self, *members: Member) -> None:
        """Start these, or all, and wait until all that run are well."""
        cluster = ",".join(f"{one.name}={one.peer}" for one in self.members)
        for one in members or self.members:
            one.start(cluster)
        for one in members or self.members:
            eventually(one.is_well, f"{one.name} to be well", 60)

    def leader(self) -> Member:
        """Who leads."""

        def find() -> Member | None:
            for one in self.members:
                with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
                    status = one.ask("/v3/maintenance/status", {})
                    if status["header"]["member_id"] == status.get("leader"):
                        return one
            return None

        found = eventually(find, "a leader", 60)
        assert found is not None
        return found


@contextlib.contextmanager
def etcd(
    folder: Path, count: int = 1, options: list[str] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[Cluster]:
    """A cluster that is well; killed on leaving."""
    require("etcd")
    cluster = Cluster(folder, count, options or [], tls)
    try:
        cluster.start()
        yield cluster
    finally:
        for one in cluster.members:
            one.kill()


class Relay:
    """
    Octets to and from a port, until they are cut or silenced; a context in which it listens.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self._to = to
        self._server: asyncio.Server | None = None
        self._silent: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.cut()

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def silence(self) -> None:
        """What comes back on the connections that stand is dropped from now on; new ones are served."""
        self._silent = set(self._writers)

    async def cut(self) -> None:
        """Reset all connections, and refuse further ones until `open`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers.add(other_writer)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, other_writer, writer))
                    group.create_task(self._pass(other_reader, writer, writer))
            finally:
                other_writer.transport.abort()
                self._writers.discard(other_writer)
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while piece := await reader.read(65536):
            if writer is client and client in self._silent:
                continue
            writer.write(piece)
            await writer.drain()
        writer.transport.abort()


def _beginning(prefix: str) -> dict[str, str]:
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return {"key": written(prefix.encode()), "range_end": written(end.encode())}
