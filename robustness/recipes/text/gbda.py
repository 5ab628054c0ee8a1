"""GBDA: a distribution over tokens at every place, learnt by gradient, from which texts are drawn."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch

from robustness.definitions.embeddings import TokenDistributions
from robustness.engine.attack import Access
from robustness.engine.goal import Goal
from robustness.engine.outcome import Outcome, Status
from robustness.engine.referee import check_proposal, judge, label_problem, true_label_probability
from robustness.engine.watchdog import SearchTimeout, Watchdog
from robustness.recipes.embedding.attack import seeded_generators
from robustness.recipes.text.ranking import loss
from robustness.recipes.text.token_places import TokenPlaces, find_places, soft_perplexity, write_tokens
from robustness.testsets.example import Example, Texts
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen, margins
from robustness.victims.heads.labels import Victim
from robustness.victims.language_model import SameVocabularyModel

MAX_SECONDS = 900.0
"""For one example, the model's passes included: what a shipped recipe needs on one core is a fraction of it."""


@dataclass(slots=True)
class _Cost:
    queries: int = 0
    forwards: int = 1
    """The clean text's."""
    backwards: int = 0
    zero_gradients: int = 0


@dataclass(slots=True)
class _Drawn:
    """A text that was drawn and asked about."""

    text: Texts
    changes: int
    """Tokens that differ from the clean text's."""
    loss: float
    flips: bool


@final
@dataclass(frozen=True, slots=True)
class Gbda:
    """Gradient-based distributional attack (arXiv 2104.13733).

    Theta (places, candidates) are logits of a distribution at each place. Each step draws soft texts by
    Gumbel-softmax, feeds the mean embeddings to the model and descends max(0, z_y - max over c != y of z_c + margin)
    plus, by their weights, 1 - similarity and the perplexity's logarithm. Texts are then drawn, written out and
    judged as texts. Examples are attacked one at a time, their samples as a batch, so that an outcome depends on
    nothing beside it.
    """

    settings: TokenDistributions
    access: Access = Access.GRADIENTS
    max_seconds: float = MAX_SECONDS
    """For one example; past it the example is errored."""

    def run(self, victim: Victim, examples: Iterable[Example], *, seed: int, digest: str) -> Iterator[Outcome]:
        """Yields one outcome for each example; what cannot be attacked is errored with its reason."""
        generator_of = seeded_generators(seed, digest)
        model: SameVocabularyModel | None = None
        with Watchdog() as watchdog:
            for example in examples:
                started = time.perf_counter()
                cost = _Cost()
                try:
                    if model is None and self.settings.language_model is not None:
                        model = SameVocabularyModel(self.settings.language_model, victim)
                    with watchdog.limit(self.max_seconds), frozen(victim):
                        outcome = _Trial(self.settings, victim, example, generator_of(example), model, cost).run()
                except SearchTimeout:
                    outcome = _errored(
                        example,
                        f"the attack took more than {self.max_seconds:g} seconds for this example; a recipe of "
                        "one's own may take fewer steps or samples",
                    )
                except Exception as error:  # a missing model, a full device: the run goes on and the row says what
                    outcome = _errored(example, f"{type(error).__name__}: {error}")
                yield replace(
                    outcome,
                    queries=cost.queries,
                    forwards=cost.forwards,
                    backwards=cost.backwards,
                    zero_gradients=cost.zero_gradients,
                    seconds=time.perf_counter() - started,
                )


@final
@dataclass(frozen=True, slots=True)
class _Trial:
    """GBDA on one example."""

    settings: TokenDistributions
    victim: Victim
    example: Example
    generator: torch.Generator
    model: SameVocabularyModel | None
    cost: _Cost

    def run(self) -> Outcome:
        example = self.example
        clean = self.victim.scores([example.texts])[0]
        problem = label_problem(example.label, len(clean))
        if problem or not np.isfinite(clean).all():
            return _errored(example, problem or "the victim's scores are not finite")
        if int(clean.argmax()) != example.label:
            return _blank(example, Status.SKIPPED, clean)
        places = find_places(self.victim, example, self.settings.candidates)
        proposal = example
        if places.is_open.any():
            theta, drawn = self._learn(places)
            drawn += self._draw(places, theta, self.settings.draws)
            proposal = _best(example, drawn)
        self.cost.forwards += 1
        fresh = self.victim.scores([proposal.texts])[0]
        return judge(
            example,
            check_proposal(example, proposal),
            clean,
            fresh,
            goal=Goal(),
            queries=0,
            forwards=0,
            seconds=0.0,
        )

    def _learn(self, places: TokenPlaces) -> tuple[torch.Tensor, list[_Drawn]]:
        """Returns theta, shape (places, candidates), and what was drawn on the way to see whether it will do."""
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
                if any(each.flips for each in drawn):
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
            point[many.content] = vectors.flatten(0, 1)
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
        """Draws texts and asks about those that differ from the clean one and from each other."""
        changes: dict[Texts, int] = {}
        for _ in range(count):
            chosen = (theta + _gumbel(1, theta, self.generator)[0]).argmax(dim=1)
            tokens = places.candidates.gather(1, chosen[:, None])[:, 0].cpu().numpy()
            text = write_tokens(self.example, places, tokens).texts
            if text != self.example.texts:
                changes.setdefault(text, int((tokens != places.tokens).sum()))
        if not changes:
            return []
        texts = list(changes)
        rows = self.victim.scores(texts)
        self.cost.queries += len(texts)
        self.cost.forwards += len(texts)
        losses, flips = loss(rows, self.example.label), rows.argmax(axis=1) != self.example.label
        return [_Drawn(t, changes[t], float(x), bool(f)) for t, x, f in zip(texts, losses, flips, strict=True)]


def _best(example: Example, drawn: Sequence[_Drawn]) -> Example:
    """The text that flips the label with the fewest tokens changed, or that of the largest loss."""
    if not drawn:
        return example
    flipped = [each for each in drawn if each.flips]
    best = min(flipped, key=lambda each: each.changes) if flipped else max(drawn, key=lambda each: each.loss)
    return example.with_texts(best.text)


def _gumbel(count: int, theta: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard Gumbel noise, shape (count, *theta.shape), drawn on the CPU: the same on every device."""
    uniform = torch.rand(count, *theta.shape, generator=generator).clamp_(1e-10, 1 - 1e-7)
    return -(-uniform.log()).log().to(theta.device)


def _errored(example: Example, reason: str) -> Outcome:
    return replace(_blank(example, Status.ERRORED, None), error=reason.encode("utf-8", "backslashreplace").decode())


def _blank(
    example: Example, status: Status, clean: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None
) -> Outcome:
    return Outcome(
        example_id=example.id,
        group_id=example.group,
        label=example.label,
        status=status,
        clean_prediction=None if clean is None else int(clean.argmax()),
        adversarial_prediction=None,
        clean_score=None if clean is None else true_label_probability(clean, example.label),
        score=None,
        queries=0,
        forwards=0,
        modified_words=None,
        modified_share=None,
        similarity=None,
        seconds=0.0,
        original_text=example.texts,
        adversarial_text=None,
    )
