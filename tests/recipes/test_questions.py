"""Every shipped recipe on a reader: paragraphs and questions, with gold answers held still."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from goldens.tiny import make_prompted
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans, lists, sampled_from
from small_recipes import TEXT_RECIPES, small

from robustness import Access, Example, RunSettings, api
from robustness.definitions.catalog import ATTACKS
from robustness.definitions.tasks import find_task
from robustness.engine.attack import Search
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import Scheduler
from robustness.errors import DataError, UsageError
from robustness.recipes.building import name_attack
from robustness.recipes.embedding.attack import WithinRadii
from robustness.recipes.embedding.ball_attacks import Pgd
from robustness.recipes.embedding.balls import Norm
from robustness.runs.executors.executor import find_outcomes
from robustness.tasks.abilities import Ability
from robustness.tasks.answer_scores import normalised_tokens
from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import Grader, LabelGrader, Rows, SpanGrader
from robustness.testsets.protection import find_protected
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.heads.verbalisers import PromptedVictim
from robustness.victims.loading import load_checkpoint, place, to_victim
from robustness.victims.toy_models import toy_victims

SQUAD = find_task("squad")
EMBEDDING_RECIPES = [name for name in ATTACKS.names() if name not in TEXT_RECIPES]
SENTENCES = ["anna lives in rome .", "hugo works in lima .", "clara lives in Rome .", "in rome , it was not rome ."]
QUESTIONS = ["where does anna live ?", "where does hugo work ?", "where was it ?"]


@pytest.fixture(scope="module")
def victim(answering: Any) -> AnsweringVictim:
    checkpoint = read_checkpoint("lora", str(answering.peft), str(answering.base))
    made = to_victim(load_checkpoint(checkpoint, SQUAD), place("cpu"))
    assert isinstance(made, AnsweringVictim)
    return made


def protect(example: Example, *fields: str) -> Example:
    """The example as a run has it, with the named fields open to attack."""
    attacked = SQUAD.attacking(fields).attacked_segments
    return replace(example, attacked=attacked, protected=find_protected(SQUAD, example.texts, example.answers))


def attack_with(named: NamedAttack, victim: Any, examples: Sequence[Example]) -> list[Outcome]:
    return list(find_outcomes(victim, None, named, examples, 0))


def count_answers(paragraph: str, answer: str) -> int:
    """Occurrences of an answer among the words that SQuAD's scorer reads."""
    return normalised_tokens(paragraph).count(answer.lower())


@pytest.mark.parametrize("name", TEXT_RECIPES)
@settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
    derandomize=True,
    deadline=None,
)
@given(
    sentences=lists(sampled_from(SENTENCES), min_size=1, max_size=3),
    question=sampled_from(QUESTIONS),
    answer=sampled_from(["rome", "lima"]),
    in_paragraph=booleans(),
)
def test_gold_answers_survive_every_shipped_text_recipe(
    name: str, sentences: list[str], question: str, answer: str, in_paragraph: bool, victim: AnsweringVictim
) -> None:
    try:
        named = small(name)
    except DataError as missing:
        pytest.skip(str(missing))
    texts = (question, " ".join(sentences))
    given_answer = victim.predict([texts])[0].best  # so that it is answered rightly, and attacked
    answers = tuple(GoldSpan(text, max(0, texts[1].find(text))) for text in (given_answer, answer))
    example = protect(Example("1", texts, 1, answers=answers), *(["context"] if in_paragraph else ["question"]))

    (outcome,) = attack_with(named, victim, [example])

    assert outcome.status in (Status.SUCCEEDED, Status.FAILED), outcome.error
    assert outcome.adversarial_text is not None
    asked, paragraph = outcome.adversarial_text
    assert (asked == question) if in_paragraph else (paragraph == texts[1])
    assert example.first_broken(outcome.adversarial_text) is None
    assert count_answers(paragraph, answer) >= count_answers(texts[1], answer)


@pytest.mark.parametrize("name", TEXT_RECIPES)
@pytest.mark.parametrize("field", ["context", "question"])
def test_every_text_recipe_attacks_paragraphs_and_questions(
    name: str, field: str, answering: Any, victim: AnsweringVictim
) -> None:
    try:
        named = small(name)
    except DataError as missing:
        pytest.skip(str(missing))
    examples = [protect(each, field) for each in answering.examples()[:4]]

    outcomes = attack_with(named, victim, examples)

    assert {outcome.error for outcome in outcomes} == {None}
    pairs = [(outcome.original_text or (), outcome.adversarial_text or ()) for outcome in outcomes]
    changed = {n for pair in pairs for n, (before, after) in enumerate(zip(*pair, strict=True)) if before != after}
    assert changed <= {SQUAD.fields.index(field)}
    # These need a text that one word is enough for, words of theirs, or more steps than they have here.
    assert changed or name in ("identity", "input-reduction", "checklist", "gbda")


@pytest.mark.parametrize("name", EMBEDDING_RECIPES)
@pytest.mark.parametrize("field", ["context", "question"])
def test_every_embedding_recipe_attacks_paragraphs_and_questions(
    name: str, field: str, answering: Any, victim: AnsweringVictim
) -> None:
    examples = [protect(each, field) for each in answering.examples()[:4]]

    outcomes = attack_with(small(name), victim, examples)

    assert {outcome.error for outcome in outcomes} == {None}
    for outcome in outcomes:
        assert outcome.clean_correct and outcome.correct == (outcome.status is Status.FAILED)
        assert (outcome.distance is not None) == (outcome.status is Status.SUCCEEDED)


def test_paragraphs_of_several_windows_are_no_subject_of_embedding_attacks(
    answering: Any, victim: AnsweringVictim
) -> None:
    first = answering.examples()[0]
    long = protect(first.with_texts((first.texts[0], first.texts[1] + " hugo lives in paris ." * 20)))

    for name in ("pgd", "gbda"):
        (outcome,) = attack_with(small(name), victim, [long])
        assert outcome.error == "its paragraph is read in 4 windows that share tokens" or not outcome.clean_correct


def prompted(answering: Any) -> PromptedVictim:
    world = make_prompted(answering.folder / "prompted")
    task = find_task("sst2")
    checkpoint = read_checkpoint("full", str(world.folder / "full"), str(world.base))
    made = to_victim(load_checkpoint(checkpoint, task), place("cpu"))
    assert isinstance(made, PromptedVictim)
    return made


def reader_and_example(answering: Any) -> tuple[Any, Example]:
    checkpoint = read_checkpoint("full", str(answering.full), str(answering.base))
    return to_victim(load_checkpoint(checkpoint, SQUAD), place("cpu")), protect(answering.examples()[0])


def classifier_and_example(_: Any) -> tuple[Any, Example]:
    return next(iter(toy_victims(0))), Example("1", ("the film is not dull",), 0, protected=((0, 12, 15),))


def prompted_and_example(answering: Any) -> tuple[Any, Example]:
    return prompted(answering), Example("1", ("the film is never dull .",), 0, protected=((0, 12, 17),))


@pytest.mark.parametrize("make", [classifier_and_example, prompted_and_example, reader_and_example])
def test_what_is_protected_is_not_perturbed_and_has_no_gradient(
    make: Callable[[Any], tuple[Any, Example]], answering: Any, tmp_path: Path
) -> None:
    victim, example = make(answering)
    plain = replace(example, protected=())
    held = victim.embed([example]).content[0]
    free = victim.embed([plain]).content[0]
    (located,) = victim.locate([example])
    protects = torch.tensor([example.protects(span) for span in located.places])
    pgd = WithinRadii(Pgd(Norm.L2, steps=2, step_size=1.0, restarts=1, random_start=True), (1e-3,))

    delta = pgd.perturb(victim, [example], [torch.Generator().manual_seed(0)]).delta[0]
    (gradient,), (whole,) = victim.text_gradients([example]), victim.text_gradients([plain])

    assert protects.any() and not protects.all()
    assert held[free].tolist() == (~protects).tolist() and not held[~free].any()
    assert not delta[~held].any()
    assert not gradient.gradient[protects.numpy()].any() and whole.gradient[protects.numpy()].any()
    assert (gradient.gradient[~protects.numpy()] == whole.gradient[~protects.numpy()]).all()


class Shout:
    """Upper-case one word after the other until the answer is wrong."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        for i in range(len(example.words)):
            candidate = example.replace_word(i, example.words[i].upper())
            answer = yield [candidate]
            if answer.reached[0]:
                return candidate
        return example


@dataclass(frozen=True, slots=True)
class Listener:
    """Answers in one way while no word of three letters or more is shouted, and in another once one is."""

    grader: Grader
    calm: tuple[float, ...]
    loud: tuple[float, ...]
    can: ClassVar[frozenset[Ability]] = frozenset({Ability.LOSSES})

    def rows(self, asked: Sequence[Example]) -> Rows:
        words = [[word for text in each.texts for word in text.split()] for each in asked]
        shouts = [any(word.isupper() and len(word) > 2 for word in each) for each in words]
        return np.array([self.loud if shout else self.calm for shout in shouts], dtype=np.float32)


@pytest.mark.parametrize(
    ("listener", "example", "shouted"),
    [
        (
            Listener(LabelGrader(("bad", "good")), calm=(0, 1), loud=(1, 0)),
            Example("1", ("a fine film",), 1),
            ("a FINE film",),
        ),
        (
            Listener(SpanGrader(), calm=(0.1, 3, 7), loud=(2.3, 0, 2)),
            protect(Example("1", ("who won ?", "so rome won"), 1, answers=(GoldSpan("rome", 3),))),
            ("who won ?", "so rome WON"),
        ),
    ],
)
def test_an_attack_of_a_few_lines_runs_on_labels_and_on_questions_unchanged(
    listener: Listener, example: Example, shouted: tuple[str, ...]
) -> None:
    (outcome,) = Scheduler(name_attack(Shout), listener, seed=0).run([example])

    assert (outcome.status, outcome.adversarial_text, outcome.queries) == (Status.SUCCEEDED, shouted, 2)


def test_textattacks_own_recipes_are_refused_on_questions_before_anything_loads(
    textattack: Any, answering: Any
) -> None:
    del textattack
    names = [str(answering.testset)]

    with pytest.raises(UsageError, match="textattack:PWWSRen2019: needs scores of labels, .* answers with spans"):
        api.plan(
            "advsquad",
            answering.pairs,
            RunSettings(data=answering.data, testsets=names, attacks=["textattack:PWWSRen2019"]),
        )


def test_a_run_attacks_the_field_that_it_is_told_to(answering: Any, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"data": answering.data, "testsets": [str(answering.testset)], "device": "cpu"}

    for field, segment in (("question", 0), ("context", 1)):
        out = tmp_path / field
        report = api.run(
            "advsquad",
            answering.pairs,
            out,
            RunSettings(attacks=["deepwordbug", "fgsm"], attack_fields=[field], limit=6, **asked),
        )

        rows = report.tables["examples"]
        broken = rows[(rows["attack"] == "deepwordbug") & (rows["status"] == "succeeded")]
        assert len(broken) and report.n_errored == 0 and report.missing == 0
        for row in broken.itertuples():
            before, after = json.loads(row.original_text), json.loads(row.adversarial_text)
            assert [n for n in (0, 1) if before[n] != after[n]] == [segment]
            assert row.gold in after[1].split()
        found = report.tables["attacks"].set_index(["checkpoint", "attack"])["robust_accuracy"]
        assert found["full", "deepwordbug"] == 1 - len(broken[broken["checkpoint"] == "full"]) / 6
