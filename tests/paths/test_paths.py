"""The path language: text, values and operators say the same thing, and no text breaks the parser."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitry import CircuitryError, PathError, axis, parse
from circuitry.paths import Axis, Leg, Node, Path, Position, Site, from_json, parse_node, parse_position, position, to_json
from support import strategies as some

B = Position("B")
embed, head, logits, mlp, state = (Node(name) for name in ("embed", "head", "logits", "mlp", "ssm_state"))
# The same without types, for mistakes that a type checker would point out.
loose: Any = SimpleNamespace(parse=parse, axis=axis, mlp=mlp, B=B, path=embed >> logits)


@given(some.paths)
def test_text_round_trip(path: Path) -> None:
    assert parse(str(path)) == path
    assert str(parse(str(path))) == str(path)


@given(some.paths)
def test_json_and_pickle_round_trip(path: Path) -> None:
    assert from_json(to_json(path)) == path
    assert pickle.loads(pickle.dumps(path)) == path


@given(some.paths, some.paths)
def test_equal_paths_are_those_with_equal_text(one: Path, other: Path) -> None:
    assert (one == other) == (str(one) == str(other))
    again = parse(str(one))
    assert again is not one and again == one and hash(again) == hash(one) and {one: 1}[again] == 1


@given(some.nodes, some.positions)
def test_nodes_and_positions_round_trip(node: Node, at: Position) -> None:
    assert parse_node(str(node)) == node
    assert parse_position(str(at)) == position(str(at)) == position(at) == at


@given(some.paths)
def test_white_space_carries_no_meaning(path: Path) -> None:
    words = str(path).replace("->", " -> ").replace(",", " ,\n").replace("[", " [ ").replace("]", "\t]").replace("@", "@  ")
    assert parse(f"  {words}\n") == path


@given(some.paths)
def test_axes_are_every_open_name_once(path: Path) -> None:
    assert set(path.axes) == {part.split("}")[0] for part in str(path).split("{")[1:]}
    assert len(set(path.axes)) == len(path.axes)


@given(st.text(max_size=60) | some.soup | some.damaged())
@settings(max_examples=300)
def test_any_text_is_a_path_or_a_path_error(text: str) -> None:
    try:
        path = parse(text)
    except PathError as error:
        check_message(text, error)
    else:
        assert parse(str(path)) == path


@pytest.mark.parametrize("read", [parse_node, parse_position])
@given(text=st.text(max_size=20) | some.soup)
def test_any_text_is_a_part_or_a_path_error(read: Callable[[str], Node | Position], text: str) -> None:
    try:
        part = read(text)
    except PathError as error:
        check_message(text, error)
    else:
        assert read(str(part)) == part


def check_message(text: str, error: PathError) -> None:
    """The text on one line, one character a character, and the caret under it or right after its end."""
    assert error.text == text and 0 <= error.column <= len(text)
    lines = str(error).split("\n")
    assert len(lines) == 3 + bool(error.hint)
    assert lines[0] == error.problem and lines[0].isprintable() and lines[0]
    assert len(lines[1]) == 4 + len(text) and lines[1].isprintable()
    assert lines[2] == " " * (4 + error.column) + "^"


def test_long_and_deep_text_is_read_in_good_time() -> None:
    many = ", ".join(f"head[{i},0]" for i in range(2000))
    assert len(parse(f"embed -> logits freezing {many}").legs[0].frozen) == 2000
    for opening in "([{":
        with pytest.raises(PathError):
            parse("h" + opening * 20_000)


@pytest.mark.parametrize(
    ("built", "text"),
    [
        (embed >> logits, "embed -> logits"),
        (state[17] @ B + 1 >> logits, "ssm_state[17] @ B+1 -> logits"),
        (state[17] @ (B + 1) >> logits, "ssm_state[17] @ B+1 -> logits"),
        (state[17] @ "B+1" >> logits, "ssm_state[17] @ B+1 -> logits"),
        (state[17] @ "B" + 1 >> logits, "ssm_state[17] @ B+1 -> logits"),
        (state[17] @ B - 2 >> logits @ "END", "ssm_state[17] @ B-2 -> logits @ END"),
        (state[17] @ B + 2 - 2 >> logits, "ssm_state[17] @ B -> logits"),
        (mlp[3] @ 7 >> logits, "mlp[3] @ 7 -> logits"),
        (mlp[3] @ 7 + 2 >> logits, "mlp[3] @ 9 -> logits"),
        (mlp[3] @ 7 - 7 >> logits, "mlp[3] @ 0 -> logits"),
        (mlp[3] @ "5+2" >> logits, "mlp[3] @ 5 + 2 -> logits"),
        (mlp[axis("layer")] @ axis("pos") >> logits, "mlp[{layer}] @ {pos} -> logits"),
        (mlp[axis("layer")] @ axis("pos") - 1 >> logits, "mlp[{layer}] @ {pos}-1 -> logits"),
        (head[9, 9].q >> logits, "head[9,9].q -> logits"),
        (head.q[9, 9] >> logits, "head[9,9].q -> logits"),
        (head[9, axis("h")] >> logits, "head[9,{h}] -> logits"),
        ((state[1] @ B >> logits).freezing(state), "ssm_state[1] @ B -> logits freezing ssm_state"),
        ((embed >> logits).freezing(head, mlp), "embed -> logits freezing head, mlp"),
        ((embed >> logits).freezing(head).freezing(mlp[2]), "embed -> logits freezing head, mlp[2]"),
        ((embed >> logits).freezing(head).except_for(head[9, 9]), "embed -> logits freezing head except head[9,9]"),
        (
            (embed >> logits).freezing(head.q).except_for(head[1]).except_for(head[2]),
            "embed -> logits freezing head.q except head[1], head[2]",
        ),
        ((embed >> logits).directly(), "embed -> logits directly"),
        ((embed >> logits).directly().except_for(mlp), "embed -> logits directly except mlp"),
        ((embed >> logits).freezing(head).directly(), "embed -> logits directly freezing head"),
        (embed >> mlp[0] >> logits, "embed -> mlp[0] -> logits"),
        (
            (head[7, 3] @ "S2" >> head[9, 9].q).freezing(head) >> logits,
            "head[7,3] @ S2 -> head[9,9].q freezing head -> logits",
        ),
        (embed >> (head[0, 0], head[0, 1].v @ 3), "embed -> (head[0,0], head[0,1].v @ 3)"),
        ((head[0, 0], head[0, 1] @ B + 1) >> logits, "(head[0,0], head[0,1] @ B+1) -> logits"),
        ((embed,) >> logits, "(embed) -> logits"),
        (
            (head[0, 0], embed) >> mlp[0] @ B >> (head[1, 0].q, head[1, 0].k),
            "(head[0,0], embed) -> mlp[0] @ B -> (head[1,0].q, head[1,0].k)",
        ),
    ],
)  # fmt: skip
def test_operators_build_what_text_does(built: Path, text: str) -> None:
    assert built == parse(text)
    assert parse(str(built)) == built


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda: loose.parse(3), "expected a path as text, such as 'mlp[0] -> logits', got int"),
        (lambda: loose.mlp["0"], "expected an index of 'mlp' (a whole number or axis('layer')), got '0'"),
        (lambda: loose.mlp[0.5], "expected an index of 'mlp' (a whole number or axis('layer')), got 0.5"),
        (lambda: mlp[True], "expected an index of 'mlp' (a whole number or axis('layer')), got True"),
        (lambda: head[1, -1], "index -1 of 'head': indices count from 0 up"),
        (lambda: Position(-1), "expected a position as one number from 0 up, got -1+0"),
        (lambda: Position(3, 1), "expected a position as one number from 0 up, got 3+1"),
        (lambda: position(-1), "position -1 is before the first token; positions count from 0"),
        (lambda: mlp[0] @ 3 - 4, "position -1 is before the first token; positions count from 0"),
        (lambda: mlp[0] @ True, "expected a position (a name the task knows, a whole number or axis('name')), got True"),
        (lambda: loose.mlp[0] @ 1.5, "expected a position (a name the task knows, a whole number or axis('name')), got 1.5"),
        (lambda: loose.B + 1.5, "a position moves by a whole number of tokens, not by 1.5"),
        (lambda: B - True, "a position moves by a whole number of tokens, not by True"),
        (lambda: loose.B - "1", "a position moves by a whole number of tokens, not by '1'"),
        (lambda: loose.mlp[0] @ B + "1", "a position moves by a whole number of tokens, not by '1'"),
        (lambda: Site(mlp[0]) + 1, "mlp[0] has no position to move; write mlp[0] @ 'B' + 1"),
        (lambda: Site(mlp[0]) - 1, "mlp[0] has no position to move; write mlp[0] @ 'B' + 1"),
        (lambda: loose.mlp[0] >> "logits", "expected a node such as g.logits, or a site (node @ position), got 'logits'"),
        (lambda: "embed" >> loose.mlp[0], "expected a node such as g.logits, or a site (node @ position), got 'embed'"),
        (lambda: loose.mlp[0] >> (logits, 3), "expected a node such as g.logits, or a site (node @ position), got 3"),
        (lambda: mlp[0] >> (), "an empty set of sites; name at least one node"),
        (lambda: mlp[0] > logits, "write mlp[0] >> target (two arrows); '>' compares"),
        (lambda: mlp[0] @ B > logits, "write mlp[0] @ B >> target (two arrows); '>' compares"),
        (lambda: loose.path.freezing(head @ B), "freezing applies to a node at all positions; write head without '@ B'"),
        (lambda: loose.path.freezing("head"), "expected a node, got 'head'; try freezing(g.head)"),
        (lambda: loose.path.directly().except_for("head"), "expected a node, got 'head'; try except_for(g.head)"),
        (
            lambda: (embed >> logits).except_for(head),
            "nothing is frozen on this leg yet, so nothing can be exempted; call .freezing(...) first",
        ),
        (lambda: axis("a b"), "expected the name of an axis, a plain word such as 'layer', got 'a b'"),
        (lambda: axis("except"), "expected the name of an axis, a plain word such as 'layer', got 'except'"),
        (lambda: axis("schicht\u00e4"), "expected the name of an axis, a plain word such as 'layer', got 'schicht\u00e4'"),
        (lambda: loose.axis(3), "expected the name of an axis, a plain word such as 'layer', got 3"),
        (lambda: from_json("{}"), "this JSON does not describe a path (KeyError('sources')); circuitry.paths.to_json writes one"),
    ],
)  # fmt: skip
def test_operators_say_what_is_wrong(do: Callable[[], object], message: str) -> None:
    with pytest.raises(CircuitryError) as caught:
        do()
    assert str(caught.value) == message


def test_a_node_is_no_sequence() -> None:
    for use in (list, tuple, sorted, lambda node: 3 in node):
        with pytest.raises(TypeError, match="not iterable"):
            use(loose.mlp)


def test_a_node_answers_no_private_questions() -> None:
    assert not hasattr(mlp, "_repr_pretty_") and not hasattr(mlp, "__array__")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '{"sources": [], "legs": []}',
        "[" * 100_000,
        to_json(parse("mlp[0] -> logits")).replace('"mlp"', '"an mlp"'),
        to_json(parse("mlp[0] -> logits")).replace('"mlp"', '"freezing"'),
        to_json(parse("mlp[0] -> logits")).replace("[0]", "[-1]"),
        to_json(parse("mlp[0] -> logits")).replace("[0]", '["0"]'),
        to_json(parse("mlp[0] @ B -> logits")).replace('"offset": 0', '"offset": "0"'),
        to_json(parse("mlp[0] -> logits")).replace('"exempt": []', '"exempt": [{"family": "mlp", "indices": [], "port": null}]'),
    ],
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(CircuitryError, match="this JSON does not describe a path"):
        from_json(text)


def test_values_are_what_the_text_says() -> None:
    path = parse("(a[0,{l}].q @ B-1, b) -> c directly freezing d, e[1] except d[2].k -> f @ {p}")
    first = Leg((Site(Node("c")),), (Node("d"), Node("e", (1,))), (Node("d", (2,), "k"),), directly=True)
    sources = (Site(Node("a", (0, Axis("l")), "q"), Position("B", -1)), Site(Node("b")))
    assert path == Path(sources, (first, Leg((Site(Node("f"), Position(Axis("p"))),))))
    assert path.axes == ("l", "p")
