"""GBDA: learns a distribution over tokens at every place by gradient, then draws texts from it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from robustness.engine.attack import Access
from robustness.engine.evaluation import NOT_FINITE
from robustness.engine.failures.crashes import Crash, Crashes
from robustness.engine.failures.faults import errored
from robustness.engine.failures.watchdog import SearchTimeout, Watchdog
from robustness.engine.outcome import NOTHING, Answered, Outcome, Status
from robustness.engine.referee import check_proposal, judge
from robustness.errors import DefinitionError
from robustness.recipes.embedding.attack import seeded_generators
from robustness.recipes.text.gradients.token_places import TokenPlaces, find_places, soft_perplexity, write_tokens
from robustness.tasks.grading import Rows, grade_finite
from robustness.tasks.objective import Objective
from robustness.testsets.example import Example, Texts
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen, margins
from robustness.victims.heads.head import Head
from robustness.victims.isolation import recover, without_frames
from robustness.victims.language_model import SameVocabularyModel

OBJECTIVE = Objective()
MAX_SECONDS = 900.0
"""For one example, with the model's passes; a shipped recipe needs a fraction of it on one core."""


@dataclass(slots=True)
class _Cost:
    queries: int = 0
    forwards: int = 1
    """Of the clean text."""
    backwards: int = 0
    zero_gradients: int = 0
    generated: list[int | None] = field(default_factory=list)
    """Tokens decoded for each text asked about; None for a victim that decodes nothing."""


@dataclass(slots=True)
class _Drawn:
    """A text drawn and asked about."""

    text: Example
    changes: int
    """Number of tokens that differ from the clean text."""
    loss: float
    is_reached: bool


@final
@dataclass(frozen=True, slots=True)
class Gbda:
    """Gradient-based distributional attack (arXiv 2104.13733).

    Theta (places, candidates) are logits of a distribution at each place. Each step draws soft texts by
    Gumbel-softmax and feeds the mean embeddings to the model. It descends max(0, z_y - max over c != y of z_c +
    margin), plus weighted 1 - similarity and log perplexity. Texts are then drawn, decoded and judged as texts.
    Examples are attacked one at a time, with their samples as a batch, so that no outcome depends on other examples.
    """

    steps: PositiveInt
    samples: PositiveInt
    """Soft texts per step."""
    draws: PositiveInt
    """Texts drawn at the end; the most that are asked about."""
    step_size: PositiveFloat
    """Adam's step, in logits of the distribution."""
    temperature: PositiveFloat
    """Of the Gumbel-softmax."""
    margin: PositiveFloat
    """Margin in logits by which the loss wants the answer to be wrong."""
    start: PositiveFloat
    """Initial logit of each place's own token; all other logits start at 0."""
    candidates: PositiveInt | None = None
    """Candidates for a place: the nearest by cosine in the victim's embeddings; absent: the whole vocabulary."""
    look_every: PositiveInt | None = None
    """Steps between checks of drawn texts; the first that flips the label ends the learning. Absent: no checks."""
    similarity_weight: NonNegativeFloat = 0.0
    perplexity_weight: NonNegativeFloat = 0.0
    language_model: str | None = None
    """Folder or hub id of a causal model with the victim's vocabulary, for the perplexity term."""
    access: Access = Access.GRADIENTS
    max_seconds: float = MAX_SECONDS
    """Limit for one example; beyond it the example is errored."""

    def __post_init__(self) -> None:
        if (self.perplexity_weight > 0) != (self.language_model is not None):
            raise DefinitionError(
                "[search]: perplexity_weight and language_model belong together: give both, or neither"
            )

    def run(self, victim: Head, examples: Iterable[Example], *, seed: int, digest: str) -> Iterator[Outcome]:
        """Yields one outcome for each example; one that cannot be attacked is errored with the reason.

        Raises:
            AttackError: it fails on three examples in a row.
            VictimGoneError: the device is lost.
        """
        generator_of = seeded_generators(seed, digest)
        crashes = Crashes("on token distributions")
        model: SameVocabularyModel | None = None
        with Watchdog() as watchdog:
            for place, example in enumerate(examples):
                started = time.perf_counter()
                cost, problem = _Cost(), ""
                crash: Crash | None = None
                gold = victim.grader.gold(example)
                try:
                    if model is None and self.language_model is not None:
                        model = SameVocabularyModel(self.language_model, victim)
                    with watchdog.limit(self.max_seconds), frozen(victim):
                        outcome = _Trial(self, victim, example, generator_of(example), model, cost).run()
                except SearchTimeout:
                    problem = (
                        f"the attack took more than {self.max_seconds:g} seconds for this example; your own "
                        "recipe may take fewer steps or samples"
                    )
                except Exception as error:  # a missing model or a full device: the run continues, the row holds it
                    problem = f"{type(error).__name__}: {error}"
                    crash = Crash(example, without_frames(error))
                if problem:
                    recover(problem)
                    outcome = errored(example, gold, problem)
                decoded = NOTHING.with_generated(cost.generated)
                yield replace(
                    outcome,
                    queries=cost.queries,
                    forwards=cost.forwards,
                    backwards=cost.backwards,
                    zero_gradients=cost.zero_gradients,
                    seconds=time.perf_counter() - started,
                    decodes=decoded.decodes,
                    generated_tokens=decoded.generated_tokens,
                )
                crashes.add(place, crash or outcome.status in (Status.SUCCEEDED, Status.FAILED))


@final
@dataclass(frozen=True, slots=True)
class _Trial:
    """GBDA on one example."""

    settings: Gbda
    victim: Head
    example: Example
    generator: torch.Generator
    model: SameVocabularyModel | None
    cost: _Cost

    def run(self) -> Outcome:
        example = self.example
        grader, gold = self.victim.grader, self.victim.grader.gold(example)
        clean = grade_finite(grader, self._ask([example])[0], example)
        if clean is None:
            return errored(example, gold, grader.problem(example) or NOT_FINITE)
        if not clean.correct:
            return Outcome.of(example, gold, Status.SKIPPED, clean=Answered(example, clean))
        if unfit := self.victim.find_unfit([example]).get(example.id):
            return errored(example, gold, unfit)
        places = find_places(self.victim, example, self.settings.candidates)
        proposal = example
        if places.is_open.any():
            theta, drawn = self._learn(places)
            drawn += self._draw(places, theta, self.settings.draws)
            proposal = _best(example, drawn)
        self.cost.forwards += 1
        fresh = grader.grade(self._ask([proposal])[0], proposal)
        return judge(
            example,
            check_proposal(example, proposal),
            (clean, fresh),
            gold=gold,
            objective=OBJECTIVE,
            spent=NOTHING,
        )

    def _ask(self, asked: Sequence[Example]) -> Rows:
        rows = self.victim.rows(asked)
        self.cost.generated += [self.victim.grader.generated(row) for row in rows]
        return rows

    def _learn(self, places: TokenPlaces) -> tuple[torch.Tensor, list[_Drawn]]:
        """Returns theta, shape (places, candidates), and the texts drawn for checks on the way."""
        settings = self.settings
        theta = torch.where(places.is_own, settings.start, torch.zeros_like(places.mask))
        theta.requires_grad_()
        optimizer = torch.optim.Adam([theta], lr=settings.step_size)
        batch = self.victim.embed([self.example])
        many = batch.select(torch.zeros(settings.samples, dtype=torch.int64, device=theta.device))
        drawn: list[_Drawn] = []
        for step in range(1, settings.steps + 1):
            theta.grad = self._gradient(theta, places, many)
            optimizer.step()
            if settings.look_every is not None and step < settings.steps and step % settings.look_every == 0:
                drawn += self._draw(places, theta.detach() + places.mask, settings.samples)
                if any(each.is_reached for each in drawn):
                    break
        return theta.detach() + places.mask, drawn

    def _gradient(self, theta: torch.Tensor, places: TokenPlaces, many: EmbeddedBatch) -> torch.Tensor:
        """The gradient of the objective at theta over one draw of soft texts."""
        settings = self.settings
        noise = _gumbel(settings.samples, theta, self.generator)
        with torch.enable_grad():
            soft = ((theta + places.mask + noise) / settings.temperature).softmax(dim=2)
            vectors = torch.einsum("spk,pkd->spd", soft, places.embeddings)
            point = many.embeddings.clone()
            point[many.content] = vectors[:, places.is_free].flatten(0, 1)
            hinge = (margins(many.logits(point), many.labels) + settings.margin).clamp_min(0.0).mean()
            total = hinge + settings.similarity_weight * (1 - places.similarity(vectors))
            if self.model is not None:
                total = total + settings.perplexity_weight * soft_perplexity(soft, places, self.model)
            (gradient,) = torch.autograd.grad(total, theta)
        self.cost.queries += settings.samples
        self.cost.forwards += settings.samples
        self.cost.backwards += settings.samples
        gradient = torch.where(gradient.isfinite(), gradient, 0.0)
        if hinge > 0 and not gradient.any():
            self.cost.zero_gradients += settings.samples
        return gradient

    def _draw(self, places: TokenPlaces, theta: torch.Tensor, count: int) -> list[_Drawn]:
        """Draws texts and asks about all distinct ones other than the clean text."""
        changes: dict[Texts, tuple[Example, int]] = {}
        for _ in range(count):
            chosen = (theta + _gumbel(1, theta, self.generator)[0]).argmax(dim=1)
            tokens = places.candidates.gather(1, chosen[:, None])[:, 0].cpu().numpy()
            text = write_tokens(self.example, places, tokens)
            if text.texts != self.example.texts:
                changes.setdefault(text.texts, (text, int((tokens != places.tokens).sum())))
        if not changes:
            return []
        asked = [text for text, _ in changes.values()]
        rows = self._ask(asked)
        self.cost.queries += len(asked)
        self.cost.forwards += len(asked)
        losses = self.victim.grader.losses(rows, asked)
        reached = OBJECTIVE.reached(self.victim.grader.correct(rows, asked))
        found = zip(changes.values(), losses, reached, strict=True)
        return [_Drawn(text, count, float(loss), bool(is_reached)) for (text, count), loss, is_reached in found]


def _best(example: Example, drawn: Sequence[_Drawn]) -> Example:
    """The text that reaches the objective with the fewest changed tokens, or else the text of the largest loss."""
    if not drawn:
        return example
    reached = [each for each in drawn if each.is_reached]
    best = min(reached, key=lambda each: each.changes) if reached else max(drawn, key=lambda each: each.loss)
    return best.text


def _gumbel(count: int, theta: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard Gumbel noise, shape (count, *theta.shape), drawn on the CPU: the same on every device."""
    uniform = torch.rand(count, *theta.shape, generator=generator).clamp_(1e-10, 1 - 1e-7)
    return -(-uniform.log()).log().to(theta.device)
