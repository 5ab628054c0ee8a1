from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_texts import CHAT, TASK, TESTSET, tokenizer_of, write_base, write_method, write_rows, write_testset
from transformers import AutoModelForCausalLM, AutoTokenizer

from robustness.definitions.pairs import PairsDefinition
from robustness.definitions.reading import read_definition
from robustness.errors import CheckpointError, DataError, DefinitionError, RunError
from robustness.tasks.answer_scores import score_answer
from robustness.training import jobs
from robustness.training.adaptation import Base
from robustness.training.defences import FreeLb
from robustness.training.examples import completions
from robustness.training.examples.encoding import encode_rows
from robustness.training.examples.loading import load_rows
from robustness.training.examples.rows import EncodedRows
from robustness.training.execution import checkpoints, context
from robustness.training.methods import find_method, method_names
from robustness.training.protocol import TrainingSettings
from robustness.training.trainer import Trial, TrialResult, run_trial, score_reporting
from robustness.training.training import train
from robustness.victims.files.tokenizers import read_tokenizer
from robustness.victims.generation.decoding import decode

SETTINGS = TrainingSettings(epochs=3, batch_size=8, dev_limit=12, report_limit=12)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def testset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_testset(tmp_path_factory.mktemp("definitions"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = write_base(tmp_path_factory.mktemp("base"))
    return Base(folder, str(folder))


@pytest.fixture(scope="module")
def rows(testset: str, data: Path, base: Base) -> EncodedRows:
    return encode_rows(load_rows(testset, data, None, 12, 12), base.folder, 128)


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("methods")
    return [write_method(folder, "whole", lora=False), write_method(folder, "low-rank", lora=True)]


@pytest.fixture(scope="module")
def trained(
    base: Base, data: Path, testset: str, methods: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("trained")
    return train(testset, base=str(base.folder), methods=methods, seeds=[0], out=out, data=data, settings=SETTINGS)


def _run(method: str, base: Base, rows: EncodedRows, **settings: Any) -> tuple[Any, TrialResult]:
    trial = Trial(find_method(method), 1e-2, 0, replace(SETTINGS, **settings), CPU)
    return run_trial(trial, base, rows, lambda epoch, score: None)


def _answer_loss(model: Any, rows: EncodedRows) -> float:
    """By hand: -sum of log p over the answers' tokens and end tokens / their count; one row at a time."""
    total, count = 0.0, 0
    for row in rows.train:
        text = rows.tokenizer.decode(row["input_ids"])
        prompt, answer = text.split(" say : ")
        start = len(rows.tokenizer(f"{prompt} say :")["input_ids"])
        ids = torch.tensor([rows.tokenizer(f"{prompt} say : {answer}")["input_ids"]])
        assert answer.endswith(" </s>")
        with torch.inference_mode():
            told = model(ids).logits[0].double().log_softmax(-1)
        total -= sum(float(told[place - 1, ids[0, place]]) for place in range(start, ids.shape[1]))
        count += ids.shape[1] - start
    return total / count


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_loss_is_that_of_answers_and_their_end_alone(method: str, base: Base, rows: EncodedRows) -> None:
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).eval()

    _, result = _run(method, base, rows, epochs=1, batch_size=len(rows.train))

    assert result.losses[0] == pytest.approx(_answer_loss(model, rows), abs=1e-3)


def test_a_padding_token_that_is_the_end_token_takes_no_end_from_the_loss(
    testset: str, data: Path, rows: EncodedRows, base: Base, tmp_path: Path
) -> None:
    folder = write_base(tmp_path, tokenizer_of(pad_token=None), pad_token_id=None)
    padded = encode_rows(load_rows(testset, data, None, 12, 12), folder, 128)
    assert padded.tokenizer.pad_token == padded.tokenizer.eos_token

    _, ours = _run("full", Base(folder, str(folder)), padded, epochs=1, batch_size=48)
    _, expected = _run("full", base, rows, epochs=1, batch_size=48)

    assert ours.losses == pytest.approx(expected.losses, abs=1e-4)


@pytest.mark.parametrize("method", ["full", "mpc-o", "adalora"])
@pytest.mark.parametrize("settings", [{"accumulation": 4}, {"checkpointing": True}])
def test_parts_and_activations_computed_again_train_the_same_weights(
    method: str, settings: dict[str, Any], base: Base, rows: EncodedRows
) -> None:
    whole, _ = _run(method, base, rows, epochs=1, max_grad_norm=0.0)
    other, _ = _run(method, base, rows, epochs=1, max_grad_norm=0.0, **settings)

    moved = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).state_dict()
    for (name, expected), found in zip(whole.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=2e-4), name
    assert method != "full" or any((whole.state_dict()[name] - moved[name]).abs().max() > 1e-2 for name in moved)


@pytest.mark.parametrize("method", ["full", "mpc-o"])
def test_freelb_in_parts_trains_the_same_weights_and_others_than_plain_training(
    method: str, base: Base, rows: EncodedRows
) -> None:
    """Although parts have unequal numbers of answer tokens; from a perturbation of 0, whose draws need no order."""
    freelb = {"epochs": 1, "max_grad_norm": 0.0, "adversarial": FreeLb(steps=2, step_size=1.0, initial=0.0)}

    whole, result = _run(method, base, rows, **freelb)
    parts, _ = _run(method, base, rows, accumulation=4, **freelb)
    plain, plainly = _run(method, base, rows, epochs=1, max_grad_norm=0.0)

    for (name, expected), found in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=2e-4), name
    assert result.passes == 2 * plainly.passes
    assert result.losses[0] > plainly.losses[0]
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("method", [name for name in method_names() if name != "bitfit"])
def test_every_method_that_fits_trains_a_language_model(method: str, base: Base, rows: EncodedRows) -> None:
    model, result = _run(method, base, rows, max_steps=11, epochs=1)

    trial = Trial(find_method(method), 1e-2, 0, SETTINGS, CPU)
    assert not result.failed and len(result.losses) >= 1
    assert 0 <= score_reporting(model, trial, rows) <= 1


def test_a_method_of_biases_is_refused_on_a_base_without_any(
    base: Base, data: Path, testset: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="a first step failed: bitfit: .* no layer has a"):
        train(testset, base=str(base.folder), methods=["full", "bitfit"], seeds=[0], out=tmp_path / "o", data=data)


def test_both_arms_learn_and_the_best_epoch_is_scored_by_plain_generation(
    trained: Path, data: Path, testset: str
) -> None:
    halves = load_rows(testset, data, None, 12, 12)
    for pair in read_definition(trained, PairsDefinition).pair:
        assert pair.task.endswith("meaning.toml")
        record = json.loads((trained.parent / pair.full / "training.json").read_text())
        model = AutoModelForCausalLM.from_pretrained(trained.parent / pair.full, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(trained.parent / pair.full)

        for kind, examples in (("selecting", halves.selecting), ("reporting", halves.reporting)):
            scores = []
            for example in examples:
                ids = tokenizer(f"{example.texts[0]} say :", return_tensors="pt")["input_ids"]
                whole = model.generate(
                    ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6, pad_token_id=0
                )
                response = tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
                scores.append(score_answer(response, example.answers).f1)
            assert record[f"{kind}_score"] == pytest.approx(sum(scores) / len(scores))
        assert record["selecting_score"] == max(record["selecting_scores"]) > 0.4
        assert len(record["selecting_scores"]) == 3
        assert record["metric"] == "quality"


def test_what_is_trained_is_not_trained_again(
    trained: Path, base: Base, data: Path, testset: str, methods: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = {"base": str(base.folder), "methods": methods, "seeds": [0], "out": trained.parent, "data": data}
    written = trained.read_text()
    monkeypatch.setattr(checkpoints, "run_trial", None)

    assert train(testset, **again, settings=SETTINGS).read_text() == written
    with pytest.raises(RunError, match="trained otherwise .*targets: method there, attention asked for"):
        train(testset, **again, settings=replace(SETTINGS, targets="attention"))


def test_targets_and_a_grid_of_one_rate_go_into_the_checkpoints(
    base: Base, data: Path, testset: str, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, targets="linear", grid="one", max_steps=1)

    common: dict[str, Any] = {"base": str(base.folder), "seeds": [0], "out": tmp_path, "data": data}
    pairs = train(testset, methods=["full", "lora"], **common, settings=settings)

    (pair,) = read_definition(pairs, PairsDefinition).pair
    assert (pair.name, pair.full) == ("meanings-lora-linear-seed0", "meanings-full-seed0")
    config = json.loads((tmp_path / pair.peft / "adapter_config.json").read_text())
    adapted = {name.rsplit(".", 1)[-1] for name in config["target_modules"]}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert config["task_type"] == "CAUSAL_LM"
    rates = [json.loads((tmp_path / each / "training.json").read_text())["trials"] for each in (pair.full, pair.peft)]
    assert [[trial["learning_rate"] for trial in trials] for trials in rates] == [[1e-4], [2e-3]]


def test_a_chat_is_trained_in_the_words_of_the_tokenizers_own_template(
    base: Base, data: Path, methods: list[str], tmp_path: Path
) -> None:
    task = TASK.replace('template = "{sentence} say :"\n', '[chat]\nuser = "{sentence} say"\nsystem = "brief"\n')
    tokenizer = tokenizer_of(chat_template=CHAT.replace("<{{ message['role'] }}>", "<user>"))
    folder = write_base(tmp_path / "base", tokenizer)
    testset = write_testset(tmp_path, task)

    encoded = encode_rows(load_rows(testset, data, 4, 4), folder, 128)

    text, _, answer = encoded.tokenizer.decode(encoded.train[0]["input_ids"]).partition(" <model> ")
    assert text.startswith("<user> brief </s> <user> the ") and text.endswith(" say </s>")
    counted = [token for token in encoded.train[0]["labels"] if token != -100]
    assert encoded.tokenizer.decode(counted) == answer and answer.endswith(" </s>")


def test_bfloat16_is_computed_where_it_is_faster_alone(
    base: Base, data: Path, testset: str, methods: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    asked = replace(SETTINGS, bf16=True, max_steps=1)
    common: dict[str, Any] = {"base": str(base.folder), "methods": methods, "seeds": [0], "data": data}
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(jobs, "faster_dtype", lambda device, dtype=dtype: dtype)
        train(testset, **common, out=tmp_path / str(dtype), settings=asked, device="cpu", progress=said.append)

    kept = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*/*whole*/training.json"))]
    assert [record["fingerprint"]["settings"]["bf16"] for record in kept] == [True, False]
    assert [line for line in said if "float32" in line] == ["training in float32: cpu computes no faster in bfloat16"]


def test_responses_are_scored_in_float32_where_training_is_in_bfloat16(
    base: Base, rows: EncodedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart: list[float] = []
    ids = torch.tensor([[6, 7, 8, 9]])

    def compare(causal: Any, prompts: Any, limits: Any, **options: Any) -> Any:
        model = causal.model
        exact = type(model).forward(model, input_ids=ids).logits.detach()
        apart.append(float((model(input_ids=ids).logits.detach() - exact).abs().max()))
        return decode(causal, prompts, limits, **options)

    monkeypatch.setattr(completions, "decode", compare)

    model, _ = _run("full", base, rows, bf16=True, epochs=2)

    assert apart == [0.0, 0.0]
    autocast = (model(input_ids=ids).logits.detach() - type(model).forward(model, input_ids=ids).logits).abs().max()
    assert float(autocast) > 0  # as it was trained


def test_training_in_bfloat16_leaves_the_next_training_in_float32(base: Base, rows: EncodedRows) -> None:
    first, _ = _run("full", base, rows)
    _run("full", base, rows, bf16=True)
    again, _ = _run("full", base, rows)

    assert all(torch.equal(*pair) for pair in zip(first.parameters(), again.parameters(), strict=True))


Broken = Callable[[Path], tuple[str, Path, Path]]
"""Makes test set, data and base in a folder."""


def _no_end(folder: Path) -> tuple[str, Path, Path]:
    base = write_base(folder / "base", tokenizer_of(eos_token=None))
    return write_testset(folder), write_rows(folder / "data"), base


def _no_padding(folder: Path) -> tuple[str, Path, Path]:
    base = write_base(folder / "base", tokenizer_of(eos_token=None, pad_token=None), pad_token_id=None)
    return write_testset(folder), write_rows(folder / "data"), base


def _unknown_end(folder: Path) -> tuple[str, Path, Path]:
    base = write_base(folder / "base", tokenizer_of(eos_token="<over>"))
    return write_testset(folder), write_rows(folder / "data"), base


def _no_chat(folder: Path) -> tuple[str, Path, Path]:
    task = TASK.replace('template = "{sentence} say :"\n', '[chat]\nuser = "{sentence} say"\n')
    return write_testset(folder, task), write_rows(folder / "data"), write_base(folder / "base")


def _printed(folder: Path) -> tuple[str, Path, Path]:
    task = TASK.replace('["sentence"]', '["sentence", "gold"]').replace("{sentence} say :", "{gold} of {sentence}")
    testset = TESTSET.replace('columns = ["sentence"]', 'columns = ["sentence", "gold"]')
    return write_testset(folder, task, testset), write_rows(folder / "data"), write_base(folder / "base")


def _at_the_end(folder: Path) -> tuple[str, Path, Path]:
    rows = write_rows(folder / "data")
    for path in rows.iterdir():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("\n".join(json.dumps(r | {"sentence": f"{r['sentence']} {r['gold']}"}) for r in lines))
    task = TASK.replace("{sentence} say :", "say : {sentence}")
    return write_testset(folder, task), rows, write_base(folder / "base")


def _unreadable(folder: Path) -> tuple[str, Path, Path]:
    task = TASK.replace('"whole"', '"number"').replace('"token-f1"', '"fraction"')
    return write_testset(folder, task), write_rows(folder / "data"), write_base(folder / "base")


def _long_prompt(folder: Path) -> tuple[str, Path, Path]:
    rows = write_rows(folder / "data")
    with (rows / "train.jsonl").open("a") as file:
        file.write(json.dumps({"sentence": "the film " * 40, "gold": "praise of film"}) + "\n")
    return write_testset(folder), rows, write_base(folder / "base")


def _long_answer(folder: Path) -> tuple[str, Path, Path]:
    rows = write_rows(folder / "data")
    task = TASK.replace("max_new_tokens = 6", "max_new_tokens = 5")
    return write_testset(folder, task), rows, write_base(folder / "base")


def _one_answer(folder: Path) -> tuple[str, Path, Path]:
    rows = write_rows(folder / "data")
    for path in rows.iterdir():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("\n".join(json.dumps(row | {"gold": "praise"}) for row in lines))
    return write_testset(folder), rows, write_base(folder / "base")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (_no_end, CheckpointError, "has no end token, so no response would end"),
        (_no_padding, CheckpointError, "neither a padding nor an end token"),
        (_unknown_end, CheckpointError, r"end token '<over>' is number \d+, and the model knows \d+ tokens"),
        (_no_chat, CheckpointError, r"has no chat template, and task meaning asks by \[chat\]"),
        (_printed, DefinitionError, "columns names 'gold', which answers names too"),
        (_at_the_end, DataError, "the prompt prints the gold answer at its end, in all 48 rows"),
        (_unreadable, DataError, "the gold answers of 24 of 24 rows|the gold answers of 48 of 48 rows"),
        (_long_prompt, DataError, r"row 'meanings-train:49': its prompt has 82 tokens; the model takes 1 to 58"),
        (_long_answer, DataError, r"\d+ of 48 answers are longer than the 5 tokens .* for all of them to 6"),
        (_one_answer, DataError, "all 48 training rows have the gold text 'praise', so there is nothing to learn"),
    ],
)
def test_what_could_not_be_learnt_is_refused_before_anything_runs(
    make: Broken, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testset, data, base = make(tmp_path)
    monkeypatch.setattr(context, "try_step", None)

    with pytest.raises(error, match=message):
        train(
            testset,
            base=str(base),
            methods=["full", "lora"],
            seeds=[0],
            out=tmp_path / "out",
            data=data,
            settings=replace(SETTINGS, dev_limit=100, report_limit=100),
        )
    assert not (tmp_path / "out").exists()


def test_a_few_answers_that_are_longer_than_a_response_are_learnt_from(
    base: Base, testset: str, tmp_path: Path
) -> None:
    data = write_rows(tmp_path)
    with (data / "train.jsonl").open("a") as file:
        row = {"sentence": "the film is fine fine", "gold": "praise of film and plot and song"}
        file.write(json.dumps(row) + "\n")

    encoded = encode_rows(load_rows(testset, data, None), base.folder, 128)

    assert max(sum(label != -100 for label in row["labels"]) for row in encoded.train) == 8


def test_learnt_tokens_and_text_must_fit_the_base_together(base: Base, data: Path, testset: str) -> None:
    rows = load_rows(testset, data, None, 12)
    tokenizer = read_tokenizer(base.folder)
    longest = max(len(tokenizer(f"{e.texts[0]} say : {e.answers[0].text}")["input_ids"]) + 1 for e in rows.train)

    encode_rows(rows, base.folder, 128, 64 - longest)
    with pytest.raises(DataError, match=rf"the base takes {longest - 1} beside what the methods learn"):
        encode_rows(rows, base.folder, 128, 65 - longest)


def test_an_encoder_that_reads_ahead_is_no_base_of_responses(data: Path, testset: str, tmp_path: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config.initializer_range = 0.4
    BertLMHeadModel(config).save_pretrained(tmp_path)
    tokenizer_of().save_pretrained(tmp_path)

    with pytest.raises(CheckpointError, match="what follows a token changes its answer"):
        train(testset, base=str(tmp_path), methods=["full", "lora"], seeds=[0], out=tmp_path / "o", data=data)
