"""What the first screen advises: examples, seeds, the command, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustness.reports.page.first_screen.advice import Advice, advise, count_rarer_share, find_needed, raise_limit
from robustness.reports.summaries.kept import Kept
from robustness.reports.summaries.summary import summarise_run
from robustness.runs.storage.record import AttackRecord
from robustness.stats import Verdict
from robustness.stats.planning import detectable_gap, examples_for_equivalence

OPEN = {"testset": "clean-set", "reference_value": 0.5, "candidate_value": 0.4, "difference": 0.1}
METHOD = "To speak of LoRA itself, train and run 3 seeds or more of both arms."


def outcomes(reference: str, candidate: str, attack: str = "swap", goal: str = "change-prediction") -> pd.DataFrame:
    """Rows of examples.csv of both arms: `s`ucceeded, `f`ailed, `e`rrored on each example."""
    words = {"s": "succeeded", "f": "failed", "e": "errored"}
    return pd.DataFrame(
        [
            {
                "checkpoint": checkpoint, "testset": "clean-set", "attack": attack, "goal": goal,
                "example_id": f"e{i}", "status": words[status], "correct": int(status == "f"),
            }
            for checkpoint, statuses in (("full-0", reference), ("lora-0", candidate))
            for i, status in enumerate(statuses)
        ]
    )  # fmt: skip


@pytest.fixture
def ask(planted: Any, run_writer: Any) -> Any:
    """The advice on planted rows, of test sets of 900 rows of which 40 were used."""

    def advised(*rows: dict[str, object], n: int = 900, **changes: Any) -> Advice:
        record = run_writer.record()
        sets = tuple(testset.model_copy(update={"n": n}) for testset in record.testsets)
        command = ("robustness", "run", "suite", "--limit", "40", "--seed", "0")
        record = record.model_copy(update={"testsets": sets, "command": command} | changes)
        pairs = planted.table(*(planted.row(**row) for row in rows))
        answer = summarise_run(pairs, record).shown[0]
        given = outcomes("f" * 20 + "s" * 20, "f" * 18 + "s" * 22)
        return advise(answer, pairs[pairs["pair"] == answer.name], given, record, Path("out/run"))

    return advised


def test_an_open_answer_says_how_many_examples_by_which_command_at_what_cost(ask: Any) -> None:
    advice = ask(OPEN)

    share = 1 / 42  # nothing that only the candidate has right; one example more of either side
    needed = find_needed(share, 0.1, 0.02, 0.05)
    fewer = int(0.93 * needed.gap)
    assert detectable_gap(needed.gap, rarer_share=share) <= 0.1 < detectable_gap(fewer, rarer_share=share)
    assert needed.equal == examples_for_equivalence(rarer_share=share)
    assert advice.title == "To get an answer"
    assert advice.sentences[0] == "A gap of 10 points, as seen here, would be found with about 130 examples."
    assert advice.sentences[1].startswith("To show two equal arms equal within 2 points takes about 1,")
    assert advice.sentences[-1].endswith(METHOD)
    assert advice.command == "robustness run suite --limit 130 --seed 0 --out out/run-130"
    assert advice.cost == "about 3.2 \u00d7 the cost of this run"


def test_where_the_test_set_is_too_small_its_reach_is_told_and_more_is_asked_for(ask: Any) -> None:
    advice = ask(OPEN | {"candidate_value": 0.49, "difference": 0.01}, n=100)

    assert advice.sentences[1].startswith("clean-set has 100, which would find a gap of ")
    assert advice.sentences[1].endswith(" points: add test sets or training seeds.")
    assert " --limit 100 " in advice.command


def test_where_all_rows_were_used_no_command_is_given(ask: Any) -> None:
    assert ask(OPEN, n=40).command == ""
    assert ask(OPEN, attacked=30).command == ""


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"reason": "floor"}, "more examples would not show a difference"),
        ({"reason": "ceiling"}, "take stronger attacks"),
        ({"reason": "shared-reference"}, "Train both arms anew"),
    ],
)
def test_where_examples_do_not_help_the_advice_is_another(ask: Any, cells: dict[str, object], words: str) -> None:
    advice = ask(OPEN | cells)

    assert words in " ".join(advice.sentences) and advice.command == ""


def test_two_seeds_ask_for_a_third_and_tell_its_cost(ask: Any) -> None:
    advice = ask(OPEN | {"pair": "sst2 lora, 2 seeds", "n_seeds": 2, "reason": "two-seeds"})

    assert advice.sentences == ("Train and run a third seed of both arms, better five.",)
    assert advice.cost == "each further seed costs about half of this run again"


def test_a_found_difference_is_told_how_far_it_reaches(ask: Any) -> None:
    advice = ask(OPEN | {"verdict": "peft-more-fragile"})

    assert advice.title == "How far this reaches"
    assert advice.sentences == (
        f"This compares two checkpoints. {METHOD}",
        "It holds for one base model and one test set under the attacks above; other models, tasks or attacks may "
        "answer otherwise.",
    )


def test_the_rarer_side_is_counted_over_the_worst_case_without_errored_rows(planted: Any, run_writer: Any) -> None:
    record = run_writer.record()
    (answer,) = summarise_run(planted.table(planted.row(**OPEN)), record).shown
    examples = pd.concat([outcomes("fffse", "ffsff"), outcomes("ffffe", "fsfff", attack="zap")])
    spared = [
        outcomes("sssss", "fffff", attack="identity"),
        outcomes("sssss", "fffff", attack="random"),
        outcomes("sssss", "fffff", attack="reduce", goal="keep-prediction"),
    ]
    examples = pd.concat([examples, *spared])
    controls = [AttackRecord(name=name, family="baseline", digest="d") for name in ("identity", "random")]
    record = record.model_copy(update={"attacks": (*record.attacks, *controls)})
    worst, single = (
        Kept("clean-set", attack, 5, None, (0.5, 0.5), Verdict.INCONCLUSIVE) for attack in ("worst-case", "swap")
    )

    # Worst case of the reference fffs, of the candidate fssf: two against one of four.
    assert count_rarer_share(worst, answer, examples, record) == pytest.approx((1 + 1) / (4 + 2))
    assert count_rarer_share(single, answer, examples, record) == pytest.approx((1 + 1) / (4 + 2))


def test_a_run_without_a_limit_gets_one_before_its_folder(run_writer: Any) -> None:
    record = run_writer.record().model_copy(update={"command": ("robustness", "run", "suite", "--seed", "0")})

    assert raise_limit(record, Path("a b/run"), 500) == (
        "robustness run suite --seed 0 --limit 500 --out 'a b/run-500'"
    )
