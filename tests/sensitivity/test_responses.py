"""Probes and attacks on models that generate: closed forms, and whole runs on a tiny pair."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from linear_responses import CLEAN, YEPS, distance, linear_victim
from text_pairs import TextPair, write_text_pair

from robustness import RunSettings, api
from robustness.definitions.catalog import PROBES
from robustness.engine.outcome import Status
from robustness.errors import UsageError
from robustness.recipes.embedding.balls import Norm
from robustness.reports.page.sections.texts import describe_texts
from robustness.reports.summaries.arms import arms_of_run
from robustness.reports.tables.columns import Table
from robustness.runs.planning.plan import PlanSettings, make_plan
from robustness.sensitivity.building import find_probe
from robustness.sensitivity.input.distance import AdversarialDistance, FirstOrderRadius
from robustness.sensitivity.input.jacobian import JacobianNorm, Margin, MarginGradient
from robustness.sensitivity.input.units import nearest_token_distance
from robustness.sensitivity.measurement import Kind, Measurement, MeasurementStatus
from robustness.sensitivity.probe import Probe, Subject, Unsupported
from robustness.victims.heads.embedded_batch import median_token_norm
from robustness.victims.heads.texts import TextVictim

MEASURED = {"margin", "margin-gradient", "margin-gradient-l1", "jacobian-norm", "first-order-radius"}
MEASURED |= {"adversarial-distance", "update-structure", "update-gain"}
"""Shipped probes that have a meaning for a response."""
ATTACKS = ["pgd", "pgd-linf", "ddn", "fmn", "fgsm", "apgd", "hotflip-vocabulary", "gbda"]


def measure(probe: Probe, *, both_right: bool = False) -> tuple[TextVictim, list[Any], dict[Any, Measurement]]:
    """The readings of examples, by their ids, quantities and norms."""
    victim, examples = linear_victim(both_right=both_right)
    subject = Subject(None, examples, 0, "digest", lambda: victim)  # type: ignore[arg-type]
    found = {
        (each.example.id, each.measurement.quantity.name, each.measurement.norm): each.measurement
        for each in probe.measure(subject)
        if each.example is not None
    }
    return victim, examples, found


def test_margins_and_slopes_of_a_linear_response_are_those_of_the_closed_form() -> None:
    victim, examples, margin = measure(Margin())
    _, _, slope = measure(MarginGradient(("l2", "l1")))
    _, _, jacobian = measure(JacobianNorm())
    weight, unit, near = victim.model.weight, median_token_norm(victim), nearest_token_distance(victim)

    for example in examples:
        tokens = len(example.texts[0].split())
        l2, l1 = tokens**0.5 * weight.norm().item(), tokens * weight.abs().sum().item()
        assert margin[example.id, "margin", None].value == pytest.approx(CLEAN - YEPS, rel=1e-5)
        for found, name in ((slope, "margin-gradient"), (jacobian, "jacobian-norm")):
            assert found[example.id, name, "l2"].value == pytest.approx(l2, rel=1e-5)
            assert found[example.id, f"{name}-per-token-norm", "l2"].value == pytest.approx(l2 * unit, rel=1e-5)
            assert found[example.id, f"{name}-per-neighbour", "l2"].value == pytest.approx(l2 * near, rel=1e-5)
        assert slope[example.id, "margin-gradient", "l1"].value == pytest.approx(l1, rel=1e-5)
    assert {each.kind for found in (margin, slope, jacobian) for each in found.values()} == {Kind.ESTIMATE}


@pytest.mark.parametrize("norm", Norm)
def test_distances_of_a_linear_response_are_those_of_the_closed_form(norm: Norm) -> None:
    victim, examples, found = measure(AdversarialDistance((norm,), 30, 1, 4, 20, 2, 10))
    _, _, linear = measure(FirstOrderRadius((norm,)))

    for example in examples:
        expected = distance(victim, example, CLEAN - YEPS, str(norm))
        relative = found[example.id, "relative-distance", str(norm)]
        assert (relative.kind, relative.status) == (Kind.UPPER, MeasurementStatus.OK)
        assert relative.value == pytest.approx(expected, rel=0.01)
        assert linear[example.id, "first-order-radius", str(norm)].value == pytest.approx(expected, rel=1e-4)
        assert found[example.id, "kappa", str(norm)].value == pytest.approx(1, rel=0.01)


def test_a_distance_is_to_a_wrong_answer_where_another_response_is_as_right() -> None:
    victim, examples, found = measure(AdversarialDistance((Norm.L2,), 30, 1, 1, 5, 0, 5), both_right=True)

    for example in examples:
        expected = distance(victim, example, CLEAN + YEPS, "l2")
        value = found[example.id, "relative-distance", "l2"].value
        assert value is not None and expected <= value <= 1.07 * expected
        assert found[example.id, "kappa", "l2"].value == pytest.approx((CLEAN - YEPS) / (CLEAN + YEPS), rel=0.08)


def test_a_wrong_response_has_a_margin_below_zero_and_no_distance() -> None:
    victim, examples = linear_victim(both_right=False)
    victim.model.weight = -victim.model.weight
    subject = Subject(None, examples, 0, "digest", lambda: victim)  # type: ignore[arg-type]

    margins = [each.measurement.value for each in Margin().measure(subject)]
    probe = AdversarialDistance((Norm.L2,), 10, 1, 1, 5, 4, 5)
    distances = [each.measurement for each in probe.measure(subject) if each.example]

    assert margins == pytest.approx([-2 * CLEAN] * len(examples))  # `no` is at 1, the gold `yes` at -1
    assert {each.value for each in distances if each.quantity.name == "relative-distance"} == {0.0}


def test_numbers_of_a_response_do_not_depend_on_what_is_measured_beside_it() -> None:
    victim, examples, together = measure(MarginGradient())

    for example in examples:
        alone = Subject(None, [example], 0, "digest", lambda: victim)  # type: ignore[arg-type]
        for each in MarginGradient().measure(alone):
            found = together[example.id, each.measurement.quantity.name, each.measurement.norm]
            assert each.measurement.value == pytest.approx(found.value, rel=1e-5)


@pytest.mark.parametrize("name", sorted(set(PROBES.names()) - MEASURED))
def test_other_probes_say_that_they_do_not_measure_responses(name: str) -> None:
    victim, examples = linear_victim(both_right=False)
    peft = SimpleNamespace(is_adapter=True)
    full = SimpleNamespace(is_adapter=False, folder=Path("full"), base=Path("base"))
    subject = Subject(peft, examples, 0, "digest", lambda: victim, [full], lambda _: victim)  # type: ignore[arg-type,list-item]

    with pytest.raises(Unsupported, match="several tokens|without scores of labels"):
        list(find_probe(name).probe.measure(subject))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> TextPair:
    return write_text_pair(tmp_path_factory.mktemp("text-pair"))


def run(pair: TextPair, suite: str, out: Path, **options: Any) -> api.Report:
    return api.run(
        suite,
        pair.pairs,
        out,
        RunSettings(data=pair.data, testsets=[str(pair.testset)], allow_untrained=True, limit=6, **options),
    )


def test_the_quick_probes_fill_all_tables_of_a_pair_that_generates(pair: TextPair, tmp_path: Path) -> None:
    report = run(pair, "probes-quick", tmp_path / "run")

    rows = report.tables[Table.SENSITIVITY]
    statuses = rows.groupby(["checkpoint", "probe"])["status"].agg(set)
    assert report.n_errored_measurements == 0
    for (_, probe), found in statuses.items():
        assert found == {"ok"} if probe in MEASURED else found == {"unsupported"}, probe
    assert rows[rows["status"] == "unsupported"]["reason"].str.len().min() > 10
    pairs = report.tables[Table.SENSITIVITY_PAIRS].set_index(["probe", "quantity"])
    assert pairs.loc[("adversarial-distance", "relative-distance"), "kind"] == "upper"
    assert pairs.loc[("margin", "margin"), "kind"] == "estimate"
    assert (tmp_path / "run" / "report.html").stat().st_size > 0


def test_white_box_attacks_fill_the_rows_of_a_pair_that_generates(pair: TextPair, tmp_path: Path) -> None:
    report = run(pair, "smoke", tmp_path / "run", attacks=ATTACKS, probes=[])

    rows = report.tables[Table.EXAMPLES]
    attacked = rows[rows["attack"].isin(ATTACKS)]
    assert report.n_errored == 0
    assert set(attacked["attack"]) == set(ATTACKS)
    assert attacked["clean_response"].notna().all()
    broken = attacked[attacked["status"] == Status.SUCCEEDED]
    assert set(broken["attack"]) >= {"pgd", "ddn", "fmn", "apgd"}
    assert (broken["response"] != broken["gold"]).all() and not broken["correct"].any()
    standing = attacked[attacked["status"] == Status.FAILED]
    assert standing["correct"].all()
    assert (tmp_path / "run" / "report.html").stat().st_size > 0
    replays = pd.DataFrame(columns=["source", "target", "testset", "attack", "example_id", "response", "correct"])
    record = report.record
    shown = [
        describe_texts(
            rows[rows["attack"] == attack], replays, record.pairs, arms_of_run(record.pairs, record), record
        )
        for attack in ("pgd", "hotflip-vocabulary")
    ]
    assert not shown[0].texts and shown[0].n_without_text and shown[1].texts  # perturbed embeddings are no text
    assert (broken[broken["attack"].isin(["gbda", "hotflip-vocabulary"])]["decodes"] > 0).all()


def test_what_needs_scores_of_labels_is_refused_by_name_before_anything_loads(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.toml"
    pairs.write_text('[[pair]]\nname = "v"\ntask = "viggo"\nbase = "base"\nfull = "full"\npeft = "lora"\n')
    dlr = tmp_path / "dlr.toml"
    dlr.write_text(
        'summary = "DLR."\nfamily = "embedding"\naccess = "gradients"\n[search]\nkind = "embedding-ball"\n'
        'method = "apgd"\nnorm = "l2"\nradii = [0.1]\nsteps = 3\nloss = "dlr"\n'
    )

    with pytest.raises(UsageError, match=r"--attack dlr: needs scores of labels, which checkpoint .*does not give"):
        make_plan(PlanSettings(suite="smoke", pairs=pairs, testsets=("viggo",), attacks=(str(dlr),)))
    for probe in ("condition-profile", "smoothing", "lipschitz-lower", "clever", "module-transplant"):
        with pytest.raises(UsageError, match=rf"--probe {probe}: needs logits of one answer, which checkpoint "):
            make_plan(PlanSettings(suite="smoke", pairs=pairs, testsets=("viggo",), probes=(probe,)))
    served = {"attacks": tuple(ATTACKS), "probes": ("margin",)}
    made = make_plan(PlanSettings(suite="smoke", pairs=pairs, testsets=("viggo",), **served))
    assert {cell.attack for cell in made.cells} == {"none", *ATTACKS} and made.left_out == ()
