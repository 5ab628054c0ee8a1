"""All comparisons of a run on the terminal, with controls, probes and the sentences that the answer rests on."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich.markup import escape

from robustness.reports.comparisons.comparison import Family
from robustness.reports.comparisons.methods import pairs_of_methods
from robustness.reports.page.writing import FILE_NAME as PAGE
from robustness.reports.report import Report
from robustness.reports.run_comparison import RunComparison
from robustness.reports.summaries.arms import FULL, Arms, arms_of_pair, arms_of_run
from robustness.reports.summaries.cells import VERDICT, arm_column, name_compared, verdict_cell
from robustness.reports.summaries.ending import describe_gaps
from robustness.reports.summaries.fitting import INDENT, Column, FittingTable, Part, Sentence
from robustness.reports.summaries.probes import render_probes
from robustness.reports.summaries.sentences import SUCCESS_RATE, efforts_at_floor
from robustness.reports.summaries.summary import Summary, summarise_run
from robustness.reports.summaries.tallies import controls, of_family
from robustness.reports.summaries.wording import bracket, short_p
from robustness.reports.tables.columns import Table
from robustness.reports.tables.pairs import IRREDUCIBLE_SHARE
from robustness.runs.storage.record import PairRecord, RunRecord
from robustness.stats import Correction
from robustness.tasks.graders import grader_for
from robustness.tasks.objective import ObjectiveKind

CORRECTIONS = {Correction.HOLM: "Holm", Correction.BENJAMINI_HOCHBERG: "Benjamini and Hochberg"}
PAIRS_WITH_PROBES = 4
"""With more pairs, what probes measured is left to the files."""
FEW_PAIRS = 4
"""Headlines of single pairs above the answers about their methods; of more they would push those away."""
MOSTLY_SEEDS = 0.5


def render_summary(report: Report) -> Iterator[Part]:
    """Yields what `--verbose` shows: comparisons, controls, probes, warnings; last the answer and the files."""
    record, pairs = report.record, report.tables[Table.PAIRS]
    single = pairs[pairs["n_seeds"].astype(float) == 1]
    for pair in record.pairs:
        yield from _render_pair(pair, single[single["pair"] == pair.name], record)
        if len(record.pairs) <= PAIRS_WITH_PROBES:
            yield from render_probes(report.tables, pair, record)
    if len(record.pairs) > PAIRS_WITH_PROBES and len(report.tables[Table.SENSITIVITY]):
        yield Sentence(
            "what probes measured fills pages for so many pairs: see sensitivity_pairs.csv and report.html"
        )
    yield from _over_seeds(pairs[pairs["n_seeds"].astype(float) > 1], report)
    yield from _notes(report)
    yield from _render_answers(pairs, record)
    yield Sentence(f"tables in {report.folder}: " + ", ".join(f"{table}.csv" for table in report.tables))
    yield escape(f"page: {report.folder / PAGE}")


def _render_pair(pair: PairRecord, rows: pd.DataFrame, record: RunRecord) -> Iterator[Part]:
    arms = arms_of_pair(pair, record)
    reference, candidate = (record.find_checkpoint(name) for name in (pair.reference, pair.candidate))
    grader = grader_for(record.find_task(pair.task))
    yield Sentence(f"pair {pair.name}: {arms.with_roles}")
    yield Sentence(
        f"clean {grader.measure} before the run: {arms.reference.short} {reference.clean_accuracy:.3f}, "
        f"{arms.candidate.short} {candidate.clean_accuracy:.3f}, {grader.floor} {reference.majority_share:.3f} "
        f"(n = {reference.n_clean})"
    )
    for arm, checkpoint in ((arms.reference, reference), (arms.candidate, candidate)):
        if checkpoint.changed and (checkpoint.adaptation != FULL or checkpoint.settings):
            yield Sentence(f"{arm.short} changed of its base: {checkpoint.changed}")
    yield from _blocks(rows, arms)


def _notes(report: Report) -> Iterator[Sentence]:
    """How to read the tables, and what is missing or doubtful."""
    correction = CORRECTIONS[Correction(report.record.statistics.correction)]
    yield Sentence("difference with 95 % interval: above 0, the candidate is worse off")
    yield Sentence(f"p adj.: by {correction} over the comparisons of one family")
    for attack in (attack.name for attack in report.record.attacks if attack.goal == ObjectiveKind.KEEP_PREDICTION):
        yield Sentence(f"{attack}: share of texts that could not be reduced, of those both get right; no accuracy")
    yield from describe_gaps(report)
    yield from map(Sentence, report.disagreements)
    for warning in report.record.warnings:
        yield Sentence(f"warning: {warning}")


def _render_answers(pairs: pd.DataFrame, record: RunRecord) -> Iterator[Sentence]:
    """Methods last and in full; of their pairs the headlines alone."""
    answers = summarise_run(pairs, record)
    if len(answers.folded) <= FEW_PAIRS:
        yield from map(_headline, answers.folded)
    for answer in answers.shown:
        yield _headline(answer)
        yield from (Sentence(sentence, indent=INDENT) for sentence in (*answer.details, *answer.caveats))


def _headline(answer: Summary) -> Sentence:
    return Sentence(f"{answer.name}: {answer.headline}", style="bold")


def _blocks(rows: pd.DataFrame, arms: Arms, *, with_pair: bool = False) -> Iterator[Part]:
    """The planned comparisons, then what is in families of its own, then the controls."""
    blocks = (
        ("planned comparisons", "", of_family(rows, Family.PLANNED)),
        ("other comparisons", ", not counted", _beside(rows)),
        ("controls", ", not counted; p not adjusted", controls(rows)),
    )
    for title, remark, block in blocks:
        for part in _parts(block, with_pair=with_pair):
            where = f" on {part['testset'].iloc[0]}" if part["testset"].nunique() == 1 else ""
            yield Sentence(f"{title}{where}{remark}")
            yield _comparison_table(_places(part, with_pair=with_pair), part, arms)


def _parts(rows: pd.DataFrame, *, with_pair: bool) -> list[pd.DataFrame]:
    """A part for each test set, so that names have room; one where a single thing was done to all of them.

    Beside a column of methods there is no room for one of test sets.
    """
    if rows.empty:
        return []
    if len({name_compared(row) for row in rows.itertuples()}) == 1 and not with_pair:
        return [rows]
    return [part for _, part in rows.groupby("testset", sort=False)]


def _beside(rows: pd.DataFrame) -> pd.DataFrame:
    """Other metrics and populations of all examples; effort only where both arms are nearly always broken."""
    efforts = efforts_at_floor(of_family(rows, Family.PLANNED), rows)
    in_family = rows["family"].notna() & ~rows["family"].isin(["", Family.PLANNED, Family.EFFORT])
    shown = rows["population"].isin(["all", "altered"]) | (rows["metric"] == IRREDUCIBLE_SHARE)
    return pd.concat([efforts, rows[in_family & shown & (rows["metric"] != SUCCESS_RATE)]])


def _over_seeds(rows: pd.DataFrame, report: Report) -> Iterator[Part]:
    """Every method in one table, place by place, and where its seeds tell most."""
    if rows.empty:
        return
    names = rows["pair"].unique()
    yield Sentence(f"over training seeds: {'; '.join(names)}")
    places = rows.groupby(["testset", "attack", "metric", "population", "aggregation"], sort=False).ngroup()
    ordered = rows.loc[places.sort_values(kind="stable").index]
    mine = [pair for each in pairs_of_methods(names, report.record).values() for pair in each]
    yield from _blocks(ordered, arms_of_run(mine, report.record), with_pair=len(names) > 1)
    uncertain = of_family(rows, Family.PLANNED)
    uncertain = uncertain[uncertain["seed_share"].astype(float) >= MOSTLY_SEEDS]
    yield Sentence("standard deviations of the difference between training seeds are in pairs.csv")
    if len(uncertain):
        yield Sentence("training seeds are half of the uncertainty or more at")
    for row in uncertain.itertuples():
        spread = f"{row.seed_sd:.3f} [{row.seed_sd_low:.3f}, {row.seed_sd_high:.3f}], {row.seed_share:.0%}"
        yield Sentence(f"{row.pair} | {row.testset} | {name_compared(row)}: {spread}", indent=INDENT)


def _places(rows: pd.DataFrame, *, with_pair: bool) -> dict[str, list[str]]:
    """The columns that say where a comparison is; a test set that all share is not one."""
    names = {"method": list(rows["pair"])} if with_pair else {}
    if rows["testset"].nunique() > 1:
        names["test set"] = list(rows["testset"])
    return names | {"attack": [name_compared(row) for row in rows.itertuples()]}


def _comparison_table(names: dict[str, list[str]], rows: pd.DataFrame, arms: Arms) -> FittingTable:
    adjusted = "p adj." if rows["p_adjusted"].notna().any() else "p"
    both = arm_column(arms.reference.short), arm_column(arms.candidate.short)
    numbers = (Column("n"), *both, Column("difference"), Column(adjusted))
    table = FittingTable([*(Column(name, is_name=True) for name in names), *numbers, VERDICT])
    for row, *labels in zip(rows.itertuples(), *names.values(), strict=True):
        table.rows.append(
            (
                *map(escape, labels),
                str(int(row.n)),
                f"{row.reference_value:.3f}",
                f"{row.candidate_value:.3f}",
                escape(f"{row.difference:+.3f} {bracket(row.low, row.high)}"),
                short_p(row.p_value if pd.isna(row.p_adjusted) else row.p_adjusted),
                verdict_cell(row, arms),
            )
        )
    return table


CELLS_NAMED = 8
CHANGE_STYLES = {"lower": "red", "higher": "green"}


def render_comparison(comparison: RunComparison) -> Iterator[Part]:
    """Yields what was set otherwise, a line for each cell both runs have, and the cells only one has."""
    for name, first, second in comparison.settings:
        yield escape(f"{name}: {first} -> {second}")
    yield _changes(comparison.cells)
    yield Sentence("A - B on the examples both runs have, with 95 % interval: above 0, accuracy is lower in B")
    if comparison.other_examples:
        named = "; ".join(f"{cell}: {n}" for cell, n in comparison.other_examples[:CELLS_NAMED])
        more = " ..." if len(comparison.other_examples) > CELLS_NAMED else ""
        yield escape(f"left out, for their id has another text or gold in B: {named}{more}")
    for run, cells in (("A", comparison.only_a), ("B", comparison.only_b)):
        if cells:
            yield escape(
                f"only in {run}: {'; '.join(cells[:CELLS_NAMED])}" + (" ..." if len(cells) > CELLS_NAMED else "")
            )


def _changes(rows: pd.DataFrame) -> FittingTable:
    names = [Column(name, is_name=True) for name in ("checkpoint", "test set", "attack")]
    numbers = [Column(name) for name in ("n", "A", "B", "A - B", "p adj.")]
    table = FittingTable([*names, *numbers, Column("B is", is_number=False)])
    for row in rows.itertuples():
        style = CHANGE_STYLES.get(row.change, "default")
        table.rows.append(
            (
                escape(row.checkpoint),
                escape(row.testset),
                escape(row.attack),
                str(row.n),
                f"{row.value_a:.3f}",
                f"{row.value_b:.3f}",
                escape(f"{row.difference:+.3f} {bracket(row.low, row.high)}"),
                short_p(row.p_adjusted),
                f"[{style}]{row.change}[/]",
            )
        )
    return table
