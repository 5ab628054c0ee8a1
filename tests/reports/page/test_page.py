from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import lxml.html
import numpy as np
import pandas as pd
import pytest

from robustness.reports.page.writing import write_page
from robustness.reports.report import write_report
from robustness.reports.tables.columns import COLUMNS, Table
from robustness.reports.tables.csvfiles import read_table
from robustness.reports.tables.probes.sensitivity import build_sensitivity, build_sensitivity_examples
from robustness.reports.tables.probes.sensitivity_pairs import build_sensitivity_pairs
from robustness.reports.visible import visible
from robustness.runs.storage.record import ProbeRecord

REPLAYS = ["source", "target", "testset", "attack", "example_id", "correct"]


@pytest.fixture(scope="module")
def folder(run_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain run with its tables and page."""
    made = run_writer.write(tmp_path_factory.mktemp("page") / "run", run_writer.record())
    write_report(made)
    return made


@pytest.fixture(scope="module")
def hostile_folder(run_writer: Any, hostile: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose every name and text is hostile, texts with half a surrogate too."""
    names: dict[str, str] = {}

    def name(plain: str) -> str:
        return names.setdefault(plain, f"{plain} {hostile[len(names) % len(hostile)]}")

    made = run_writer.write(
        tmp_path_factory.mktemp("hostile") / "run",
        run_writer.record(name),
        lambda i: hostile[i % len(hostile)] + " \ud800 half",
        lambda i: hostile[i % len(hostile)],
    )
    write_report(made)
    return made


def parse(folder: Path) -> Any:
    return lxml.html.document_fromstring((folder / "report.html").read_text(encoding="utf-8"))


def rows_of(table: Any) -> list[list[Any]]:
    return [row.findall("td") for row in table.find("tbody").findall("tr")]


def csv_rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


NUMBERS = {
    "fragility": ["n", "reference_value", "candidate_value", "difference", "low", "high", "p_adjusted", "detectable"],
    "pairs": [
        *("n", "reference_value", "candidate_value", "difference", "low", "high", "p_adjusted", "n_left_out"),
        *("detectable", "drop_difference", "p_value"),
    ],
    "survival": ["reference_n", "candidate_n", "reference_median", "candidate_median", "p_value"],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_of_a_table_is_the_csv_files_own(folder: Path, name: str) -> None:
    table = parse(folder).get_element_by_id(name)

    shown = [[cell.get("data-value") for cell in row if cell.get("data-value") is not None] for row in rows_of(table)]

    expected = [[row[column] for column in NUMBERS[name]] for row in csv_rows(folder, name)]
    assert len(shown) > 3
    assert shown == expected


def test_what_a_reader_sees_is_the_number_rounded(folder: Path) -> None:
    table = parse(folder).get_element_by_id("fragility")
    heads = [head.text_content() for head in table.find("thead").iter("th")]

    for row in rows_of(table):
        cells = dict(zip(heads, row, strict=True))
        shown = float(cells["difference"].text_content().replace("\u2212", "-"))
        assert shown == pytest.approx(100 * float(cells["difference"].get("data-value")), abs=0.051)
        assert float(cells["full, %"].text_content()) == pytest.approx(
            100 * float(cells["full, %"].get("data-value")), abs=0.051
        )


def test_heat_maps_hold_the_rates_of_their_tables(folder: Path) -> None:
    page = parse(folder)
    cells = {
        cell.get("data-value")
        for table in page.iter("table")
        if (table.get("id") or "").startswith("heat-")
        for cell in table.iter("td")
        if cell.get("data-value")
    }

    expected = {row["robust_accuracy"] for row in csv_rows(folder, "attacks")}
    expected |= {row["value"] for row in csv_rows(folder, "testsets") if row["metric"] == "accuracy"}
    expected |= {row["transfer_rate"] for row in csv_rows(folder, "transfer")}
    assert cells == expected


def test_an_answer_stands_on_the_page_with_what_it_rests_on_caveats_and_controls(
    planted: Any, run_writer: Any, tmp_path: Path
) -> None:
    tables = _tables(
        planted.table(
            planted.row(verdict="peft-more-fragile", n_left_out=7),
            planted.row(attack="other", verdict="less-accurate", reason="clean-gap"),
            planted.row(attack="none", metric="accuracy", family=None, p_adjusted=None, verdict=None),
        )
    )

    write_page(tmp_path, run_writer.record(), tables, pd.DataFrame(columns=REPLAYS))

    page = parse(tmp_path)
    assert page.xpath("//h1")[0].text_content() == (
        "Both hold up under attack. "
        "LoRA is more fragile than full fine-tuning in 1 of 2 comparisons and less accurate in 1."
    )
    detail, *caveats, control = [item.text_content() for item in page.get_element_by_id("rests").iter("li")]
    assert detail.startswith("Clearest: swap on set, where full fine-tuning keeps 50.0\xa0%")
    assert caveats == [
        "One training seed: this compares two checkpoints, not two methods.",
        "In 1 of 2 comparisons: the gap in clean accuracy explains the difference.",
        "Examples left out, without an outcome on at least one arm: 7 of swap on set.",
    ]
    assert control.startswith("Control, not counted: set as it stands: full fine-tuning has 50.0\xa0% right and LoRA")


def test_the_table_of_comparisons_says_what_was_left_out_and_why_no_verdict(
    planted: Any, run_writer: Any, tmp_path: Path
) -> None:
    tables = _tables(planted.table(planted.row(n_left_out=7, reason="gate", high=0.0701)))

    write_page(tmp_path, run_writer.record(), tables, pd.DataFrame(columns=REPLAYS))

    table = parse(tmp_path).get_element_by_id("pairs")
    heads = [head.text_content() for head in table.find("thead").iter("th")]
    cells = dict(zip(heads, (cell.text_content() for cell in rows_of(table)[0]), strict=True))
    assert (cells["left out"], cells["reason"], cells["verdict"]) == ("7", "gate", "inconclusive")
    assert cells["high"] == "+7.1"  # rounded outwards
    assert {"full, %", "LoRA, %", "p adj.", "detectable"} <= set(heads)


def _tables(pairs: pd.DataFrame) -> dict[Table, pd.DataFrame]:
    """Tables of a run that has nothing but these comparisons."""
    empty = {table: pd.DataFrame(columns=[column.name for column in COLUMNS[table]]) for table in Table}
    return empty | {Table.PAIRS: pairs}


def test_the_page_loads_nothing_and_has_one_script_that_its_policy_allows(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = parse(folder)

    for table in Table:
        link = f'<a href="{table}.csv" download>'
        assert link in text and (folder / f"{table}.csv").is_file()
        text = text.replace(link, "")
    assert not re.search(r'(src|href)="(?!#)', text.replace("xlink:href", "href"))
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", text)
    assert len(list(page.iter("script"))) == 1
    policy = page.xpath('//meta[@http-equiv="Content-Security-Policy"]/@content')[0]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_ids_are_unique_and_every_link_has_its_target(folder: Path) -> None:
    page = parse(folder)
    ids = page.xpath("//@id")

    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.xpath("//a/@href") if link.startswith("#")} <= set(ids)
    used = re.findall(r'(?:url\(|href=")#([^)"]+)', (folder / "report.html").read_text(encoding="utf-8"))
    assert set(used) <= set(ids)


def test_figures_take_the_pages_colours_and_keep_letters_as_letters(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    figures = re.findall(r'<svg class="figure".*?</svg>', text, flags=re.DOTALL)

    assert len(figures) >= 6
    for figure in figures:
        assert ("<text" in figure and "var(--ink)" in figure) or "var(--muted)" in figure
        assert not re.search(r"#(?:000000|ffffff)\b", figure)
        assert "mathdefault" not in figure and "<metadata" not in figure


def test_the_same_rows_give_the_same_page(folder: Path) -> None:
    first = (folder / "report.html").read_bytes()

    write_report(folder)

    assert (folder / "report.html").read_bytes() == first


def test_hostile_strings_in_every_text_column_stay_text(hostile_folder: Path, hostile: tuple[str, ...]) -> None:
    page = parse(hostile_folder)

    assert len(list(page.iter("script"))) == 1 and not list(page.iter("img"))
    assert len(page.xpath("//h1")) == 1
    assert not page.xpath("//@onerror")
    text = page.text_content()
    assert "{{ 717 * 3 }}" in text and "2151" not in text
    assert "<script>document.title='run'</script>" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\u200b\ud800-\udfff]", text)
    assert "⟨U+202E⟩" in text and "⟨U+001B⟩" in text


def test_hostile_strings_survive_the_csv_files(hostile_folder: Path, hostile: tuple[str, ...]) -> None:
    examples = read_table(Table.EXAMPLES, hostile_folder / "examples.csv")

    assert set(examples["original_text"]) == {f"{text} \ufffd half" for text in hostile}
    raw = csv_rows(hostile_folder, "examples")
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in raw for cell in row.values() if not _number(cell))


def _number(cell: str) -> bool:
    return re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell) is not None


def test_an_interrupted_run_marks_what_is_missing(run_writer: Any, tmp_path: Path) -> None:
    record = run_writer.record(n=40)
    folder = run_writer.write(tmp_path / "run", record)
    more = record.model_copy(update={"testsets": tuple(t.model_copy(update={"n_used": 50}) for t in record.testsets)})
    (folder / "run.json").write_text(more.model_dump_json(), encoding="utf-8")

    report = write_report(folder)

    page = parse(folder)
    cells = rows_of(page.get_element_by_id("cells"))
    assert len(cells) == 2 * 2 * 3
    assert [cell.text_content() for cell in cells[0]][-2:] == ["40", "50"]
    assert f"{report.missing} outcomes are missing" in page.get_element_by_id("missing").text_content()


def test_a_run_whose_probes_were_not_measured_says_how_many(run_writer: Any, tmp_path: Path) -> None:
    record = run_writer.record()
    probes = (
        ProbeRecord(name="margin", digest="d", space="input"),
        ProbeRecord(name="u", digest="d", space="structure"),
    )
    folder = run_writer.write(tmp_path / "run", record.model_copy(update={"probes": probes}))

    report = write_report(folder)

    # An input probe on two sets, one of the weights once; on two checkpoints each.
    assert report.missing_measurements == 6
    assert "6 of them" in parse(folder).get_element_by_id("missing-probes").text_content()


def test_a_page_of_many_pairs_draws_some_and_says_so(run_writer: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record(seeds=7, n=12))

    write_report(folder)

    page = parse(folder)
    assert "first 6 of 7 pairs" in page.text_content()
    notes = [note.text_content() for note in page.get_element_by_id("budgets").find_class("note")]
    assert notes[:6] == ["The first 4 of 8; curves.csv has all."] * 6


def test_many_pairs_are_folded_away_below_the_answers_about_their_methods(
    planted: Any, run_writer: Any, tmp_path: Path
) -> None:
    rows = planted.row(), planted.row(pair="sst2 lora, 5 seeds", n_seeds=5)

    write_page(tmp_path, run_writer.record(seeds=5), _tables(planted.table(*rows)), pd.DataFrame(columns=REPLAYS))

    page = parse(tmp_path)
    assert page.find_class("fs-lines") == []
    alone = page.get_element_by_id("pairs-alone")
    assert [head.text for head in alone.iter("h3")] == [f"pair-{seed}" for seed in range(5)]


def test_a_run_that_stored_nothing_yet_has_a_page_that_says_so(run_writer: Any, tmp_path: Path) -> None:
    record = run_writer.record()
    none_yet = record.model_copy(
        update={"testsets": tuple(t.model_copy(update={"n_used": 0}) for t in record.testsets)}
    )
    folder = run_writer.write(tmp_path / "run", none_yet)
    (folder / "run.json").write_text(record.model_dump_json(), encoding="utf-8")

    write_report(folder)

    text = parse(folder).text_content()
    assert "Nothing has been compared yet." in text
    assert "480 outcomes are missing" in text


def test_letters_of_any_script_stay_and_the_invisible_is_spelled() -> None:
    assert visible("naïve 映画 фильм 😀 ½") == "naïve 映画 фильм 😀 ½"
    assert visible("a\u200db\u00ad\ue000") == "a⟨U+200D⟩b⟨U+00AD⟩⟨U+E000⟩"


def test_the_page_says_where_gradients_and_distances_disagree(run_writer: Any, tmp_path: Path) -> None:
    report = write_report(run_writer.write(tmp_path / "run", run_writer.record()))
    checkpoints = [checkpoint.name for checkpoint in report.record.checkpoints]
    columns = COLUMNS[Table.SENSITIVITY_EXAMPLES]
    rows = [
        dict.fromkeys([column.name for column in columns])
        | {"checkpoint": checkpoint, "testset": "clean-set", "probe": "margin", "quantity": "margin", "kind": "exact"}
        | {"example_id": str(i), "group_id": str(i), "target": "f", "status": "ok", "value": 1.0 + i}
        for checkpoint in checkpoints
        for i in range(6)
    ]
    tables = report.tables | {Table.SENSITIVITY_EXAMPLES: pd.DataFrame(rows)}
    sentence = "margin-gradient shows <that>, distances show no difference"

    write_page(tmp_path / "run", report.record, tables, pd.DataFrame(columns=REPLAYS), [sentence])

    section = parse(tmp_path / "run").get_element_by_id("sensitivity")
    assert sentence + "." in [item.text_content() for item in section.iter("li")]


def test_the_page_names_the_more_sensitive_arm_and_says_why_a_gradient_supports_no_claim(
    run_writer: Any, measured: Any, tmp_path: Path
) -> None:
    report = write_report(run_writer.write(tmp_path / "run", run_writer.record()))
    spread = np.linspace(0.9, 1.1, 12)
    distance = measured.rows({"full": spread, "lora": 0.5 * spread[::-1]}, quantity="distance", norm="l2")
    gradient = measured.rows({"full": spread, "lora": 3 * spread}, quantity="margin-gradient", kind="exact")
    frame = pd.concat([gradient, distance]).replace({"checkpoint": {"full": "full-0", "lora": "lora-0"}})
    tables = report.tables | {
        Table.SENSITIVITY_EXAMPLES: build_sensitivity_examples(frame),
        Table.SENSITIVITY_PAIRS: build_sensitivity_pairs(frame, report.record),
    }

    write_page(tmp_path / "run", report.record, tables, pd.DataFrame(columns=REPLAYS))

    table = parse(tmp_path / "run").get_element_by_id("sensitivity-pairs")
    heads = [head.text_content() for head in table.find("thead").iter("th")]
    shown = [dict(zip(heads, (cell.text_content() for cell in row), strict=True)) for row in rows_of(table)]
    assert [(row["quantity"], row["more sensitive"]) for row in shown] == [
        ("distance", "LoRA"),
        ("margin-gradient", "no claim"),
    ]
    assert [shown[0][name] for name in ("full", "LoRA", "n")] == ["1", "0.5", "12"]
    assert shown[1]["why no claim"].startswith("a derivative at one point says nothing")


def test_every_probe_has_its_unit_and_reason_and_checks_stand_apart(
    run_writer: Any, measured: Any, tmp_path: Path
) -> None:
    """Checks filled half of the table, and a reason was in the CSV alone."""
    report = write_report(run_writer.write(tmp_path / "run", run_writer.record()))
    voided = {"status": "not-converged", "reason": "voided: masked", "unit": "token-norms"}
    frame = pd.concat(
        [
            measured.rows({"full": [1.0], "lora": [2.0]}, quantity="distance", **voided),
            measured.rows({"full": [0.1], "lora": [0.2]}, quantity="check-zero-gradients", kind="estimate"),
        ]
    ).replace({"checkpoint": {"full": "full-0", "lora": "lora-0"}})
    tables = report.tables | {
        Table.SENSITIVITY: build_sensitivity(frame.assign(testset="clean-set"), report.record),
        Table.SENSITIVITY_PAIRS: build_sensitivity_pairs(frame, report.record),
    }

    write_page(tmp_path / "run", report.record, tables, pd.DataFrame(columns=REPLAYS))

    shown = {}
    for name in ("probes", "checks", "sensitivity-pairs"):
        table = parse(tmp_path / "run").get_element_by_id(name)
        heads = [head.text_content() for head in table.find("thead").iter("th")]
        shown[name] = [dict(zip(heads, (c.text_content() for c in row), strict=True)) for row in rows_of(table)]
    assert {row["quantity"] for row in shown["probes"]} == {row["quantity"] for row in shown["sensitivity-pairs"]}
    assert [(row["unit"], row["reason"]) for row in shown["probes"]] == [("token-norms", "voided: masked")] * 2
    assert [row["quantity"] for row in shown["checks"]] == ["check-zero-gradients"] * 2


def test_every_table_names_a_file_of_the_run(folder: Path) -> None:
    regions = [region.get("aria-label") for region in parse(folder).iter("div") if region.get("role") == "region"]
    sources = {label.partition(": ")[0] for label in regions if label and ": " in label}

    assert {"run.json", "fragility.csv"} <= sources
    assert all((folder / source).is_file() for source in sources), sources
