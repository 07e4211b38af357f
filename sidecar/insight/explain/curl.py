"""A request as a `curl` command says it: what people have at hand, and browsers copy. *Cold, pure.*"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from typing import Final

from sidecar.insight.question import Question


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DATA: Final = _words("-d --data --data-raw --data-binary --data-ascii --data-urlencode --json -F --form")

_FLAGS: Final = _words(
    "-s --silent -S --show-error -v --verbose -i --include -L --location -k --insecure -f --fail --fail-with-body -N"
    " --no-buffer -g --globoff -# --progress-bar -4 --ipv4 -6 --ipv6 -0 --http1.0 --http1.1 --http2"
    " --http2-prior-knowledge --compressed -O --remote-name -J --remote-header-name --tcp-nodelay --path-as-is -n"
    " --netrc -q --disable --raw"
)
"""Change nothing of where a request goes."""

_IGNORED: Final = _words(
    "-o --output -m --max-time --connect-timeout -x --proxy --resolve --connect-to -w --write-out --retry --cacert"
    " --cert -E --key --interface -c --cookie-jar -D --dump-header --limit-rate -y --speed-time -Y --speed-limit"
    " --max-redirs --retry-delay --unix-socket --ciphers --tls-max"
)
"""The same, with a value."""

_SWITCHES: Final = _words("-G --get -I --head") | _FLAGS
_VALUED: Final = (
    _words(
        "-X --request -H --header -b --cookie -A --user-agent -e --referer -u --user --oauth2-bearer -T --upload-file"
        " --url"
    )
    | _DATA
    | _IGNORED
)
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


def question_of_curl(words: Sequence[str]) -> Question:
    """
    The request that a command would send.

    Args:
        words: Of the command, with or without `curl`; or one text that has all of it.

    Raises:
        ValueError: An option is not known here, or there is no URL.
    """
    if len(words) == 1:
        try:
            words = shlex.split(words[0].replace("\\\n", " "))
        except ValueError as error:
            raise ValueError(f"curl: {str(error).lower()}") from None
    left = list(words[1:] if words and words[0] == "curl" else words)
    headers: list[tuple[str, str]] = []
    cookies: list[tuple[str, str]] = []
    method, url, content_type = "", "", ""
    is_get = is_head = is_upload = False
    while left:
        option, value = _option(left)
        if option in ("", "--url"):
            url = url or value
        elif option in ("-X", "--request"):
            method = value
        elif option in ("-H", "--header"):
            name, colon, rest = value.partition(":")
            if colon and rest.strip():  # curl leaves out a field without a value
                headers.append((name.strip(), rest.strip()))
        elif option in ("-b", "--cookie"):
            if "=" not in value:
                raise ValueError(f"{option}: expected NAME=VALUE, found `{value}`: files of cookies are not read here")
            pairs = (pair.partition("=") for pair in value.split(";") if pair.strip())
            cookies += [(name.strip(), rest.strip()) for name, _, rest in pairs]
        elif option in ("-A", "--user-agent", "-e", "--referer"):
            headers.append(("user-agent" if option in ("-A", "--user-agent") else "referer", value))
        elif option in ("-u", "--user"):
            headers.append(("authorization", "Basic " + base64.b64encode(value.encode()).decode()))
        elif option in ("--oauth2-bearer",):
            headers.append(("authorization", f"Bearer {value}"))
        elif option in _DATA:
            is_multipart = option in ("-F", "--form")
            content_type = "application/json" if option == "--json" else "" if is_multipart else _FORM_TYPE
            method = method or "POST"
        elif option in ("-G", "--get"):
            is_get = True
        elif option in ("-I", "--head"):
            is_head = True
        elif option in ("-T", "--upload-file"):
            is_upload = True
    if not url:
        raise ValueError("curl: expected a URL, found none")
    if content_type and not is_get and all(name.lower() != "content-type" for name, _ in headers):
        headers.append(("content-type", content_type))
    method = "HEAD" if is_head else "GET" if is_get else method or ("PUT" if is_upload else "GET")
    if "://" not in url:
        url = f"http://{url}"
    return Question(method, url, tuple(headers), tuple(cookies))


def _option(left: list[str]) -> tuple[str, str]:
    """The next option and its value, taken from what is left; of a word that is none, an empty option."""
    word = left.pop(0)
    if not word.startswith("-") or word == "-":
        return "", word
    if word.startswith("--"):
        name, has_value, value = word.partition("=")
        if has_value and name in _VALUED:  # curl itself takes it only as the next word, people write both
            return name, value
    else:
        name = word[:2]
        if name in _SWITCHES and len(word) > 2:  # `-sS`, `-sXPOST`
            left.insert(0, f"-{word[2:]}")
            return name, ""
        if name in _VALUED and len(word) > 2:
            return name, word[2:]
        name = word
    if name in _SWITCHES:
        return name, ""
    if name not in _VALUED:
        raise ValueError(f"curl: the option `{name}` is not known here; leave it out")
    if not left:
        raise ValueError(f"curl: {name}: expected a value, found nothing")
    return name, left.pop(0)
