"""Contexts, by handshakes over memory: what each side shows, believes and refuses."""

from __future__ import annotations

import gc
import ssl
import weakref

import pytest

from sidecar.net.tls.shown import shown_by
from sidecar.net.tls.sides import MESH_HTTP, OUTSIDE_HTTP
from sidecar.security.identity import contexts
from sidecar.security.identity.certificates.credentials import Credentials, Material, read_credentials
from sidecar.security.identity.certificates.pair import KeyPair, read_pair
from sidecar.security.identity.certificates.roots import Roots, read_roots
from tests.support.certificates import DAY, NOW, Authority, Leaf

ROOT = Authority("shop root")
ISSUER = ROOT.authority("shop issuer")


def held(leaf: Leaf, root: Authority = ROOT) -> Credentials:
    """What a workload has."""
    return read_credentials(Material(leaf.chain_pem, leaf.key_pem, root.pem, "tls.crt", "tls.key", "ca.crt"), NOW)


def pair_of(leaf: Leaf) -> KeyPair:
    """What a listener outside has."""
    return read_pair(leaf.chain_pem, leaf.key_pem, "tls.crt", "tls.key")


def roots_of(*authorities: Authority) -> Roots:
    """A bundle."""
    return read_roots(b"".join(one.pem for one in authorities), "ca.crt")


class Connection:
    """
    Two ends and what each has written to the other.

    Attributes:
        client, server: The ends, after a handshake that both believe to be over.
    """

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.to_server, self.to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.to_client, self.to_server, server_hostname=name, session=session)
        self.server = server.wrap_bio(self.to_server, self.to_client, server_side=True)
        waiting = [self.client, self.server]
        while waiting:
            for side in tuple(waiting):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                waiting.remove(side)

    def say(self) -> bytes:
        """Some octets from the server, as the client reads them, and with them the server's tickets."""
        self.server.write(b"hello")
        return self.client.read(100)


class TestMesh:
    """Between sidecars: both show, both believe, by the mesh's own protocol."""

    def test_two_workloads_of_a_mesh_speak(self) -> None:
        """By TLS 1.3, each with the other's certificate, and by our ALPN."""
        server = contexts.mesh_server(held(ISSUER.workload("spiffe://shop/search")))
        client = contexts.mesh_client(held(ISSUER.workload("spiffe://shop/storefront")))
        connection = Connection(server, client)
        assert connection.client.version() == "TLSv1.3"
        assert connection.client.selected_alpn_protocol() == connection.server.selected_alpn_protocol() == MESH_HTTP
        for side, peer in ((connection.client, "search"), (connection.server, "storefront")):
            shown = side.getpeercert()
            assert shown is not None
            assert shown["subjectAltName"] == (("URI", f"spiffe://shop/{peer}"),)

    def test_a_client_without_a_certificate_is_refused(self) -> None:
        """Also if it believes the mesh's root."""
        server = contexts.mesh_server(held(ISSUER.workload("spiffe://shop/search")))
        client = contexts.outside_client(roots_of(ROOT), None, "1.3")
        client.check_hostname = False
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            Connection(server, client)

    def test_a_client_of_another_authority_is_refused(self) -> None:
        """One of the same names, too."""
        other = Authority("shop root")
        server = contexts.mesh_server(held(ISSUER.workload("spiffe://shop/search")))
        mixed = Material(*_of(other.workload("spiffe://shop/storefront")), other.pem + ROOT.pem, "", "", "")
        with pytest.raises(ssl.SSLCertVerificationError):
            Connection(server, contexts.mesh_client(read_credentials(mixed, NOW)))

    def test_a_server_of_another_authority_is_refused(self) -> None:
        """By the client, before it says anything."""
        other = Authority("other root")
        mixed = Material(*_of(other.workload("spiffe://shop/search")), other.pem + ROOT.pem, "", "", "")
        server = contexts.mesh_server(read_credentials(mixed, NOW))
        with pytest.raises(ssl.SSLCertVerificationError):
            Connection(server, contexts.mesh_client(held(ISSUER.workload("spiffe://shop/storefront"))))

    def test_a_certificate_that_has_ended_is_refused(self) -> None:
        """At handshakes times do count."""
        root = Authority("shop root", begins=NOW - 9 * DAY, key=ROOT.key)
        issuer = root.authority("shop issuer", begins=NOW - 9 * DAY)
        ended = issuer.workload("spiffe://shop/search", begins=NOW - 3 * DAY, ends=NOW - DAY)
        then = Material(*_of(ended), root.pem, "", "", "")
        server = contexts.mesh_server(read_credentials(then, NOW - 2 * DAY))
        client = contexts.mesh_client(held(ISSUER.workload("spiffe://shop/storefront")))
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            Connection(server, client)
        assert caught.value.verify_code == 10

    def test_a_session_is_taken_up_again_and_not_across_a_rotation(self) -> None:
        """One ticket a connection; another context knows none of it."""
        search = held(ISSUER.workload("spiffe://shop/search"))
        server, client = contexts.mesh_server(search), contexts.mesh_client(held(ISSUER.workload("spiffe://shop/a")))
        assert server.num_tickets == 1
        first = Connection(server, client)
        assert first.say() == b"hello"
        session = first.client.session
        assert session is not None
        again = Connection(server, client, session=session)
        assert again.client.session_reused
        shown = again.server.getpeercert()
        assert shown is not None
        assert shown["subjectAltName"] == (("URI", "spiffe://shop/a"),)
        assert not Connection(contexts.mesh_server(search), client, session=session).client.session_reused

    def test_an_older_version_is_refused(self) -> None:
        """Between sidecars there is no 1.2."""
        server = contexts.mesh_server(held(ISSUER.workload("spiffe://shop/search")))
        client = contexts.mesh_client(held(ISSUER.workload("spiffe://shop/storefront")))
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="PROTOCOL"):
            Connection(server, client)

    def test_an_end_without_close_notify_is_none(self) -> None:
        """What was cut is told from what has ended (RFC 8446, 6.1)."""
        server = contexts.mesh_server(held(ISSUER.workload("spiffe://shop/search")))
        client = contexts.mesh_client(held(ISSUER.workload("spiffe://shop/storefront")))
        cut = Connection(server, client)
        cut.say()
        cut.to_client.write_eof()
        with pytest.raises(ssl.SSLEOFError):
            cut.client.read(1)
        ended = Connection(server, client)
        ended.say()
        with pytest.raises(ssl.SSLWantReadError):
            ended.server.unwrap()
        assert ended.client.read(1) == b""


class TestListenersOutside:
    """Clients outside: certificates of our own, chosen by name."""

    SHOP = ROOT.leaf(["shop.example", "*.shop.example"])
    BANK = ROOT.leaf(["bank.example", "*.bank.example", "one.shop.example"])

    def client(self) -> ssl.SSLContext:
        """Believes the root, and checks names."""
        return contexts.outside_client(roots_of(ROOT), None, "1.2")

    @pytest.mark.parametrize(
        ("name", "leaf"),
        [
            ("shop.example", SHOP), ("a.shop.example", SHOP), ("bank.example", BANK), ("BANK.example", BANK),
            ("a.bank.example", BANK), ("one.shop.example", BANK),
        ],
    )  # fmt: skip
    def test_the_certificate_for_the_name_is_shown(self, name: str, leaf: Leaf) -> None:
        """The exact one before a wild one; the client finds it right."""
        server = contexts.outside_server([pair_of(self.SHOP), pair_of(self.BANK)], None, "1.3")
        connection = Connection(server, self.client(), name)
        assert connection.client.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(leaf.pem.decode())
        assert connection.client.selected_alpn_protocol() == OUTSIDE_HTTP
        assert shown_by(connection.server.context) == pair_of(leaf).leaf.told, "and the log can say which it was"

    @pytest.mark.parametrize("name", [None, "elsewhere.example", "a.b.bank.example", "127.0.0.1"])
    def test_for_any_other_name_and_none_the_first_is_shown(self, name: str | None) -> None:
        """Whether that will do is the client's to say."""
        server = contexts.outside_server([pair_of(self.SHOP), pair_of(self.BANK)], None, "1.3")
        careless = contexts.outside_client(None, None, "1.3")
        connection = Connection(server, careless, name)
        assert connection.client.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(self.SHOP.pem.decode())

    def test_1_2_is_spoken_only_where_a_file_says_so(self) -> None:
        """Then with forward secrecy and authenticated encryption only."""
        client = self.client()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        old = contexts.outside_server([pair_of(self.SHOP)], None, "1.2")
        connection = Connection(old, client, "shop.example")
        assert (connection.client.version(), connection.client.cipher()[0]) == (  # type: ignore[index]
            "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"
        )  # fmt: skip
        assert connection.client.compression() is None
        with pytest.raises(ssl.SSLError, match="PROTOCOL"):
            Connection(contexts.outside_server([pair_of(self.SHOP)], None, "1.3"), client, "shop.example")

    @pytest.mark.parametrize(
        "ciphers", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES256-GCM-SHA384"]
    )
    def test_1_2_without_forward_secrecy_or_with_cbc_is_refused(self, ciphers: str) -> None:
        """RFC 9325, 4.1."""
        client = self.client()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(ciphers)
        with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
            Connection(contexts.outside_server([pair_of(self.SHOP)], None, "1.2"), client, "shop.example")

    @pytest.mark.parametrize("is_second", [False, True])
    def test_clients_must_show_a_certificate_where_roots_for_them_are_named(self, is_second: bool) -> None:
        """Of those roots, and by whatever name they came."""
        guests = Authority("guests")
        pairs = [pair_of(self.BANK), pair_of(self.SHOP)] if is_second else [pair_of(self.SHOP), pair_of(self.BANK)]
        server = contexts.outside_server(pairs, roots_of(guests), "1.3")
        guest = contexts.outside_client(roots_of(ROOT), pair_of(guests.leaf(["guest"])), "1.3")
        connection = Connection(server, guest, "shop.example")
        assert connection.server.getpeercert()["subjectAltName"] == (("DNS", "guest"),)  # type: ignore[index]
        for stranger in (self.client(), contexts.outside_client(roots_of(ROOT), pair_of(ROOT.leaf(["guest"])), "1.3")):
            with pytest.raises(ssl.SSLError):
                Connection(server, stranger, "shop.example")

    def test_a_session_is_taken_up_again_whatever_the_name(self) -> None:
        """Also by the second certificate of a listener."""
        server = contexts.outside_server([pair_of(self.SHOP), pair_of(self.BANK)], None, "1.3")
        client = self.client()
        first = Connection(server, client, "bank.example")
        first.say()
        assert Connection(server, client, "bank.example", first.client.session).client.session_reused

    def test_a_context_that_is_replaced_is_freed_at_once(self) -> None:
        """No circle that only the collector would find holds keys of before."""
        gc.disable()
        try:
            server = contexts.outside_server([pair_of(self.SHOP), pair_of(self.BANK)], None, "1.3")
            gone = weakref.ref(server)
            del server
            assert gone() is None
        finally:
            gc.enable()


class TestUpstreamsOutside:
    """Servers outside are known by name."""

    def test_a_server_of_the_name_is_believed_and_another_is_not(self) -> None:
        """Names and addresses; the subject is no name (RFC 9525, 2)."""
        server = contexts.outside_server(
            [pair_of(ROOT.leaf(["api.example", "10.0.0.1"], common_name="cn.example"))], None, "1.3"
        )
        client = contexts.outside_client(roots_of(ROOT), None, "1.3")
        for name in ("api.example", "10.0.0.1"):
            Connection(server, client, name)
        for name in ("other.example", "10.0.0.2", "cn.example"):
            with pytest.raises(ssl.SSLCertVerificationError):
                Connection(server, client, name)

    def test_a_server_of_an_unknown_root_is_not_believed(self) -> None:
        """Whatever its name."""
        server = contexts.outside_server([pair_of(Authority("other").leaf(["api.example"]))], None, "1.3")
        with pytest.raises(ssl.SSLCertVerificationError):
            Connection(server, contexts.outside_client(roots_of(ROOT), None, "1.3"), "api.example")

    def test_unverified_is_unverified(self) -> None:
        """Neither authority nor name."""
        server = contexts.outside_server([pair_of(Authority("other").leaf(["api.example"]))], None, "1.3")
        Connection(server, contexts.outside_client(None, None, "1.3"), "elsewhere.example")

    def test_a_certificate_of_ours_is_shown_to_who_asks(self) -> None:
        """And nobody else."""
        server = contexts.outside_server([pair_of(ROOT.leaf(["api.example"]))], roots_of(ROOT), "1.3")
        client = contexts.outside_client(roots_of(ROOT), pair_of(ROOT.leaf(["us.example"])), "1.3")
        assert Connection(server, client, "api.example").server.getpeercert()["subjectAltName"] == (  # type: ignore[index]
            ("DNS", "us.example"),
        )


def _of(leaf: Leaf) -> tuple[bytes, bytes]:
    return leaf.chain_pem, leaf.key_pem
