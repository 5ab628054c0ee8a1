"""Situations in which a careless comparison misleads, planted as outcomes: what pairs.csv says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from robustness.engine.named_attack import Effort
from robustness.reports.tables.attacks import build_attacks
from robustness.reports.tables.columns import COLUMNS, Table
from robustness.reports.tables.fragility import build_fragility
from robustness.reports.tables.pairs import build_pairs
from robustness.reports.tables.survival import build_survival
from robustness.runs.storage.record import (
    AttackedRecord,
    AttackRecord,
    CheckpointRecord,
    PairRecord,
    RunRecord,
    TestsetRecord,
)
from robustness.stats import detectable_by_estimate, difference_over_seeds, rarer_share

WORDS = {"s": "skipped", "b": "succeeded", "r": "failed", "e": "errored"}
"""A letter an example: skipped (wrong before), broken, robust, errored."""


def arm(name: str, adaptation: str = "lora", seed: int = 0, **facts: Any) -> CheckpointRecord:
    known = {"base": "base", "weights_digest": name, "clean_accuracy": 0.9, "majority_share": 0.5, "n_clean": 10}
    return CheckpointRecord(
        name=name, adaptation=adaptation, task="sst2", train_seed=seed, merge_difference=None, **{**known, **facts}
    )


def make_record(
    arms: Sequence[CheckpointRecord],
    pairs: Sequence[tuple[str, str, int]],
    *,
    attacks: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
    answers: bool = False,
) -> RunRecord:
    """Attacks are families by name, test sets kinds by name; a pair is reference, candidate, seed."""
    bases = {each.name: each.base for each in arms}
    testsets = [
        TestsetRecord(
            name=name,
            task="squad" if answers else "sst2",
            kind=kind,
            provenance="official",
            n=10,
            n_used=10,
            digest="",
            scores_f1=False,
            answers=answers,
        )
        for name, kind in (kinds or {"t": "clean"}).items()
    ]
    return RunRecord(
        suite="test",
        seed=0,
        limit=None,
        device="cpu",
        dtype="float32",
        fingerprint={},
        pairs=tuple(
            PairRecord(
                name=f"{reference}-{candidate}",
                task="sst2",
                base=bases[candidate],
                reference=reference,
                candidate=candidate,
                seed=seed,
            )
            for reference, candidate, seed in pairs
        ),
        checkpoints=tuple(arms),
        testsets=tuple(testsets),
        attacks=tuple(
            AttackRecord(name=name, family=family, digest="d", effort=effort_of(family))
            for name, family in (attacks or {}).items()
        ),
        warnings=(),
        started="",
        machine="",
        versions={},
    )


def effort_of(family: str) -> Effort:
    return Effort.WORDS if family in ("word", "character") else Effort.QUERIES


def outcomes(checkpoint: str, testset: str, attack: str, letters: Sequence[str], **columns: Any) -> pd.DataFrame:
    """Rows of one cell; of a test set as it stands, r is a right and b a wrong answer without a known original."""
    n = len(letters)
    status = np.array([WORDS[letter] for letter in letters], dtype=object)
    clean = np.array([{"s": 0.0, "e": np.nan}.get(letter, 1.0) for letter in letters])
    frame = pd.DataFrame(
        {
            "checkpoint": checkpoint,
            "testset": testset,
            "attack": attack,
            "example_id": [f"e{i}" for i in range(n)],
            "group_id": [f"e{i}" for i in range(n)],
            "gold": "positive",
            "status": status,
            "clean_correct": np.full(n, np.nan) if attack == "none" else clean,
            "correct": np.where(status == "failed", 1.0, 0.0),
            "queries": 0 if attack == "none" else 10,
            "forwards": 1,
            "modified_words": 1.0,
            "seconds": 0.1,
            "goal": None if attack == "none" else "change-prediction",
        }
    )
    return frame.assign(**columns).reindex(columns=[column.name for column in COLUMNS[Table.EXAMPLES]])


def table(frames: Sequence[pd.DataFrame], record: RunRecord) -> pd.DataFrame:
    return build_pairs(pd.concat(frames, ignore_index=True), record)


def one(pairs: pd.DataFrame, **where: object) -> pd.Series:
    found = pairs
    for name, value in ({"population": "all"} | where).items():
        found = found[found[name] == value]
    (place,) = found.index
    return found.loc[place]


FULL, LORA = arm("f", "full"), arm("l")
PAIR = [("f", "l", 0)]


# 1. A clean gap is no fragility


def test_a_clean_gap_is_less_accuracy_and_in_no_family() -> None:
    record = make_record([FULL, LORA], PAIR)

    pairs = table(
        [outcomes("f", "t", "none", "r" * 950 + "b" * 50), outcomes("l", "t", "none", "r" * 900 + "b" * 100)], record
    )

    row = one(pairs)
    assert (row["verdict"], row["family"], row["reason"]) == ("less-accurate", None, None)
    assert row["difference"] == pytest.approx(0.05) and np.isnan(row["p_adjusted"]) and row["p_value"] < 1e-9
    assert build_fragility(pd.DataFrame(columns=[c.name for c in COLUMNS[Table.EXAMPLES]]), pairs, record).empty


def test_a_difference_under_attack_that_the_clean_gap_explains_is_less_accuracy() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    # Both break on half of what they have right; LoRA has 100 of 1,000 fewer right to begin with.
    full = "b" * 450 + "r" * 450 + "b" * 50 + "r" * 50
    lora = "b" * 450 + "r" * 450 + "s" * 100

    pairs = table([outcomes("f", "t", "a", full), outcomes("l", "t", "a", lora)], record)

    row = one(pairs, metric="robust_accuracy")
    assert row["difference"] == pytest.approx(0.05) and row["p_adjusted"] < 1e-9
    assert (row["verdict"], row["reason"], row["family"]) == ("less-accurate", "clean-gap", "planned")
    success = one(pairs, metric="attack_success_rate", population="both_correct")
    assert (success["reference_value"], success["candidate_value"], success["n"]) == (0.5, 0.5, 900)


def test_a_success_rate_on_the_other_side_is_no_fragility() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    # LoRA is robust on fewer examples, for it has fewer right; of those both have right it keeps more.
    full = "r" * 500 + "b" * 200 + "r" * 300
    lora = "r" * 500 + "r" * 100 + "b" * 100 + "s" * 300

    row = one(table([outcomes("f", "t", "a", full), outcomes("l", "t", "a", lora)], record), metric="robust_accuracy")

    assert row["difference"] == pytest.approx(0.2)
    assert (row["verdict"], row["reason"]) == ("less-accurate", "success-rate-opposes")


def test_fragility_shows_in_robust_accuracy_and_in_the_success_rate_of_what_both_have_right() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    frames = [outcomes("f", "t", "a", "r" * 300 + "b" * 200), outcomes("l", "t", "a", "r" * 200 + "b" * 300)]

    pairs = table(frames, record)

    row, success = (
        one(pairs, metric="robust_accuracy"),
        one(pairs, population="both_correct", metric="attack_success_rate"),
    )
    assert (row["verdict"], row["difference"]) == ("peft-more-fragile", pytest.approx(0.2))
    assert success["difference"] == pytest.approx(0.2) and success["low"] > 0 and pd.isna(success["verdict"])
    assert row["drop_difference"] == pytest.approx(0.2)


def test_a_ready_made_set_without_originals_shows_less_accuracy_alone() -> None:
    record = make_record([FULL, LORA], PAIR, kinds={"adv": "adversarial"})
    letters = {"f": "r" * 300 + "b" * 200, "l": "r" * 200 + "b" * 300}
    unknown = [outcomes(name, "adv", "none", word) for name, word in letters.items()]
    known = [frame.assign(clean_correct=1.0) for frame in unknown]

    rows = [one(table(frames, record), metric="accuracy") for frames in (unknown, known)]

    assert [(row["verdict"], row["reason"]) for row in rows] == [
        ("less-accurate", "clean-unknown"),
        ("peft-more-fragile", None),
    ]
    assert all(row["family"] == "planned" for row in rows)


# 2. Interrupted or errored runs


def worst_of(pairs: pd.DataFrame) -> pd.Series:
    return one(pairs, attack="worst-case", metric="robust_accuracy")


def test_a_worst_case_is_over_the_attacks_that_both_arms_have() -> None:
    record = make_record([FULL, LORA], PAIR, attacks=dict.fromkeys("abc", "word"))
    rng = np.random.default_rng(0)

    def frame(name: str, attack: str) -> pd.DataFrame:
        return outcomes(name, "t", attack, ["b" if broken else "r" for broken in rng.random(400) < 0.3])

    # Equal arms; of the candidate only the first attack has finished.
    everything = [frame(name, attack) for name in "fl" for attack in "abc"]
    pairs = table([*everything[:3], everything[3]], record)

    assert "worst-case" not in set(pairs["attack"]) and set(pairs["attack"]) == {"a"}
    pairs = table(everything[:5], record)
    examples = pd.concat(everything[:5], ignore_index=True)
    shares = [
        1
        - (
            examples[examples["checkpoint"] == name]
            .query("attack != 'c'")
            .assign(b=lambda x: x["status"] == "succeeded")
            .groupby("example_id")["b"]
            .max()
        ).mean()
        for name in "fl"
    ]
    assert worst_of(pairs)[["reference_value", "candidate_value"]].tolist() == pytest.approx(shares)


def test_tables_agree_on_a_worst_case_with_errors_and_count_what_is_left_out() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word", "b": "word"})
    # The second example is errored under b on f, the third was wrong before a, so it is known though b errored.
    frames = [
        outcomes("f", "t", "a", "rbsr" + "r" * 16),
        outcomes("f", "t", "b", "reer" + "r" * 16),
        outcomes("l", "t", "a", "rrrb" + "r" * 16),
        outcomes("l", "t", "b", "rrrr" + "r" * 16),
    ]
    examples = pd.concat(frames, ignore_index=True)

    pairs, attacks = build_pairs(examples, record), build_attacks(examples, record)

    worst = worst_of(pairs)
    assert (worst["n"], worst["n_left_out"]) == (19, 1)
    stored = attacks[attacks["attack"] == "worst-case"].set_index("checkpoint")
    assert stored["n"].tolist() == [19, 19] and stored["n_left_out"].tolist() == [1, 1]
    assert stored["robust_accuracy"].tolist() == pytest.approx([18 / 19, 18 / 19])
    # Pairs let the left-out example, of which both were right before, be stood for: 17 or 18 of 20 strata shares.
    assert worst[["reference_value", "candidate_value"]].tolist() == pytest.approx(
        [(18 / 18) * 19 / 20, (17 / 18) * 19 / 20 + 1 / 20]
    )


def test_errors_on_one_arm_alone_do_not_tilt_the_comparison() -> None:
    """Errors befall what is attacked: without weights the arm with errors would seem less often right."""
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(200):
        letters = {}
        for name in "fl":
            right, broken = rng.random(3000) < 0.9, rng.random(3000) < 0.3
            letters[name] = np.where(~right, "s", np.where(broken, "b", "r"))
        errs = (letters["l"] != "s") & (rng.random(3000) < 0.2)
        frames = [outcomes(name, "t", "none", np.where(word == "s", "b", "r")) for name, word in letters.items()]
        frames += [outcomes("f", "t", "a", letters["f"]), outcomes("l", "t", "a", np.where(errs, "e", letters["l"]))]

        row = one(table(frames, record), metric="robust_accuracy")

        assert row["test"] == "post-stratified" and row["n_left_out"] == errs.sum()
        false += row["p_value"] <= 0.05
    assert false <= 19  # 5 % of 200, and three standard errors


def test_examples_that_one_arm_alone_has_are_left_out_of_every_row() -> None:
    """Those that an arm of another pair has are of no concern."""
    record = make_record([FULL, LORA, arm("m", "ia3")], PAIR, attacks={"a": "word", "b": "word"})
    letters = {"a": ("rb" * 5, "rb" * 7, "rb" * 20), "b": ("rb" * 6, "rb" * 5, "rb" * 20)}
    frames = [
        outcomes(name, "t", attack, word)
        for attack, words in letters.items()
        for name, word in zip("flm", words, strict=True)
    ]

    pairs = table(frames, record)

    left_out = {"a": 4, "b": 2, "worst-case": 4}
    assert set(pairs["attack"]) == set(left_out)
    assert [row.n_left_out for row in pairs.itertuples()] == [left_out[attack] for attack in pairs["attack"]]


def chosen_rows(asked: Mapping[str, str], wanted: Mapping[str, str]) -> pd.DataFrame:
    """Rows by checkpoint and attack, of a run that attacks the wanted rows: a dot where an example has none."""
    arms = [arm("f", "full"), arm("l"), arm("d", "dora")]
    record = make_record(arms, [("f", "l", 0), ("f", "d", 0)], attacks={"a": "word", "b": "word"})
    chosen = tuple(
        AttackedRecord(checkpoint=name, testset="t", rows=tuple(f"e{number}" for number in numbers))
        for name, numbers in wanted.items()
    )
    frames = []
    for place, letters in asked.items():
        checkpoint, attack = place.split("/")
        rows = outcomes(checkpoint, "t", attack, letters.replace(".", "r"))
        frames.append(rows[[letter != "." for letter in letters]])
    pairs = table(frames, record.model_copy(update={"attacked": 4, "chosen": chosen}))
    return pairs[pairs["metric"] == "robust_accuracy"].set_index(["pair", "attack"])


def test_a_chosen_row_that_an_interrupted_run_lacks_on_one_arm_is_left_out() -> None:
    """The last example was chosen for another pair of the reference."""
    pools = {"f/none": "rrrrrr", "l/none": "rrrrrr"}
    rows = chosen_rows(pools | {"f/a": "rbrr.r", "l/a": "rb...."}, {"f": "01235", "l": "0123"})

    assert rows.loc[("f-l", "a"), ["n", "n_left_out"]].tolist() == [2, 2]


def test_a_row_that_one_attack_lacks_is_left_out_and_that_of_another_pair_is_not() -> None:
    pools = {f"{name}/none": "rrrrrr" for name in "fld"}
    attacked = {"f/a": "rbrr..", "l/a": "rbr...", "d/a": ".brr..", "f/b": "rrrb..", "l/b": "r.....", "d/b": ".rrr.."}
    rows = chosen_rows(pools | attacked, {"f": "0123", "l": "012", "d": "123"})

    assert rows["n_left_out"].to_dict() == {
        ("f-l", "a"): 0, ("f-l", "b"): 2, ("f-l", "worst-case"): 2,
        ("f-d", "a"): 0, ("f-d", "b"): 0, ("f-d", "worst-case"): 0,
    }  # fmt: skip


def test_a_method_whose_worst_case_lost_many_examples_on_one_arm_has_no_verdict_there() -> None:
    frames, record = seeded(range(3), gap=0.4)
    attacks = tuple(AttackRecord(name=name, family="word", digest="d") for name in "ab")
    letters = {each.name: "r" * 200 + "b" * 200 for each in record.checkpoints} | {"l0": "r" * 200 + "e" * 200}
    frames += [outcomes(name, "t", "b", word) for name, word in letters.items()]

    rows = over_seeds(table(frames, record.model_copy(update={"attacks": attacks}))).set_index("attack")

    assert rows["n_left_out"].to_dict() == {"a": 0, "b": 200, "worst-case": 200}
    assert rows.loc[["b", "worst-case"], "reason"].tolist() == ["left-out"] * 2


def test_a_comparison_that_lost_most_examples_has_no_verdict() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    frames = [outcomes("f", "t", "a", "r" * 500), outcomes("l", "t", "a", "b" * 200 + "e" * 300)]

    row = one(table(frames, record), metric="robust_accuracy")

    assert (row["n"], row["n_left_out"], row["verdict"], row["reason"]) == (200, 300, "inconclusive", "left-out")


# 3 and 4. Training seeds, and what is a method


def seeded(
    seeds: Sequence[int], *, shared: bool = False, digests: Sequence[str] | None = None, gap: float = 0.2
) -> tuple[list[pd.DataFrame], RunRecord]:
    arms, pairs, frames = {}, [], []
    rng = np.random.default_rng(3)
    for number, seed in enumerate(seeds):
        names = ("f" if shared else f"f{number}", f"l{number}")
        arms[names[0]] = arm(names[0], "full", seed)
        settings = {} if digests is None else {"r": digests[number]}
        arms[names[1]] = arm(names[1], "lora", seed, method_digest=settings.get("r", "d"), settings=settings)
        pairs.append((*names, seed))
    record = make_record(list(arms.values()), pairs, attacks={"a": "word"})
    for name, each in arms.items():
        broken = rng.random(400) < (0.3 if each.adaptation == "full" else 0.3 + gap)
        frames.append(outcomes(name, "t", "a", np.where(broken, "b", "r")))
    return frames, record


def over_seeds(pairs: pd.DataFrame) -> pd.DataFrame:
    return pairs[(pairs["n_seeds"] > 1) & (pairs["metric"] == "robust_accuracy")]


def test_two_seeds_give_no_verdict_on_a_method_and_three_may() -> None:
    two, three = (over_seeds(table(*seeded(range(count)))).iloc[0] for count in (2, 3))

    assert (two["verdict"], two["reason"], two["n_seeds"]) == ("inconclusive", "two-seeds", 2)
    assert (three["verdict"], three["n_seeds"], three["pair"]) == ("peft-more-fragile", 3, "sst2 lora, 3 seeds")
    assert three["drop_difference"] == pytest.approx(three["difference"])


MARKS = (("clean_correct", 1.0), ("status", "failed"))
"""How it shows in a frame that an example is right before the attack, and after it."""


def test_a_methods_success_rate_is_the_mean_over_seeds_of_what_both_arms_have_right() -> None:
    frames, record = seeded(range(3))
    rng = np.random.default_rng(8)
    frames = [f.assign(clean_correct=np.where(rng.random(400) < 0.9, 1.0, 0.0)) for f in frames]
    frames = [f.assign(status=f["status"].where(f["clean_correct"] == 1, "skipped")) for f in frames]

    pairs = table(frames, record)

    rows = pairs[pairs["metric"] == "attack_success_rate"].set_index("n_seeds")
    single, method = rows.loc[[1]], rows.loc[3]
    for column in ("reference_value", "candidate_value", "difference"):
        assert method[column] == pytest.approx(single[column].mean())
    # A ratio of means, linearised (Cochran, section 6.3): R + (y - R x) / mean x of each example, seed by seed.
    right, kept = (np.stack([f[name] == value for f in frames]) for name, value in MARKS)
    both = (right[::2] & right[1::2]).astype(float)
    lost = both * (kept[::2].astype(float) - kept[1::2])
    ratio = lost.sum(axis=1, keepdims=True) / both.sum(axis=1, keepdims=True)
    expected = difference_over_seeds(ratio + (lost - ratio * both) / both.mean(axis=1, keepdims=True)).interval()
    assert method["family"] == "secondary"
    assert (method["low"], method["high"]) == pytest.approx((expected.low, expected.high))


def test_a_method_at_the_floor_is_compared_by_its_effort() -> None:
    frames, record = seeded(range(3))
    rng = np.random.default_rng(9)
    hard = rng.integers(2, 9, 400)
    broken = [
        outcomes(
            f["checkpoint"].iloc[0],
            "t",
            "a",
            "b" * 390 + "r" * 10,
            modified_words=hard - (f["checkpoint"].iloc[0][0] == "l") * (rng.random(400) < 0.5),
        )
        for f in frames
    ]

    pairs = table(broken, record)

    rows = pairs[pairs["metric"] == "effort"]
    method, single = rows[rows["n_seeds"] == 3].iloc[0], rows[rows["n_seeds"] == 1]
    assert over_seeds(pairs).iloc[0]["reason"] == "floor"
    for column in ("reference_value", "candidate_value"):
        assert method[column] == pytest.approx(single[column].mean())
    assert method["difference"] == pytest.approx(single["difference"].mean()) and method["n"] == 400
    assert (method["verdict"], method["family"]) == ("peft-more-fragile", "effort")


def test_a_methods_effort_is_of_what_both_arms_have_right() -> None:
    frames, record = seeded(range(3))
    rng = np.random.default_rng(10)
    broken = []
    for f in frames:
        letters = np.where(rng.random(400) < 0.2, "s", "b")
        spent = rng.integers(1, 9, 400)
        broken.append(outcomes(f["checkpoint"].iloc[0], "t", "a", letters, modified_words=spent))

    rows = table(broken, record).query("metric == 'effort'")

    method, single = rows[rows["n_seeds"] == 3].iloc[0], rows[rows["n_seeds"] == 1]
    assert method["difference"] == pytest.approx(single["difference"].mean())
    kept = [f.set_index("example_id")["status"] != "skipped" for f in broken]
    both = [a & b for a, b in zip(kept[::2], kept[1::2], strict=True)]
    assert method["n"] == (both[0] | both[1] | both[2]).sum()


def test_a_method_has_a_worst_case_over_attacks_of_any_name() -> None:
    frames, record = seeded(range(3))
    attacks = tuple(record.attacks[0].model_copy(update={"name": name}) for name in ("swap", "tweak", "identity"))
    both = [f.assign(attack=attack.name) for f in frames for attack in attacks]

    rows = table(both, record.model_copy(update={"attacks": attacks}))

    assert "worst-case" in set(rows[rows["n_seeds"] == 3]["attack"])
    worst = rows[(rows["n_seeds"] == 3) & (rows["attack"] == "worst-case") & (rows["metric"] == "robust_accuracy")]
    assert worst.iloc[0]["difference"] == pytest.approx(
        over_seeds(rows).query("attack == 'swap'")["difference"].iloc[0]
    )


def test_examples_whose_effort_is_not_told_on_one_arm_are_left_out_and_counted() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    spent = np.arange(200) % 7 + 1.0
    unknown = np.where(np.arange(200) < 40, np.nan, spent + 1)
    frames = [
        outcomes("f", "t", "a", "b" * 200, modified_words=unknown),
        outcomes("l", "t", "a", "b" * 200, modified_words=spent),
    ]

    effort = one(table(frames, record), metric="effort", population="both_correct")

    assert (effort["n"], effort["n_left_out"], effort["difference"]) == (160, 40, 1)


def test_the_success_rate_is_of_examples_known_to_be_right_on_both_arms() -> None:
    """Originals of half of the rows are known on one arm alone."""
    record = make_record([FULL, LORA], PAIR, kinds={"adv": "adversarial"})
    half = np.where(np.arange(400) < 200, 1.0, np.nan)
    frames = [
        outcomes("f", "adv", "none", "rb" * 200).assign(clean_correct=1.0),
        outcomes("l", "adv", "none", "rb" * 200).assign(clean_correct=half),
    ]

    success = one(table(frames, record), metric="attack_success_rate", population="both_correct")

    assert success["n"] == 200


def test_seeds_are_counted_once_however_often_they_were_trained() -> None:
    row = over_seeds(table(*seeded([0, 0, 0, 0, 1]))).iloc[0]

    assert (row["n_seeds"], row["verdict"], row["reason"]) == (2, "inconclusive", "two-seeds")


@pytest.mark.parametrize(("seeds", "is_right_or_wrong"), [([0, 1, 2, 3, 4], True), ([0, 0, 1, 1, 2, 2], False)])
def test_what_a_method_could_have_shown_grows_with_discordance_where_a_seed_was_trained_once(
    seeds: list[int], is_right_or_wrong: bool
) -> None:
    """The mean of two checkpoints of one seed is no matter of right and wrong."""
    frames, record = seeded(seeds, gap=0.05)
    kept = np.stack([(frame["status"] == "failed").to_numpy(dtype=float) for frame in frames])
    differences = kept[::2] - kept[1::2]
    differences = np.stack([differences[np.array(seeds) == seed].mean(axis=0) for seed in dict.fromkeys(seeds)])
    estimate = difference_over_seeds(differences)
    with_share, without = (
        detectable_by_estimate(estimate, n=400, rarer_share=share) for share in (rarer_share(differences), None)
    )

    row = over_seeds(table(frames, record)).iloc[0]

    assert row["detectable"] == pytest.approx(with_share if is_right_or_wrong else without)
    assert abs(with_share - without) > 1e-3


def test_one_reference_for_all_seeds_is_no_comparison_of_methods() -> None:
    row = over_seeds(table(*seeded(range(5), shared=True))).iloc[0]

    assert (row["verdict"], row["reason"]) == ("inconclusive", "shared-reference")


def test_one_candidate_for_all_seeds_is_no_comparison_of_methods() -> None:
    frames, record = seeded(range(3))
    pairs = tuple(pair.model_copy(update={"candidate": "l0"}) for pair in record.pairs)

    row = over_seeds(table(frames, record.model_copy(update={"pairs": pairs}))).iloc[0]

    assert (row["verdict"], row["reason"]) == ("inconclusive", "shared-candidate")


def test_one_candidate_method_beside_two_reference_methods_is_two_methods() -> None:
    frames, record = seeded(range(6))
    arms = tuple(
        each.model_copy(update={"method_digest": "first" if int(each.name[1:]) < 3 else "second"})
        if each.adaptation == "full"
        else each
        for each in record.checkpoints
    )

    rows = over_seeds(table(frames, record.model_copy(update={"checkpoints": arms})))

    assert rows["pair"].tolist() == [
        "sst2 lora against full first, 3 seeds",
        "sst2 lora against full second, 3 seeds",
    ]


def test_errors_on_the_candidates_of_a_method_withhold_its_verdict() -> None:
    frames, record = seeded(range(3))
    rng = np.random.default_rng(4)
    errored = [
        f.assign(status=f["status"].mask(rng.random(400) < 0.1, "errored"))
        if f["checkpoint"].iloc[0][0] == "l"
        else f
        for f in frames
    ]

    row = over_seeds(table(errored, record)).iloc[0]

    assert (row["verdict"], row["reason"]) == ("inconclusive", "left-out") and row["n_left_out"] > 40


def test_errors_on_one_arm_withhold_the_verdicts_on_parts_of_a_test_set() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    rng = np.random.default_rng(6)
    letters = {name: np.where(rng.random(2000) < 0.4, "b", "r") for name in "fl"}
    letters["l"] = np.where(rng.random(2000) < 0.3, "e", letters["l"])
    frames = [outcomes(name, "t", "a", word).assign(modified_share=0.05) for name, word in letters.items()]
    examples = pd.concat(frames, ignore_index=True)

    parts = build_fragility(examples, build_pairs(examples, record), record)

    parts = parts[parts["where"] != "attack"]
    assert len(parts) and set(parts["verdict"]) == {"inconclusive"} and set(parts["reason"]) == {"left-out"}


def test_a_method_of_rows_of_one_source_has_no_number_that_is_none() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    frames = [outcomes(name, "t", "a", "rb" * 50).assign(group_id="one") for name in "fl"]

    row = one(table(frames, record), metric="robust_accuracy")

    assert (row["verdict"], row["n"]) == ("inconclusive", 100) and np.isnan(row["low"])


def test_rank_4_and_rank_64_are_two_methods() -> None:
    rows = over_seeds(table(*seeded([0, 1, 2, 0, 1, 2], digests=["4", "4", "4", "64", "64", "64"])))

    assert rows["pair"].tolist() == ["sst2 lora r=4, 3 seeds", "sst2 lora r=64, 3 seeds"]
    assert rows["method_digest"].tolist() == ["4", "64"] and rows["n_seeds"].tolist() == [3, 3]


def test_two_bases_are_two_methods() -> None:
    frames, record = seeded([0, 1, 2, 3])
    bases = ["a/one", "a/one", "a/two", "a/two"]
    pairs = tuple(p.model_copy(update={"base": base}) for p, base in zip(record.pairs, bases, strict=True))

    rows = over_seeds(table(frames, record.model_copy(update={"pairs": pairs})))

    assert rows["base"].tolist() == ["a/one", "a/two"] and rows["n_seeds"].tolist() == [2, 2]
    assert rows["pair"].tolist() == ["sst2 lora on one, 2 seeds", "sst2 lora on two, 2 seeds"]


def test_two_methods_of_one_name_have_the_noise_floor_and_the_base_of_their_own_pairs() -> None:
    frames, record = seeded([0, 1, 0, 1], digests=["4", "4", "64", "64"])
    noise, precisions = {"l0": 0.01, "f1": 0.02, "l2": 0.05}, {"l0": "4bit", "l1": "4bit", "l2": "full", "l3": "full"}
    arms = tuple(
        each.model_copy(update={"noise_floor": noise.get(each.name), "base_precision": precisions.get(each.name, "")})
        for each in record.checkpoints
    )
    record = record.model_copy(update={"checkpoints": arms})
    pairs = table(frames, record)
    places = build_fragility(pd.concat(frames, ignore_index=True), pairs, record)

    floors = {"f0-l0": 0.01, "f1-l1": 0.02, "f2-l2": 0.05, "sst2 lora r=4, 2 seeds": 0.02}
    floors["sst2 lora r=64, 2 seeds"] = 0.05
    for rows in (pairs, places):
        known = rows[rows["noise_floor"].notna()]
        assert dict(zip(known["pair"], known["noise_floor"], strict=True)) == floors
        bases = rows.groupby("pair")["base_precision"].agg(set)
        assert bases["sst2 lora r=4, 2 seeds"] == bases["f1-l1"] == {"4bit"}
        assert bases["sst2 lora r=64, 2 seeds"] == bases["f3-l3"] == {"full"}


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ("a/base", "b/base", ("a/base", "b/base")),
        ("/a/base/", "/b/base/", ("a/base", "b/base")),
        ("base", "x/a/base", ("base", "a/base")),
    ],
)
def test_two_bases_in_folders_of_one_name_are_two_methods(one: str, other: str, names: tuple[str, str]) -> None:
    frames, record = seeded(range(4))
    bases = [one, one, other, other]
    pairs = tuple(p.model_copy(update={"base": base}) for p, base in zip(record.pairs, bases, strict=True))

    rows = over_seeds(table(frames, record.model_copy(update={"pairs": pairs})))

    assert rows["base"].tolist() == [one, other]
    assert rows["pair"].tolist() == [f"sst2 lora on {name}, 2 seeds" for name in names]


def test_what_else_than_settings_tells_two_methods_apart_is_named() -> None:
    frames, record = seeded(range(4))
    digests = {"l0": "1234567", "l1": "1234567", "l2": "89abcde", "l3": "89abcde"}
    arms = tuple(
        each.model_copy(update={"method_digest": digests.get(each.name, "d")}) for each in record.checkpoints
    )

    alike = over_seeds(table(frames, record.model_copy(update={"checkpoints": arms})))
    set_once = tuple(a.model_copy(update={"settings": {"r": "4"} if a.name in ("l0", "l1") else {}}) for a in arms)
    told = over_seeds(table(frames, record.model_copy(update={"checkpoints": set_once})))

    assert alike["pair"].tolist() == ["sst2 lora 123456, 2 seeds", "sst2 lora 89abcd, 2 seeds"]
    assert told["pair"].tolist() == ["sst2 lora r=4, 2 seeds", "sst2 lora r=default, 2 seeds"]
    assert (
        alike[["contrast", "method", "task", "base"]].to_numpy().tolist()
        == [["full-vs-peft", "lora", "sst2", "base"]] * 2
    )


def test_a_method_is_told_from_those_of_its_own_kind_and_task_alone() -> None:
    """LoRA on two tasks and IA3, each with settings and a base of its own, need no further words."""
    frames, record = seeded(range(6))
    kinds = [("sst2", "lora", "one"), ("qqp", "lora", "two"), ("sst2", "ia3", "three")]
    facts = {f"{letter}{seed}": kinds[seed // 2] for letter in "fl" for seed in range(6)}
    arms = [
        each.model_copy(
            update={
                "task": facts[each.name][0],
                "method_digest": facts[each.name][2],
                "settings": {"r": facts[each.name][2]},
            }
            | ({} if each.adaptation == "full" else {"adaptation": facts[each.name][1]})
        )
        for each in record.checkpoints
    ]
    pairs = [
        pair.model_copy(update={"task": facts[pair.candidate][0], "base": facts[pair.candidate][2]})
        for pair in record.pairs
    ]
    update = {"checkpoints": tuple(arms), "pairs": tuple(pairs)}

    rows = over_seeds(table(frames, record.model_copy(update=update)))

    assert rows["pair"].tolist() == ["sst2 lora, 2 seeds", "qqp lora, 2 seeds", "sst2 ia3, 2 seeds"]


def test_a_method_has_the_families_and_controls_of_its_pairs() -> None:
    """`identity` and the clean set as it stands show accuracy alone; a random baseline shows how much breaks."""
    frames, record = seeded(range(3))
    attacks = {"a": "word", "b": "word", "identity": "baseline", "random-chars": "baseline"}
    record = record.model_copy(
        update={
            "attacks": tuple(AttackRecord(name=name, family=family, digest="d") for name, family in attacks.items())
        }
    )
    right = {"full": "r" * 380 + "b" * 20, "lora": "r" * 200 + "b" * 200}
    frames += [  # controls break other examples than attacks do
        outcomes(arm.name, "t", attack, right[arm.adaptation][:: 1 if attack == "b" else -1])
        for arm in record.checkpoints
        for attack in ("none", "b", "identity", "random-chars")
    ]

    pairs = table(frames, record)

    fragile, inaccurate = "peft-more-fragile", "less-accurate"
    expected = {
        "none": ("", inaccurate),
        "a": ("planned", fragile),
        "b": ("planned", fragile),
        "identity": ("", inaccurate),
        "random-chars": ("", fragile),
        "worst-case": ("planned", fragile),
    }
    for n_seeds, rows in pairs[pairs["population"] == "all"].groupby("n_seeds"):
        said = {row.attack: (row.family or "", row.verdict) for row in rows.fillna({"family": ""}).itertuples()}
        assert (n_seeds, said) == (n_seeds, expected)
    method = over_seeds(pairs).set_index("attack")
    assert method.loc["b", ["reference_value", "candidate_value"]].tolist() == [0.95, 0.5]
    # Of the first attack 30 and 50 of 100 break by chance, and the second breaks the last 20 and 200 of 400 anyway.
    assert method.loc["worst-case", "reference_value"] == pytest.approx(0.7 * 0.95, abs=0.05)
    assert method.loc["worst-case", "candidate_value"] == pytest.approx(0.5 * 0.5, abs=0.05)


def test_a_methods_success_rate_is_as_sure_as_on_the_examples_that_both_have_right_alone() -> None:
    """The same 300 of 400 are right before under every seed: the others say nothing of the rate."""
    frames, record = seeded(range(4), gap=0.3)
    right = np.arange(400) % 4 > 0
    frames = [f.assign(clean_correct=right.astype(float), status=f["status"].where(right, "skipped")) for f in frames]
    broken = np.stack([frame["status"][right] == "succeeded" for frame in frames]).astype(float)
    alone = difference_over_seeds(broken[1::2] - broken[::2])

    row = one(table(frames, record), metric="attack_success_rate", population="both_correct", n_seeds=4)

    low, high = alone.interval().low, alone.interval().high
    assert (row["n"], row["difference"]) == (300, pytest.approx(alone.difference))
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.04 * (high - low))


# 5 and 6. Floors, and effort


def test_effort_is_compared_on_what_both_arms_have_right() -> None:
    """Of 40 that both have right the reference takes less on 10, the candidate on 20, and 10 are ties."""
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    full, lora = np.repeat([1.0, 2.0, 2.0], [10, 20, 70]), np.repeat([2.0, 1.0, 2.0], [10, 20, 70])
    frames = [
        outcomes("f", "t", "a", "b" * 40 + "s" * 20 + "b" * 40, modified_words=full),
        outcomes("l", "t", "a", "b" * 60 + "s" * 40, modified_words=lora),
    ]

    effort = one(table(frames, record), metric="effort", population="both_correct")

    assert effort["n"] == 40
    assert (effort["reference_value"], effort["candidate_value"]) == (15 / 40, 25 / 40)
    assert effort["difference"] == 0.25


def test_arms_that_are_both_broken_are_not_equivalent_and_their_effort_is_compared() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    rng = np.random.default_rng(0)
    n = 2000
    letters = "b" * (n - 40) + "r" * 40
    spent = rng.integers(1, 6, n)
    frames = [
        outcomes("f", "t", "a", letters, modified_words=spent + (rng.random(n) < 0.3)),
        outcomes("l", "t", "a", letters, modified_words=spent),
    ]

    pairs = table(frames, record)

    row, effort = one(pairs, metric="robust_accuracy"), one(pairs, metric="effort", population="both_correct")
    assert row["high"] < 0.02 and (row["verdict"], row["reason"]) == ("inconclusive", "floor")
    assert (effort["verdict"], effort["family"], effort["test"]) == ("peft-more-fragile", "effort", "signed-rank")
    assert effort["difference"] == pytest.approx(0.3 * 1960 / 2000, abs=0.03) and effort["low"] > 0
    assert effort["candidate_value"] - effort["reference_value"] == pytest.approx(effort["difference"])


def test_an_exhausted_search_never_breaks_rather_than_being_cut_short() -> None:
    """Both arms break on the same half with the same queries; one gives up earlier on the other half."""
    record = make_record([FULL, LORA], PAIR, attacks={"a": "sentence"})
    letters, n = "b" * 200 + "r" * 200, 400
    spent = np.concatenate([np.arange(200) % 50 + 1, np.full(200, 60)])
    gave_up = np.concatenate([spent[:200], np.full(200, 5)])
    frames = [outcomes("f", "t", "a", letters, queries=spent), outcomes("l", "t", "a", letters, queries=gave_up)]
    examples = pd.concat(frames, ignore_index=True)

    effort = one(build_pairs(examples, record), metric="effort", population="both_correct")
    survival = build_survival(examples, record).iloc[0]

    assert (effort["difference"], effort["p_value"], effort["n"]) == (0, 1, n)
    assert (survival["p_value"], survival["statistic"]) == (1, 0)
    assert survival[["reference_median", "candidate_median"]].tolist() == [50, 50]


def test_a_median_effort_is_given_only_where_half_really_break() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "sentence"})
    frames = [outcomes("f", "t", "a", "b" * 49 + "r" * 51), outcomes("l", "t", "a", "b" * 50 + "r" * 50)]

    survival = build_survival(pd.concat(frames, ignore_index=True), record).iloc[0]

    assert np.isnan(survival["reference_median"]) and survival["candidate_median"] == 10


def test_effort_is_tested_by_signed_ranks_of_the_same_examples() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "sentence"})
    rng = np.random.default_rng(5)
    hard = rng.integers(20, 2000, 300) * 3  # apart enough that joint ranks move as the numbers do
    frames = [
        outcomes("f", "t", "a", "b" * 300, queries=hard + rng.integers(0, 3, 300)),
        outcomes("l", "t", "a", "b" * 300, queries=hard - 1),
    ]

    effort = one(table(frames, record), metric="effort", population="both_correct")

    first, second = (frame["queries"].to_numpy() for frame in frames)
    assert effort["difference"] == 1 and effort["p_value"] < 1e-30
    assert wilcoxon(first - second).pvalue < 1e-30


# Families


def planted_family(record: RunRecord, rates: Mapping[str, tuple[float, float]], n: int = 400) -> list[pd.DataFrame]:
    rng = np.random.default_rng(2)
    frames = []
    for attack, pair in rates.items():
        hard = rng.random(n)
        for name, rate in zip("fl", pair, strict=True):
            frames.append(outcomes(name, "t", attack, np.where(hard < rate, "b", "r")))
    return frames


def test_identity_and_baselines_are_controls_outside_of_family_and_worst_case() -> None:
    attacks = {"a": "word", "b": "word", "identity": "baseline", "random-chars": "baseline"}
    record = make_record([FULL, LORA], PAIR, attacks=attacks)
    rates = {"a": (0.3, 0.45), "b": (0.2, 0.2), "identity": (0.0, 0.0), "random-chars": (0.0, 1.0)}

    pairs = table(planted_family(record, rates), record)
    rows = pairs[pairs["metric"] == "robust_accuracy"].set_index("attack")

    assert rows["family"].fillna("").to_dict() == {
        "a": "planned",
        "b": "planned",
        "identity": "",
        "random-chars": "",
        "worst-case": "planned",
    }
    assert rows.loc["worst-case", "candidate_value"] == pytest.approx(0.44, abs=0.05)
    assert rows.loc[["identity", "random-chars"], "p_adjusted"].isna().all()


def test_no_single_attack_is_called_behind_a_worst_case_that_does_not_differ() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word", "b": "word"})
    # What a leaves to the one arm b takes: over both the arms are alike.
    letters = {
        "f": ("r" * 100 + "b" * 100 + "r" * 200, "b" * 200 + "r" * 200),
        "l": ("b" * 200 + "r" * 200, "b" * 200 + "r" * 200),
    }
    frames = [
        outcomes(name, "t", attack, word)
        for name, words in letters.items()
        for attack, word in zip("ab", words, strict=True)
    ]

    rows = table(frames, record).query("metric == 'robust_accuracy'").set_index("attack")

    assert rows.loc["worst-case", "p_adjusted"] == 1
    assert rows.loc["a", "p_value"] < 1e-9 and rows.loc["a", "p_adjusted"] == 1
    assert (rows.loc["a", "verdict"], rows.loc["a", "reason"]) == ("inconclusive", "gate")


def test_a_family_is_of_one_pair() -> None:
    arms = [FULL, LORA, arm("m", "ia3")]
    record = make_record(arms, [("f", "l", 0), ("f", "m", 0)], attacks={"a": "word"})
    frames = [outcomes(name, "t", "a", "r" * (60 - 8 * i) + "b" * (40 + 8 * i)) for i, name in enumerate("flm")]

    rows = table(frames, record).query("metric == 'robust_accuracy'")

    assert rows["p_adjusted"].tolist() == rows["p_value"].tolist()


# 7. Adversarial SQuAD


def test_the_headline_of_adversarial_questions_is_over_altered_rows() -> None:
    record = make_record([FULL, LORA], PAIR, kinds={"advsquad": "adversarial"}, answers=True)
    n = 900
    ids = [f"q{i // 3}" for i in range(n)]
    altered = np.arange(n) % 3 > 0
    rng = np.random.default_rng(0)
    frames = []
    for name, rate in (("f", 0.60), ("l", 0.50)):
        f1 = np.where(altered, rng.random(n) < rate, 1.0)
        frame = outcomes(name, "advsquad", "none", np.where(f1 == 1, "r", "b"))
        frames.append(
            frame.assign(
                group_id=ids,
                quality=f1,
                clean_quality=np.where(altered, 1.0, np.nan),
                clean_correct=np.where(altered, 1.0, np.nan),
            )
        )

    pairs = table(frames, record)

    planned = pairs[pairs["family"] == "planned"]
    assert planned[["metric", "population", "n"]].to_numpy().tolist() == [["f1", "altered", 600]]
    means = [frame["quality"].to_numpy()[altered].mean() for frame in frames]
    assert planned.iloc[0][["reference_value", "candidate_value"]].tolist() == pytest.approx(means)
    assert planned.iloc[0]["verdict"] == "peft-more-fragile"
    everything = one(pairs, metric="f1", aggregation="mean")
    assert everything["difference"] == pytest.approx(planned.iloc[0]["difference"] * 2 / 3)
    official = one(pairs, metric="exact_match", aggregation="official")
    by_question = [
        frame.assign(quality=np.where(altered, frame["quality"], 2)).groupby("group_id")["quality"].min().mean()
        for frame in frames
    ]
    assert official["n"] == 300
    assert official[["reference_value", "candidate_value"]].tolist() == pytest.approx(by_question)


# 9. Few large groups


def test_few_large_groups_give_no_equivalence() -> None:
    record = make_record([FULL, LORA], PAIR, attacks={"a": "word"})
    groups = [f"g{i // 100}" for i in range(2000)]
    frames = [outcomes(name, "t", "a", "rb" * 1000).assign(group_id=groups) for name in "fl"]
    alone = [frame.assign(group_id=frame["example_id"]) for frame in frames]

    verdicts = [one(table(each, record), metric="robust_accuracy")["verdict"] for each in (frames, alone)]

    assert verdicts == ["inconclusive", "equivalent"]


def test_what_is_known_of_one_arms_original_alone_enters_no_clean_gap() -> None:
    record = make_record([FULL, LORA], PAIR, kinds={"adv": "adversarial"})
    known = np.where(np.arange(400) < 200, 1.0, np.nan)
    frames = [
        outcomes("f", "adv", "none", "r" * 400).assign(clean_correct=1.0),
        outcomes("l", "adv", "none", "r" * 400).assign(clean_correct=known),
    ]

    row = one(table(frames, record), metric="accuracy")

    # Both keep all of the 200 whose originals both were asked: no drop, and an interval as of 200 examples.
    assert (row["drop_difference"], row["difference"]) == (0, 0)
    assert row["drop_high"] - row["drop_low"] > 1.9 * (row["high"] - row["low"])


def test_three_attacks_have_a_worst_case_as_two_have() -> None:
    record = make_record([FULL, LORA], PAIR, attacks=dict.fromkeys("abc", "word"))
    letters = ("brrr" * 25, "rbrr" * 25, "rrbr" * 25)
    frames = [outcomes(name, "t", a, word) for name in "fl" for a, word in zip("abc", letters, strict=True)]

    assert worst_of(table(frames, record))["reference_value"] == 0.25
