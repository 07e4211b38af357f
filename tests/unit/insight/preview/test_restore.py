"""A kept request becomes a head again: what is known of it is what was sent, and what is not is said."""

from __future__ import annotations

from urllib.parse import quote_plus

from hypothesis import given
from hypothesis import strategies as st

from sidecar.insight.preview.restore import State, operands_of, restore, sides_of
from sidecar.routing.cookies import cookie
from sidecar.routing.query import param
from tests.support.keeping import Keeping, head_of

FILE = """
service: shop
outbound:
  routes:
    - match: {headers: {x-tenant: acme}}
      to: one
    - match: {headers: {x-user: {prefix: b}}, query: {debug: "1"}, cookies: {uid: {regex: ".*"}, session: s1}}
      to: one
    - match: {headers: {x-token: {prefix: k}}}
      to: one
upstreams: {one: {endpoints: []}}
"""


def test_what_was_kept_is_what_is_asked() -> None:
    """Method, host, path, the raw values, and digests that are those of an operand."""
    keeping = Keeping(FILE)
    entry = keeping.request(
        "PUT",
        "rec:81",
        "/v1/x?debug=1&b=2",
        "X-Tenant: acme",
        "X-User: bob",
        "Cookie: uid=7; session=s1",
        ip="10.0.0.1",
    )
    found = restore(entry, operands_of(sides_of(keeping.plan)))
    head = found.head
    assert (head.method, head.host, head.port, head.path) == (b"PUT", b"rec", 81, b"/v1/x")
    assert (head.joined(b"x-tenant"), head.joined(b"x-user")) == (b"acme", b"bob")
    assert (cookie(head, b"uid"), cookie(head, b"session"), param(head, b"debug")) == (b"7", b"s1", b"1")
    assert (found.peer_ip, found.missing) == ("10.0.0.1", ())


def test_a_digest_that_is_no_operands_is_something_else() -> None:
    """It is there, it is none of what is asked for, and nobody is told more."""
    keeping = Keeping(FILE)
    entry = keeping.request("GET", "rec", "/", "X-Tenant: other", "X-Token: k1", "Cookie: session=zz")
    found = restore(entry, operands_of(sides_of(keeping.plan)))
    assert found.state(("header", "x-tenant")) is State.OTHER
    assert found.state(("header", "x-token")) is State.THERE
    assert found.state(("header", "x-user")) is State.KNOWN
    assert found.state(("header", "x-never")) is State.UNTOLD
    assert found.missing == (
        "header x-tenant (only hashed)",
        "cookie session (only hashed)",
        "header x-token (only that it was there was recorded)",
    )
    assert found.head.joined(b"x-tenant") not in (None, b"acme", b"other")
    assert found.head.joined(b"x-user") is None


def test_equal_values_stay_equal() -> None:
    """What stands for a value that is not known is the same for the same value, and another for another."""
    keeping = Keeping(FILE)
    one, two, three = (
        restore(keeping.request("GET", "rec", "/", f"X-Tenant: {tenant}")).head.joined(b"x-tenant")
        for tenant in ("a", "b", "a")
    )
    assert one == three != two


@given(
    st.sampled_from(["acme", "other", None]),
    st.lists(st.text("abc ", min_size=1, max_size=4).map(str.strip).filter(bool), max_size=3),
    st.text('abc"= ', max_size=6).map(str.strip),
    st.text("ab&=+% é", max_size=6),
)
def test_routes_see_what_they_saw(tenant: str | None, users: list[str], uid: str, debug: str) -> None:
    """Every route that matches the request matches the restored one, where all that it asks is known."""
    keeping = Keeping(FILE.replace("x-token", "x-plain"))
    fields = [f"X-User: {user}" for user in users] + [f"Cookie: uid={uid}"]
    if tenant is not None:
        fields.append(f"X-Tenant: {tenant}")
    target = f"/?debug={quote_plus(debug)}"
    entry = keeping.request("GET", "rec", target, *fields)
    found = restore(entry, operands_of(sides_of(keeping.plan)))
    original = head_of("GET", "rec", target, *fields)
    for route in keeping.plan.side_of["outbound"].table.routes:
        for match in route.matches:
            assert [one.test(found.head) for one in match.conditions] == [
                one.test(original) for one in match.conditions
            ]
