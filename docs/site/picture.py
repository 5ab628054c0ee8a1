"""Takes the picture of the README: the first screen of a run's page. `python docs/site/picture.py demo-run/run`."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).resolve().parents[1] / "assets" / "first-screen.png"
FIRST_SCREEN = ".fs"
"""The part of the page that is shown."""
WIDTH = 1280
EDGE = 24
"""White at either side."""
COLOURS = 128
"""Enough for a chart and text, at a quarter of the size."""


def take_picture(run: Path, target: Path) -> None:
    """Writes a PNG of the first screen of `run`/report.html."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(f"file://{run.resolve()}/report.html")
        box = page.locator(FIRST_SCREEN).bounding_box()
        assert box is not None, f"{run}/report.html has no {FIRST_SCREEN}"
        clip = {"x": box["x"] - EDGE, "y": 0, "width": box["width"] + 2 * EDGE, "height": box["y"] + box["height"]}
        shot = page.screenshot(full_page=True, clip=clip)
        browser.close()
    picture = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    target.parent.mkdir(exist_ok=True)
    picture.save(target, optimize=True)


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]), PICTURE)
