"""Figures of one line a row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from robustness.reports.page.sections.subgroups import describe_subgroups, draw_strips, spell_place
from robustness.reports.page.strips import Strips
from robustness.reports.summaries.arms import name_arms
from robustness.reports.tables.columns import Table, arrange


@pytest.mark.parametrize(
    ("where", "what", "words"),
    [
        ("label", "advglue-sst2 | positive", "advglue-sst2  ·  label positive"),
        ("method", "advglue-sst2 | worst-case | TextFooler", "advglue-sst2  ·  worst-case  ·  made by TextFooler"),
        ("construction", "advglue-sst2 | human", "advglue-sst2  ·  construction human"),
        ("text length", "sst2 | pwws | short (up to 14 words)", "sst2  ·  pwws  ·  up to 14 words"),
        ("clean margin", "sst2 | wide (over 0.9 mean score)", "sst2  ·  clean score over 0.9"),
        ("budget", "sst2 | pwws | queries <= 3", "sst2  ·  pwws  ·  queries ≤ 3"),
    ],
)
def test_a_place_on_the_map_says_what_part_it_is(where: str, what: str, words: str) -> None:
    assert spell_place(SimpleNamespace(where=where, what=what)) == words


def rows(n: int = 4, **columns: object) -> pd.DataFrame:
    """Places of fragility.csv: a test set, an attack, then parts of it."""
    kinds = ["test set", "attack", *["label"] * (n - 2)]
    what = ["set", "set | swap", *(f"set | swap | {i}" for i in range(n - 2))]
    blank = {"difference": 0.1, "low": 0.05, "high": 0.2, "n": 40, "testset": "set", "verdict": "inconclusive"}
    return pd.DataFrame({"where": kinds[:n], "what": what[:n]} | blank | columns)


def draw(frame: pd.DataFrame) -> Strips:
    return draw_strips("pair", frame, 0.02, name_arms("full", "lora"))


def test_a_line_lies_where_its_numbers_are_on_an_axis_with_round_numbers() -> None:
    figure = draw(rows(2, difference=-0.1, low=-0.5, high=0.25))

    reach = 1.06 * 50
    assert figure.rows[0].ends == pytest.approx((50 - 50 * 50 / reach, 50 + 50 * 25 / reach), abs=0.01)
    assert figure.rows[0].marks[0].at == pytest.approx(50 - 50 * 10 / reach, abs=0.01)
    assert figure.band == pytest.approx((50 - 50 * 2 / reach, 50 + 50 * 2 / reach), abs=0.01)
    assert [tick.shown for tick in figure.ticks] == ["\u221240", "\u221220", "0", "+20", "+40"]
    assert figure.rows[0].shown == "\u221210.0"


def test_the_axis_says_who_is_worse_off_and_calls_nobody_fragile() -> None:
    figure = draw(rows(2))

    assert figure.sides == ("full worse off", "LoRA worse off")
    assert "fragile" not in figure.axis


def test_a_mark_has_the_shape_of_its_verdict_and_the_colour_of_the_arm_it_is_about() -> None:
    verdicts = ["less-accurate", "less-accurate", "peft-more-fragile", "full-more-fragile", "equivalent", None]
    frame = rows(6, difference=[0.1, -0.1, 0.1, -0.1, 0.0, 0.0], verdict=verdicts)

    looks = {row.title.split(": ")[0]: (row.marks[0].shape, row.marks[0].colour) for row in draw(frame).rows}

    assert list(looks.values()) == [
        *(("diamond", "peft"), ("diamond", "full"), ("right", "peft"), ("left", "full"), ("square", "same")),
        ("ring", "muted"),
    ]


def test_planned_places_come_first_and_a_test_set_that_all_share_is_not_repeated() -> None:
    figure = draw(rows(5).iloc[::-1])

    assert [row.is_planned for row in figure.rows] == [True, True, False, False, False]
    assert sorted(row.name for row in figure.rows)[-1] == "swap  ·  label 2"
    assert "set  ·  as it stands" in {row.name for row in figure.rows}


def test_of_many_places_the_planned_and_the_telling_are_drawn_and_the_others_counted() -> None:
    frame = rows(60)
    frame.loc[59, "verdict"] = "peft-more-fragile"

    figure = draw(frame)

    assert len(figure.rows) == 20 and figure.note.startswith("20 of 60 places")
    assert figure.rows[2].name == "swap  ·  label 57"


def test_methods_over_their_seeds_come_before_their_pairs_which_are_folded(run_writer: Any) -> None:
    record = run_writer.record(seeds=2)
    names = ["pair-0", "pair-1", "sst2 lora, 2 seeds"]
    fragility = pd.concat([rows(2).assign(pair=name) for name in names], ignore_index=True)
    pairs = pd.DataFrame({"pair": names, "method": "lora", "n_seeds": [1, 1, 2], "seed_sd": None, "noise_floor": 0.0})
    tables = {
        Table.FRAGILITY: arrange(Table.FRAGILITY, fragility),
        Table.PAIRS: arrange(Table.PAIRS, pairs),
    }

    section = describe_subgroups(tables, record.pairs, record)

    assert [figure.name for figure in section.strips] == ["sst2 lora, 2 seeds"]
    assert [figure.name for figure in section.folded] == ["pair-0", "pair-1"]


def test_a_pair_whose_method_has_no_figure_is_not_folded(run_writer: Any) -> None:
    record = run_writer.mixed()
    names = [*(f"pair-{seed}" for seed in range(4)), "sst2 lora, 3 seeds"]
    fragility = pd.concat([rows(2).assign(pair=name) for name in names], ignore_index=True)
    pairs = pd.DataFrame({"pair": names, "n_seeds": [1, 1, 1, 1, 3], "noise_floor": 0.0})
    tables = {
        Table.FRAGILITY: arrange(Table.FRAGILITY, fragility),
        Table.PAIRS: arrange(Table.PAIRS, pairs),
    }

    section = describe_subgroups(tables, record.pairs, record)

    assert [figure.name for figure in section.strips] == ["sst2 lora, 3 seeds", "pair-3"]
    assert [figure.name for figure in section.folded] == ["pair-0", "pair-1", "pair-2"]
