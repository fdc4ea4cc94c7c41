"""What the parser says, word for word, and where its caret stands."""

from __future__ import annotations

import pytest

from circuitry import PathError, parse
from circuitry.paths import parse_node, parse_position

# Each block is one whole message; its second line, without the indent, is the text that was parsed.
MESSAGES = """
a path needs a target
    mlp[0]
          ^
add one: -> logits

expected a node such as ssm_state or logits, found '->'
    -> logits
    ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected a node such as ssm_state or logits, found the end
    mlp[0] ->
             ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->' or '@', found 'logits'
    mlp[0] logits
           ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->', found 'logits'
    mlp[0] @ B logits
               ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected a node such as ssm_state or logits, found the word 'freezing'
    freezing h
    ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

'freezing' comes after a target
    mlp[0] freezing h -> logits
           ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

'freezing' comes after a target
    mlp[0] @ B freezing h
               ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected ']' or ',', found '@'
    h[17 @ B+1 -> logits
         ^
close it with ']'

expected a number or an open axis, found '->'
    h[17, -> logits
          ^
for every one, leave it open: [{layer}]

expected a number or an open axis, found ']'
    h[] -> logits
      ^
for every one, leave it open: [{layer}]

indices count from 0 up
    h[-1] -> logits
      ^
for the last layer, name its number, or leave it open: {layer}

expected a number or an open axis, found 'layer'
    h[layer] -> logits
      ^
to leave it open write {layer}

'*' means nothing in a path
    h[*] -> logits
      ^
for every one, leave it open: {layer}

':' means nothing in a path
    h[:] -> logits
      ^
for a range, leave it open: {layer}

expected '}', found ']'
    h[{layer] -> logits
            ^
close it: {layer}

expected the name of an open axis, found '}'
    h[{}] -> logits
       ^
for example: {layer}

expected the name of an open axis, found '3'
    h[{3}] -> logits
       ^
for example: {layer}

expected the name of an open axis, found the word 'freezing'
    h[{freezing}] -> logits
       ^
for example: {layer}

expected a port of 'h', found '3'
    h[1].3 -> logits
         ^
for example: head[9,9].q

expected a port of 'h', found '->'
    h[1]. -> logits
          ^
for example: head[9,9].q

expected a port of 'h', found the word 'freezing'
    h[1].freezing -> logits
         ^
for example: head[9,9].q

expected a node such as ssm_state or logits, found '9'
    9.9 -> logits
    ^
heads are written head[9,9]

expected '->' or '@', found '9'
    head 9.9 -> logits
         ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected a position such as B+1, 7 or {pos}, found '->'
    h[1] @ -> logits
           ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

positions count from 0 up
    h[1] @ -1 -> logits
           ^
for the last token, name it: END

expected a whole number, found '->'
    h[1] @ B+ -> logits
              ^
for example: B+1

expected a whole number, found 'C'
    h[1] @ B+C -> logits
             ^
for example: B+1

expected a whole number, found '-'
    h[1] @ B+-1 -> logits
             ^
for example: B+1

position -1 is before the first token
    h[1] @ 2-3 -> logits
            ^
positions count from 0

expected '}', found '->'
    h[1] @ {pos -> logits
                ^
close it: {pos}

expected '->', found '+'
    h[1] @ B+1+1 -> logits
              ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->', found '@'
    h[1] @ B @ C -> logits
             ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->' or the end, found '@'
    h[1] -> logits @ 1 @ 2
                       ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

a node is frozen at all positions, so '@' does not belong here
    h[1] -> logits freezing h @ 3
                              ^
freeze the node without a position

expected a node such as ssm_state or logits, found the end
    h[1] -> logits freezing
                           ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

'freezing' stands twice on one leg
    h[1] -> logits freezing h freezing c
                              ^
list the nodes once, with commas: freezing head, mlp

'freezing' stands twice on one leg
    h[1] -> logits freezing h except h[1] freezing c
                                          ^
list the nodes once, with commas: freezing head, mlp

'except' spares nodes from 'freezing', and nothing is frozen here
    h[1] -> logits except h[1]
                   ^
for example: freezing head except head[9,9]

expected a node such as ssm_state or logits, found the end
    h[1] -> logits freezing h except
                                    ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

'except' stands twice on one leg
    h[1] -> logits freezing h except h[1] except h[2]
                                          ^
list the nodes once, with commas: except head, mlp

'directly' comes right after the target, once
    h[1] -> logits freezing h directly
                              ^
for example: head[0,1] -> head[1,2].k directly

'directly' comes right after the target, once
    h[1] -> logits directly directly
                            ^
for example: head[0,1] -> head[1,2].k directly

'directly' comes right after the target, once
    h[1] -> logits @ B directly freezing h except c, d directly
                                                       ^
for example: head[0,1] -> head[1,2].k directly

expected ')' or ',', found '->'
    (h[1], h[2] -> logits
                ^
close it with ')'

expected a node such as ssm_state or logits, found ')'
    () -> logits
     ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->', found 'logits'
    (h[1]) logits
           ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->' or '@', found ')'
    h[1]) -> logits
        ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->' or '@', found ','
    h[1], h[2] -> logits
        ^
a set of nodes stands in parentheses: (head[9,6], head[9,9]) -> logits

expected '->' or the end, found ','
    h[1] -> logits, mlp[0]
                  ^
a set of nodes stands in parentheses: (head[9,6], head[9,9]) -> logits

'>' means nothing in a path
    h[1] > logits
         ^
an arrow is written ->

'=' means nothing in a path
    h[1] => logits
         ^
an arrow is written ->

'→' means nothing in a path
    h[1] → logits
         ^
an arrow is written ->

'>' means nothing in a path
    h[1] ->> logits
           ^
an arrow is written ->

'>' means nothing in a path
    h[1] - > logits
           ^
an arrow is written ->

';' means nothing in a path
    h[1] -> logits;
                  ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

a number of 10 digits
    h[1234567890] -> logits
      ^
no model is that large

a number of 10 digits
    h[1] @ B+1234567890 -> logits
             ^
no model is that large

expected a node such as ssm_state or logits, found the word 'freezing'
    freezing -> logits
    ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->' or '@', found '['
    h[1][2] -> logits
        ^
indices share one pair of brackets: head[9,9]

expected '->' or '@', found '.'
    h[1].q.k -> logits
          ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected a node such as ssm_state or logits, found the end
    h[1] -> logits freezing h,
                              ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->' or the end, found 'c'
    h[1] -> logits freezing h c
                              ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected ']' or ',', found '.'
    h[0.5] -> logits
       ^
close it with ']'

'٣' means nothing in a path
    h[٣] -> logits
      ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

'é' means nothing in a path
    hé -> logits
     ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->' or the end, found '+'
    h[1] @ B + 1 -> logits + 1
                           ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected a number or an open axis, found 'b'
    h[{a},b] -> logits
          ^
to leave it open write {b}

expected a position such as B+1, 7 or {pos}, found the word 'freezing'
    h[1] @ freezing -> logits
           ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected the name of an open axis, found '}'
    h[1] @ {} -> logits
            ^
for example: {layer}

expected '->', found '@'
    (h[1]) @ B -> logits
           ^
each node of a set has its own position: (head[9,6] @ END, head[9,9] @ END)

expected '->' or the end, found '@'
    h[1] -> (a, b) @ 3
                   ^
each node of a set has its own position: (head[9,6] @ END, head[9,9] @ END)

a node is frozen at all positions, so '@' does not belong here
    h -> b directly except c @ 1
                             ^
freeze the node without a position

expected '->' or the end, found '@'
    a -> b directly @ 1
                    ^
for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state

expected '->' or '@', found ','
    h[1], h[2] -> logits
        ^
a set of nodes stands in parentheses: (head[9,6], head[9,9]) -> logits

expected '->', found ','
    h[1] @ B, h[2] -> logits
            ^
a set of nodes stands in parentheses: (head[9,6], head[9,9]) -> logits

expected '->' or the end, found '['
    h[1] -> logits freezing h[0][1]
                                ^
indices share one pair of brackets: head[9,9]

indices count from 0 up
    h[{a},-1] -> logits
          ^
for the last layer, name its number, or leave it open: {layer}

expected a whole number, found 'x'
    h[1] @ {p}+x -> logits
               ^
for example: B+1
"""
EXAMPLE = "for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"


@pytest.mark.parametrize("message", MESSAGES.strip("\n").split("\n\n"))
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
