from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from robustness import Access, Example
from robustness.engine.attack import Gradients, ScoreRows, Search
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import Scheduler
from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.gradients.flips import TokenFlips, WordFlips, estimate
from robustness.recipes.text.gradients.gradient_beam import GradientBeam
from robustness.recipes.text.ranking import ByGradient
from robustness.recipes.text.searches import GreedyWordRanking
from robustness.testsets.example import Texts
from robustness.victims.heads.labels import Victim
from robustness.victims.heads.text_gradients import text_gradients
from robustness.victims.toy_models import CORPUS, BagModel, bag_victim, byte_pairs, word_pieces
from robustness.victims.vocabulary import vocabulary_of

WORDS = tuple(dict.fromkeys(" ".join(CORPUS).replace(",", "").split()))
SENTENCES = (
    "the film is good , and warm .",
    "a dull plot",
    "great acting !",
    "the song is cold and the actor played",
)
TOKENIZERS = {"word pieces": word_pieces(WORDS), "byte pairs": byte_pairs()}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]


def label_as_answered(victim: Victim, texts: Sequence[str]) -> list[Example]:
    answers = victim.scores([(text,) for text in texts]).argmax(axis=1)
    return [Example(str(i), (t,), int(a)) for i, (t, a) in enumerate(zip(texts, answers, strict=True))]


def exchange(*words: str) -> WordEdits:
    """Any word may stand for any other."""
    return WordEdits([lambda word, rng: [each for each in words if each != word]], Constraints())


def run(attack: Any, victim: Victim, examples: Sequence[Example], **settings: Any) -> dict[str, Outcome]:
    budget = settings.pop("budget", None)
    named = NamedAttack("test", "digest", attack, max_queries=budget)
    return {o.example_id: o for o in Scheduler(named, victim, seed=0, **settings).run(examples)}


def margin(rows: np.ndarray, label: int) -> np.ndarray:
    others = np.delete(rows, label, axis=1).max(axis=1)
    return rows[:, label] - others


def test_the_gradient_at_a_text_is_that_of_finite_differences(tokenizer: Any) -> None:
    victim = bag_victim(tokenizer)
    table = victim.model.table.weight.detach().double().numpy()
    head = victim.model.head.detach().double().numpy()

    for example, gradient in zip(
        label_as_answered(victim, SENTENCES),
        text_gradients(victim, label_as_answered(victim, SENTENCES)),
        strict=True,
    ):
        expected = head[:, 1 - example.label] - head[:, example.label]
        np.testing.assert_allclose(gradient.gradient, np.tile(expected, (len(gradient.tokens), 1)), rtol=1e-5)
        ids = tokenizer(example.texts[0])["input_ids"]
        loss = -log_softmax(table[ids].sum(axis=0) @ head)[example.label]
        assert gradient.loss == pytest.approx(loss, rel=1e-4, abs=1e-4)
        assert not gradient.reached
        assert "".join(example.texts[0][a:b].strip() for _, a, b in gradient.places) == "".join(
            example.texts[0].split()
        )


def test_estimates_of_words_of_one_token_are_exact_on_a_linear_model() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"])
    for example in label_as_answered(victim, SENTENCES):
        (gradient,) = text_gradients(victim, [example])
        before = -margin(victim.scores([example.texts]), example.label)[0]
        for index in range(len(example.words)):
            held = gradient.tokens_of(example.spans[index])
            others = [word for word in WORDS if word != example.words[index]]
            pieces = [vocabulary_of(victim).pieces(word, after_space=True) for word in others]
            assert len(held) == 1 and all(len(each) == 1 for each in pieces)

            found = estimate(gradient, held, pieces)

            after = -margin(victim.scores([example.replace_word(index, w).texts for w in others]), example.label)
            np.testing.assert_allclose(found, after - before, atol=1e-4)


def test_the_best_word_flips_are_those_of_brute_force() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=3)
    for example in label_as_answered(victim, SENTENCES):
        (gradient,) = text_gradients(victim, [example])
        every = [
            example.replace_word(i, word)
            for i in range(len(example.words))
            for word in WORDS
            if word != example.words[i]
        ]
        margins = margin(victim.scores([each.texts for each in every]), example.label)

        found = WordFlips(exchange(*WORDS)).best(example, example, gradient, 5, np.random.default_rng(0))

        reached = margin(victim.scores([each.texts for each in found]), example.label)
        np.testing.assert_allclose(reached, np.sort(margins)[:5], atol=1e-4)
        assert {each.texts for each in found} <= {each.texts for each in every}


def test_the_best_token_flips_are_those_of_brute_force_over_the_vocabulary(tokenizer: Any) -> None:
    victim = bag_victim(tokenizer, seed=4)
    vocabulary = vocabulary_of(victim)
    for example in label_as_answered(victim, SENTENCES):
        (gradient,) = text_gradients(victim, [example])
        ids = tokenizer(example.texts[0])["input_ids"]
        every: dict[Texts, None] = {}
        for (_, start, end), _token in zip(gradient.places, gradient.tokens, strict=True):
            for form in set(vocabulary.forms) - {""}:
                text = example.texts[0][:start] + form + example.texts[0][end:]
                read = tokenizer(text)["input_ids"]
                changed = [(a, b) for a, b in zip(ids, read, strict=False) if a != b]
                is_one_flip = len(read) == len(ids) and len(changed) == 1
                if is_one_flip and all(vocabulary.words[token] for token in changed[0]):
                    every[text,] = None
        margins = margin(victim.scores(list(every)), example.label)

        found = TokenFlips().best(example, example, gradient, 10, np.random.default_rng(0))

        assert found
        reached = margin(victim.scores([each.texts for each in found]), example.label)
        np.testing.assert_allclose(reached, np.sort(margins)[: len(found)], atol=1e-4)
        assert {each.texts for each in found} <= set(every)


def test_every_token_flip_is_read_back_as_one_other_token(tokenizer: Any) -> None:
    victim = bag_victim(tokenizer, seed=5)
    example = Example("pair", ("the film is good", "a warm song"), 0, attacked=(0, 1))
    (gradient,) = text_gradients(victim, [example])

    for flipped in TokenFlips().best(example, example, gradient, 50, np.random.default_rng(0)):
        before, after = (tokenizer(*texts)["input_ids"] for texts in (example.texts, flipped.texts))
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def plant_trigger(trigger: str, replacement: str) -> Victim:
    """Answers by one word alone: 1 with the trigger, 0 without; the replacement pushes furthest towards 0."""
    tokenizer = TOKENIZERS["word pieces"]
    embeddings = torch.zeros(len(tokenizer), 2)
    embeddings[tokenizer.convert_tokens_to_ids(trigger), 0] = 4.0
    embeddings[tokenizer.convert_tokens_to_ids(replacement), 1] = 5.0
    embeddings[tokenizer.convert_tokens_to_ids("[CLS]"), 1] = 2.0
    return Victim(BagModel(embeddings, torch.tensor([[-1.0, 1.0], [1.0, -1.0]])).eval(), tokenizer, (0, 1))


def test_on_a_planted_trigger_the_first_question_holds_the_flip() -> None:
    victim = plant_trigger("good", "awful")
    examples = [Example(str(i), (text,), 1) for i, text in enumerate(("the film is good", "a good , good song"))]

    outcomes = run(GradientBeam(TokenFlips(), width=1, max_flips=2), victim, examples)

    assert [o.status for o in outcomes.values()] == [Status.SUCCEEDED, Status.SUCCEEDED]
    first = outcomes["0"]
    assert first.adversarial_text == ("the film is awful",)
    # The clean text, its gradient, one candidate, and the judge: one query, one gradient, four forward passes.
    assert (first.queries, first.backwards, first.forwards) == (1, 1, 4)
    assert first.zero_gradients == 0


def test_a_gradient_at_a_candidate_is_a_query_and_one_at_the_clean_text_is_none() -> None:
    victim = plant_trigger("good", "awful")
    example = Example("0", ("good good good good",), 1)

    outcome = run(GradientBeam(TokenFlips(), width=1, max_flips=2), victim, [example])["0"]

    # Two rounds: two gradients, of which one at a candidate, and two candidates scored.
    assert outcome.backwards == 2 and outcome.queries == 3 and outcome.modified_words == 2
    assert outcome.forwards == 1 + 2 + 2 + 1


def test_success_never_falls_as_flips_or_queries_grow(tokenizer: Any) -> None:
    victim = bag_victim(tokenizer, seed=6)
    examples = label_as_answered(victim, SENTENCES * 3)

    def broken(flips: int, budget: int | None = None) -> set[str]:
        outcomes = run(GradientBeam(TokenFlips(), width=3, max_flips=flips), victim, examples, budget=budget)
        return {name for name, o in outcomes.items() if o.status is Status.SUCCEEDED}

    by_flips = [broken(flips) for flips in (1, 2, 3)]
    by_budget = [broken(3, budget) for budget in (2, 3, 6, 18, 60)]

    assert by_flips[0] <= by_flips[1] <= by_flips[2] and by_flips[2]
    assert all(a <= b for a, b in pairwise(by_budget))
    assert not by_budget[0]


def test_the_beam_keeps_to_its_flips_and_changes_no_word_twice() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=7)
    examples = label_as_answered(victim, SENTENCES)

    for outcome in run(
        GradientBeam(WordFlips(exchange("film", "plot")), width=2, max_flips=2), victim, examples
    ).values():
        assert outcome.modified_words is not None and outcome.modified_words <= 2


def test_outcomes_do_not_depend_on_width_or_order(tokenizer: Any) -> None:
    victim = bag_victim(tokenizer, seed=8)
    examples = label_as_answered(victim, SENTENCES * 4)
    attack = GradientBeam(TokenFlips(), width=4, max_flips=2)

    once = run(attack, victim, examples)
    again = run(attack, victim, examples[::-1], width=1)

    for name, outcome in once.items():
        assert (outcome.status, outcome.adversarial_text, outcome.queries, outcome.backwards) == (
            again[name].status,
            again[name].adversarial_text,
            again[name].queries,
            again[name].backwards,
        )


def test_gradients_are_taken_in_evaluation_mode_and_leave_the_model_as_it_was() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"])
    examples = label_as_answered(victim, SENTENCES)
    expected = text_gradients(victim, examples)
    victim.model.train()

    found = text_gradients(victim, examples)

    assert victim.model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in victim.model.parameters())
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.gradient, other.gradient)


def test_a_vanished_gradient_is_counted() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"])
    with torch.no_grad():
        victim.model.head[:, 1] = victim.model.head[:, 0]  # both answers always score the same

    outcome = run(GradientBeam(TokenFlips(), width=2, max_flips=2), victim, [Example("0", ("a dull plot",), 0)])["0"]

    assert outcome.status is Status.FAILED
    assert outcome.zero_gradients == outcome.backwards == 3


def test_words_are_ranked_by_the_size_of_their_mean_gradient() -> None:
    """Mean pooling gives every token one gradient; a word of two pieces has the same mean, so order is the text's."""
    tokenizer = TOKENIZERS["word pieces"]
    victim = bag_victim(tokenizer, mean=True)

    class Weighted(torch.nn.Module):
        def __init__(self, inner: BagModel) -> None:
            super().__init__()
            self.inner, self.config = inner, inner.config

        def get_input_embeddings(self) -> torch.nn.Embedding:
            return self.inner.table

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
            scale = torch.arange(input_ids.shape[1]) % 4  # by place: 0 at [CLS]
            vectors = self.inner.table(input_ids) * (attention_mask * scale)[:, :, None]
            return type("Answer", (), {"logits": vectors.sum(dim=1) @ self.inner.head})

    weighted = Victim(Weighted(victim.model).eval(), tokenizer, (0, 1))
    (example,) = label_as_answered(weighted, ["film plot song acting"])  # places 1, 2, 3, then 4: scales 1, 2, 3, 0
    ranking = ByGradient().order(example, exchange("film"), np.random.default_rng(0))
    next(ranking)

    with pytest.raises(StopIteration) as stop:
        ranking.send(text_gradients(weighted, [example]))

    assert stop.value.value == [2, 1, 0, 3]


def test_a_gradient_ranking_makes_a_white_box_search() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=2)
    attack = GreedyWordRanking(exchange(*WORDS), ByGradient())

    outcomes = run(attack, victim, label_as_answered(victim, SENTENCES))

    assert attack.access is Access.GRADIENTS
    assert all(o.backwards == 1 for o in outcomes.values())
    assert any(o.status is Status.SUCCEEDED for o in outcomes.values())


class Sneaky:
    """Has access to scores alone, and asks for gradients."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        yield Gradients([example])
        return example


class Open(Sneaky):
    access = Access.GRADIENTS


def test_asking_for_gradients_without_access_is_an_error_of_that_example() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"])
    examples = label_as_answered(victim, SENTENCES)

    refused = run(Sneaky(), victim, examples[:2]).values()  # a third would end the run
    allowed = run(Open(), victim, examples).values()

    assert all(o.status is Status.ERRORED and "its access is scores" in str(o.error) for o in refused)
    assert {o.status for o in allowed} == {Status.FAILED}


def test_a_victim_without_gradients_is_an_error_of_each_example() -> None:
    class ScoresAlone:
        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            return np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(texts), 1))

    named = NamedAttack("test", "digest", Open())
    outcomes = list(Scheduler(named, ScoresAlone(), seed=0).run([Example("0", ("film",), 0)]))

    assert outcomes[0].status is Status.ERRORED and "asked for gradients" in str(outcomes[0].error)


def test_one_broken_text_spoils_no_other_examples_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_on_songs(victim: Victim, examples: Sequence[Example]) -> Any:
        if any("song" in example.texts[0] for example in examples):
            raise RuntimeError("no songs")
        return text_gradients(victim, examples)

    monkeypatch.setattr(Victim, "text_gradients", fails_on_songs)
    victim = bag_victim(TOKENIZERS["word pieces"])

    outcomes = run(Open(), victim, label_as_answered(victim, SENTENCES))

    assert {name for name, o in outcomes.items() if o.status is Status.ERRORED} == {"3"}
    assert outcomes["3"].error == "RuntimeError: no songs"


def test_more_gradients_than_are_held_at_a_time_are_all_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    from robustness.engine import gradient_desk

    monkeypatch.setattr(gradient_desk, "TEXTS", 3)
    victim = bag_victim(TOKENIZERS["word pieces"], seed=9)
    examples = label_as_answered(victim, SENTENCES * 3)

    outcomes = run(GradientBeam(TokenFlips(), width=4, max_flips=2), victim, examples)

    assert len(outcomes) == len(examples)
    assert all(o.backwards for o in outcomes.values())
