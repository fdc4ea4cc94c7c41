"""What the parser says, word for word, and where its caret stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuitry import PathError, parse
from circuitry.paths import parse_node, parse_position

# Each block is one whole message; its second line, without the indent, is the text that was parsed.
MESSAGES = (Path(__file__).with_name("parser_messages.txt")).read_text(encoding="utf-8").strip("\n").split("\n\n")
EXAMPLE = "for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"


@pytest.mark.parametrize("message", MESSAGES)
def test_the_parser_says(message: str) -> None:
    text = message.split("\n")[1][4:]
    with pytest.raises(PathError) as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ("an empty path", "    ", "    ^", EXAMPLE)),
        ("   ", ("an empty path", "       ", "    ^", EXAMPLE)),
        ("a -> ", ("expected a node such as ssm_state or logits, found the end", "    a -> ", "        ^", EXAMPLE)),
        ("a -> b\x07", ("the character U+0007 means nothing in a path", "    a -> b?", "          ^", EXAMPLE)),
        ("a\n-> b ?", ("'?' means nothing in a path", "    a?-> b ?", "           ^", EXAMPLE)),
        ("a\u2028b", ("expected '->' or '@', found 'b'", "    a?b", "      ^", EXAMPLE)),
    ],
)
def test_the_parser_says_of_unprintable_text(text: str, lines: tuple[str, ...]) -> None:
    with pytest.raises(PathError) as caught:
        parse(text)
    assert tuple(str(caught.value).split("\n")) == lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a node such as ssm_state or logits, found the end"),
        ("a -> b", "expected the end, found '->'"),
        ("head[1,2].q @ B", "expected the end, found '@'"),
        ("a freezing", "expected the end, found 'freezing'"),
    ],
)
def test_the_parser_says_of_a_node(text: str, message: str) -> None:
    with pytest.raises(PathError) as caught:
        parse_node(text)
    assert caught.value.problem == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a position such as B+1, 7 or {pos}, found the end"),
        ("B+1+1", "expected the end, found '+'"),
        ("h[3]", "expected the end, found '['"),
        ("3-4", "position -1 is before the first token"),
        ("999999999+1", "position 1000000000 is past the end of any prompt"),
    ],
)
def test_the_parser_says_of_a_position(text: str, message: str) -> None:
    with pytest.raises(PathError) as caught:
        parse_position(text)
    assert caught.value.problem == message
