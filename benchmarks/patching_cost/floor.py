"""The least arithmetic of a sweep, in multiply-adds for each prompt, and that of the hook loop.

The two passes over both inputs count completely. A patched row counts only where it can differ from its base: from its first live
layer, at its live tokens, up to the last token that is read, and only with the answer's logit. If the mixers after the source are
frozen, a token needs only its own MLP, or the projections of its own block, and no other token. Norms, softmax, activations and
the exponentials of a scan are not multiply-adds and do not count, although a scan spends much of its time on them: the time of a
Mamba sweep can fall more than is predicted here.
"""

from __future__ import annotations

from .cases import Case, Cell, Shape

CONV, EXPAND, MLP = 4, 2, 4  # width of Mamba's convolution, of its channels, of GPT-2's MLP
SCAN = 5  # multiply-adds of each state at each token: decay, two for the drive, the recurrence, the read-out


def ratio(case: Case) -> float:
    """Multiply-adds of the hook loop over those of the floor."""
    return loop(case) / floor(case)


def loop(case: Case) -> float:
    """The hook loop: two passes, then one forward pass for each cell and leg, with all logits of the last token."""
    legs = 2 if case.experiment == "query" else 1
    return (2 + legs * len(case.cells)) * (_forward(case) + case.shape.width * case.shape.vocab)


def floor(case: Case) -> float:
    """The floor: two passes, and then the part of every cell that can differ."""
    row = _ROWS[case.experiment]
    return 2 * (_forward(case) + case.shape.width) + sum(row(case, cell) + case.shape.width for cell in case.cells)


def _forward(case: Case) -> float:
    """Every layer at every token, without logits."""
    return case.shape.layers * _layer(case.shape, range(case.length))


def _layer(shape: Shape, tokens: range) -> float:
    return _block(shape, tokens) if shape.heads else _mixer(shape) * len(tokens)


def _block(shape: Shape, tokens: range) -> float:
    """Attention and MLP at some tokens; a token attends to itself and to those before."""
    d = shape.width
    return len(tokens) * (4 + 2 * MLP) * d**2 + sum(2 * (t + 1) * d for t in tokens)


def _mlps(shape: Shape, layers: int) -> float:
    """One token through the MLPs of ``layers`` layers."""
    return layers * 2 * MLP * shape.width**2


def _output(shape: Shape) -> float:
    """One token of one head through its part of the output projection, or one token of the stream through one head's query."""
    return shape.width**2 / shape.heads


def _mixer(shape: Shape, frozen: bool = False) -> float:
    """One token of a Mamba block. With a frozen state only C and the read-out are needed, and no step size, B or recurrence."""
    d, inner = shape.width, EXPAND * shape.width
    always = d * 2 * inner + CONV * inner + inner * d
    if frozen:
        return always + inner * shape.state + inner * shape.state
    return always + _selection(shape) + SCAN * inner * shape.state


def _selection(shape: Shape) -> float:
    """Step size, B and C of one token from the scan's input."""
    inner = EXPAND * shape.width
    return inner * (shape.rank + 2 * shape.state) + shape.rank * inner


def _heads(case: Case, cell: Cell) -> float:
    return _output(case.shape) + _mlps(case.shape, case.shape.layers - cell["layer"])


def _query(case: Case, cell: Cell) -> float:
    """The first leg up to the query at END; then one row of its scores, and complete blocks after its layer, at END."""
    shape, (to, _) = case.shape, case.receiver
    first = _output(shape) + _mlps(shape, to - cell["layer"]) + _output(shape)
    row = 2 * case.length * shape.width / shape.heads + _output(shape) + _mlps(shape, 1)
    return first + row + (shape.layers - to - 1) * _block(shape, range(case.end, case.length))


def _residual(case: Case, cell: Cell) -> float:
    return (case.shape.layers - cell["layer"]) * _block(case.shape, range(cell["position"], case.length))


def _direct(case: Case, cell: Cell) -> float:
    return _output(case.shape)


def _state(case: Case, cell: Cell) -> float:
    """The change of one state, which decays and is read; after its layer all states are frozen."""
    shape, tokens = case.shape, case.length - case.at
    inner = EXPAND * shape.width
    source = 2 * inner * shape.state + inner * shape.width
    return tokens * (source + (shape.layers - cell["layer"] - 1) * _mixer(shape, frozen=True))


def _scan_input(case: Case, cell: Cell) -> float:
    """New step size, B and C at one token; the state's change decays and is read at all later tokens; then complete blocks."""
    shape, tokens = case.shape, case.length - cell["position"]
    inner = EXPAND * shape.width
    source = _selection(shape) + tokens * (2 * inner * shape.state + inner * shape.width)
    return source + tokens * (shape.layers - cell["layer"] - 1) * _mixer(shape)


_ROWS = {
    "heads": _heads,
    "query": _query,
    "residual": _residual,
    "direct": _direct,
    "state": _state,
    "scan_input": _scan_input,
}
