"""Turns an attack on embeddings into an attack that a run can name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Annotated, Any, Literal, final

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from robustness.engine.attack import Access
from robustness.engine.outcome import Answered, Outcome, Problem, Spent, Status
from robustness.errors import AttackError, CheckpointError, DefinitionError, UsageError
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
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.heads.head import Head


@final
@dataclass(frozen=True, slots=True)
class EmbeddingRecipe:
    """A white-box attack and the norm of its distances."""

    method: EmbeddingAttack
    norm: Norm
    access: Access = Access.GRADIENTS
    name: str = "on embeddings"
    """Its name in errors."""
    needs: frozenset[Ability] = frozenset()
    """Abilities beyond embeddings."""

    def run(self, victim: Head, examples: Iterable[Example], *, seed: int, digest: str) -> Iterator[Outcome]:
        """Yields one outcome for each example; the text is unchanged, `distance` is the norm of the perturbation."""
        waiting = {example.id: example for example in examples}
        problems = {name: problem for name, e in waiting.items() if (problem := victim.grader.problem(e))}
        for name, problem in (problems | victim.find_unfit(list(waiting.values()))).items():
            yield _as_row(errored(waiting.pop(name), problem), self.norm, victim)
        try:
            generator_of, left = seeded_generators(seed, digest), list(waiting.values())
            outcomes = attack_embeddings(self.method, victim, left, generator_of, name=self.name)
            for outcome in outcomes:
                del waiting[outcome.example.id]
                yield _as_row(outcome, self.norm, victim)
        except (CheckpointError, UsageError) as error:  # caused by victim or task: true of all other examples
            for example in waiting.values():
                yield _as_row(errored(example, str(error)), self.norm, victim)


def attack_ball(
    method: Literal["fgsm", "pgd", "apgd"],
    norm: Norm,
    radii: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)],
    steps: PositiveInt = 1,
    loss: Loss | None = None,
    restarts: PositiveInt | None = None,
    step_size: PositiveFloat | None = None,
    random_start: bool | None = None,
) -> EmbeddingRecipe:
    """Takes gradient steps in balls of growing radii; each attacks the examples that survived the smaller ones.

    Args:
        method: how steps are taken.
        norm: of the ball.
        radii: in median token norms of the victim's embedding table, so that models compare; smallest first.
        steps: at each radius.
        loss: what the steps increase; absent: margin.
        restarts: of pgd and apgd, at each radius; absent: 1 run.
        step_size: of pgd, in radii; absent: 2.5 / steps.
        random_start: of pgd; absent: true. apgd always starts at random.

    Raises:
        DefinitionError: an option that the method does not have, or radii that do not grow.
    """
    if any(a >= b for a, b in pairwise(radii)):
        raise DefinitionError("[search]: radii must grow: each attacks the examples that survived smaller ones")
    options = {"loss": loss, "restarts": restarts, "step_size": step_size, "random_start": random_start}
    given = {"norm": norm, "steps": steps} if method != "fgsm" else {"norm": norm}
    attack: BallAttack = _choose(method, {"fgsm": Fgsm, "pgd": Pgd, "apgd": Apgd}, given, options)
    return EmbeddingRecipe(WithinRadii(attack, radii), norm, needs=_needs(loss))


def attack_minimally(
    method: Literal["ddn", "fmn"],
    norm: Norm,
    steps: PositiveInt,
    loss: Loss | None = None,
    gamma: Annotated[float, Field(gt=0, lt=1)] | None = None,
    initial_radius: PositiveFloat | None = None,
    step_size: PositiveFloat | None = None,
    bisections: NonNegativeInt | None = None,
) -> EmbeddingRecipe:
    """Looks for the smallest perturbation of embeddings that flips the label.

    Args:
        method: the search method.
        norm: ddn supports only l2.
        steps: of the search.
        loss: of ddn; absent: margin. fmn always uses the margin, from which its radius follows.
        gamma: share by which the radius grows and shrinks; absent: 0.05.
        initial_radius: of ddn: its first norm and step, in median token norms; absent: 0.25.
        step_size: of fmn: its first step, in median token norms; absent: 0.25.
        bisections: bisections of the length found; absent: 8.

    Raises:
        AttackError: the method does not support the norm.
        DefinitionError: an option that the method does not have.
    """
    if method == "ddn" and norm is not Norm.L2:
        raise AttackError(f"[search]: ddn is minimal in l2; got norm {norm}; use fmn")
    options = {
        "loss": loss,
        "gamma": gamma,
        "initial_radius": initial_radius,
        "step_size": step_size,
        "bisections": bisections,
    }
    given = {"steps": steps} if method == "ddn" else {"norm": norm, "steps": steps}
    attack: MinimalAttack = _choose(method, {"ddn": Ddn, "fmn": Fmn}, given, options)
    return EmbeddingRecipe(Smallest(attack), norm, needs=_needs(loss))


def _needs(loss: Loss | None) -> frozenset[Ability]:
    """The dlr loss compares three labels."""
    return frozenset({Ability.SCORES}) if loss is Loss.DLR else frozenset()


def _choose(
    method: str, methods: Mapping[str, type[Any]], given: Mapping[str, object], options: Mapping[str, object]
) -> Any:
    """Builds a method with a recipe's options; refuses an option that only other methods have."""
    set_options = {name: value for name, value in options.items() if value is not None}
    has = {name: {each.name for each in fields(made)} for name, made in methods.items()}
    for name in set_options:
        if name not in has[method]:
            owners = " and ".join(owner for owner, own in has.items() if name in own)
            raise DefinitionError(f"[search]: {name} is an option of {owners}, not of {method}")
    return methods[method](**given, **set_options)


def name_embedding_attack(attack: object, name: str) -> EmbeddingRecipe:
    """Returns a user's white-box attack in a form that a run accepts; raises AttackError for what it lacks."""
    norm = getattr(attack, "norm", None)
    if norm not in set(Norm):
        raise AttackError(f"attack {name}: set norm = 'l2' or norm = 'linf' in the class; got {norm!r}")
    if not isinstance(attack, EmbeddingAttack):
        raise AttackError(f"attack {name}: expected a method perturb(self, victim, examples, generators)")
    return EmbeddingRecipe(attack, Norm(norm), name=name)


def _as_row(outcome: EmbeddingOutcome, norm: Norm, victim: Head) -> Outcome:
    example, status, grader = outcome.example, outcome.status, victim.grader
    attacked = status in (Status.SUCCEEDED, Status.FAILED)
    row = Outcome.of(
        example,
        grader.gold(example),
        status if outcome.error is None else Problem(outcome.error),
        clean=Answered(example, outcome.clean_grade),
        given=Answered(None, outcome.grade if attacked else None),
        spent=Spent(
            queries=outcome.queries if attacked else 0,
            forwards=outcome.forwards,
            seconds=outcome.seconds,
            backwards=outcome.backwards,
            zero_gradients=outcome.zero_gradients,
        ),
    )
    found = outcome.relative_distance(norm) if status is Status.SUCCEEDED else None
    row = replace(row, distance=found, norm=str(norm))
    if outcome.clean_grade is not None or outcome.error is not None:
        return row
    # A question's logits are those of its best right and wrong spans: they tell right or wrong, not the answer.
    return replace(row, clean_correct=attacked, correct=status is Status.FAILED if attacked else None)
