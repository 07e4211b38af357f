"""
The mesh's files in etcd: pushed as a whole, read as a whole.

etcd bounds a request (1.5 MiB) and a transaction (128 operations), and a mesh of 10 MiB is neither. So a push is staged
and committed: each file that is new or changed is written under a key that nobody has read yet
(`mesh/files/PUSH/NAME`), then one transaction writes the manifest (`mesh/wanted`), if it still has the revision that
the push is based on. The manifest names the key of each file, and files are never written twice, so that who has read a
manifest reads the files that were meant, or none at all. The manifest's revision is the version of the content.

What no manifest names is swept by the next push: whatever was staged before that was committed either belongs to it, or
to a push that was based on an older manifest and will be refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.changes import Changes, Events
from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.wire import MAX_OPS, MAX_VALUE_BYTES, EtcdError, KeyValue
from sidecar.control.engines.exchange import each
from sidecar.control.engines.interface import Conflict, Content, EngineError, Trouble
from sidecar.link.fields import Fields, MessageError, decode, encode

MAX_FETCH_BYTES: Final = 2 * 1024 * 1024
"""Of files read by one call."""
MAX_FILES: Final = 10_000
RETRY_S: Final = 1.0
_SHA256_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class Pushed:
    """A file of a manifest: `key` is below `mesh/files/`."""

    key: str
    size: int
    sha256: str


def write_manifest(files: Mapping[str, Pushed], pushed_s: float) -> bytes:
    """Of these files, by name."""
    listed = {name: {"key": one.key, "bytes": one.size, "sha256": one.sha256} for name, one in sorted(files.items())}
    return encode({"pushed": round(pushed_s, 3), "files": listed})


def read_manifest(raw: bytes) -> dict[str, Pushed]:
    """Files by name. Raises MessageError."""
    return decode(raw).table("files", MAX_FILES, _read_pushed)


def _read_pushed(files: Fields, name: str) -> Pushed:
    one = files.part(name) or Fields({}, name)
    return Pushed(one.text("key"), one.integer("bytes"), one.text("sha256", limit=_SHA256_CHARS))


def sha256(content: bytes) -> str:
    """As manifests have it."""
    return hashlib.sha256(content).hexdigest()


def batches(sizes: Mapping[str, int]) -> list[list[str]]:
    """Keys in groups that one transaction may read: at most `MAX_OPS`, and `MAX_FETCH_BYTES` unless it is one."""
    found: list[list[str]] = []
    total = 0
    for key, size in sizes.items():
        if not found or len(found[-1]) == MAX_OPS or total + size > MAX_FETCH_BYTES:
            found.append([])
            total = 0
        found[-1].append(key)
        total += size
    return found


class EtcdMesh:
    """
    A `MeshSource`.

    Args:
        client: Asks.
        now_s: Since the Unix epoch; what a manifest says of when it was pushed, for people.
    """

    def __init__(self, client: Client, now_s: Callable[[], float] = time.time) -> None:
        self._client = client
        self._wanted = client.prefix + b"mesh/wanted"
        self._files = client.prefix + b"mesh/files/"
        self._now_s = now_s
        self._contents: dict[str, bytes] = {}

    async def follow(self) -> AsyncGenerator[Content | Trouble, None]:
        """
        What was pushed last, then each push. Where nothing was ever pushed, no files at version `""`: who reads a mesh
        says what is missing.
        """
        async with aclosing(Changes(self._client, self._wanted, is_prefix=False).follow()) as changes:
            is_bad = False
            async for change in changes:
                if isinstance(change, Trouble):
                    yield change
                    continue
                found = (change.put if isinstance(change, Events) else change.found)[-1:]
                if not found:
                    yield Content({}, "")
                    continue
                while True:
                    try:
                        content = await self._content(found[0])
                    except EtcdError as error:
                        is_bad = True
                        yield Trouble(str(error))
                        await asyncio.sleep(RETRY_S)
                        continue
                    except EngineError as error:
                        is_bad = True
                        yield Trouble(str(error))
                        break
                    if content is not None:
                        if is_bad:
                            is_bad = False
                            yield Trouble("")
                        yield content
                    break

    async def is_wanted(self, version: str) -> bool:
        """By a linearizable read of the manifest's revision."""
        found = wire.key_values(await self._client.call("/v3/kv/range", wire.range_of(self._wanted, keys_only=True)))
        return (str(found[0].mod_revision) if found else "") == version

    async def push(self, files: Mapping[str, bytes], expected: str) -> str:
        """
        Stage, commit, sweep.

        Raises:
            Conflict, Unavailable: As the interface says.
            EngineError: A file is too large for etcd; the text names it.
        """
        for name, content in files.items():
            if len(content) > MAX_VALUE_BYTES:
                raise EngineError(
                    f"{name}: expected at most {MAX_VALUE_BYTES} octets, which is what etcd takes in one value, found "
                    f"{len(content)}; divide the file, one service a file"
                )
        before = await self._before(expected)
        push = secrets.token_hex(8)
        wanted: dict[str, Pushed] = {}
        staged: dict[str, bytes] = {}
        for name, content in files.items():
            known = before.get(name)
            digest = sha256(content)
            if known is not None and known.sha256 == digest:
                wanted[name] = known
            else:
                wanted[name] = Pushed(f"{push}/{name}", len(content), digest)
                staged[f"{push}/{name}"] = content
        manifest = self._manifest(wanted)
        await each([partial(self._stage, key, content) for key, content in staged.items()])
        version = await self._commit(manifest, int(expected or 0), push)
        # The push is done; what is left over is swept by the next one, too.
        with suppress(EtcdError):
            await self._sweep({one.key for one in wanted.values()}, version)
        return str(version)

    def _manifest(self, wanted: Mapping[str, Pushed]) -> bytes:
        manifest = write_manifest(wanted, self._now_s())
        if len(manifest) > MAX_VALUE_BYTES:
            raise EngineError(f"{len(wanted)} files are too many: their list takes {len(manifest)} octets")
        try:
            is_legible = read_manifest(manifest) == wanted
        except MessageError as error:
            raise EngineError(str(error)) from None
        if not is_legible:
            raise EngineError("expected names of files that are Unicode, found octets")
        return manifest

    async def _before(self, expected: str) -> dict[str, Pushed]:
        found = wire.key_values(await self._client.call("/v3/kv/range", wire.range_of(self._wanted)))
        version = str(found[0].mod_revision) if found else ""
        if version != expected:
            raise Conflict(f"expected version {expected or 'none'}, found {version or 'none'}")
        try:
            return read_manifest(found[0].value) if found else {}
        except MessageError:
            # Somebody wrote it by hand; a push is how it is made whole.
            return {}

    async def _commit(self, manifest: bytes, expected: int, push: str) -> int:
        body = wire.transaction([wire.is_at(self._wanted, expected)], puts=[wire.put(self._wanted, manifest)])
        answer = await self._client.call("/v3/kv/txn", body, is_repeatable=False)
        if wire.has_succeeded(answer):
            return wire.revision(answer)
        with suppress(EtcdError):
            key = self._files + f"{push}/".encode()
            await self._delete(key, wire.prefix_end(key))
        raise Conflict(f"expected version {expected or 'none'}, found another")

    async def _stage(self, key: str, content: bytes) -> None:
        try:
            await self._client.call("/v3/kv/put", wire.put(self._files + key.encode(), content))
        except EtcdError as error:
            if error.is_of_member:
                raise
            raise EngineError(f"{key.partition('/')[2]}: {error}") from None

    async def _sweep(self, keep: set[str], version: int) -> None:
        body = wire.range_of(
            self._files, wire.prefix_end(self._files), keys_only=True, max_create_revision=str(version)
        )
        found = wire.key_values(await self._client.call("/v3/kv/range", body))
        kept = {self._files + key.encode() for key in keep}
        await each([partial(self._delete, one.key, b"") for one in found if one.key not in kept])

    async def _delete(self, key: bytes, end: bytes) -> None:
        await self._client.call("/v3/kv/deleterange", wire.range_of(key, end))

    async def _content(self, wanted: KeyValue) -> Content | None:
        """
        All files of a manifest; those that an earlier one named, too, are known already. None: a newer one is coming.

        Raises:
            EtcdError: They could not be read now.
            EngineError: They are not there, or not as they were pushed.
        """
        try:
            files = read_manifest(wanted.value)
        except MessageError as error:
            raise EngineError(f"etcd: {_text(self._wanted)}: {error}; push the mesh again") from None
        sizes = {one.key: one.size for one in files.values() if one.key not in self._contents}
        contents = dict(self._contents)
        for batch in batches(sizes):
            contents |= await self._fetch(batch)
        bad = next((name for name, one in files.items() if sha256(contents.get(one.key, b"")) != one.sha256), None)
        if bad is not None:
            if await self._is_superseded(wanted):
                return None
            key = _text(self._files) + files[bad].key
            raise EngineError(
                f"etcd: {key}: expected {bad} as it was pushed, found another or none; push the mesh again"
            )
        self._contents = {one.key: contents[one.key] for one in files.values()}
        return Content({name: contents[one.key] for name, one in files.items()}, str(wanted.mod_revision))

    async def _is_superseded(self, wanted: KeyValue) -> bool:
        found = wire.key_values(await self._client.call("/v3/kv/range", wire.range_of(self._wanted)))
        return bool(found) and found[0].mod_revision > wanted.mod_revision

    async def _fetch(self, keys: list[str]) -> dict[str, bytes]:
        ranges = [wire.range_of(self._files + key.encode()) for key in keys]
        answer = await self._client.call("/v3/kv/txn", wire.transaction([], ranges=ranges))
        found: dict[str, bytes] = {}
        for one in wire.parts(answer, "responses"):
            for pair in wire.key_values(wire.part(one, "response_range")):
                found[pair.key.removeprefix(self._files).decode()] = pair.value
        return found


def _text(key: bytes) -> str:
    return key.decode("utf-8", "replace")
