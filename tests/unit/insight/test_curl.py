"""Requests as curl commands say them."""

from __future__ import annotations

import pytest

from sidecar.insight.explain.curl import question_of_curl
from sidecar.insight.question import Question

FORM = ("content-type", "application/x-www-form-urlencoded")


@pytest.mark.parametrize(
    ("command", "question"),
    [
        ("curl http://a/b", Question("GET", "http://a/b")),
        ("curl a/b", Question("GET", "http://a/b")),
        ("curl -sS -XPUT 'http://a/b?c=d'", Question("PUT", "http://a/b?c=d")),
        ("curl -sSXDELETE http://a", Question("DELETE", "http://a")),
        ("curl --request PATCH --url http://a", Question("PATCH", "http://a")),
        ("curl -I http://a", Question("HEAD", "http://a")),
        ("curl -T file http://a", Question("PUT", "http://a")),
        ("curl http://a -d x=1", Question("POST", "http://a", (FORM,))),
        ("curl http://a -X PUT --data-raw x", Question("PUT", "http://a", (FORM,))),
        ("curl -G http://a -d x=1", Question("GET", "http://a")),
        ("curl --json '{}' http://a", Question("POST", "http://a", (("content-type", "application/json"),))),
        ("curl -H 'Content-Type: text/x' -d y http://a", Question("POST", "http://a", (("Content-Type", "text/x"),))),
        ("curl -F f=@x http://a", Question("POST", "http://a")),
        ("curl -H 'X-A: 1' -HX-B:2 -H 'X-C;' -H 'X-D:' a", Question("GET", "http://a", (("X-A", "1"), ("X-B", "2")))),
        ("curl -b 'u=1; v=2' --cookie w=3 a", Question("GET", "http://a", (), (("u", "1"), ("v", "2"), ("w", "3")))),
        ("curl -A me -e http://r a", Question("GET", "http://a", (("user-agent", "me"), ("referer", "http://r")))),
        ("curl -u me:pw a", Question("GET", "http://a", (("authorization", "Basic bWU6cHc="),))),
        ("curl -x http://127.0.0.1:15001 -o /dev/null -w '%{http_code}' --max-time 3 a", Question("GET", "http://a")),
        ("curl \\\n  'http://a/' \\\n  -H 'x: y'", Question("GET", "http://a/", (("x", "y"),))),
    ],
)
def test_a_pasted_command_is_the_request_that_it_sends(command: str, question: Question) -> None:
    """Options that change where a request goes count, all others do not."""
    assert question_of_curl([command]) == question


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("curl", "curl: expected a URL, found none"),
        ("curl --frobnicate http://a", "curl: the option `--frobnicate` is not known here; leave it out"),
        ("curl http://a -H", "curl: -H: expected a value, found nothing"),
        ("curl -b jar.txt http://a", "-b: expected NAME=VALUE, found `jar.txt`: files of cookies are not read here"),
        ("curl 'http://a", "curl: no closing quotation"),
    ],
)
def test_what_cannot_be_read_is_said(command: str, message: str) -> None:
    """Rather than explained wrongly."""
    with pytest.raises(ValueError) as error:
        question_of_curl([command])
    assert str(error.value) == message
