"""The one rule for small numbers, in tables and in figures: a power of ten that all share, which the header or the axis names.

Without it, effects of 1e-6 would be a table of 0.00.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEP = 3  # powers that numbers are scaled by: thousandths, millionths ...


@dataclass(frozen=True)
class Scale:
    """Numbers are shown as multiples of ``10**exponent``, with ``digits`` after the point; without one, each has its own power.

    >>> scale = Scale.of([-3.2e-6, 1e-7])
    >>> scale.text(-3.2e-6), scale.unit("change of logit")
    ('-3.20', 'change of logit, in 1e-6')
    """

    exponent: int | None = 0
    digits: int = 2

    @classmethod
    def of(cls, values: Iterable[float], digits: int = 2) -> Scale:
        """The scale for values that are shown together: plain if the largest has two significant digits, else the next power below.

        >>> Scale.of([0.12, 1e-6]), Scale.of([0.012, 1e-6]), Scale.of([float("nan"), 0.0])
        (Scale(exponent=0, digits=2), Scale(exponent=-3, digits=2), Scale(exponent=0, digits=2))
        """
        most = max((abs(value) for value in map(float, values) if math.isfinite(value)), default=0.0)
        # With no digits after the point, somebody asked for whole numbers, and .5 is 0 or 1.
        if not most or round(most, digits) >= 10.0 ** (1 - max(digits, 1)):
            return cls(0, digits)
        return cls(STEP * math.floor(math.log10(most) / STEP), digits)

    def scaled(self, value: float) -> float:
        """A value in this scale.

        >>> Scale(-3).scaled(0.002)
        2.0
        """
        return value / 10.0 ** (self.exponent or 0)

    def text(self, value: float) -> str:
        """A value as text; two dashes for NaN. Never "-0.00".

        >>> Scale().text(-0.001), Scale(-3).text(-0.001), Scale(None).text(-0.001), Scale().text(float("nan"))
        ('0.00', '-1.00', '-1e-03', '--')
        """
        if self.exponent is None and math.isfinite(value):
            return f"{value:.0e}"
        # Adding zero makes a rounded -0.0 plain 0.
        return "--" if math.isnan(value) else f"{round(self.scaled(value), self.digits) + 0.0:.{self.digits}f}"

    def hides(self, value: float) -> bool:
        """Whether a value that is not zero would read as zero.

        >>> Scale().hides(1e-6), Scale(-6).hides(1e-6), Scale().hides(0.0)
        (True, False, False)
        """
        shown = self.exponent is None or round(self.scaled(value), self.digits) != 0
        return math.isfinite(value) and value != 0 and not shown

    def seen(self, value: float) -> Scale:
        """This scale, or, for a value that it would hide, the scale in which each number has its own power.

        >>> Scale().seen(0.5), Scale().seen(1e-6)
        (Scale(exponent=0, digits=2), Scale(exponent=None, digits=2))
        """
        return Scale(None, self.digits) if self.hides(value) else self

    @property
    def note(self) -> str:
        """What a header says of the scale; empty if there is none.

        >>> Scale(-6).note, Scale().note
        ('in 1e-6', '')
        """
        return f"in 1e{self.exponent}" if self.exponent else ""

    def unit(self, unit: str) -> str:
        """A unit with the scale.

        >>> Scale(-6).unit("logit"), Scale().unit("logit")
        ('logit, in 1e-6', 'logit')
        """
        return ", ".join(filter(None, [unit, self.note]))


PLAIN = Scale()
