"""What must hold of sticky splits for any targets, weights and keys; and of header edits that are merged."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http1.grammar import field_of
from sidecar.message import Field, RequestHead
from sidecar.routing.edits import HeaderEdits, header_edits, merge_edits
from sidecar.routing.split import Split, make_split
from tests.support.thoroughness import examples

KEYS = [b"user-%d" % number for number in range(200)]


def _user(key: bytes) -> RequestHead:
    head = RequestHead(b"GET", b"/", None, 1)
    head.fields = [field_of(b"x-user: " + key)]
    for field in head.fields:
        head.kinds |= field.kind
    return head


USERS = [_user(key) for key in KEYS]

weights = st.one_of(st.integers(0, 100).map(float), st.floats(0.01, 100))
shares = st.lists(weights, min_size=2, max_size=6).filter(lambda drawn: sum(drawn) > 0)


def split_of(names: list[str], drawn: list[float]) -> Split:
    split = make_split(names, drawn, ("cookie", "uid"))
    assert split is not None
    return split


def names_of(count: int) -> list[str]:
    return [f"upstream-{number}" for number in range(count)]


@settings(max_examples=examples(150), deadline=None)
@given(before=shares, data=st.data())
def test_raising_one_weight_only_moves_keys_into_it(before: list[float], data: st.DataObject) -> None:
    """For any number of targets; from 0 as well."""
    names = names_of(len(before))
    grown = data.draw(st.integers(0, len(before) - 1))
    after = list(before)
    after[grown] += data.draw(st.floats(0.5, 100))
    old, new = split_of(names, before), split_of(names, after)
    for key in KEYS:
        assert new.side(key) in (old.side(key), grown)


@settings(max_examples=examples(100), deadline=None)
@given(old_share=st.integers(0, 100), new_share=st.integers(0, 100))
def test_a_canary_that_grows_only_wins_users(old_share: int, new_share: int) -> None:
    """Two targets in percent, both written anew at each step, as 95/5 to 90/10."""
    low, high = sorted((old_share, new_share))
    old = split_of(["stable", "canary"], [100.0 - low, float(low)])
    new = split_of(["stable", "canary"], [100.0 - high, float(high)])
    for key in KEYS:
        assert new.side(key) >= old.side(key)


@settings(max_examples=examples(100), deadline=None)
@given(drawn=shares, data=st.data())
def test_the_order_of_targets_and_the_scale_of_weights_move_nobody(drawn: list[float], data: st.DataObject) -> None:
    """Only the ratio of the weights of named upstreams counts."""
    names = names_of(len(drawn))
    order = data.draw(st.permutations(range(len(drawn))))
    scale = data.draw(st.sampled_from([0.5, 2.0, 4.0]))  # exact in floats
    plain = split_of(names, drawn)
    mixed = split_of([names[n] for n in order], [drawn[n] * scale for n in order])
    for key in KEYS:
        assert order[mixed.side(key)] == plain.side(key)


@settings(max_examples=examples(100), deadline=None)
@given(drawn=shares, data=st.data())
def test_removing_a_target_moves_only_its_own_keys(drawn: list[float], data: st.DataObject) -> None:
    """Everybody else stays where they are."""
    gone = data.draw(st.integers(0, len(drawn) - 1))
    left = [weight if number != gone else 0.0 for number, weight in enumerate(drawn)]
    if sum(left) == 0:
        return
    old, new = split_of(names_of(len(drawn)), drawn), split_of(names_of(len(drawn)), left)
    for key in KEYS:
        assert new.side(key) != gone
        assert old.side(key) in (gone, new.side(key))


class Awaited:
    """An upstream that may not have had an endpoint."""

    def __init__(self, has_had_endpoints: bool) -> None:
        self.has_had_endpoints = has_had_endpoints


@settings(max_examples=examples(100), deadline=None)
@given(drawn=shares, data=st.data())
def test_a_side_that_is_missing_is_as_one_that_is_not_in_the_file(drawn: list[float], data: st.DataObject) -> None:
    """In whatever order sides come: no key moves but into the side that comes."""
    names, sides = names_of(len(drawn)), [Awaited(data.draw(st.booleans())) for _ in drawn]
    split = make_split(names, drawn, ("header", "x-user"), awaited=sides)
    assert split is not None

    def chosen() -> list[int]:
        return [split.choose(user, "") for user in USERS]

    for _ in drawn:
        left = [weight if side.has_had_endpoints else 0.0 for weight, side in zip(drawn, sides, strict=True)]
        there = split_of(names, left if any(left) else drawn)
        before = chosen()
        assert before == [there.side(key) for key in KEYS]
        missing = [number for number, side in enumerate(sides) if not side.has_had_endpoints]
        if missing:
            comes = data.draw(st.sampled_from(missing))
            sides[comes].has_had_endpoints = True
            if any(left):
                assert all(new in (old, comes) for old, new in zip(before, chosen(), strict=True))


names = st.sampled_from(["a", "b", "c"])
values = st.sampled_from(["1", "2"])
edit_specs = st.builds(
    header_edits,
    st.dictionaries(names, values, max_size=2),
    st.dictionaries(names, st.lists(values, min_size=1, max_size=2), max_size=2),
    st.lists(names, max_size=2),
)
field_lists = st.lists(st.builds(lambda n, v: field_of(f"{n}: {v}".encode()), names, st.sampled_from(["x", "y"])))


def by_name(fields: list[Field]) -> dict[bytes, list[bytes]]:
    """Values of each name in order; the order among different names has no meaning (RFC 9110, 5.3)."""
    lists: dict[bytes, list[bytes]] = {}
    for field in fields:
        lists.setdefault(field.name, []).append(field.value)
    return lists


@given(first=edit_specs, then=edit_specs, fields=field_lists)
def test_merged_edits_do_what_one_after_the_other_would(
    first: HeaderEdits | None, then: HeaderEdits | None, fields: list[Field]
) -> None:
    """For any edits and any fields."""
    one_by_one = fields
    for edits in (first, then):
        if edits is not None:
            one_by_one = edits.apply(one_by_one)
    merged = merge_edits(first, then)
    assert by_name(merged.apply(fields) if merged is not None else fields) == by_name(one_by_one)
