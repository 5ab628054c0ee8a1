from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

from robustness.definitions.tasks import find_task
from robustness.sensitivity.parameter.reachability import (
    CLEAN,
    MARGIN,
    Reachability,
    clean_gradients,
    find_tangents,
    reached_share,
)
from robustness.sensitivity.parameter.tangent import Everything, LowRank, Tangent, low_rank, read_tangent, scaling
from robustness.sensitivity.parameter.weights import WeightSpace, block_parameters, squared_norm
from robustness.sensitivity.probe import Unsupported
from robustness.tuners.matrices import Axes, Storage, weight_storages
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.embedded_batch import margins
from robustness.victims.loading import load_checkpoint, place, to_victim

RANK, ROWS, COLUMNS = 3, 9, 7
OUT_IN, IN_OUT = Storage(Axes.OUT_IN), Storage(Axes.IN_OUT)


def factors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(RANK, COLUMNS))), torch.from_numpy(rng.normal(size=(ROWS, RANK)))


def brute_force(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The matrix of (dB, dA) -> dB A + B dA, one column a parameter."""
    columns = []
    for i in range(ROWS):
        for j in range(RANK):
            change = torch.zeros_like(b)
            change[i, j] = 1
            columns.append((change @ a).flatten())
    for i in range(RANK):
        for j in range(COLUMNS):
            change = torch.zeros_like(a)
            change[i, j] = 1
            columns.append((b @ change).flatten())
    return torch.stack(columns, dim=1)


def part_of(a: torch.Tensor, b: torch.Tensor) -> LowRank:
    return low_rank("w", a, b, torch.zeros(ROWS, COLUMNS, dtype=torch.float64), OUT_IN)


def test_the_projection_and_its_dimension_are_those_of_brute_force() -> None:
    a, b = factors()
    map_ = brute_force(a, b)
    gradient = torch.from_numpy(np.random.default_rng(1).normal(size=(ROWS, COLUMNS)))

    (ours,) = part_of(a, b).project([gradient])

    theirs = map_ @ torch.linalg.lstsq(map_, gradient.flatten(), driver="gelsd").solution
    assert torch.allclose(ours.flatten(), theirs, atol=1e-12)
    assert part_of(a, b).dimension == int(torch.linalg.matrix_rank(map_)) == RANK * (ROWS + COLUMNS - RANK)


def test_another_basis_of_the_factors_changes_nothing() -> None:
    a, b = factors()
    basis = torch.from_numpy(np.random.default_rng(2).normal(size=(RANK, RANK)))
    gradient = torch.from_numpy(np.random.default_rng(1).normal(size=(ROWS, COLUMNS)))

    (first,) = part_of(a, b).project([gradient])
    (second,) = part_of(basis @ a, b @ torch.linalg.inv(basis)).project([gradient])

    assert torch.allclose(first, second, atol=1e-10)


def test_before_training_only_b_moves_the_product() -> None:
    a, b = factors()
    part = part_of(a, torch.zeros_like(b))

    assert part.dimension == RANK * ROWS
    (projected,) = part.project([torch.ones(ROWS, COLUMNS, dtype=torch.float64)])
    assert int(torch.linalg.matrix_rank(torch.cat([projected, a]))) == RANK


def test_a_random_gradients_share_is_the_chance_level() -> None:
    a, b = factors()
    ambient = {"w": torch.zeros(ROWS, COLUMNS), "untouched": torch.zeros(11, 5)}
    tangent = Tangent([part_of(a, b)], ambient)
    rng = np.random.default_rng(3)
    shares = [
        reached_share(
            {name: torch.from_numpy(rng.normal(size=value.shape)) for name, value in ambient.items()}, tangent
        )
        for _ in range(2000)
    ]

    expected = RANK * (ROWS + COLUMNS - RANK) / (ROWS * COLUMNS + 55)
    assert tangent.chance == expected
    assert abs(np.mean(shares) - expected) < 5 * np.std(shares) / np.sqrt(len(shares))


def test_the_chance_by_energy_is_the_mean_share_of_gradients_random_within_each_tensor() -> None:
    """A factor's directions where gradients are large; a bias trained in full; what no part moves."""
    a, b = factors()
    sizes = {"w": 4.0, "bias": 0.5, "elsewhere": 2.0}
    ambient = {"w": torch.zeros(ROWS, COLUMNS), "bias": torch.zeros(5), "elsewhere": torch.zeros(5, 11)}
    tangent = Tangent([part_of(a, b), Everything(("bias",), 5)], ambient)
    rng = np.random.default_rng(3)
    gradients = []
    for _ in range(2000):
        drawn = {name: torch.from_numpy(rng.normal(size=value.shape)) for name, value in ambient.items()}
        gradients.append({name: sizes[name] * value / value.norm() for name, value in drawn.items()})

    shares = [reached_share(gradient, tangent) for gradient in gradients]

    expected = (16 * RANK * (ROWS + COLUMNS - RANK) / (ROWS * COLUMNS) + 0.25) / (16 + 0.25 + 4)
    assert tangent.chance_by_energy(gradients[0]) == pytest.approx(expected)
    assert abs(np.mean(shares) - expected) < 5 * np.std(shares) / np.sqrt(len(shares))
    assert expected > 1.4 * tangent.chance


@pytest.mark.parametrize("classes", [2, 3])
def test_the_margins_gradient_is_apart_from_the_losss_only_where_it_is_no_multiple(
    classes: int, as_batch: Any
) -> None:
    generator = torch.Generator().manual_seed(1)
    w = torch.nn.Parameter(torch.randn(ROWS, classes, generator=generator, dtype=torch.float64))
    batch = as_batch(lambda points: points.flatten(1) @ w, torch.randn(1, 1, ROWS, generator=generator).double())
    logits = batch.logits(batch.embeddings)
    loss, margin = torch.nn.functional.cross_entropy(logits, batch.labels), margins(logits, batch.labels).sum()
    expected = [torch.autograd.grad(each, w, retain_graph=True)[0] for each in (loss, margin)]

    found = {}
    with WeightSpace({"w": w}) as weights:
        for factors_ in clean_gradients(batch, weights):
            found |= {quantity: factor * weights.slope["w"] for quantity, factor in factors_.items()}

    assert torch.allclose(found[CLEAN], expected[0])
    assert (MARGIN in found) == (classes == 3)
    assert classes == 2 or torch.allclose(found[MARGIN], expected[1])


@pytest.mark.parametrize("storage", [OUT_IN, IN_OUT])
@pytest.mark.parametrize("of_inputs", [False, True])
def test_scaling_moves_each_input_or_output_along_itself(of_inputs: bool, storage: Storage) -> None:
    rng = np.random.default_rng(4)
    weight, bias = torch.from_numpy(rng.normal(size=(ROWS, ROWS))), torch.from_numpy(rng.normal(size=ROWS))
    values = [weight] if of_inputs else [weight, bias]
    names = ("w", "b")[: len(values)]
    count = ROWS
    by_column = of_inputs == (storage is OUT_IN)  # of the square weight as it is stored
    directions = []
    for index in range(count):
        scale = torch.zeros(count, dtype=torch.float64)
        scale[index] = 1
        moved = weight * scale if by_column else weight * scale[:, None]
        directions.append(torch.cat([moved.flatten(), *([] if of_inputs else [bias * scale])]))
    map_ = torch.stack(directions, dim=1)
    gradient = [torch.from_numpy(rng.normal(size=value.shape)) for value in values]

    part = scaling(names, values, storage, of_inputs=of_inputs)

    flat = torch.cat([each.flatten() for each in gradient])
    theirs = map_ @ torch.linalg.lstsq(map_, flat).solution
    assert torch.allclose(torch.cat([each.flatten() for each in part.project(gradient)]), theirs, atol=1e-12)
    assert part.dimension == count


def save(tiny: Any, folder: Path, config: Any) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = BertForSequenceClassification.from_pretrained(
            tiny.base, id2label={0: "negative", 1: "positive"}, num_labels=2
        )
        adapted = get_peft_model(model, config).eval()
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    adapted.save_pretrained(folder)
    shutil.copy(tiny.peft / "config.json", folder / "config.json")
    return folder


CONFIGS = {
    "lora": LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "dense"]),
    "dora": LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], use_dora=True),
    "ia3": IA3Config(
        task_type="SEQ_CLS", target_modules=["key", "intermediate.dense"], feedforward_modules=["intermediate.dense"]
    ),
}


def load(tiny: Any, folder: Path) -> Any:
    return load_checkpoint(read_checkpoint(folder.name, str(folder), str(tiny.base)), find_task("sst2"))


@pytest.mark.parametrize("method", CONFIGS)
def test_a_small_step_of_the_adapter_moves_the_merged_weights_within_its_tangent_space(
    method: str, tiny: Any, tmp_path: Path
) -> None:
    """The reference is the library's own merge, before and after a step of the stored adapter."""
    folder = save(tiny, tmp_path / method, CONFIGS[method])
    step = 1e-2
    stepped = Path(shutil.copytree(folder, tmp_path / "stepped"))
    tensors = load_file(folder / "adapter_model.safetensors")
    rng = torch.Generator().manual_seed(0)
    moved = {
        name: value + step * torch.randn(value.shape, generator=rng) * ("classifier" not in name)
        for name, value in tensors.items()
    }
    save_file(moved, stepped / "adapter_model.safetensors", metadata={"format": "pt"})
    merged = to_victim(load(tiny, folder), place("cpu")).model
    before = {k: v.detach() for k, v in block_parameters(merged).items()}
    after = {k: v.detach() for k, v in block_parameters(to_victim(load(tiny, stepped), place("cpu")).model).items()}
    checkpoint = read_checkpoint(method, str(folder), str(tiny.base))
    tangent = read_tangent(checkpoint, before, weight_storages(merged), lambda _: load(tiny, folder).unmerged)

    change = {name: after[name] - before[name] for name in before}

    assert any(value.any() for value in change.values())
    # What lies outside is of second order in the step for a product, and nothing for a scaling.
    assert reached_share(change, tangent) > (1 - 1e-6 if method == "ia3" else 1 - 20 * step**2)
    assert tangent.chance < 0.9


def test_merged_and_unmerged_gradients_agree_through_the_tangent_space(tiny: Any, examples: Any) -> None:
    """The gradient of the unmerged adapter follows from the merged one: dL/dB = s G A^T."""
    loaded = load(tiny, tiny.peft)
    model = loaded.unmerged
    inputs = loaded.tokenizer(examples[0].texts[0], return_tensors="pt")
    label = torch.tensor([examples[0].label])
    name, b = next((n, p) for n, p in model.named_parameters() if "query.lora_B" in n)
    b.requires_grad_(True)
    (unmerged,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(**inputs).logits, label), b)
    a = dict(model.named_parameters())[name.replace("lora_B", "lora_A")].detach().clone()

    victim = to_victim(loaded, place("cpu"))
    parameters = block_parameters(victim.model)
    batch = victim.embed(examples[:1])
    with WeightSpace(parameters) as weights:
        ((_, factor),) = (pair for factors_ in clean_gradients(batch, weights) for pair in factors_.items())
        weight = name.removeprefix("base_model.model.").split(".lora_B")[0] + ".weight"
        gradient = factor * weights.slope[weight]

    scale = 8 / 4  # lora_alpha / r of the tiny adapter
    assert torch.allclose(unmerged, scale * gradient @ a.mT, rtol=1e-3, atol=1e-5)


def test_reachability_is_measured_at_both_arms_with_the_adapters_directions(
    tiny: Any, subject_of: Any, by_example: Any
) -> None:
    peft = subject_of(tiny.peft, count=4)
    full = replace(subject_of(tiny.full, count=4), partners=[peft.checkpoint])

    for subject in (peft, full):
        readings = list(Reachability(attack_steps=20).measure(subject))
        clean = by_example(readings, "reach-clean")
        whole = {r.measurement.quantity.name: r.measurement for r in readings if r.example is None}
        assert len(clean) == 4 and all(0 < value < 1 for value in clean.values())
        assert not by_example(readings, "reach-margin")  # of two labels, the same direction
        assert {r.measurement.scope for r in readings} == {f"tangent of {peft.checkpoint.name}"}
        assert 0 < whole["reach-chance"].value < 0.5
        assert "reach-adversarial-of-mean-loss" in whole
        shares, chances, enriched = (
            by_example(readings, name)
            for name in (
                "reach-adversarial",
                "reach-chance-by-energy-adversarial",
                "enrichment-adversarial-by-energy",
            )
        )
        assert shares.keys() == chances.keys() == enriched.keys() != set()
        assert enriched == pytest.approx({key: share / chances[key] for key, share in shares.items()})


def test_a_full_checkpoint_has_its_partners_directions_as_they_are_at_the_partner(
    tiny: Any, subject_of: Any, tmp_path: Path
) -> None:
    """Rows of the base's weights, which (IA)3 scales, and not those of the full checkpoint's."""
    peft = subject_of(save(tiny, tmp_path / "ia3", CONFIGS["ia3"]))
    full = replace(subject_of(tiny.full), partners=[peft.checkpoint])
    gradient = {
        name: torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
        for name, value in block_parameters(full.victim.model).items()
    }

    ((_, own),) = find_tangents(peft, block_parameters(peft.victim.model))
    ((_, partners),) = find_tangents(full, block_parameters(full.victim.model))

    found, expected = ({name: value.clone() for name, value in gradient.items()} for _ in range(2))
    partners.project(found)
    own.project(expected)
    assert any(value.any() for value in expected.values())
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_the_victim_is_left_as_it_was(tiny: Any, victims: Any, subject_of: Any) -> None:
    victim = victims(tiny.peft)
    before = {name: (value.clone(), value.requires_grad) for name, value in victim.model.named_parameters()}

    list(Reachability(attack_steps=5).measure(subject_of(tiny.peft, count=2)))

    for name, value in victim.model.named_parameters():
        assert torch.equal(value, before[name][0]) and value.requires_grad == before[name][1]


def test_methods_that_change_no_weights_are_unsupported(
    tiny: Any, tmp_path: Path, subject_of: Any, victims: Any
) -> None:
    config = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = BertForSequenceClassification.from_pretrained(
            tiny.base, id2label={0: "negative", 1: "positive"}, num_labels=2
        )
        get_peft_model(model, config).save_pretrained(tmp_path / "prefix")
    checkpoint = read_checkpoint("prefix", str(tmp_path / "prefix"), str(tiny.base))

    with pytest.raises(Unsupported, match="does not change the base's weights"):
        model = victims(tiny.full).model
        read_tangent(
            checkpoint,
            block_parameters(model),
            weight_storages(model),
            lambda each: load_checkpoint(each, find_task("sst2")).unmerged,
        )
    with pytest.raises(Unsupported, match="without an adapter as partner"):
        find_tangents(subject_of(tiny.full), block_parameters(victims(tiny.full).model))


def test_the_square_of_a_projection_needs_no_projection() -> None:
    rng = torch.Generator().manual_seed(1)
    a, b, weight, gradient = (torch.randn(*shape, generator=rng) for shape in ((3, 9), (7, 3), (7, 9), (7, 9)))
    tangent = Tangent([low_rank("w", a, b, weight, OUT_IN)], {"w": weight})

    projected = {"w": gradient.clone()}
    tangent.project(projected)

    assert tangent.projected_square({"w": gradient}) == pytest.approx(squared_norm(projected), rel=1e-5)
