"""Model cards: what a run measured of each checkpoint, as the Hugging Face hub reads it and in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from huggingface_hub.repocard_data import EvalResult, ModelCardData

from robustness.reports.summaries.summary import summarise_pairs
from robustness.reports.summaries.wording import capital, percent
from robustness.reports.tables.columns import Table
from robustness.reports.tables.export import escape_markdown
from robustness.reports.visible import visible
from robustness.runs.cells import WORST_CASE
from robustness.runs.storage.record import CheckpointRecord, RunRecord
from robustness.tasks.task import TaskKind

Tables = dict[Table, pd.DataFrame]
HUB_TASKS = {
    TaskKind.LABELS: "text-classification",
    TaskKind.SPAN: "question-answering",
    TaskKind.TEXT: "text-generation",
}
"""Tasks as the hub calls them."""
DECIMALS = 4


def write_model_cards(folder: Path, record: RunRecord, tables: Tables) -> list[Path]:
    """Writes model-card-NAME.md for each checkpoint of a run into its folder and returns the paths.

    Each has a `model-index` between two lines of `---`, which belongs at the head of a model's README.md, and a
    paragraph.
    """
    written: dict[str, Path] = {}
    for checkpoint in record.checkpoints:
        slug = re.sub(r"[^\w.-]+", "-", checkpoint.name).strip("-.") or "checkpoint"
        name = slug if slug not in written else f"{slug}-{len(written)}"
        written[name] = folder / f"model-card-{name}.md"
        written[name].write_text(write_model_card(checkpoint, record, tables), encoding="utf-8")
    return list(written.values())


def write_model_card(checkpoint: CheckpointRecord, record: RunRecord, tables: Tables) -> str:
    """Returns one checkpoint's scores, fractions, as a `model-index`, and a paragraph about its pairs."""
    results = list(_results(checkpoint, record, tables))
    # The library refuses an index of nothing.
    index = ModelCardData(model_name=visible(checkpoint.name), eval_results=results).to_yaml() if results else ""
    head = f"---\n{index}\n---\n\n" if index else ""
    return f"{head}## Robustness under attack\n\n{' '.join(_sentences(checkpoint, record, tables))}\n"


def _results(checkpoint: CheckpointRecord, record: RunRecord, tables: Tables) -> Iterator[EvalResult]:
    """Scores on test sets as they stand, then accuracy under each attack."""
    kind = record.find_task(checkpoint.task).kind
    static, attacks = tables[Table.TESTSETS], tables[Table.ATTACKS]
    static = static[(static["checkpoint"] == checkpoint.name) & (static["aggregation"] == "mean")]
    attacks = attacks[(attacks["checkpoint"] == checkpoint.name) & attacks["robust_accuracy"].notna()]
    scores = [(row.testset, row.metric, str(row.metric).replace("_", " "), row.value) for row in static.itertuples()]
    for row in attacks.itertuples():
        attack = "the worst case over all attacks" if row.attack == WORST_CASE else row.attack
        scores.append((row.testset, "accuracy", f"accuracy under {attack}", row.robust_accuracy))
    for testset, metric, words, value in scores:
        if pd.notna(value):
            yield EvalResult(
                task_type=HUB_TASKS[kind],
                task_name=visible(checkpoint.task),
                dataset_type=visible(str(testset)),
                dataset_name=visible(str(testset)),
                metric_type=visible(str(metric)),
                metric_name=visible(words),
                metric_value=round(float(value), DECIMALS),
            )


def _sentences(checkpoint: CheckpointRecord, record: RunRecord, tables: Tables) -> Iterator[str]:
    compared = [pair for pair in record.pairs if checkpoint.name in (pair.reference, pair.candidate)]
    answers = summarise_pairs(tables[Table.PAIRS], record, compared)
    for pair, answer in zip(compared, answers, strict=True):
        arms = answer.arms
        is_reference = checkpoint.name == pair.reference
        mine, other = (arms.reference, arms.candidate) if is_reference else (arms.candidate, arms.reference)
        beside = f"{other.name} of the same base, {pair.base}, on the same examples"
        yield escape_markdown(f"{capital(mine.name)} was attacked beside {beside}.")
        yield escape_markdown(" ".join((str(answer.headline), *answer.details)))
    version = record.versions.get("peft-robustness")
    by = f"peft-robustness {version}" if version else "peft-robustness"
    sets = ", ".join(f"{each.name} (n = {each.n_used})" for each in record.testsets if each.task == checkpoint.task)
    yield escape_markdown(
        f"Clean accuracy before the run was {percent(checkpoint.clean_accuracy)}. Measured by {by}: suite "
        f"{record.suite}, seed {record.seed}, {sets}."
    )
