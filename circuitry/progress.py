"""Progress bars, and a line about a step that takes long: on stderr or in a notebook's cell, and nowhere if nobody watches.

All bars of circuitry come from ``bar``. At most two are visible at a time, one inside the other. In a notebook they share one
output, which is empty when the outermost has finished; ``together`` keeps the bars of a longer piece of work in one output.
"""

from __future__ import annotations

import html
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn, TypeVar, overload

from tqdm import TqdmWarning, tqdm

Item = TypeVar("Item")
MOST = 2
"""How many bars are visible at a time."""
DELAY = 0.5
"""Seconds before a notebook draws a bar: one that is over by then would only flicker."""
STEP = 0.1
"""Seconds between two drawings of a bar in a notebook."""
PATIENCE = 3.0
"""After how many seconds a step says what it does."""
IMPORTS = "importing torch, transformers and pandas; a process does it once, and it takes longest right after an installation"
LARGE = ("torch", "transformers.modeling_utils", "pandas", "scipy.stats", "matplotlib.pyplot", "nnsight")
"""Libraries whose import takes about a second or more."""
_SAID: set[str] = set()


@overload
def bar(iterable: None = None, desc: str = "", *, show: bool | None = None, **options: Any) -> tqdm[NoReturn]: ...
@overload
def bar(iterable: Iterable[Item], desc: str = "", *, show: bool | None = None, **options: Any) -> tqdm[Item]: ...
def bar(iterable: Iterable[Item] | None = None, desc: str = "", *, show: bool | None = None, **options: Any) -> tqdm[Any]:
    """A bar of tqdm with its ``options``, which leaves nothing behind. Also a context, which closes it.

    ``show``: None shows it where somebody watches, which is a terminal or a notebook; True and False decide. Inside two visible bars,
    none is shown. The environment variable ``TQDM_DISABLE=1`` hides those that are not asked for with True.

    >>> with bar(total=3, desc="cells", show=False) as some:
    ...     some.update(3)
    """
    hidden = not wanted(show) or len(_Bar.visible) >= MOST
    kind = _InNotebook if in_notebook() else _Bar
    # tqdm would redraw a bar the less often, the faster it once was; a slow layer after a fast one then looks like a standstill.
    return kind(iterable, desc[:60], disable=hidden, leave=False, **{"miniters": 1, **options})


def wanted(show: bool | None = None) -> bool:
    """Whether a bar is visible: if asked for, or by default in a terminal or a notebook.

    >>> wanted(True), wanted(False)
    (True, False)
    """
    if show is not None:
        return show
    silent = os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false")
    return not silent and (in_notebook() or sys.stderr.isatty())


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook.

    >>> in_notebook()
    False
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def without_widgets() -> None:
    """Keep tqdm from warning, in a notebook, that ipywidgets are missing: the libraries that import it here show no bars.

    >>> without_widgets()
    """
    if in_notebook():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TqdmWarning)
            from tqdm import auto  # noqa: F401 (whoever imports it next gets the same module)


@contextmanager
def together() -> Iterator[None]:
    """Within this context, all bars that a notebook shows are in one output, one after the other.

    >>> with together():
    ...     bar(range(3), show=False).close()
    """
    with _InNotebook.output:
        yield


@contextmanager
def slow(doing: str, *, show: bool | None = None, when: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Within this context, say on stderr what takes so long if it takes more than ``PATIENCE`` seconds; once per process.

    ``show`` is that of ``bar``, since a line that nobody reads is in the way. ``when`` is asked after that time whether to say it.

    >>> with slow("importing torch"):
    ...     pass
    """
    if doing in _SAID or not wanted(show):
        yield
        return
    timer = threading.Timer(PATIENCE, lambda: _say(doing) if when() else None)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def importing() -> bool:
    """Whether one of the large libraries is being imported at this moment, in any thread.

    >>> importing()
    False
    """
    specs = (getattr(sys.modules.get(name), "__spec__", None) for name in LARGE)
    return any(getattr(spec, "_initializing", False) for spec in specs)  # as Python's own message on circular imports asks


def _say(doing: str) -> None:
    if doing not in _SAID:
        _SAID.add(doing)
        tqdm.write(f"circuitry: {doing}", file=sys.stderr)  # above a bar


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar in a terminal that knows which others are visible."""

    visible: ClassVar[weakref.WeakValueDictionary[int, _Bar]] = (
        weakref.WeakValueDictionary()
    )  # a bar that nobody closed does not stay

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if not self.disable:
            self.visible[id(self)] = self

    def close(self) -> None:
        """Take the bar away."""
        self.visible.pop(id(self), None)
        super().close()


class _Output:
    """The output of a notebook's cell that bars share. Entered by each bar and by ``together``; the last one to leave empties it."""

    def __init__(self) -> None:
        self.users, self.handle = 0, None

    def __enter__(self) -> None:
        self.users += 1

    def __exit__(self, *_: Any) -> None:
        self.users -= 1
        if not self.users and self.handle is not None:
            self.handle.update({"text/plain": ""}, raw=True)
            self.handle = None

    def draw(self) -> None:
        from IPython.display import display

        shown = [one for one in _Bar.visible.values() if isinstance(one, _InNotebook)]
        mime = {"text/plain": "\n".join(map(str, shown)), "text/html": "<br>".join(one.html() for one in shown)}
        if self.handle is None:
            self.handle = display(mime, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self.handle.update(mime, raw=True)


class _InNotebook(_Bar):
    """A bar in a notebook: HTML, without widgets, so that it needs no extension and leaves nothing in the file."""

    output = _Output()

    def __init__(self, *args: Any, **options: Any) -> None:
        # With gui=True, tqdm itself prints nothing.
        super().__init__(*args, **{"gui": True, "delay": DELAY, "mininterval": STEP, **options})
        if not self.disable:
            self.output.__enter__()

    def display(self, *_: Any, **__: Any) -> None:
        """Draw the visible bars."""
        self.output.draw()

    def html(self) -> str:
        """The bar as HTML."""
        share = f' value="{self.n}" max="{self.total}"' if self.total else ""
        text = html.escape(self.format_meter(**{**self.format_dict, "ncols": 0, "bar_format": None}))
        return f"<progress{share}></progress> <code>{text}</code>"

    def close(self) -> None:
        """Take the bar away; the last one leaves an empty output."""
        was_open = not self.disable
        super().close()
        if was_open:
            self.output.__exit__()
