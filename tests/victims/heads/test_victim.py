from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from robustness.testsets.example import Example, digest_texts
from robustness.victims.heads.labels import Victim
from robustness.victims.inputs import pad
from robustness.victims.loading import LoadedCheckpoint


@pytest.fixture
def make(tiny: Any, load: Callable[..., LoadedCheckpoint]) -> Callable[..., Victim]:
    loaded = load(tiny.full)
    loaded.unmerged.double()

    def victim(**options: Any) -> Victim:
        return Victim(loaded.unmerged, loaded.tokenizer, loaded.label_columns, **options)

    return victim


@pytest.fixture
def reference(tiny: Any, load: Callable[..., LoadedCheckpoint]) -> Callable[[tuple[str, ...]], np.ndarray]:
    """One text at a time through the model itself, in double precision as all models of this file."""
    loaded = load(tiny.full)
    loaded.unmerged.double()

    @torch.no_grad()
    def score(text: tuple[str, ...]) -> np.ndarray:
        segments = [[segment] for segment in text]
        batch = loaded.tokenizer(*segments, truncation=True, max_length=64, return_tensors="pt")
        return loaded.unmerged(**batch).logits[0].numpy()

    return score


@pytest.mark.parametrize("batch_tokens", [None, 1, 17, 64, 100_000])
def test_batched_scores_are_those_of_single_texts_in_their_order(
    make: Callable, reference: Callable, texts: list, batch_tokens: int | None
) -> None:
    victim = make(batch_tokens=batch_tokens)

    scores = victim.scores(texts)

    np.testing.assert_allclose(scores, [reference(text) for text in texts], atol=1e-5)
    assert (scores.dtype, scores.shape) == (np.float32, (len(texts), 2))
    assert victim.forwards == len(texts)


def test_the_number_of_texts_tokenised_at_a_time_does_not_matter(
    make: Callable, texts: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make().scores(texts)
    monkeypatch.setattr("robustness.victims.heads.labels.ENCODE_TEXTS", 3)

    np.testing.assert_allclose(make().scores(texts), whole, atol=1e-5)


def test_a_head_read_with_another_order_of_labels_pads_as_before(make: Callable) -> None:
    assert [make(padded=padded).read_as(make()).company.padded for padded in (True, False)] == [True, False]


def test_pairs_of_segments_are_read_as_pairs(make: Callable, reference: Callable, texts: list) -> None:
    pairs = [(text[0], other[0]) for text, other in zip(texts, reversed(texts), strict=True)]

    scores = make().scores(pairs)

    np.testing.assert_allclose(scores, [reference(pair) for pair in pairs], atol=1e-5)
    assert np.abs(scores - make().scores([(" ".join(pair),) for pair in pairs])).max() > 1e-3


def test_no_text_gives_no_score(make: Callable) -> None:
    assert make().scores([]).shape == (0, 2)


def test_columns_are_put_into_the_tasks_label_order(tiny: Any, load: Callable, texts: list) -> None:
    loaded = load(tiny.full)
    straight = Victim(loaded.unmerged, loaded.tokenizer, (0, 1)).scores(texts)

    swapped = Victim(loaded.unmerged, loaded.tokenizer, (1, 0)).scores(texts)

    np.testing.assert_array_equal(swapped, straight[:, ::-1])


def test_texts_that_are_too_long_are_cut_and_counted_once(make: Callable) -> None:
    victim = make()
    exact = ("fine " * 62).strip()
    long = f"{exact} dull"

    scores = victim.scores([(long,), (exact,), ("fine",), (long,), (f"{long} dull",)])
    victim.scores([(long,)])

    assert victim.max_tokens == 64
    assert victim.truncated == {digest_texts((long,)), digest_texts((f"{long} dull",))}
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def test_pairs_that_are_too_long_together_are_cut_and_counted(make: Callable) -> None:
    victim = make()
    half = ("fine " * 31).strip()

    victim.scores([(half, half), ("fine", "dull")])

    assert victim.truncated == {digest_texts((half, half))}


def test_an_empty_second_segment_counts_towards_the_length(make: Callable) -> None:
    victim = make()
    fits, longer = ("fine " * 61).strip(), ("fine " * 62).strip()

    victim.scores([(fits, ""), (longer, "")])

    assert victim.truncated == {digest_texts((longer, ""))}


def small_memory(victim: Victim, largest: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets batches of more than `largest` texts run out of memory; returns the sizes that were tried."""
    forward, sizes = victim._forward, []

    def limited(batch: dict[str, list[list[int]]]) -> np.ndarray:
        sizes.append(len(batch["input_ids"]))
        if sizes[-1] > largest:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(batch)

    monkeypatch.setattr(victim, "_forward", limited)
    return sizes


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(
    make: Callable, texts: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = make().scores(texts)
    victim = make(batch_tokens=100_000)
    sizes = small_memory(victim, 5, monkeypatch)

    with caplog.at_level(logging.WARNING):
        scores = victim.scores(texts)

    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert victim.forwards == len(texts)
    assert sizes[:3] == [len(texts), len(texts) // 2, len(texts) // 4]
    assert "out of memory" in caplog.text


def test_after_running_out_of_memory_batches_stay_small(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = make(batch_tokens=100_000)
    sizes = small_memory(victim, 4, monkeypatch)
    victim.scores([("fine",)] * 8)
    sizes.clear()

    victim.scores([("dull",)] * 8)

    assert sizes == [4, 4]


def test_a_single_text_that_does_not_fit_is_an_error(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = make()
    small_memory(victim, 0, monkeypatch)

    with pytest.raises(torch.cuda.OutOfMemoryError):
        victim.scores([("fine",), ("dull",)])


def test_scores_need_no_gradients(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, inside = make(), []
    forward = victim._forward

    def watched(batch: dict[str, list[list[int]]]) -> np.ndarray:
        inside.append(torch.is_inference_mode_enabled())
        return forward(batch)

    monkeypatch.setattr(victim, "_forward", watched)

    victim.scores([("fine",)])

    assert inside == [True]
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_the_tokenizers_own(
    make: Callable, texts: list, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = make()
    monkeypatch.setattr(victim.tokenizer, "padding_side", side)
    pairs = [(text[0], other[0]) for text, other in zip(texts, reversed(texts), strict=True)]
    encoded = victim._encode(pairs)

    padded = pad(encoded, victim.tokenizer, victim.accepted, side)

    expected = victim.tokenizer.pad(encoded, padding=True, return_tensors="np")
    assert set(padded) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(padded[name], expected[name])


def test_texts_may_be_started_before_the_last_are_collected(make: Callable, texts: list) -> None:
    victim = make()

    asked = [Example(str(number), text, 0) for number, text in enumerate(texts)]

    first, second = victim.start(asked), victim.start(asked[::-1])

    np.testing.assert_allclose(second()[::-1], make().scores(texts), atol=1e-5)
    np.testing.assert_allclose(first(), make().scores(texts), atol=1e-5)
    assert victim.forwards == 2 * len(texts)


class FakeCuda:
    """The functions of torch.cuda that measure memory, for a device on which each token takes `a_token` bytes."""

    def __init__(
        self, patch: pytest.MonkeyPatch, victim: Victim, *, free: int, a_token: int, room: int | None = None
    ) -> None:
        self.peak = 1_000
        call = victim._kernels._call

        def forward(**inputs: torch.Tensor) -> Any:
            if room is not None and inputs["input_ids"].numel() > room:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            self.peak = max(self.peak, 1_000 + inputs["input_ids"].numel() * a_token)
            return call(**inputs)

        patch.setattr(victim._kernels, "_call", forward)
        patch.setattr(victim.batches, "tokens", None)
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
        patch.setattr(torch.cuda, "memory_allocated", lambda device: 1_000)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peak)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))


@pytest.mark.parametrize(("free", "expected"), [(10**12, 16_384), (10_000_000, 4_096), (3_000_000, 1_024), (1, 1)])
def test_on_cuda_a_batch_takes_half_of_the_free_memory_at_most(
    make: Callable, texts: list, monkeypatch: pytest.MonkeyPatch, free: int, expected: int
) -> None:
    victim = make()
    FakeCuda(monkeypatch, victim, free=free, a_token=1_000)

    scores = victim.scores(texts)

    assert victim.batches.tokens == expected
    assert victim.forwards == len(texts)
    np.testing.assert_allclose(scores, make().scores(texts), atol=1e-5)


def test_a_trial_batch_that_does_not_fit_is_halved_and_the_texts_are_scored(
    make: Callable, texts: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = make()
    longest = max(len(ids) for ids in victim._encode(texts)["input_ids"])
    FakeCuda(monkeypatch, victim, free=10**12, a_token=1_000, room=2 * longest)

    scores = victim.scores(texts)

    assert 1 <= victim.batches.tokens <= 2 * longest
    assert victim.forwards == len(texts)
    np.testing.assert_allclose(scores, make().scores(texts), atol=1e-5)


def test_a_compiled_model_scores_as_the_model_does(
    make: Callable, texts: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile_model(model: torch.nn.Module, *, dynamic: bool) -> Any:
        assert dynamic
        return lambda **inputs: compiled.append(len(inputs["input_ids"])) or model(**inputs)

    monkeypatch.setattr(torch, "compile", compile_model)
    victim = make()

    failure = victim.compile()

    assert failure is None and victim.forwards == 0
    np.testing.assert_allclose(victim.scores(texts), make().scores(texts), atol=1e-5)
    assert sum(compiled) == 2 + 3 + len(texts)
    assert victim.describe_scoring() != make().describe_scoring()


def test_a_model_that_cannot_be_compiled_is_used_as_it_is(
    make: Callable, texts: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**inputs: torch.Tensor) -> Any:
        raise RuntimeError("no working compiler\ndetails")

    monkeypatch.setattr(torch, "compile", lambda model, dynamic: refuse)
    victim = make()

    failure = victim.compile()

    assert failure == "--compile: torch.compile failed, the model runs uncompiled: no working compiler"
    assert failure in caplog.text
    np.testing.assert_allclose(victim.scores(texts), make().scores(texts), atol=1e-5)


def test_texts_are_read_alike_only_where_the_model_is_given_the_same(make: Callable) -> None:
    victim = make()

    readings = victim.read([("a fine film",), ("A  FINE film",), ("a film fine",)])
    pairs = victim.read([("a fine", "film"), ("a", "fine film"), ("a fine", "film ")])

    assert readings[0] == readings[1] != readings[2]
    assert pairs[0] == pairs[2] != pairs[1]


def test_what_has_been_read_is_scored_the_same_and_tokenised_once(
    make: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, encoded = make(), []
    texts = [("a fine film",), ("dull",), ("a fine film",), ("warm music",)]
    expected = victim.scores(texts)
    encode = victim._encode
    monkeypatch.setattr(victim, "_encode", lambda some: encoded.extend(some) or encode(some))

    victim.read([("warm music",), ("never scored",), ("a fine film",)])
    found = victim.scores(texts)

    np.testing.assert_array_equal(found, expected)
    assert encoded == [("warm music",), ("never scored",), ("a fine film",), ("dull",)]


def test_texts_that_nobody_has_scored_do_not_pile_up(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustness.victims.heads.labels.KEPT_ENCODINGS", 5)
    victim = make()

    for number in range(40):
        victim.read([(f"film number {number}",)])

    assert len(victim._encoded) <= 6
