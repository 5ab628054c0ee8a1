"""Suspicions: what stored outcomes say against the attacks or the victim themselves."""

from __future__ import annotations

from collections.abc import Sequence

from robustness.engine.attack import NamedAttack
from robustness.engine.outcome import Status
from robustness.runs.store import Store
from robustness.stats import holm, mcnemar_exact

SIGNIFICANCE = 0.05
"""Of a baseline's lead, adjusted by Holm over the baselines, checkpoints and test sets of the run."""


def find_suspicions(store: Store, attacks: Sequence[NamedAttack]) -> list[str]:
    """Returns a warning for each reason to doubt the numbers."""
    found = [
        f"{checkpoint}: the gradient vanished in {count} examples on which {attack} failed; that is no robustness"
        for (checkpoint, attack), count in store.count_vanished().items()
    ]
    if store.count_statuses().get(("identity", Status.SUCCEEDED)):
        found.append("identity: an unchanged text was judged adversarial; the victim is not deterministic")
    return found + _stronger_baselines(store, attacks)


def _stronger_baselines(store: Store, attacks: Sequence[NamedAttack]) -> list[str]:
    """A baseline draws the same edits at random; where it breaks more than chance explains, the attack is weak."""
    tests = []
    for baseline in attacks:
        if baseline.mirrors is None:
            continue
        for (checkpoint, testset), pairs in store.paired_successes(baseline.name, baseline.mirrors).items():
            test = mcnemar_exact([mine for mine, _ in pairs], [other for _, other in pairs])
            tests.append((f"{checkpoint} | {testset}", baseline, test))
    adjusted = holm([test.p_value for _, _, test in tests])
    return [
        f"{cell}: {baseline.name} broke {test.only_full_right} examples that {baseline.mirrors} did not, and "
        f"{baseline.mirrors} {test.only_peft_right} the other way (exact test, p = {p:.2g}); a random "
        "baseline should not beat the attack it mirrors: its robust accuracy says too much"
        for (cell, baseline, test), p in zip(tests, adjusted, strict=True)
        if p <= SIGNIFICANCE and test.only_full_right > test.only_peft_right
    ]
