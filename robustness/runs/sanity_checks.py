"""Sanity checks: warnings about attacks or victims from stored outcomes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import permutations

from robustness.engine.attack import Access
from robustness.engine.named_attack import NamedAttack
from robustness.runs.storage.store import Store
from robustness.stats import holm, mcnemar_exact
from robustness.stats.plausibility import are_implausible
from robustness.tasks.objective import ObjectiveKind

SIGNIFICANCE = 0.05
"""Level for the lead of an attack that should not lead, adjusted by Holm over attacks, checkpoints and test sets."""
SAME_SCORE = 1e-3
"""Probabilities of one text that differ by more than this differ by more than rounding."""
MIN_JUDGED = 20
"""Least number of examples for a warning about all or none."""


def run_sanity_checks(store: Store, attacks: Sequence[NamedAttack], labelled: Collection[str]) -> list[str]:
    """Returns a warning for each reason to doubt the numbers.

    A black-box attack that beats its white-box form is a sign of masked gradients (arXiv 1802.00420, 1902.06705).

    Args:
        store: of the run.
        attacks: of the run.
        labelled: its test sets with labels, where changed rows may differ in label from their originals.
    """
    found = [
        f"{checkpoint}: the gradient vanished in {count} examples on which {attack} failed; that is no robustness"
        for (checkpoint, attack), count in store.count_vanished().items()
    ]
    found += [
        f"{checkpoint}: {count} texts are longer than the model's limit; they were truncated"
        for checkpoint, count in store.count_truncated().items()
    ]
    found += [
        f"{checkpoint}: {count} unchanged texts got another answer when asked again; it is not deterministic"
        for checkpoint, count in store.count_wavering(SAME_SCORE).items()
    ]
    found += [
        f"test set {testset}: every checkpoint gets fewer of the benign originals right than their commonest label "
        "alone would, so their labels are not the changed rows'; no drop from them is reported; name the column of "
        "their labels in the test set's definition: original_label"
        for testset, tallies in store.tally_originals(labelled).items()
        if are_implausible(tallies)
    ]
    return [*found, *_all_or_nothing(store, attacks), *_stronger_than_they_should_be(store, attacks)]


def _all_or_nothing(store: Store, attacks: Sequence[NamedAttack]) -> Iterator[str]:
    """Warns of an attack that breaks every example or none, which is usually a fault of the attack."""
    known = {attack.name: attack for attack in attacks if attack.objective.kind is ObjectiveKind.CHANGE_PREDICTION}
    for (checkpoint, testset, name), (succeeded, judged) in store.count_successes().items():
        if name not in known or judged < MIN_JUDGED or 0 < succeeded < judged:
            continue
        if succeeded:
            yield f"{checkpoint} | {testset}: {name} broke all {judged} examples; are its edits limited?"
        elif known[name].family != "baseline":
            yield f"{checkpoint} | {testset}: {name} broke none of {judged} examples; does it find candidates at all?"


def _stronger_than_they_should_be(store: Store, attacks: Sequence[NamedAttack]) -> list[str]:
    """Warns of attacks that break more than chance explains, among examples that a better attack did not break."""
    tests = []
    for weak, strong, reason in _rankings(attacks):
        for (checkpoint, testset), pairs in store.paired_successes(weak, strong).items():
            test = mcnemar_exact([mine for mine, _ in pairs], [other for _, other in pairs])
            tests.append((f"{checkpoint} | {testset}", weak, strong, reason, test))
    adjusted = holm([test.p_value for *_, test in tests])
    return [
        f"{cell}: {weak} broke {test.only_reference_right} examples that {strong} did not, and "
        f"{strong} {test.only_candidate_right} the other way (exact test, p = {p:.2g}); {reason}"
        for (cell, weak, strong, reason, test), p in zip(tests, adjusted, strict=True)
        if p <= SIGNIFICANCE and test.only_reference_right > test.only_candidate_right
    ]


def _rankings(attacks: Sequence[NamedAttack]) -> Iterator[tuple[str, str, str]]:
    """Pairs of names, of which the second should break at least as much, and the meaning if it does not."""
    for baseline in attacks:
        if baseline.mirrors is not None:
            reason = "a random baseline should not beat the attack it mirrors: its robust accuracy says too much"
            yield baseline.name, baseline.mirrors, reason
    for black, white in permutations(attacks, 2):
        are_forms = black.edits_digest is not None and black.edits_digest == white.edits_digest
        access = (black.attack.access, white.attack.access)
        if are_forms and black.family != "baseline" and access == (Access.SCORES, Access.GRADIENTS):
            reason = "gradients should not make an attack weaker: they may be masked, and robust accuracy too high"
            yield black.name, white.name, reason
