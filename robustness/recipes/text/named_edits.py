"""The edits of single words that need no options, by the names that recipe files use."""

from __future__ import annotations

from robustness.recipes.text.imperceptible import IMPERCEPTIBLE_EDITS
from robustness.recipes.text.inner_edits import INNER_EDITS
from robustness.recipes.text.invariances import write_out_contraction
from robustness.recipes.text.transformations import CHARACTER_EDITS, Transformation

NAMED_EDITS: dict[str, Transformation] = {
    **CHARACTER_EDITS,
    **INNER_EDITS,
    **IMPERCEPTIBLE_EDITS,
    "write-out-contractions": write_out_contraction,
}
