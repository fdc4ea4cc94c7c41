"""Numbers and times as the pages write them."""

from __future__ import annotations

import math
from datetime import datetime

from ..colours import number


def percent(share: float | None) -> str:
    """A fraction as a percentage, with a true minus; empty for NaN or None.

    >>> percent(0.934), percent(-0.02), percent(-0.001), percent(None)
    ('93 %', '−2 %', '0 %', '')
    """
    if share is None or not math.isfinite(share):
        return ""
    rounded = round(100 * share)
    return f"{'−' if rounded < 0 else ''}{abs(rounded)} %"


def brief(value: float, tight: bool = False) -> str:
    """An effect as text for a small cell: no plus, three digits, or two if ``tight``; a dot for NaN.

    >>> brief(-9.654), brief(-9.654, tight=True), brief(0.031, tight=True), brief(-0.0001)
    ('−9.65', '−9.7', '0.03', '0')
    """
    if not math.isfinite(value):
        return "·"
    size = abs(value)
    digits = 0 if size >= 100 else (1 if size >= 1 else 2) if tight or size >= 10 else 2
    text = f"{value:.{digits}f}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else "0"


def measured(value: float) -> str:
    """A number of the summary with three digits.

    >>> measured(0.984375), measured(-12.34567)
    ('0.984', '−12.3')
    """
    return f"{value:.3g}".replace("-", "−")


def hundredths(value: float) -> str:
    """A number with two digits after the point and a true minus; never a negative zero.

    >>> hundredths(-0.001), hundredths(-0.042)
    ('0.00', '−0.04')
    """
    return f"{value:z.2f}".replace("-", "−")


def moment(text: str | None) -> str:
    """An ISO time to the minute; any other text as it is.

    >>> moment("2026-11-22T15:30:12+00:00"), moment("yesterday"), moment(None)
    ('2026-11-22 15:30 UTC', 'yesterday', '')
    """
    try:
        return datetime.fromisoformat(text or "").strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return text or ""


def small(q: float) -> str:
    """A probability as text; empty for NaN.

    >>> small(0.0001), small(0.0312), small(1.0)
    ('< 0.001', '0.031', '1')
    """
    if not math.isfinite(q):
        return ""
    return "< 0.001" if q < 0.001 else f"{q:.3f}".rstrip("0").rstrip(".")


def interval(low: float, high: float) -> str:
    """An interval as text; empty if there is none.

    >>> interval(-1.2, -0.8), interval(float("nan"), 1.0)
    ('−1.20 to −0.80', '')
    """
    return f"{number(low)} to {number(high)}" if math.isfinite(low) else ""
