"""Numbers as sentences write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

NO_BREAK = "\xa0"


def percent(value: float) -> str:
    """A fraction as percent.

    >>> percent(0.0625)
    '6.2 %'
    """
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """The size of a difference of fractions in percentage points.

    >>> points(0.02), points(0.105), points(0.01)
    ('2 points', '10.5 points', '1 point')
    """
    number = f"{100 * value:.1f}".removesuffix(".0")
    return f"{number} point" + ("" if number == "1" else "s")


def signed(value: float) -> str:
    """A difference of fractions as points with its sign, a true minus, and no sign on zero.

    >>> signed(0.1), signed(-0.025), signed(0.0)
    ('+10.0', '\u22122.5', '0.0')
    """
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\u2212")


def signed_points(value: float) -> str:
    """As `signed`, with the unit."""
    return f"{signed(value)} points"


def widen(low: float, high: float) -> tuple[float, float]:
    """Returns the ends of an interval at three decimals, rounded outwards.

    An interval that leaves a margin of whole thousandths then never reads as if it ended on it.

    >>> widen(-0.0241, 0.0201), widen(-0.02, 0.02)
    ((-0.025, 0.021), (-0.02, 0.02))
    """
    ends = (round(1000 * end, 6) for end in (low, high))  # 0.02 times 1000 is 20 and not 20.000000000000004
    down, up = (function(end) / 1000 for function, end in zip((_floor, _ceil), ends, strict=True))
    return down, up


def _floor(value: float) -> float:
    return value if math.isnan(value) else math.floor(value)


def _ceil(value: float) -> float:
    return value if math.isnan(value) else math.ceil(value)


def span(low: float, high: float) -> str:
    """An interval of a difference in points.

    >>> span(-0.0241, 0.02)
    '\u22122.5 to +2.0'
    """
    down, up = widen(low, high)
    return "not known" if math.isnan(down + up) else f"{signed(down)} to {signed(up)}"


def bracket(low: float, high: float) -> str:
    """An interval of a difference as fractions in a table.

    >>> bracket(-0.0241, 0.02), bracket(float("nan"), float("nan"))
    ('[-0.025, +0.020]', '[not known]')
    """
    down, up = widen(low, high)
    return "[not known]" if math.isnan(down + up) else f"[{down:+.3f}, {up:+.3f}]"


def short_p(value: float) -> str:
    """A p-value at three decimals, rounded up, so that one above the level never reads as if it were on it.

    >>> short_p(0.0004), short_p(0.0312), short_p(0.0501), short_p(0.05)
    ('<0.001', '0.032', '0.051', '0.050')
    """
    if math.isnan(value):
        return ""
    return "<0.001" if value < 0.001 else f"{_ceil(round(1000 * value, 6)) / 1000:.3f}"


def p_text(value: float, name: str = "p") -> str:
    """A p-value with its name.

    >>> p_text(0.0004), p_text(0.0312, "adjusted p")
    ('p < 0.001', 'adjusted p = 0.032')
    """
    return f"{name} < 0.001" if value < 0.001 else f"{name} = {short_p(value)}"


def bind(text: str) -> str:
    """Keeps a number and its unit, and what stands on either side of = or <, on one line.

    >>> len(bind("83.3 % under LoRA, p < 0.001").split(" "))
    4
    """
    for sign in (" %", " points", " < ", " = "):
        text = text.replace(sign, sign.replace(" ", NO_BREAK))
    return text


def capital(text: str) -> str:
    """A sentence's start.

    >>> capital("full fine-tuning")
    'Full fine-tuning'
    """
    return text[:1].upper() + text[1:]


def join_words(words: Sequence[str]) -> str:
    """Words in a row.

    >>> join_words(["a", "b", "c"]), join_words(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
