"""Names of X.509 as text (RFC 4514)."""

from __future__ import annotations

import pytest

from sidecar.net.tls.certificates import distinguished_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ((), ""),
        (((("commonName", "client"),),), "CN=client"),
        (((("organizationName", "Example"),), (("commonName", "client"),)), "CN=client,O=Example"),
        (((("commonName", "a"), ("userId", "7")),), "CN=a+UID=7"),
        (((("commonName", 'a,b+c"d\\e<f>g;h'),),), 'CN=a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h'),
        (((("commonName", " a "),),), "CN=\\ a\\ "),
        (((("commonName", " "),),), "CN=\\ "),
        (((("commonName", "#a\0b"),),), "CN=\\#a\\00b"),
        (((("emailAddress", "a@b"),),), "emailAddress=a@b"),
    ],
)
def test_names_are_written_as_rfc_4514_says(name: tuple[tuple[tuple[str, str], ...], ...], text: str) -> None:
    """The last part first; what has a meaning there is escaped."""
    assert distinguished_name(name) == text
