"""Text that shows what is in it: invisible and broken characters become their code points."""

from __future__ import annotations

import re
import unicodedata

_SUSPECT = re.compile(r"[^\x20-\x7e\n\u00a1-\u00ac\u00ae-\u02ff\u0400-\u04ff\u4e00-\u9fff]")
_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def visible(text: str) -> str:
    r"""Returns the text with control, format, private and unassigned characters and halves of surrogates spelled out.

    Markup and formulas stay unchanged: the page's writer escapes them.

    >>> visible("a\u202eb\x00 <i>")
    'a⟨U+202E⟩b⟨U+0000⟩ <i>'
    """
    return _SUSPECT.sub(_spell, text)


def _spell(match: re.Match[str]) -> str:
    character = match.group()
    if unicodedata.category(character) in _INVISIBLE:
        return f"⟨U+{ord(character):04X}⟩"
    return character
