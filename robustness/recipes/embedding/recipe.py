"""An attack on embeddings as an attack that a run can name: outcomes in, rows out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import final

from robustness.definitions.embeddings import EmbeddingBall, EmbeddingMinimal
from robustness.engine.attack import Access
from robustness.engine.outcome import Answered, Outcome, Problem, Spent, Status
from robustness.errors import AttackError, CheckpointError, UsageError
from robustness.recipes.embedding.attack import (
    EmbeddingAttack,
    EmbeddingOutcome,
    Smallest,
    WithinRadii,
    attack_embeddings,
    errored,
    seeded_generators,
)
from robustness.recipes.embedding.ball_attacks import Apgd, BallAttack, Fgsm, Pgd
from robustness.recipes.embedding.balls import Norm
from robustness.recipes.embedding.minimal_norm import Ddn, Fmn, MinimalAttack
from robustness.recipes.embedding.trial import Loss
from robustness.tasks.grading import Grader, grade_finite
from robustness.testsets.example import Example
from robustness.victims.heads.head import Head

CLEAN_AND_JUDGE = 3
"""Forward passes that ask nothing: the search's clean one, and the judge's clean and perturbed ones."""


@final
@dataclass(frozen=True, slots=True)
class EmbeddingRecipe:
    """A white-box attack with the norm that its distances are measured in."""

    method: EmbeddingAttack
    norm: Norm
    access: Access = Access.GRADIENTS

    def run(self, victim: Head, examples: Iterable[Example], *, seed: int, digest: str) -> Iterator[Outcome]:
        """Yields one outcome for each example; its text stays as it is, `distance` says how far the find lies."""
        waiting = {}
        for example in examples:
            problem = victim.grader.problem(example)
            if problem:
                yield _as_row(errored(example, problem), self.norm, victim.grader)
            else:
                waiting[example.id] = example
        try:
            outcomes = attack_embeddings(self.method, victim, list(waiting.values()), seeded_generators(seed, digest))
            for outcome in outcomes:
                del waiting[outcome.example.id]
                yield _as_row(outcome, self.norm, victim.grader)
        except (CheckpointError, UsageError) as error:  # of the victim or the task: true of every example left
            for example in waiting.values():
                yield _as_row(errored(example, str(error)), self.norm, victim.grader)


def build_embedding_attack(search: EmbeddingBall | EmbeddingMinimal) -> EmbeddingRecipe:
    """Returns the attack that a recipe file describes.

    Raises:
        AttackError: a method that has no form in the norm.
    """
    norm = Norm(search.norm)
    if isinstance(search, EmbeddingBall):
        return EmbeddingRecipe(WithinRadii(_ball_method(search, norm), search.radii), norm)
    return EmbeddingRecipe(Smallest(_minimal_method(search, norm)), norm)


def name_embedding_attack(attack: object, name: str) -> EmbeddingRecipe:
    """Returns a user's own white-box attack as one that a run can run; raises AttackError for what it lacks."""
    norm = getattr(attack, "norm", None)
    if norm not in set(Norm):
        raise AttackError(f"attack {name}: set norm = 'l2' or norm = 'linf' in the class; got {norm!r}")
    if not isinstance(attack, EmbeddingAttack):
        raise AttackError(f"attack {name}: expected a method perturb(self, victim, examples, generators)")
    return EmbeddingRecipe(attack, Norm(norm))


def _ball_method(search: EmbeddingBall, norm: Norm) -> BallAttack:
    loss = Loss(search.loss or Loss.MARGIN)
    restarts = search.restarts or 1
    if search.method == "fgsm":
        return Fgsm(norm, loss)
    if search.method == "apgd":
        return Apgd(norm, steps=search.steps, restarts=restarts, loss=loss)
    return Pgd(
        norm,
        steps=search.steps,
        step_size=search.step_size,
        restarts=restarts,
        random_start=search.random_start is not False,
        loss=loss,
    )


def _minimal_method(search: EmbeddingMinimal, norm: Norm) -> MinimalAttack:
    given = search.model_dump(include={"steps", "gamma", "initial_radius", "step_size", "bisections"})
    if search.method == "fmn":
        return Fmn(norm, **given)
    if norm is not Norm.L2:
        raise AttackError(f"ddn is minimal in l2; got norm {search.norm}; use fmn")
    return Ddn(**given, loss=Loss(search.loss or Loss.MARGIN))


def _as_row(outcome: EmbeddingOutcome, norm: Norm, grader: Grader) -> Outcome:
    """Every forward pass on a perturbed input is a query; the clean ones and the judge's are not."""
    example, status = outcome.example, outcome.status
    attacked = status in (Status.SUCCEEDED, Status.FAILED)
    clean, given = (
        None if row is None else grade_finite(grader, row, example) for row in (outcome.clean_logits, outcome.logits)
    )
    row = Outcome.of(
        example,
        grader.gold(example),
        status if outcome.error is None else Problem(outcome.error),
        clean=Answered(example, clean),
        given=Answered(None, given if attacked else None),
        spent=Spent(
            queries=max(0, outcome.forwards - CLEAN_AND_JUDGE) if attacked else 0,
            forwards=outcome.forwards,
            seconds=outcome.seconds,
            backwards=outcome.backwards,
            zero_gradients=outcome.zero_gradients,
        ),
    )
    found = outcome.relative_distance(norm) if status is Status.SUCCEEDED else None
    return replace(row, distance=found, norm=str(norm))
