"""Made-up rows whose label one word tells, so that a tiny base learns it."""

from __future__ import annotations

import random
from pathlib import Path

GOOD = ("fine", "lovely", "superb", "warm", "bright", "clever", "tender", "charming")
BAD = ("dull", "awful", "clumsy", "cold", "bleak", "stupid", "noisy", "tedious")
FILLERS = tuple(f"{start}{end}" for start in ("film", "plot", "song", "scene", "meal") for end in ("", "s", "like"))
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *FILLERS, "the", "is", ".")


def write_splits(folder: Path, *, train: int, dev: int) -> None:
    """Writes train.tsv and dev.tsv with so many different rows, labels in turn."""
    draw = random.Random(3)
    seen: set[str] = set()
    for split, rows in (("train", train), ("dev", dev)):
        lines = ["sentence\tlabel"]
        while len(lines) <= rows:
            label = (len(lines) - 1) % 2
            text = f"the {draw.choice(FILLERS)} {draw.choice(FILLERS)} is {draw.choice((BAD, GOOD)[label])} ."
            if text not in seen:
                seen.add(text)
                lines.append(f"{text}\t{label}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
