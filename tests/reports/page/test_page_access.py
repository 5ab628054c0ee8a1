"""The page for everyone: on paper, on a telephone, by keyboard and for a screen reader."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import generated_runs
import pytest

from robustness.engine.outcome import Outcome
from robustness.reports.report import write_report

KINDS = ("pair", "several", "generation")
PAGES_OF_A_PAIR = 4


def _generated(checkpoint: str, attack: str, number: int) -> Outcome:
    attacked = attack != "none"
    broken = attacked and (number + (checkpoint == generated_runs.LORA)) % 3 == 0
    said = generated_runs.WRONG if broken else generated_runs.RIGHT
    return generated_runs.outcome(number, generated_runs.RIGHT, said, queries=3 + number if attacked else 0)


@pytest.fixture(scope="module")
def folders(run_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of a pair, of three pairs, and of a pair that generates."""
    root = tmp_path_factory.mktemp("access")
    made = {
        "pair": run_writer.write(root / "pair", run_writer.record()),
        "several": run_writer.write(root / "several", run_writer.record(seeds=3, n=20)),
        "generation": generated_runs.write_run(
            root / "generation", generated_runs.record_of(n=12), _generated, lambda *_: generated_runs.RIGHT
        ),
    }
    for folder in made.values():
        write_report(folder)
    return made


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, which npm has and this repository has not."""
    root = Path(__file__).parents[3]
    places = [Path(os.environ.get("AXE_CORE", "axe.min.js")), root / "node_modules" / "axe-core" / "axe.min.js"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        pytest.skip("axe-core is not here: npm install --no-save axe-core, or AXE_CORE=.../axe.min.js")
    return found.read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_has_no_serious_finding(browser: Any, folders: dict[str, Path], axe: str, kind: str, scheme: str) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto((folders[kind] / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.evaluate(axe)

    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")

    serious = [
        (each["id"], each["help"], [node["html"][:160] for node in each["nodes"][:3]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    context.close()
    assert serious == []


def test_a_pair_prints_on_four_pages_at_most(browser: Any, folders: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto((folders["pair"] / "report.html").as_uri())

    printed = page.pdf(format="A4", print_background=True)

    page.close()
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= PAGES_OF_A_PAIR


@pytest.mark.parametrize("kind", KINDS)
def test_a_telephone_scrolls_in_one_direction_alone(browser: Any, folders: dict[str, Path], kind: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((folders[kind] / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")

    width = page.evaluate("document.documentElement.scrollWidth")

    page.close()
    assert width <= 390


def test_texts_are_filtered_by_what_both_arms_answer_and_by_words(browser: Any, folders: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto((folders["pair"] / "report.html").as_uri())
    form = page.locator(".browser form")

    form.locator("select[name=outcome]").select_option("candidate")
    shown = page.locator("li.text:visible")
    alone = {shown.nth(i).get_attribute("data-outcome") for i in range(shown.count())}
    form.locator("select[name=outcome]").select_option("")
    form.locator("select[name=candidate]").select_option("negative")
    form.locator("select[name=attack]").select_option("swap")
    both = [(each.get_attribute("data-candidate"), each.get_attribute("data-attack")) for each in shown.all()]
    form.locator("input").fill("number 17")

    assert all("candidate" in each.split() for each in alone) and alone
    assert both and set(both) == {("negative", "swap")}
    assert 1 <= shown.count() <= 2 and all("number 17" in text for text in shown.all_text_contents())
    assert "on this page" in page.locator(".browser .count").text_content()
    page.close()


def test_more_texts_come_by_the_keyboard(browser: Any, folders: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto((folders["pair"] / "report.html").as_uri())
    before = page.locator("li.text:visible").count()

    page.locator("button.more").focus()
    page.keyboard.press("Enter")

    assert page.locator("li.text:visible").count() == 4 * before
    page.close()


@pytest.mark.parametrize("form", ["md", "tex", "csv"])
def test_a_button_copies_the_table_for_a_paper(browser: Any, folders: dict[str, Path], form: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto((folders["pair"] / "report.html").as_uri())

    page.locator(f"#paper button[data-copy=paper-{form}]").click()
    page.wait_for_function("document.querySelector('#paper .copied').textContent !== ''")

    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator(f"#paper-{form}").text_content() and "swap" in copied
    context.close()
