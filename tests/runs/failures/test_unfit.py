from __future__ import annotations

import csv
from pathlib import Path

from text_pairs import write_text_pair

from robustness import RunSettings, api
from robustness.engine.outcome import Status
from robustness.reports.tables.columns import Table

LONG = "film " * 3_000


def test_neighbouring_texts_too_long_for_the_model_are_errored_rows_and_the_run_goes_on(tmp_path: Path) -> None:
    """Three crashes of one kind in a row would end it; these are no crashes."""
    pair = write_text_pair(tmp_path, rows=6)
    file = pair.data / "words" / "dev.csv"
    with file.open("a", newline="") as rows:
        csv.writer(rows).writerows([[f"{LONG}{number}", "yes"] for number in range(4)])

    settings = RunSettings(
        data=pair.data, testsets=[str(pair.testset)], attacks=["identity"], probes=["margin"], allow_untrained=True
    )
    report = api.run("smoke", pair.pairs, tmp_path / "run", settings)

    examples = report.tables[Table.EXAMPLES]
    errored = examples[examples["status"] == Status.ERRORED]
    assert report.missing == 0
    assert len(examples) == 2 * 2 * 10 and len(errored) == 2 * 2 * 4  # arms, with and without an attack
    assert errored["error"].str.contains(r"its prompt has \d+ tokens; the model takes 1 to \d+ beside").all()
    probed = report.tables[Table.SENSITIVITY]
    assert probed["n"].tolist() == [6, 6]
    assert probed["reason"].str.contains(r"unsupported: its prompt has \d+ tokens; .* \(4 of 4 rows\)").all()
