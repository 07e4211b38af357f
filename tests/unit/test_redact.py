"""What is secret, and that it is hidden in every form in which something is shown."""

from __future__ import annotations

import pytest

from sidecar.redact import HIDDEN, NO_SECRETS, Secrets, is_secret_place, is_sensitive, is_sensitive_parameter


@pytest.mark.parametrize(
    "name",
    ["authorization", "Proxy-Authorization", "x-api-key", "api_key", "X-Auth-Token", "set-cookie", "DB_PASSWORD",
     "session_token", "x-amz-security-token", "client-secret", "apikey", "credentials", "AccessToken", "cookie",
     "session", "sessionid", "JSESSIONID", "PHPSESSID", "connect.sid", "csrf-token", "private-key", "passphrase"],
)  # fmt: skip
def test_names_that_speak_of_secrets_are_sensitive(name: str) -> None:
    """In any case and with either separator."""
    assert is_sensitive(name)


@pytest.mark.parametrize(
    "name", ["x-env", "host", "author", "x-canary", "keepalive", "tokens-left-behind", "name", "BETA_USER", "uid"]
)
def test_other_names_are_not(name: str) -> None:
    """What an operator needs to see stays."""
    assert not is_sensitive(name)


@pytest.mark.parametrize("name", ["sig", "X-Amz-Signature", "X-Goog-Signature", "AWSAccessKeyId", "t%6fken", "api_key"])
def test_signatures_are_secrets_of_a_query(name: str) -> None:
    """And names may stand there encoded."""
    assert is_sensitive_parameter(name)


def test_sensitive_header_values_are_hidden_and_the_rest_stays() -> None:
    """Values under names of fields are hidden by the field's name, wherever such names are keys."""
    config = {
        "request_headers": {"set": {"authorization": "Bearer abc", "x-env": "canary"}, "add": {"cookie": ["a=1", "b"]}},
        "match": [{"headers": {"x-api-key": {"exact": "k", "ignore_case": True}, "x-canary": {"present": True}}}],
        "fault": {"header": {"cookie": {"exact": "a=1"}, "x-test": {"exact": "on"}}},
    }
    assert NO_SECRETS.shown(config) == {
        "request_headers": {"set": {"authorization": HIDDEN, "x-env": "canary"}, "add": {"cookie": [HIDDEN, HIDDEN]}},
        "match": [{"headers": {"x-api-key": {"exact": HIDDEN, "ignore_case": True}, "x-canary": {"present": True}}}],
        "fault": {"header": {"cookie": {"exact": HIDDEN}, "x-test": {"exact": "on"}}},
    }


def test_cookies_and_parameters_are_hidden_by_their_own_names() -> None:
    """A cookie that chooses a version is what an operator came to read, a session is not."""
    match = {
        "cookies": {"BETA_USER": {"exact": "true"}, "session": {"prefix": "s3"}},
        "query": {"token": {"exact": "t"}},
    }
    assert NO_SECRETS.shown(match) == {
        "cookies": {"BETA_USER": {"exact": "true"}, "session": {"prefix": HIDDEN}},
        "query": {"token": {"exact": HIDDEN}},
    }


def test_words_of_the_language_are_not_taken_for_secrets() -> None:
    """Nor are names that the file gives its upstreams."""
    config = {
        "match": [{"cookies": {"BETA_USER": {"exact": "true"}}}],
        "sticky": {"cookie": "uid", "header": None},
        "upstreams": {"auth": {"endpoints": [{"address": "h:1"}]}},
    }
    assert NO_SECRETS.shown(config) == config


def test_values_of_secret_variables_are_hidden_wherever_they_stand() -> None:
    """A secret that `${DB_PASSWORD}` put into the file is not shown, not even inside a longer value."""
    secrets = Secrets.of({"DB_PASSWORD": "hunter22", "HOME": "/root", "API_TOKEN": "x", "AUTH_TOKEN": "hunter22-long"})
    assert secrets.shown({"set": {"x-env": "a hunter22 b", "x": "hunter22-long"}, "n": 1}) == {
        "set": {"x-env": f"a {HIDDEN} b", "x": HIDDEN},
        "n": 1,
    }
    assert secrets.hide("/root x") == "/root x"


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "DB_PASSWORD_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_variables_that_name_a_place_are_no_secrets(name: str) -> None:
    """A shell's directory would hide every path below it, of the configuration's file and of routes."""
    assert Secrets.of({name: "/etc/sidecar"}).hide("file=/etc/sidecar/sidecar.yaml") == "file=/etc/sidecar/sidecar.yaml"
    assert Secrets.of({"DB_PWD": "hunter22"}).hide("hunter22") == HIDDEN


@pytest.mark.parametrize(
    "shown", ['A "b"/ü', r"A \"b\"/ü", r"A \"b\"/\u00fc", 'a "b"/ü', r'A "b"/\xfc', "A%20%22b%22%2F%C3%BC"]
)
def test_a_secret_is_known_in_every_form_in_which_something_is_shown(shown: str) -> None:
    """As it is, in lower case as hosts are compared, in JSON, escaped for a line, encoded for a URL."""
    assert Secrets.of({"TOKEN": 'A "b"/ü'}).hide(f"x={shown};") == f"x={HIDDEN};"


def test_words_that_are_no_secrets_do_not_hide_half_of_a_page() -> None:
    """`AUTH=true` and short values."""
    assert Secrets.of({"AUTH": "true", "TOKEN": "on", "SECRET": ""}).hide("true on") == "true on"


def test_user_information_and_signed_parameters_of_a_url_are_hidden() -> None:
    """Whoever put them into the file knows them."""
    text = "http://me:pw@collector:4318/v1?a=b&token=t0k3n&X-Amz-Signature=abc"
    hidden = f"http://{HIDDEN}@collector:4318/v1?a=b&token={HIDDEN}&X-Amz-Signature={HIDDEN}"
    assert NO_SECRETS.hide(text) == hidden
    assert NO_SECRETS.shown({"otlp_endpoint": text}) == {"otlp_endpoint": hidden}


@pytest.mark.parametrize(
    ("keys", "is_secret"),
    [
        (("outbound", "routes", 0, "match", "headers", "x-api-key", "exact"), True),
        (("outbound", "routes", 0, "request_headers", "set", "authorization"), True),
        (("tests", 0, "request", "cookies", "session"), True),
        (("outbound", "routes", 0, "sticky", "cookie"), False),
        (("upstreams", "auth", "endpoints", 0), False),
        ((), False),
    ],
)
def test_a_place_of_the_file_is_secret_for_the_name_of_a_field_in_it(
    keys: tuple[int | str, ...], is_secret: bool
) -> None:
    """As `shown` hides what stands there."""
    assert is_secret_place(keys) is is_secret


class TestLearning:
    """Secrets that are read from files come and go while the process runs."""

    def test_what_was_learned_is_hidden_and_stays_so(self) -> None:
        """The old one may still be in use; words that are everywhere are not learned."""
        secrets = Secrets(["variable"])
        secrets.learn(["first-secret", "true", "abc"])
        secrets.learn(["second-secret"])
        assert secrets.hide("variable first-secret second-secret true abc") == f"{HIDDEN} {HIDDEN} {HIDDEN} true abc"

    def test_of_very_many_the_last_are_kept(self) -> None:
        """Whoever rotates a secret every minute fills no memory."""
        secrets = Secrets()
        for first in range(0, 2000, 500):
            secrets.learn([f"secret-{number:05d}" for number in range(first, first + 500)])
        assert secrets.hide("secret-00000 secret-01999") == f"secret-00000 {HIDDEN}"


def test_rules_of_authorization_are_shown_and_the_field_of_that_name_is_not() -> None:
    """What secrets stand in them is hidden as everywhere else."""
    rules = [{"name": "r", "allow": {"headers": {"authorization": {"exact": "Bearer x"}}}}]
    page = Secrets().shown({"inbound": {"authorization": {"default": "deny", "rules": rules}}})
    assert page["inbound"]["authorization"]["default"] == "deny"
    assert page["inbound"]["authorization"]["rules"][0]["allow"] == {"headers": {"authorization": {"exact": HIDDEN}}}
    assert Secrets().shown({"expect": {"authorization": "denied"}}) == {"expect": {"authorization": "denied"}}
    assert Secrets().shown({"authorization": "Bearer x"}) == {"authorization": HIDDEN}
