from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig
from transformers import (
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from robustness.errors import CheckpointError, UsageError
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen, margins, median_token_norm
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import place, to_victim

ADAPTERS: dict[str, PeftConfig] = {
    "lora": LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]),
    "lora-on-embeddings": LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["word_embeddings", "query"]),
    "prefix": PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4),
    "prompt": PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4),
}


def as_examples(texts: list[tuple[str, ...]]) -> list[Example]:
    return [Example(str(number), text, number % 2) for number, text in enumerate(texts)]


def logits_of(batch: EmbeddedBatch) -> np.ndarray:
    with torch.no_grad():
        return batch.logits(batch.embeddings).numpy()


def build(model_class: type, config: Any, tokenizer: Any, columns: tuple[int, ...] = (0, 1)) -> Victim:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = model_class(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return Victim(model.eval(), tokenizer, columns)


@pytest.fixture
def roberta(tokenizer: Any) -> Victim:
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        type_vocab_size=2,
    )
    return build(RobertaForSequenceClassification, config, tokenizer)


@pytest.fixture
def llama(tokenizer: Any) -> Victim:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    victim = build(LlamaForSequenceClassification, config, tokenizer)
    victim.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return victim


def test_logits_of_a_texts_own_embeddings_are_its_scores(full_victim: Victim, texts: list) -> None:
    batch = full_victim.embed(as_examples(texts))

    np.testing.assert_allclose(logits_of(batch), full_victim.scores(texts), atol=1e-5)
    assert batch.embeddings.dtype == torch.float32
    assert not batch.embeddings.requires_grad


@pytest.mark.parametrize("method", ADAPTERS)
def test_adapters_answer_as_their_victim_does(
    tmp_path: Path, load: Callable, save_adapter: Callable, texts: list, method: str
) -> None:
    save_adapter(tmp_path / method, ADAPTERS[method])
    victim = to_victim(load(tmp_path / method), place("cpu"))

    batch = victim.embed(as_examples(texts))

    np.testing.assert_allclose(logits_of(batch), victim.scores(texts), atol=1e-5)


def test_roberta_keeps_its_positions_under_padding(roberta: Victim, texts: list) -> None:
    np.testing.assert_allclose(logits_of(roberta.embed(as_examples(texts))), roberta.scores(texts), atol=1e-5)


def test_a_decoder_reads_the_last_token_that_is_not_padding(llama: Victim, texts: list) -> None:
    texts = [text for text in texts if text[0]]

    np.testing.assert_allclose(logits_of(llama.embed(as_examples(texts))), llama.scores(texts), atol=1e-5)


def test_columns_are_in_the_tasks_label_order(full_victim: Victim, texts: list) -> None:
    swapped = Victim(full_victim.model, full_victim.tokenizer, (1, 0))

    expected = logits_of(full_victim.embed(as_examples(texts)))[:, ::-1]

    np.testing.assert_array_equal(logits_of(swapped.embed(as_examples(texts))), expected)


def test_a_bfloat16_model_takes_float32_embeddings(tiny: Any, load: Callable, texts: list) -> None:
    # oneDNN's bfloat16 kernels need instructions that a virtual machine may announce and not have.
    with torch.backends.mkldnn.flags(enabled=False):
        victim = to_victim(load(tiny.full), place("cpu", "bfloat16"))
        batch = victim.embed(as_examples(texts))
        logits, scores = batch.logits(batch.embeddings), victim.scores(texts)

    assert (batch.embeddings.dtype, logits.dtype) == (torch.float32, torch.float32)
    np.testing.assert_allclose(logits.detach().numpy(), scores, atol=0.05)


def test_content_is_the_text_without_special_and_padding_tokens(full_victim: Victim) -> None:
    batch = full_victim.embed(as_examples([("the film",), ("the film is fine . [SEP] dull",), ("",)]))

    names = [full_victim.tokenizer.convert_ids_to_tokens(row) for row in batch.inputs["input_ids"].tolist()]
    content = [
        [token for token, inside in zip(row, mask, strict=True) if inside]
        for row, mask in zip(names, batch.content.tolist(), strict=True)
    ]
    assert content == [["the", "film"], ["the", "film", "is", "fine", ".", "dull"], []]


@pytest.mark.parametrize(("attacked", "expected"), [((0,), 2), ((1,), 3), ((0, 1), 5)])
def test_content_of_a_pair_is_its_attacked_segments(
    full_victim: Victim, attacked: tuple[int, ...], expected: int
) -> None:
    batch = full_victim.embed([Example("1", ("fine film", "dull cold plot"), 1, attacked=attacked)])

    assert batch.content.sum() == expected


@pytest.mark.parametrize("side", ["left", "right"])
def test_content_follows_the_padding_side(full_victim: Victim, side: str) -> None:
    full_victim.tokenizer.padding_side = side

    batch = full_victim.embed(as_examples([("the film",), ("the film is fine .",)]))

    padding = batch.inputs["input_ids"] == full_victim.tokenizer.pad_token_id
    assert padding[0].any()
    assert not batch.content[padding].any()
    assert batch.content.sum(dim=1).tolist() == [2, 5]


def test_long_texts_are_cut_as_for_scores(full_victim: Victim) -> None:
    texts = [("fine " * 100,), ("dull",)]

    batch = full_victim.embed(as_examples(texts))

    assert batch.embeddings.shape[1] == full_victim.max_tokens
    np.testing.assert_allclose(logits_of(batch), full_victim.scores(texts), atol=1e-5)


def test_gradients_agree_with_finite_differences(full_victim: Victim) -> None:
    full_victim.model.double()
    batch = full_victim.embed(as_examples([("the film is fine .",)]))
    module = full_victim.model.get_input_embeddings()
    point = module(batch.inputs["input_ids"]).detach().requires_grad_()

    def margin(embeddings: torch.Tensor) -> torch.Tensor:
        hook = module.register_forward_hook(lambda *_: embeddings)
        logits = full_victim.model(**batch.inputs).logits
        hook.remove()
        return logits[0, 1] - logits[0, 0]

    (expected,) = torch.autograd.grad(margin(point), point)
    step = 1e-5 * torch.randn(point.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        slope = (margin(point + step) - margin(point - step)) / 2
    leaf = batch.embeddings.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(margins(batch.logits(leaf), torch.tensor([1])).sum(), leaf)

    assert float(slope) == pytest.approx(float((expected * step).sum()), rel=1e-6)
    np.testing.assert_allclose(gradient.numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)


def test_margins_are_the_true_logit_over_the_best_other() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 0.0, 0.0]])

    assert margins(logits, torch.tensor([0, 1, 2])).tolist() == [1.0, -2.0, 0.0]


def test_the_unit_is_the_median_row_norm(full_victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustness.victims.heads.embedded_batch.NORM_ROWS", 7)
    weights = full_victim.model.get_input_embeddings().weight.detach().numpy().astype(np.float64)

    unit = median_token_norm(full_victim)

    ordered = np.sort(np.linalg.norm(weights, axis=1))
    assert unit == pytest.approx(ordered[(len(ordered) - 1) // 2], rel=1e-6)


def test_selected_rows_answer_as_they_did(full_victim: Victim, texts: list) -> None:
    batch = full_victim.embed(as_examples(texts))

    part = batch.select(torch.tensor([2, 0]))

    np.testing.assert_allclose(logits_of(part), logits_of(batch)[[2, 0]], atol=1e-5)
    assert part.labels.tolist() == [0, 0]


def test_freezing_restores_gradients_and_mode(full_victim: Victim) -> None:
    parameters = list(full_victim.model.parameters())
    parameters[0].requires_grad_(False)
    full_victim.model.train()
    modes = [module.training for module in full_victim.model.modules()]
    wanted = [parameter.requires_grad for parameter in parameters]

    with frozen(full_victim):
        inside = any(p.requires_grad for p in parameters) or full_victim.model.training

    assert not inside
    assert [parameter.requires_grad for parameter in parameters] == wanted
    assert [module.training for module in full_victim.model.modules()] == modes


def test_passes_are_counted(full_victim: Victim) -> None:
    batch = full_victim.embed(as_examples([("fine",), ("dull",)]))
    before = full_victim.forwards

    logits_of(batch)

    assert full_victim.forwards == before + 2


def test_no_hook_stays_behind(full_victim: Victim, texts: list) -> None:
    before = full_victim.scores(texts)

    logits_of(full_victim.embed(as_examples(texts)))

    np.testing.assert_array_equal(full_victim.scores(texts), before)


def test_batches_are_of_similar_length_and_lose_nothing(
    full_victim: Victim, texts: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustness.victims.heads.embedded_batch.CPU_GRADIENT_TOKENS", 40)
    examples = as_examples(texts)

    batches = full_victim.gradient_batches(examples)

    lengths = [[len(full_victim.tokenizer(e.texts[0])["input_ids"]) for e in batch] for batch in batches]
    assert sorted(e.id for batch in batches for e in batch) == sorted(e.id for e in examples)
    assert all(len(batch) == 1 or max(batch) * len(batch) <= 40 for batch in lengths)
    assert [n for batch in lengths for n in batch] == sorted((n for batch in lengths for n in batch), reverse=True)
    assert full_victim.gradient_batches([]) == []


def test_mixed_segments_are_refused(full_victim: Victim) -> None:
    with pytest.raises(UsageError, match="same number of segments"):
        full_victim.embed([Example("1", ("a",), 0), Example("2", ("a", "b"), 0)])
    with pytest.raises(UsageError, match="at least one example"):
        full_victim.embed([])


def test_a_slow_tokenizer_is_refused(tiny: Any, full_victim: Victim) -> None:
    from transformers import CanineTokenizer

    slow = Victim(full_victim.model, CanineTokenizer(), (0, 1))

    with pytest.raises(CheckpointError, match="fast tokenizer"):
        slow.embed(as_examples([("fine",)]))


def test_a_model_may_look_its_tokens_up_twice(full_victim: Victim) -> None:
    class Twice(BertForSequenceClassification):
        def forward(self, input_ids: torch.Tensor, **inputs: Any) -> Any:
            super().forward(input_ids, **inputs)
            return super().forward(input_ids, **inputs)

    expected = full_victim.scores([("fine",)])
    full_victim.model.__class__ = Twice

    batch = full_victim.embed(as_examples([("fine",)]))

    np.testing.assert_allclose(batch.logits(batch.embeddings).detach(), expected, atol=1e-5)


def test_a_model_that_looks_up_other_tokens_is_refused(full_victim: Victim) -> None:
    class Other(BertForSequenceClassification):
        def forward(self, input_ids: torch.Tensor, **inputs: Any) -> Any:
            return super().forward(input_ids.flip(1), **inputs)

    batch = full_victim.embed(as_examples([("a fine film",)]))
    full_victim.model.__class__ = Other

    with pytest.raises(CheckpointError, match="looks up tokens .* which are not"):
        batch.logits(batch.embeddings)


def test_other_shapes_are_refused(full_victim: Victim) -> None:
    batch = full_victim.embed(as_examples([("fine",)]))

    with pytest.raises(CheckpointError, match="expected"):
        batch.logits(batch.embeddings[:, :-1])


def test_the_unit_of_a_copy_is_its_own(tmp_path: Path, tiny: Any, load: Callable) -> None:
    folder = Path(shutil.copytree(tiny.full, tmp_path / "full"))
    first, second = (to_victim(load(folder), place("cpu")) for _ in range(2))
    with torch.no_grad():
        second.model.get_input_embeddings().weight.mul_(3)

    assert median_token_norm(second) == pytest.approx(3 * median_token_norm(first))
