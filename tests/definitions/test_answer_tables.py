from __future__ import annotations

from pathlib import Path

import pytest

from robustness.definitions.tasks import find_task
from robustness.errors import DefinitionError
from robustness.tasks.task import Protected, TaskKind
from robustness.tasks.text.metrics import TextMetric
from robustness.tasks.text.numbers import NumberRule
from robustness.testsets.task_checks import check_task

HEAD = 'kind = "text"\nfields = ["question"]\ntemplate = "Q: {question}\\nA:"\n'


def write(folder: Path, answer: str, head: str = HEAD, tail: str = "") -> str:
    path = folder / "sums.toml"
    path.write_text(f"{head}\n[answer]\n{answer}\n{tail}")
    return str(path)


def test_a_text_task_is_read_with_its_parser_and_metric(tmp_path: Path) -> None:
    answer = 'parser = "after-marker"\nmarker = "A:"\nmetric = "token-f1"\nthreshold = 0.5\nmax_new_tokens = 7'

    task = find_task(write(tmp_path, answer + '\nstop = ["\\n\\n"]\nlead = " "'))

    assert task.kind is TaskKind.TEXT and task.answer is not None
    assert (task.answer.parser, task.answer.marker) == ("after-marker", "A:")
    assert (task.answer.metric, task.answer.threshold) == (TextMetric.TOKEN_F1, 0.5)
    assert (task.answer.max_new_tokens, task.answer.stop, task.answer.lead) == (7, ("\n\n",), " ")


def test_the_shipped_text_tasks_say_how_they_are_read() -> None:
    viggo, gsm8k = find_task("viggo"), find_task("gsm8k")
    assert viggo.answer is not None and gsm8k.answer is not None

    assert (viggo.answer.parser, viggo.answer.metric) == ("meaning-representation", TextMetric.SLOT_F1)
    assert (gsm8k.answer.parser, gsm8k.answer.rule) == ("number", NumberRule.MARKED_OR_LAST)
    for task in (viggo, gsm8k):
        check_task(task)
    assert (viggo.protected, gsm8k.protected) == (Protected(numbers=True, answers=True), Protected(numbers=True))


@pytest.mark.parametrize(
    ("parser", "tail", "protected"),
    [
        ("whole", "", Protected(numbers=True)),
        ("meaning-representation", "", Protected(numbers=True, answers=True)),
        ("whole", '[protected]\nnumbers = false\nwords = ["not"]', Protected(words=("not",))),
        ("meaning-representation", "[protected]\nanswers = false", Protected(numbers=True)),
    ],
)
def test_numbers_and_slot_values_of_a_text_task_are_protected_unless_it_says_otherwise(
    parser: str, tail: str, protected: Protected, tmp_path: Path
) -> None:
    assert find_task(write(tmp_path, f'parser = "{parser}"\nmetric = "exact"', HEAD, tail)).protected == protected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('parser = "numbr"\nmetric = "exact"', "unknown parser 'numbr'; did you mean 'number'"),
        ('parser = "whole"\nmetric = "exact"\nmarker = "A"', "the parser whole takes no marker"),
        ('parser = "after-marker"\nmetric = "exact"', "marker: the parser after-marker needs it"),
        ('parser = "regex"\nmetric = "exact"', "pattern: the parser regex needs it"),
        ('parser = "regex"\npattern = "(a"\nmetric = "exact"', "is no regular expression"),
        ('parser = "regex"\npattern = "(a{999}){999}"\nmetric = "exact"', "multiply to more than 100,000"),
        ('parser = "number"\nmetric = "slot-f1"', 'slot-f1 reads answers of parser = "meaning-representation"'),
        ('parser = "whole"\nmetric = "fraction"', 'fraction reads answers of parser = "number"'),
        ('parser = "whole"\nmetric = "bleu"', "metric"),
        ('parser = "whole"\nmetric = "exact"\nstop = [""]', "an empty string ends every response"),
        ('parser = "whole"\nmetric = "exact"\nthreshold = 2.0', "threshold"),
        ('parser = "whole"\nmetric = "exact"\nmax_new_tokens = 0', "max_new_tokens"),
        ('parser = "number"\nmetric = "exact"\nrule = "first"', "rule"),
    ],
)
def test_answers_that_contradict_themselves_are_refused(answer: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=reason):
        find_task(write(tmp_path, answer))


WHOLE = 'parser = "whole"\nmetric = "exact"'


@pytest.mark.parametrize(
    ("head", "tail", "reason"),
    [
        (HEAD + 'labels = ["a", "b"]', "", 'labels: kind = "text" is answered in free text'),
        (HEAD + 'metric = "accuracy"', "", 'metric: kind = "text" is answered in free text'),
        ('kind = "text"\nfields = ["question"]', "", "needs a template or"),
        (HEAD.replace("{question}", "?"), "", "lacks the field"),
        (HEAD, "[protected]\nanswers = true", "only a meaning representation names"),
        (HEAD, '[protected]\nwords = [" "]', r"\[protected\] words: one of them is empty"),
        (HEAD.replace('"text"', '"span"'), "", 'answer: kind = "span" is answered with words'),
    ],
)
def test_text_tasks_that_contradict_themselves_are_refused(head: str, tail: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=reason):
        find_task(write(tmp_path, WHOLE, head, tail))


def test_a_text_task_without_an_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sums.toml"
    path.write_text(HEAD)

    with pytest.raises(DefinitionError, match=r'kind = "text" needs the table \[answer\]'):
        find_task(str(path))
