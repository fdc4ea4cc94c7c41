"""Every small change of a module that could alter what it computes, as edits of its syntax tree."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

SWAPPED = {
    **{ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.NotIn: [ast.In]},
    **{ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt]},
    **{ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd]},
    **{ast.LShift: [ast.RShift], ast.RShift: [ast.LShift], ast.And: [ast.Or], ast.Or: [ast.And]},
}  # fmt: skip
NAMES = {"min": "max", "minimum": "maximum", "argmin": "argmax", "any": "all", "repeat": "tile", "triu": "tril"}
NAMES |= {new: old for old, new in NAMES.items()}
AXES = {"movedim", "swapaxes", "permute", "moveaxis"}
"""Calls whose last two arguments are swapped. ``transpose`` is not among them: it gives the same either way."""
WORDS = {"__repr__", "__str__", "explain"}
"""Functions that return text."""
SHOWN = {"tqdm", "update", "TypeVar", "isinstance"}
"""Calls that show progress, or whose arguments are types."""
CHECKS = {"strict"}
"""Keywords for a check of something that always holds, as in ``zip(strict=True)``."""


@dataclass(frozen=True)
class Mutant:
    """One change: its place and its text. ``apply`` makes it in the tree from which it comes."""

    file: str
    line: int
    function: str
    text: str
    change: str
    apply: Callable[[], None] = field(compare=False, repr=False)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identifies the mutant, also after edits elsewhere in its file: it has the text of its line, not the number."""
        return self.file, self.function, self.text, self.change


def mutants_of(file: str, source: str) -> tuple[ast.Module, list[Mutant]]:
    """A module's tree and every change of it, in the order of the source.

    >>> [mutant.change for mutant in mutants_of("m.py", "def f(x, y):\\n    return x[1:] < y\\n")[1]]
    ['x[1:] < y -> x[1:] <= y', 'x[1:] < y -> x[1:] >= y', 'x[1:] -> x[:]', '1 -> 2']
    """
    tree = ast.parse(source)
    finder = _Finder(file, source.splitlines())
    finder.visit(tree, ())
    return tree, finder.mutants


class _Finder:
    def __init__(self, file: str, lines: list[str]) -> None:
        self.file, self.lines, self.mutants = file, lines, list[Mutant]()
        self.alike = Counter[tuple[str, ...]]()

    def visit(self, node: ast.AST, function: tuple[str, ...]) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            function = (*function, node.name)
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "bases", "type_comment"}:
                continue
            for owner, at, child in _slots(node, name, value):
                if not _only_words(child):
                    self._changes(owner, at, child, function)
                    if not isinstance(child, ast.Raise):
                        self.visit(child, function)

    def _changes(self, owner: Any, at: Any, child: ast.AST, function: tuple[str, ...]) -> None:
        if isinstance(child, ast.BinOp) and isinstance(child.op, ast.BitOr) and not function:
            return  # a union of types
        for change, new in (*_statements(child), *_expressions(child)):
            line = getattr(child, "lineno", 0)
            text = self.lines[line - 1].strip()
            self.alike[text, change, *function] += 1
            if (number := self.alike[text, change, *function]) > 1:
                change = f"{change} #{number}"
            new = ast.fix_missing_locations(ast.copy_location(new, child))
            self.mutants.append(Mutant(self.file, line, ".".join(function), text, change, _setter(owner, at, new)))


def _slots(node: ast.AST, name: str, value: Any) -> Iterator[tuple[Any, Any, ast.AST]]:
    """The children in a field: for each its owner, its name or number there, and the child itself."""
    if isinstance(value, list):
        yield from ((value, number, child) for number, child in enumerate(value) if isinstance(child, ast.AST))
    elif isinstance(value, ast.AST):
        yield node, name, value


def _setter(owner: Any, at: Any, new: ast.AST) -> Callable[[], None]:
    return (lambda: owner.__setitem__(at, new)) if isinstance(owner, list) else (lambda: setattr(owner, at, new))


def _only_words(node: ast.AST) -> bool:
    """Whether a part of the source is only for people or type checkers and computes nothing."""
    match node:
        case ast.JoinedStr() | ast.arguments(defaults=[], kw_defaults=[]) | ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="__init__"))):
            return True  # without this call, a module of torch cannot be created
        case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.FunctionDef(name=name):
            return name in WORDS
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in SHOWN
        case ast.With(items=[ast.withitem(context_expr=ast.Call(func=ast.Attribute(attr="trace")))]):
            return True  # nnsight compiles this block from the file, which has no mutant
        case ast.keyword(arg=name):
            return name in CHECKS
    return False


def _statements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Statements that are left out, and jumps that become other jumps."""
    match node:
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Return(value=None) | ast.Raise() | ast.Delete():
            yield f"drop {_short(node)}", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            if not (isinstance(node.targets[0], ast.Attribute) and ast.unparse(node.targets[0].value) == "self"):
                yield f"drop {_short(node)}", ast.Pass()
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            if any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(value)):
                yield f"drop {_short(node)}", ast.Pass()
        case ast.Continue():
            yield "drop continue", ast.Pass()
            yield "continue -> break", ast.Break()
        case ast.Break():
            yield "break -> continue", ast.Continue()


def _expressions(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The same expression with one operator, number, name, end or argument changed."""
    for new in _operators(node):
        yield f"{_short(node)} -> {_short(new)}", new
    match node:
        case ast.IfExp(test=test) if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
            new = copy.deepcopy(node)
            new.test = ast.UnaryOp(ast.Not(), new.test)
            yield f"if {_short(test)} -> if {_short(new.test)}", new
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)) if value + 1 != value:
            yield f"{value} -> {value + 1}", ast.Constant(value + 1)
        case ast.Subscript(slice=ast.Slice() as cut):
            for end in ("lower", "upper", "step"):
                if getattr(cut, end) is not None:
                    new = copy.deepcopy(node)
                    setattr(new.slice, end, None)
                    yield f"{_short(node)} -> {_short(new)}", new
        case ast.Call():
            yield from _calls(node)


def _operators(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(ops=[first, *_]):
            for kind in SWAPPED[type(first)]:
                new = copy.deepcopy(node)
                new.ops[0] = kind()
                yield new
        case ast.BinOp(left=ast.List() | ast.ListComp() | ast.Tuple() | ast.Constant(value=str())):
            return  # lists and texts cannot be subtracted
        case ast.BinOp(op=op) | ast.BoolOp(op=op):
            for kind in SWAPPED.get(type(op), []):
                new = copy.deepcopy(node)
                new.op = kind()
                yield new
        case ast.UnaryOp(op=ast.Not(), operand=operand) | ast.UnaryOp(op=ast.Invert(), operand=operand):
            yield copy.deepcopy(operand)


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    """A call of the opposite function, with swapped axes, or without one of its keywords."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in NAMES:
        new = copy.deepcopy(node)
        setattr(new.func, "attr" if isinstance(new.func, ast.Attribute) else "id", NAMES[name])
        yield f"{_short(node)} -> {_short(new)}", new
    if name in AXES and len(node.args) >= 2:
        new = copy.deepcopy(node)
        new.args[-2:] = new.args[:-3:-1]
        yield f"{_short(node)} -> {_short(new)}", new
    for number, keyword in enumerate(node.keywords):
        if keyword.arg and keyword.arg not in CHECKS:
            new = copy.deepcopy(node)
            del new.keywords[number]
            yield f"drop {_short(keyword)} of {_short(node.func)}", new


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-25:]}"
