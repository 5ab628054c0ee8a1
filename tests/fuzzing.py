"""Hostile texts: what parsers of responses are fed in the tests and, in greater number, by `make soak`."""

from __future__ import annotations

import time
from collections.abc import Callable
from timeit import timeit

from hypothesis import strategies as st

PIECES = (
    *"0123456789,./%$-+()[]{}\"':;#_ \n\teE",
    *("####", "1/2", "1,000", "None", "inform(", "name[", "]", "])", '{"a":', "NaN", "\\boxed{", "1e9", "cannot be"),
    *("\u00bd", "\u2212", "\u2044", "\ud800", "\x00", "\u0663", "\u20ac", "\u2028"),
)
"""Out of which grammars are made, and characters that look like them."""

TEXTS = st.text(st.characters(codec=None), max_size=60) | st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
"""Any text, and texts close to what parsers read."""

HOSTILE = (
    *'1,./-$ (){}[]"n',
    *("1,111", "1,", "1 ", "1/", "1.", "1e", "1 1/", "-$", "####", "none", "cannot be ", "9" * 40 + ",", "111,"),
    *("\u00bd", "a[", "a[b],", "a(b[", " \n", '{"a":', "[[", '["a",'),
)
"""Repeated, each makes a text at which a careless parser takes quadratic time."""


def seconds_for(parse: Callable[[str], object], unit: str, characters: int) -> float:
    """Returns how long one text of so many characters takes, alone and with what could end a grammar behind it.

    Processor time without garbage collection: neither other work on the machine nor other tests' objects count.
    """
    text = unit * (characters // len(unit))
    texts = (text, f"inform({text})", f"#### {text}x", f"{{{text}}}")
    return timeit(lambda: [parse(whole) for whole in texts], number=1, timer=time.process_time)
