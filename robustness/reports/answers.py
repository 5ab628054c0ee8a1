"""The answer of a run in two sentences for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustness.definitions.tasks import TASKS, Head
from robustness.engine.evaluation import NO_ATTACK
from robustness.reports.attacks import WORST_CASE
from robustness.runs.record import PairRecord, RunRecord
from robustness.stats import Verdict

METHOD_NAMES = {
    "lora": "LoRA",
    "adalora": "AdaLoRA",
    "dora": "DoRA",
    "ia3": "(IA)3",
    "ssl": "SSL",
    "ssb": "SSB",
    "bitfit": "BitFit",
    "prefix": "prefix tuning",
    "prompt": "prompt tuning",
}
"""Adaptations as papers write them."""
PRIMARY_METRICS = ("accuracy", "robust_accuracy", "f1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader should take away about one pair."""

    pair: str
    method: str
    verdict: Verdict | None
    """The one word of the answer; None without a comparison. Mixed findings are inconclusive."""
    headline: str
    detail: str
    counts: tuple[tuple[Verdict, int], ...]
    caveats: tuple[str, ...]


def answer_methods(pairs: pd.DataFrame, record: RunRecord) -> list[Answer]:
    """Returns an answer for each method with several training seeds.

    Args:
        pairs: pairs.csv's rows.
        record: The run's.
    """
    rows = _primary(pairs)
    found = []
    for name, part in rows[rows["n_seeds"].astype(float) > 1].groupby("pair", sort=False):
        method, task = str(part["method"].iloc[0]), str(part["task"].iloc[0])
        siblings = [p for p in _pairs_of(method, record) if p.task == task]
        caveats = (*clean_gap(siblings, record), *opposite_drops(part))
        found.append(_answer(str(name), method_name(method), part, record, caveats))
    return found


def answer_pairs(pairs: pd.DataFrame, record: RunRecord) -> list[Answer]:
    """Returns an answer for each pair.

    Args:
        pairs: pairs.csv's rows.
        record: The run's.
    """
    rows = _primary(pairs)
    found = []
    for pair in record.pairs:
        part = rows[(rows["pair"] == pair.name) & (rows["n_seeds"].astype(float) == 1)]
        method = record.find_checkpoint(pair.candidate).adaptation
        siblings = [p for p in _pairs_of(method, record) if (p.task, p.base) == (pair.task, pair.base)]
        one_seed = ("one training seed: this compares two checkpoints, not two methods",)
        caveats = one_seed if len({p.seed for p in siblings}) < 2 else ()
        caveats = (*caveats, *clean_gap([pair], record), *opposite_drops(part))
        found.append(_answer(pair.name, method_name(method), part, record, caveats))
    return found


def _primary(pairs: pd.DataFrame) -> pd.DataFrame:
    rows = pairs[(pairs["population"] == "all") & pairs["metric"].isin(PRIMARY_METRICS)]
    return rows[rows["aggregation"] == "mean"]


def _pairs_of(method: str, record: RunRecord) -> list[PairRecord]:
    return [pair for pair in record.pairs if record.find_checkpoint(pair.candidate).adaptation == method]


def clean_gap(pairs: Sequence[PairRecord], record: RunRecord) -> tuple[str, ...]:
    """Returns what to bear in mind where the arms differ on clean examples, over pairs of one method on average.

    Nothing below one point.
    """
    arms = [(record.find_checkpoint(pair.reference), record.find_checkpoint(pair.candidate)) for pair in pairs]
    gap = sum(full.clean_accuracy - peft.clean_accuracy for full, peft in arms) / len(arms)
    if abs(gap) < 0.01:
        return ()
    better = "full" if gap > 0 else method_name(arms[0][1].adaptation)
    metric = "F1" if is_answering(pairs[0].task) else "accuracy"
    where = f"on the gate's {arms[0][0].n_clean:,} examples"
    difference = f"clean {metric} {where} differs by {points(abs(gap))} in favour of {better}"
    return (f"{difference}: part of any difference may be that",)


def opposite_drops(rows: pd.DataFrame) -> tuple[str, ...]:
    """Returns what to bear in mind where the arm that a verdict calls more fragile lost less from clean to robust."""
    peft, full = (rows[rows["verdict"] == word] for word in (Verdict.PEFT_MORE_FRAGILE, Verdict.FULL_MORE_FRAGILE))
    opposite = int((peft["drop_low"].astype(float) > 0).sum() + (full["drop_high"].astype(float) < 0).sum())
    if not opposite:
        return ()
    return (
        f"in {opposite} of {len(peft) + len(full)} of these the other arm lost more from clean to robust "
        "(drop_difference): the one called more fragile had less to lose",
    )


def _answer(name: str, method: str, rows: pd.DataFrame, record: RunRecord, caveats: tuple[str, ...]) -> Answer:
    counts = tuple((verdict, int((rows["verdict"] == verdict).sum())) for verdict in Verdict)
    if rows.empty:
        return Answer(name, method, None, "Nothing has been compared yet.", "", counts, caveats)
    tally = dict(counts)
    peft, full = tally[Verdict.PEFT_MORE_FRAGILE], tally[Verdict.FULL_MORE_FRAGILE]
    if peft and full:
        word, shown = (
            Verdict.INCONCLUSIVE,
            rows[rows["verdict"].isin([Verdict.PEFT_MORE_FRAGILE, Verdict.FULL_MORE_FRAGILE])],
        )
        headline = f"{method} is more fragile in {peft} and full fine-tuning in {full} of {_places(rows)}."
    elif peft or full:
        word = Verdict.PEFT_MORE_FRAGILE if peft else Verdict.FULL_MORE_FRAGILE
        fragile, other = (method, "full fine-tuning") if peft else ("Full fine-tuning", method)
        headline = f"{_capital(fragile)} is more fragile than {other} in {peft or full} of {_places(rows)}."
        shown = rows[rows["verdict"] == word]
    elif tally[Verdict.EQUIVALENT] == len(rows):
        word, shown = Verdict.EQUIVALENT, rows
        headline = (
            f"{_capital(method)} and full fine-tuning are equally robust, within {points(record.statistics.margin)}."
        )
    else:
        word, shown = Verdict.INCONCLUSIVE, rows[rows["verdict"] == Verdict.INCONCLUSIVE]
        headline = f"This run cannot tell {method} and full fine-tuning apart."
        if tally[Verdict.EQUIVALENT]:
            headline = (
                f"{_capital(method)} and full fine-tuning are equivalent in {tally[Verdict.EQUIVALENT]} of "
                f"{_places(rows)}; the others are inconclusive."
            )
    return Answer(name, method, word, headline, _detail(shown, method), counts, caveats)


def _detail(rows: pd.DataFrame, method: str) -> str:
    """The clearest comparison with its uncertainty; where nothing was found, what could have been."""
    clearest = _clearest(rows)
    sentence = (
        f"{'Clearest' if clearest.verdict != Verdict.INCONCLUSIVE else 'Largest gap'}: {place(clearest)}, where full "
        f"keeps {percent(clearest.reference_value)} and {method} {percent(clearest.candidate_value)}; the "
        "difference is "
        f"{signed_points(clearest.difference)} (95 % interval {signed(clearest.low)} to {signed(clearest.high)}, "
        f"{_adjusted(clearest.p_adjusted)}, n = {int(clearest.n)})"
    )
    if clearest.verdict == Verdict.INCONCLUSIVE and pd.notna(clearest.detectable):
        sentence += (
            f"; a sample like this finds a true difference of {points(clearest.detectable)} four times out of five, "
            "and smaller ones less often"
        )
    return sentence + "."


def _clearest(rows: pd.DataFrame) -> Any:
    """By p-value where there is a verdict, by size where there is none; worst case last among equals."""
    order = rows.assign(
        size=-rows["difference"].abs(),
        pooled=rows["attack"] == WORST_CASE,
        found=rows["verdict"] == Verdict.INCONCLUSIVE,
    )
    keys = ["size", "pooled"] if order["found"].all() else ["found", "p_adjusted", "size", "pooled"]
    return next(order.sort_values(keys, kind="stable").itertuples())


def place(row: Any) -> str:
    """Where a comparison was made, in words."""
    if row.attack == NO_ATTACK:
        return f"{row.testset} as it stands"
    if row.attack == WORST_CASE:
        return f"the worst case over all attacks on {row.testset}"
    return f"{row.attack} on {row.testset}"


def _places(rows: pd.DataFrame) -> str:
    return f"{len(rows)} comparison" + ("s" if len(rows) != 1 else "")


def is_answering(task: str) -> bool:
    """Whether a task is answering questions: its clean score is F1, and what knows nothing gives the whole paragraph.

    >>> is_answering("squad"), is_answering("sst2")
    (True, False)
    """
    return any(known.name == task and known.head is Head.ANSWERING for known in TASKS)


def method_name(adaptation: str) -> str:
    """An adaptation as papers write it; one's own as it is.

    >>> method_name("lora"), method_name("mine")
    ('LoRA', 'mine')
    """
    return METHOD_NAMES.get(adaptation, adaptation)


def spell_verdict(verdict: Verdict) -> str:
    """A verdict in words.

    >>> spell_verdict(Verdict.PEFT_MORE_FRAGILE)
    'PEFT more fragile'
    """
    return verdict.value.replace("-", " ").replace("peft", "PEFT")


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def percent(value: float) -> str:
    """A fraction as percent.

    >>> percent(0.0625)
    '6.2 %'
    """
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """The size of a difference of fractions in percentage points.

    >>> points(0.02), points(0.105)
    ('2 points', '10.5 points')
    """
    return f"{100 * value:.1f}".removesuffix(".0") + " points"


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


def _adjusted(p_value: float) -> str:
    return "adjusted p < 0.001" if p_value < 0.001 else f"adjusted p = {p_value:.2g}"


def join_words(words: Sequence[str]) -> str:
    """Words in a row.

    >>> join_words(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
