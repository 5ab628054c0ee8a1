from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from frames import Spilling
from transformers import GPT2Config, GPT2LMHeadModel

from robustness import Example
from robustness.engine.outcome import Outcome, Status
from robustness.errors import AttackError, CheckpointError
from robustness.recipes.text.gradients import gbda as gbda_module
from robustness.recipes.text.gradients.gbda import Gbda
from robustness.recipes.text.gradients.token_places import find_places, soft_perplexity, write_tokens
from robustness.victims.heads.labels import Victim
from robustness.victims.isolation import VictimGoneError
from robustness.victims.language_model import SameVocabularyModel
from robustness.victims.toy_models import CORPUS, BagModel, bag_victim, byte_pairs, word_pieces

WORDS = tuple(dict.fromkeys(" ".join(CORPUS).replace(",", "").split()))
TOKENIZERS = {"word pieces": word_pieces(WORDS), "byte pairs": byte_pairs()}
BASE = Gbda(
    steps=25,
    samples=4,
    draws=20,
    step_size=0.3,
    temperature=1.0,
    margin=2.0,
    start=4.0,
)


@pytest.fixture(params=TOKENIZERS)
def victim(request: pytest.FixtureRequest) -> Victim:
    return bag_victim(TOKENIZERS[request.param], seed=12)


def gbda(**changes: Any) -> Gbda:
    return replace(BASE, **changes)


def run(attack: Gbda, victim: Victim, examples: list[Example], seed: int = 0) -> dict[str, Outcome]:
    return {o.example_id: o for o in attack.run(victim, examples, seed=seed, digest="digest")}


def labelled(victim: Victim, *texts: tuple[str, ...]) -> list[Example]:
    answers = victim.scores(list(texts)).argmax(axis=1)
    return [Example(str(i), text, int(a)) for i, (text, a) in enumerate(zip(texts, answers, strict=True))]


def test_it_flips_a_bag_of_words_and_every_success_repeats(victim: Victim) -> None:
    examples = labelled(victim, ("the film is good , and warm .",), ("a dull plot",), ("the song is cold",))

    outcomes = run(gbda(), victim, examples).values()

    assert all(o.status is Status.SUCCEEDED for o in outcomes)
    for outcome in outcomes:
        assert outcome.adversarial_text is not None
        answered = victim.scores([outcome.adversarial_text])[0].argmax()
        assert (outcome.response, outcome.correct) == (str(answered), False) and outcome.response != outcome.gold


@pytest.mark.parametrize("look_every", [None, 1, 10])
def test_forwards_and_backwards_are_those_that_were_run(look_every: int | None) -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=12)
    (example,) = labelled(victim, ("a dull plot",))
    before = victim.forwards

    outcome = run(gbda(look_every=look_every), victim, [example])["0"]

    assert outcome.forwards == victim.forwards - before
    assert outcome.backwards == 25 * 4 if look_every is None else 0 < outcome.backwards < 25 * 4
    assert outcome.queries == outcome.forwards - 2
    assert outcome.zero_gradients == 0


def test_learning_ends_with_the_first_drawn_text_that_flips_so_more_steps_find_more() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=13)
    examples = labelled(
        victim, *((f"the film is good and the plot is {w}",) for w in ("fine", "dull", "bad", "warm"))
    )

    by_steps = [run(gbda(steps=steps, start=9.0, look_every=2), victim, examples) for steps in (3, 6, 12, 40)]

    found = [{name for name, o in outcomes.items() if o.status is Status.SUCCEEDED} for outcomes in by_steps]
    assert all(fewer <= more for fewer, more in pairwise(found)) and len(found[0]) < len(found[-1]) == 4
    assert all((o.backwards or 0) < 40 * 4 for o in by_steps[-1].values())


def test_a_label_outside_the_heads_range_is_errored_with_its_reason() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=12)
    examples = [Example(str(label), ("a dull plot",), label) for label in (7, -1)]

    outcomes = run(gbda(), victim, examples)

    assert {o.status for o in outcomes.values()} == {Status.ERRORED}
    assert all("outside the head's range" in str(o.error) for o in outcomes.values())


def test_an_example_that_takes_too_long_is_errored_and_the_next_is_attacked() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=12)
    right, wrong = (victim.scores([("a dull plot",)])[0].argmax() == label for label in (0, 1))
    examples = [Example("slow", ("a dull plot",), int(wrong)), Example("skipped", ("a dull plot",), int(right))]

    outcomes = run(gbda(steps=10**6, max_seconds=2.0), victim, examples)

    assert outcomes["slow"].status is Status.ERRORED
    assert "more than 2 seconds" in str(outcomes["slow"].error)
    assert outcomes["skipped"].status is Status.SKIPPED
    assert not any(module.training for module in victim.model.modules())


class Failing:
    """Raises one error each time it is called."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def __call__(self, *_: object) -> None:
        self.calls += 1
        raise self.error


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], Failing]:
    """Lets every search fail."""

    def fail(error: Exception) -> Failing:
        fails = Failing(error)
        monkeypatch.setattr(gbda_module, "find_places", fails)
        return fails

    return fail


def test_a_lost_device_ends_the_attack_at_the_first_failure(
    failing: Callable[[Exception], Failing], monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = failing(RuntimeError("CUDA error: device-side assert triggered"))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", Failing(RuntimeError("CUDA error: an illegal memory access")))
    victim = bag_victim(TOKENIZERS["word pieces"], seed=12)

    with pytest.raises(VictimGoneError, match="the device is lost .*illegal memory access.* after .*device-side"):
        run(gbda(), victim, labelled(victim, ("a dull plot",), ("the song is cold",)))
    assert fails.calls == 1


def test_memory_is_freed_once_no_frame_of_a_failed_search_holds_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    spilling = Spilling()
    monkeypatch.setattr(gbda_module, "find_places", spilling)
    monkeypatch.setattr(gbda_module, "recover", spilling.recover)
    victim = bag_victim(TOKENIZERS["word pieces"], seed=12)

    outcomes = run(gbda(), victim, labelled(victim, ("a dull plot",), ("the song is cold",)))

    assert spilling.held == [0, 0]
    assert {outcome.error for outcome in outcomes.values()} == {"OutOfMemoryError: no memory"}


def test_three_failures_in_a_row_end_the_attack_unless_memory_is_short(
    failing: Callable[[Exception], Failing],
) -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=12)
    examples = labelled(victim, *((f"a {word} plot",) for word in ("dull", "fine", "warm", "cold")))
    fails = failing(torch.OutOfMemoryError("CUDA out of memory"))

    outcomes = run(gbda(), victim, examples)

    assert {outcome.error for outcome in outcomes.values()} == {"OutOfMemoryError: CUDA out of memory"}
    assert fails.calls == 4
    fails = failing(ValueError("no such shape"))
    with pytest.raises(AttackError, match=r"failed on 3 examples in a row, .* with ValueError: no such shape"):
        run(gbda(), victim, examples)
    assert fails.calls == 3


def test_the_similarity_term_keeps_more_tokens() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=13)
    examples = labelled(
        victim, *(((f"the film is good and the plot is {word}"),) for word in ("fine", "dull", "bad"))
    )

    free = run(gbda(similarity_weight=0.0), victim, examples)
    held = run(gbda(similarity_weight=200.0), victim, examples)

    changed = [sum(o.modified_words or 0 for o in outcomes.values()) for outcomes in (free, held)]
    assert changed[1] < changed[0]


def test_candidates_are_the_nearest_tokens_of_the_same_kind(victim: Victim) -> None:
    example = Example("0", ("the film is good",), 0)
    places = find_places(victim, example, 5)
    vocabulary = places.vocabulary
    unit = torch.nn.functional.normalize(vocabulary.embeddings.double(), dim=1).numpy()

    for row, token in enumerate(places.tokens.tolist()):
        standing = places.candidates[row][places.mask[row] == 0].tolist()
        kind = vocabulary.words & (vocabulary.continues == vocabulary.continues[token])
        order = np.argsort(-np.where(kind, unit @ unit[token], -np.inf), kind="stable")
        assert standing == ([token] if not vocabulary.words[token] else order[:5].tolist())


def test_texts_are_written_with_the_tokens_and_the_spaces_of_the_clean_one(victim: Victim) -> None:
    example = Example("0", ("  the film,is   good !",), 0)
    places = find_places(victim, example, None)
    tokens = places.tokens.copy()

    assert write_tokens(example, places, tokens) == example
    film = next(i for i, (_, a, b) in enumerate(places.spans) if example.texts[0][a:b].strip() == "film")
    tokens[film] = next(t for t, form in enumerate(places.vocabulary.forms) if form == "song")
    assert write_tokens(example, places, tokens).texts == ("  the song,is   good !",)


def test_closed_segments_and_other_tokens_stay() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=14)
    answer = int(victim.scores([("the film is good", "a dull plot !")])[0].argmax())
    example = Example("0", ("the film is good", "a dull plot !"), answer, attacked=(1,))

    outcome = run(gbda(), victim, [example])["0"]

    assert outcome.adversarial_text is not None
    assert outcome.adversarial_text[0] == example.texts[0] and outcome.adversarial_text[1].endswith(" !")


def test_outcomes_depend_on_the_seed_alone() -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=15)
    examples = labelled(victim, ("a dull plot",), ("the film is good and warm",), ("great acting",))

    together = run(gbda(), victim, examples)
    alone = {name: o for example in examples[::-1] for name, o in run(gbda(), victim, [example]).items()}

    for name, outcome in together.items():
        assert (outcome.status, outcome.adversarial_text, outcome.quality, outcome.queries) == (
            alone[name].status,
            alone[name].adversarial_text,
            alone[name].quality,
            alone[name].queries,
        )


def test_a_vanished_gradient_is_counted_and_what_is_already_wrong_is_skipped() -> None:
    tokenizer = TOKENIZERS["word pieces"]
    constant = Victim(BagModel(torch.randn(len(tokenizer), 3), torch.zeros(3, 2)).eval(), tokenizer, (0, 1))
    examples = [Example("right", ("a dull plot",), 0), Example("wrong", ("a dull plot",), 1)]

    outcomes = run(gbda(), constant, examples)

    assert outcomes["right"].status is Status.FAILED
    assert outcomes["right"].zero_gradients == outcomes["right"].backwards == 100
    assert outcomes["wrong"].status is Status.SKIPPED and outcomes["wrong"].backwards == 0


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    tokenizer = TOKENIZERS["word pieces"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=64)
        GPT2LMHeadModel(config).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


def test_perplexity_of_a_text_without_doubt_is_that_of_the_model(language_model: Path) -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=12)
    places = find_places(victim, Example("0", ("the film is good",), 0), 7)
    ids = torch.from_numpy(places.tokens)[None]
    with torch.no_grad():
        expected = GPT2LMHeadModel.from_pretrained(language_model).eval()(input_ids=ids, labels=ids).loss

        found = soft_perplexity(places.is_own.float()[None], places, SameVocabularyModel(str(language_model), victim))

    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_it_runs_with_a_language_model(language_model: Path) -> None:
    victim = bag_victim(TOKENIZERS["word pieces"], seed=12)
    attack = gbda(perplexity_weight=1.0, language_model=str(language_model))

    assert run(attack, victim, labelled(victim, ("a dull plot",)))["0"].status is Status.SUCCEEDED


def test_a_language_model_of_other_tokens_is_refused_by_each_example(language_model: Path) -> None:
    victim = bag_victim(TOKENIZERS["byte pairs"], seed=12)
    attack = gbda(perplexity_weight=1.0, language_model=str(language_model))

    outcome = run(attack, victim, labelled(victim, ("a dull plot",)))["0"]

    assert outcome.status is Status.ERRORED and "is not the victim's" in str(outcome.error)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        SameVocabularyModel(str(language_model / "nothing"), victim)
