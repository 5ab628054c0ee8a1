"""The comparison of two golden files, example by example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from goldens.records import Golden, Key, Record

FIELDS = ("status", "text", "queries", "forwards")
ABSENT = "no outcome"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one example that is another than it was."""

    key: Key
    field: str
    expected: object
    got: object

    def __str__(self) -> str:
        return f"{' | '.join(self.key)}: {self.field}: expected {self.expected!r}, got {self.got!r}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs, and what else may be the cause than the engine."""

    causes: tuple[str, ...]
    """Libraries, processor, weights, rows or recipes that are others: differences may follow from them."""
    lost: tuple[str, ...]
    """Recipes that ran then and cannot be built now, with the reason: an asset is missing, or a recipe is broken."""
    new: tuple[str, ...]
    """Recipes that did not run then; they were not compared."""
    differences: tuple[Difference, ...]
    compared: int
    """Examples."""

    @property
    def is_same(self) -> bool:
        """Whether all that was stored came out again."""
        return not self.differences and not self.lost

    def __str__(self) -> str:
        cells = Counter(" | ".join(difference.key[:4]) for difference in self.differences)
        lines = [f"may be the cause: {cause}" for cause in self.causes if self.differences]
        lines += [f"lost: {recipe}" for recipe in self.lost] + [f"not compared: {recipe}" for recipe in self.new]
        lines += [str(difference) for difference in self.differences]
        lines += [f"{cell}: {count} differences" for cell, count in cells.items()]
        return "\n".join([*lines, f"{self.compared} examples compared, {len(self.differences)} differences"])


def compare(expected: Golden, got: Golden) -> Comparison:
    """Compares the outcomes of all recipes that both have."""
    then, now = _by_key(expected), _by_key(got)
    before, after = ({key[::3] for key in records} for records in (then, now))
    reasons = {(row.run, row.attack): row.reason for row in got.left_out}
    # One that is gone without a reason has lost its outcomes, which are differences.
    lost, new = {cell for cell in before - after if cell in reasons}, after - before
    keys = [key for key in dict.fromkeys([*then, *now]) if key[::3] not in lost | new]
    return Comparison(
        causes=tuple(_causes(expected, got)),
        lost=tuple(f"{' | '.join(cell)}: {reasons[cell]}" for cell in sorted(lost)),
        new=tuple(" | ".join(cell) for cell in sorted(new)),
        differences=tuple(
            difference for key in keys for difference in _differences(key, then.get(key), now.get(key))
        ),
        compared=len(keys),
    )


def _by_key(golden: Golden) -> dict[Key, Record]:
    return {record.key: record for record in golden.records}


def _differences(key: Key, expected: Record | None, got: Record | None) -> Iterator[Difference]:
    if expected is None or got is None:
        yield Difference(key, "status", *(ABSENT if record is None else record.status for record in (expected, got)))
        return
    for field in FIELDS:
        pair = getattr(expected, field), getattr(got, field)
        if pair[0] != pair[1]:
            yield Difference(key, field, *pair)


def _causes(expected: Golden, got: Golden) -> Iterator[str]:
    for then, now in ((expected.environment, got.environment), (expected.inputs, got.inputs)):
        for name in sorted(then.keys() & now.keys()):
            if then[name] != now[name]:
                yield f"{name} was {then[name]}, is {now[name]}"
