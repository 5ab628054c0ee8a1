"""Every adapter of the installed peft, saved by peft and loaded by peft and by this package: both answer alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel, PeftType, TaskType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError
from robustness.tuners.prefixes import name_cache
from robustness.tuners.registration import FORM_TYPES, MPC_TYPES
from robustness.victims.files.adapters import UNSERVED
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.files.identity import identify_method
from robustness.victims.heads.kinds import HeadKind
from robustness.victims.loading import as_victim, load_checkpoint, place, to_untuned_victim, to_victim

SST2 = find_task("sst2")
LABELS = {0: "negative", 1: "positive"}
WORDS = ["[PAD]", "[UNK]", "good", "bad", "fine", "dull", "the", "film", "is", "a", ".", "Review", "Sentiment", ":"]
WORDS += ["negative", "positive"]
TEXTS = [("good film",), ("the film is bad .",), ("a",), ("fine fine dull the film is a good film .",)]

SETTINGS: dict[str, dict[str, Any]] = {
    "ADALORA": {"init_r": 3, "target_r": 2, "total_step": 100},
    "ADAMSS": {"r": 8, "num_subspaces": 2},
    "ADAPTION_PROMPT": {"adapter_len": 3, "adapter_layers": 1},
    "BEFT": {},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 8},
    "CARTRIDGE": {"num_virtual_tokens": 3},
    "CPT": {"cpt_token_ids": [2, 3, 4], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 3]},
    "DEFT": {"r": 4},
    "DELORA": {"r": 4},
    "FOURIERFT": {"n_frequency": 20},
    "FROD": {"progressbar": False},
    "GLORA": {"r": 4},
    "GRALORA": {"r": 4},
    "HIRA": {"r": 4},
    "HRA": {"r": 4},
    "IA3": {"feedforward_modules": []},
    "LN_TUNING": {},
    "LOHA": {"r": 4},
    "LOKR": {"r": 4},
    "LORA": {"r": 4},
    "MISS": {"r": 4},
    "OFT": {"oft_block_size": 4},
    "OSF": {"effective_rank": 4},
    "PEANUT": {"r": 4},
    "PREFIX_TUNING": {"num_virtual_tokens": 3},
    "PROMPT_TUNING": {"num_virtual_tokens": 3},
    "PSOFT": {"r": 4},
    "PVERA": {"r": 4},
    "P_TUNING": {"num_virtual_tokens": 3, "encoder_hidden_size": 8},
    "RANDLORA": {"r": 4},
    "ROAD": {"group_size": 8},
    "SHADOW": {},
    "SHIRA": {"r": 2},
    "SUPERTUNING": {"sparsity": 0.9},
    "TINYLORA": {"u": 4},
    "TRAINABLE_TOKENS": {"token_indices": [2, 3]},
    "UNILORA": {"theta_d_length": 16},
    "VBLORA": {"num_vectors": 8, "vector_length": 8},
    "VERA": {"r": 4},
    "WAVEFT": {"n_frequency": 20},
}
"""Of every type that is served: what a tiny model needs beside the modules that are adapted."""

PROMPTS = ("CARTRIDGE", "CPT", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING")
DECODERS_ALONE = ("ADAPTION_PROMPT", "CPT")
"""Types that peft puts on causal language models alone."""
WITHOUT_HEAD = ("ADAPTION_PROMPT", "TRAINABLE_TOKENS")
"""Types that save no head: what answers is the base's own."""
APART = (*PROMPTS, "ADAPTION_PROMPT", "SHADOW")
"""Types that are no weights of the base."""
NOT_MERGED = ("BEFT-decoder", "BEFT-prompted", "LORA-layers-twice", "LORA-from-a-token-on")
"""No bias to change, one weight in two layers, an update of some tokens alone."""
BIASED = [name for name in SETTINGS if "bias" in PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name)].__dataclass_fields__]
SAVING = [
    name
    for name in SETTINGS
    if "modules_to_save" in PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name)].__dataclass_fields__ and name not in PROMPTS
]


OPTIONS: dict[str, dict[str, Any]] = {
    "LORA-patterns": {"rank_pattern": {"query": 2}, "alpha_pattern": {"value": 32}},
    "LORA-scale-by-root": {"use_rslora": True},
    "LORA-magnitudes": {"use_dora": True},
    "LORA-biases-of-its-own": {"lora_bias": True},
    "LORA-one-layer": {"layers_to_transform": [1], "layers_pattern": "layer"},
    "LORA-all-but-a-layer": {"exclude_modules": r".*layer\.0\..*"},
    "LORA-all-linear": {"target_modules": "all-linear"},
    "LORA-pooler-saved": {"modules_to_save": ["classifier", "pooler"]},
    "LORA-tokens": {"trainable_token_indices": [2, 3]},
    "LORA-embeddings": {"target_modules": ["word_embeddings", "query"]},
    "LORA-a-parameter": {"target_modules": [], "target_parameters": ["query.weight"]},
    "LORA-pissa": {"init_lora_weights": "pissa"},
    "ADAMSS-dynamic": {"use_dynamic_rank": True},
    "LOKR-patterns": {"rank_pattern": {"query": 2}, "decompose_both": True, "decompose_factor": 4},
    "PVERA-drawn-again": {"save_projection": False},
    "RANDLORA-drawn-again": {"save_projection": False},
    "TINYLORA-tied": {"save_projection": False, "weight_tying": 1.0},
    "UNILORA-places-saved": {"save_indices": True},
    "VERA-drawn-again": {"save_projection": False},
}
"""What a config may say beyond the method."""


@dataclass(frozen=True, slots=True)
class Bases:
    """Folders of tiny bases: encoder and decoder, with and without a head for labels."""

    folder: Path

    def path(self, kind: str, *, head: bool) -> Path:
        return self.folder / (f"{kind}-head" if head else kind)


@dataclass(frozen=True, slots=True)
class Case:
    """One adapter: its method, its base and what its config says."""

    type: str
    base: str = "bert"
    task_type: str | None = "SEQ_CLS"
    head: bool = False
    """Whether the base's own files hold a head."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def prompted(self) -> bool:
        return self.task_type == "CAUSAL_LM"

    def config(self) -> Any:
        made = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(self.type)]
        known = made.__dataclass_fields__
        modules = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"]}[self.base]
        if self.type == "LN_TUNING":
            modules = {"bert": ["LayerNorm"], "llama": ["input_layernorm"]}[self.base]
        if self.type == "SHADOW":
            modules = {"bert": r".*layer\.\d+$", "llama": r".*layers\.\d+$"}[self.base]
        given = {"task_type": self.task_type, "target_modules": modules} | SETTINGS[self.type] | self.options
        if self.type in ("ADAPTION_PROMPT", "TRAINABLE_TOKENS"):
            del given["target_modules"]
        return made(**{name: value for name, value in given.items() if name in known})


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    folder = tmp_path_factory.mktemp("sweep")
    sizes = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0}
    bert = BertConfig(**sizes, initializer_range=0.3, id2label=LABELS)
    llama = LlamaConfig(**sizes, initializer_range=0.3, bos_token_id=2, eos_token_id=3, id2label=LABELS)
    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, made in {
            "bert": BertModel(bert),
            "llama": LlamaForCausalLM(llama),
            "bert-head": BertForSequenceClassification(bert),
            "llama-head": LlamaForSequenceClassification(llama),
        }.items():
            made.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)
            if not name.endswith("head"):
                edit_labels(folder / name / "config.json", {})
    return Bases(folder)


def edit_labels(file: Path, labels: dict[str, Any]) -> None:
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in ("id2label", "label2id")} | labels))


@pytest.fixture
def plain(bases: Bases) -> Callable[[Case], Any]:
    """The model as a user of transformers loads it before peft comes; a head that is in no file is drawn."""

    def load(case: Case) -> Any:
        folder = bases.path(case.base, head=case.head)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            if case.prompted:
                return AutoModelForCausalLM.from_pretrained(folder)
            return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)

    return load


@pytest.fixture
def saved(plain: Callable[[Case], Any], tmp_path: Path) -> Callable[[Case], tuple[Path, Any]]:
    """Puts an adapter of random weights on the model and saves it as peft does; labels are beside it."""

    def save(case: Case) -> tuple[Path, Any]:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            model = get_peft_model(plain(case), case.config())
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / "adapter")
        (tmp_path / "adapter" / "config.json").write_text(json.dumps({"id2label": LABELS}))
        return tmp_path / "adapter", model

    return save


@torch.no_grad()
def answers_of_peft(model: Any, tokenizer: Any, *, prompted: bool) -> np.ndarray:
    """Text by text, without padding: logits, or the mean log-probabilities of the verbalisers."""
    name_cache(model)  # peft's own prefixes do not run on transformers 5.24
    rows = []
    for (text,) in TEXTS:
        if not prompted:
            rows.append(model(**tokenizer(text, return_tensors="pt")).logits[0])
            continue
        prompt = tokenizer(SST2.template.format(sentence=text))["input_ids"]
        row = []
        for verbaliser in SST2.verbalisers:
            said = tokenizer(verbaliser)["input_ids"]
            logits = model(input_ids=torch.tensor([prompt + said])).logits[0]
            steps = logits[-len(said) - 1 : -1].log_softmax(dim=-1)
            row.append(steps.gather(1, torch.tensor(said)[:, None]).mean())
        rows.append(torch.stack(row))
    return torch.stack(rows).numpy()


def variants() -> Iterator[tuple[str, Case]]:
    for name in SETTINGS:
        if name not in DECODERS_ALONE:
            yield f"{name}-labels", Case(name, head=name in WITHOUT_HEAD)
        yield f"{name}-prompted", Case(name, "llama", "CAUSAL_LM")
    for name in (*APART, "BEFT", "LORA", "TRAINABLE_TOKENS"):
        if name != "CPT":
            yield f"{name}-decoder", Case(name, "llama", head=name in WITHOUT_HEAD)
    for name in BIASED:
        for bias in ("all", f"{name.lower()}_only"):
            yield f"{name}-bias-{bias}", Case(name, options={"bias": bias})
    for name in SAVING:
        yield f"{name}-no-task-type", Case(name, task_type=None, options={"modules_to_save": ["classifier"]})
    for task_type in ("FEATURE_EXTRACTION", "TOKEN_CLS"):
        yield f"LORA-{task_type}", Case("LORA", task_type=task_type, options={"modules_to_save": ["classifier"]})
    yield "LORA-head-of-the-base", Case("LORA", task_type=None, head=True)
    for name, options in OPTIONS.items():
        yield name, Case(name.partition("-")[0], options=options)
    yield "LORA-layers-twice", Case("LORA", "llama", options={"layer_replication": [[0, 2], [1, 2]]})
    yield "LORA-from-a-token-on", Case("LORA", "llama", "CAUSAL_LM", options={"alora_invocation_tokens": [11]})
    yield "LORA-tokens-prompted", Case("LORA", "llama", "CAUSAL_LM", options={"trainable_token_indices": [2, 3]})


VARIANTS = dict(variants())


def test_the_sweep_has_every_type_of_the_installed_peft() -> None:
    known = {each.value for each in PeftType} - {*FORM_TYPES, *MPC_TYPES}

    assert known == {*SETTINGS, *UNSERVED}
    assert set(UNSERVED) == {"LILY", "MULTITASK_PROMPT_TUNING", "POLY", "XLORA"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_adapter_answers_as_in_plain_peft(bases: Bases, plain: Callable, saved: Callable, variant: str) -> None:
    case = VARIANTS[variant]
    folder, trained = saved(case)
    base = bases.path(case.base, head=case.head)
    tokenizer = AutoTokenizer.from_pretrained(base)
    expected = answers_of_peft(
        PeftModel.from_pretrained(plain(case), folder).eval(), tokenizer, prompted=case.prompted
    )

    checkpoint = read_checkpoint("adapter", str(folder), str(base))
    loaded = load_checkpoint(checkpoint, SST2)
    unmerged = as_victim(loaded, loaded.unmerged, place("cpu")).scores(TEXTS)
    victim = to_victim(loaded, place("cpu"))

    assert (loaded.uninitialised, loaded.kind is HeadKind.VERBALISERS) == ((), case.prompted)
    np.testing.assert_allclose(unmerged, expected, atol=1e-5)
    np.testing.assert_allclose(victim.scores(TEXTS), expected, atol=1e-3)
    apart = case.type in APART or variant in NOT_MERGED
    assert isinstance(victim.model, PeftModel) is apart
    if not apart:
        assert victim.model.state_dict().keys() == plain(case).state_dict().keys()
    if case.type not in ("P_TUNING", "CARTRIDGE"):  # whose files have what was made of the trained, and frozen tokens
        counted = identify_method(checkpoint, "sst2", "base").trainable_parameters
        assert counted == trained.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("name", ["BEFT", "IA3", "LN_TUNING", "LORA", "OSF", "TRAINABLE_TOKENS", "VERA"])
def test_the_untuned_base_has_the_files_weights_and_the_trained_head(
    bases: Bases, saved: Callable, name: str
) -> None:
    case = Case(name, head=name in WITHOUT_HEAD)
    folder, _ = saved(case)
    base = bases.path(case.base, head=case.head)
    checkpoint = read_checkpoint("adapter", str(folder), str(base))

    untuned = to_untuned_victim(load_checkpoint(checkpoint, SST2), place("cpu"))

    head = to_victim(load_checkpoint(checkpoint, SST2), place("cpu")).model.classifier
    assert untuned is not None
    weights = untuned.model.state_dict()
    for key, tensor in load_file(base / "model.safetensors").items():
        assert torch.equal(weights[key if case.head else f"bert.{key}"], tensor)
    assert torch.equal(untuned.model.classifier.weight, head.weight)


@pytest.mark.parametrize("name", UNSERVED)
def test_what_cannot_be_served_is_refused_with_its_reason(bases: Bases, saved: Callable, name: str) -> None:
    folder, _ = saved(Case("LORA"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"peft_type": name}))
    checkpoint = read_checkpoint("adapter", str(folder), str(bases.path("bert", head=False)))

    with pytest.raises(CheckpointError, match=f"{name} adapters are not served: {UNSERVED[name][:20]}"):
        load_checkpoint(checkpoint, SST2)


@pytest.mark.parametrize("task_type", [each.value for each in TaskType if each.value != "SEQ_CLS"])
@pytest.mark.parametrize("name", ["LORA", "PREFIX_TUNING", "PROMPT_TUNING"])
def test_another_task_type_is_served_as_by_peft_or_named(
    bases: Bases, plain: Callable, saved: Callable, name: str, task_type: str
) -> None:
    folder, _ = saved(Case(name))
    config = json.loads((folder / "adapter_config.json").read_text())
    changed = {"task_type": task_type, "modules_to_save": ["classifier"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | changed))
    base = bases.path("bert", head=False)
    checkpoint = read_checkpoint("adapter", str(folder), str(base))
    try:
        expected = answers_of_peft(
            PeftModel.from_pretrained(plain(Case(name)), folder).eval(),
            AutoTokenizer.from_pretrained(base),
            prompted=False,
        )
    except Exception:  # of many kinds: peft's wrappers hand on what this model does not take
        with pytest.raises(
            CheckpointError, match=f"its task_type is {task_type}: set it to SEQ_CLS in .*adapter_con"
        ):
            load_checkpoint(checkpoint, SST2)
    else:
        victim = to_victim(load_checkpoint(checkpoint, SST2), place("cpu"))
        np.testing.assert_allclose(victim.scores(TEXTS), expected, atol=1e-3)
