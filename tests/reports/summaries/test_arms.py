"""What the arms are called."""

from __future__ import annotations

from typing import Any

import pytest

from robustness.reports.summaries.arms import arms_of_pair, arms_of_run, name_arms, spell_verdict
from robustness.stats import Verdict


def adapted(run_writer: Any, names: dict[str, str]) -> Any:
    """A record of two pairs with these adaptations."""
    record = run_writer.record(seeds=2)
    checkpoints = (c.model_copy(update={"adaptation": names.get(c.name, c.adaptation)}) for c in record.checkpoints)
    return record.model_copy(update={"checkpoints": tuple(checkpoints)})


@pytest.mark.parametrize(
    ("names", "reference", "candidate"),
    [
        ({}, "full", "LoRA"),
        ({"lora-1": "ia3"}, "full", "PEFT"),
        ({"full-0": "lora", "full-1": "lora", "lora-0": "ia3", "lora-1": "ia3"}, "LoRA", "(IA)3"),
        ({"full-1": "lora", "lora-1": "ia3"}, "reference", "candidate"),
        ({"lora-1": "full"}, "reference", "candidate"),
    ],
)
def test_a_run_calls_its_arms_by_what_all_pairs_share(
    run_writer: Any, names: dict[str, str], reference: str, candidate: str
) -> None:
    record = adapted(run_writer, names)

    arms = arms_of_run(record.pairs, record)

    assert (arms.reference.short, arms.candidate.short) == (reference, candidate)


def test_what_is_added_to_a_training_is_part_of_an_arms_name() -> None:
    arms = name_arms("full+freelb", "lora+deepwordbug")

    assert arms.both == "LoRA with deepwordbug and full fine-tuning with FreeLB"
    assert arms.shorts == ("full+FreeLB", "LoRA+deepwordbug")


def test_a_pair_is_called_by_its_own_adaptations(run_writer: Any) -> None:
    record = adapted(run_writer, {"lora-1": "mine"})

    assert arms_of_pair(record.pairs[1], record).both == "mine and full fine-tuning"


@pytest.mark.parametrize(
    ("verdict", "difference", "words"),
    [
        (Verdict.PEFT_MORE_FRAGILE, 0.1, "LoRA more fragile"),
        (Verdict.FULL_MORE_FRAGILE, -0.1, "full more fragile"),
        (Verdict.LESS_ACCURATE, 0.1, "LoRA less accurate"),
        (Verdict.LESS_ACCURATE, -0.1, "full less accurate"),
        (Verdict.EQUIVALENT, 0.0, "equivalent"),
        (Verdict.INCONCLUSIVE, 0.1, "inconclusive"),
    ],
)
def test_a_verdict_names_its_arm(verdict: Verdict, difference: float, words: str) -> None:
    assert spell_verdict(verdict, name_arms("full", "lora"), difference) == words


def test_the_arms_of_a_run_of_one_pair_are_those_of_the_pair(run_writer: Any) -> None:
    record = run_writer.record()

    assert arms_of_run(record.pairs, record) == arms_of_pair(record.pairs[0], record)
