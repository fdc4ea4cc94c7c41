"""The palette of all pictures and pages, and effects as colours and as text. Needs no matplotlib.

What carries the behaviour is blue, and what works against it is red, everywhere: in tables, circuits, bars and the explorer. An
effect carries the behaviour if it changes the metric as exchanging the whole input does; with noising, such an effect is usually
below zero. So a caller gives ``carried`` effects to the functions of this module. The colours are ColorBrewer's RdBu (9 classes).
"""

from __future__ import annotations

import functools
import math

_RDBU = ("b2182b", "d6604d", "f4a582", "fddbc7", "f7f7f7", "d1e5f0", "92c5de", "4393c3", "2166ac")
_STOPS = [tuple(int(stop[i : i + 2], 16) for i in (0, 2, 4)) for stop in _RDBU]
MEANING = "blue carries the behaviour, red works against it"
"""What a legend says of the two colours."""
UNKNOWN = "#e6e6e6"
FOUND, PERHAPS, OTHERS = "#1f66ac", "#92c5de", "#cccccc"
"""Colours of significant findings, of what the data do not decide, and of everything else."""
CATEGORIES = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")
"""Colours for things without an order, such as models (ColorBrewer's Dark2)."""
PAIR, PAIR_ON_DARK = ("#b35806", "#542788"), ("#e8a15a", "#b6a0e6")
"""Colours for two things side by side: orange and violet are safe for colour-blind readers, and no effect has them. On a dark page."""
FAMILIES = ("#d9e8f6", "#fde3c8", "#d8efd8", "#f6d9dc", "#e6def2", "#f3ecc8", "#d5eeee", "#efe0d6")
STREAM_FILL, STREAM, MOVES = "#e4e4e4", "#8a8a8a", "#b3541e"
"""In the diagram of an architecture: fills of node families; fill and line of the residual stream; arrows between tokens."""
INK, DARK, EDGE, GREY, LINE, PALE, FAINT = "#222222", "#444444", "#555555", "#666666", "#888888", "#bbbbbb", "#c8c8c8"
"""Text and lines, from dark to light."""
PALE_INK = "#5f5f5f"
"""Text on the pale colour of an effect that is not significant."""
ON_PALE, ON_DARK = "#1f1f1f", "#ffffff"
FAINT_ON_PALE, FAINT_ON_DARK = "#727272", "#cbcbcb"
"""Text on a coloured cell, which is the same on a white and on a dark page; faint if the effect is not significant."""
BOX_INK, WEAK_INK, STRONG_INK = "#040404", "#050505", "#fefefe"
"""Text on a box that stays black on a dark page, or turns: boxes of weak effects are dim there, and those of strong ones bright."""
AGAINST, TOWARDS = "#b0172b", "#1f66ac"
"""Arrows of effects against the behaviour and towards it: nearly the ends of the palette, but no cell has them: on a
dark page arrows are lighter, and cells stay."""
PAGE, BLACK, DARK_PAGE, DARK_INK = "#ffffff", "#000000", "#1b1d21", "#e8e8e8"
"""A white page, and text without a colour of its own; a dark page, and this text on it."""
ON_DARK_PAGE = {AGAINST: "#f0707c", TOWARDS: "#6fb0ea", WEAK_INK: "#ffffff", STRONG_INK: BOX_INK}
"""Arrows, and text on boxes, on a dark page."""
NOT_TURNED = frozenset({ON_PALE, BOX_INK, ON_DARK, FAINT_ON_PALE, FAINT_ON_DARK, PALE_INK, STREAM_FILL})
"""Fills without a hue that stay on a dark page: text on cells, and cells with text on them."""
PAPER = "#ffffff"
NONE_ON_DARK, LOW_ON_DARK, HIGH_ON_DARK, UNKNOWN_ON_DARK = "#252b32", "#ff7a6b", "#6cb8f0", "#3a424b"
"""On a dark page: the colour of no effect, of the most negative and of the most positive one, and of an effect that is not known."""
_EVEN = 0.18
"""The luminance on which black and white text have the same contrast."""
INK_ON_BRIGHT, INK_ON_DIM, INK_ON_PALE, INK_ON_FAINT = "#000000", "#ffffff", "#4c4c4c", "#c8cfd7"
"""Text of a page's cells: on bright and dim ones of a dark page; on what is not significant, of a light and of a dark page."""


def carried(effect: float, whole: float | None) -> float:
    """An effect with the sign by which it is coloured: above zero if it has that of the ``whole`` effect, and so carries the behaviour.

    As it is if the whole effect is not known (None) or zero.

    >>> carried(-2.0, whole=-3.0), carried(2.0, whole=-3.0), carried(-2.0, whole=None)
    (2.0, -2.0, -2.0)
    """
    return -effect if (whole or 0.0) < 0 else effect


def fill(effect: float, limit: float) -> str:
    """The colour of an effect between ``-limit`` and ``limit``, white at zero; grey for NaN.

    >>> fill(-2, 2), fill(0, 2), fill(2, 2)
    ('#b2182b', '#f7f7f7', '#2166ac')
    """
    if not math.isfinite(effect):
        return UNKNOWN
    # As few colours as an eye can tell apart, so that a picture on a dark page can turn each of them.
    position = (min(max(round(effect / limit, 3), -1.0), 1.0) + 1) / 2 * (len(_STOPS) - 1)
    below = min(int(position), len(_STOPS) - 2)
    mixed = (a + (position - below) * (b - a) for a, b in zip(_STOPS[below], _STOPS[below + 1], strict=True))
    return "#" + "".join(f"{round(value):02x}" for value in mixed)


def ink(effect: float, limit: float) -> str:
    """The colour of text on ``fill(effect, limit)``: black or white, whichever has more contrast.

    >>> ink(2, 2), ink(0, 2)
    ('#ffffff', '#1f1f1f')
    """
    colour = fill(effect, limit)
    linear = (((int(colour[i : i + 2], 16) / 255 + 0.055) / 1.055) ** 2.4 for i in (1, 3, 5))
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    # Where white and near-black have the same WCAG contrast, 1.05 / (L + 0.05) = (L + 0.05) / 0.066.
    return ON_DARK if luminance < 0.213 else ON_PALE


def box_ink(effect: float, limit: float) -> str:
    """The colour of text on a box of ``fill(effect, limit)`` in a picture, which turns on a dark page if the box's contrast does.

    >>> box_ink(0.1, 2), box_ink(1.4, 2), box_ink(2, 2)
    ('#050505', '#040404', '#fefefe')
    """
    pale, bright = (_luminance(colour) > _EVEN for colour in (fill(effect, limit), _on_dark(effect, limit)))
    return (BOX_INK if bright else WEAK_INK) if pale else (STRONG_INK if bright else ON_DARK)


def fill_on_dark(colour: str) -> str | None:
    """What becomes of a ``fill`` on a dark page: the brighter the larger the effect. None for a colour that is not one.

    >>> fill_on_dark(fill(-2, 2)), fill_on_dark(fill(2, 2)), fill_on_dark("#1b9e77")
    ('#ff7a6b', '#6cb8f0', None)
    """
    return _fills_on_dark().get(colour)


@functools.cache
def _fills_on_dark() -> dict[str, str]:
    return {fill(effect, 1.0): _on_dark(effect, 1.0) for effect in (math.nan, *(step / 1000 for step in range(-1000, 1001)))}


def paint(value: float, most: float, found: bool = True) -> tuple[str, str]:
    """The colours of a cell and of its text, on a light and on a dark page, as CSS.

    They are pale (on a dark page, dim) if the effect is not significant, so that noise does not catch the eye.

    >>> paint(-2.0, 2.0)[0], paint(-2.0, 2.0, found=False)[1]
    ('light-dark(#b2182b,#ff7a6b)', 'light-dark(#4c4c4c,#c8cfd7)')
    """
    light, dark = fill(value, most), _on_dark(value, most)
    if found:
        return _either(light, dark), _either(ink(value, most), INK_ON_BRIGHT if _luminance(dark) > _EVEN else INK_ON_DIM)
    return _either(mixed(PAPER, light, 0.35), mixed(NONE_ON_DARK, dark, 0.3)), _either(INK_ON_PALE, INK_ON_FAINT)


def mixed(first: str, second: str, share: float) -> str:
    """A colour between two, ``share`` of it the second.

    >>> mixed("#ffffff", "#000000", 0.5)
    '#808080'
    """
    pairs = ((int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)


def _on_dark(value: float, most: float) -> str:
    """The colour of an effect on a dark page: that of the page's cards at zero, the brighter the larger the effect."""
    if not math.isfinite(value):
        return UNKNOWN_ON_DARK
    return mixed(NONE_ON_DARK, LOW_ON_DARK if value < 0 else HIGH_ON_DARK, min(abs(value) / most, 1.0))


def _luminance(colour: str) -> float:
    linear = (((int(colour[i : i + 2], 16) / 255 + 0.055) / 1.055) ** 2.4 for i in (1, 3, 5))
    return float(sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))


def _either(light: str, dark: str) -> str:
    return f"light-dark({light},{dark})"


def arrow_colour(effect: float) -> str:
    """The colour of an arrow by the sign of its carried effect, grey if it was not measured, dark enough to be seen even if the effect is small.

    >>> arrow_colour(-0.01), arrow_colour(0.01)
    ('#b0172b', '#1f66ac')
    """
    return "#777777" if not effect or not math.isfinite(effect) else AGAINST if effect < 0 else TOWARDS


def clipped(text: str, most: int = 28) -> str:
    """A label on one line, with dots in place of what is longer than a picture has room for.

    >>> clipped("closing brackets"), clipped("the first word after a\\nclosing bracket", 20)
    ('closing brackets', 'the first word afte…')
    """
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def number(effect: float) -> str:
    """An effect as signed text, with a true minus; empty for NaN.

    >>> number(-1.234), number(0.0), number(0.0312), number(float("nan")), number(-120.3), number(0.0002)
    ('−1.23', '0', '+0.03', '', '−120', '+2e−04')
    """
    if not math.isfinite(effect):
        return ""
    if abs(effect) < 0.0005:
        return f"{effect:+.0e}".replace("-", "−") if effect else "0"
    digits = 0 if abs(effect) >= 100 else 2 if abs(effect) >= 0.01 else 3
    return f"{effect:+.{digits}f}".replace("-", "−")
