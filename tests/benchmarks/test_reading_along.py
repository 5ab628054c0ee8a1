"""Searches that decode the candidate they keep against such as decode every one: SmolLM2, float32, one thread."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustness.definitions.tasks import find_task
from robustness.engine.outcome import Outcome
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import Grader, Rows
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import TextMetric
from robustness.testsets.example import Example, Texts
from robustness.victims.files.smollm2 import load_smollm2
from robustness.victims.heads.texts import TextVictim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]
ROWS = int(os.environ.get("BENCH_ROWS", "12"))
WORDS = range(20, 30)
"""Of a sentence."""
ATTACK = "deepwordbug"
Save = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class DecodesAll:
    """The same victim without its shortcuts: losses are read, and every response is decoded from its first token."""

    victim: TextVictim

    @property
    def grader(self) -> Grader:
        return self.victim.grader

    @property
    def can(self) -> Any:
        return self.victim.can

    def rows(self, asked: Sequence[Example]) -> Rows:
        return self.victim.rows(asked)

    def read(self, texts: Sequence[Texts]) -> list[bytes]:
        return self.victim.read(texts)


@pytest.fixture(scope="module")
def victim() -> TextVictim:
    """SmolLM2 as ROBUSTNESS_BENCH_TEXT has trained it on ViGGO, or as it comes."""
    torch.set_num_threads(1)
    folder = os.environ.get("ROBUSTNESS_BENCH_TEXT")
    try:
        model, tokenizer = load_folder(folder) if folder else load_smollm2()
    except Exception as error:
        pytest.skip(str(error))
    answer = TextAnswer("whole", TextMetric.EXACT, max_new_tokens=48, stop=("\n",), lead=" ")
    return TextVictim(model, tokenizer, replace(find_task("viggo"), answer=answer))


def load_folder(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    return model.eval(), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


@pytest.fixture(scope="module")
def examples(victim: TextVictim, shared_data: Path) -> list[Example]:
    """Sentences of ViGGO; what the model says of them as they stand is taken to be right."""
    with (shared_data / "viggo" / "test.csv").open(encoding="utf-8", newline="") as stream:
        texts = [row["ref"] for row in csv.DictReader(stream) if len(row["ref"].split()) in WORDS]
    drawn = np.random.default_rng(0).choice(len(texts), size=ROWS, replace=False)
    asked = [Example(f"{place}", (texts[place],), label=1, answers=(GoldSpan(" ", 0),)) for place in drawn]
    said = [victim.grader.response(row) for row in victim.rows(asked)]
    return [replace(each, answers=(GoldSpan(text, 0),)) for each, text in zip(asked, said, strict=True)]


def attack(victim: Any, examples: Sequence[Example]) -> list[Outcome]:
    found = {each.example_id: each for each in Scheduler(find_attack(ATTACK), victim, seed=0).run(examples)}
    return [found[example.id] for example in examples]


def count_judgements(victim: TextVictim, examples: Sequence[Example], outcomes: Sequence[Outcome]) -> int:
    """Tokens of the clean and of the final responses, which both rivals decode once each whatever a search asks."""
    found = ((example, each.adversarial_text) for example, each in zip(examples, outcomes, strict=True))
    final = [example.with_texts(texts) for example, texts in found if texts is not None]
    return sum(victim.grader.generated(row) or 0 for row in [*victim.rows(examples), *victim.rows(final)])


def test_the_candidate_that_is_kept_is_decoded_alone(victim: TextVictim, examples: Any, save_result: Save) -> None:
    rivals = {"reading along": victim, "decoding all": DecodesAll(victim)}
    seconds: dict[str, float] = {}
    tokens: dict[str, int] = {}
    outcomes: dict[str, list[Outcome]] = {}

    for name, rival in rivals.items():
        before, started = victim.causal.token_forwards, time.process_time()
        outcomes[name] = attack(rival, examples)
        seconds[name] = time.process_time() - started
        tokens[name] = victim.causal.token_forwards - before

    ours, plain = outcomes.values()
    generated = {name: sum(each.generated_tokens or 0 for each in some) for name, some in outcomes.items()}
    judged = count_judgements(victim, examples, ours)
    ends = [[(each.status, each.adversarial_text, each.queries) for each in some] for some in (ours, plain)]
    same = [a == b for a, b in zip(*ends, strict=True)]
    ratios = {
        name: figures["decoding all"] / figures["reading along"]
        for name, figures in {"generated_tokens": generated, "token_forwards": tokens, "seconds": seconds}.items()
    }
    ratios["generated_tokens_of_searches"] = (generated["decoding all"] - judged) / max(
        1, generated["reading along"] - judged
    )
    result = {
        "attack": ATTACK,
        "trained": "ROBUSTNESS_BENCH_TEXT" in os.environ,
        "rows": len(examples),
        "succeeded": sum(each.status == "succeeded" for each in ours),
        "same_outcomes": sum(same),
        "same_responses": sum(a.response == b.response for a, b in zip(ours, plain, strict=True)),
        "queries": sum(each.queries for each in ours),
        "generated_tokens": generated,
        "generated_tokens_of_judgements": judged,
        "token_forwards": tokens,
        "seconds": seconds,
        "decoding_all_to_reading_along": ratios,
    }
    save_result("reading_along", result)
    assert all(same)
    assert ratios["generated_tokens_of_searches"] >= 10
    assert ratios["token_forwards"] >= 1.2
    assert ratios["seconds"] >= 1.2
