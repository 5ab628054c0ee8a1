"""Probes on models that answer with spans, or with the words they would go on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from robustness import RunSettings, api
from robustness.definitions.tasks import find_task
from robustness.recipes.embedding.balls import Norm
from robustness.reports.tables.columns import Table
from robustness.sensitivity.building import find_probe
from robustness.sensitivity.input.condition import ConditionProfile
from robustness.sensitivity.input.distance import AdversarialDistance
from robustness.sensitivity.input.jacobian import JacobianNorm, Margin, MarginGradient, margin_gradients
from robustness.sensitivity.input.smoothing import Smoothing
from robustness.sensitivity.measurement import MeasurementStatus
from robustness.sensitivity.probe import Subject, Unsupported
from robustness.tasks.answer_scores import score_answer
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.embedded_batch import frozen, margins
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.heads.spans.windows import ANSWER_TOKENS
from robustness.victims.heads.verbalisers import PromptedVictim
from robustness.victims.loading import load_checkpoint, place, to_victim

PROBES = {
    "margin": Margin(),
    "margin-gradient": MarginGradient(),
    "jacobian-norm": JacobianNorm(),
    "peak-condition": ConditionProfile(),
    "relative-distance": AdversarialDistance((Norm.L2,), 10, 1, 1, 5, 2, 5),
    "certified-radius": Smoothing((0.02, 0.05), 10, 40, 0.01, (0.02,)),
}
"""By a quantity that each measures on every example."""


def subject(victim: Any, examples: Any) -> Subject:
    checkpoint = None  # no probe here reads it
    return Subject(checkpoint, examples, 0, "digest", lambda: victim)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def arms(answering: Any) -> Callable[[str], AnsweringVictim]:
    def load(name: str) -> Any:
        checkpoint = read_checkpoint(name, str(answering.folder / name), str(answering.base))
        return to_victim(load_checkpoint(checkpoint, find_task("squad")), place("cpu"))

    return load


@pytest.fixture(scope="module")
def prompted(tiny: Any, victims: Any) -> PromptedVictim:
    """A random language model over the tiny words, with verbalisers of one and of two of them."""
    tokenizer = victims(tiny.full).tokenizer
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            initializer_range=0.4,
        )
        model = LlamaForCausalLM(config).eval()
    task = Task(
        "sst2",
        ("sentence",),
        ("negative", "positive"),
        ("sentence",),
        template="{sentence} is",
        verbalisers=("dull", "fine"),
    )
    return PromptedVictim(model, tokenizer, task)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_the_margin_of_spans_is_above_zero_exactly_where_the_answer_matches(
    name: str, arms: Any, answering: Any
) -> None:
    """The LoRA arm is asked without segment ids."""
    victim, examples = arms(name), answering.examples()
    wrong = [Example(f"w{e.id}", e.texts, 1, attacked=(1,), answers=(GoldSpan("works in", 0),)) for e in examples[:6]]
    chosen = [*examples, *wrong]

    found = {}
    for group in victim.gradient_batches(chosen):
        batch = victim.embed(group)
        with torch.no_grad():
            values = margins(batch.logits(batch.embeddings), batch.labels).tolist()
        found |= {example.id: value for example, value in zip(group, values, strict=True)}

    matches = {}
    for example, prediction in zip(chosen, victim.predict([each.texts for each in chosen]), strict=True):
        matches[example.id] = score_answer(prediction.best, example.answers).exact_match == 1
    assert {key: value > 0 for key, value in found.items()} == matches
    assert len(set(matches.values())) == 2


def test_the_two_logits_are_the_best_right_and_the_best_wrong_span_of_an_unpadded_pass(
    arms: Any, answering: Any
) -> None:
    victim, examples = arms("full"), answering.examples()[:5]
    batch = victim.embed(examples)
    with torch.no_grad():
        found = batch.logits(batch.embeddings).numpy()

    for row, example in enumerate(examples):
        encoded = victim.tokenizer(*example.texts, return_tensors="pt", return_offsets_mapping=True)
        offsets, parts = encoded.pop("offset_mapping")[0].tolist(), encoded.sequence_ids(0)
        with torch.no_grad():
            output = victim.model(**encoded)
        best = [-np.inf, -np.inf]
        for a in range(len(parts)):
            for b in range(a, min(len(parts), a + ANSWER_TOKENS)):
                if parts[a] == parts[b] == 1:
                    text = example.texts[1][offsets[a][0] : offsets[b][1]]
                    which = 0 if score_answer(text, example.answers).exact_match == 1 else 1
                    score = float(output.start_logits[0, a] + output.end_logits[0, b])
                    best[which] = max(best[which], score)
        assert found[row] == pytest.approx(best, abs=1e-4)
        paragraph = victim.tokenizer.convert_ids_to_tokens(batch.inputs["input_ids"][row, batch.content[row]])
        assert paragraph == victim.tokenizer.tokenize(example.texts[1])


def test_a_questions_gradient_does_not_depend_on_its_neighbours(arms: Any, answering: Any) -> None:
    victim, examples = arms("full"), answering.examples()[:6]
    longer = Example(
        "long", (examples[0].texts[0], examples[0].texts[1] * 2), 1, attacked=(1,), answers=examples[0].answers
    )

    with frozen(victim):
        together, _ = margin_gradients(victim.embed([*examples, longer]))
        alone, _ = margin_gradients(victim.embed([examples[2]]))

    assert torch.allclose(together[2, : alone.shape[1]], alone[0], rtol=1e-3, atol=1e-5)
    assert not together[2, alone.shape[1] :].any()


def test_questions_without_a_margin_are_unsupported_one_by_one(arms: Any, answering: Any) -> None:
    victim, good = arms("full"), answering.examples()[0]
    absent = Example("absent", good.texts, 1, attacked=(1,), answers=(GoldSpan("nowhere", 0),))
    long = Example("long", (good.texts[0], good.texts[1] * 12), 1, attacked=(1,), answers=good.answers)

    readings = {
        r.example.id: r.measurement for r in Margin().measure(subject(victim, [good, absent, long])) if r.example
    }

    assert readings[good.id].status is MeasurementStatus.OK
    assert {readings[name].status for name in ("absent", "long")} == {MeasurementStatus.UNSUPPORTED}
    assert "right answer" in readings["absent"].reason and "windows" in readings["long"].reason
    assert set(victim.find_unfit([good, absent, long])) == {"absent", "long"}


@pytest.mark.parametrize("quantity", PROBES)
def test_probes_of_the_input_measure_spans_and_options(
    quantity: str, arms: Any, answering: Any, prompted: PromptedVictim, examples: Any
) -> None:
    spans = subject(arms("full"), answering.examples()[:4])
    options = subject(prompted, examples[:4])

    for each in (spans, options):
        readings = list(PROBES[quantity].measure(each))

        own = [r for r in readings if r.measurement.quantity.name == quantity and r.layer is None and r.example]
        assert {r.example.id for r in own} == {example.id for example in each.examples}
        assert all(r.measurement.value is not None for r in own)
        assert not any(r.measurement.status is MeasurementStatus.ERRORED for r in readings)


def test_an_adversarial_find_makes_the_answer_wrong_and_smoothing_takes_guessing_as_zero(
    arms: Any, answering: Any
) -> None:
    victim, examples = arms("full"), answering.examples()[:4]
    with frozen(victim):
        batch = victim.embed(examples)
        found = PROBES["relative-distance"]._ensemble(Norm.L2).search(batch)
        after = margins(batch.logits(batch.embeddings + found.delta), batch.labels)

    assert batch.chance == 0.0 and batch.select(torch.tensor([0])).chance == 0.0
    assert found.found.any() and (after[found.found] < 0).all()


def test_probes_of_labels_say_that_spans_are_unsupported(arms: Any, answering: Any) -> None:
    each = subject(arms("full"), answering.examples()[:2])

    for name in ("reachability", "sharpness", "weight-rounding", "parameter-margin", "one-substitution", "curvature"):
        with pytest.raises(Unsupported, match="without scores of labels"):
            list(find_probe(name).probe.measure(each))


def test_a_run_probes_question_answering_pairs(answering: Any, tmp_path: Path) -> None:
    report = api.run(
        "smoke",
        answering.pairs,
        tmp_path / "run",
        RunSettings(
            data=answering.data,
            testsets=[str(answering.testset)],
            attacks=[],
            probes=["margin", "condition-profile", "update-structure"],
            limit=4,
        ),
    )

    rows = report.tables[Table.SENSITIVITY].groupby(["checkpoint", "probe"])["status"].agg(set)
    assert rows["full", "margin"] == rows["lora", "condition-profile"] == rows["lora", "update-structure"] == {"ok"}
    assert report.n_errored_measurements == 0
