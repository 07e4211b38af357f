"""The engine `etcd` where etcd asks who we are: certificates of both sides, users, roles, tokens that end."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.control.engines import tls
from sidecar.control.engines.etcd import changes, client
from sidecar.control.engines.interface import Content, EngineError, Trouble, Unavailable
from tests.integration.test_etcd import Engines, content, find, registration, repeated, run
from tests.support.etcd import Cluster, Member, etcd
from tests.support.peers import require

PREFIX = "/sidecar/shop/"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "CHECK_S", 0.5)
    monkeypatch.setattr(changes, "MOST_PAUSE_S", 0.3)
    monkeypatch.setattr(client, "MOST_BACK_OFF_S", 0.5)


def openssl(*arguments: str) -> None:
    subprocess.run([require("openssl"), *arguments], check=True, capture_output=True, timeout=30)


def authority(folder: Path, name: str) -> Path:
    """A CA; its certificate, beside which its key is."""
    at = folder / f"{name}.crt"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(at.with_suffix(".key")))
    openssl("req", "-x509", *new_key, "-days", "2", "-subj", f"/CN={name}", "-out", str(at))
    return at


def certificate(ca: Path, name: str) -> Path:
    """One for 127.0.0.1, signed by the CA; beside it its key."""
    at = ca.with_name(f"{name}.crt")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(at.with_suffix(".key")))
    openssl("req", *new_key, "-subj", f"/CN={name}", "-out", str(at.with_suffix(".csr")))
    # etcd's gateway calls its own member, with the member's certificate as a client's.
    at.with_suffix(".ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    signer = ("-CA", str(ca), "-CAkey", str(ca.with_suffix(".key")), "-CAcreateserial", "-days", "2")
    request = ("-in", str(at.with_suffix(".csr")), "-extfile", str(at.with_suffix(".ext")))
    openssl("x509", "-req", *request, *signer, "-out", str(at))
    return at


class Access:
    """
    A cluster that asks for certificates, and what to show it.

    Attributes:
        options: For `read_settings`.
    """

    def __init__(self, cluster: Cluster, folder: Path, ca: Path, mine: Path) -> None:
        self.cluster = cluster
        self.member: Member = cluster.members[0]
        self.folder = folder
        self.options = {"ca": str(ca), "certificate": str(mine), "key": str(mine.with_suffix(".key"))}


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """A member that is spoken to by TLS with a client's certificate only."""
    folder = tmp_path_factory.mktemp("access")
    ca = authority(folder, "ca")
    server, mine = certificate(ca, "server"), certificate(ca, "mine")
    options = [
        "--cert-file", str(server), "--key-file", str(server.with_suffix(".key")),
        "--client-cert-auth", "--trusted-ca-file", str(ca),
    ]  # fmt: skip
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(mine, mine.with_suffix(".key"))
    with etcd(folder, 1, options, context) as cluster:
        yield Access(cluster, folder, ca, mine)


def test_certificates_of_both_sides(access: Access, tmp_path: Path) -> None:
    """With the right ones all works; a member that is not trusted, or does not trust us, does not answer."""
    stranger = authority(tmp_path, "stranger")
    other = certificate(stranger, "other")

    async def test() -> None:
        async with Engines() as engines:
            engine = await engines.open(access.cluster.url + PREFIX, **access.options)
            stream = engine.mesh.follow()
            version = await engine.mesh.push({"a.yaml": b"1"}, (await content(stream)).version)
            assert await content(stream) == Content({"a.yaml": b"1"}, version)
            await stream.aclose()
            wrong = [
                {"ca": access.options["ca"]},
                {"ca": access.options["ca"], "certificate": str(other), "key": str(other.with_suffix(".key"))},
                access.options | {"ca": str(stranger)},
            ]
            for number, options in enumerate(wrong):
                engine = await engines.open(access.cluster.url + PREFIX, f"wrong-{number}", **options)
                with pytest.raises(Unavailable):
                    await engine.record.read()

    run(test)


def test_certificate_that_is_not_there_ends_the_start(access: Access, tmp_path: Path) -> None:
    """It names the file; so does one that is no certificate."""
    nonsense = tmp_path / "nonsense.crt"
    nonsense.write_text("nonsense")

    async def test() -> None:
        async with Engines() as engines:
            for at in (tmp_path / "none.crt", nonsense):
                with pytest.raises(EngineError, match=str(at)):
                    await engines.open(access.cluster.url, ca=str(at))
                with pytest.raises(EngineError, match=str(at)):
                    await engines.open(access.cluster.url, **access.options | {"certificate": str(at), "key": ""})

    run(test)


def test_certificate_that_was_renewed_is_shown_from_then_on(
    access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file serves new connections, without a restart."""
    monkeypatch.setattr(tls, "LOOK_PERIOD_S", 0.0)
    mine, key = tmp_path / "mine.crt", tmp_path / "mine.key"
    other = certificate(authority(tmp_path, "stranger"), "other")
    mine.write_bytes(other.read_bytes())
    key.write_bytes(other.with_suffix(".key").read_bytes())

    async def test() -> None:
        async with Engines() as engines:
            options = access.options | {"certificate": str(mine), "key": str(key)}
            engine = await engines.open(access.cluster.url + PREFIX, **options)
            with pytest.raises(Unavailable):
                await engine.replicas.list()
            mine.write_bytes(Path(access.options["certificate"]).read_bytes())
            # The key is not its own yet: what served before goes on serving, which is not enough here.
            with pytest.raises(Unavailable):
                await engine.replicas.list()
            key.write_bytes(Path(access.options["key"]).read_bytes())
            assert await engine.replicas.list() == ()

    run(test)


def test_users_roles_and_tokens(tmp_path: Path) -> None:
    """
    A wrong password or a prefix that the role does not have end the start. A token that etcd has forgotten is fetched
    again, by calls and by watches; nothing is lost by it.
    """
    password = tmp_path / "password"
    password.write_text("s\u00fcrprise\n")
    user = {"user": "shop", "password_file": str(password)}

    async def test() -> None:
        with etcd(tmp_path) as cluster:
            member = cluster.members[0]
            async with Engines() as engines:
                # A user where etcd asks for none is no error.
                engine = await engines.open(cluster.url + PREFIX, **user)
                await engine.registrations.put(registration("first"))
                stream = engine.registrations.watch()
                await find(stream, lambda one: not isinstance(one, Trouble))
                await asyncio.to_thread(enable_users, member)
                # From now on a call without a token is refused; the one that follows has one.
                await engine.registrations.put(registration("a"))
                await find(stream, lambda one: getattr(one, "put", ()) == (registration("a"),))
                wrong = tmp_path / "wrong"
                wrong.write_text("guess")
                with pytest.raises(EngineError, match="invalid user ID or password"):
                    await engines.open(cluster.url + PREFIX, **user | {"password_file": str(wrong)})
                with pytest.raises(EngineError, match="permission denied"):
                    await engines.open(cluster.url + "/sidecar/bank/", **user)
                with pytest.raises(EngineError, match=f"{tmp_path}/none: no such file"):
                    await engines.open(cluster.url + PREFIX, **user | {"password_file": f"{tmp_path}/none"})
                for instance in ("b", "c"):
                    member.kill()
                    await asyncio.to_thread(cluster.start, member)
                    await repeated(lambda: engine.registrations.put(registration(instance)))  # noqa: B023
                    await find(stream, lambda one: getattr(one, "put", ()) == (registration(instance),))  # noqa: B023
                # A kind of endpoints that the role may not read is told, and is told to be over.
                denied = engine.discoverers["etcd"].follow({"key": "/endpoints/"})
                assert await anext(denied) == Trouble("etcd: etcdserver: permission denied")
                await denied.aclose()  # type: ignore[attr-defined]
                await stream.aclose()

    run(test)


def test_token_that_ended_is_fetched_again(tmp_path: Path) -> None:
    """etcd ends one that was not used for `--auth-token-ttl`."""
    password = tmp_path / "password"
    password.write_text("s\u00fcrprise")

    async def test() -> None:
        with etcd(tmp_path, options=["--auth-token-ttl", "1"]) as cluster:
            await asyncio.to_thread(enable_users, cluster.members[0])
            async with Engines() as engines:
                url = cluster.url + PREFIX
                engine = await engines.open(url, user="shop", password_file=str(password))
                await engine.registrations.put(registration("a"))
                before = engine._client._tokens._token
                assert before
                # Until etcd itself refuses it.
                while not (why := await asyncio.to_thread(refusal, cluster.members[0], before)):
                    await asyncio.sleep(1.5)
                assert "invalid auth token" in why
                await engine.registrations.put(registration("b"))
                assert engine._client._tokens._token not in ("", before)

    run(test)


def refusal(member: Member, token: str) -> str:
    """What a call with this token is refused for; empty if it is not."""
    try:
        member.ask("/v3/kv/range", {"key": "L3NpZGVjYXIvc2hvcC94"}, token)
    except AssertionError as error:
        return str(error)
    return ""


def enable_users(member: Member) -> None:
    """`shop` may read and write its prefix, and nothing else."""
    permission = {"permType": "READWRITE", "key": "L3NpZGVjYXIvc2hvcC8=", "range_end": "L3NpZGVjYXIvc2hvcDA="}
    for path, body in (
        ("user/add", {"name": "root", "password": "root"}),
        ("role/add", {"name": "root"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("user/add", {"name": "shop", "password": "s\u00fcrprise"}),
        ("role/add", {"name": "shop"}),
        ("role/grant", {"name": "shop", "perm": permission}),
        ("user/grant", {"user": "shop", "role": "shop"}),
        ("enable", {}),
    ):
        member.ask(f"/v3/auth/{path}", body)
