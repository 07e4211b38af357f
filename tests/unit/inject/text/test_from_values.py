"""A tree of values that never were a text: as far as somebody looks, that of the parser."""

from __future__ import annotations

from typing import Any

from sidecar.inject.text.from_values import written_out
from sidecar.inject.text.tree import Mapping, Node, Scalar, Sequence, parse

VALUE: dict[str, Any] = {
    "spec": {"list": [{"name": "a", "x": {"y": [1, None, True, '\u2028 "q"']}}, {"name": "b"}], "none": None},
    "other": {"deep": [[{}, []]]},
}


def shown(node: Node) -> Any:
    """All that is asked of a node."""
    within: Any = None
    if isinstance(node, Scalar):
        within = (node.text, node.is_plain)
    elif isinstance(node, Sequence):
        within = [shown(one) for one in node.items]
    elif isinstance(node, Mapping):
        within = [(shown(key), shown(one)) for key, one in node.entries]
    return type(node).__name__, node.start, node.end, node.column, within


def test_tree_is_that_of_the_parser_where_paths_lead() -> None:
    """Kinds, offsets, columns and words are the same on the way, and of what stands beside it."""
    text, root = written_out(VALUE, [("spec", "list", 0, "x", "y"), ("spec", "none")])
    parsed = parse(text, "f")[0].root
    assert isinstance(root, Mapping)
    assert isinstance(parsed, Mapping)
    ours, theirs = root.get("spec"), parsed.get("spec")
    assert isinstance(ours, Mapping)
    assert isinstance(theirs, Mapping)
    for name in ("list", "none"):
        (mine, of_parser) = (tree.entry(name) for tree in (ours, theirs))
        assert mine is not None
        assert of_parser is not None
        assert shown(mine[0]) == shown(of_parser[0])
    assert shown(ours.entries[0][1])[:4] == shown(theirs.entries[0][1])[:4]
    first, second = (tree.get("list") for tree in (ours, theirs))
    assert isinstance(first, Sequence)
    assert isinstance(second, Sequence)
    assert shown(first.items[0]) == shown(second.items[0])


def test_where_no_path_leads_a_value_is_one_scalar() -> None:
    """Whatever it is: nobody looks into it."""
    text, root = written_out(VALUE, [("spec",)])
    assert isinstance(root, Mapping)
    other = root.get("other")
    assert isinstance(other, Scalar)
    assert text[other.start : other.end] == '{"deep": [[{}, []]]}'
