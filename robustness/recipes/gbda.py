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
from robustness.engine.referee import check_proposal, judge, true_label_probability
from robustness.recipes.embedding import seeded_generators
from robustness.recipes.ranking import loss
from robustness.recipes.token_places import TokenPlaces, find_places, soft_perplexity, write_tokens
from robustness.testsets.example import Example, Texts
from robustness.victims.gradients import EmbeddedBatch, embed, frozen, margins
from robustness.victims.language_model import SameVocabularyModel
from robustness.victims.victim import Victim


@dataclass(slots=True)
class _Cost:
    queries: int = 0
    forwards: int = 1
    """The clean text's."""
    backwards: int = 0
    zero_gradients: int = 0


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

    def run(self, victim: Victim, examples: Iterable[Example], *, seed: int, digest: str) -> Iterator[Outcome]:
        """Yields one outcome for each example; what cannot be attacked is errored with its reason."""
        generator_of = seeded_generators(seed, digest)
        model: SameVocabularyModel | None = None
        for example in examples:
            started = time.perf_counter()
            cost = _Cost()
            try:
                if model is None and self.settings.language_model is not None:
                    model = SameVocabularyModel(self.settings.language_model, victim)
                with frozen(victim):
                    outcome = self._attack(victim, example, generator_of(example), model, cost)
            except Exception as error:  # a missing model, a full device: the run goes on and the row says what
                outcome = replace(_blank(example, Status.ERRORED, None), error=f"{type(error).__name__}: {error}")
            yield replace(
                outcome,
                queries=cost.queries,
                forwards=cost.forwards,
                backwards=cost.backwards,
                zero_gradients=cost.zero_gradients,
                seconds=time.perf_counter() - started,
            )

    def _attack(
        self,
        victim: Victim,
        example: Example,
        generator: torch.Generator,
        model: SameVocabularyModel | None,
        cost: _Cost,
    ) -> Outcome:
        clean = victim.scores([example.texts])[0]
        if not np.isfinite(clean).all():
            return replace(_blank(example, Status.ERRORED, None), error="the victim's scores are not finite")
        if int(clean.argmax()) != example.label:
            return _blank(example, Status.SKIPPED, clean)
        batch = embed(victim, [example])
        places = find_places(victim, example, self.settings.candidates)
        proposal = example
        if places.is_open.any():
            theta = self._learn(batch, places, generator, model, cost)
            proposal = self._draw(victim, example, places, theta, generator, cost)
        cost.forwards += 1
        fresh = victim.scores([proposal.texts])[0]
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

    def _learn(
        self,
        batch: EmbeddedBatch,
        places: TokenPlaces,
        generator: torch.Generator,
        model: SameVocabularyModel | None,
        cost: _Cost,
    ) -> torch.Tensor:
        """Returns theta, shape (places, candidates)."""
        settings = self.settings
        theta = torch.where(places.is_own, settings.start, torch.zeros_like(places.mask))
        theta.requires_grad_()
        optimizer = torch.optim.Adam([theta], lr=settings.step_size)
        many = batch.select(torch.zeros(settings.samples, dtype=torch.int64, device=theta.device))
        for _ in range(settings.steps):
            noise = _gumbel(settings.samples, theta, generator)
            with torch.enable_grad():
                soft = ((theta + places.mask + noise) / settings.temperature).softmax(dim=2)
                vectors = torch.einsum("spk,pkd->spd", soft, places.embeddings)
                point = many.embeddings.clone()
                point[many.content] = vectors.flatten(0, 1)
                hinge = (margins(many.logits(point), many.labels) + settings.margin).clamp_min(0.0).mean()
                total = hinge + settings.similarity_weight * (1 - places.similarity(vectors))
                if model is not None:
                    total = total + settings.perplexity_weight * soft_perplexity(soft, places, model)
                (gradient,) = torch.autograd.grad(total, theta)
            cost.queries += settings.samples
            cost.forwards += settings.samples
            cost.backwards += settings.samples
            gradient = torch.where(gradient.isfinite(), gradient, 0.0)
            if hinge > 0 and not gradient.any():
                cost.zero_gradients += settings.samples
            theta.grad = gradient
            optimizer.step()
        return theta.detach() + places.mask

    def _draw(
        self,
        victim: Victim,
        example: Example,
        places: TokenPlaces,
        theta: torch.Tensor,
        generator: torch.Generator,
        cost: _Cost,
    ) -> Example:
        """Returns the drawn text that flips the label with the fewest tokens changed, or that of the largest loss."""
        changes: dict[Texts, int] = {}
        for _ in range(self.settings.draws):
            chosen = (theta + _gumbel(1, theta, generator)[0]).argmax(dim=1)
            tokens = places.candidates.gather(1, chosen[:, None])[:, 0].cpu().numpy()
            text = write_tokens(example, places, tokens).texts
            if text != example.texts:
                changes.setdefault(text, int((tokens != places.tokens).sum()))
        if not changes:
            return example
        texts = list(changes)
        rows = victim.scores(texts)
        cost.queries += len(texts)
        cost.forwards += len(texts)
        flipped: Sequence[int] = np.flatnonzero(rows.argmax(axis=1) != example.label).tolist()
        best = min(flipped, key=lambda i: changes[texts[i]]) if flipped else int(loss(rows, example.label).argmax())
        return example.with_texts(texts[best])


def _gumbel(count: int, theta: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard Gumbel noise, shape (count, *theta.shape), drawn on the CPU: the same on every device."""
    uniform = torch.rand(count, *theta.shape, generator=generator).clamp_(1e-10, 1 - 1e-7)
    return -(-uniform.log()).log().to(theta.device)


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
