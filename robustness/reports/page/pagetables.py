"""The tables of the page, each made of one CSV file's rows or of run.json."""

from __future__ import annotations

import pandas as pd

from robustness.reports.comparisons.claims import Direction
from robustness.reports.page.cells import (
    PageColumn,
    PageTable,
    as_count,
    as_number,
    as_p,
    as_percent,
    as_points,
    page_table,
)
from robustness.reports.summaries.arms import Arms, arms_of_pair
from robustness.reports.summaries.probes import spell_direction
from robustness.reports.summaries.wording import signed, widen
from robustness.reports.tables.probes.predictions import MIN_SIDE
from robustness.reports.tables.probes.sensitivity import CHECK
from robustness.runs.storage.record import RunRecord

DIGITS = 12
"""Of a digest; run.json has all."""
_DIFFERENCE = "percentage points; above 0 the candidate is worse off: whether that is fragility the verdict says"
FLOOR = "what always giving the commonest label, or the whole paragraph as answer, would score"
_DETECTABLE = "points: a true difference of this size would be found with power .80, at the spread seen here"
_DROP = "points; how much more the candidate loses from clean to robust; above 0 it is worse off"
_SCOPE = "which tokens or weights may move, or were looked at"
_SIGMA = "of the noise that smooths the classifier, in median token norms"
_NOISE = "points: the share of answers that change with batch, order or merging; a smaller difference may be rounding"
_LEFT_OUT = "examples without a judged outcome on at least one arm"


def _pair_column(frame: pd.DataFrame) -> tuple[PageColumn, ...]:
    """Named only where there are several."""
    return (PageColumn("pair", "pair"),) if frame["pair"].nunique() > 1 else ()


def _seed_columns(frame: pd.DataFrame) -> tuple[PageColumn, ...]:
    """Only where a method was trained with several seeds."""
    if not frame["seed_sd"].notna().any():
        return ()
    return (
        PageColumn("n_seeds", "seeds", as_count),
        PageColumn("seed_sd", "between seeds", as_percent, "standard deviation of the difference, in points"),
        PageColumn("seed_sd_low", "low", as_percent, "lower end of its 95 % interval"),
        PageColumn("seed_sd_high", "high", as_percent, "upper end; wide with few seeds"),
        PageColumn(
            "seed_share", "seeds' share, %", as_percent, "of the variance of the difference; the rest: examples"
        ),
    )


def _noise_column(frame: pd.DataFrame) -> tuple[PageColumn, ...]:
    """Only where rounding changes answers."""
    noisy = frame["noise_floor"].astype(float) > 0
    return (PageColumn("noise_floor", "noise floor", as_points, _NOISE),) if noisy.any() else ()


def fragility_table(frame: pd.DataFrame, arms: Arms) -> PageTable:
    """fragility.csv."""
    columns = (
        PageColumn("where", "where"),
        PageColumn("what", "what"),
        PageColumn("n", "n", as_count, "examples both arms share"),
        *_value_columns(arms),
        PageColumn("difference", "difference", as_points, _DIFFERENCE),
        *_noise_column(frame),
        PageColumn("low", "low", as_low, "lower end of the 95 % interval"),
        PageColumn("high", "high", as_high, "upper end of the 95 % interval"),
        PageColumn("p_adjusted", "p adj.", as_p, "adjusted within its family"),
        PageColumn("verdict", "verdict"),
        PageColumn("detectable", "detectable", as_points, _DETECTABLE),
    )
    return page_table("fragility", "fragility.csv", frame, (*_pair_column(frame), *columns))


def pairs_table(frame: pd.DataFrame, arms: Arms) -> PageTable:
    """pairs.csv."""
    columns = (
        PageColumn("testset", "test set"),
        PageColumn("attack", "attack"),
        PageColumn("metric", "metric"),
        PageColumn("population", "examples"),
        PageColumn("n", "n", as_count),
        *_value_columns(arms),
        PageColumn("difference", "difference", as_points, _DIFFERENCE),
        *_noise_column(frame),
        PageColumn("low", "low", as_low, "lower end of the 95 % interval"),
        PageColumn("high", "high", as_high, "upper end of the 95 % interval"),
        PageColumn("p_adjusted", "p adj.", as_p, "adjusted within its family"),
        PageColumn("verdict", "verdict"),
        PageColumn("reason", "reason", hint="why a verdict was withheld or changed"),
        PageColumn("n_left_out", "left out", as_count, _LEFT_OUT),
        PageColumn("detectable", "detectable", as_points, _DETECTABLE),
        PageColumn("drop_difference", "drop", as_points, _DROP),
        PageColumn("family", "family", hint="of tests adjusted together; empty: a control, not counted"),
        PageColumn("test", "test"),
        PageColumn("p_value", "p", as_p, "not adjusted"),
    )
    return page_table("pairs", "pairs.csv", frame, (*_pair_column(frame), *columns, *_seed_columns(frame)))


def survival_table(frame: pd.DataFrame, arms: Arms) -> PageTable:
    """survival.csv."""
    reference, candidate = arms.reference.short, arms.candidate.short
    median = "half of the attacked examples broke within so many; empty: fewer than half broke"
    columns = (
        PageColumn("testset", "test set"),
        PageColumn("attack", "attack"),
        PageColumn("reference_n", f"n, {reference}", as_count, "examples attacked"),
        PageColumn("candidate_n", f"n, {candidate}", as_count, "examples attacked"),
        PageColumn("reference_median", f"median queries, {reference}", as_number, median),
        PageColumn("candidate_median", f"median queries, {candidate}", as_number, median),
        PageColumn("test", "test", hint="on the examples that both arms have right"),
        PageColumn("p_value", "p", as_p, "not adjusted"),
    )
    return page_table("survival", "survival.csv", frame, (*_pair_column(frame), *columns))


def _value_columns(arms: Arms) -> tuple[PageColumn, ...]:
    """Both arms' values, by what the arms are called."""
    return (
        PageColumn("reference_value", f"{arms.reference.short}, %", as_percent),
        PageColumn("candidate_value", f"{arms.candidate.short}, %", as_percent),
    )


def as_low(value: float) -> str:
    """The lower end of an interval in points, rounded outwards."""
    return signed(widen(value, value)[0])


def as_high(value: float) -> str:
    """The upper end of an interval in points, rounded outwards.

    >>> as_low(-0.0241), as_high(0.0201)
    ('\u22122.5', '+2.1')
    """
    return signed(widen(value, value)[1])


def probes_table(frame: pd.DataFrame) -> PageTable:
    """sensitivity.csv but for the checks."""
    return _sensitivity_table("probes", frame[~_are_checks(frame)])


def checks_table(frame: pd.DataFrame) -> PageTable:
    """sensitivity.csv's checks of other numbers: whether gradients are masked, and searches have ended."""
    return _sensitivity_table("checks", frame[_are_checks(frame)])


def _are_checks(frame: pd.DataFrame) -> pd.Series[bool]:
    return frame["quantity"].astype(str).str.startswith(CHECK)


def _sensitivity_table(name: str, frame: pd.DataFrame) -> PageTable:
    columns = (
        PageColumn("checkpoint", "checkpoint"),
        PageColumn("testset", "test set"),
        PageColumn("probe", "probe"),
        PageColumn("quantity", "quantity"),
        PageColumn("kind", "kind", hint="what the number bounds, if anything"),
        PageColumn("norm", "norm"),
        PageColumn("radius", "radius", as_number),
        PageColumn("sigma", "sigma", as_number, _SIGMA),
        PageColumn("scope", "scope", hint=_SCOPE),
        PageColumn("n", "n", as_count, "examples of this checkpoint with a number"),
        PageColumn("value", "value", as_number),
        PageColumn("low", "low", as_number),
        PageColumn("high", "high", as_number),
        PageColumn("unit", "unit"),
        PageColumn("status", "status"),
        PageColumn("reason", "reason", hint="why the status is not ok"),
    )
    return page_table(name, "sensitivity.csv", frame, columns)


def sensitivity_pairs_table(frame: pd.DataFrame, record: RunRecord) -> PageTable:
    """sensitivity_pairs.csv, but for single layers; directed numbers first."""
    names = {pair.name: arms_of_pair(pair, record).shorts for pair in record.pairs}
    flat = frame[frame["layer"].isna() & frame["module"].isna() & ~_are_checks(frame)]
    flat = flat.sort_values("direction", key=lambda column: column == Direction.NEUTRAL, kind="stable")
    words = [spell_direction(row.direction, names[row.pair]) or "no claim" for row in flat.itertuples()]
    reference, candidate = next(iter(names.values())) if len(set(names.values())) == 1 else ("reference", "candidate")
    columns = (
        PageColumn("testset", "test set"),
        PageColumn("probe", "probe"),
        PageColumn("quantity", "quantity"),
        PageColumn("kind", "kind", hint="what the number bounds, if anything"),
        PageColumn("norm", "norm"),
        PageColumn("radius", "radius", as_number),
        PageColumn("sigma", "sigma", as_number, _SIGMA),
        PageColumn("scope", "scope", hint=_SCOPE),
        PageColumn("n", "n", as_count, "examples with a number on both arms"),
        PageColumn("reference_value", reference, as_number, "median or mean over these examples"),
        PageColumn("candidate_value", candidate, as_number, "median or mean over these examples"),
        PageColumn("ratio", "ratio", as_number, f"median of {candidate} / {reference} by example"),
        PageColumn("difference", "difference", as_number, f"of means; above 0, {candidate} is worse off"),
        PageColumn("low", "low", as_number, "lower end of the 95 % interval of ratio or difference"),
        PageColumn("high", "high", as_number, "upper end of the 95 % interval of ratio or difference"),
        PageColumn("p_adjusted", "p", as_p, "adjusted over the pair's numbers that may support a claim"),
        PageColumn("unit", "unit", hint="of the values"),
        PageColumn("more_sensitive", "more sensitive"),
        PageColumn("reason", "why no claim"),
    )
    return page_table(
        "sensitivity-pairs",
        "sensitivity_pairs.csv",
        flat.assign(more_sensitive=words),
        (*_pair_column(flat), *columns),
    )


def predictions_table(frame: pd.DataFrame) -> PageTable:
    """predictions.csv."""
    columns = (
        PageColumn("checkpoint", "checkpoint"),
        PageColumn("testset", "test set"),
        PageColumn("probe", "probe"),
        PageColumn("quantity", "quantity"),
        PageColumn("norm", "norm"),
        PageColumn("radius", "radius", as_number),
        PageColumn("sigma", "sigma", as_number, _SIGMA),
        PageColumn("scope", "scope"),
        PageColumn("attack", "attack"),
        PageColumn("n", "n", as_count, "values that may be read, of examples right before the attack"),
        PageColumn("n_broken", "broken", as_count),
        PageColumn("auc", "AUC", as_number, f"empty unless {MIN_SIDE} broke and {MIN_SIDE} withstood"),
        PageColumn("low", "low", as_number),
        PageColumn("high", "high", as_number),
        PageColumn("rank_correlation", "rank correlation", as_number, "Spearman's, with the effort to break"),
        PageColumn("effort", "effort", hint="what the attack spends; an example that withstood takes more than any"),
    )
    return page_table("predictions", "predictions.csv", frame, columns)


def missing_table(frame: pd.DataFrame) -> PageTable:
    """The cells an interrupted run has not finished."""
    columns = (
        PageColumn("checkpoint", "checkpoint"),
        PageColumn("testset", "test set"),
        PageColumn("attack", "attack"),
        PageColumn("n", "outcomes", as_count),
        PageColumn("n_expected", "of", as_count),
    )
    return page_table("cells", "run.sqlite", frame, columns)


def checkpoint_table(record: RunRecord) -> PageTable:
    """What the gate measured."""
    columns = (
        PageColumn("name", "checkpoint"),
        PageColumn("method", "method"),
        PageColumn("changed", "changed of the base"),
        PageColumn("task", "task"),
        PageColumn("base", "base"),
        PageColumn("train_seed", "training seed", as_number),
        PageColumn("train_seconds", "training, s", as_number),
        PageColumn(
            "clean_accuracy", "clean, %", as_percent, "accuracy, of questions F1, on clean examples before the run"
        ),
        PageColumn("majority_share", "floor, %", as_percent, FLOOR),
        PageColumn("n_clean", "n", as_count),
        PageColumn("weights_digest", "weights"),
    )
    rows = [
        c.model_dump() | {"method": c.method, "weights_digest": c.weights_digest[:DIGITS]} for c in record.checkpoints
    ]
    packed = any(each.quantised_changed is not None for each in record.checkpoints)
    return page_table("checkpoints", "run.json", pd.DataFrame(rows), (*columns, *(_PACKED if packed else ())))


_PACKED = (
    PageColumn("base_precision", "base", hint="under an adapter; 4bit: NF4, never merged"),
    PageColumn("quantised_changed", "4 bits change, %", as_percent, "share of answers, 4 bit against full precision"),
    PageColumn("quantised_probability", "probability", as_number, "largest difference of a right answer's, likewise"),
    PageColumn("n_quantised", "n", as_count, "clean texts asked about in both precisions"),
)


def refused_table(record: RunRecord) -> PageTable:
    """The pairs that were asked for and not compared."""
    columns = (PageColumn("name", "pair"), PageColumn("reason", "why it is not compared"))
    return page_table("refused", "run.json", pd.DataFrame([each.model_dump() for each in record.refused]), columns)


def testset_table(record: RunRecord) -> PageTable:
    """What was loaded."""
    columns = (
        PageColumn("name", "test set"),
        PageColumn("task", "task"),
        PageColumn("kind", "kind"),
        PageColumn("provenance", "provenance"),
        PageColumn("n_used", "used", as_count),
        PageColumn("n", "of", as_count),
        PageColumn("digest", "digest"),
    )
    return page_table(
        "testsets",
        "run.json",
        pd.DataFrame([t.model_dump() | {"digest": t.digest[:DIGITS]} for t in record.testsets]),
        columns,
    )
