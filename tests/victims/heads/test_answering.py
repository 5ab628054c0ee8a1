from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.errors import GateError
from robustness.testsets.example import Texts, digest_texts
from robustness.victims.comparability import check_pair
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.gate import inspect_checkpoint
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.heads.spans.best import top_spans
from robustness.victims.loading import as_victim, load_checkpoint, place, to_victim


@pytest.fixture
def victim(answering: Any) -> AnsweringVictim:
    checkpoint = read_checkpoint("lora", str(answering.peft), str(answering.base))
    made = to_victim(load_checkpoint(checkpoint, find_task("squad")), place("cpu"))
    assert isinstance(made, AnsweringVictim)
    return made


def long_texts(answering: Any) -> list[Texts]:
    """Every other paragraph is made longer than the 64 tokens of a window, the answer at its end."""
    texts = [example.texts for example in answering.examples()]
    filler = "hugo works in tokyo . " * 16
    return [(question, filler + context if i % 2 else context) for i, (question, context) in enumerate(texts)]


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 12), st.integers(1, 6))
def test_spans_are_those_of_a_search_by_hand(seed: int, tokens: int, count: int, longest: int) -> None:
    rng = np.random.default_rng(seed)
    starts, ends = rng.normal(size=(2, tokens)).astype(np.float32)
    allowed = rng.random(tokens) < 0.7

    found = top_spans(
        *map(torch.from_numpy, (starts[None], ends[None], allowed[None])), count=count, max_tokens=longest
    )

    expected = sorted(
        (
            (float(starts[i] + ends[j]), i, j)
            for i in range(tokens)
            for j in range(i, min(tokens, i + longest))
            if allowed[i] and allowed[j]
        ),
        reverse=True,
    )[:count]
    kept = torch.isfinite(found.scores[0])
    rows = zip(
        found.scores[0][kept].tolist(), found.starts[0][kept].tolist(), found.ends[0][kept].tolist(), strict=True
    )
    assert list(rows) == expected


def test_the_tiny_pair_has_learnt_to_answer(answering: Any, victim: AnsweringVictim) -> None:
    examples = answering.examples()

    right = [
        prediction.best == example.answers[0].text
        for prediction, example in zip(victim.predict([e.texts for e in examples]), examples, strict=True)
    ]

    assert np.mean(right) > 0.9


def test_answers_do_not_depend_on_what_is_asked_beside_them(answering: Any, victim: AnsweringVictim) -> None:
    texts = long_texts(answering)

    together = victim.predict(texts)
    alone = [victim.predict([text])[0] for text in texts]

    assert [p.best for p in together] == [p.best for p in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_a_batch_of_windows_that_does_not_fit_is_halved_and_nothing_is_lost(
    answering: Any, victim: AnsweringVictim, small_memory: Callable
) -> None:
    texts = long_texts(answering)
    answers, scores = victim.predict(texts), victim.logits(texts)
    victim.batches.tokens, windows = 100_000, victim.forwards // 2
    sizes = small_memory(victim, 5)

    found = victim.predict(texts)

    assert [prediction.best for prediction in found] == [prediction.best for prediction in answers]
    assert victim.forwards == 3 * windows
    assert sizes[:2] == [windows, windows // 2] and set(sizes[-3:]) <= {1, 2, 3, 4, 5}
    np.testing.assert_allclose(victim.logits(texts), scores, atol=1e-4)
    small_memory(victim, 0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        victim.predict(texts)


def test_spans_that_do_not_fit_are_read_of_half_as_many_windows(
    answering: Any, victim: AnsweringVictim, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = long_texts(answering)
    answers = [prediction.best for prediction in victim.predict(texts)]
    victim.batches.tokens = 100_000

    def read(starts: torch.Tensor, *others: torch.Tensor, **options: int) -> Any:
        if len(starts) > 7:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return top_spans(starts, *others, **options)

    monkeypatch.setattr("robustness.victims.heads.spans.answering.top_spans", read)

    assert [prediction.best for prediction in victim.predict(texts)] == answers


class Finder(torch.nn.Module):
    """Answers with one word, wherever it stands."""

    def __init__(self, model: Any, token: int) -> None:
        super().__init__()
        self.config, self.token = model.config, token
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor, **unused: Any) -> Any:
        logits = (input_ids == self.token).float() * 5
        return SimpleNamespace(start_logits=logits, end_logits=logits)


@pytest.mark.parametrize("before", [0, 7, 30, 100])
def test_a_word_is_found_wherever_it_stands_in_a_long_paragraph(victim: AnsweringVictim, before: int) -> None:
    finder = Finder(victim.model, victim.tokenizer.convert_tokens_to_ids("rome"))
    context = "Hugo works in Tokyo . " * before + "Anna lives in ROME ." + " Hugo works in Tokyo ." * 40

    found = AnsweringVictim(finder, victim.tokenizer)
    prediction = found.predict([("where does Rome live ?", context)])[0]  # the question's own is no answer

    assert prediction.best == "ROME"
    assert prediction.scores[0] == 10
    assert found.forwards > 3
    assert all(answer in context for answer in prediction.answers)


def best_span(model: Any, tokenizer: Any, question: str, context: str) -> str:
    """The span of at most 30 of the context's tokens whose two logits are largest together, by every pair in turn."""
    encoded = tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
    offsets, owners = encoded.pop("offset_mapping")[0].tolist(), encoded.sequence_ids()
    with torch.inference_mode():
        output = model(**encoded)
    starts, ends = output.start_logits[0].tolist(), output.end_logits[0].tolist()
    own = [place for place, owner in enumerate(owners) if owner == 1]
    first, last = max(
        ((i, j) for i in own for j in own if i <= j < i + 30), key=lambda span: starts[span[0]] + ends[span[1]]
    )
    return context[offsets[first][0] : offsets[last][1]]


def test_answers_are_those_of_transformers_own_model_by_every_span_in_turn(answering: Any) -> None:
    model = AutoModelForQuestionAnswering.from_pretrained(answering.full).eval()
    tokenizer = AutoTokenizer.from_pretrained(answering.full)
    checkpoint = read_checkpoint("full", str(answering.full), str(answering.base))
    ours = to_victim(load_checkpoint(checkpoint, find_task("squad")), place("cpu"))
    texts = [example.texts for example in answering.examples()]

    theirs = [best_span(model, tokenizer, question, context) for question, context in texts]

    assert isinstance(ours, AnsweringVictim)
    assert [prediction.best for prediction in ours.predict(texts)] == theirs


def test_a_question_that_fills_the_window_is_cut_and_reported(victim: AnsweringVictim) -> None:
    text = ("where does anna live " * 40, "anna lives in rome .")

    prediction = victim.predict([text])[0]

    assert prediction.best in text[1]
    assert victim.truncated == {digest_texts(text)}


def test_probabilities_are_the_softmax_of_the_scores(answering: Any, victim: AnsweringVictim) -> None:
    prediction = victim.predict([answering.examples()[0].texts])[0]

    expected = torch.softmax(torch.tensor(prediction.scores, dtype=torch.float64), dim=0).numpy()
    np.testing.assert_allclose(prediction.probabilities, expected)


def test_the_gate_passes_a_trained_pair_and_measures_f1(answering: Any) -> None:
    pair = read_pairs(answering.pairs)[0]
    clean = answering.examples()

    facts = [
        inspect_checkpoint(read_checkpoint(n, r, pair.base), find_task("squad"), place("cpu"), clean)
        for n, r in (("full", pair.reference), ("lora", pair.candidate))
    ]

    check_pair(pair, *facts)
    assert all(fact.clean_accuracy > 0.9 and fact.majority_share < 0.3 for fact in facts)
    assert facts[1].merge_difference is not None


def test_the_gate_refuses_a_checkpoint_without_its_head(answering: Any, tmp_path: Any) -> None:
    from transformers import BertModel

    BertModel.from_pretrained(answering.base).save_pretrained(tmp_path / "headless")
    AutoTokenizer.from_pretrained(answering.base).save_pretrained(tmp_path / "headless")
    pair = read_pairs(answering.pairs)[0]
    clean = answering.examples()
    headless = read_checkpoint("headless", str(tmp_path / "headless"), pair.base)
    full = inspect_checkpoint(headless, find_task("squad"), place("cpu"), clean)
    peft = inspect_checkpoint(
        read_checkpoint("lora", pair.candidate, pair.base), find_task("squad"), place("cpu"), clean
    )

    with pytest.raises(GateError, match="head-loaded: no file holds qa_outputs"):
        check_pair(pair, full, peft)


def test_an_adapter_that_changes_nothing_is_refused(answering: Any, tmp_path: Any) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        AutoModelForQuestionAnswering.from_pretrained(answering.base), LoraConfig(task_type="QUESTION_ANS")
    )
    model.save_pretrained(tmp_path / "zero")
    checkpoint = read_checkpoint("zero", str(tmp_path / "zero"), str(answering.base))

    facts = inspect_checkpoint(checkpoint, find_task("squad"), place("cpu"), answering.examples())

    assert any("adapter-not-zero" in failure for failure in facts.failures)


def test_an_adapter_of_pefts_own_kind_is_asked_without_segment_ids_as_it_was_trained(
    answering: Any, victim: AnsweringVictim
) -> None:
    """PEFT drops them unmerged; merged they would change the answers."""
    checkpoint = read_checkpoint("lora", str(answering.peft), str(answering.base))
    loaded = load_checkpoint(checkpoint, find_task("squad"))
    texts = [example.texts for example in answering.examples()]

    unmerged = as_victim(loaded, loaded.unmerged, place("cpu"))

    np.testing.assert_allclose(unmerged.logits(texts), victim.logits(texts), atol=1e-4)
    told = AnsweringVictim(victim.model, victim.tokenizer, segment_ids=True)
    assert np.abs(told.logits(texts) - victim.logits(texts)).max() > 0.1
