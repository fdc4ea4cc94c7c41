"""Imports modules for a test with one change in them, or so that they report which of their functions are called."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REACHED = "__reached__"


class Changed:
    """An import finder that loads some modules from syntax trees instead of their files, so no file is changed."""

    def __init__(self, trees: Mapping[Path, ast.Module], reached: Callable[[str], None] | None = None) -> None:
        self.trees, self.reached = trees, reached

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module; ``importlib`` calls this on every finder."""
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None or Path(spec.origin) not in self.trees:
            return None
        spec.loader = _Loader(name, spec.origin, self.trees[Path(spec.origin)], self.reached)
        return spec

    def install(self) -> None:
        """Use this finder for all later imports of this process."""
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, tree: ast.Module, reached: Callable[[str], None] | None) -> None:
        super().__init__(name, path)
        self.tree, self.reached = tree, reached

    def get_code(self, fullname: str) -> Any:
        return compile(self.tree, self.path, "exec")

    def exec_module(self, module: Any) -> None:
        if self.reached is not None:
            setattr(module, REACHED, self.reached)
        super().exec_module(module)


def telling(file: str, source: str) -> ast.Module:
    """A module in which every function first calls ``REACHED`` with its name by ``name_of``.

    >>> print(ast.unparse(telling("m.py", "def f(x):\\n    return x")))
    def f(x):
        __reached__('m.py f')
        return x
    """
    tree = ast.parse(source)
    _tell(tree, file, ())
    return ast.fix_missing_locations(tree)


def name_of(file: str, function: str) -> str:
    """The name of a function among those of all files."""
    return f"{file} {function}"


def _tell(node: Any, file: str, outer: tuple[str, ...]) -> None:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            _tell(child, file, outer)
            continue
        _tell(child, file, (*outer, child.name))
        if isinstance(child, ast.FunctionDef):
            name = ast.Constant(name_of(file, ".".join((*outer, child.name))))
            call = ast.Expr(ast.Call(ast.Name(REACHED, ast.Load()), [name], []))
            # A docstring stays first, or it would not be one.
            child.body.insert(
                1 if ast.get_docstring(child, clean=False) is not None else 0, ast.copy_location(call, child.body[0])
            )
