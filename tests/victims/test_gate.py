from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from architectures import Architecture
from frames import Spilling
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from robustness.definitions.pairs import Pair
from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError, GateError
from robustness.tasks.gold import GoldSpan
from robustness.victims import gate
from robustness.victims.comparability import check_pair
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.gate import CheckpointFacts, inspect_checkpoint
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import as_victim, place

SST2 = find_task("sst2")


@pytest.fixture
def inspect(tiny: Any, clean: list) -> Callable[..., CheckpointFacts]:
    def inspect_folder(folder: Path, base: Path | None = None, dtype: str = "float32") -> CheckpointFacts:
        checkpoint = read_checkpoint(folder.name, str(folder), str(base or tiny.base))
        return inspect_checkpoint(checkpoint, SST2, place("cpu", dtype), clean)

    return inspect_folder


@pytest.fixture(scope="session")
def good(tiny: Any, clean: list) -> tuple[CheckpointFacts, CheckpointFacts]:
    """The facts of the full and of the LoRA checkpoint."""
    full, peft = (
        inspect_checkpoint(read_checkpoint(name, str(folder), str(tiny.base)), SST2, place("cpu"), clean)
        for name, folder in (("full", tiny.full), ("lora", tiny.peft))
    )
    return full, peft


@pytest.fixture
def pair(tiny: Any) -> Pair:
    return Pair("tiny", SST2, str(tiny.base), str(tiny.full), str(tiny.peft), "full", "lora", 0, is_headline=True)


def refusal(pair: Pair, full: CheckpointFacts, peft: CheckpointFacts) -> str:
    with pytest.raises(GateError) as caught:
        check_pair(pair, full, peft)
    message = str(caught.value)
    assert message.startswith("pair tiny is refused: ")
    assert "\n" not in message
    return message


def reasons(facts: CheckpointFacts) -> list[str]:
    return [failure.partition(":")[0] for failure in facts.failures]


def edit_tensors(path: Path, change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> None:
    changed = {name: change(name, tensor) for name, tensor in load_file(path).items()}
    kept = {name: tensor for name, tensor in changed.items() if tensor is not None}
    save_file(kept, path, metadata={"format": "pt"})


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_good_pair_passes(pair: Pair, good: tuple[CheckpointFacts, CheckpointFacts]) -> None:
    full, peft = good

    check_pair(pair, full, peft)

    assert full.failures == peft.failures == ()
    assert full.clean_accuracy > 0.9
    assert peft.clean_accuracy > 0.9
    assert (full.majority_share, full.n_clean) == (0.5, 24)
    assert full.architecture == peft.architecture
    assert full.tokenizer_digest == peft.tokenizer_digest


def test_merged_and_unmerged_agree_in_float32(good: tuple[CheckpointFacts, CheckpointFacts]) -> None:
    full, peft = good

    assert full.merge_difference is None
    assert peft.merge_difference is not None
    assert 0 <= peft.merge_difference < 1e-4


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_in_bfloat16_the_measured_difference_is_recorded(tiny: Any, inspect: Callable) -> None:
    # oneDNN's bfloat16 kernels need instructions that a virtual machine may announce and not have.
    with torch.backends.mkldnn.flags(enabled=False):
        facts = inspect(tiny.peft, dtype="bfloat16")

    assert facts.merge_difference is not None
    assert 0 < facts.merge_difference <= 0.1
    assert facts.failures == ()


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_large_logits_that_round_in_bfloat16_are_not_refused(
    copied: Callable[[str], Path], inspect: Callable
) -> None:
    folder = copied("lora")
    edit_tensors(folder / "adapter_model.safetensors", lambda name, t: t * 64 if "classifier" in name else t)

    with torch.backends.mkldnn.flags(enabled=False):
        facts = inspect(folder, dtype="bfloat16")

    assert facts.merge_difference is not None and facts.merge_difference > 0.1
    assert facts.failures == ()


def test_only_below_float32_a_tolerance_grows_with_the_logits() -> None:
    scores = np.full((4, 100), 20.0, dtype=np.float32)
    scores[:, 0], scores[0, 1] = -np.inf, -1e4  # of tokens that are never written

    found = [gate._tolerance(gate.PADDING_TOLERANCE, dtype, scores) for dtype in (torch.float32, torch.bfloat16)]

    assert found == [1e-3, 8 * 2**-7 * 20]
    assert gate._tolerance(gate.PADDING_TOLERANCE, torch.bfloat16, scores / 20) == 0.1
    assert gate._tolerance(gate.PADDING_TOLERANCE, torch.bfloat16, np.full((2, 2), np.nan, dtype=np.float32)) == 0.1


def test_a_merge_that_changes_answers_is_refused_with_its_measure(
    tiny: Any, inspect: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gate.MERGE_TOLERANCE, torch.float32, -1.0)

    facts = inspect(tiny.peft)

    assert reasons(facts) == ["merge"]
    assert "in float32" in facts.failures[0]


def test_an_adapter_saved_without_its_head_is_refused(copied: Callable[[str], Path], inspect: Callable) -> None:
    folder = copied("lora")
    edit_json(folder / "adapter_config.json", modules_to_save=None, task_type=None)
    edit_tensors(folder / "adapter_model.safetensors", lambda name, t: None if "classifier" in name else t)

    facts = inspect(folder)

    assert "head-loaded" in reasons(facts)
    assert "classifier.bias, classifier.weight" in facts.failures[0]
    assert 'train it with modules_to_save=["classifier"]' in facts.failures[0]


@pytest.mark.parametrize("missing", ["classifier", "classifier.bias", "classifier.weight"])
def test_an_adapter_that_promises_a_head_it_does_not_have_is_refused(
    copied: Callable[[str], Path], inspect: Callable, missing: str
) -> None:
    folder = copied("lora")
    edit_tensors(folder / "adapter_model.safetensors", lambda name, t: None if missing in name else t)

    with pytest.raises(CheckpointError, match=r"checkpoint lora: .* head-loaded: its file lacks .*classifier"):
        inspect(folder)


def test_half_a_head_is_no_head(copied: Callable[[str], Path], inspect: Callable) -> None:
    folder = copied("lora")
    edit_json(folder / "adapter_config.json", modules_to_save=None, task_type=None)
    edit_tensors(folder / "adapter_model.safetensors", lambda name, t: None if "classifier.bias" in name else t)

    facts = inspect(folder)

    assert "head-loaded" in reasons(facts)
    assert "classifier.weight" not in facts.failures[0]


def test_a_full_checkpoint_with_a_fresh_head_is_refused(copied: Callable[[str], Path], inspect: Callable) -> None:
    folder = copied("full")
    edit_tensors(folder / "model.safetensors", lambda name, t: None if "classifier" in name else t)

    facts = inspect(folder)

    assert "head-loaded" in reasons(facts)
    assert "modules_to_save" not in facts.failures[0]


def test_a_checkpoint_that_loads_nothing_names_a_few_parameters_and_counts_the_rest(
    copied: Callable[[str], Path], inspect: Callable
) -> None:
    folder = copied("full")
    tensors = {f"{name}.other": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    facts = inspect(folder)

    assert "head-loaded" in reasons(facts)
    assert f"and {len(tensors) - 3} more" in facts.failures[0]
    assert len(facts.failures[0]) < 400


def test_an_adapter_of_zeros_is_refused_though_its_head_is_there(
    copied: Callable[[str], Path], inspect: Callable
) -> None:
    folder = copied("lora")
    edit_tensors(folder / "adapter_model.safetensors", lambda name, t: t * 0 if "lora_B" in name else t)

    assert "adapter-not-zero" in reasons(inspect(folder))


@pytest.mark.parametrize(
    "config",
    [
        PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4),
        PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4),
    ],
    ids=["prefix", "prompt"],
)
def test_learnt_prompts_are_inspected_like_any_adapter(
    tmp_path: Path, inspect: Callable, save_adapter: Callable, config: Any
) -> None:
    save_adapter(tmp_path / "prompts", config)

    facts = inspect(tmp_path / "prompts")

    assert facts.merge_difference is None
    assert set(reasons(facts)) <= {"clean-accuracy"}


def test_either_half_of_an_adapter_at_zero_makes_it_zero(
    tmp_path: Path, inspect: Callable, save_adapter: Callable
) -> None:
    save_adapter(tmp_path / "lora", LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    edit_tensors(tmp_path / "lora" / "adapter_model.safetensors", lambda name, t: t * 0 if "lora_A" in name else t)

    assert "adapter-not-zero" in reasons(inspect(tmp_path / "lora"))


def test_clean_texts_longer_than_the_model_takes_are_no_error(tiny: Any, clean: list) -> None:
    long = [example.with_texts([example.texts[0] * 20]) for example in clean]

    for folder in (tiny.full, tiny.peft):
        checkpoint = read_checkpoint("mine", str(folder), str(tiny.base))
        assert inspect_checkpoint(checkpoint, SST2, place("cpu"), long).n_clean == len(clean)


def test_an_adapter_whose_base_is_not_there_is_taken_at_its_word(
    copied: Callable[[str], Path], inspect: Callable, good: tuple
) -> None:
    folder = copied("lora")
    edit_json(folder / "adapter_config.json", base_model_name_or_path="/nowhere/at/all")

    facts = inspect(folder)

    assert facts.failures == ()
    assert facts.clean_accuracy == good[1].clean_accuracy
    assert "lora: the adapter names the base /nowhere/at/all, which does not exist" in facts.notes[0]


def test_an_adapter_of_another_base_is_refused(tiny: Any, copied: Callable[[str], Path], inspect: Callable) -> None:
    base = copied("base")
    edit_tensors(base / "model.safetensors", lambda name, t: t + 1e-3)

    with pytest.raises(CheckpointError, match="same-base: the adapter was trained on"):
        inspect(tiny.peft, base=base)


def test_the_same_base_copied_elsewhere_passes(
    tiny: Any, pair: Pair, copied: Callable[[str], Path], inspect: Callable, good: tuple
) -> None:
    peft = inspect(tiny.peft, base=copied("base"))

    check_pair(pair, good[0], peft)


def test_arms_of_different_size_do_not_share_a_base(pair: Pair, good: tuple) -> None:
    full, peft = good

    message = refusal(pair, replace(full, architecture="{}"), peft)

    assert "same-base: {} against" in message


@pytest.mark.parametrize("change", ["case", "vocabulary", "length", "side"])
def test_a_tokenizer_that_differs_between_the_arms_is_refused(
    pair: Pair, copied: Callable[[str], Path], inspect: Callable, good: tuple, change: str
) -> None:
    folder = copied("lora")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    if change == "case":
        tokenizer["normalizer"]["lowercase"] = False
    if change == "vocabulary":
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["fine"], vocabulary["dull"] = vocabulary["dull"], vocabulary["fine"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    if change == "case":
        edit_json(folder / "tokenizer_config.json", do_lower_case=False)
    if change == "length":
        edit_json(folder / "tokenizer_config.json", model_max_length=16)
    if change == "side":
        edit_json(folder / "tokenizer_config.json", truncation_side="left")

    message = refusal(pair, good[0], inspect(folder))

    assert "same-tokenizer: the two tokenizers encode differently" in message


def test_a_length_limit_beyond_the_models_own_is_no_difference(
    pair: Pair, copied: Callable[[str], Path], inspect: Callable, good: tuple
) -> None:
    folder = copied("lora")
    edit_json(folder / "tokenizer_config.json", model_max_length=int(1e30))

    check_pair(pair, good[0], inspect(folder))


def test_two_full_checkpoints_are_no_pair(pair: Pair, good: tuple) -> None:
    full, _ = good

    assert "adaptation: is full (39 of 39 tensors); expected a PEFT adapter" in refusal(pair, full, full)


def test_two_adapters_are_no_pair(pair: Pair, good: tuple) -> None:
    _, peft = good

    assert "adaptation: is lora; expected a full checkpoint" in refusal(pair, peft, peft)


def test_swapped_arms_are_refused_twice_over(pair: Pair, good: tuple) -> None:
    full, peft = good

    assert refusal(pair, peft, full).count("adaptation: ") == 2


def test_every_reason_is_named_at_once(pair: Pair, good: tuple) -> None:
    full, peft = good
    bad = replace(full, failures=("finite: one", "clean-accuracy: two"), tokenizer_digest="another")

    message = refusal(pair, bad, peft)

    for reason in ("full: finite: one", "full: clean-accuracy: two", "same-tokenizer"):
        assert reason in message


class Wrapped(torch.nn.Module):
    """A model whose logits pass through a function."""

    def __init__(self, model: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.change, self.config = model, change, model.config

    def forward(self, **batch: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.change(self.model(**batch).logits))


def output_reasons(victim: Victim, texts: list) -> list[str]:
    alone = np.concatenate([victim.scores([text]) for text in texts])
    return [failure.partition(":")[0] for failure in gate._output_failures(victim, texts, alone)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda logits: logits, []),
        (lambda logits: logits.softmax(-1), ["logits"]),
        (lambda logits: logits * float("nan"), ["finite"]),
        (lambda logits: logits / 0, ["finite"]),
        (lambda logits: logits + torch.randn_like(logits), ["deterministic"]),
    ],
    ids=["as it is", "probabilities", "nan", "infinite", "noisy"],
)
def test_outputs_that_are_no_logits_are_refused(
    full_victim: Victim, texts: list, change: Any, expected: list
) -> None:
    victim = Victim(Wrapped(full_victim.model, change).eval(), full_victim.tokenizer, (0, 1))

    assert output_reasons(victim, texts[:8]) == expected


def test_dropout_left_on_is_refused(full_victim: Victim, texts: list) -> None:
    full_victim.model.train()

    assert output_reasons(full_victim, texts[:8]) == ["eval-mode", "deterministic"]


def test_logits_that_are_not_finite_refuse_the_checkpoint(copied: Callable[[str], Path], inspect: Callable) -> None:
    folder = copied("full")
    edit_tensors(folder / "model.safetensors", lambda name, t: t * 0 + 3e38 if name == "classifier.weight" else t)

    assert "finite" in reasons(inspect(folder))


def test_a_checkpoint_that_always_says_the_same_has_not_learnt_the_task(
    copied: Callable[[str], Path], inspect: Callable
) -> None:
    folder = copied("full")
    edit_tensors(folder / "model.safetensors", lambda name, t: t * 0 if name == "classifier.weight" else t)

    facts = inspect(folder)

    assert reasons(facts) == ["clean-accuracy"]
    assert "0.500 on 24 clean examples is not above the majority class (0.500)" in facts.failures[0]


def test_labels_in_another_order_are_told_from_nothing_learnt(
    copied: Callable[[str], Path], inspect: Callable
) -> None:
    folder = copied("full")
    edit_json(folder / "config.json", id2label={"0": "positive", "1": "negative"})

    (failure,) = inspect(folder).failures

    assert "the other label than it gives would be right on 1.000" in failure and "mend id2label" in failure


def test_texts_that_a_tokenizers_limit_cuts_are_told_from_nothing_learnt(
    copied: Callable[[str], Path], inspect: Callable
) -> None:
    folder = copied("full")
    edit_json(folder / "tokenizer_config.json", model_max_length=3)

    (failure,) = inspect(folder).failures

    assert "24 of them were cut to 3 tokens: see model_max_length" in failure


def test_accuracy_is_measured_against_the_examples_own_majority(tiny: Any, clean: list) -> None:
    one_label = [example for example in clean if example.label == 1]
    checkpoint = read_checkpoint("full", str(tiny.full), str(tiny.base))

    facts = inspect_checkpoint(checkpoint, SST2, place("cpu"), one_label)

    assert facts.majority_share == 1
    assert reasons(facts) == ["clean-accuracy"]


@pytest.mark.parametrize("arm", ["full", "lora"])
def test_an_answering_arm_below_the_f1_of_whole_paragraphs_is_refused(
    answering: Any, tmp_path: Path, arm: str
) -> None:
    """A head of zeros likes all spans alike and answers with the first: a name, where a city is asked for."""
    folder = Path(shutil.copytree({"full": answering.full, "lora": answering.peft}[arm], tmp_path / arm))
    weights = folder / ("model.safetensors" if arm == "full" else "adapter_model.safetensors")
    edit_tensors(weights, lambda name, t: t * 0 if "qa_outputs" in name else t)
    clean = answering.examples()
    # One word of so many is right: precision 1 / n, recall 1.
    floor = np.mean([2 / (1 + sum(word != "." for word in e.texts[1].split())) for e in clean])

    facts = inspect_checkpoint(
        read_checkpoint(arm, str(folder), str(answering.base)), find_task("squad"), place("cpu"), clean
    )

    assert reasons(facts) == ["clean-accuracy"]
    assert facts.clean_accuracy == 0 and facts.majority_share == pytest.approx(floor)
    assert (
        f"F1 0.000 on 40 clean examples is not above answering with the whole paragraph ({floor:.3f})"
        in (facts.failures[0])
    )


def test_an_answering_arm_at_its_floor_is_refused_and_one_above_passes(answering: Any) -> None:
    checkpoint = read_checkpoint("full", str(answering.full), str(answering.base))
    clean = answering.examples()
    # A paragraph that is nothing but its answer: every arm is right, and so is who answers with the paragraph.
    told = [replace(e, texts=(e.texts[0], a.text), answers=(GoldSpan(a.text, 0),)) for e in clean for a in e.answers]

    above = inspect_checkpoint(checkpoint, find_task("squad"), place("cpu"), clean)
    at = inspect_checkpoint(checkpoint, find_task("squad"), place("cpu"), told)

    assert reasons(above) == [] and above.clean_accuracy > above.majority_share
    assert reasons(at) == ["clean-accuracy"] and at.clean_accuracy == at.majority_share == 1


@pytest.mark.parametrize(
    "error", [IndexError("index 7"), ValueError("\n  first line\nsecond"), KeyError("h"), MemoryError()]
)
@pytest.mark.parametrize("where", ["load_checkpoint", "as_victim", "_tokenizer_digest", "_adapter_changes_anything"])
def test_whatever_a_checkpoint_raises_is_a_refusal_of_one_line(
    tiny: Any, inspect: Callable, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(gate, where, fail)

    with pytest.raises(CheckpointError) as caught:
        inspect(tiny.peft)

    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    assert str(caught.value) == f"checkpoint lora: fails on the first clean texts: {type(error).__name__}: {line}"


def break_on(monkeypatch: pytest.MonkeyPatch, breaks: Callable[[str], bool]) -> None:
    """Lets a victim fail on some texts, whatever is beside them, with an error that the gate does not know."""
    scores = Victim.scores

    def sometimes(self: Victim, texts: list) -> np.ndarray:
        if any(breaks(text) for (text,) in texts):
            raise LookupError("no such word")
        return scores(self, texts)

    monkeypatch.setattr(Victim, "scores", sometimes)


def test_a_text_that_a_model_fails_on_leaves_the_checks_to_the_others(
    tiny: Any, clean: list, inspect: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = clean[1].texts[0]
    break_on(monkeypatch, lambda text: text == broken)

    facts = inspect(tiny.peft)

    assert facts.failures == ()
    assert facts.clean_accuracy == pytest.approx((len(clean) - 1) / len(clean))


def test_a_model_that_fails_on_every_text_is_refused_with_what_it_says(
    tiny: Any, inspect: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_on(monkeypatch, lambda text: "number" in text)

    with pytest.raises(
        CheckpointError, match="full: fails on each of the first 8 clean texts: LookupError: no such word"
    ):
        inspect(tiny.full)


def test_memory_is_freed_once_no_frame_of_a_text_that_does_not_fit_holds_a_tensor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spilling = Spilling()
    monkeypatch.setattr(gate, "recover_memory", spilling.recover)

    with pytest.raises(CheckpointError, match="full: fails on each of the first 2 clean texts: OutOfMemoryError"):
        list(gate._ask_each("full", [("a film",), ("a plot",)], spilling))

    assert spilling.held == [0, 0]


def test_attention_that_turns_with_a_short_batch_is_named_with_what_to_set(tmp_path: Path, clean: list) -> None:
    sparse = {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}
    Architecture("big_bird", settings=sparse).save(tmp_path, AutoModelForSequenceClassification)

    facts = inspect_checkpoint(read_checkpoint("full", str(tmp_path), str(tmp_path)), SST2, place("cpu"), clean)

    turned = "attention: a short batch turned the attention from block_sparse to original_full"
    assert facts.failures[0].startswith(turned)
    assert 'set "attention_type": "original_full"' in facts.failures[0]
    assert "padding" not in reasons(facts)


@pytest.mark.parametrize("kind", ["t5", "bart"])
@pytest.mark.parametrize("changed", [True, False])
def test_an_adapter_of_an_encoder_decoder_is_seen_in_what_its_head_reads(
    kind: str, changed: bool, tmp_path: Path, clean: list
) -> None:
    architecture = Architecture(kind, None if kind == "t5" else 64, "end")
    base = architecture.save(tmp_path / "base", AutoModelForSequenceClassification)
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q", "v"] if kind == "t5" else ["q_proj", "v_proj"])
    config.modules_to_save = ["classification_head"]
    adapted = get_peft_model(base, config)
    config.base_model_name_or_path = str(tmp_path / "base")
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name and changed and "encoder" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path / "lora")
    base.config.save_pretrained(tmp_path / "lora")

    checkpoint = read_checkpoint("lora", str(tmp_path / "lora"), str(tmp_path / "base"))
    facts = inspect_checkpoint(checkpoint, SST2, place("cpu"), clean)

    assert ("adapter-not-zero" in reasons(facts)) is not changed
    assert facts.merge_difference is not None and facts.merge_difference < 1e-4


def test_inspecting_leaves_the_loaded_adapter_unmerged(tiny: Any, load: Callable, texts: list) -> None:
    loaded = load(tiny.peft)
    before = as_victim(loaded, loaded.unmerged, place("cpu")).scores(texts)
    merged = as_victim(loaded, gate._merged_copy(loaded), place("cpu"))

    gate._compare_merged(loaded, merged, place("cpu"), texts)

    np.testing.assert_array_equal(as_victim(loaded, loaded.unmerged, place("cpu")).scores(texts), before)


def test_a_real_model_that_was_never_fine_tuned_is_refused_for_its_labels(minilm: Path, clean: list) -> None:
    checkpoint = replace(read_checkpoint("minilm", str(minilm), str(minilm)), name="minilm")

    with pytest.raises(CheckpointError, match=r"label-map: its labels \(0: LABEL_0, 1: LABEL_1\)"):
        inspect_checkpoint(checkpoint, SST2, place("cpu"), clean)
