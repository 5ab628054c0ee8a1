from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from frames import Spilling

from robustness.definitions.tasks import find_task
from robustness.engine.outcome import Status
from robustness.errors import AttackError, CheckpointError
from robustness.recipes.embedding.attack import (
    EmbeddingAttack,
    EmbeddingOutcome,
    Smallest,
    WithinRadii,
    attack_embeddings,
    judge_embeddings,
    seeded_generators,
)
from robustness.recipes.embedding.ball_attacks import Apgd, Fgsm, Pgd
from robustness.recipes.embedding.balls import Norm
from robustness.recipes.embedding.minimal_norm import Ddn, Fmn
from robustness.recipes.embedding.recipe import attack_ball
from robustness.recipes.embedding.trial import EmbeddingResult
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import load_checkpoint, place, to_victim

RADII = (0.02, 0.1, 0.5, 2.5)

ATTACKS: dict[str, EmbeddingAttack] = {
    "fgsm-linf": WithinRadii(Fgsm(Norm.LINF), RADII),
    "pgd-l2": WithinRadii(Pgd(Norm.L2, steps=10), RADII),
    "apgd-l2": WithinRadii(Apgd(Norm.L2, steps=10), RADII),
    "ddn": Smallest(Ddn(steps=40)),
    "fmn-linf": Smallest(Fmn(Norm.LINF, steps=40)),
}

Outcomes = dict[str, EmbeddingOutcome]


def load(tiny: Any, name: str) -> Victim:
    checkpoint = read_checkpoint(name, str(tiny.folder / name), str(tiny.base))
    return to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))


@pytest.fixture(params=["full", "lora"])
def victim(request: pytest.FixtureRequest, tiny: Any) -> Victim:
    return load(tiny, request.param)


@pytest.fixture
def examples(tiny: Any) -> list[Example]:
    """Of many lengths; the last is labelled wrongly, the one before has no token to perturb."""
    rows = [Example(str(i), (" ".join([text] * (1 + i % 3)),), label) for i, (text, label) in enumerate(tiny.dev[:9])]
    return [*rows, Example("empty", ("",), 0), Example("wrong", (tiny.dev[0][0],), 1 - tiny.dev[0][1])]


def run(attack: EmbeddingAttack, victim: Victim, examples: Sequence[Example], seed: int = 0) -> Outcomes:
    return {o.example.id: o for o in attack_embeddings(attack, victim, examples, seeded_generators(seed, "digest"))}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_example_has_one_outcome_and_finds_are_real(victim: Victim, examples: list, name: str) -> None:
    outcomes = run(ATTACKS[name], victim, examples)

    clean = victim.scores([example.texts for example in examples])
    assert sorted(outcomes) == sorted(example.id for example in examples)
    for example, scores in zip(examples, clean, strict=True):
        outcome = outcomes[example.id]
        np.testing.assert_allclose(outcome.clean_logits, scores, atol=1e-5)
        assert (outcome.status is Status.SKIPPED) == (scores.argmax() != example.label)
        assert (outcome.status is Status.SUCCEEDED) == (
            scores.argmax() == example.label and outcome.logits.argmax() != example.label
        )
    assert outcomes["wrong"].status is Status.SKIPPED
    assert outcomes["empty"].status is not Status.SUCCEEDED
    assert sum(outcome.status is Status.SUCCEEDED for outcome in outcomes.values()) >= 4


def test_distances_are_zero_for_skipped_and_infinite_for_failed(victim: Victim, examples: list) -> None:
    outcomes = run(WithinRadii(Pgd(Norm.L2, steps=5), (1e-6, 0.3)), victim, examples).values()

    for outcome in outcomes:
        distance = outcome.relative_distance(Norm.L2)
        expected = {Status.SKIPPED: 0.0, Status.FAILED: np.inf, Status.SUCCEEDED: outcome.l2 / outcome.unit}
        assert distance == expected[outcome.status]
        assert outcome.l2 / outcome.unit <= 0.3


def test_no_ball_attack_finds_less_than_the_minimal_distance(victim: Victim, examples: list) -> None:
    minimal = run(Smallest(Ddn()), victim, examples)

    found = run(ATTACKS["pgd-l2"], victim, examples)

    for key, outcome in found.items():
        assert minimal[key].relative_distance(Norm.L2) <= outcome.relative_distance(Norm.L2) * 1.05


@pytest.mark.parametrize("name", ATTACKS)
def test_outcomes_do_not_depend_on_batches_or_order(
    tiny: Any, examples: list, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    victim = load(tiny, "full")
    victim.model.double()  # only the paths of rounding would differ
    together = run(ATTACKS[name], victim, examples)
    monkeypatch.setattr("robustness.victims.heads.embedded_batch.CPU_GRADIENT_TOKENS", 1)
    monkeypatch.setattr("robustness.recipes.embedding.attack.CHUNK", 4)

    alone = run(ATTACKS[name], victim, examples[::-1])

    for key, outcome in together.items():
        assert (alone[key].status, alone[key].forwards) == (outcome.status, outcome.forwards)
        assert alone[key].l2 == pytest.approx(outcome.l2, rel=1e-3, abs=1e-6)


def test_the_seed_decides(tiny: Any, examples: list) -> None:
    victim, attack = load(tiny, "full"), WithinRadii(Pgd(Norm.L2, steps=3), (0.01,))

    norms = [[o.l2 for o in run(attack, victim, examples, seed).values()] for seed in (0, 0, 1)]
    logits = [[o.logits.tolist() for o in run(attack, victim, examples, seed).values()] for seed in (0, 0, 1)]

    assert norms[0] == norms[1]
    assert logits[0] == logits[1] != logits[2]


def test_passes_are_what_the_victim_counted(tiny: Any, examples: list) -> None:
    victim = load(tiny, "full")
    before = victim.forwards

    outcomes = run(ATTACKS["pgd-l2"], victim, examples).values()

    assert victim.forwards - before == sum(outcome.forwards for outcome in outcomes)


def test_a_row_has_the_queries_of_every_radius_and_none_where_nothing_may_be_perturbed(
    tiny: Any, examples: list
) -> None:
    victim, recipe = load(tiny, "full"), attack_ball("pgd", Norm.L2, radii=(1e-6, 2e-6, 3e-6), steps=5)

    rows = {row.example_id: row for row in recipe.run(victim, examples, seed=0, digest="digest")}

    failed = [row for row in rows.values() if row.status is Status.FAILED and row.example_id != "empty"]
    assert len(failed) >= 4
    assert {(row.queries, row.forwards) for row in failed} == {(3 * 6, 3 * (1 + 6) + 2)}
    assert rows["wrong"].queries == rows["empty"].queries == 0


def test_the_model_is_left_as_it_was(tiny: Any, examples: list) -> None:
    victim = load(tiny, "full")
    wanted = [parameter.requires_grad for parameter in victim.model.parameters()]
    scores = victim.scores([example.texts for example in examples])

    run(ATTACKS["ddn"], victim, examples)

    assert [parameter.requires_grad for parameter in victim.model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in victim.model.parameters())
    np.testing.assert_array_equal(victim.scores([example.texts for example in examples]), scores)


def test_no_global_random_state_is_touched(tiny: Any, examples: list) -> None:
    before = torch.random.get_rng_state()

    run(ATTACKS["pgd-l2"], load(tiny, "full"), examples)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_only_the_attacked_segment_of_a_pair_moves(tiny: Any) -> None:
    victim = load(tiny, "full")
    pair = Example("1", ("the film is fine", "dull plot"), 0, attacked=(1,))
    label = int(victim.scores([pair.texts])[0].argmax())

    result = ATTACKS["ddn"].perturb(victim, [replace(pair, label=label)], [torch.Generator()])

    moved = result.delta[0].abs().sum(dim=1) > 0
    assert moved.sum() <= 2
    assert not moved[:6].any()


class Faulty:
    """Proposes, for one example, something that is no proposal."""

    def __init__(self, fault: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.fault = fault

    def perturb(
        self, victim: Victim, examples: Sequence[Example], generators: Sequence[torch.Generator]
    ) -> EmbeddingResult:
        result = ATTACKS["fgsm-linf"].perturb(victim, examples, generators)
        if any(example.id == "3" for example in examples):
            result = replace(result, delta=self.fault(result.delta))
        return result


def raise_(delta: torch.Tensor) -> torch.Tensor:
    raise ValueError("no idea")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (raise_, "ValueError: no idea"),
        (lambda delta: delta * torch.nan, "delta is not finite"),
        (lambda delta: delta + 1, "not open to attack"),
        (lambda delta: delta[:, 1:], "delta has shape"),
    ],
)
def test_one_faulty_example_is_errored_and_the_others_go_on(
    tiny: Any, examples: list, fault: Callable, reason: str
) -> None:
    outcomes = run(Faulty(fault), load(tiny, "full"), examples)

    errors = {key: outcome.error for key, outcome in outcomes.items() if outcome.status is Status.ERRORED}
    assert list(errors) == ["3"]
    assert reason in (errors["3"] or "")
    assert len(outcomes) == len(examples)


def test_memory_is_freed_once_no_frame_of_a_failed_batch_holds_a_tensor(
    tiny: Any, examples: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    spilling = Spilling()
    monkeypatch.setattr("robustness.recipes.embedding.attack.recover", spilling.recover)

    outcomes = run(Faulty(spilling), load(tiny, "full"), examples[2:5])

    assert len(spilling.held) > 1 and not any(spilling.held)
    assert outcomes["3"].error == "OutOfMemoryError: no memory"


def test_an_example_on_which_an_attack_loops_for_ever_is_errored_and_the_others_go_on(
    tiny: Any, examples: list
) -> None:
    def loop(delta: torch.Tensor) -> torch.Tensor:
        while delta is not None:
            time.sleep(0.01)
        return delta

    victim = load(tiny, "full")
    outcomes = attack_embeddings(Faulty(loop), victim, examples[3:5], seeded_generators(0, "digest"), max_seconds=2.0)

    by_id = {outcome.example.id: outcome for outcome in outcomes}
    assert {key: outcome.error for key, outcome in by_id.items()} == {
        "3": "the attack took more than 2 seconds for this example",
        "4": None,
    }


def test_an_attack_that_returns_nothing_is_told_what_is_expected(tiny: Any, examples: list) -> None:
    class Silent:
        def perturb(self, victim: Victim, examples: Sequence[Example], generators: Any) -> None:
            return None

    (outcome,) = run(Silent(), load(tiny, "full"), examples[:1]).values()

    assert outcome.error == "AttackError: perturb returned NoneType; expected an EmbeddingResult"


def test_what_an_attack_believes_is_not_what_counts(tiny: Any, examples: list) -> None:
    class Boaster:
        def perturb(self, victim: Victim, examples: Sequence[Example], generators: Any) -> EmbeddingResult:
            result = WithinRadii(Fgsm(Norm.L2), (0.0,)).perturb(victim, examples, generators)
            return replace(result, found=torch.ones_like(result.found))

    outcomes = run(Boaster(), load(tiny, "full"), examples)

    assert {outcome.status for outcome in outcomes.values()} == {Status.FAILED, Status.SKIPPED}


def test_scores_that_are_not_finite_are_an_error(tiny: Any, examples: list) -> None:
    victim = load(tiny, "full")
    with torch.no_grad():
        victim.model.classifier.bias.fill_(torch.nan)

    outcomes = run(ATTACKS["pgd-l2"], victim, examples).values()

    assert {outcome.error for outcome in outcomes} == {"the victim's scores are not finite"}
    assert {outcome.status for outcome in outcomes} == {Status.ERRORED}


def test_a_victim_that_cannot_be_attacked_ends_the_attack(tiny: Any, examples: list) -> None:
    from transformers import CanineTokenizer

    victim = load(tiny, "full")
    slow = Victim(victim.model, CanineTokenizer(), (0, 1))

    with pytest.raises(CheckpointError, match="fast tokenizer"):
        run(ATTACKS["ddn"], slow, examples)


def test_no_examples_no_outcomes(tiny: Any) -> None:
    assert run(ATTACKS["ddn"], load(tiny, "full"), []) == {}


def test_a_judge_sees_what_the_embeddings_say(tiny: Any, examples: list) -> None:
    batch = load(tiny, "full").embed(examples)

    judgement = judge_embeddings(batch, torch.zeros_like(batch.embeddings))

    assert torch.equal(judgement.clean_logits, judgement.logits)
    assert not judgement.succeeded.any()


def test_a_ball_attack_without_a_radius_is_refused(tiny: Any, examples: list) -> None:
    with pytest.raises(AttackError, match="at least one radius"):
        WithinRadii(Fgsm(Norm.L2), ()).perturb(load(tiny, "full"), examples, [])
