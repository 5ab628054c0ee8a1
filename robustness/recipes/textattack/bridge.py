"""TextAttack's searches as searches of this engine: each runs in a greenlet that pauses at every question."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NewType, final

import numpy as np

from robustness.engine.attack import Access, Answer, BudgetExhausted, ScoreRows, Scores, Search
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example, Texts

if TYPE_CHECKING:
    import torch

_States = NewType("_States", tuple[Any, Any, Any])
"""Of Python's, NumPy's and torch's global generators."""


@final
class TextAttackSearch:
    """A `textattack.Attack` as an attack of this engine.

    Every example gets shallow copies of the goal function, the search method, the transformation and the constraints.
    Attributes that they assign belong to the example. Objects that they only refer to are shared: loaded models, word
    vectors, and caches keyed by text, such as the tagger's. TextAttack's caches of candidates and of constraint
    verdicts belong to the example. Its cache of scores is off, because the engine has one.

    TextAttack draws from the global generators of Python, NumPy and torch. While a search runs they have its own
    states, seeded with one number from the example's generator. Afterwards the caller's states are restored.

    Pairs become columns. If only the second segment is open to attack, they are `premise` and `hypothesis`, for which
    TextAttack's recipes look. Otherwise they are `segment1` and `segment2`, which no recipe knows. An additional
    InputColumnModification closes the segments that are not open to attack.

    Args:
        attack: asks for scores alone and has a classification goal; its own model is not used.
    """

    access = Access.SCORES
    needs = frozenset({Ability.SCORES})

    def __init__(self, attack: object) -> None:
        self._attack = attack

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Proposes TextAttack's result, or the best candidate it had scored when the budget ended."""
        run = _PausableSearch(self._attack, example, seed=int(rng.integers(2**32)))
        try:
            asked = run.resume(None)
            while asked is not None:
                try:
                    answer: Answer = yield Scores([example.with_texts(texts) for texts in asked])
                except BudgetExhausted:
                    break
                asked = run.resume(answer.scores)
            return example.with_texts(run.best)
        finally:
            run.stop()


@final
class _PausableSearch:
    """One example's run of `Attack.attack`, advanced from question to question."""

    def __init__(self, attack: object, example: Example, seed: int) -> None:
        self.best: Texts = example.texts
        """The result, or the best candidate so far; words hidden to rank them are no candidates."""
        self._best_score = -np.inf
        self._example = example
        self._attack = _copy_for(attack, example, self)
        from greenlet import greenlet  # which no other recipe needs

        self._greenlet = greenlet(self._run)
        self._stopped = False
        with keep_global_randomness():
            _seed_global_randomness(seed)
            self._inside = _read_states()

    def resume(self, rows: ScoreRows | None) -> Sequence[Texts] | None:
        """Runs to the next question and returns its texts; None at the end."""
        from greenlet import getcurrent

        with keep_global_randomness():
            _write_states(self._inside)
            self._greenlet.parent = getcurrent()
            asked: Sequence[Texts] | None = self._greenlet.switch(rows)
            self._inside = _read_states()
        return asked

    def stop(self) -> None:
        """Ends a run that waits for scores; no effect on one that is over."""
        self._stopped = True
        if self._greenlet:
            self._greenlet.throw()

    def ask(self, inputs: Sequence[str | Texts]) -> torch.Tensor:
        """What TextAttack calls as its model: returns logits, shape (len(inputs), labels)."""
        import torch

        parent = self._greenlet.parent
        assert parent is not None, "only a running greenlet asks"
        if self._stopped:  # TextAttack, or a user's part, swallowed the exit
            self._greenlet.throw()
        rows = parent.switch([(text,) if isinstance(text, str) else tuple(text) for text in inputs])
        return torch.tensor(rows)

    def note(self, results: Sequence[Any]) -> None:
        """Remembers the best of TextAttack's results; only transformed texts carry their transformation."""
        for result in results:
            text = result.attacked_text
            if "last_transformation" in text.attack_attrs and float(result.score) > self._best_score:
                self._best_score = float(result.score)
                self.best = _texts_of(text)

    def _run(self, _: object) -> None:
        result = self._attack.attack(_columns_of(self._example), self._example.label)
        self.best = _texts_of(result.perturbed_result.attacked_text)


def _copy_for(attack: Any, example: Example, run: _PausableSearch) -> Any:
    """A copy of the attack that asks `run` for scores and tells it results."""
    from textattack import Attack
    from textattack.constraints.pre_transformation import InputColumnModification

    goal = _copy_part(attack.goal_function)
    goal.model = run.ask
    goal.batch_size = sys.maxsize  # a question is asked whole; the victim makes its own batches
    goal.use_cache, goal._call_model_cache = False, None
    get_results = goal.get_results

    def get_noted_results(*args: Any, **kwargs: Any) -> Any:
        results, is_over = get_results(*args, **kwargs)
        run.note(results)
        return results, is_over

    goal.get_results = get_noted_results
    constraints = [_copy_part(part) for part in (*attack.constraints, *attack.pre_transformation_constraints)]
    names = _column_names(example)
    closed = {name for index, name in enumerate(names) if index not in example.attacked}
    if closed:
        constraints.append(InputColumnModification(names, closed))
    if example.protected:
        constraints.append(_keep_protected(example))
    copied = _copy_part(attack)
    Attack.__init__(  # connects the parts without the class's own constructor
        copied,
        goal,
        constraints,
        _copy_part(attack.transformation),
        _copy_part(attack.search_method),
        attack.transformation_cache_size,
        attack.constraint_cache_size,
    )
    return copied


def _keep_protected(example: Example) -> Any:
    """A constraint of TextAttack's: what is protected in the clean text stands in every candidate."""
    from textattack.constraints import Constraint

    class KeepProtected(Constraint):  # type: ignore[misc]
        def _check_constraint(self, transformed_text: Any, reference_text: Any) -> bool:
            del reference_text
            return example.first_broken(_texts_of(transformed_text)) is None

    return KeepProtected(compare_against_original=True)


def _copy_part(part: Any) -> Any:
    """Shares every attribute; copy.copy would follow __getstate__, with which some parts drop loaded models."""
    copied = object.__new__(type(part))
    copied.__dict__.update(part.__dict__)
    if isinstance(getattr(part, "transformations", None), list):
        copied.transformations = [_copy_part(inner) for inner in part.transformations]
    return copied


def _column_names(example: Example) -> list[str]:
    count = len(example.texts)
    if count == 1:
        return ["text"]
    if count == 2 and example.attacked == (1,):
        return ["premise", "hypothesis"]
    return [f"segment{number}" for number in range(1, count + 1)]


def _columns_of(example: Example) -> str | OrderedDict[str, str]:
    if len(example.texts) == 1:
        return example.texts[0]
    return OrderedDict(zip(_column_names(example), example.texts, strict=True))


def _texts_of(attacked_text: Any) -> Texts:
    texts: str | Texts = attacked_text.tokenizer_input
    return (texts,) if isinstance(texts, str) else tuple(texts)


@contextmanager
def keep_global_randomness() -> Iterator[None]:
    """Leaves the global generators of Python, NumPy and torch as it found them."""
    states = _read_states()
    try:
        yield
    finally:
        _write_states(states)


def _seed_global_randomness(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the accelerators' too


def _read_states() -> _States:
    import torch

    return _States((random.getstate(), np.random.get_state(), torch.get_rng_state()))


def _write_states(states: _States) -> None:
    import torch

    python, numpy, pytorch = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(pytorch)
