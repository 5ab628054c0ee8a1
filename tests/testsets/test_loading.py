from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from robustness.definitions.catalog import TESTSETS, Entry
from robustness.definitions.testsets import Split, TestsetDefinition
from robustness.errors import DataError, DefinitionError
from robustness.testsets.loading import load_testset, load_training_split

ADVGLUE = {  # rows and originals
    "advglue-sst2": (148, 131),
    "advglue-qqp": (78, 71),
    "advglue-mnli": (121, 121),
    "advglue-mnli-mm": (162, 119),
    "advglue-qnli": (148, 133),
    "advglue-rte": (81, 81),
}
GLUE = {"sst2": 872, "mnli": 9_815, "qnli": 5_463, "rte": 277}

OWN = """summary = "Mine."
licence = "mine"
task = "{task}"
kind = "clean"

[[test.local]]
reader = "tsv"
file = "dev.tsv"
columns = ["sentence"]
label = "label"
"""


@pytest.fixture
def broken_advglue(shared_data: Path, tmp_path: Path) -> Callable[[Callable[[list], None]], Path]:
    """A copy of the data folder whose SST-2 section was changed."""

    def write(change: Callable[[list], None]) -> Path:
        content = json.loads((shared_data / "advglue" / "dev.json").read_text(encoding="utf-8"))
        change(content["sst2"])
        (tmp_path / "advglue").mkdir()
        (tmp_path / "advglue" / "dev.json").write_text(json.dumps(content), encoding="utf-8")
        return tmp_path

    return write


def own(folder: Path, rows: str, task: str = "sst2") -> Entry[TestsetDefinition]:
    (folder / "mine.toml").write_text(OWN.format(task=task))
    (folder / "dev.tsv").write_text(rows)
    return TESTSETS.find(str(folder / "mine.toml"))


@pytest.mark.parametrize(("name", "counts"), ADVGLUE.items())
def test_advglue_has_the_published_rows_and_originals(shared_data: Path, name: str, counts: tuple[int, int]) -> None:
    testset = load_testset(TESTSETS.find(name), shared_data)

    originals = [example.original for example in testset.examples if example.original is not None]
    assert (len(testset.examples), len(originals)) == counts
    assert (testset.kind, testset.provenance) == ("adversarial", "official")
    assert all(len(original) == len(testset.task.fields) for original in originals)
    assert {example.label for example in testset.examples} == set(range(len(testset.task.labels)))


def test_advglue_says_how_each_row_was_made(shared_data: Path) -> None:
    testset = load_testset(TESTSETS.find("advglue-sst2"), shared_data)

    made = Counter((example.method, example.construction) for example in testset.examples)
    assert made["SememePSO", "word"] == 28 and made["CheckList", "human"] == 17 and made["T3", "sentence"] == 17
    assert {construction for _, construction in made} == {"word", "sentence", "human"}


def test_advglue_loads_without_annotations(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "advglue").mkdir()
    (tmp_path / "advglue" / "dev.json").write_bytes((shared_data / "advglue" / "dev.json").read_bytes())

    testset = load_testset(TESTSETS.find("advglue-rte"), tmp_path)

    assert len(testset.examples) == 81
    assert all(example.original is None for example in testset.examples)


@pytest.mark.parametrize(("name", "count"), GLUE.items())
def test_the_clean_sets_have_the_published_rows(shared_data: Path, name: str, count: int) -> None:
    testset = load_testset(TESTSETS.find(name), shared_data)

    assert len(testset.examples) == count
    assert (testset.kind, testset.provenance) == ("clean", "official")
    assert all(example.attacked == testset.task.attacked_segments for example in testset.examples)
    assert len({example.id for example in testset.examples}) == count


def test_a_training_split_has_ids_of_its_own(shared_data: Path) -> None:
    entry = TESTSETS.find("rte")

    train = {example.id for example in load_training_split(entry, shared_data).examples}
    test = {example.id for example in load_testset(entry, shared_data).examples}

    assert not train & test


def test_an_adversarial_set_has_no_training_split(shared_data: Path) -> None:
    with pytest.raises(DataError, match="test set advglue-rte has no training split"):
        load_training_split(TESTSETS.find("advglue-rte"), shared_data)


def test_a_changed_label_is_refused(broken_advglue: Callable) -> None:
    def flip(rows: list) -> None:
        rows[3]["label"] = 1 - rows[3]["label"]

    folder = broken_advglue(flip)

    with pytest.raises(DataError, match=r"dev.json is not the published set"):
        load_testset(TESTSETS.find("advglue-sst2"), folder)


def test_a_changed_letter_is_refused(broken_advglue: Callable) -> None:
    def change(rows: list) -> None:
        rows[0]["sentence"] += "x"

    folder = broken_advglue(change)

    with pytest.raises(DataError, match=r"dev.json is not the published set"):
        load_testset(TESTSETS.find("advglue-sst2"), folder)


def test_a_missing_row_is_refused_with_both_counts(broken_advglue: Callable) -> None:
    folder = broken_advglue(lambda rows: rows.pop())

    with pytest.raises(DataError, match=r"dev.json has 147 rows; the published set has 148"):
        load_testset(TESTSETS.find("advglue-sst2"), folder)


def test_a_hidden_label_is_refused_as_such(broken_advglue: Callable) -> None:
    def hide(rows: list) -> None:
        for row in rows:
            row["label"] = -1

    folder = broken_advglue(hide)

    with pytest.raises(DataError, match=r"dev.json sst2 row 0: the label is hidden \(-1\)"):
        load_testset(TESTSETS.find("advglue-sst2"), folder)


def test_another_order_of_rows_is_the_same_set(broken_advglue: Callable, shared_data: Path) -> None:
    folder = broken_advglue(lambda rows: rows.reverse())
    entry = TESTSETS.find("advglue-sst2")

    assert load_testset(entry, folder).digest == load_testset(entry, shared_data).digest


def test_the_packaged_demo_needs_no_data_folder() -> None:
    testset = load_testset(TESTSETS.find("demo-sentiment"), None)

    assert len(testset.examples) > 100
    assert {example.label for example in testset.examples} == {0, 1}


def test_the_packaged_training_sentences_are_not_test_sentences() -> None:
    entry = TESTSETS.find("demo-sentiment")

    train = {example.texts for example in load_training_split(entry, None).examples}
    test = {example.texts for example in load_testset(entry, None).examples}

    assert not train & test


def test_a_folder_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_testset(TESTSETS.find("sst2"), tmp_path)

    assert f"{tmp_path} has no glue/SST-2/dev.tsv" in str(caught.value)


def test_a_file_of_a_name_that_none_can_have_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text(OWN.format(task="sst2").replace("dev.tsv", "x" * 300))

    with pytest.raises(DataError, match="has no x+; add the file"):
        load_testset(TESTSETS.find(str(path)), tmp_path)


def test_a_set_of_local_files_alone_asks_for_the_folder(tmp_path: Path) -> None:
    entry = own(tmp_path, "sentence\tlabel\nfine\t1\n")

    with pytest.raises(DataError, match=r"give --data, or set ROBUSTNESS_DATA, to a folder that has dev.tsv"):
        load_testset(entry, None)


def test_ids_carry_the_name_of_the_set(tmp_path: Path) -> None:
    testset = load_testset(own(tmp_path, "sentence\tlabel\nfine\t1\n"), tmp_path)

    assert testset.examples[0].id == "mine:0"


def test_a_file_of_a_header_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test set mine: no rows in .*dev.tsv"):
        load_testset(own(tmp_path, "sentence\tlabel\n"), tmp_path)


def test_two_rows_of_one_id_are_refused(tmp_path: Path) -> None:
    entry = own(tmp_path, "id\tsentence\tlabel\n7\tfine\t1\n8\tdull\t0\n7\twarm\t1\n")

    with pytest.raises(DataError, match=r"dev.tsv has 2 rows with the id '7'"):
        load_testset(entry, tmp_path)


def test_an_unknown_task_names_the_file_of_the_test_set(tmp_path: Path) -> None:
    entry = own(tmp_path, "sentence\tlabel\nfine\t1\n", task="sst")

    with pytest.raises(DefinitionError, match=r"mine.toml: key 'task': unknown task 'sst'; did you mean 'sst2'\?"):
        load_testset(entry, tmp_path)


def test_too_few_columns_for_the_task_are_refused(tmp_path: Path) -> None:
    entry = own(tmp_path, "sentence\tlabel\nfine\t1\n", task="rte")

    with pytest.raises(DefinitionError, match=r"mine.toml: columns names 1 columns; rte has 2 texts"):
        load_testset(entry, tmp_path)


def test_a_set_without_any_source_is_refused(tmp_path: Path) -> None:
    entry = own(tmp_path, "")
    empty = Entry("mine", entry.path, entry.definition.model_copy(update={"test": Split()}))

    for data in (None, tmp_path):
        with pytest.raises(DefinitionError, match="names no file and no hub data set"):
            load_testset(empty, data)


def test_the_hub_serves_where_no_folder_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"sentence": f"text {number}", "label": number % 2, "idx": number} for number in range(871)]
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: records)

    with pytest.raises(DataError, match=r"hub data set nyu-mll/glue sst2 has 871 rows; the published set has 872"):
        load_testset(TESTSETS.find("sst2"), None)


def test_a_hub_copy_of_the_local_rows_has_their_digest(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = TESTSETS.find("rte")
    local = load_testset(entry, shared_data)
    records = [
        {"sentence1": example.texts[0], "sentence2": example.texts[1], "label": example.label, "idx": number}
        for number, example in enumerate(local.examples)
    ]
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: records)

    hub = load_testset(entry, None)

    assert (hub.digest, hub.provenance) == (local.digest, "official")
    assert [example.id for example in hub.examples] == [example.id for example in local.examples]


def test_offline_the_hub_is_a_data_error_at_once(tmp_path: Path) -> None:
    code = (
        "from robustness.definitions.catalog import TESTSETS\n"
        "from robustness.errors import DataError\n"
        "from robustness.testsets.loading import load_testset\n"
        "try:\n    load_testset(TESTSETS.find('advglue-sst2'), None)\n"
        "except DataError as error:\n    print(error)\n"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "hub data set AI-Secure/adv_glue adv_sst2 validation at 340a2fbb: could not be loaded"
    )
    assert "give --data" in done.stdout


READER_AND_KEYS = """summary = "Mine."
licence = "mine"
task = "sst2"
kind = "clean"

[[test.local]]
reader = "{reader}"
file = "{file}"
columns = ["sentence"]
label = "label"
{keys}
"""


@pytest.mark.parametrize(
    ("reader", "keys", "expected"),
    [
        ("tsv", "", "own"),
        ("tsv", 'provenance = "official"', "own"),  # no file of a user's vouches for what others published
        ("tsv", 'provenance = "sample"', "sample"),
        ("table", "", "own"),
        ("table", 'provenance = "official"', "own"),
        ("table", 'provenance = "generated"', "generated"),
    ],
)
def test_a_users_own_file_is_not_official(tmp_path: Path, reader: str, keys: str, expected: str) -> None:
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\na fine film\t1\n", encoding="utf-8")
    definition = READER_AND_KEYS.format(reader=reader, file="dev.tsv", keys=keys)
    (tmp_path / "mine.toml").write_text(definition, encoding="utf-8")

    assert load_testset(TESTSETS.find(str(tmp_path / "mine.toml")), tmp_path).provenance == expected


def test_the_demos_sentences_are_not_official() -> None:
    assert load_testset(TESTSETS.find("demo-sentiment"), None).provenance == "own"


def test_a_users_own_hub_data_set_is_not_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(
        'summary = "Mine."\nlicence = "mine"\ntask = "sst2"\nkind = "clean"\n[test.hub]\ndataset = "me/mine"\n'
        f'config = "default"\nsplit = "test"\nrevision = "{"0" * 40}"\nrows = 1\n',
        encoding="utf-8",
    )
    monkeypatch.setattr("datasets.load_dataset", lambda *_args, **_kwargs: [{"sentence": "a fine film", "label": 1}])

    assert load_testset(TESTSETS.find(str(tmp_path / "mine.toml")), None).provenance == "own"
