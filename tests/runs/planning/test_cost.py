from __future__ import annotations

import importlib
import sqlite3
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, BertConfig, BertModel, LlamaConfig

from robustness import RunSettings, api
from robustness.cli import main
from robustness.definitions.catalog import ATTACKS
from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError, RunError, UsageError
from robustness.recipes.building import find_recipe, name_recipe
from robustness.recipes.text.searches import ReturnClean
from robustness.runs.cells import Cell
from robustness.runs.planning import measured_costs as typical
from robustness.runs.planning.cost import GATE_FORWARDS, REPLAYS, count_passes, guess
from robustness.runs.planning.estimate import ENGINE_SECONDS, REFERENCE_RATE, CellCost, Estimate, Rate
from robustness.terminal import dry_run
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.flops import Architecture, read_architecture
from robustness.victims.heads.kinds import head_kind
from robustness.victims.heads.registry import count_tokens

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "clusters.md").read_text(encoding="utf-8")
LLAMA_7B = LlamaConfig(
    hidden_size=4096, num_hidden_layers=32, intermediate_size=11_008, num_attention_heads=32, vocab_size=32_000
)


@pytest.mark.parametrize("tokens", [16, 64])
def test_operations_are_those_that_torch_counts(tokens: int) -> None:
    config = BertConfig(
        vocab_size=100, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256
    )
    with torch.random.fork_rng():
        model = BertModel._from_config(config, attn_implementation="eager").eval()  # others are not counted
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.ones((2, tokens), dtype=torch.long))

    ours = read_architecture(config).flops([tokens, tokens]).sum()

    first_token_alone = 2 * 64 * 64 * (2 * tokens - 2)  # the pooler, which we take for one that reads all
    assert ours - first_token_alone == counter.get_total_flops()


def test_a_seven_billion_model_is_sized_without_its_weights() -> None:
    d, f, layers = 4096, 11_008, 32
    expected = layers * (4 * d * d + 3 * d * f)

    found = read_architecture(LLAMA_7B)

    assert found == Architecture(expected, layers, d)
    assert found.flops(100) == pytest.approx(2 * expected * 100 + 4 * layers * d * 100**2)


def test_a_config_of_no_known_model_has_no_cost() -> None:
    config = AutoConfig.for_model("resnet")

    with pytest.raises(CheckpointError, match="no cost is known"):
        read_architecture(config)


def test_long_paragraphs_are_read_in_windows_that_share_tokens(answering: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(answering.base)
    checkpoint = read_checkpoint("full", str(answering.full), str(answering.base))
    config, squad = AutoConfig.from_pretrained(answering.base), find_task("squad")
    texts = [("where does anna live ?", " ".join(["rome"] * words)) for words in (50, 376, 377, 900)]

    found = count_tokens(head_kind(checkpoint, squad), squad, tokenizer, config, texts)

    assert found == [58, 384, 385 + 128, 908 + 3 * 128]


@dataclass(frozen=True)
class Rows:
    """A test set as the page reckons with it."""

    rows: int
    originals: int
    tokens: float
    words: float


SETS = {  # rows with benign originals, mean word pieces (MiniLM's) and words open to attack
    "advglue-sst2": Rows(148, 131, 24.8, 16.4),
    "advglue-qqp": Rows(78, 71, 28.6, 20.0),
    "advglue-mnli": Rows(121, 121, 40.7, 10.1),
    "advglue-mnli-mm": Rows(162, 119, 55.4, 13.1),
    "advglue-qnli": Rows(148, 133, 48.9, 10.8),
    "advglue-rte": Rows(81, 81, 67.8, 9.8),
    "advsquad-addsent": Rows(3560, 2560, 164.4, 0),
    "advsquad-addany": Rows(2000, 1000, 153.5, 0),
    "advsquad-addanyextend": Rows(2000, 1000, 153.5, 0),
    "advsquad-addansctx": Rows(1991, 991, 170.1, 0),
    "advsquad-addnegans": Rows(1985, 985, 161.5, 0),
}
EIGHT = ["deepwordbug", "textbugger", "pwws", "textfooler", "stress-append", "input-reduction", "hotflip", "pgd"]
CHECKPOINTS = 12 * 5


def reckon(sets: dict[str, Rows], attacks: list[str]) -> tuple[float, float]:
    """Forward passes, gradients among them by what they cost, and operations of all checkpoints."""
    model, forwards, flops = read_architecture(LLAMA_7B), 0.0, 0.0
    for name, rows in sets.items():
        passes = float(rows.rows + rows.originals)
        passes += rows.rows / 2 * typical.SEARCHED.get(name.removeprefix("advsquad-"), 0)
        if rows.words:
            each = (count_passes(rows.rows, 0.5, typical.ATTACKS[a].at(rows.words)).in_forwards for a in attacks)
            passes += sum(each)
        forwards += passes * CHECKPOINTS
        flops += passes * CHECKPOINTS * float(model.flops(rows.tokens))
    return forwards, flops


@pytest.mark.parametrize(("part", "attacks"), [("advglue", EIGHT), ("advglue", []), ("advsquad", [])])
def test_the_page_says_what_the_model_reckons(part: str, attacks: list[str]) -> None:
    """The table of docs/clusters.md: million forward passes, exaFLOP, A100 hours."""
    forwards, flops = reckon({name: rows for name, rows in SETS.items() if name.startswith(part)}, attacks)
    what = "eight attacks" if attacks else "as they stand" if part == "advglue" else "and their search"

    row = next(line for line in PAGE.splitlines() if part in line.lower() and what in line)
    told = [float(cell.strip().replace(",", "")) for cell in row.split("|")[2:5]]

    assert told == pytest.approx([forwards / 1e6, flops / 1e18, flops / REFERENCE_RATE / 3600], rel=0.02), row


@pytest.fixture(scope="module")
def pilot(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of few examples."""
    return run(tiny, tmp_path_factory.mktemp("pilot") / "run", limit=8)


def settings(tiny: Any, limit: int) -> dict[str, Any]:
    attacks = ["deepwordbug", "fgsm", "identity"]
    return {"data": tiny.data, "testsets": [str(tiny.testset)], "attacks": attacks, "limit": limit, "device": "cpu"}


def run(tiny: Any, out: Path, limit: int) -> Any:
    return api.run("smoke", tiny.pairs, out, RunSettings(**settings(tiny, limit)))


def count_stored(folder: Path) -> tuple[int, int, int]:
    with sqlite3.connect(folder / "run.sqlite") as connection:
        query = "SELECT SUM(forwards), SUM(COALESCE(backwards, 0)), SUM(attack != 'none' AND status='succeeded')"
        return connection.execute(f"{query} FROM outcomes").fetchone()


def estimate(tiny: Any, limit: int, like: Path | None = None) -> Estimate:
    plan = api.plan("smoke", tiny.pairs, RunSettings(**settings(tiny, limit)))
    return dry_run.estimate(plan, pilot=like, teraflops=1.0)[0]


def test_an_estimate_by_a_pilot_of_the_same_examples_is_what_the_run_counted(tiny: Any, pilot: Any) -> None:
    forwards, backwards, successes = count_stored(pilot.folder)

    found = estimate(tiny, 8, pilot.folder)

    assert found.forwards - 2 * GATE_FORWARDS == pytest.approx(forwards + REPLAYS * successes)
    assert found.backwards == pytest.approx(backwards)
    assert found.guessed == ()


def test_an_estimate_by_a_pilot_of_others_is_near(tiny: Any, pilot: Any, tmp_path: Path) -> None:
    forwards, _, successes = count_stored(run(tiny, tmp_path / "run", limit=24).folder)

    found = estimate(tiny, 24, pilot.folder)

    assert found.forwards - 2 * GATE_FORWARDS == pytest.approx(forwards + REPLAYS * successes, rel=0.2)


def test_operations_hours_and_forwards_belong_together(tiny: Any) -> None:
    small, large = estimate(tiny, 8), estimate(tiny, 16)

    assert large.forwards - 2 * GATE_FORWARDS == pytest.approx(2 * (small.forwards - 2 * GATE_FORWARDS))
    assert large.hours(1e12) == pytest.approx(1000 * large.hours(1e15)) == pytest.approx(large.flops / 3.6e15)


def test_millions_of_forwards_take_minutes_of_search_whatever_the_gpu() -> None:
    """3.6 million forward passes of a small model were told to take 17 seconds on an A100."""
    flops = 17 * REFERENCE_RATE
    found = Estimate((CellCost(Cell("full", "sst2", "pwws"), 3.6e6, 0, flops),), 0, 0, fixed_seconds=30)

    lines = list(found.describe(Rate(1e12, "cpu")))

    assert found.seconds(REFERENCE_RATE) == pytest.approx(17 + 3.6e6 * ENGINE_SECONDS + 30)
    assert lines[1].startswith("about 21 min (17 s the model, 20 min one core's search and tokenising, 30 s start")
    assert "35 min the model" in lines[0]


def test_a_budget_bounds_a_guess_and_what_was_never_measured_is_named() -> None:
    dear = name_recipe(find_recipe("pwws"), ReturnClean())
    bounded = type(dear)("mine", "d", ReturnClean(), max_queries=5)

    assert guess(dear) == typical.ATTACKS["pwws"]
    assert guess(bounded).forwards == 7


def test_every_shipped_recipe_has_a_figure_or_a_like_one() -> None:
    on_answers = {"addany", "addanyextend"}

    assert set(ATTACKS.names()) - on_answers == set(typical.ATTACKS) | set(typical.UNMEASURED)
    assert set(typical.UNMEASURED.values()) <= set(typical.ATTACKS)


def call(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["robustness", "run", *words, "--dry-run"])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_dry_run_tells_what_a_run_costs_and_writes_nothing(
    tiny: Any, pilot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ["smoke", "--pairs", str(tiny.pairs), "--data", str(tiny.data), "--testset", str(tiny.testset)]
    words += ["--attack", "deepwordbug", "--out", str(tmp_path / "run")]

    assert call([*words, "--tflops", "0.5"], monkeypatch) == 0
    shown = capsys.readouterr().out
    first = ("no attack", "deepwordbug", "checks before the run", "all")
    lines = {name: next(line for line in shown.splitlines() if line.startswith(f"{name} ")) for name in first}
    *parts, total = (int(line.split()[-1].replace(",", "")) for line in lines.values())
    assert sum(parts) == pytest.approx(total, rel=0.1)  # each is rounded to two digits
    assert "on this machine (0.5 TFLOP/s: given by --tflops)" in shown
    assert "on one A100 (125 TFLOP/s assumed" in shown
    assert call([*words, "--like", str(pilot.folder), "--device", "cpu"], monkeypatch) == 0
    assert "cpu, 1 threads, float32; measured now" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_plans_once_and_reads_each_test_set_and_checkpoint_once(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: Counter[str] = Counter()

    def count(place: str) -> None:
        module, _, name = place.rpartition(".")
        function = getattr(importlib.import_module(module), name)

        def counted(*given: Any, **options: Any) -> Any:
            called[name] += 1
            return function(*given, **options)

        monkeypatch.setattr(place, counted)

    for place in ("plan.make_plan", "admission.read_checkpoint", "rows.load_testset"):
        count(f"robustness.runs.planning.{place}")
    words = ["smoke", "--pairs", str(tiny.pairs), "--data", str(tiny.data), "--testset", str(tiny.testset)]

    assert call([*words, "--out", str(tmp_path / "run"), "--tflops", "1"], monkeypatch) == 0
    assert called == {"make_plan": 1, "read_checkpoint": 2, "load_testset": 1}


def test_missing_data_end_a_dry_run_as_they_end_a_run(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ["smoke", "--pairs", str(tiny.pairs), "--testset", str(tiny.testset), "--out", str(tmp_path / "run")]
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("ROBUSTNESS_DATA", str(tmp_path / "empty"))

    assert call(words, monkeypatch) == 2
    assert f"error: test set tiny: the data folder {tmp_path / 'empty'} has no tiny" in capsys.readouterr().err


def test_what_cannot_be_estimated_is_said(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["smoke", "--pairs", str(tiny.pairs), "--testset", str(tiny.testset), "--out", str(tmp_path / "run")]
    (tmp_path / "empty").mkdir()

    for wrong, kind in ((["--tflops", "0"], UsageError), (["--like", str(tmp_path / "empty")], RunError)):
        assert call([*words, "--data", str(tiny.data), *wrong], monkeypatch) == 2, kind


def test_the_dry_run_of_hundreds_of_cells_has_at_most_a_page(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """It printed a line for each cell, and one for each attack and probe."""
    words = ["full", "--pairs", str(tiny.pairs), "--data", str(tiny.data), "--testset", str(tiny.testset)]

    assert call([*words, "--out", str(tmp_path / "run"), "--tflops", "0.05"], monkeypatch) == 0

    shown = capsys.readouterr().out.splitlines()
    assert len(shown) <= 40 and any(line.split()[1:2] == ["others"] for line in shown)
    assert sum(len(line.split()) > 1 and line.split()[1] == "2" for line in shown) <= 10
