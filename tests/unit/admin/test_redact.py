"""Secrets never reach the admin listener's pages."""

from __future__ import annotations

import pytest

from sidecar.admin.redact import HIDDEN, is_sensitive, redact, secrets_of


@pytest.mark.parametrize(
    "name",
    ["authorization", "Proxy-Authorization", "x-api-key", "api_key", "X-Auth-Token", "set-cookie", "DB_PASSWORD",
     "session_token", "x-amz-security-token", "client-secret", "apikey", "credentials", "AccessToken"],
)  # fmt: skip
def test_names_that_speak_of_secrets_are_sensitive(name: str) -> None:
    """In any case and with either separator."""
    assert is_sensitive(name)


@pytest.mark.parametrize("name", ["x-env", "host", "author", "x-canary", "keepalive", "tokens-left-behind", "name"])
def test_other_names_are_not(name: str) -> None:
    """What an operator needs to see stays."""
    assert not is_sensitive(name)


def test_sensitive_header_values_are_hidden_and_the_rest_stays() -> None:
    """Values under `set`, `add` and `headers` are hidden by the field's name."""
    config = {
        "request_headers": {"set": {"authorization": "Bearer abc", "x-env": "canary"}, "add": {"cookie": ["a=1", "b"]}},
        "match": [{"headers": {"x-api-key": {"exact": "k", "ignore_case": True}, "x-canary": {"present": True}}}],
    }
    assert redact(config) == {
        "request_headers": {"set": {"authorization": HIDDEN, "x-env": "canary"}, "add": {"cookie": [HIDDEN, HIDDEN]}},
        "match": [{"headers": {"x-api-key": {"exact": HIDDEN, "ignore_case": True}, "x-canary": {"present": True}}}],
    }


def test_words_of_the_language_are_not_taken_for_secrets() -> None:
    """`cookies` of a match, and the cookie that `sticky` names, are what an operator came to read."""
    config = {"match": [{"cookies": {"BETA_USER": {"exact": "true"}}}], "sticky": {"cookie": "uid", "header": None}}
    assert redact(config) == config


def test_values_of_secret_variables_are_hidden_wherever_they_stand() -> None:
    """A secret that `${DB_PASSWORD}` put into the file is not shown, not even inside a longer value."""
    secrets = secrets_of({"DB_PASSWORD": "hunter22", "HOME": "/root", "API_TOKEN": "x", "AUTH_TOKEN": "hunter22-long"})
    assert secrets == ("hunter22-long", "hunter22")
    assert redact({"set": {"x-env": "a hunter22 b", "x": "hunter22-long"}, "n": 1}, secrets) == {
        "set": {"x-env": f"a {HIDDEN} b", "x": HIDDEN},
        "n": 1,
    }
