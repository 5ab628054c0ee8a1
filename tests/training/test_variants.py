from __future__ import annotations

import json
from pathlib import Path

import pytest

from robustness.errors import DefinitionError
from robustness.training.methods import find_method
from robustness.training.methods.variants import find_variant, name_variant, vary
from robustness.training.protocol import TrainingSettings
from robustness.training.training import train

SETTINGS = TrainingSettings(epochs=1, batch_size=8, max_tokens=16, dev_limit=40, grid="one")


def test_a_variant_changes_the_named_values_alone() -> None:
    method = find_method("lora")

    varied = vary(method, {"rank": 4, "target_modules": ["query", "value"]}, "study.toml")

    assert varied.name == "lora-r4-target-modules-query+value"
    assert method.definition.adapter is not None and varied.definition.adapter is not None
    before, after = method.definition.adapter.model_dump(), varied.definition.adapter.model_dump()
    assert {key: after[key] for key in after if after[key] != before[key]} == {
        "rank": 4,
        "target_modules": ("query", "value"),
    }
    assert varied.digest != method.digest


def test_names_say_the_rank_shortly_and_other_keys_in_full() -> None:
    assert name_variant("adalora", {"initial_rank": 12, "dropout": 0.1}) == "adalora-initial-rank-12-dropout-0.1"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("lora:rnk=4", "--method lora:rnk=4: unknown key 'rnk'; did you mean 'rank'?"),
        ("lora:rank=0", "--method lora:rank=0: key 'rank': expected more than 0; got 0"),
        ("lora:rank", "--method lora:rank: expected NAME:KEY=VALUE, such as lora:rank=8"),
        ("lora:rank=4,rank=8", "--method lora:rank=4,rank=8: key 'rank' is given twice"),
        ("full:rank=4", "'full' has no adapter, so it has no parameter 'rank'"),
        ("lora:peft_type=dora", "key 'peft_type' is what makes the method 'lora'"),
        ("lara:rank=4", "unknown method 'lara'; did you mean 'lora'?"),
    ],
)
def test_a_wrong_variant_is_refused_by_its_key(reference: str, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        find_variant(reference)

    assert said in str(caught.value)


def test_a_variant_is_trained_under_its_name(tiny_base: Path, data: Path, testset: str, tmp_path: Path) -> None:
    methods = ["full", "lora:rank=2"]

    train(testset, base=str(tiny_base), methods=methods, seeds=[0], out=tmp_path, data=data, settings=SETTINGS)

    config = json.loads((tmp_path / "tiny-lora-r2-seed0" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 16)
