"""The noises against the paper's numbers, and the attack that draws them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from robustness import Example
from robustness.engine.attack import ScoreRows
from robustness.engine.named_attack import Effort, NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.recipes.text.best_of_n import (
    NOISES,
    BestOfN,
    Noise,
    flip_cases,
    open_characters,
    scramble_words,
    shift_characters,
)

SIGMA = 0.4
ROOT, CUBE = 0.4**0.5, 0.4**3
"""Of the paper: a word is scrambled, a letter's case flipped with the one, a character shifted with the other."""
SURE = 1e-6
"""A two-sided p-value that no right implementation falls below, with the seeds that stand here."""


def everywhere(text: str) -> np.ndarray:
    return np.ones(len(text), dtype=bool)


def noisy(noise: Noise, text: str, seed: int = 0) -> str:
    return noise(text, everywhere(text), SIGMA, np.random.default_rng(seed))


def test_words_are_scrambled_as_often_as_the_root_of_sigma_says() -> None:
    words = ["bacdef"] * 20_000  # four inner letters: of 24 orders one is the word itself

    after = noisy(scramble_words, " ".join(words)).split(" ")

    changed = sum(word != "bacdef" for word in after)
    assert binomtest(changed, len(words), ROOT * 23 / 24).pvalue > SURE
    assert {(word[0], word[-1], "".join(sorted(word[1:-1]))) for word in after} == {("b", "f", "acde")}


def test_every_order_of_the_inner_letters_is_equally_likely() -> None:
    drawn = Counter(noisy(scramble_words, " ".join(["xabcx"] * 30_000)).split(" "))

    assert set(drawn) == {f"x{order}x" for order in ("abc", "acb", "bac", "bca", "cab", "cba")}
    for word, count in drawn.items():
        expected = ROOT / 6 + (1 - ROOT if word == "xabcx" else 0)
        assert binomtest(count, 30_000, expected).pvalue > SURE


def test_words_of_three_letters_and_the_blanks_between_words_stay() -> None:
    text = "the  cat\tsat\non a mat "

    assert all(noisy(scramble_words, text, seed) == text for seed in range(50))


def test_cases_are_flipped_as_often_as_the_root_of_sigma_says() -> None:
    text = "aB" * 10_000

    after = noisy(flip_cases, text)

    assert after.lower() == text.lower()
    for letters, were in ((after[::2], "a"), (after[1::2], "B")):
        assert binomtest(sum(letter != were for letter in letters), len(letters), ROOT).pvalue > SURE


def test_signs_digits_and_letters_beyond_ascii_have_no_case_to_flip() -> None:
    text = "12.5 \u00e4\u00d6\u00df\u03c3 \u4e2d!"

    assert all(noisy(flip_cases, text, seed) == text for seed in range(50))


def test_characters_are_shifted_as_often_as_the_cube_of_sigma_says_to_either_side() -> None:
    after = Counter(noisy(shift_characters, "m" * 60_000))

    assert set(after) == {"l", "m", "n"}
    for neighbour in "ln":
        assert binomtest(after[neighbour], 60_000, CUBE / 2).pvalue > SURE


def test_a_shift_never_leaves_printable_ascii_and_shifts_nothing_else() -> None:
    after = Counter(noisy(shift_characters, " " * 30_000))  # what would become a control character stays
    beyond = noisy(shift_characters, "\n\t\u00e9\u4e2d\x7f" * 3_000)

    assert set(after) == {" ", "!"}
    assert binomtest(after["!"], 30_000, CUBE / 2).pvalue > SURE
    assert set(noisy(shift_characters, "~" * 30_000)) == {"}", "~"}
    assert beyond == "\n\t\u00e9\u4e2d\x7f" * 3_000


@given(text=st.text(max_size=60), seed=st.integers(0, 2**32), data=st.data())
def test_no_noise_changes_the_length_or_a_closed_character(text: str, seed: int, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text))), dtype=bool)

    for noise in NOISES:
        after = noise(text, mask, 1.0, np.random.default_rng(seed))

        assert len(after) == len(text)
        assert all(is_open or old == new for old, new, is_open in zip(text, after, mask, strict=True))


def test_words_that_touch_something_protected_stay_whole_and_so_do_the_blanks_within_it() -> None:
    text = "Buy 12 (twelve) of The Last  Game, now"
    start = text.index("The")
    example = Example("1", (text, "closed"), label=1, protected=((0, 4, 6), (0, start, start + 14)))

    closed = "".join(c for c, is_open in zip(text, open_characters(example, 0), strict=True) if not is_open)

    assert closed == "12The Last  Game,"
    assert not open_characters(example, 1).any()


@dataclass
class CaseVictim:
    """Right while fewer than so many letters are upper-case."""

    limit: int
    questions: list[str] = field(default_factory=list)

    def scores(self, texts: Sequence[tuple[str, ...]]) -> ScoreRows:
        self.questions += [text[0] for text in texts]
        upper = np.array([sum(letter.isupper() for letter in "".join(text)) for text in texts])
        return np.stack([upper - self.limit + 0.5, self.limit - upper - 0.5], axis=1).astype(np.float32)


TEXT = "a quick brown fox jumps over 12 lazy dogs"
EXAMPLE = Example("1", (TEXT,), label=1, protected=((0, 29, 31),))


def attack(victim: CaseVictim, *, samples: int = 30, seed: int = 0, max_queries: int | None = None) -> Outcome:
    named = NamedAttack("best-of-n", "digest", BestOfN(samples=samples, sigma=SIGMA), max_queries=max_queries)
    return next(Scheduler(named, victim, seed=seed).run([EXAMPLE]))


def test_the_first_form_that_is_answered_wrongly_ends_the_search_and_its_queries_are_n() -> None:
    victim = CaseVictim(limit=24)  # of 31 letters, of which a form has 19.6 in upper case on average

    outcome = attack(victim)

    asked = victim.questions[1:-1]  # without the clean text and the judgement
    assert outcome.status is Status.SUCCEEDED
    assert outcome.queries == len(asked) > 1
    assert [sum(letter.isupper() for letter in text) >= 24 for text in asked] == [False] * (len(asked) - 1) + [True]
    assert outcome.adversarial_text == (asked[-1],)


def test_all_forms_are_drawn_where_none_is_answered_wrongly() -> None:
    victim = CaseVictim(limit=99)

    outcome = attack(victim)

    assert (outcome.status, outcome.queries) == (Status.FAILED, 30)
    assert len(set(victim.questions[1:-1])) == 30
    assert all(text[29:31] == "12" for text in victim.questions)


def test_a_seed_draws_the_same_forms_and_a_larger_n_begins_with_those_of_a_smaller() -> None:
    runs = [CaseVictim(limit=99) for _ in range(4)]
    for victim, (samples, seed) in zip(runs, [(30, 0), (30, 0), (10, 0), (30, 1)], strict=True):
        attack(victim, samples=samples, seed=seed)
    first, again, fewer, other = (victim.questions[1:-1] for victim in runs)

    assert first == again
    assert fewer == first[:10]
    assert not set(first) & set(other)


def test_a_budget_ends_the_search_with_the_last_form_that_was_asked_about() -> None:
    outcome = attack(CaseVictim(limit=99), max_queries=7)

    assert (outcome.status, outcome.queries) == (Status.FAILED, 7)


def test_a_text_that_is_protected_throughout_is_left_alone() -> None:
    example = Example("1", ("12 13",), label=1, protected=((0, 0, 5),))

    named = NamedAttack("n", "d", BestOfN(samples=5, sigma=1.0))

    outcome = next(Scheduler(named, CaseVictim(9), seed=0).run([example]))

    assert (outcome.status, outcome.queries, outcome.adversarial_text) == (Status.FAILED, 0, ("12 13",))


def test_the_shipped_recipe_has_the_papers_sigma_and_its_effort_is_what_it_draws() -> None:
    shipped = find_attack("best-of-n")

    assert shipped.attack._sigma == SIGMA  # type: ignore[union-attr]
    assert (shipped.family, shipped.effort) == ("character", Effort.QUERIES)
    assert find_attack("deepwordbug").effort is Effort.WORDS


@pytest.mark.parametrize("sigma", ["0", "1.5", "nan"])
def test_a_strength_that_is_no_probability_is_refused(sigma: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from robustness.errors import DefinitionError

    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'summary = "s"\nfamily = "character"\naccess = "scores"\n[search]\nkind = "best-of-n"\nsamples = 3\n'
        f"sigma = {sigma}\n"
    )

    with pytest.raises(DefinitionError, match="sigma"):
        find_attack(str(recipe))
