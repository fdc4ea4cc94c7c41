"""Effects as colours and as text: red below zero, blue above, as ColorBrewer's RdBu (9 classes) has them. Needs no matplotlib."""

from __future__ import annotations

import math

_RDBU = ("b2182b", "d6604d", "f4a582", "fddbc7", "f7f7f7", "d1e5f0", "92c5de", "4393c3", "2166ac")
_STOPS = [tuple(int(stop[i : i + 2], 16) for i in (0, 2, 4)) for stop in _RDBU]
UNKNOWN = "#e6e6e6"


def fill(effect: float, limit: float) -> str:
    """The colour of an effect between ``-limit`` and ``limit``, white at zero; grey for NaN.

    >>> fill(-2, 2), fill(0, 2), fill(2, 2)
    ('#b2182b', '#f7f7f7', '#2166ac')
    """
    if not math.isfinite(effect):
        return UNKNOWN
    place = (min(max(effect / limit, -1.0), 1.0) + 1) / 2 * (len(_STOPS) - 1)
    below = min(int(place), len(_STOPS) - 2)
    mixed = (a + (place - below) * (b - a) for a, b in zip(_STOPS[below], _STOPS[below + 1], strict=True))
    return "#" + "".join(f"{round(value):02x}" for value in mixed)


def ink(effect: float, limit: float) -> str:
    """Black or white, whichever is read more easily on ``fill(effect, limit)``.

    >>> ink(2, 2), ink(0, 2)
    ('#ffffff', '#222222')
    """
    colour = fill(effect, limit)
    linear = (((int(colour[i : i + 2], 16) / 255 + 0.055) / 1.055) ** 2.4 for i in (1, 3, 5))
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    # Where white and near-black have the same WCAG contrast, 1.05 / (L + 0.05) = (L + 0.05) / 0.066.
    return "#ffffff" if luminance < 0.213 else "#222222"


def arrow_colour(effect: float) -> str:
    """The colour of an arrow: dark enough to be seen however small the effect is.

    >>> arrow_colour(-0.01), arrow_colour(0.01)
    ('#b2182b', '#2166ac')
    """
    return "#777777" if not effect or not math.isfinite(effect) else "#b2182b" if effect < 0 else "#2166ac"


def number(effect: float) -> str:
    """An effect as signed text, with a true minus; nothing for NaN.

    >>> number(-1.234), number(0.0), number(0.0312), number(float("nan")), number(-120.3), number(0.0002)
    ('−1.23', '0', '+0.03', '', '−120', '+2e−04')
    """
    if not math.isfinite(effect):
        return ""
    if abs(effect) < 0.0005:
        return f"{effect:+.0e}".replace("-", "−") if effect else "0"
    digits = 0 if abs(effect) >= 100 else 2 if abs(effect) >= 0.01 else 3
    return f"{effect:+.{digits}f}".replace("-", "−")
