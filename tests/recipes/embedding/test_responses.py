"""Embedding attacks on responses: distances in closed form, and answers that stay right in another response."""

from __future__ import annotations

import pytest
from linear_responses import CLEAN, YEPS, distance, linear_victim

from robustness.engine.outcome import Outcome, Status
from robustness.recipes.embedding.balls import Norm
from robustness.recipes.embedding.deepfool import DeepFool
from robustness.recipes.embedding.recipe import EmbeddingRecipe, attack_ball, attack_minimally
from robustness.victims.heads.embedded_batch import frozen

ANOTHER = CLEAN - YEPS
"""By how much w . h falls until `yep` is said."""
WRONG = CLEAN + YEPS
"""By how much it falls until `no` is said."""


def run(attack: EmbeddingRecipe, *, both_right: bool) -> dict[str, Outcome]:
    victim, examples = linear_victim(both_right=both_right)
    return {outcome.example_id: outcome for outcome in attack.run(victim, examples, seed=0, digest="digest")}


@pytest.mark.parametrize(("method", "norm"), [("ddn", "l2"), ("fmn", "l2"), ("fmn", "linf")])
def test_the_smallest_perturbation_that_changes_a_response_is_that_of_the_closed_form(method: str, norm: str) -> None:
    victim, examples = linear_victim(both_right=False)

    outcomes = run(attack_minimally(method, Norm(norm), steps=80), both_right=False)  # type: ignore[arg-type]

    for example in examples:
        outcome = outcomes[example.id]
        assert outcome.distance == pytest.approx(distance(victim, example, ANOTHER, norm), rel=0.01)
        assert (outcome.status, outcome.clean_response, outcome.response) == (Status.SUCCEEDED, "yes", "yep")
        assert (outcome.clean_correct, outcome.correct, outcome.quality) == (True, False, 0.0)
        assert outcome.zero_gradients == 0 and outcome.error is None


@pytest.mark.parametrize("norm", Norm)
def test_deepfool_reaches_the_boundary_of_a_linear_response_in_one_step(norm: Norm) -> None:
    victim, examples = linear_victim(both_right=False)
    with frozen(victim):
        found = DeepFool(norm).perturb(victim.embed(examples))

    expected = [distance(victim, example, ANOTHER, str(norm)) for example in examples]
    assert found.relative_distance(norm).tolist() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("method", ["fgsm", "pgd", "apgd"])
def test_a_ball_attack_succeeds_from_the_boundary_on(method: str) -> None:
    victim, examples = linear_victim(both_right=False)
    for example in examples:
        at = distance(victim, example, ANOTHER, "l2")
        steps = {} if method == "fgsm" else {"steps": 40}
        inside, outside = (
            run(attack_ball(method, Norm.L2, (share * at,), **steps), both_right=False)[example.id]  # type: ignore[arg-type]
            for share in (0.98, 1.05)
        )

        assert (inside.status, inside.response) == (Status.FAILED, "yes")
        assert (outside.status, outside.response) == (Status.SUCCEEDED, "yep")


@pytest.mark.parametrize("method", ["fgsm", "pgd", "apgd"])
def test_another_response_that_is_as_right_is_left_standing_and_attacked_at_the_next_radius(method: str) -> None:
    victim, examples = linear_victim(both_right=True)
    last = examples[-1]
    radii = tuple(share * distance(victim, last, WRONG, "l2") for share in (0.3, 0.7, 1.1))
    steps = {} if method == "fgsm" else {"steps": 40}

    two = run(attack_ball(method, Norm.L2, radii[:2], **steps), both_right=True)[last.id]  # type: ignore[arg-type]
    three = run(attack_ball(method, Norm.L2, radii, **steps), both_right=True)[last.id]  # type: ignore[arg-type]

    assert (two.status, two.response, two.correct) == (Status.FAILED, "yep", True)
    assert (three.status, three.response, three.correct) == (Status.SUCCEEDED, "no", False)


@pytest.mark.parametrize("method", ["ddn", "fmn"])
def test_a_smallest_find_goes_on_until_its_answer_is_wrong(method: str) -> None:
    victim, examples = linear_victim(both_right=True)

    outcomes = run(attack_minimally(method, Norm.L2, steps=80), both_right=True)  # type: ignore[arg-type]

    for example in examples:
        outcome = outcomes[example.id]
        wrong = distance(victim, example, WRONG, "l2")
        assert (outcome.status, outcome.response) == (Status.SUCCEEDED, "no")
        assert outcome.distance is not None and wrong <= outcome.distance <= 1.07 * wrong


def test_a_text_that_is_answered_wrongly_is_skipped_with_its_own_response() -> None:
    victim, examples = linear_victim(both_right=False)
    victim.model.weight = -victim.model.weight  # what was `yes` is `no`

    outcomes = list(attack_ball("pgd", Norm.L2, (0.1,), steps=2).run(victim, examples, seed=0, digest="digest"))

    assert {outcome.status for outcome in outcomes} == {Status.SKIPPED}
    assert {outcome.clean_response for outcome in outcomes} == {"no"}
    assert {outcome.clean_correct for outcome in outcomes} == {False}


def test_an_outcome_does_not_depend_on_what_is_attacked_beside_it() -> None:
    attack = attack_ball("pgd", Norm.L2, (0.05, 0.2, 0.4), steps=5)
    victim, examples = linear_victim(both_right=False)
    together = {o.example_id: o for o in attack.run(victim, examples, seed=0, digest="digest")}

    for example in examples:
        (alone,) = attack.run(linear_victim(both_right=False)[0], [example], seed=0, digest="digest")
        assert alone.status is together[example.id].status
        assert alone.distance == pytest.approx(together[example.id].distance, rel=1e-4)
        assert alone.response == together[example.id].response
