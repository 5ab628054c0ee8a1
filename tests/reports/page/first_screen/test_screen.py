"""The first screen: what it says of a pair, of several, of test sets alone and of probes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lxml.html
import pandas as pd
import pytest

from robustness.reports.page.first_screen.screen import FirstScreen, build_first_screen
from robustness.reports.page.writing import write_page
from robustness.reports.summaries.summary import summarise_run
from robustness.reports.tables.columns import COLUMNS, Table

REPLAYS = ["source", "target", "testset", "attack", "example_id", "response", "correct"]
CLEAN = {
    "attack": "none", "metric": "accuracy", "family": "", "verdict": "", "reference_value": 0.92,
    "candidate_value": 0.92, "difference": 0.0, "p_adjusted": None,
}  # fmt: skip
BROKEN = {"reference_value": 0.03, "candidate_value": 0.06, "difference": -0.03, "detectable": 0.1001}


def tables_of(pairs: pd.DataFrame, **others: pd.DataFrame) -> dict[Table, pd.DataFrame]:
    """Tables of a run that has nothing but these."""
    empty = {table: pd.DataFrame(columns=[column.name for column in COLUMNS[table]]) for table in Table}
    return empty | {Table.PAIRS: pairs} | {Table(name): frame for name, frame in others.items()}


@pytest.fixture
def look(planted: Any, run_writer: Any) -> Any:
    """The first screen of planted rows of pairs.csv, and the page that shows it."""

    def looked(
        *rows: dict[str, object],
        seeds: int = 1,
        mixed: bool = False,
        attacked: int | None = None,
        **others: pd.DataFrame,
    ) -> FirstScreen:
        whole = run_writer.mixed() if mixed else run_writer.record(seeds=seeds)
        record = whole.model_copy(update={"limit": 40, "attacked": attacked})
        record = record.model_copy(
            update={"testsets": tuple(t.model_copy(update={"name": "set", "n": 900}) for t in record.testsets[:1])}
        )
        tables = tables_of(planted.table(*(planted.row(**row) for row in rows)), **others)
        answers = summarise_run(tables[Table.PAIRS], record)
        return build_first_screen(record, tables, pd.DataFrame(columns=REPLAYS), answers, Path("out/run"))

    return looked


def test_a_pair_has_its_clean_accuracy_what_is_kept_and_the_smallest_gap(look: Any) -> None:
    screen = look(CLEAN, BROKEN)

    assert str(screen.headline) == "Both collapse under swap. Which of the two is weaker, this run cannot say."
    assert screen.lead.clean == "Clean accuracy 92 % for both."
    assert screen.lead.before == "After the strongest attack"
    assert screen.lead.kept == ("full keeps 3 %", "LoRA keeps 6 %")
    assert screen.lead.smallest == "With 400 examples, a gap of 10.1 points or more would be found (power .80)."
    assert screen.meta == (
        "LoRA against full fine-tuning", "set (n = 40)", "base", "1 training seed", "2026-01-01",
    )  # fmt: skip
    assert [row.name for row in screen.forest.rows] == ["no attack", "swap"]
    assert [row.is_planned for row in screen.forest.rows] == [False, True]


def test_where_only_what_both_have_right_is_attacked_clean_accuracy_is_of_the_whole_test_set(look: Any) -> None:
    rate = {"metric": "attack_success_rate", "population": "both_correct", "family": "secondary", "n": 30}
    screen = look(CLEAN | {"reference_value": 0.22, "candidate_value": 0.16}, BROKEN | {"n": 30}, rate, attacked=30)

    assert screen.headline.collapse == "Both collapse under swap."
    assert screen.lead.clean == "Clean accuracy 22 % for full, 16 % for LoRA."
    assert screen.lead.before == "Of 30 examples that both had right, after the strongest attack"
    assert "no attack: full 100.0 %" in screen.charts[0].svg
    assert screen.charts[0].caption == "Of the examples that both arms have right without an attack."


def test_a_method_whose_seeds_have_every_example_right_in_turn_was_attacked_on_all_of_them(look: Any) -> None:
    """Over seeds the success rate is of the examples that any pair has right: here of all of them."""
    over = {"pair": "sst2 lora, 3 seeds", "n_seeds": 3}
    rate = {"metric": "attack_success_rate", "population": "both_correct", "family": "secondary"}
    clean = CLEAN | {"reference_value": 0.6, "candidate_value": 0.5}
    swapped = BROKEN | {"reference_value": 0.2, "candidate_value": 0.2}
    screen = look(*(row | over for row in (clean, swapped, rate)), seeds=3)

    assert screen.headline.collapse == "Neither collapses under swap."
    assert screen.lead.clean == "Clean accuracy 60 % for full, 50 % for LoRA."
    assert screen.lead.before == "After the strongest attack"
    assert "no attack: full 60.0 %" in screen.charts[0].svg and screen.charts[0].caption == ""


def test_two_seeds_are_not_told_that_examples_are_too_few(look: Any) -> None:
    seeds = {"pair": "sst2 lora, 2 seeds", "n_seeds": 2}
    rows = [row | seeds for row in (CLEAN, BROKEN | {"detectable": None, "reason": "two-seeds"})]
    screen = look(*rows, seeds=2)

    assert screen.lead.smallest == ""
    assert screen.headline.difference == "Two training seeds do not tell two methods apart: a third is needed."


def test_without_a_detectable_gap_the_first_screen_says_so(look: Any) -> None:
    lead = look(CLEAN, BROKEN | {"detectable": None}).lead

    assert lead.smallest == "With so few examples this run would find no gap."


def test_the_forest_has_a_band_of_each_comparison_and_names_both(look: Any) -> None:
    forest = look(CLEAN, BROKEN, BROKEN | {"attack": "zap", "detectable": 0.2}).forest

    assert forest.equal == "counts as equal (\u00b12)"
    assert forest.unseen == "too small for this run to find (\u00b110 to \u00b120)"
    assert [row.strip.count('class="unseen"') for row in forest.rows] == [0, 1, 1]
    assert all(row.strip.count('class="equal"') == 1 and "<title>" in row.strip for row in forest.rows)


def test_a_verdict_stands_beside_its_row_and_an_open_comparison_has_its_interval(look: Any) -> None:
    found = {"verdict": "peft-more-fragile"}, {"attack": "b", "verdict": "equivalent"}, {"attack": "c"}
    rows = look(CLEAN, *found).forest.rows

    said = [(row.name, row.verdict, row.style) for row in rows]
    assert said == [
        ("no attack", "", ""), ("swap", "LoRA more fragile", "cand"), ("b", "equal", "same"), ("c", "", ""),
    ]  # fmt: skip
    assert rows[-1].interval == "\u22123.0 to +7.0"


def test_several_pairs_have_a_line_each_one_forest_and_no_empty_chart(look: Any) -> None:
    rows = [row | {"pair": f"pair-{seed}"} for seed in range(2) for row in (CLEAN, BROKEN)]
    screen = look(*rows, seeds=3)

    assert [line.name for line in screen.lines] == ["pair-0", "pair-1", "pair-2"]
    assert screen.lines[0].kept == ("3 %", "6 %") and screen.lines[2].kept is None
    assert screen.lead is None
    assert [row.name for row in screen.forest.rows] == ["pair-0", "pair-1"]
    assert [chart.title for chart in screen.charts] == ["pair-0", "pair-1"]
    assert str(screen.headline) == (
        "Both arms collapse in both pairs. Which arm is weaker, this run cannot say of any."
    )


def test_several_pairs_are_counted_in_the_headline(look: Any) -> None:
    fragile = BROKEN | {"verdict": "peft-more-fragile", "reference_value": 0.5}
    rows = [CLEAN | {"pair": f"pair-{n}"} for n in range(3)]
    found = look(*rows, fragile, BROKEN | {"pair": "pair-1"}, {"pair": "pair-2", "verdict": "equivalent"}, seeds=3)

    assert found.headline.collapse == "Both arms collapse in 1 of 3 pairs and one arm in 1."
    assert found.headline.difference == (
        "LoRA is more fragile in 1 and both count as equal in 1 of 3; of 1 this run cannot say."
    )


def test_a_pair_without_pooled_rows_has_its_line_beside_the_methods_that_have_some(look: Any) -> None:
    over = {"pair": "sst2 lora, 3 seeds", "n_seeds": 3}
    singles = [row | {"pair": f"pair-{seed}"} for seed in range(4) for row in (CLEAN, BROKEN)]
    screen = look(*singles, CLEAN | over, BROKEN | over, mixed=True)

    assert [line.name for line in screen.lines] == ["sst2 lora, 3 seeds", "pair-3"]
    assert screen.headline.collapse == "Both arms collapse in both methods and pairs."
    assert "1 to 3 training seeds" in screen.meta
    assert [row.name for row in screen.forest.rows] == ["sst2 lora, 3 seeds", "pair-3"]
    assert screen.forest.unit.endswith("95 % interval, over seeds where a name has them")


def test_adversarial_test_sets_alone_share_a_chart_with_clean_accuracy_before_the_run(look: Any) -> None:
    rows = [{"attack": "none", "metric": "accuracy", "testset": name} for name in ("set", "other")]
    screen = look(*rows)

    assert len(screen.charts) == 1 and screen.charts[0].svg.count("<circle") == 3
    assert screen.lead.before == "On adversarial texts, averaged over 2 test sets,"
    assert screen.lead.kept == ("full has 50 % right", "LoRA has 48 % right")
    assert {row.name for row in screen.forest.rows} == {"set", "other"}


def test_probes_alone_say_who_is_more_sensitive_and_give_no_verdict(look: Any) -> None:
    columns = [column.name for column in COLUMNS[Table.SENSITIVITY_PAIRS]]
    ratio = {
        "pair": "pair-0", "testset": "set", "probe": "distance", "quantity": "distance", "comparison": "ratio",
        "ratio": 0.5, "low": 0.4, "high": 0.6, "n": 60, "larger_values": "robust",
    }  # fmt: skip
    found = ratio | {"direction": "candidate-more-sensitive"}
    in_another_unit = found | {"quantity": "relative-distance"}
    rows = [found, in_another_unit, ratio | {"direction": "neutral"}]
    screen = look(CLEAN, sensitivity_pairs=pd.DataFrame(rows).reindex(columns=columns))

    assert str(screen.headline) == (
        "LoRA is more sensitive than full fine-tuning by 1 of 1 measurement. "
        "Nothing was attacked, so there is no verdict on fragility."
    )
    errored = pd.DataFrame([{"attack": "swap", "status": "errored"}])
    examples = errored.reindex(columns=[column.name for column in COLUMNS[Table.EXAMPLES]]).astype(object)
    screen = look(CLEAN, sensitivity_pairs=pd.DataFrame(rows).reindex(columns=columns), examples=examples)
    assert screen.headline.difference == "No attack could be compared, so there is no verdict on fragility."
    (row,) = screen.forest.rows
    assert (row.number, row.interval, row.verdict) == ("0.5\u00d7", "0.4 to 0.6", "LoRA more sensitive")
    assert 'x="83.75%"' in row.strip or float(row.strip.split('<svg x="')[1].split("%")[0]) > 50
    assert screen.charts == () and screen.lead is None


def test_nothing_compared_has_a_first_screen_without_panels(look: Any) -> None:
    screen = look()

    assert str(screen.headline) == "Nothing has been compared yet."
    assert screen.forest is None and screen.charts == () and screen.text is None


def test_the_page_has_no_p_value_above_the_fold_and_one_heading(
    planted: Any, run_writer: Any, tmp_path: Path
) -> None:
    tables = tables_of(planted.table(planted.row(**CLEAN), planted.row(**BROKEN)))

    write_page(tmp_path, run_writer.record(), tables, pd.DataFrame(columns=REPLAYS))

    page = lxml.html.document_fromstring((tmp_path / "report.html").read_text(encoding="utf-8"))
    section = page.get_element_by_id("answer")
    below = section.get_element_by_id("rests")
    assert "adjusted p" in below.text_content()
    below.drop_tree()
    assert not [word for word in ("p =", "p <", "p\xa0", "p adj", "inconclusive") if word in section.text_content()]
    assert len(page.xpath("//h1")) == 1 and "this run cannot say" in page.xpath("//h1")[0].text_content()
    assert all(svg.xpath(".//*[local-name()='title']") for svg in section.find_class("slopes"))
