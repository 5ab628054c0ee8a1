"""Steps on attacks: recipes of every access that need no download."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu.bench import Bench
from gpu.models import Size, encoder_config
from gpu.steps import Found, Step, require
from robustness.testsets.example import Example, Texts
from robustness.victims.heads.labels import Scores, Victim

DEFINITIONS = ("pydantic",)
"""What reads the files of recipes, probes and methods."""
EDITS = (*DEFINITIONS, "rapidfuzz")
"""What counts changed letters too."""
SHARE_OF_PEAK = 0.8
"""Of the rate at which the victim scores the same texts: what a search must reach on a GPU."""
BATCH_TOKENS = (8_192, 16_384, 32_768)
FEW_WORDS = """summary = "addany with a small budget."
family = "sentence"
access = "scores"

[search]
kind = "distractor-search"
words = 2
candidates = 3
epochs = 1
restarts = 0
place = "after"
"""


def attack_by(names: Sequence[str], bench: Bench, *, share: int = 1, least: int = 0) -> Found:
    """Runs recipes on the encoder's examples, or on one in `share` of them.

    Args:
        names: of recipes.
        bench: what to attack, and where.
        share: see above.
        least: of a hundred examples, how many at least break under the last recipe.
    """
    from robustness.recipes.building import find_attack

    examples = bench.examples[: max(2, bench.size.examples // share)]
    figures, details = [], {}
    names = names if bench.size.name == "real" else (names[0], names[-1])  # the lines are the same
    for name in dict.fromkeys(names):
        details[name] = figure = run_attack(bench, bench.encoder, find_attack(name), examples)
        figures.append(f"{name} broke {figure['broken']}/{len(examples)} in {figure['seconds']:.1f} s")
    broken = details[names[-1]]["broken"]
    require(100 * broken >= least * len(examples), f"{names[-1]} broke {broken} of {len(examples)} examples")
    return Found("; ".join(figures), details)


def run_attack(bench: Bench, victim: Any, attack: Any, examples: Sequence[Example]) -> dict[str, Any]:
    """Attacks examples as a run does; fails where one of them is errored."""
    from robustness.runs.executors.executor import find_outcomes

    bench.peak_bytes()
    started = time.perf_counter()
    outcomes = list(find_outcomes(victim, None, attack, examples, seed=0))
    seconds = time.perf_counter() - started
    errors = [outcome.error for outcome in outcomes if str(outcome.status) == "errored"]
    require(not errors, f"{attack.name}: {len(errors)} of {len(examples)} errored: {errors[:1]}")
    statuses = Counter(str(outcome.status) for outcome in outcomes)
    return {
        "examples": len(examples),
        "broken": statuses["succeeded"],
        "statuses": dict(statuses),
        "seconds": seconds,
        "forwards": sum(outcome.forwards for outcome in outcomes),
        "peak_bytes": bench.peak_bytes(),
    }


def words_for_words(bench: Bench) -> Found:
    """A greedy word search of made-up synonyms, which asks for scores alone."""
    from robustness.recipes.building import name_attack
    from robustness.recipes.text.constraints import Constraints
    from robustness.recipes.text.edits import WordEdits
    from robustness.recipes.text.ranking import ByDeleting
    from robustness.recipes.text.searches import GreedyWordRanking

    def synonyms(word: str, rng: np.random.Generator) -> list[str]:
        return [other for other in rng.choice(bench.words, size=8) if other != word]

    attack = name_attack(GreedyWordRanking(WordEdits([synonyms], Constraints()), ByDeleting()), name="made-up-words")
    figure = run_attack(bench, bench.encoder, attack, bench.examples)
    require(2 * figure["broken"] >= figure["examples"], f"broke {figure['broken']} of {figure['examples']} examples")
    return Found(f"broke {figure['broken']}/{figure['examples']} in {figure['seconds']:.1f} s", figure)


def prompts_under_attack(bench: Bench) -> Found:
    """DeepWordBug on the prompted language model."""
    from robustness.recipes.building import find_attack

    figure = run_attack(bench, bench.prompted, find_attack("deepwordbug"), bench.prompts)
    return Found(f"broke {figure['broken']}/{figure['examples']} in {figure['seconds']:.1f} s", figure)


def questions_under_attack(bench: Bench) -> Found:
    """A search for distractors against the reader."""
    from robustness.recipes.building import find_attack

    file = bench.folder / "few-words.toml"
    file.write_text(FEW_WORDS)
    figure = run_attack(bench, bench.reader, find_attack(str(file)), bench.asked[:4])
    return Found(f"broke {figure['broken']}/{figure['examples']} in {figure['seconds']:.1f} s", figure)


def recipes_own_models(bench: Bench) -> Found:
    """What a masked language model reads in a hole, and how near an encoder finds two texts: as on the processor."""
    from robustness.recipes.language_models.masked_lm import Hole, MaskedLanguageModel
    from robustness.recipes.language_models.similarity import SentenceEncoder

    folder = write_masked_lm(bench.folder / "masked", bench.size, bench.tokenizer)
    texts = [text for (text,) in bench.sentences[:16]]
    holes = [Hole(text.rsplit(" ", 1)[0] + " ", "") for text in texts]
    here, there = (MaskedLanguageModel(folder, device) for device in (bench.device, torch.device("cpu")))
    same = sum(a == b for a, b in zip(here.fill(holes, 5), there.fill(holes, 5), strict=True))
    require(same >= len(holes) - 2, f"{len(holes) - same} of {len(holes)} holes are filled otherwise")
    require(here.reread(texts[0], [(0, 2)], 5) == there.reread(texts[0], [(0, 2)], 5), "a word is read otherwise")
    vectors = [SentenceEncoder(folder, device).encode(texts) for device in (bench.device, torch.device("cpu"))]
    worst = float(np.abs(vectors[0] - vectors[1]).max())
    require(worst < 1e-3, f"the encoder's vectors differ by {worst:.2g}")
    return Found(f"{same} of {len(holes)} holes filled alike; vectors off by {worst:.1e}")


def write_masked_lm(folder: Path, size: Size, tokenizer: Any) -> Path:
    """A drawn RoBERTa for masked words; a sentence encoder reads its lower part."""
    from transformers import RobertaForMaskedLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        RobertaForMaskedLM(encoder_config(size.base, len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Recording:
    """A victim that remembers its texts, and lets the scheduler go on while it works."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self.grader, self.can = victim.grader, victim.can
        self.texts: list[Texts] = []

    def rows(self, asked: Sequence[Example]) -> Scores:
        return self.start(asked)()

    def start(self, asked: Sequence[Example]) -> Callable[[], Scores]:
        self.texts += [example.texts for example in asked]
        return self._victim.start(asked)


def search_keeps_busy(bench: Bench) -> Found:
    """The rate of DeepWordBug's search beside that at which the victim scores the very texts it asks about."""
    from robustness.engine.scheduler import CUDA_WIDTH, Scheduler
    from robustness.recipes.building import find_attack

    victim = bench.twin(bench.encoder, str(bench.device), torch.bfloat16)
    answers = victim.scores(bench.sentences).argmax(axis=1)
    examples = [Example(f"b{i}", t, int(a)) for i, (t, a) in enumerate(zip(bench.sentences, answers, strict=True))]
    recording = Recording(victim)

    def search() -> int:
        recording.texts.clear()
        outcomes = Scheduler(find_attack("deepwordbug"), recording, seed=0, width=CUDA_WIDTH).run(some)
        return sum(outcome.forwards for outcome in outcomes)

    some = examples[: bench.size.examples]
    search()  # warm-up: kernels, and the size of batches
    some = examples[: 4 * bench.size.examples]
    engine = bench.rate(search)
    texts, peaks = list(recording.texts), {}
    for tokens in BATCH_TOKENS if bench.size.name == "real" else BATCH_TOKENS[:1]:
        victim.batches.tokens = tokens
        victim.scores(texts[:2_048])
        peaks[str(tokens)] = bench.rate(lambda: len(victim.scores(texts)))
    share = engine / max(peaks.values())
    require(not bench.on_cuda or share >= SHARE_OF_PEAK, f"{share:.0%} of the peak: {engine:,.0f} of {peaks} texts/s")
    figures = {"texts": len(texts), "engine_texts_a_second": engine, "victim_texts_a_second_by_batch_tokens": peaks}
    return Found(f"{engine:,.0f} texts/s, {share:.0%} of the victim's own peak", figures | {"share": share})


CHARACTERS = ("pruthi", "random-chars", "deepwordbug")
EMBEDDINGS = ("fgsm", "pgd", "pgd-linf", "apgd", "apgd-linf", "fmn", "ddn")
STEPS: tuple[Step[Bench], ...] = (
    Step("characters", partial(attack_by, CHARACTERS, least=20), EDITS),
    Step("embeddings", partial(attack_by, EMBEDDINGS, share=8, least=50), DEFINITIONS, seconds=120.0),
    Step("gradients in text", partial(attack_by, ("hotflip-vocabulary", "gbda"), share=32), EDITS),
    Step("words", words_for_words, EDITS),
    Step("sentences", partial(attack_by, ("stress-append", "checklist", "input-reduction"), share=4), EDITS),
    Step("unseen characters", partial(attack_by, ("bad-characters",), share=16), EDITS),
    Step("prompts under attack", prompts_under_attack, EDITS),
    Step("questions under attack", questions_under_attack, (*EDITS, "torchmetrics")),
    Step("recipes' own models", recipes_own_models),
    Step("search against peak", search_keeps_busy, EDITS),
)
