"""Searches on planted models, whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness import Example
from robustness.engine.attack import Answer, Attack, ScoreRows
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.questions import candidates_of
from robustness.engine.scheduler import Scheduler
from robustness.recipes.distractors.appended_texts import Append
from robustness.recipes.text.constraints import Constraints, SamePartOfSpeech
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.populations.evolution import DifferentialEvolution
from robustness.recipes.text.populations.genetic import Genetic
from robustness.recipes.text.populations.swarm import ParticleSwarm, _Swarm
from robustness.recipes.text.ranking import ByDeleting, ByHiding, ByWeightedSaliency, delete_word
from robustness.recipes.text.searches import Greedy, GreedyWordRanking
from robustness.recipes.text.transformations.words import nearest_neighbours, wordnet_synonyms

CLEAN = Example("1", ("some good film with a plot",), label=1)
NEIGHBOURS = {"good": ("fine", "okay", "bad"), "film": ("movie",), "plot": ("story", "tale")}
TWO_NEEDED = {"good": 1.0, "fine": 0.5, "okay": 0.5, "bad": -0.2, "plot": 1.0, "story": 0.5, "tale": -0.2}


@dataclass
class WordVictim:
    """Positive while the planted words weigh more than 0; remembers the questions."""

    weights: dict[str, float]
    questions: list[list[str]] = field(default_factory=list)

    def scores(self, texts: Sequence[tuple[str, ...]]) -> ScoreRows:
        self.questions.append([text[0] for text in texts])
        sums = [sum(self.weights.get(word, 0.0) for word in " ".join(text).split()) for text in texts]
        return np.array([[-value, value] for value in sums], dtype=np.float32)


def edits(constraints: Constraints | None = None) -> WordEdits:
    return WordEdits([nearest_neighbours(NEIGHBOURS, 8)], constraints or Constraints())


def attack_once(attack: Attack, victim: WordVictim, *, max_queries: int | None = None, seed: int = 0) -> Outcome:
    named = NamedAttack("planted", "digest", attack, max_queries=max_queries)
    return next(Scheduler(named, victim, seed=seed).run([CLEAN]))


SEARCHES: dict[str, Attack] = {
    "hiding": GreedyWordRanking(edits(), ByHiding("[UNK]")),
    "deleting": GreedyWordRanking(edits(), ByDeleting()),
    "weighted-saliency": GreedyWordRanking(edits(), ByWeightedSaliency("[UNK]")),
    "greedy": Greedy(edits()),
    "evolution": DifferentialEvolution(edits(), changes=2, population=16, generations=10),
    "genetic": Genetic(edits(), population=8, generations=10, temperature=0.3),
    "swarm": ParticleSwarm(edits(), particles=8, iterations=10),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_the_one_word_that_flips_is_found(name: str) -> None:
    outcome = attack_once(SEARCHES[name], WordVictim({"good": 1.0, "bad": -1.0, "some": 0.5}))

    assert outcome.status is Status.SUCCEEDED
    assert outcome.adversarial_text is not None
    assert "bad" in outcome.adversarial_text[0].split()


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        ("hiding", 6 + 3),  # every word hidden, then the candidates of `good`
        ("deleting", 6 + 3),
        ("weighted-saliency", 6 + 6 + 3),  # the candidates of every word before those of the first
        ("greedy", 6),  # all candidates at once
    ],
)
def test_the_number_of_queries_is_known(name: str, queries: int) -> None:
    outcome = attack_once(SEARCHES[name], WordVictim({"good": 1.0, "bad": -1.0, "some": 0.5}))

    assert outcome.queries == queries


@pytest.mark.parametrize("name", [*SEARCHES])
def test_a_flip_that_takes_two_words_is_found(name: str) -> None:
    outcome = attack_once(SEARCHES[name], WordVictim(TWO_NEEDED))

    assert outcome.status is Status.SUCCEEDED
    assert outcome.adversarial_text is not None
    assert {"bad", "tale"} <= set(outcome.adversarial_text[0].split())


@pytest.mark.parametrize("name", SEARCHES)
@given(budget=st.integers(1, 60))
def test_success_never_falls_as_the_budget_grows(name: str, budget: int) -> None:
    small = attack_once(SEARCHES[name], WordVictim(TWO_NEEDED), max_queries=budget)
    large = attack_once(SEARCHES[name], WordVictim(TWO_NEEDED), max_queries=budget + 10)

    assert small.queries <= budget
    assert large.status is Status.SUCCEEDED or small.status is Status.FAILED


@pytest.mark.parametrize("name", SEARCHES)
def test_no_candidates_means_no_success(name: str) -> None:
    victim = WordVictim({"good": 1.0})
    lonely = replace(CLEAN, texts=("good",), _spans=None)
    bare = WordEdits([nearest_neighbours({}, 8)], Constraints())
    made: dict[str, Attack] = {
        "hiding": GreedyWordRanking(bare, ByHiding("[UNK]")),
        "deleting": GreedyWordRanking(bare, ByDeleting()),
        "weighted-saliency": GreedyWordRanking(bare, ByWeightedSaliency("[UNK]")),
        "greedy": Greedy(bare),
        "evolution": DifferentialEvolution(bare, changes=2, population=4, generations=2),
        "genetic": Genetic(bare, population=4, generations=2, temperature=0.3),
        "swarm": ParticleSwarm(bare, particles=4, iterations=2),
    }

    outcome = next(Scheduler(NamedAttack("bare", "digest", made[name]), victim, seed=0).run([lonely]))

    assert (outcome.status, outcome.adversarial_text) == (Status.FAILED, ("good",))


@pytest.mark.parametrize("name", ["greedy", "evolution", "genetic", "swarm"])
@given(seed=st.integers(0, 100))
def test_no_candidate_breaks_a_constraint(name: str, seed: int) -> None:
    limited = edits(Constraints(max_changed_words=1))
    made: dict[str, Attack] = {
        "greedy": Greedy(limited),
        "evolution": DifferentialEvolution(limited, changes=3, population=8, generations=4),
        "genetic": Genetic(limited, population=8, generations=4, temperature=0.3),
        "swarm": ParticleSwarm(limited, particles=8, iterations=4),
    }
    victim = WordVictim({"good": 1.0, "some": 9.0})

    attack_once(made[name], victim, seed=seed)

    for text in (text for question in victim.questions for text in question):
        assert sum(a != b for a, b in zip(text.split(), CLEAN.texts[0].split(), strict=True)) <= 1


def test_greedy_keeps_a_rounds_best_even_where_it_is_worse() -> None:
    outcome = attack_once(
        Greedy(edits()), WordVictim({"some": 5.0, "fine": 3.0, "okay": 2.0, "bad": 1.0, "movie": 1.0})
    )

    assert outcome.status is Status.FAILED
    assert outcome.adversarial_text is not None
    assert outcome.adversarial_text != CLEAN.texts


def test_of_candidates_that_score_the_same_the_first_by_text_is_kept() -> None:
    outcome = attack_once(Greedy(edits()), WordVictim({"good": 1.0, "fine": -1.0, "bad": -1.0, "okay": -1.0}))

    assert outcome.adversarial_text == ("some bad film with a plot",)


def test_appending_stops_at_the_first_distractor_that_flips() -> None:
    victim = WordVictim({"good": 1.0, "not": -2.0})

    outcome = attack_once(Append(["and true", "and not", "and so"], handles=3, links=3), victim)

    assert outcome.adversarial_text == (f"{CLEAN.texts[0]} and not",)
    assert outcome.queries == 2


def test_distractors_go_to_every_open_segment_and_no_other() -> None:
    pair = Example("1", ("one good film", "two", "three"), label=1, attacked=(1, 2))

    seen: list[tuple[str, ...]] = []
    search = Append(["x"], handles=1, links=1).search(pair, np.random.default_rng(0))
    question = next(search)
    while True:
        seen += [candidate.texts for candidate in candidates_of(question)]
        try:
            nothing = np.zeros(len(candidates_of(question)))
            question = search.send(Answer(nothing, free_reached=nothing > 0))
        except StopIteration:
            break

    assert len(seen) == 6
    assert all(texts[0] == "one good film" for texts in seen)
    assert [texts[1].startswith("two ") for texts in seen] == [True] * 3 + [False] * 3


@given(text=st.text(max_size=30), data=st.data())
def test_deleting_a_word_takes_it_and_at_most_one_space(text: str, data: st.DataObject) -> None:
    example = Example("1", (text,), label=0)
    if not example.words:
        return
    index = data.draw(st.integers(0, len(example.words) - 1))

    (left,) = delete_word(example, index).texts

    assert len(text) - len(left) - len(example.words[index]) in (0, 1)
    assert left.replace(" ", "") == example.replace_word(index, "").texts[0].replace(" ", "")


@given(seed=st.integers(0, 100))
def test_a_turn_takes_words_of_the_best_as_often_as_its_velocity_says(seed: int) -> None:
    swarm = _Swarm(edits(), CLEAN, particles=1, rng=np.random.default_rng(seed))
    particle, best = {1: "fine", 2: "movie"}, {1: "bad", 5: "tale"}

    assert swarm.forms.keys() == {1, 2, 5}
    assert swarm._turn(particle, best, np.zeros(3)) == particle
    assert swarm._turn(particle, best, np.ones(3)) == best
    assert swarm._turn(particle, best, np.array([0.0, 1.0, 0.0])) == {1: "fine"}  # the best has the clean word there


def test_velocities_grow_where_a_particle_differs_from_both_bests_and_shrink_where_it_agrees() -> None:
    swarm = _Swarm(edits(), CLEAN, particles=50, rng=np.random.default_rng(0))
    swarm.particles = [{1: "fine"} for _ in range(50)]
    swarm._own = [{1: "bad"} for _ in range(50)]
    swarm._own_fitness[:] = 0.5
    before = swarm._velocities.copy()

    swarm.move(elapsed=1.0)  # inertia 0.2: pulls of 2 x 3 where both bests differ, of -2 x 3 where both agree

    expected = 0.2 * before + 0.8 * np.array([6.0, -6.0, -6.0])
    np.testing.assert_allclose(swarm._velocities, expected)


def test_words_are_looked_up_and_tagged_once_for_all_arms() -> None:
    looked_up: list[str] = []
    tagged: list[tuple[str, ...]] = []

    class Sense:
        def lemma_names(self) -> list[str]:
            return ["fine", "okay", "bad"]

    class CountingThesaurus:
        def synsets(self, lemma: str) -> list[Sense]:
            looked_up.append(lemma)
            return [Sense()]

    def tag(words: Sequence[str]) -> list[str]:
        tagged.append(tuple(words))
        return ["NOUN"] * len(words)

    constraints = Constraints(same_part_of_speech=SamePartOfSpeech(tag, noun_for_verb=False))
    attack = Greedy(WordEdits([wordnet_synonyms(CountingThesaurus())], constraints))
    attack_once(attack, WordVictim({"good": 1.0}))
    assert looked_up and tagged
    before = len(looked_up), len(tagged)

    attack_once(attack, WordVictim({"good": 2.0}))  # the other arm

    assert (len(looked_up), len(tagged)) == before
