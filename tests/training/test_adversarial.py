from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from robustness.errors import CheckpointError
from robustness.training.adversarial import FreeLbTrainer, ascend, draw_start
from robustness.training.defences import FreeLb
from robustness.training.trainer import MIXED_PRECISION

SETTINGS = FreeLb(steps=3, step_size=0.3, radius=0.5, initial=0.4)
STEPS, BATCH, RATE = 4, 4, 0.2


def _bert(dropout: float = 0.0) -> BertForSequenceClassification:
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = BertConfig(vocab_size=60, max_position_embeddings=12, num_labels=2, **sizes, **dropouts)
    return BertForSequenceClassification(config).double()


def _rows(count: int = STEPS * BATCH) -> list[dict[str, torch.Tensor]]:
    """Rows of three to eight tokens, padded to eight."""
    draw = torch.Generator().manual_seed(1)
    rows = []
    for index in range(count):
        real = 3 + index % 6
        ids = torch.randint(1, 60, (8,), generator=draw)
        ids[real:] = 0
        mask = (torch.arange(8) < real).long()
        rows.append({"input_ids": ids, "attention_mask": mask, "labels": torch.tensor(index % 2)})
    return rows


class _Seeding(TrainerCallback):
    """Dropout's draws begin anew at each step, so that the paper's algorithm can repeat them."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        torch.manual_seed(state.global_step)


def _train(
    model: Any, folder: Path, make: type[Trainer], rows: list[dict[str, torch.Tensor]], **given: Any
) -> list[float]:
    """Trains by gradient descent in the order of the rows; returns the losses of the steps."""

    class InOrder(make):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(rows)

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=given.pop("batch", BATCH),
        gradient_accumulation_steps=given.pop("parts", 1),
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=given.pop("bf16", False),
        seed=3,
    )
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    optimizers = optimizer, schedule
    trainer = InOrder(
        model=model, args=arguments, train_dataset=rows, optimizers=optimizers, callbacks=[_Seeding()], **given
    )
    trainer.model_accepts_loss_kwargs = False
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _train_by_the_paper(model: Any, rows: list[dict[str, torch.Tensor]], settings: FreeLb) -> list[float]:
    """Algorithm 1 of arXiv 1909.11764 written from the paper, for BERT, by `inputs_embeds`."""
    draw = torch.Generator().manual_seed(3)
    model.train()
    losses = []
    for start in range(0, len(rows), BATCH):
        batch = {name: torch.stack([row[name] for row in rows[start : start + BATCH]]) for name in rows[0]}
        real = batch["attention_mask"][:, :, None].double()
        delta = 2 * torch.rand(BATCH, 8, 16, generator=draw).double() - 1
        for row in range(BATCH):
            delta[row] *= settings.initial / math.sqrt(16 * int(batch["attention_mask"][row].sum()))
        delta *= real
        summed = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        mean_loss = 0.0
        for _ in range(settings.steps):
            torch.manual_seed(start // BATCH)  # one dropout mask for all passes
            delta = delta.detach().requires_grad_()
            embeddings = model.get_input_embeddings()(batch["input_ids"]) + delta
            loss = model(
                inputs_embeds=embeddings, attention_mask=batch["attention_mask"], labels=batch["labels"]
            ).loss
            model.zero_grad()
            loss.backward()
            for name, p in model.named_parameters():
                if p.grad is not None:
                    summed[name] += p.grad / settings.steps
            mean_loss += float(loss.detach()) / settings.steps
            gradient = delta.grad * real
            delta = delta.detach()
            for row in range(BATCH):
                delta[row] += settings.step_size * gradient[row] / gradient[row].norm()
                if delta[row].norm() > settings.radius:
                    delta[row] *= settings.radius / delta[row].norm()
        losses.append(mean_loss)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p -= RATE * summed[name]
    return losses


def _largest_gap(first: Any, second: Any) -> float:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_freelb_is_algorithm_1_of_its_paper(dropout: float, tmp_path: Path) -> None:
    """In float64, over several steps, with one dropout mask for the passes of a batch."""
    ours, reference, plain = _bert(dropout), _bert(dropout), _bert(dropout)

    losses = _train(ours, tmp_path, FreeLbTrainer, _rows(), settings=SETTINGS, perturbed_label=None)

    expected = _train_by_the_paper(reference, _rows(), SETTINGS)
    _train_by_the_paper(plain, _rows(), FreeLb(1, 0.0, 0.5, 0.0))
    assert _largest_gap(ours, reference) < 1e-10
    assert losses == pytest.approx(expected, abs=1e-4)  # the library rounds what it logs
    assert _largest_gap(ours, plain) > 1e-4


def test_one_step_without_perturbation_is_plain_training_to_the_last_digit(tmp_path: Path) -> None:
    ours, plain = _bert(0.2).float(), _bert(0.2).float()

    losses = _train(ours, tmp_path, FreeLbTrainer, _rows(), settings=FreeLb(1, 0.0, 0.6, 0.0), perturbed_label=None)

    assert losses == _train(plain, tmp_path, Trainer, _rows())
    assert _largest_gap(ours, plain) == 0.0


def test_a_batch_in_parts_has_the_gradient_of_the_whole(tmp_path: Path) -> None:
    """From a perturbation of zero: its draws follow the order of rows, which parts keep."""
    whole, parts = _bert(), _bert()
    settings = FreeLb(3, 0.3, 0.5, 0.0)

    _train(whole, tmp_path, FreeLbTrainer, _rows(), settings=settings, perturbed_label=None)
    halves = {"batch": BATCH // 2, "parts": 2}
    _train(parts, tmp_path, FreeLbTrainer, _rows(), settings=settings, perturbed_label=None, **halves)

    assert _largest_gap(whole, parts) < 1e-10


def test_recomputed_activations_give_the_same_weights(tmp_path: Path) -> None:
    kept, recomputed = _bert(0.2), _bert(0.2)
    recomputed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    for model in (kept, recomputed):
        _train(model, tmp_path, FreeLbTrainer, _rows(), settings=SETTINGS, perturbed_label=None)

    assert _largest_gap(kept, recomputed) < 1e-12


def test_bfloat16_products_leave_the_perturbation_in_full_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIXED_PRECISION, "no")  # transformers 4 sets it for all later trainings
    model, exact = _bert().float(), _bert().float()
    seen = _watch(model)

    _train(exact, tmp_path, FreeLbTrainer, _rows(), settings=SETTINGS, perturbed_label=None)
    _train(model, tmp_path, FreeLbTrainer, _rows(), settings=SETTINGS, perturbed_label=None, bf16=True)

    assert {each.dtype for each in seen} == {torch.float32}
    assert 0.0 < _largest_gap(model, exact) < 0.02


def _watch(model: Any) -> list[torch.Tensor]:
    """What the layer after the lookup is given, in order."""
    seen: list[torch.Tensor] = []
    model.get_input_embeddings().register_forward_hook(lambda _module, _given, answer: seen.append(answer.detach()))
    return seen


@contextmanager
def _shifts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Tensor]]:
    """The perturbations of every pass, in order."""
    from robustness.training import adversarial

    shifted, seen = adversarial.shifted_lookup, []

    def watch(model: Any, inputs: Any, shift: torch.Tensor) -> Any:
        seen.append(shift.detach().clone())
        return shifted(model, inputs, shift)

    with monkeypatch.context() as patch:
        patch.setattr(adversarial, "shifted_lookup", watch)
        yield seen


def test_padding_is_never_perturbed_and_no_text_leaves_the_radius(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _rows()

    with _shifts(monkeypatch) as shifts:
        _train(_bert(), tmp_path, FreeLbTrainer, rows, settings=SETTINGS, perturbed_label=None)

    assert len(shifts) == STEPS * SETTINGS.steps
    for index, shift in enumerate(shifts):
        batch = rows[index // SETTINGS.steps * BATCH :][:BATCH]
        real = torch.stack([row["attention_mask"] for row in batch]).bool()
        assert (shift[~real] == 0).all()
        assert (shift[real] != 0).any()
        assert (shift.flatten(1).norm(dim=1) <= SETTINGS.radius + 1e-12).all()


def test_of_a_text_that_is_generated_only_the_prompt_is_perturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(2)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=12, n_embd=16, n_layer=1, n_head=2))
    rows = []
    for row in _rows():
        answer = (torch.arange(8) >= 2) & row["attention_mask"].bool()
        rows.append(row | {"labels": torch.where(answer, row["input_ids"], -100)})

    with _shifts(monkeypatch) as shifts:
        _train(model, tmp_path, FreeLbTrainer, rows, settings=SETTINGS, perturbed_label=-100)

    assert all((shift[:, :2] != 0).all() and (shift[:, 2:] == 0).all() for shift in shifts)


def test_the_first_perturbation_has_the_same_bound_for_every_length() -> None:
    real = torch.tensor([[True] * 2 + [False] * 6, [True] * 8])

    drawn = draw_start(real, torch.zeros(5, 400), FreeLb(initial=0.7), torch.Generator().manual_seed(0))

    bounds = torch.tensor([0.7 / 800**0.5, 0.7 / 3200**0.5])
    assert (drawn.abs().amax(dim=(1, 2)) <= bounds).all()
    assert (drawn.abs().amax(dim=(1, 2)) > 0.99 * bounds).all()
    # Entries uniform in +-b have the mean square b^2 / 3.
    torch.testing.assert_close(drawn.flatten(1).norm(dim=1), torch.full((2,), 0.7 / 3**0.5), rtol=0.03, atol=0)


def test_a_gradient_of_zero_moves_nothing_and_a_radius_of_zero_is_no_limit() -> None:
    delta, gradient = torch.zeros(2, 1, 2), torch.tensor([[[0.0, 0.0]], [[0.0, 2.0]]])

    moved = ascend(delta, gradient, FreeLb(step_size=5.0, radius=0.0))

    assert moved.tolist() == [[[0.0, 0.0]], [[0.0, 5.0]]]


def test_a_model_without_word_embeddings_is_refused(tmp_path: Path) -> None:
    from transformers import CanineConfig, CanineForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    model = CanineForSequenceClassification(CanineConfig(**sizes))

    with pytest.raises(CheckpointError, match="no table of word embeddings"):
        _train(model, tmp_path, FreeLbTrainer, _rows(), settings=SETTINGS, perturbed_label=None)
