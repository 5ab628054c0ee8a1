from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MambaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError
from robustness.tasks.task import Task
from robustness.testsets.example import Example, Texts, digest_texts
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.gate import inspect_checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.heads.labels import Victim
from robustness.victims.heads.verbalisers import PromptedVictim
from robustness.victims.loading import load_checkpoint, place, to_victim

WORDS = ["<s>", "</s>", "<unk>", "Review:", "Sentiment:", "negative", "positive", "very", "a", "film", "fine", "dull"]
SHAPE = {
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
LABELS = {0: "negative", 1: "positive"}
UNEVEN = Task(
    "sst2",
    ("sentence",),
    ("negative", "positive"),
    ("sentence",),
    template="Review: {sentence} Sentiment:",
    verbalisers=(" very negative film", " positive"),
)
TEXTS: list[Texts] = [(" ".join(["a", "fine", "dull", "film"][: 1 + i % 4] * (1 + i % 5)),) for i in range(20)]
ADAPTERS: dict[str, PeftConfig] = {
    "lora": LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random causal language model; its tokenizer has no padding token, as Llama's own."""
    folder = tmp_path_factory.mktemp("llama")
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.model_max_length = 64
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        LlamaForCausalLM(LlamaConfig(**SHAPE, initializer_range=0.5)).save_pretrained(folder)
    return folder


def victim_of(folder: Path, base: Path, task: Task = UNEVEN) -> Head:
    return to_victim(load_checkpoint(read_checkpoint(folder.name, str(folder), str(base)), task), place("cpu"))


def save_adapter(llama: Path, folder: Path, config: PeftConfig) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = get_peft_model(LlamaForCausalLM.from_pretrained(llama), config)
        for name, parameter in model.named_parameters():
            if "prompt" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    return folder


def scores_by_hand(
    model: torch.nn.Module, llama: Path, text: Texts, verbalisers: tuple[str, ...] = UNEVEN.verbalisers
) -> list[float]:
    """One unpadded forward pass a label, one softmax a token."""
    tokenizer = AutoTokenizer.from_pretrained(llama)
    prompt = tokenizer(f"Review: {text[0]} Sentiment:")["input_ids"]
    scores = []
    for verbaliser in verbalisers:
        said = tokenizer(verbaliser, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*prompt, *said]])).logits[0].double().log_softmax(dim=-1)
        skipped = len(logits) - len(prompt) - len(said)
        scores.append(
            sum(logits[skipped + len(prompt) + k - 1, word].item() for k, word in enumerate(said)) / len(said)
        )
    return scores


def test_batched_scores_are_those_of_one_at_a_time_and_by_hand(llama: Path) -> None:
    victim = victim_of(llama, llama)

    together = victim.scores(TEXTS)
    alone = np.concatenate([victim.scores([text]) for text in TEXTS])

    assert isinstance(victim, PromptedVictim)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    expected = [scores_by_hand(LlamaForCausalLM.from_pretrained(llama).eval(), llama, text) for text in TEXTS]
    np.testing.assert_allclose(together, expected, atol=1e-4)
    assert np.ptp(together[:, 0] - together[:, 1]) > 0.1


FORGETFUL: dict[str, PretrainedConfig] = {
    "window": MistralConfig(**SHAPE, sliding_window=8, initializer_range=0.5),
    "running-state": MambaConfig(
        vocab_size=len(WORDS), hidden_size=32, state_size=4, num_hidden_layers=2, initializer_range=0.5
    ),
}


@pytest.mark.parametrize("kind", FORGETFUL)
def test_a_cache_that_forgets_tokens_is_not_read_for_the_rest_of_a_verbaliser(
    llama: Path, tmp_path: Path, kind: str
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(FORGETFUL[kind]).eval()
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path)

    scores = victim_of(tmp_path, tmp_path).scores(TEXTS)

    np.testing.assert_allclose(scores, [scores_by_hand(model, llama, text) for text in TEXTS], atol=1e-4)
    assert np.ptp(scores[:, 0] - scores[:, 1]) > 0.1


CANDIDATES = [
    Example("1", (" ".join([*text[:place], word, *text[place + 1 :]]),), label=1)
    for text in [["a", "fine", "film", "very", "dull", "a", "fine", "dull", "film", "a", "film", "very", "fine"]]
    for place in range(len(text))
    for word in ("dull", "unheard-of")
]
"""Edits of one text, as a search asks about them."""


@pytest.mark.parametrize("kind", ["llama", *FORGETFUL])
@pytest.mark.parametrize("verbalisers", [UNEVEN.verbalisers, (" negative", " positive")])
def test_candidates_of_one_example_share_what_their_prompts_begin_with_and_are_scored_as_alone(
    llama: Path, tmp_path: Path, kind: str, verbalisers: tuple[str, ...]
) -> None:
    model = LlamaForCausalLM.from_pretrained(llama)
    if kind != "llama":
        with torch.random.fork_rng():
            torch.manual_seed(5)
            model = AutoModelForCausalLM.from_config(FORGETFUL[kind]).eval()
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path)
    victim = victim_of(tmp_path, tmp_path, replace(UNEVEN, verbalisers=verbalisers))
    other = Example("2", ("a film",), label=0)

    rows = victim.rows([*CANDIDATES[:9], other, *CANDIDATES[9:]])

    texts = [example.texts for example in (*CANDIDATES[:9], other, *CANDIDATES[9:])]
    expected = [scores_by_hand(model.eval(), llama, text, verbalisers) for text in texts]
    np.testing.assert_allclose(rows, expected, atol=1e-4)
    assert victim.forwards == len(texts)


def test_candidates_that_are_read_alike_have_one_score_to_its_last_digit(llama: Path) -> None:
    words = CANDIDATES[0].words
    texts = [CANDIDATES[0].replace_word(place, sign) for sign in "xyz" for place in range(len(words))]

    rows = victim_of(llama, llama).rows(texts)

    first, *others = np.split(rows, 3)
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_adapters_of_causal_language_models_are_scored_as_by_hand(llama: Path, tmp_path: Path, kind: str) -> None:
    from peft import PeftModel

    folder = save_adapter(llama, tmp_path / kind, ADAPTERS[kind])
    plain = victim_of(llama, llama).scores(TEXTS)

    victim = victim_of(folder, llama)

    together = victim.scores(TEXTS)
    np.testing.assert_allclose(together, np.concatenate([victim.scores([text]) for text in TEXTS]), atol=1e-4)
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(llama), folder).eval()
    np.testing.assert_allclose(together[:6], [scores_by_hand(model, llama, text) for text in TEXTS[:6]], atol=1e-4)
    assert np.abs(together - plain).max() > 1e-3


@pytest.mark.parametrize("kind", ["none", "prefix"])
def test_a_batch_of_prompts_that_does_not_fit_is_halved_and_nothing_is_lost(
    llama: Path, tmp_path: Path, small_memory: Callable, kind: str
) -> None:
    victim = victim_of(llama if kind == "none" else save_adapter(llama, tmp_path / kind, ADAPTERS[kind]), llama)
    expected = victim.scores(TEXTS)
    victim.batches.tokens, victim.forwards = 100_000, 0
    sizes = small_memory(victim, 5)

    scores = victim.scores(TEXTS)

    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert victim.forwards == len(TEXTS)
    assert sizes[:3] == [len(TEXTS), len(TEXTS) // 2, len(TEXTS) // 4]
    sizes.clear()
    assert victim.scores(TEXTS[:4]).shape == (4, 2) and max(sizes) <= 5


def test_a_single_prompt_that_does_not_fit_is_an_error(llama: Path, small_memory: Callable) -> None:
    victim = victim_of(llama, llama)
    small_memory(victim, 0)

    with pytest.raises(torch.cuda.OutOfMemoryError):
        victim.scores(TEXTS)


@pytest.mark.parametrize("kind", ["none", *ADAPTERS])
def test_as_a_function_of_embeddings_it_scores_as_it_does_on_texts_and_only_the_text_is_content(
    llama: Path, tmp_path: Path, kind: str
) -> None:
    folder = llama if kind == "none" else save_adapter(llama, tmp_path / kind, ADAPTERS[kind])
    victim = victim_of(folder, llama)
    chosen = [Example(str(index), text, index % 2) for index, text in enumerate(TEXTS[:7])]

    with torch.no_grad():
        batch = victim.embed(chosen)
        found = batch.logits(batch.embeddings).numpy()

    np.testing.assert_allclose(found, victim.scores([each.texts for each in chosen]), atol=1e-4)
    for row, example in enumerate(chosen):
        content = batch.inputs["input_ids"][row, batch.content[row]]
        assert victim.tokenizer.decode(content).split() == example.texts[0].split()
    assert sorted(len(group) for group in victim.gradient_batches(chosen)) == [7]


def test_a_truncated_prompt_keeps_the_segments_of_the_tokens_it_keeps(llama: Path) -> None:
    victim = victim_of(llama, llama)
    assert isinstance(victim, PromptedVictim)
    text = ("dull " * 80,)

    ids, places = victim.encode_segments(text)

    assert ids == victim.encode(text) and len(ids) == victim.max_tokens
    words = [text[0][place[1] : place[2]].strip() for place in places if place]
    kept = [victim.tokenizer.decode([token]) for token, place in zip(ids, places, strict=True) if place]
    assert set(kept) == {"dull"} and places[-1] is None
    assert words == kept


def test_a_prompt_longer_than_the_model_takes_loses_its_beginning(llama: Path) -> None:
    victim = victim_of(llama, llama)
    text = ("dull " * 80,)

    scores = victim.scores([text])

    assert np.isfinite(scores).all()
    assert victim.truncated == {digest_texts(text)}


@pytest.mark.parametrize("name", ["sst2", "qqp", "mnli", "qnli", "rte"])
def test_every_task_with_labels_has_a_template_of_its_fields_and_distinct_verbalisers(name: str) -> None:
    task = find_task(name)

    prompt = task.template.format(**{field: f"<{field}>" for field in task.fields})

    assert all(f"<{field}>" in prompt for field in task.fields)
    assert len(set(task.verbalisers)) == len(task.labels)


class Marked:
    """Writes spaces into words, and one before every text, as Llama's first tokenizers do."""

    def __init__(self, *, start: bool) -> None:
        words = ["<s>", "</s>", "<unk>", "\u2581", *(f"\u2581{word}" for word in WORDS[3:])]
        made = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        made.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
        self.fast = PreTrainedTokenizerFast(
            tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
        )
        self.start = start

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fast, name)

    def __call__(self, text: str, **options: Any) -> Any:
        """Some begin every text with <s>, even where they are asked for no special tokens."""
        encoded = self.fast(text, **options)
        if self.start and options.get("add_special_tokens") is False:
            encoded["input_ids"] = [0, *encoded["input_ids"]]
        return encoded


@pytest.mark.parametrize("start", [False, True])
def test_a_verbaliser_has_the_tokens_that_it_has_behind_the_prompt(start: bool) -> None:
    tokenizer = Marked(start=start)
    model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, "vocab_size": len(WORDS) + 1}))

    victim = PromptedVictim(model, tokenizer, UNEVEN)

    said = [tokenizer.fast.convert_ids_to_tokens(ids) for ids in victim.verbalisers]
    assert said == [["\u2581very", "\u2581negative", "\u2581film"], ["\u2581positive"]]
    tokens = tokenizer.fast.convert_ids_to_tokens(victim.encode(("a film",)))
    assert tokens == ["<s>", "\u2581Review:", "\u2581a", "\u2581film", "\u2581Sentiment:"]


def test_verbalisers_that_a_tokenizer_does_not_know_are_refused(llama: Path) -> None:
    task = replace(UNEVEN, verbalisers=(" wonderful", " terrible"))

    with pytest.raises(CheckpointError, match=r"' terrible' of task sst2 is the same tokens as another"):
        victim_of(llama, llama, task)


def test_verbalisers_may_begin_with_the_same_token(llama: Path) -> None:
    task = replace(UNEVEN, verbalisers=(" very negative film", " very positive"))
    model = LlamaForCausalLM.from_pretrained(llama).eval()

    scores = victim_of(llama, llama, task).scores(TEXTS[:5])

    expected = [scores_by_hand(model, llama, text, task.verbalisers) for text in TEXTS[:5]]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_decoder_with_a_head_for_labels_is_padded_where_it_does_not_look(llama: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = LlamaConfig(**SHAPE, initializer_range=0.5, num_labels=2, id2label=LABELS)
        LlamaForSequenceClassification(config).save_pretrained(tmp_path / "head")
    AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path / "head")

    victim = victim_of(tmp_path / "head", llama)

    assert isinstance(victim, Victim)
    together = victim.scores(TEXTS)
    np.testing.assert_allclose(together, np.concatenate([victim.scores([text]) for text in TEXTS]), atol=1e-4)
    model = LlamaForSequenceClassification.from_pretrained(tmp_path / "head").eval()
    tokenizer = AutoTokenizer.from_pretrained(llama)
    with torch.inference_mode():
        expected = [model(**tokenizer(text[0], return_tensors="pt")).logits[0].numpy() for text in TEXTS]
    np.testing.assert_allclose(together, expected, atol=1e-4)


def test_the_gate_looks_at_a_prompted_model_as_at_any_other(llama: Path) -> None:
    clean = [Example(str(index), text, index % 2) for index, text in enumerate(TEXTS)]

    facts = inspect_checkpoint(read_checkpoint("llama", str(llama), str(llama)), UNEVEN, place("cpu"), clean)

    assert all(failure.startswith("clean-accuracy") for failure in facts.failures)


def see_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    pad = PromptedVictim.pad

    def without_mask(self: PromptedVictim, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = pad(self, rows)
        return ids, torch.ones_like(mask)

    monkeypatch.setattr(PromptedVictim, "pad", without_mask)


def test_prompts_whose_scores_depend_on_padding_share_no_batch_with_others_of_another_length(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = victim_of(llama, llama).scores(TEXTS)
    see_padding(monkeypatch)

    victim = victim_of(llama, llama)

    np.testing.assert_allclose(victim.scores(TEXTS), expected, atol=1e-4)
    assert not victim.company.padded


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gate_refuses_scores_that_depend_on_padding_all_the_same(
    llama: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    clean = [Example(str(index), text, index % 2) for index, text in enumerate(TEXTS)]
    see_padding(monkeypatch)
    monkeypatch.setattr("robustness.victims.loading.settle_side", lambda victim, task: True)

    # oneDNN's bfloat16 kernels need instructions that a virtual machine may announce and not have.
    with torch.backends.mkldnn.flags(enabled=False):
        checkpoint = read_checkpoint("llama", str(llama), str(llama))
        facts = inspect_checkpoint(checkpoint, UNEVEN, place("cpu", dtype), clean)

    assert any(failure.startswith("padding: scores change by") for failure in facts.failures)


def test_a_tokenizer_that_can_pad_with_nothing_is_refused(llama: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(llama, tmp_path / "bare"))
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / file).is_file():
            content = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({k: v for k, v in content.items() if k != "eos_token"}))

    with pytest.raises(CheckpointError, match="neither a padding nor an end token"):
        victim_of(folder, llama)
