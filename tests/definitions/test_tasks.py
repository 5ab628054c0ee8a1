"""Tasks as data: what ships, a user's own file, a table in a test set's file, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest

from robustness.definitions.catalog import ATTACKS, TESTSETS
from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task, is_task_file, shipped_tasks, task_of_testset
from robustness.errors import DefinitionError, UsageError
from robustness.tasks.task import Chat, Metric, Protected, Task, TaskKind

TOPICS = """summary = "Topics of a made-up newspaper."
fields = ["text"]
labels = ["World", "Sports", "Business", "Sci/Tech"]
"""
NLI = """fields = ["premise", "hypothesis"]
attacked = ["hypothesis"]
labels = ["yes", "no"]
template = "{premise}\\n{hypothesis}\\nTrue?"
verbalisers = [" yes", " no"]
"""
TESTSET = """summary = "News."
licence = "mine"
kind = "clean"
{task}
[[test.local]]
reader = "table"
file = "news.csv"
columns = ["text"]
label = "topic"
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _task_of(testset: str) -> Task:
    entry = TESTSETS.find(testset)
    return task_of_testset(entry.path, entry.definition)


def test_the_six_tasks_of_the_benchmark_read_as_they_always_have() -> None:
    six = [find_task(name) for name in ("sst2", "qqp", "mnli", "qnli", "rte", "squad")]

    read = [(t.name, t.fields, t.labels, t.attacked, t.kind.value, t.template, t.verbalisers) for t in six]
    assert hashlib.sha256(repr(read).encode()).hexdigest()[:16] == "cc07447ebb788daa"
    assert [task.metric is Metric.ACCURACY_AND_F1 for task in six] == [False, True, False, False, False, False]
    assert [task.protected.answers for task in six] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("name", "fields", "labels"),
    [
        ("ag-news", ("text",), ("World", "Sports", "Business", "Sci/Tech")),
        ("imdb", ("text",), ("neg", "pos")),
        ("yelp-polarity", ("text",), ("negative", "positive")),
        ("cola", ("sentence",), ("unacceptable", "acceptable")),
        ("mrpc", ("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
        ("snli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
        ("anli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    ],
)
def test_tasks_have_the_fields_and_the_order_of_labels_of_the_hubs_data_sets(
    name: str, fields: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    assert (find_task(name).fields, find_task(name).labels) == (fields, labels)


def test_a_task_survives_the_way_to_another_process() -> None:
    for task in shipped_tasks():
        assert pickle.loads(pickle.dumps(task)) == task


def test_a_file_of_ones_own_goes_by_its_stem_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    path = write(tmp_path / "topics.toml", TOPICS)

    task = find_task(str(path))

    labels = ("World", "Sports", "Business", "Sci/Tech")
    assert task == Task("topics", ("text",), labels, ("text",), Metric.ACCURACY, TaskKind.LABELS)
    assert task.file == str(path)


def test_everything_that_a_task_may_say_is_read(tmp_path: Path) -> None:
    text = NLI.replace('template = "{premise}\\n{hypothesis}\\nTrue?"', 'metric = "accuracy-and-f1"').replace(
        'attacked = ["hypothesis"]\n', ""
    )
    tables = """[aliases]
right = "yes"
[chat]
system = "Be brief."
user = "{premise} {hypothesis}"
[protected]
fields = ["premise"]
patterns = ["[0-9]+"]
"""

    task = find_task(str(write(tmp_path / "nli.toml", text + tables)))

    assert (task.metric, task.chat) == (Metric.ACCURACY_AND_F1, Chat("{premise} {hypothesis}", "Be brief."))
    assert task.protected == Protected(("premise",), ("[0-9]+",), answers=False)
    assert task.attacked == ("hypothesis",)
    assert [task.find_label(name) for name in ("RIGHT", "Yes", "no", "maybe")] == [0, 0, 1, None]


def test_a_task_is_found_beside_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine" / "topics.toml", TOPICS)
    testset = write(tmp_path / "mine" / "news.toml", TESTSET.format(task='task = "topics.toml"'))
    pairs = '[[pair]]\nname = "one"\ntask = "mine/topics.toml"\nbase = "b"\nfull = "f"\npeft = "p"\n'
    monkeypatch.chdir(tmp_path.parent)

    (pair,) = read_pairs(write(tmp_path / "pairs.toml", pairs))

    assert pair.task == _task_of(str(testset)) == find_task(str(testset))
    assert pair.task.name == "topics"


def test_a_task_may_stand_in_the_file_of_its_test_set(tmp_path: Path) -> None:
    path = write(tmp_path / "news.toml", TESTSET.format(task="").replace("[[test", f"[task]\n{TOPICS}\n[[test"))

    task = find_task(str(path))

    assert (task.name, task.labels[-1], task.file) == ("news", "Sci/Tech", str(path))
    assert _task_of(str(path)) == task


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("fields", "feilds", "mine.toml: unknown key 'feilds'; did you mean 'fields'?"),
        (
            'labels = ["yes"',
            'metric = "acuracy"\nlabels = ["yes"',
            "mine.toml: key 'metric': unknown 'acuracy'; did you mean 'accuracy'? "
            "Known: accuracy, accuracy-and-f1, exact-match-and-f1",
        ),
        (
            'labels = ["yes"',
            'kind = "label"\nlabels = ["yes"',
            "mine.toml: key 'kind': unknown 'label'; did you mean 'labels'? Known: labels, span, text",
        ),
        (
            'labels = ["yes"',
            'kind = "regression"\nlabels = ["yes"',
            "mine.toml: key 'kind': regression is not supported, because every accuracy would depend on a "
            'chosen tolerance; cut the scores into classes, and use kind = "labels"',
        ),
        (
            '["hypothesis"]',
            '["hypotesis"]',
            "mine.toml: attacked: unknown field 'hypotesis'; did you mean 'hypothesis'? Known: hypothesis, premise",
        ),
        (
            "{hypothesis}",
            "{hypotesis}",
            "mine.toml: template: unknown field 'hypotesis'; did you mean 'hypothesis'? Known: hypothesis, premise",
        ),
        ("{hypothesis}", "{0}", "mine.toml: template: unknown field '0'; known: hypothesis, premise"),
        (
            "{hypothesis}",
            "{hypothesis!r}",
            "mine.toml: template: {hypothesis} must be alone in its braces; take out the rest",
        ),
        (
            "{hypothesis}",
            "{hypothesis.__class__}",
            "mine.toml: template: unknown field 'hypothesis.__class__'; did you mean 'hypothesis'? "
            "Known: hypothesis, premise",
        ),
        (
            "{hypothesis}",
            "{",
            "mine.toml: template: expected '}' before end of string; a brace of the text itself is written twice",
        ),
        (
            "\\n{hypothesis}",
            "",
            "mine.toml: template: lacks the field {hypothesis}; use every field of the task",
        ),
        ('["yes", "no"]', '["yes"]', "mine.toml: labels: kind = \"labels\" needs two labels or more; got ['yes']"),
        (
            '["yes", "no"]',
            '["yes", "YES!"]',
            "mine.toml: labels: 'yes' equals another label except for case and signs; names of "
            "labels in checkpoints could not be matched with it",
        ),
        (
            '["yes", "no"]',
            '["+", "no"]',
            "mine.toml: labels: '+' consists only of signs; names of labels in checkpoints could not "
            "be matched with it",
        ),
        ('["yes", "no"]', '["yes", "yes"]', "mine.toml: labels: 'yes' is there twice"),
        ('[" yes", " no"]', '[" yes"]', "mine.toml: verbalisers: 1 for 2 labels; expected one for each"),
        (
            '[" yes", " no"]',
            '[" yes", "yes"]',
            "mine.toml: verbalisers: 'yes' stands for two labels; give each its own",
        ),
        (
            'verbalisers = [" yes", " no"]',
            "",
            "mine.toml: template: a prompted model needs verbalisers, one for each label too",
        ),
        (
            'verbalisers = [" yes", " no"]',
            'verbalisers = [" yes", " no"]\naliases = { on = "nö" }',
            "mine.toml: aliases: unknown label 'nö'; known: no, yes",
        ),
        (
            'verbalisers = [" yes", " no"]',
            'verbalisers = [" yes", " no"]\naliases = { YES = "no" }',
            "mine.toml: aliases: 'YES' is a label itself; it cannot be an alias of 'no'",
        ),
        (
            'verbalisers = [" yes", " no"]',
            'verbalisers = [" yes", " no"]\n[protected]\nfields = ["premis"]',
            "mine.toml: [protected] fields: unknown field 'premis'; did you mean 'premise'? "
            "Known: hypothesis, premise",
        ),
        (
            'verbalisers = [" yes", " no"]',
            'verbalisers = [" yes", " no"]\n[protected]\nfields = ["hypothesis"]',
            "mine.toml: attacked names the field 'hypothesis', which [protected] closes; take it out of one of them",
        ),
        (
            'verbalisers = [" yes", " no"]',
            'verbalisers = [" yes", " no"]\n[protected]\nword = ["a"]',
            "mine.toml [protected]: unknown key 'word'; did you mean 'words'?",
        ),
        (
            'verbalisers = [" yes", " no"]',
            'verbalisers = [" yes", " no"]\n[protected]\npatterns = ["("]',
            "mine.toml: [protected] patterns: '(' is no regular expression: missing ) at position 1",
        ),
        (
            'verbalisers = [" yes", " no"]',
            'verbalisers = [" yes", " no"]\n[chat]\nuser = "{premise}{hypothesis}"',
            "mine.toml: template and [chat] are two prompts; keep one",
        ),
        (
            'labels = ["yes"',
            'kind = "span"\nlabels = ["yes"',
            'mine.toml: labels: kind = "span" is answered with words of the paragraph; take labels out',
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_file_key_and_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, expected: str
) -> None:
    assert old in NLI
    write(tmp_path / "mine.toml", NLI.replace(old, new, 1))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DefinitionError) as caught:
        find_task("mine.toml")

    assert str(caught.value) == expected


def test_a_fault_in_a_test_sets_own_task_names_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def refusal(task: str) -> str:
        write(tmp_path / "news.toml", TESTSET.format(task="").replace("[[test", f"[task]\n{task}\n[[test", 1))
        with pytest.raises(DefinitionError) as caught:
            TESTSETS.find("news.toml")
        return str(caught.value)

    assert refusal(TOPICS.replace("labels", "label")) == (
        "news.toml [task]: unknown key 'label'; did you mean 'labels'?"
    )
    assert refusal(TOPICS + 'metric = "f1"') == "news.toml [task]: key 'metric': unknown 'f1'; known: " + (
        "accuracy, accuracy-and-f1, exact-match-and-f1"
    )
    assert refusal(TOPICS.replace('"Sci/Tech"', '"world"')).startswith("news.toml [task]: labels: 'World' equals")


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ('task = "topic.toml"', "news.toml: key 'task': topic.toml: no such file"),
        ('task = "ag_news"', "news.toml: key 'task': unknown task 'ag_news'; did you mean 'ag-news'?"),
        ("task = 3", "news.toml: key 'task': expected text; got 3"),
        (
            'task = "news.toml"',
            "news.toml: key 'task': news.toml is a test set's file that names its task in turn; name that task",
        ),
    ],
)
def test_a_task_that_is_not_there_names_the_test_sets_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, expected: str
) -> None:
    write(tmp_path / "news.toml", TESTSET.format(task=task))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DefinitionError) as caught:
        _task_of("news.toml")

    assert str(caught.value).startswith(expected)


def test_a_shipped_name_is_taken(tmp_path: Path) -> None:
    alone = write(tmp_path / "cola.toml", TOPICS)
    inside = write(tmp_path / "sub" / "imdb.toml", f"{TESTSET.format(task='')}[task]\n{TOPICS}")

    with pytest.raises(DefinitionError, match=r"cola.toml: the name 'cola' is taken by a shipped task; rename the"):
        find_task(str(alone))
    with pytest.raises(DefinitionError, match=r"imdb.toml \[task\]: the name 'imdb' is taken by a shipped task;"):
        find_task(str(inside))


def test_attacked_fields_are_a_choice() -> None:
    mnli = find_task("mnli")

    assert mnli.attacking(()) == mnli
    assert mnli.attacking(["premise"]).attacked_segments == (0,)
    assert mnli.attacking(["hypothesis", "premise", "question"]).attacked == ("premise", "hypothesis")
    with pytest.raises(UsageError) as caught:
        mnli.attacking(["premis"])
    assert str(caught.value) == ("--attack-field premis: task mnli has no such field; it has premise, hypothesis")


def test_a_task_file_that_lacks_its_fields_is_still_one_and_a_recipe_is_none(tmp_path: Path) -> None:
    labels_alone = write(tmp_path / "topics.toml", 'labels = ["World", "Sports"]\n')

    assert is_task_file(str(labels_alone))
    assert not any(is_task_file(str(ATTACKS.find(name).path)) for name in ATTACKS.names())
