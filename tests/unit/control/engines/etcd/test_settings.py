"""Where etcd is, as people write it."""

from __future__ import annotations

import pytest

from sidecar.control.engines.etcd.settings import EtcdSettings, is_etcd_url, parse_etcd_url, read_settings


@pytest.mark.parametrize(
    ("url", "members", "prefix", "is_tls"),
    [
        ("etcd://a:2379,b:2380,c:1", ("a:2379", "b:2380", "c:1"), "/sidecar/mesh/", False),
        ("etcd://etcd", ("etcd:2379",), "/sidecar/mesh/", False),
        ("etcd://10.0.0.1:2379/", ("10.0.0.1:2379",), "/sidecar/mesh/", False),
        ("etcd://[::1]:2379,[fe80::1]", ("[::1]:2379", "[fe80::1]:2379"), "/sidecar/mesh/", False),
        ("etcds://a.example/platform/meshes/shop/", ("a.example:2379",), "/platform/meshes/shop/", True),
        ("etcd://a/caf%C3%A9", ("a:2379",), "/caf\u00e9/", False),
    ],
)
def test_address_is_read(url: str, members: tuple[str, ...], prefix: str, is_tls: bool) -> None:
    """Members in their order, a default port, and a prefix that ends where others cannot begin."""
    assert is_etcd_url(url)
    assert parse_etcd_url(url) == EtcdSettings(members, prefix, is_tls)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://a:2379", "expected etcd://HOST:PORT"),
        ("etcd:a:2379", "expected etcd://HOST:PORT"),
        ("etcd://", "expected HOST:PORT of a member of etcd, found ''"),
        ("etcd://a,,b", "expected HOST:PORT of a member of etcd, found ''"),
        ("etcd://a b", "expected HOST:PORT of a member of etcd, found 'a b'"),
        ("etcd://a:0", "expected a port from 1 to 65535, found 0"),
        ("etcd://a:65536", "expected a port from 1 to 65535, found 65536"),
        ("etcd://a:2379,a", "a:2379 is given twice"),
        ("etcd://a/x?y=1", "expected etcd://HOST:PORT"),
        ("etcd://a/x//y", "expected a prefix of keys such as /sidecar/shop, found '/x//y'"),
        ("etcd://a/x%00", "expected a prefix of keys"),
        ("etcd://a/x%ff", "can't decode"),
    ],
)
def test_address_that_is_none_is_refused(url: str, said: str) -> None:
    """With what was expected and found."""
    with pytest.raises(ValueError) as raised:
        parse_etcd_url(url)
    assert said in str(raised.value)


def test_password_in_an_address_is_refused_and_not_repeated() -> None:
    """It would stand in the list of processes, and now in the log."""
    with pytest.raises(ValueError) as raised:
        parse_etcd_url("etcd://shop:hunter2@a:2379")
    assert "hunter2" not in str(raised.value)
    assert "--etcd-password-file" in str(raised.value)


def test_options_are_put_together() -> None:
    """A certificate of either side means TLS."""
    assert read_settings("etcd://a").is_tls is False
    assert read_settings("etcds://a").is_tls is True
    assert read_settings("etcd://a", ca="ca.pem").is_tls is True
    found = read_settings("etcd://a/p", certificate="c", key="k", user="u", password_file="f")
    assert found == EtcdSettings(("a:2379",), "/p/", True, "", "c", "k", "u", "f")
    for given in ({"key": "k"}, {"user": "u"}, {"password_file": "f"}):
        with pytest.raises(ValueError, match="is given without"):
            read_settings("etcd://a", **given)
