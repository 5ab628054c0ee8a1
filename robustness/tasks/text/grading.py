"""Grading of responses: the row of a generating model and its score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from robustness.tasks.grading import Asked, BlindAnswer, Grade, Rows, StoredGrade
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import Scorer, TextScore

CHARACTERS_A_TOKEN = 8
"""Characters of a row per token: English needs four to five, blanks of code more."""


class TextRow(IntEnum):
    """Places in the row of a response; its characters follow as code points, which are exact in float32."""

    LOSS = 0
    """Mean negative log-likelihood per token of the gold text."""
    AGREED = 1
    """Number of the gold text's first tokens that greedy decoding gives, if a forward pass verified them."""
    GENERATED = 2
    """Tokens decoded for the row; 0 if one forward pass verified the whole response."""
    LENGTH = 3
    """Characters of the response."""
    CUT = 4
    """1 if it was cut at the token limit or is longer than the row; otherwise 0."""
    FIRST = 5
    """The first character."""


@final
@dataclass(frozen=True, slots=True)
class TextGrader:
    """Reads rows of `TextRow`: parses the response and compares it with the gold texts by the task's metric."""

    answer: TextAnswer
    measure: ClassVar[str] = "quality"
    """The metric's value, between 0 and 1."""
    floor: ClassVar[str] = "the commonest gold text"

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return TextRow.FIRST + CHARACTERS_A_TOKEN * self.answer.max_new_tokens

    def loss_row(self, loss: float, agreed: int) -> NDArray[np.float32]:
        """Returns the row of a text without a response: the first numbers of any row."""
        return np.array([loss, agreed, 0], dtype=np.float32)

    def row(
        self, loss: float, response: str, *, cut: bool, agreed: int = 0, generated: int = 0
    ) -> NDArray[np.float32]:
        """Returns the row of a response, shape (width,)."""
        row = np.zeros(self.width, dtype=np.float32)
        kept = response[: self.width - TextRow.FIRST]
        row[: TextRow.FIRST] = loss, agreed, generated, len(kept), cut or len(kept) < len(response)
        row[TextRow.FIRST : TextRow.FIRST + len(kept)] = [ord(character) for character in kept]
        return row

    def response(self, row: NDArray[np.float32]) -> str:
        """Returns the text of a row."""
        codes = row[TextRow.FIRST : TextRow.FIRST + int(row[TextRow.LENGTH])]
        return "".join(map(chr, codes.astype(int).tolist()))

    def losses(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns the rows' losses, shape (texts,)."""
        del asked
        return rows[:, TextRow.LOSS].astype(np.float64)

    def correct(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.bool_]:
        """Returns which responses are right, shape (texts,)."""
        return np.array([self._score(row, each).correct for row, each in zip(rows, asked, strict=True)], dtype=bool)

    def problem(self, asked: Asked) -> str | None:
        """Returns why no response can be right, or None."""
        if not asked.answers:
            return "it has no gold text; mend the test set"
        reasons = [self.answer.unreadable(gold) for gold in _golds(asked)]
        return None if None in reasons else reasons[0]

    def points(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns the responses' qualities, shape (texts,)."""
        return np.array([self._score(row, each).quality for row, each in zip(rows, asked, strict=True)])

    def blind_answer(self, asked: Sequence[Asked]) -> BlindAnswer:
        """Returns the mean quality of the commonest gold answer, given to all."""
        parsed = [self.answer.parse_golds(_golds(each)) for each in asked]
        firsts = {golds[0].text: golds[0] for golds in parsed if golds}
        if not firsts:
            return BlindAnswer(0.0, "quality ", "no gold answer")
        text, _ = Counter(golds[0].text for golds in parsed if golds).most_common(1)[0]
        scorer = Scorer(self.answer.metric, self.answer.threshold)
        quality = [scorer.score(firsts[text], golds).quality for golds in parsed]
        return BlindAnswer(float(np.mean(quality)), "quality ", f"always answering {text[:60]!r}")

    def grade(self, row: NDArray[np.float32], asked: Asked) -> Grade:
        """Returns one response's grade."""
        score = self._score(row, asked)
        return Grade(score.correct, score.quality, self.response(row), cut=bool(row[TextRow.CUT]))

    def gold(self, asked: Asked) -> str:
        """Returns the first gold text."""
        return asked.answers[0].text

    def generated(self, row: NDArray[np.float32]) -> int | None:
        """Returns the number of tokens decoded for a row."""
        return int(row[TextRow.GENERATED])

    def differ(self, known: NDArray[np.float32], fresh: NDArray[np.float32], tolerance: float) -> bool:
        """Returns whether the response differs, or the loss moved by more than a share of itself (at least 1)."""
        loss = abs(float(known[TextRow.LOSS] - fresh[TextRow.LOSS]))
        is_other = not np.array_equal(known[TextRow.LENGTH :], fresh[TextRow.LENGTH :])
        return is_other or loss > tolerance * max(1.0, abs(float(fresh[TextRow.LOSS])))

    def contradiction(self, row: NDArray[np.float32], stored: StoredGrade, tolerance: float) -> str | None:
        """Returns a message if the response differs, or None."""
        del tolerance
        response = self.response(row)
        if response == stored.grade.response:
            return None
        return f"answers {response!r}; the run says {stored.grade.response!r}"

    def _score(self, row: NDArray[np.float32], asked: Asked) -> TextScore:
        return self.answer.score(self.response(row), _golds(asked))


def _golds(asked: Asked) -> tuple[str, ...]:
    return tuple(gold.text for gold in asked.answers)
