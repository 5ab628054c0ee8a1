from __future__ import annotations

import re
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustness.definitions.pairs import Pair, PairEntry, change_pairs, read_pairs, stored_pairs, write_pairs
from robustness.errors import CheckpointError, DefinitionError
from robustness.victims.files.checkpoint import locate

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00/"), min_size=1, max_size=12)
PATH = TEXT.filter(lambda text: not text.startswith("~") and "$" not in text)  # which are spelled out


def entry(**changes: object) -> PairEntry:
    fields = {"name": "one", "task": "sst2", "base": "base", "full": "full", "peft": "lora", "seed": 3}
    return PairEntry.model_validate(fields | changes)


def references(pair: Pair) -> tuple[str, str, str]:
    return pair.base, pair.reference_name, pair.candidate_name


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry(), entry(name="two", task="rte", seed=None)])

    one, two = read_pairs(path)

    assert (one.name, one.task.name, one.seed, *references(one)) == ("one", "sst2", 3, "base", "full", "lora")
    assert (two.name, two.task.name, two.seed) == ("two", "rte", None)


def test_two_processes_that_add_a_pair_at_once_both_keep_it(tmp_path: Path) -> None:
    path, has_read = tmp_path / "pairs.toml", Event()
    write_pairs(path, [entry()])

    def add_slowly(stored: list[PairEntry]) -> list[PairEntry]:
        has_read.set()
        time.sleep(0.2)  # the other reads and writes now, if nothing makes it wait
        return [*stored, entry(name="two")]

    with ThreadPoolExecutor() as pool:
        slow = pool.submit(change_pairs, path, add_slowly)
        assert has_read.wait(10)
        change_pairs(path, lambda stored: [*stored, entry(name="three")])
        slow.result()

    assert [each.name for each in stored_pairs(path)] == ["one", "two", "three"]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "reference",
    [
        'a "quoted" folder',
        "back\\slash\\",
        "line\nbreak",
        "carriage\rreturn\r\n",
        "tab\tand bell\x07 and escape\x1b and delete\x7f",
        "ünïcödé 漢字 🙂 \u2028\u0085",
        "'''",
        '"""',
        "#no comment",
    ],
)
def test_no_character_of_a_path_breaks_the_file(tmp_path: Path, reference: str) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry(name=reference, full=reference, peft=f"{reference}/lora")])

    (pair,) = read_pairs(path)

    assert (pair.name, pair.reference_name, pair.candidate_name) == (reference, reference, f"{reference}/lora")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(name=TEXT, reference=PATH)
def test_writing_and_reading_is_the_identity_for_any_text(tmp_path: Path, name: str, reference: str) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry(name=name, full=reference)])

    written = tomllib.loads(path.read_text(encoding="utf-8"))["pair"][0]
    (pair,) = read_pairs(path)

    assert (written["name"], written["full"]) == (name, reference)
    assert (pair.name, pair.reference_name) == (name, reference)


def test_writing_leaves_no_draft_and_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry()])
    write_pairs(path, [entry(name="two")])

    assert [pair.name for pair in read_pairs(path)] == ["two"]
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.toml"]


def test_relative_references_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "full").mkdir(parents=True)
    (tmp_path / "base").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_pairs(tmp_path / "models" / "pairs.toml", [entry(base="../base")])
    monkeypatch.chdir(tmp_path / "elsewhere")

    (pair,) = read_pairs(Path("../models/pairs.toml"))

    assert pair.reference == str((tmp_path / "models" / "full").resolve())
    assert pair.base == str((tmp_path / "base").resolve())
    assert pair.reference_name == "full"


@pytest.mark.parametrize(
    "written", ["~/models/full", "$HOME/models/full", "${MODELS}/full", "$MODELS/../models/full"]
)
def test_home_and_variables_in_a_reference_are_spelled_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELS", str(tmp_path / "models"))
    (tmp_path / "models" / "full").mkdir(parents=True)
    write_pairs(tmp_path / "pairs.toml", [entry(full=written)])

    (pair,) = read_pairs(tmp_path / "pairs.toml")

    assert pair.reference == str((tmp_path / "models" / "full").resolve())
    assert pair.reference_name == written


def test_what_is_spelled_out_and_not_there_is_named_as_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_pairs(tmp_path / "pairs.toml", [entry(base="~/base")])

    assert read_pairs(tmp_path / "pairs.toml")[0].base == f"{tmp_path}/base"


def test_a_variable_that_is_not_set_names_the_file_and_the_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    write_pairs(tmp_path / "pairs.toml", [entry(full="$NOWHERE/full")])

    with pytest.raises(
        DefinitionError, match=r"pairs.toml: pair 'one': \$NOWHERE/full: the variable NOWHERE is not set; set it"
    ):
        read_pairs(tmp_path / "pairs.toml")


def test_a_folder_whose_name_has_a_dollar_or_a_tilde_is_itself(tmp_path: Path) -> None:
    for name in ("$HOME", "~"):
        (tmp_path / name).mkdir()
    write_pairs(tmp_path / "pairs.toml", [entry(base="~", full="$HOME")])

    (pair,) = read_pairs(tmp_path / "pairs.toml")

    assert (pair.base, pair.reference) == (str(tmp_path / "~"), str(tmp_path / "$HOME"))


def test_a_reference_that_is_no_folder_beside_the_file_stays_a_hub_id(tmp_path: Path) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry(base="google-bert/bert-base-uncased")])

    assert read_pairs(path)[0].base == "google-bert/bert-base-uncased"


@pytest.mark.parametrize("text", ["", "pair = []\n", "# nothing\n"])
def test_a_file_without_a_pair_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.toml"
    path.write_text(text)

    with pytest.raises(DefinitionError, match=r"pairs.toml: no \[\[pair\]\] in the file"):
        read_pairs(path)


def test_a_repeated_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry(), entry(name="two"), entry()])

    with pytest.raises(DefinitionError, match=r"pairs.toml: two pairs are named 'one'"):
        read_pairs(path)


def test_an_unknown_task_names_the_file_the_pair_and_the_nearest_task(tmp_path: Path) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry(task="sst-2")])

    with pytest.raises(DefinitionError, match=r"pairs.toml: pair 'one': unknown task 'sst-2'; did you mean 'sst2'\?"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seed = -1", "[pair.#1]: key 'seed': expected at least 0"),
        ("seed = 1.5", "[pair.#1]: key 'seed': expected a whole number"),
        ("sed = 1", "[pair.#1]: unknown key 'sed'; did you mean 'seed'?"),
    ],
)
def test_a_wrong_line_names_its_pair(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry(seed=None)])
    path.write_text(path.read_text() + line + "\n")

    with pytest.raises(DefinitionError) as caught:
        read_pairs(path)

    assert expected in str(caught.value)


def test_a_single_table_in_place_of_a_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry()])
    path.write_text(path.read_text().replace("[[pair]]", "[pair]"))

    with pytest.raises(DefinitionError, match="key 'pair'"):
        read_pairs(path)


@pytest.mark.parametrize("reference", ["x" * 300, "x/" * 3000, "~" * 300, "a\0b"])
def test_what_no_folder_can_be_called_is_refused_in_a_paragraph(tmp_path: Path, reference: str) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry(base=reference)])

    with pytest.raises(DefinitionError, match=r"pairs.toml: pair 'one': .*(write the path out|give a )") as caught:
        read_pairs(path)
    with pytest.raises(CheckpointError, match=r"^base: no folder .*expected a folder or a hub id|not available"):
        locate(reference, "base")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", ["name", "base", "full", "peft"])
def test_an_empty_reference_is_not_the_folder_of_the_file(tmp_path: Path, key: str) -> None:
    path = tmp_path / "pairs.toml"
    write_pairs(path, [entry()])
    path.write_text(re.sub(f"{key} = .*", f'{key} = ""', path.read_text()))

    with pytest.raises(DefinitionError, match=f"key '{key}': expected 1 or more characters"):
        read_pairs(path)
