"""The page of a study: what stands on it, that no name is markup, and that it fits telephone and screen."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from generated_studies import FULL, Method, Shape, ranks, write_study

from robustness.errors import RunError
from robustness.reports.studies.study import StudyReport, build_study
from robustness.reports.studies.study import write_study as answer


@pytest.fixture(scope="module")
def folder(rising: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page") / "study"
    shutil.copytree(rising, place)
    answer(place)
    return place


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "study.html").read_text(encoding="utf-8")


def test_the_answers_are_returned_and_stand_on_the_page(folder: Path, page: str) -> None:
    sentences = answer(folder)

    text = re.sub(r"<[^>]*>", "", page).replace("\xa0", " ").replace("&#39;", "'")
    methods, doses = sentences[0], next(each for each in sentences if "per doubling" in each)
    assert ": of 6 methods 5 are more fragile than full fine-tuning and 1 is without a verdict." in methods
    for sentence in sentences:
        assert sentence in text or " by this study" in sentence  # topics stand in boxes of their own
    head = text.partition("Methods beside full fine-tuning")[0]
    for sentence in (methods, doses, "Of the topics of arXiv 2505.22355: Subset, Capacity and Perturbation"):
        assert sentence in head


def test_the_page_starts_with_the_table_and_the_dose_curve(page: str) -> None:
    places = [
        page.index(f'<section id="{name}"') for name in ("table", "doses", "answers", "floor", "topics", "updates")
    ]

    assert places == sorted(places)
    assert page.count("<svg") == 2 * 4 + 2 * 4  # four measures and four cells, at two matchings


def test_one_planned_cell_is_shown_once_under_its_name_and_controls_last(tmp_path: Path) -> None:
    shape = Shape(methods=(FULL, Method("ia3", 3_000, robust=0.2)), attacks=("swap",), baselines={"random-swap": 0.3})
    study = write_study(tmp_path / "study", shape)

    sentences = answer(study)

    floor = (study / "study.html").read_text(encoding="utf-8").partition('<section id="floor">')[2]
    titles = re.findall("<figcaption>(.*?)</figcaption>", floor)
    assert titles == ["sst2-set-0, swap", "sst2-set-0, random-swap (control)"]
    assert "(60 examples: sst2-set-0, swap): ia3 (" in sentences[0]
    head, *rows = (study / "study_table.md").read_text(encoding="utf-8").splitlines()
    assert head.split(" | ")[-1] == "sst2-set-0, swap |"
    assert "sst2-set-0, random-swap \\(control\\)" in "".join(rows).replace("(", "\\(").replace(")", "\\)")


def test_it_says_what_it_cannot_show(folder: Path, page: str) -> None:
    table = build_study(folder).tables["study_table"]
    pooled = table[(table["testset"] == "all") & (table["n_seeds"] == 3) & table["low"].notna()]
    half = ((pooled["high"] - pooled["low"]) / 2).median()

    assert f"Differences of less than about {100 * half:.1f} points stay undecided" in page.replace("\xa0", " ")
    assert "Each method is tested alone at 5\xa0%, without an adjustment over the 5 methods." in page
    assert "All of this is of one base, on sst2, under swap and synonym" in page


def test_it_links_runs_and_files_and_names_the_protocol(folder: Path, page: str) -> None:
    assert "0123456789abcdef" in page
    assert "modified" not in page.split("<main>")[0]
    for link in re.findall(r'<a href="([^"#]+)"', page):
        assert (folder / link).is_file(), link
    assert {"runs/sst2-best/report.html", "doses.csv", "study_table.tex"} <= set(
        re.findall(r'<a href="([^"#]+)"', page)
    )


@pytest.mark.parametrize(
    ("shape", "heading"),
    [
        (Shape(methods=(FULL, *ranks(of=(1, 2))), tasks=("sst2", "rte"), n=20), "against trainable parameters"),
        (
            Shape(methods=(FULL, *ranks(of=(1, 2))), rows=(500, 2000), n=20),
            "against trainable parameters and training rows",
        ),
    ],
)
def test_the_heading_of_doses_names_training_rows_where_they_vary(tmp_path: Path, shape: Shape, heading: str) -> None:
    answer(write_study(tmp_path / "study", shape))

    page = (tmp_path / "study" / "study.html").read_text(encoding="utf-8")
    assert re.findall('<section id="doses"><h2>Robustness (.*?)</h2>', page) == [heading]


def test_a_modified_protocol_says_so(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", Shape(methods=(FULL, Method("ia3", 3_000)), n=20))
    record = study / "study.json"
    record.write_text(record.read_text().replace('"modified": false', '"modified": true'))

    sentences = answer(study)

    assert any("it is modified" in each for each in sentences)
    assert "<b>modified</b>" in (study / "study.html").read_text()
    assert "modified" in (study / "study_table.md").read_text()


def test_failures_are_told_before_any_number(page: str) -> None:
    assert "Checkpoints without a result: sst2-lora-r4-2 (failed)" in page.replace("\xa0", " ").split("<main>")[0]


def test_no_name_is_markup(tmp_path: Path) -> None:
    study = write_study(
        tmp_path / "study",
        Shape(
            methods=(FULL, *ranks(of=(1, 2, 4))), n=20, probes=True, failed=("lora-r4",),
            name=lambda text: f"<script>alert(1)</script>{text}",
        ),
    )  # fmt: skip

    answer(study)

    page = (study / "study.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_no_wider_than_the_window(folder: Path, browser: Any, width: int) -> None:
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened = context.new_page()
        messages: list[str] = []
        opened.on("console", lambda message, to=messages: to.append(message.text))
        opened.goto((folder / "study.html").as_uri())

        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert messages == []
        context.close()


def test_two_readings_are_the_same_bytes(folder: Path) -> None:
    names = ("study.html", "study_table.csv", "trends.csv", "doses.csv", "study_table.tex")
    before = {name: (folder / name).read_bytes() for name in names}

    answer(folder)

    assert {name: (folder / name).read_bytes() for name in names} == before


def test_a_report_is_short_in_a_shell(rising_report: StudyReport) -> None:
    assert repr(rising_report).startswith("Study made-up: 39 checkpoints in ")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "study.json").unlink(), "expected a folder that `robustness study` wrote"),
        (lambda folder: (folder / "runs.csv").unlink(), "runs.csv: is missing; give the command"),
        (lambda folder: (folder / "checkpoints.csv").write_text('"checkpoint"\n"a"\n'), "give its command again"),
        (lambda folder: (folder / "study.json").write_text("{"), "give its command again"),
        (lambda folder: (folder / "runs/sst2-best/run.json").unlink(), "no run.json"),
        (lambda folder: (folder / "runs/sst2-best/examples.csv").unlink(), "examples.csv: is missing"),
    ],
)
def test_a_damaged_study_is_refused_with_what_to_do(tmp_path: Path, damage: Any, words: str) -> None:
    study = write_study(tmp_path / "study", Shape(methods=(FULL, Method("ia3", 3_000)), n=20))
    damage(study)

    with pytest.raises(RunError, match=re.escape(words)):
        build_study(study)
