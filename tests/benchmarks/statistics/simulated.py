"""Two arms made up so that the truth is known: what the verdict simulation draws from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from robustness.reports.comparisons.comparison import PairedOutcomes
from robustness.reports.tables.columns import COLUMNS, Table
from robustness.runs.storage.record import AttackRecord, CheckpointRecord, PairRecord, RunRecord, TestsetRecord

Rng = np.random.Generator
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """Two arms on one kind of example."""

    accuracy: float = 0.9
    """Of the reference on clean texts."""
    clean_gap: float = 0.0
    clean_discordant: float = 0.06
    """Examples that just one arm has right before the attack."""
    success_rate: float = 0.4
    """Of the attack on what the reference has right."""
    success_gap: float = 0.0
    """By how much it is higher on the candidate."""
    alike: float = 0.6
    """Correlation of what makes an example hard for either arm."""


def draw_outcomes(rng: Rng, n: int, truth: Truth, groups: NDArray[np.int64] | None = None) -> PairedOutcomes:
    """Outcomes of n examples under both arms."""
    only = (truth.clean_discordant + truth.clean_gap) / 2, (truth.clean_discordant - truth.clean_gap) / 2
    both = truth.accuracy - only[0]
    kind = rng.choice(4, n, p=[both, only[0], only[1], 1 - both - sum(only)])
    clean = np.isin(kind, (0, 1)), np.isin(kind, (0, 2))
    names = np.arange(n) if groups is None else groups
    hard = rng.normal(size=names.max() + 1)[names] if groups is not None else rng.normal(size=n)
    own = [np.sqrt(truth.alike) * hard + np.sqrt(1 - truth.alike) * rng.normal(size=n) for _ in range(2)]
    rates = truth.success_rate, truth.success_rate + truth.success_gap
    kept = [right & (each <= norm.isf(rate)) for right, each, rate in zip(clean, own, rates, strict=True)]
    return PairedOutcomes(kept[0], kept[1], clean[0], clean[1], np.ones(n, dtype=bool), names)


def draw_discordant(rng: Rng, n: int, discordant: float, difference: float) -> PairedOutcomes:
    """Outcomes of arms that have all clean examples right, of which a known share is discordant under attack."""
    only = (discordant + difference) / 2, (discordant - difference) / 2
    kind = rng.choice(3, n, p=[*only, 1 - discordant])
    rest = rng.random(n) < 0.5
    right = np.ones(n, dtype=bool)
    return PairedOutcomes(
        (kind == 0) | ((kind == 2) & rest), (kind == 1) | ((kind == 2) & rest), right, right, right, np.arange(n)
    )


def draw_grouped(
    rng: Rng, sizes: NDArray[np.int64], discordant: float, difference: float, alike: float
) -> PairedOutcomes:
    """As `draw_discordant`; within a group the shares are drawn from a Dirichlet with that correlation."""
    p = np.array([(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant])
    shares = (
        rng.dirichlet(np.maximum(p * (1 - alike) / alike, 1e-6), size=len(sizes))
        if alike
        else np.tile(p, (len(sizes), 1))
    )
    names = np.repeat(np.arange(len(sizes)), sizes)
    drawn = rng.random(len(names))
    bounds = np.cumsum(shares, axis=1)[names]
    kind = (drawn[:, None] > bounds[:, :2]).sum(axis=1)
    rest, right = rng.random(len(names)) < 0.5, np.ones(len(names), dtype=bool)
    return PairedOutcomes(
        (kind == 0) | ((kind == 2) & rest), (kind == 1) | ((kind == 2) & rest), right, right, right, names
    )


def draw_seed_table(rng: Rng, seeds: int, n: int, seed_sd: float, difference: float = 0.0) -> NDArray[np.float64]:
    """Differences of right and wrong under several training seeds, shape (seeds, n), of mean `difference`.

    Half of the discordance is the examples' own, the same under every seed.
    """
    lasting = rng.choice([-1.0, 0.0, 1.0], n, p=[0.04, 0.92, 0.04])
    effects = (difference + rng.normal(0, seed_sd, seeds)) / 0.92
    rows = []
    for effect in effects:
        up, down = max(0.0, 0.05 + effect / 2), max(0.0, 0.05 - effect / 2)
        rows.append(rng.choice([1.0, -1.0, 0.0], n, p=[up, down, 1 - up - down]))
    return np.stack([np.where(lasting != 0, lasting, row) for row in rows])


def make_record(attacks: int, testsets: int = 1) -> RunRecord:
    """A run of one pair."""
    arms = [
        CheckpointRecord(
            name=name,
            adaptation=adaptation,
            task="sst2",
            base="base",
            train_seed=0,
            weights_digest="",
            clean_accuracy=0.9,
            majority_share=0.5,
            n_clean=100,
            merge_difference=None,
        )
        for name, adaptation in (("full", "full"), ("lora", "lora"))
    ]
    return RunRecord(
        suite="simulated",
        seed=0,
        limit=None,
        device="cpu",
        dtype="float32",
        fingerprint={},
        pairs=(PairRecord(name="p", task="sst2", base="base", reference="full", candidate="lora", seed=0),),
        checkpoints=tuple(arms),
        testsets=tuple(
            TestsetRecord(
                name=f"t{i}", task="sst2", kind="clean", provenance="own", n=10, n_used=10, digest="", scores_f1=False
            )
            for i in range(testsets)
        ),
        attacks=tuple(AttackRecord(name=f"a{i}", family="word", digest="") for i in range(attacks)),
        warnings=(),
        started="",
        machine="",
        versions={},
    )


def draw_examples(
    rng: Rng, n: int, truth: Truth, *, attacks: int, errored: float = 0.0, of_attacked: bool = False, missing: int = 0
) -> pd.DataFrame:
    """examples.csv of both arms on one test set, with rows of the candidate errored, and its last attacks missing."""
    hard = rng.normal(size=n)
    whole = draw_outcomes(rng, n, truth)
    frames = []
    for arm, clean, rate in (
        ("full", whole.reference_clean, truth.success_rate),
        ("lora", whole.candidate_clean, truth.success_rate + truth.success_gap),
    ):
        frames.append(_cell(arm, "none", np.where(clean, "failed", "succeeded"), clean=np.full(n, np.nan)))
        for attack in range(attacks - (missing if arm == "lora" else 0)):
            own = np.sqrt(truth.alike) * hard + np.sqrt(1 - truth.alike) * rng.normal(size=n)
            status = np.where(~clean, "skipped", np.where(own > norm.isf(rate), "succeeded", "failed")).astype(object)
            if errored and arm == "lora":
                status[(rng.random(n) < errored) & (clean | (not of_attacked))] = "errored"
            frames.append(_cell(arm, f"a{attack}", status, clean=np.where(status == "errored", np.nan, clean)))
    return pd.concat(frames, ignore_index=True)


def _cell(arm: str, attack: str, status: NDArray[np.object_], clean: NDArray[np.float64]) -> pd.DataFrame:
    names = [f"e{i}" for i in range(len(status))]
    frame = pd.DataFrame(
        {
            "checkpoint": arm,
            "testset": "t0",
            "attack": attack,
            "example_id": names,
            "group_id": names,
            "gold": "positive",
            "status": status,
            "clean_correct": clean,
            "correct": (status == "failed").astype(float),
            "queries": 5,
            "modified_words": 1.0,
            "goal": "change-prediction",
        }
    )
    return frame.reindex(columns=[column.name for column in COLUMNS[Table.EXAMPLES]])
