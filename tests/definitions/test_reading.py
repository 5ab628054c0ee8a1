from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from robustness.definitions.attacks import AttackDefinition
from robustness.definitions.catalog import definitions_root
from robustness.definitions.reading import read_definition
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import DefinitionError
from robustness.recipes.parts import check_parts

ATTACK = """summary = "Mine."
family = "character"
access = "scores"

[search]
kind = "random-order"
passes = 2

[[constraints]]
kind = "skip-function-words"

[[constraints]]
kind = "max-edit-distance"
characters = 3

[budget]
max_queries = 5
"""

Refusal = Callable[[str], str]


@pytest.fixture
def refusal(tmp_path: Path) -> Refusal:
    """Reads an attack from text and returns the message of the error, less the folder."""

    def read(text: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DefinitionError) as caught:
            check_parts(read_definition(path, AttackDefinition), str(path))
        message = str(caught.value)
        assert message.startswith(f"{path}"), message
        return message.removeprefix(f"{tmp_path}/")

    return read


def test_the_attack_that_the_other_tests_break_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(ATTACK)

    definition = read_definition(path, AttackDefinition)

    assert definition.budget.max_queries == 5
    assert [part.kind for part in definition.constraints] == ["skip-function-words", "max-edit-distance"]


def test_an_unknown_key_names_file_table_key_and_the_right_name(refusal: Refusal) -> None:
    message = refusal(ATTACK.replace("max_queries", "max_query"))

    assert message == "mine.toml [budget]: unknown key 'max_query'; did you mean 'max_queries'?"


def test_an_unknown_key_at_the_top_names_the_right_name(refusal: Refusal) -> None:
    message = refusal(ATTACK.replace("summary", "sumary"))

    assert message == "mine.toml: unknown key 'sumary'; did you mean 'summary'?"


def test_an_unknown_key_in_a_list_of_tables_names_the_table_by_its_number(refusal: Refusal) -> None:
    message = refusal(ATTACK.replace("characters = 3", "characters = 3\ncharacter = 4"))

    assert "mine.toml [constraints.#2" in message
    assert message.endswith("unknown key 'character'; did you mean 'characters'?")


def test_a_key_that_belongs_to_another_table_is_never_suggested_as_itself(refusal: Refusal) -> None:
    message = refusal("max_queries = 5\n" + ATTACK)

    assert "unknown key 'max_queries'" in message
    assert "did you mean 'max_queries'" not in message
    assert "budget" in message


def test_an_unknown_key_of_a_part_is_compared_with_the_keys_of_that_part_alone(refusal: Refusal) -> None:
    message = refusal(ATTACK.replace('kind = "skip-function-words"', 'kind = "skip-function-words"\ncharacters = 1'))

    assert message.endswith("unknown key 'characters'; known: kind")


def test_an_unknown_key_of_an_optional_table_is_explained(tmp_path: Path) -> None:
    text = (definitions_root() / "suites" / "testsets" / "sst2.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("\n[train.hub]\n", "\n[train.hub]\nrevison = 'x'\n"))

    with pytest.raises(DefinitionError, match=r"\[train.hub\]: unknown key 'revison'; did you mean 'revision'\?"):
        read_definition(path, TestsetDefinition)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_queries = 5", 'max_queries = "5"', "[budget]: key 'max_queries': expected a whole number"),
        ("max_queries = 5", "max_queries = 0", "[budget]: key 'max_queries': expected more than 0; got 0"),
        ("max_queries = 5", "max_queries = true", "[budget]: key 'max_queries': expected a whole number"),
        ("max_queries = 5", "max_queries = nan", "[budget]: key 'max_queries': "),
        ('summary = "Mine."', "summary = 3", "mine.toml: key 'summary': expected text; got 3"),
        ('summary = "Mine."', "summary = 2020-01-01", "mine.toml: key 'summary': expected text"),
        (
            'access = "scores"',
            'access = "score"',
            "mine.toml: key 'access': unknown 'score'; did you mean 'scores'?",
        ),
        ("[budget]\nmax_queries = 5", "[[budget]]\nmax_queries = 5", "mine.toml: key 'budget': "),
        ("[search]", "[[search]]", "mine.toml: key 'search': "),
    ],
)
def test_a_wrong_type_names_the_key_and_what_was_found(refusal: Refusal, old: str, new: str, expected: str) -> None:
    message = refusal(ATTACK.replace(old, new))

    assert expected in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('family = "character"\n', "mine.toml: missing key 'family'"),
        ("characters = 3\n", ": missing key 'characters'"),
        ('kind = "random-order"\n', "mine.toml [search]: missing key 'kind'"),
    ],
)
def test_a_missing_key_names_the_table_that_lacks_it(refusal: Refusal, line: str, expected: str) -> None:
    message = refusal(ATTACK.replace(line, ""))

    assert expected in message


def test_an_unknown_kind_of_part_names_the_right_kind(refusal: Refusal) -> None:
    message = refusal(ATTACK.replace('"max-edit-distance"', '"max-edit-distances"'))

    assert message == (
        "mine.toml [constraints.#2]: unknown 'kind' 'max-edit-distances'; did you mean 'max-edit-distance'?"
    )


def test_a_kind_like_no_other_lists_all_kinds(refusal: Refusal) -> None:
    message = refusal(ATTACK.replace('"random-order"', '"zzz"'))

    kinds = message.partition("unknown 'kind' 'zzz'; known: ")[2].split(", ")
    assert {"greedy-word-ranking", "random-order", "return-clean"} <= set(kinds)
    assert kinds == sorted(kinds)


@pytest.mark.parametrize("text", ["summary = ", "summary = 'a'\nsummary = 'b'", "[budget", "\x00"])
def test_what_is_not_toml_is_refused_with_its_place(refusal: Refusal, text: str) -> None:
    message = refusal(f"{text}\n# the end\n")

    assert message.startswith("mine.toml: not TOML: ")
    assert "(at line " in message


def test_what_is_not_utf8_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'summary = "caf\xe9"')

    with pytest.raises(DefinitionError, match=r"mine.toml: not UTF-8 at byte 14; save the file as UTF-8"):
        read_definition(path, AttackDefinition)


def test_a_signature_before_the_text_as_windows_writes_it_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + ATTACK.replace("\n", "\r\n").encode())

    assert read_definition(path, AttackDefinition).summary == "Mine."


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"mine.toml: no such file$"):
        read_definition(tmp_path / "mine.toml", AttackDefinition)


def test_a_folder_is_not_a_definition(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="a folder; expected a TOML file"):
        read_definition(tmp_path, AttackDefinition)


def test_a_file_used_as_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DefinitionError, match="cannot be read"):
        read_definition(tmp_path / "file" / "mine.toml", AttackDefinition)


def test_an_error_is_one_line(refusal: Refusal) -> None:
    message = refusal(ATTACK.replace("max_queries = 5", 'max_queries = """a\nb"""'))

    assert "\n" not in message
