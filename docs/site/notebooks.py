"""Runs the notebooks of docs/notebooks from top to bottom and writes each as a page, cells with what they printed."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path
from typing import Any

import jupytext
from nbclient import NotebookClient

SOURCES = Path(__file__).resolve().parents[1] / "notebooks"
EXECUTED = SOURCES.parents[1] / "build" / "notebooks"
SECONDS = 900
"""What one cell may take; two slow cores train a small pair in less."""


def execute(source: Path, folder: Path) -> Path:
    """Runs a notebook in `folder`, which is made anew; returns the page that was written there.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message has its code and traceback.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    notebook = jupytext.read(source)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=where).execute()
    page = folder / f"{source.stem}.md"
    page.write_text(render(notebook.cells, page.parent), encoding="utf-8")
    return page


def render(cells: list[Any], folder: Path) -> str:
    """Returns cells as Markdown; pictures are written into the folder."""
    pieces = []
    for number, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            pieces.append(cell.source)
        elif cell.cell_type == "code":
            pieces.append(f"```python\n{cell.source}\n```")
            pieces += [_output(output, folder / f"output-{number}-{i}.png") for i, output in enumerate(cell.outputs)]
    return "\n\n".join(filter(None, pieces)) + "\n"


def _output(output: Any, picture: Path) -> str:
    """What a reader sees of one output; nothing of progress bars and warnings."""
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```" if output.name == "stdout" else ""
    data = output.get("data", {})
    if "image/png" in data:
        picture.write_bytes(base64.b64decode(data["image/png"]))
        return f"![Output of the cell above]({picture.name})"
    if "text/html" in data:
        bare = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)  # the site has its own
        bare = bare.replace(' border="1" class="dataframe"', "")
        html = "\n".join(line for line in bare.splitlines() if line.strip())
        return f"<div>\n{html}\n</div>"
    return f"```text\n{data['text/plain']}\n```" if "text/plain" in data else ""


if __name__ == "__main__":
    for path in sorted(SOURCES.glob("*.py")):
        print(f"ran {path.name}: {execute(path, EXECUTED / path.stem)}")
