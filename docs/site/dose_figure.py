"""Writes a dose figure of a study's page as an SVG file of its own: `dose_figure.py STUDY_FOLDER FILE [NUMBER]`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from robustness.reports.page.rendering import asset


def dose_figure(page: str, number: int = 1) -> str:
    """Returns a figure of study.html as SVG with the page's colours, in light and dark.

    Args:
        page: The text of study.html.
        number: From 1 on, in the page's order.

    Raises:
        IndexError: there are fewer figures of doses.
    """
    section = page.partition('<section id="doses">')[2].partition("</section>")[0]
    figure = re.findall(r"<svg .*?</svg>", section, flags=re.DOTALL)[number - 1]
    width, height = re.findall(r'viewBox="0 0 (\S+) (\S+)"', figure)[0]
    colours = "".join(re.findall(r":root\s*{[^}]*}", asset("page.css"))[:1])
    dark = re.findall(r"@media \(prefers-color-scheme: dark\)\s*{\s*(:root\s*{[^}]*})", asset("page.css"))
    own = "svg { background: var(--paper); } text { font-family: sans-serif; }"
    style = f"<style>{colours} @media (prefers-color-scheme: dark) {{ {''.join(dark[:1])} }} {own}</style>"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {spaces} width="{width}" height="{height}"'
    return head + figure.removeprefix("<svg").replace(">", f">{style}", 1) + "\n"


if __name__ == "__main__":
    folder, file = (Path(argument) for argument in sys.argv[1:3])
    chosen = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    file.write_text(dose_figure((folder / "study.html").read_text(encoding="utf-8"), chosen), encoding="utf-8")
