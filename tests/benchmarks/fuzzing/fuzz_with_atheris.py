"""Coverage-guided fuzzing of one reader: `fuzz_with_atheris.py READER FOLDER INPUTS`; writes FOLDER/counts.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

TABLE = 200
"""Texts that the CSV writer gets in one table, which takes as long to read back as hundreds of texts."""


def main(name: str, folder: Path, inputs: int) -> None:
    """Ends with libFuzzer's exit code: 0 when all inputs were read or refused, another after the first crash."""
    import atheris

    sys.path.insert(0, str(Path(__file__).parent))
    with atheris.instrument_imports(include=["robustness", "tomllib", "csv", "json"]):
        from fuzzed import READERS
    act, originals = READERS[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, original in enumerate(originals):
        (corpus / str(number)).write_bytes(original.encode())
    counts = {"tried": 0, "refused": 0}
    together = TABLE if name == "csv-writer" else 1
    waiting: list[bytes] = []

    def try_one(content: bytes) -> None:
        waiting.append(content)
        counts["tried"] += 1
        if len(waiting) == together or counts["tried"] >= inputs:
            counts["refused"] += act(folder, waiting)
            waiting.clear()
        if counts["tried"] % 100 == 0 or counts["tried"] >= inputs:  # libFuzzer never returns
            (folder / "counts.json").write_text(json.dumps(counts))

    longest = 2 * max(len(original) for original in originals) + 200
    options = [
        f"-atheris_runs={inputs}",
        f"-max_len={longest}",
        "-seed=20",
        f"-artifact_prefix={folder}/",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
