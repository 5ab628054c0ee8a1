"""Every sentence about planted rows of pairs.csv, word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustness.reports.comparisons import methods
from robustness.reports.summaries.arms import Arms, name_arms
from robustness.reports.summaries.circumstances import describe_circumstances
from robustness.reports.summaries.reasons import explain
from robustness.reports.summaries.summary import ONE_SEED, SEEDS_MISSING, Summary, answer_rows, summarise_run
from robustness.runs.storage.record import AttackedRecord, RunRecord
from robustness.stats import Reason, Verdict

ARMS = name_arms("full", "lora")
MINUS = "\u2212"
FRAGILE = {
    "candidate_value": 0.4,
    "difference": 0.1,
    "low": 0.05,
    "high": 0.15,
    "p_adjusted": 0.0004,
    "verdict": "peft-more-fragile",
}
SWAPPED = {
    "reference_value": 0.4,
    "candidate_value": 0.5,
    "difference": -0.1,
    "low": -0.15,
    "high": -0.05,
    "p_adjusted": 0.0004,
    "verdict": "full-more-fragile",
}
EQUAL = {"candidate_value": 0.499, "difference": 0.001, "low": -0.0141, "high": 0.0161, "verdict": "equivalent"}
LESS = FRAGILE | {"verdict": "less-accurate", "reason": "clean-gap"}


@pytest.fixture(scope="module")
def record(run_writer: Any) -> RunRecord:
    made: RunRecord = run_writer.record()
    return made


@pytest.fixture
def ask(planted: Any, record: RunRecord) -> Any:
    """The answer that planted rows give: cells of a row each."""

    def answer(*rows: dict[str, object], arms: Arms = ARMS) -> Summary:
        return answer_rows("pair-0", planted.table(*(planted.row(**cells) for cells in rows)), arms, record)

    return answer


def rate(**cells: object) -> dict[str, object]:
    """The success rate at the same place, on the 348 examples both have right."""
    return {
        "metric": "attack_success_rate",
        "population": "both_correct",
        "family": "secondary",
        "n": 348,
        "reference_value": 0.45,
        "candidate_value": 0.56,
        "difference": 0.11,
        "low": 0.05,
        "high": 0.17,
        "p_adjusted": 0.002,
    } | cells


def clean(**cells: object) -> dict[str, object]:
    """Accuracy on the test set as it stands: a control."""
    return {
        "attack": "none",
        "metric": "accuracy",
        "family": None,
        "reference_value": 0.92,
        "candidate_value": 0.9,
        "difference": 0.02,
        "low": -0.01,
        "high": 0.05,
        "p_value": 0.25,
        "p_adjusted": None,
    } | cells


def effort(**cells: object) -> dict[str, object]:
    """The effort of the same attack on the 300 examples both have right."""
    return {
        "metric": "effort",
        "population": "both_correct",
        "family": "effort",
        "n": 300,
        "reference_value": 0.39,
        "candidate_value": 0.61,
        "difference": 0.22,
        "low": 0.15,
        "high": 0.29,
        "p_adjusted": 0.0312,
        "verdict": "peft-more-fragile",
    } | cells


def test_a_fragile_answer_rests_on_the_success_rate_and_on_clean_accuracy_of_the_same_examples(ask: Any) -> None:
    answer = ask(FRAGILE | {"drop_difference": 0.08}, {"attack": "other"}, rate(), clean())

    assert answer.verdict is Verdict.PEFT_MORE_FRAGILE
    assert answer.headline.difference == "LoRA is more fragile than full fine-tuning in 1 of 2 comparisons."
    assert answer.details == (
        "Clearest: swap on set, where full fine-tuning keeps 50.0 % and LoRA 40.0 %: +10.0 points "
        "(95 % interval +5.0 to +15.0, adjusted p < 0.001, n = 400).",
        "Of 348 examples both have right, 45.0 % break under full fine-tuning and 56.0 % under LoRA: +11.0 points "
        "(95 % interval +5.0 to +17.0, adjusted p = 0.002).",
        "Clean accuracy on the same 400 examples: full fine-tuning 92.0 %, LoRA 90.0 %.",
    )


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        (0.04, "LoRA is 6 points below full fine-tuning"),
        (0.12, "LoRA is 2 points above full fine-tuning"),
        (0.1, "no difference"),
    ],
)
def test_where_the_clean_set_is_of_other_examples_the_gap_follows_from_the_drop(
    ask: Any, drop: float, words: str
) -> None:
    """A row of 500 other examples is no evidence on these 400, nor is one of as many with another difference."""
    other = clean(n=500), clean(difference=-0.05), clean(n=500, difference=round(0.1 - drop, 6))
    answers = [ask(FRAGILE | {"drop_difference": drop}, each) for each in other]

    sentence = f"Clean accuracy on the same 400 examples: {words}."
    assert [answer.details[-1] for answer in answers] == [sentence] * 3


def test_a_gap_of_the_gate_on_other_examples_is_no_part_of_the_answer(ask: Any, record: RunRecord) -> None:
    answer = ask(FRAGILE | {"drop_difference": None})

    assert answer.caveats == () and len(answer.details) == 1


def test_the_clearest_difference_is_the_surest_of_those_with_the_verdict(ask: Any) -> None:
    answer = ask(
        FRAGILE | {"attack": "large", "difference": 0.3, "p_adjusted": 0.02},
        FRAGILE | {"attack": "sure"},
        {"attack": "inside the margin", "p_adjusted": 1e-9, "verdict": "equivalent"},
    )

    assert answer.headline.difference == "LoRA is more fragile than full fine-tuning in 2 of 3 comparisons."
    assert answer.details[0].startswith("Clearest: sure on set, where")


def test_among_equally_sure_differences_the_larger_then_a_single_attack_is_the_clearest(ask: Any) -> None:
    one = ask(FRAGILE | {"attack": "small", "difference": 0.09}, FRAGILE | {"attack": "large", "difference": 0.2})
    two = ask(FRAGILE | {"attack": "worst-case"}, FRAGILE | {"attack": "single"})

    assert one.details[0].startswith("Clearest: large on set")
    assert two.details[0].startswith("Clearest: single on set")


def test_a_more_fragile_reference_is_named(ask: Any) -> None:
    answer = ask(SWAPPED)

    assert answer.verdict is Verdict.FULL_MORE_FRAGILE
    assert answer.headline.difference == "Full fine-tuning is more fragile than LoRA."
    assert answer.details == (
        "Clearest: swap on set, where full fine-tuning keeps 40.0 % and LoRA 50.0 %: "
        f"{MINUS}10.0 points (95 % interval {MINUS}15.0 to {MINUS}5.0, adjusted p < 0.001, n = 400).",
    )


def test_findings_on_both_sides_are_told_together(ask: Any) -> None:
    answer = ask(FRAGILE, SWAPPED | {"attack": "a"}, SWAPPED | {"attack": "b"}, {"attack": "c"})

    assert answer.verdict is Verdict.INCONCLUSIVE
    assert answer.headline.difference == "LoRA is more fragile in 1 and full fine-tuning in 2 of 4 comparisons."


def test_a_fragile_arm_that_is_less_accurate_elsewhere_is_said_to_be(ask: Any) -> None:
    both = ask(FRAGILE, LESS | {"attack": "other"})
    unlike = ask(FRAGILE, LESS | {"attack": "other"}, {"attack": "open"}, EQUAL | {"attack": "same"})
    other = ask(FRAGILE, LESS | {"attack": "other", "difference": -0.1})

    assert both.headline.difference == (
        "LoRA is more fragile than full fine-tuning in 1 of 2 comparisons and less accurate in 1."
    )
    assert other.headline.difference == "LoRA is more fragile than full fine-tuning in 1 of 2 comparisons."
    assert unlike.headline.difference == (
        "LoRA is more fragile than full fine-tuning in 1 of 4 comparisons and less accurate in 1."
    )


def test_same_success_rate_lower_clean_accuracy(ask: Any) -> None:
    same = {"candidate_value": 0.452, "difference": 0.002, "low": -0.015, "high": 0.019, "p_adjusted": 0.9}

    answer = ask(LESS | {"drop_difference": 0.02}, rate(**same), clean(candidate_value=0.84, difference=0.08))

    assert answer.verdict is Verdict.LESS_ACCURATE
    assert answer.headline.difference == (
        "LoRA is less accurate than full fine-tuning, but not shown to be more fragile."
    )
    assert answer.details[1:] == (
        "Same success rate, lower clean accuracy of LoRA: of 348 examples both have right, 45.0 % break under full "
        f"fine-tuning and 45.2 % under LoRA: +0.2 points (95 % interval {MINUS}1.5 to +1.9, adjusted p = 0.900).",
        "Clean accuracy on the same 400 examples: full fine-tuning 92.0 %, LoRA 84.0 %.",
    )
    assert answer.caveats == ("In the only comparison: the gap in clean accuracy explains the difference.",)


@pytest.mark.parametrize(("sign", "name"), [(1, "LoRA"), (-1, "full fine-tuning")])
def test_a_lower_success_rate_of_the_less_accurate_arm_is_said(ask: Any, sign: int, name: str) -> None:
    def turned(difference: float, low: float, high: float) -> dict[str, float]:
        ends = sorted((sign * low, sign * high))
        return {"difference": sign * difference, "low": ends[0], "high": ends[1]}

    answer = ask(
        LESS | turned(0.1, 0.05, 0.15) | {"drop_difference": sign * 0.02},
        rate(**turned(-0.2, -0.3, -0.1)),
        # Rows of other places, which are not to be taken for it.
        rate(attack="aaa", **turned(0.3, 0.2, 0.4)),
        rate(attack="zzz", **turned(0.3, 0.2, 0.4)),
    )

    assert answer.details[1].startswith(f"Lower success rate on {name}, lower clean accuracy of {name}: of 348")


def test_without_a_success_rate_nothing_is_said_of_it(ask: Any) -> None:
    answer = ask(LESS | {"drop_difference": 0.02}, clean(candidate_value=0.84, difference=0.08))

    assert len(answer.details) == 1


def test_the_worst_case_gives_way_to_an_attack_of_the_same_size(ask: Any) -> None:
    same = {"difference": 0.03, "low": -0.01, "high": 0.07}

    answer = ask({"attack": "worst-case"} | same, {"attack": "swap"} | same, {"attack": "zoom"} | same)

    assert answer.details[0].startswith("Largest difference: swap on set")


def test_a_success_rate_that_is_not_shown_to_be_the_same_is_not_called_the_same(ask: Any) -> None:
    wide = {"difference": 0.002, "low": -0.015, "high": 0.021}

    answer = ask(LESS | {"drop_difference": 0.02}, rate(**wide))

    assert answer.details[1].startswith("No difference in success rate found, lower clean accuracy of LoRA: of 348")


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        (
            (-0.1,),
            "Full fine-tuning is less accurate than LoRA, but not shown to be more fragile.",
        ),
        (
            (-0.1, 0.1, 0.1),
            "LoRA is less accurate in 2 and full fine-tuning in 1 of 3 comparisons; neither is shown to be more "
            "fragile.",
        ),
    ],
)
def test_who_is_less_accurate_the_sign_says(ask: Any, differences: tuple[float, ...], words: str) -> None:
    answer = ask(*(LESS | {"attack": f"a{i}", "difference": each} for i, each in enumerate(differences)))

    assert answer.headline.difference == words


def test_only_comparisons_that_say_so_are_counted_as_less_accurate(ask: Any) -> None:
    answer = ask(LESS, {"attack": "open"}, EQUAL | {"attack": "same"})

    assert answer.headline.difference == (
        "LoRA is less accurate than full fine-tuning in 1 of 3 comparisons, but not shown to be more fragile."
    )


def test_an_equivalent_answer_quotes_the_interval_that_reaches_farthest(ask: Any) -> None:
    answer = ask(
        EQUAL | {"attack": "large", "difference": 0.009, "low": 0.001, "high": 0.0171},
        EQUAL | {"attack": "far", "difference": -0.001, "low": -0.0191, "high": 0.01},
    )

    assert answer.verdict is Verdict.EQUIVALENT
    assert answer.headline.difference == "LoRA and full fine-tuning count as equal, within 2 points."
    assert answer.details == (
        f"The 95 % interval that reaches farthest is that of far on set: {MINUS}2.0 to +1.0 points "
        f"(difference {MINUS}0.1, n = 400).",
    )


def test_one_equivalent_comparison_is_the_only_one(ask: Any) -> None:
    assert ask(EQUAL).headline.difference == "LoRA and full fine-tuning count as equal, within 2 points."


def test_equivalent_in_some_places_is_inconclusive_as_a_whole(ask: Any) -> None:
    answer = ask(EQUAL, {"attack": "other", "difference": 0.004, "candidate_value": 0.496})

    assert answer.verdict is Verdict.INCONCLUSIVE
    assert answer.headline.difference == (
        "They count as equal in 1 of 2 comparisons; of the rest, this run cannot say."
    )
    assert answer.details == (
        "Largest difference: other on set, where full fine-tuning keeps 50.0 % and LoRA 49.6 %: +0.4 points "
        f"(95 % interval {MINUS}3.0 to +7.0, adjusted p = 0.800, n = 400).",
    )


def test_an_inconclusive_answer_says_what_would_have_been_found_and_on_what_assumption(ask: Any) -> None:
    answer = ask({"detectable": 0.0712}, {"attack": "small", "difference": -0.01, "detectable": 0.2})

    assert answer.headline.difference == "Which of the two is weaker, this run cannot say."
    assert answer.details == (
        "Largest difference: swap on set, where full fine-tuning keeps 50.0 % and LoRA 48.0 %: +2.0 points "
        f"(95 % interval {MINUS}3.0 to +7.0, adjusted p = 0.800, n = 400).",
        "At the discordance seen here, a true difference of 7.1 points would be found with power .80.",
    )


@pytest.mark.parametrize("cells", [{"test": "permutation"}, {"test": "seeds-and-examples", "n_seeds": 3}])
def test_what_has_no_discordance_has_a_spread(ask: Any, cells: dict[str, object]) -> None:
    answer = ask({"detectable": 0.0712} | cells)

    assert answer.details[1].startswith("At the spread seen here, a true difference of 7.1 points")


def test_scores_of_questions_and_seeds_are_named(ask: Any) -> None:
    answer = ask({"attack": "none", "metric": "f1", "population": "altered", "testset": "addsent", "n_seeds": 3})

    assert answer.details == (
        "Largest difference: the altered rows of addsent, where full fine-tuning has F1 50.0 % and LoRA 48.0 %: "
        f"+2.0 points (95 % interval {MINUS}3.0 to +7.0, adjusted p = 0.800, n = 400, 3 seeds).",
    )


def test_both_broken_compares_the_effort(ask: Any) -> None:
    answer = ask({"reason": "floor"}, effort())

    assert answer.verdict is Verdict.INCONCLUSIVE
    assert answer.headline.difference == "LoRA breaks with less effort than full fine-tuning."
    assert answer.details == (
        "Effort, swap on set: LoRA breaks with less in 61.0 % and full fine-tuning in 39.0 % of 300 examples both "
        "have right (ties half): +22.0 points (95 % interval +15.0 to +29.0, adjusted p = 0.032).",
    )
    assert answer.caveats == ("In the only comparison: both arms are nearly always broken: compare the effort.",)


@pytest.mark.parametrize(
    ("efforts", "words"),
    [
        ([], "Which of the two is weaker, this run cannot say."),
        (["inconclusive"], "Which of the two is weaker, this run cannot say."),
        (
            ["full-more-fragile"],
            "Full fine-tuning breaks with less effort than LoRA.",
        ),
        (
            ["full-more-fragile", "peft-more-fragile", "peft-more-fragile"],
            "LoRA breaks with less effort in 2 and full fine-tuning in 1 of 3 comparisons.",
        ),
    ],
)
def test_at_the_floor_the_headline_follows_the_effort(ask: Any, efforts: list[str], words: str) -> None:
    places = [{"attack": f"a{i}", "reason": "floor"} for i in range(max(1, len(efforts)))]
    rows = [effort(attack=f"a{i}", verdict=verdict) for i, verdict in enumerate(efforts)]

    assert ask(*places, *rows).headline.difference == words


def test_effort_is_quoted_of_places_at_the_floor_alone(ask: Any) -> None:
    answer = ask({"attack": "open"}, effort(attack="open"))

    assert not any("Effort" in sentence for sentence in answer.details)


@pytest.mark.parametrize(
    ("reason", "headline", "sentence"),
    [
        (
            "ceiling",
            "These attacks are too weak to tell the two apart.",
            "both arms are nearly always right: a stronger attack is needed.",
        ),
        (
            "two-seeds",
            "Two training seeds do not tell two methods apart: a third is needed.",
            "a verdict on a method needs a third training seed.",
        ),
        (
            "shared-reference",
            "Training seeds share one reference checkpoint: this is no comparison of methods.",
            "one reference checkpoint serves several training seeds: this compares no methods.",
        ),
        (
            "left-out",
            "Too many examples have no outcome on one arm to tell the arms apart.",
            "too many examples have no outcome on one of the arms.",
        ),
        (
            "gate",
            "Which of the two is weaker, this run cannot say.",
            "the worst case over the test set's attacks does not differ, so no single attack is called.",
        ),
        (
            "success-rate-opposes",
            "Which of the two is weaker, this run cannot say.",
            "on the examples both arms have right, the success rate points the other way.",
        ),
    ],
)
def test_a_reason_that_withholds_every_verdict_is_the_headline(
    ask: Any, reason: str, headline: str, sentence: str
) -> None:
    answer = ask({"reason": reason}, {"reason": reason, "attack": "other"})
    mixed = ask({"reason": reason}, {"attack": "other"})

    assert answer.headline.difference == headline
    assert answer.caveats == (f"In all 2 comparisons: {sentence}",)
    assert mixed.headline.difference == "Which of the two is weaker, this run cannot say."
    assert mixed.caveats == (f"In 1 of 2 comparisons: {sentence}",)


def test_every_reason_has_a_short_sentence() -> None:
    sentences = [explain(reason) for reason in Reason]

    assert len(set(sentences)) == len(Reason)
    assert all(sentence.endswith(".") and len(sentence.split()) <= 25 for sentence in sentences)


def test_the_page_about_verdicts_has_every_verdict_and_reason() -> None:
    page = (Path(__file__).parents[3] / "docs" / "verdicts.md").read_text(encoding="utf-8")

    assert [word for word in (*Verdict, *Reason) if f"`{word.value}`" not in page] == []


def test_an_unknown_clean_answer_may_explain_a_difference(ask: Any) -> None:
    answer = ask(LESS | {"attack": "none", "metric": "accuracy", "reason": "clean-unknown"})

    assert answer.headline.difference == (
        "LoRA is less accurate than full fine-tuning, but not shown to be more fragile."
    )
    assert answer.details == (
        "Clearest: set as it stands, where full fine-tuning has 50.0 % right and LoRA 40.0 %: +10.0 points "
        "(95 % interval +5.0 to +15.0, adjusted p < 0.001, n = 400).",
    )
    assert answer.caveats == (
        "In the only comparison: answers to the clean texts are unknown, so the difference may be a gap in clean "
        "accuracy.",
    )


def test_controls_are_told_apart_and_counted_nowhere(ask: Any) -> None:
    answer = ask(
        FRAGILE,
        clean(verdict="less-accurate", difference=0.05, low=0.01, high=0.09, p_value=0.0121, candidate_value=0.87),
        FRAGILE | {"attack": "identity", "family": None, "p_adjusted": None, "p_value": 0.4, "verdict": None},
        clean(population="both_correct"),
    )

    assert answer.headline.difference == "LoRA is more fragile than full fine-tuning."
    assert answer.controls == (
        "set as it stands: full fine-tuning has 92.0 % right and LoRA 87.0 %; +5.0 points (95 % interval +1.0 to "
        "+9.0, p = 0.013, n = 400); LoRA less accurate.",
        "identity on set: full fine-tuning keeps 50.0 % and LoRA 40.0 %; +10.0 points (95 % interval +5.0 to +15.0, "
        "p = 0.400, n = 400).",
    )


@pytest.mark.parametrize("family", [None, float("nan"), "", "secondary", "effort"])
def test_a_run_without_a_planned_comparison_counts_nothing(ask: Any, family: object) -> None:
    answer = ask(FRAGILE | {"family": family})

    assert answer.headline.difference == (
        "No attack and no adversarial test set has been compared: there is no verdict on fragility."
    )
    assert answer.verdict is None and answer.details == () and answer.kept == ()


def test_examples_left_out_are_counted_and_placed(ask: Any) -> None:
    some = ask({"n_left_out": 12}, {"attack": "other", "n_left_out": 1}, {"attack": "whole"})
    many = ask(*({"attack": f"a{i}", "n_left_out": 1_000 + i} for i in range(5)))

    assert some.caveats == (
        "Examples left out, without an outcome on at least one arm: 12 of swap on set and 1 of other on set.",
    )
    assert many.caveats == (
        "Examples left out, without an outcome on at least one arm: 1,000 of a0 on set, 1,001 of a1 on set, 1,002 of "
        "a2 on set and more at 2 further places (pairs.csv).",
    )


def test_a_verdict_that_the_loss_from_clean_contradicts_is_told(ask: Any) -> None:
    """Above 0 the candidate lost more; in two of these three the other arm did."""
    lost_less = FRAGILE | {"drop_low": -0.05, "drop_high": -0.01}
    answer = ask(
        lost_less,
        FRAGILE | {"attack": "b", "drop_low": -0.02, "drop_high": 0.02},
        SWAPPED | {"attack": "c", "drop_low": 0.01, "drop_high": 0.04},
        {"attack": "d", "drop_low": -0.05, "drop_high": -0.01},
    )
    none = ask(
        FRAGILE | {"drop_low": 0.01, "drop_high": 0.05}, SWAPPED | {"attack": "c", "drop_low": -1, "drop_high": -1}
    )

    assert answer.caveats == (
        "In 2 of 3 comparisons called fragile, the other arm lost more accuracy from clean to robust: it had more to "
        "lose.",
    )
    assert none.caveats == ()


def test_the_worst_case_is_named_as_such(ask: Any) -> None:
    assert (
        ask({"attack": "worst-case"})
        .details[0]
        .startswith("Largest difference: the worst case over all attacks on set, where")
    )


def test_arms_of_one_adaptation_are_told_apart(ask: Any) -> None:
    answer = ask(FRAGILE, arms=name_arms("lora", "lora"))

    assert answer.headline.difference == "LoRA (candidate) is more fragile than LoRA (reference)."


def test_no_headline_is_longer_than_25_words_even_of_long_names(ask: Any) -> None:
    arms = name_arms("full", "prompt")
    rows = (
        (FRAGILE, LESS | {"attack": "b"}),
        (FRAGILE, SWAPPED | {"attack": "b"}),
        (LESS, LESS | {"attack": "b", "difference": -0.1}),
        (LESS,),
        (EQUAL,),
        (EQUAL, {"attack": "b"}),
        ({},),
    )

    headlines = [ask(*each, arms=arms).headline.difference for each in rows]

    assert len(set(headlines)) == len(rows)
    assert all(len(headline.split()) <= 25 for headline in headlines)


def test_one_training_seed_compares_two_checkpoints(planted: Any, run_writer: Any) -> None:
    pairs = planted.table(planted.row(), planted.row(pair="pair-1"))

    (alone,) = summarise_run(pairs, run_writer.record()).shown
    two = summarise_run(pairs, run_writer.record(seeds=2)).shown

    assert alone.caveats == (ONE_SEED,)
    assert ONE_SEED == "One training seed: this compares two checkpoints, not two methods."
    # Two seeds are planned; no row is over both.
    assert [answer.caveats for answer in two] == [(SEEDS_MISSING,)] * 2
    assert SEEDS_MISSING == (
        "Other training seeds lack some of these outcomes: this compares two checkpoints, not two methods."
    )


def test_two_ranks_of_one_method_are_two_methods_of_one_seed_each(planted: Any, run_writer: Any) -> None:
    record = run_writer.record(seeds=2)
    ranks = [c.model_copy(update={"method_digest": c.name}) for c in record.checkpoints]
    pairs = planted.table(planted.row(), planted.row(pair="pair-1"))

    answers = summarise_run(pairs, record.model_copy(update={"checkpoints": tuple(ranks)})).shown

    assert [answer.caveats for answer in answers] == [(ONE_SEED,), (ONE_SEED,)]


def test_a_method_is_answered_by_its_name_and_that_of_its_arms(planted: Any, run_writer: Any) -> None:
    over = {"pair": "sst2 lora, 3 seeds", "n_seeds": 3}
    pairs = planted.table(planted.row(), planted.row(**over, **FRAGILE), planted.row(**over, attack="other"))

    answers = summarise_run(pairs, run_writer.record(seeds=3))

    (method,) = answers.shown
    assert method.name == "sst2 lora, 3 seeds"
    assert method.headline.difference == "LoRA is more fragile than full fine-tuning in 1 of 2 comparisons."
    assert method.details[0].endswith("n = 400, 3 seeds).")
    assert [answer.headline.difference for answer in answers.folded[1:]] == ["Nothing has been compared yet."] * 2


def test_pairs_are_folded_away_below_their_method(planted: Any, run_writer: Any) -> None:
    over = planted.row(pair="sst2 lora, 3 seeds", n_seeds=3)

    answers = summarise_run(planted.table(planted.row(), over), run_writer.record(seeds=3))

    assert [answer.name for answer in answers.shown] == ["sst2 lora, 3 seeds"]
    assert [answer.name for answer in answers.folded] == ["pair-0", "pair-1", "pair-2"]


def test_a_pair_whose_method_has_no_answer_is_not_folded_away(planted: Any, run_writer: Any) -> None:
    over = planted.row(pair="sst2 lora, 3 seeds", n_seeds=3)

    answers = summarise_run(planted.table(planted.row(), planted.row(pair="pair-3"), over), run_writer.mixed())

    assert [answer.name for answer in answers.shown] == ["sst2 lora, 3 seeds", "pair-3"]
    assert answers.shown[1].arms.candidate.name == "DoRA" and answers.shown[1].caveats == (ONE_SEED,)
    assert [answer.name for answer in answers.folded] == ["pair-0", "pair-1", "pair-2"]


def test_a_pair_with_a_comparison_that_another_seed_lacks_is_not_folded_away(planted: Any, run_writer: Any) -> None:
    everywhere, alone = [planted.row(pair=f"pair-{n}") for n in range(3)], planted.row(pair="pair-0", testset="other")
    over = planted.row(pair="sst2 lora, 3 seeds", n_seeds=3)

    answers = summarise_run(planted.table(*everywhere, alone, over), run_writer.mixed())

    assert [answer.name for answer in answers.shown][:2] == ["sst2 lora, 3 seeds", "pair-0"]
    assert SEEDS_MISSING in answers.shown[1].caveats
    assert [answer.name for answer in answers.folded] == ["pair-1", "pair-2"]


def test_without_a_method_no_pair_is_folded_away(planted: Any, run_writer: Any) -> None:
    answers = summarise_run(planted.table(planted.row()), run_writer.record(seeds=6))

    assert len(answers.shown) == 6 and answers.folded == ()


def test_methods_are_named_as_often_for_nine_pairs_as_for_three(
    planted: Any, run_writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names depend on all methods of a run: for each pair anew, a hundred pairs took half a minute."""
    named: list[int] = []
    real = methods.name_methods
    monkeypatch.setattr(methods, "name_methods", lambda record: named.append(len(record.pairs)) or real(record))

    for seeds in (3, 9):
        pairs = planted.table(planted.row(), planted.row(pair=f"sst2 lora, {seeds} seeds", n_seeds=seeds))
        summarise_run(pairs, run_writer.record(seeds=seeds))

    assert named.count(3) == named.count(9) > 0


def test_the_attacked_rows_are_those_of_both_arms_not_those_of_an_arm_of_several_pairs(run_writer: Any) -> None:
    letters = {"lora-0": "abcdef", "full-0": "abcdefghij", "lora-1": "abcdghij", "full-1": "abcdeghijk"}
    chosen = tuple(
        AttackedRecord(checkpoint=name, testset="clean-set", rows=tuple(ids)) for name, ids in letters.items()
    )
    record = run_writer.record(seeds=2).model_copy(update={"attacked": 10, "chosen": chosen})

    of_one, of_both = (" ".join(describe_circumstances(record.pairs[:n], record)) for n in (1, 2))

    assert "are attacked (6 of 40 of clean-set)" in of_one and "are attacked (6 to 8 of 40 of clean-set)" in of_both


def test_an_empty_table_has_an_answer(run_writer: Any) -> None:
    columns = ["pair", "n_seeds", "family", "population", "aggregation", "method"]

    (answer,) = summarise_run(pd.DataFrame(columns=columns), run_writer.record()).shown

    assert answer.headline.difference == "Nothing has been compared yet."
