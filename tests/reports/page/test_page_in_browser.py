"""The page as a browser shows it; skipped with a reason where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from robustness.reports.report import write_report


@pytest.fixture(scope="module")
def folders(run_writer: Any, hostile: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A plain and a hostile run."""
    names: dict[str, str] = {}

    def name(plain: str) -> str:
        return names.setdefault(plain, f"{plain} {hostile[len(names) % len(hostile)]}")

    root = tmp_path_factory.mktemp("pages")
    made = {
        "plain": run_writer.write(root / "plain", run_writer.record()),
        "hostile": run_writer.write(
            root / "hostile",
            run_writer.record(name),
            lambda i: hostile[i % len(hostile)] + " \ud800 half" + "x" * 300,
            lambda i: hostile[i % len(hostile)],
        ),
    }
    for folder in made.values():
        write_report(folder)
    return made


@contextmanager
def opened(browser: Any, folder: Path, width: int = 1280, scheme: str = "light") -> Iterator[tuple[Any, list[str]]]:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if "file:" not in request.url else None)
    page.goto((folder / "report.html").as_uri())
    try:
        yield page, complaints
    finally:
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_the_page_fits_its_window_without_complaint(
    browser: Any, folders: dict[str, Path], kind: str, width: int, scheme: str, tmp_path: Path
) -> None:
    with opened(browser, folders[kind], width, scheme) as (page, complaints):
        for summary in page.query_selector_all("details:not([open]) > summary"):
            summary.click()
        page.screenshot(path=tmp_path / "page.png", full_page=True)

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.title").startswith("Full fine-tuning against")
        assert complaints == []
        assert (tmp_path / "page.png").stat().st_size > 20_000
        shown = page.evaluate("[...document.querySelectorAll('svg.figure')].filter(f => f.checkVisibility()).length")
        assert shown == page.evaluate("document.querySelectorAll('svg.figure').length") > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser: Any, folders: dict[str, Path], scheme: str) -> None:
    script = """() => {
      const luminance = (c) => { const v = c.match(/[\\d.]+/g).slice(0, 3).map((x) => { x /= 255;
        return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); 
        return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
      const paper = luminance(getComputedStyle(document.body).backgroundColor);
      const ratio = (e, what) => { const l = luminance(getComputedStyle(e)[what]);
        return (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05); };
      return [...document.querySelectorAll('svg.figure text')].map((e) => ratio(e, 'fill'))
        .concat([...document.querySelectorAll('p, td, th, summary')].map((e) => ratio(e, 'color')));
    }"""
    with opened(browser, folders["plain"], scheme=scheme) as (page, _):
        ratios = page.evaluate(script)

    assert len(ratios) > 100
    assert min(ratios) >= 4.5  # WCAG 2.1, level AA


def column(page: Any, table: str, title: str) -> list[str]:
    return page.evaluate(
        """([id, title]) => {
          const table = document.getElementById(id);
          const index = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent === title);
          return [...table.tBodies[0].rows].filter((r) => !r.hidden)
            .map((r) => r.cells[index].dataset.value ?? r.cells[index].textContent);
        }""",
        [table, title],
    )


def test_a_click_on_a_heading_sorts_and_a_second_turns_it_round(browser: Any, folders: dict[str, Path]) -> None:
    with opened(browser, folders["plain"]) as (page, complaints):
        page.click("#map details:nth-of-type(1) summary")
        before = column(page, "fragility", "difference")
        button = page.locator("#fragility th button", has_text="difference")

        button.click()
        down = [float(value) for value in column(page, "fragility", "difference")]
        button.click()
        up = [float(value) for value in column(page, "fragility", "difference")]

        assert down == sorted(down, reverse=True) and up == sorted(up)
        assert sorted(map(float, before)) == up and len(set(up)) > 3
        page.locator("#fragility th button", has_text="what").click()
        names = column(page, "fragility", "what")
        assert names == sorted(names, key=str.lower, reverse=True)
        assert complaints == []


def test_typing_and_choosing_filter_the_rows(browser: Any, folders: dict[str, Path]) -> None:
    with opened(browser, folders["plain"]) as (page, _):
        page.click("#map details:nth-of-type(1) summary")
        tools = page.locator("#map details:nth-of-type(1) .tools")
        everything = len(column(page, "fragility", "what"))

        tools.locator("input").fill("swap queries")
        fitting = column(page, "fragility", "what")
        tools.locator("input").fill("")
        tools.locator("select").select_option("peft-more-fragile")
        chosen = column(page, "fragility", "verdict")

        assert 0 < len(fitting) < everything and all("swap" in what and "queries" in what for what in fitting)
        assert 0 < len(chosen) < everything and set(chosen) == {"peft-more-fragile"}
        assert f"{len(chosen)} of {everything} rows" in tools.text_content()


def test_without_scripts_all_rows_are_there_to_read(browser: Any, folders: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto((folders["plain"] / "report.html").as_uri())

    assert page.locator("#fragility tbody tr").count() > 10
    assert page.locator("th button").count() == 0
    assert page.locator("button:visible, select:visible, input:visible").count() == 0
    assert page.locator("li.text").first.is_visible() and page.locator("li.text").last.is_visible()
    context.close()


def test_print_shows_whole_tables_on_white(browser: Any, folders: dict[str, Path]) -> None:
    with opened(browser, folders["plain"], scheme="dark") as (page, _):
        page.emulate_media(media="print")

        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowY") == "visible"
        assert not page.locator("nav").is_visible()
