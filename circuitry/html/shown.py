"""Values that show themselves: as HTML in a notebook, as text in a terminal. Importing this loads no template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup


class Shown:
    """A value that a notebook shows as HTML. ``_shown_`` says what is shown; if a class has none, the notebook shows its text.

    >>> class Greeting(Shown):
    ...     def __repr__(self):
    ...         return "<hello>"
    >>> "&lt;hello&gt;" in Greeting()._repr_html_()
    True
    """

    def _shown_(self) -> Iterable[Markup]:
        """The parts of the output, from ``circuitry.html.output``."""
        from .output import lines

        return [lines(repr(self))]

    def _repr_html_(self) -> str:
        from .output import output

        return output(*self._shown_())

    def __dir__(self) -> list[str]:
        # nnsight gives every object of Python a method `save`, which is not a method of this value.
        mounted = getattr(object, "save", None)
        return [name for name in super().__dir__() if name != "save" or getattr(type(self), "save", None) is not mounted]
