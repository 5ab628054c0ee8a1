from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robustness.definitions.tasks import find_task
from robustness.definitions.testsets import DistractorSearch, GeneratedSet
from robustness.recipes.distractors.common_words import COMMON_WORDS
from robustness.recipes.distractors.generated_words import expected_score, search_distractors
from robustness.tasks.answer_scores import normalised_tokens, score_answer
from robustness.tasks.gold import GoldSpan
from robustness.testsets.answer_kinds import contains_answer
from robustness.testsets.example import Example
from robustness.testsets.generation import insert_distractor
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.spans.answering import AnsweringVictim, Prediction
from robustness.victims.loading import load_checkpoint, place, to_victim

SEARCH = DistractorSearch(words=4, candidates=3, epochs=1, restarts=1)
MADE = GeneratedSet(generator="addany", questions="squad", seed=1, search=SEARCH)


@pytest.fixture(scope="module")
def victim(answering: Any) -> AnsweringVictim:
    checkpoint = read_checkpoint("lora", str(answering.peft), str(answering.base))
    made = to_victim(load_checkpoint(checkpoint, find_task("squad")), place("cpu"))
    assert isinstance(made, AnsweringVictim)
    return made


def found(victim: AnsweringVictim, examples: list[Example], **options: Any) -> dict[str, tuple[str, int]]:
    made = options.pop("made", MADE)
    return {f.example.id: (f.sentence, f.queries) for f in search_distractors(victim, examples, made, **options)}


def test_what_is_found_depends_on_nothing_beside_it(answering: Any, victim: AnsweringVictim) -> None:
    examples = answering.examples()[:6]

    together = found(victim, examples)

    assert found(victim, examples, width=2) == together == found(victim, examples[::-1])
    assert found(victim, examples[3:4]) == {examples[3].id: together[examples[3].id]}
    other = found(victim, examples, made=MADE.model_copy(update={"seed": 2}))
    assert other != together


def test_words_are_common_or_the_questions_and_never_an_answers(answering: Any, victim: AnsweringVictim) -> None:
    for found_one in search_distractors(victim, answering.examples()[:6], MADE):
        example = found_one.example
        allowed = {*COMMON_WORDS, *normalised_tokens(example.texts[0])}
        assert len(found_one.sentence.split()) == 4
        assert set(found_one.sentence.split()) <= allowed
        assert not contains_answer(found_one.sentence, [answer.text for answer in example.answers])


def test_frequent_words_of_the_paragraph_are_candidates_where_they_are_asked_for(
    answering: Any, victim: AnsweringVictim
) -> None:
    wide = MADE.model_copy(update={"search": SEARCH.model_copy(update={"paragraph_words": 20})})
    examples = answering.examples()[:4]
    asked: list[str] = []
    predict = victim.predict

    class Recorder:
        def predict(self, texts: Any) -> Any:
            asked.extend(text[1] for text in texts)
            return predict(texts)

    found(Recorder(), examples, made=wide)  # type: ignore[arg-type]
    other_city = next(
        w
        for w in examples[0].texts[1].split()
        if w not in ("lives", "in", ".", "works")
        and w != examples[0].answers[0].text
        and w not in examples[0].texts[0]
    )
    added = [
        text.removeprefix(examples[0].texts[1]).split() for text in asked if text.startswith(examples[0].texts[1])
    ]
    assert any(other_city in words for words in added)


def test_the_search_lowers_the_expected_f1(answering: Any, victim: AnsweringVictim) -> None:
    examples = answering.examples()[:8]
    altered = {
        e.example.id: insert_distractor(e.example, e.sentence, "after")
        for e in search_distractors(victim, examples, MADE)
    }

    before = [
        expected_score(p, e)[0] for p, e in zip(victim.predict([e.texts for e in examples]), examples, strict=True)
    ]
    texts = [altered[e.id].texts for e in examples]
    after = [expected_score(p, e)[0] for p, e in zip(victim.predict(texts), examples, strict=True)]

    assert np.mean(after) < np.mean(before) - 0.05


def test_the_expected_f1_is_the_weighted_mean_over_the_answers() -> None:
    prediction = Prediction(("Rome", "in Rome", "Oslo"), (np.log(4.0), np.log(4.0), np.log(2.0)))
    example = Example("q", ("Where?", "in Rome"), 1, answers=(GoldSpan("Rome", 3),))

    expected, best = expected_score(prediction, example)

    assert expected == pytest.approx(0.4 * 1 + 0.4 * 2 / 3 + 0.2 * 0)
    assert best == score_answer("Rome", example.answers).f1 == 1
