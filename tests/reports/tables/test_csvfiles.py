from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.reports.tables.columns import COLUMNS, Table, arrange
from robustness.reports.tables.csvfiles import number_text, number_texts, read_columns, read_table, write_table
from robustness.spreadsheets import FORMULA_STARTS, neutralise, restore


@given(st.text())
def test_neutralising_can_be_undone_for_any_text(text: str) -> None:
    assert restore(neutralise(text)) == text


@given(st.text())
def test_no_neutralised_cell_starts_a_formula(text: str) -> None:
    assert not neutralise(text).startswith(FORMULA_STARTS)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_writing_then_reading_is_the_identity_for_any_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "examples.csv"
    frame = arrange(Table.EXAMPLES, [{"adversarial_text": text, "seconds": 0.5} for text in texts])

    write_table(frame, Table.EXAMPLES, path)

    back = read_table(Table.EXAMPLES, path)
    assert list(back["adversarial_text"]) == texts
    assert list(back["seconds"]) == [0.5] * len(texts)
    assert back["error"].isna().all()


def test_every_field_is_quoted_and_numbers_stay_numbers(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    write_table(arrange(Table.PAIRS, [{"pair": "=cmd()", "difference": -0.25, "n": 7}]), Table.PAIRS, path)

    header, line = path.read_text(encoding="utf-8").splitlines()
    assert header == ",".join(f'"{column.name}"' for column in COLUMNS[Table.PAIRS])
    assert line.startswith('"\'=cmd()"')
    frame = pd.read_csv(path)
    assert frame["difference"].tolist() == [-0.25] and frame["n"].tolist() == [7]


PROMISED = {
    Table.EXAMPLES: """
        checkpoint adaptation task train_seed testset provenance attack attack_digest seed example_id group_id
        clean_correct correct clean_quality quality clean_response response gold status queries forwards decodes
        modified_words modified_share similarity seconds original_text adversarial_text error""",
    Table.TESTSETS: """
        checkpoint adaptation task testset provenance metric aggregation n n_errored value low high""",
    Table.ATTACKS: """
        checkpoint adaptation method train_seed trainable_parameters task testset attack n n_skipped n_errored
        clean_accuracy robust_accuracy robust_accuracy_low robust_accuracy_high attack_success_rate
        attack_success_rate_low attack_success_rate_high mean_queries mean_forwards mean_modified_share
        mean_similarity seconds""",
    Table.PAIRS: """
        pair contrast base reference candidate method task testset attack metric population n reference_value
        candidate_value difference low high drop_difference drop_low drop_high test p_value p_adjusted verdict
        detectable n_seeds method_digest trainable_parameters""",
    Table.TRANSFER: "source target testset attack n transfer_rate low high",
    Table.CURVES: "checkpoint testset attack budget_kind budget robust_accuracy low high",
    Table.FRAGILITY: "pair where what difference low high p_adjusted verdict",
    Table.SURVIVAL: """
        pair testset attack reference_n candidate_n reference_median candidate_median statistic test p_value""",
    Table.PREDICTIONS: "checkpoint testset probe quantity attack n auc low high rank_correlation",
    Table.SENSITIVITY: """
        checkpoint adaptation task testset probe space target kind norm radius alpha status n value low high forwards
        backwards seconds""",
    Table.SENSITIVITY_EXAMPLES: """
        checkpoint testset probe example_id group_id target kind norm radius status value""",
    Table.SENSITIVITY_PAIRS: """
        pair probe quantity kind norm radius scope n reference_value candidate_value ratio low high p_adjusted
        direction""",
    Table.BRACKETS: """
        checkpoint testset example_id group_id layer module of lower upper lower_kind upper_kind lower_value
        upper_value ratio""",
    Table.LAYERS: "checkpoint layer module probe kind value",
}


@pytest.mark.parametrize("table", Table)
def test_the_columns_begin_with_those_that_were_promised(table: Table) -> None:
    promised = PROMISED[table].split()

    assert [column.name for column in COLUMNS[table]][: len(promised)] == promised


@given(st.lists(st.floats(allow_nan=False) | st.integers(-(10**17), 10**17), max_size=8))
def test_numbers_are_written_as_the_rule_for_one_number_says(values: list[float]) -> None:
    expected = []
    for value in map(float, values):
        is_whole = abs(value) < 2**53 and value == int(value)
        expected.append(str(int(value)) if is_whole else f"{value:.6g}")

    assert number_texts(values) == expected
    assert [number_text(value) for value in values] == expected


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_some_columns_read_back_as_the_whole_table_does(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("columns") / "examples.csv"
    rows = [
        {"example_id": text, "response": text, "queries": number, "quality": 1 / 3, "distance": float("inf")}
        for number, text in enumerate(texts)
    ]
    write_table(arrange(Table.EXAMPLES, rows), Table.EXAMPLES, path)
    names = ["example_id", "response", "queries", "quality", "distance", "status"]

    found, whole = read_columns(Table.EXAMPLES, path, names), read_table(Table.EXAMPLES, path)

    for name in names:
        expected = whole[name].tolist()
        assert [None if pd.isna(value) else value for value in found[name]] == [
            None if pd.isna(value) else value for value in expected
        ]
