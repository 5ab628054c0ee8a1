"""What an attack has to ask of a victim, known before either of them is made to work."""

from __future__ import annotations

from robustness.engine.attack import Access, GradientAttack
from robustness.tasks.abilities import Ability, declared_needs


def needs_of(attack: object) -> frozenset[Ability]:
    """Returns what a victim must be able to answer for an attack: what its kind asks, and what it says itself.

    >>> sorted(needs_of(object()))
    [<Ability.LOSSES: 'losses'>]
    """
    if isinstance(attack, GradientAttack):
        return declared_needs(attack) | {Ability.EMBEDDINGS}
    by_gradient = getattr(attack, "access", None) is Access.GRADIENTS
    return declared_needs(attack) | {Ability.TEXT_GRADIENTS if by_gradient else Ability.LOSSES}
