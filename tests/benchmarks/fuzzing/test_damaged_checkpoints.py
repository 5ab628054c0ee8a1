"""A damaged checkpoint is refused or answers as before: some damages here, 20,000 in `make soak`."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from benchmarks.fuzzing import damaged_checkpoints as damaged

from robustness.victims.loading import load_checkpoint, to_victim

if sys.platform != "linux":
    pytest.skip("limits memory as Linux does", allow_module_level=True)

MANY, SOME = 20_000, 270
LOADED, LOADED_HERE = 5, 6
"""One in so many damages is loaded and asked; of the others the files are looked at."""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return damaged.Checkpoints(tmp_path_factory.mktemp("damaged"))


def totals(counts: dict[str, dict[str, int]]) -> Counter[str]:
    return sum((Counter(each) for each in counts.values()), Counter())


def test_some_damaged_checkpoints_are_refused_or_answer_as_before(checkpoints: Any) -> None:
    counts = damaged.soak(checkpoints, SOME, LOADED_HERE)

    found = totals(counts)
    assert found.total() == SOME
    assert all(count[damaged.End.REFUSED] > 0 for count in counts.values())
    assert found[damaged.End.SAME] > 0


def test_undamaged_files_answer_as_before(checkpoints: Any) -> None:
    for target in damaged.TARGETS:
        end, _ = checkpoints.try_out(target, checkpoints.original(target), load=True)

        assert end is damaged.End.SAME, target


def test_a_crash_a_hang_and_other_answers_are_reported(checkpoints: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(checkpoint: Any) -> None:
        raise KeyError("broken on purpose")

    whole = checkpoints.original("config")
    with monkeypatch.context() as patch:
        patch.setattr(damaged, "look_at", crash)
        with pytest.raises(AssertionError, match=r"damage 0 of config: KeyError: 'broken on purpose'"):
            damaged.soak(checkpoints, 1, 1, ("config",))
    with monkeypatch.context() as patch:
        patch.setattr(damaged, "SECONDS", 1)
        patch.setattr(damaged, "look_at", lambda checkpoint: time.sleep(5))
        with pytest.raises(damaged.HangError):
            checkpoints.try_out("config", whole, load=False)
    with monkeypatch.context() as patch:
        patch.setitem(checkpoints._answers, "full", checkpoints._answers["full"] + 1)
        patch.setattr(checkpoints, "_plainly", lambda name: checkpoints._answers["full"])
        with pytest.raises(AssertionError, match="plainly loaded"):
            checkpoints.try_out("config", whole, load=True)


def test_a_change_that_makes_another_valid_checkpoint_answers_as_the_libraries_do(checkpoints: Any) -> None:
    config = json.loads(checkpoints.original("config")) | {"layer_norm_eps": 0.5}

    end, _ = checkpoints.try_out("config", json.dumps(config).encode(), load=True)

    assert end is damaged.End.OTHER


def test_a_tokenizer_of_fewer_tokens_than_a_text_cuts_it_as_the_libraries_do_and_the_victim_counts_it(
    checkpoints: Any,
) -> None:
    config = json.loads(checkpoints.original("tokenizer-config")) | {"model_max_length": 7}
    path = checkpoints.folder / "full" / "tokenizer_config.json"

    end, _ = checkpoints.try_out("tokenizer-config", json.dumps(config).encode(), load=True)
    try:
        path.write_text(json.dumps(config))
        victim = to_victim(load_checkpoint(checkpoints.checkpoint("full"), damaged.TASK), damaged.PLACE)
        victim.scores(damaged.TEXTS)
    finally:
        path.write_bytes(checkpoints.original("tokenizer-config"))

    assert end is damaged.End.OTHER
    assert len(victim.truncated) == 1


HUGE = {
    "vocab_size": ("config", "vocab_size", 10**10),
    "layers": ("config", "num_hidden_layers", 10**9),
    "width": ("config", "intermediate_size", 10**7),
    "positions": ("base-config", "max_position_embeddings", 10**11),
    "labels": ("config", "num_labels", 10**9),
    "rank": ("adapter-config", "r", 10**9),
    "rank of one module": ("adapter-config", "rank_pattern", {"query": 10**9}),
}


@pytest.mark.parametrize("case", HUGE)
def test_a_size_far_beyond_the_weights_is_refused_by_its_name_before_anything_is_made(
    case: str, checkpoints: Any
) -> None:
    target, key, value = HUGE[case]
    content = json.loads(checkpoints.original(target)) | {key: value}
    started = time.process_time()

    end, reason = checkpoints.try_out(target, json.dumps(content).encode(), load=True)

    assert end is damaged.End.REFUSED
    assert key in reason or "describes a model of" in reason
    assert damaged.TARGETS[target].file in reason
    assert time.process_time() - started < 5


@pytest.mark.parametrize("target", ["config", "tokenizer-config", "adapter-config"])
def test_a_reason_of_a_library_that_lists_all_it_knows_is_cut(target: str, checkpoints: Any) -> None:
    content = json.loads(checkpoints.original(target))
    content.pop("model_type", None)
    content |= {"tokenizer_class": "NoSuchTokenizer", "peft_type": "x" * 5_000}

    _, reason = checkpoints.try_out(target, json.dumps(content).encode(), load=True)

    assert len(reason) < 1_000


def test_lists_in_the_place_of_names_are_no_crash_of_a_methods_identity(checkpoints: Any) -> None:
    content = json.loads(checkpoints.original("adapter-config")) | {"target_modules": [["query"], {"a": 1}, "value"]}

    end, _ = checkpoints.try_out("adapter-config", json.dumps(content).encode(), load=True)

    assert end is damaged.End.REFUSED


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_damaged_checkpoints_are_refused_or_answer_as_before(
    checkpoints: Any, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    started = time.process_time()

    counts = damaged.soak(checkpoints, MANY, LOADED)

    found = totals(counts)
    save_result(
        "damaged_checkpoints",
        {"damaged": found.total(), **found, "processor_seconds": round(time.process_time() - started, 1)},
    )
    assert found.total() == MANY
    assert found[damaged.End.REFUSED] > MANY / 4
