from __future__ import annotations

import re
import string
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from robustness.definitions.testsets import SquadFile
from robustness.tasks.answer_scores import score_answer
from robustness.tasks.gold import GoldSpan
from robustness.testsets.squad import read_squad

# Prediction, gold answers, exact match, F1: worked out by hand from the rules of SQuAD v1.1.
TABLE = [
    ("Denver Broncos", ["Denver Broncos"], 1, 1),
    ("the Denver Broncos", ["Denver Broncos"], 1, 1),  # articles do not count
    ("denver broncos!", ["Denver Broncos"], 1, 1),  # nor do case and punctuation
    ("Broncos", ["Denver Broncos"], 0, 2 / 3),  # precision 1, recall 1/2
    ("Denver Broncos of Colorado", ["Denver Broncos"], 0, 2 / 3),  # 2 of 4, 2 of 2
    ("Carolina Panthers", ["Denver Broncos"], 0, 0),
    ("Santa Clara", ["Levi's Stadium", "Santa Clara, California"], 0, 4 / 5),  # 2 of 2, 2 of 3; the best gold counts
    ("Levis Stadium", ["Levi's Stadium", "Santa Clara"], 1, 1),  # the apostrophe goes, its letters stay
    ("24-10", ["24\N{EN DASH}10"], 0, 0),  # a hyphen is punctuation, an en dash is not
    ("2410", ["24-10"], 1, 1),
    ("New York New York", ["New York"], 0, 2 / 3),  # words are counted: 2 of 4, 2 of 2
    ("York York", ["York New"], 0, 1 / 2),  # one York in common
    ("a", ["the"], 1, 0),  # both are empty: equal, without a word in common
    ("", ["Tesla"], 0, 0),
    ("anna", ["an na"], 0, 0),  # an article inside a word is none
    ("July  28,\n2015", ["July 28, 2015"], 1, 1),  # blanks are one
    ("in 2015", ["2015", "July 2015"], 0, 2 / 3),
    ("Beyonc\N{LATIN SMALL LETTER E WITH ACUTE}", ["Beyonce"], 0, 0),
]


@pytest.mark.parametrize(("answer", "golds", "exact_match", "f1"), TABLE)
def test_scores_are_those_worked_out_by_hand(answer: str, golds: list[str], exact_match: float, f1: float) -> None:
    score = score_answer(answer, [GoldSpan(gold, 0) for gold in golds])

    assert score.exact_match == exact_match
    assert score.f1 == pytest.approx(f1, abs=1e-6)


def official_words(text: str) -> list[str]:
    """What evaluate-v1.1.py (arXiv 1606.05250) compares: lower case, no punctuation, no articles."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def official_scores(answer: str, gold: str) -> tuple[float, float]:
    """Exact match and F1, a line of the script a line here."""
    said, right = official_words(answer), official_words(gold)
    common = sum((Counter(said) & Counter(right)).values())
    if common == 0:
        return float(said == right), 0.0
    precision, recall = common / len(said), common / len(right)
    return float(said == right), 2 * precision * recall / (precision + recall)


def test_the_official_scripts_arithmetic_agrees_on_the_whole_development_file(shared_data: Path) -> None:
    rows = read_squad(shared_data / "squad/dev-v1.1.json", SquadFile(reader="squad", file="-"), adversarial=False)
    rng = np.random.default_rng(0)

    for row in rows:
        answer = str(rng.choice([gold.text for gold in row.answers]))
        words = answer.split()
        match rng.integers(4):
            case 0:
                answer = " ".join(words[: max(1, len(words) - 1)]).upper()
            case 1:
                start = int(rng.integers(max(1, len(row.texts[1]) - 40)))
                answer = row.texts[1][start : start + 40]
            case 2:
                answer = f"the {answer} ."

        score = score_answer(answer, row.answers)

        exact_match, f1 = map(max, zip(*(official_scores(answer, gold.text) for gold in row.answers), strict=True))
        assert score.exact_match == exact_match, (answer, row.answers)
        assert score.f1 == pytest.approx(f1, abs=1e-6), (answer, row.answers)
    assert len(rows) == 10_570
