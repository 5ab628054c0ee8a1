"""What an attack asks of a victim, known before the run."""

from __future__ import annotations

from robustness.engine.attack import Access
from robustness.engine.named_attack import GradientAttack
from robustness.tasks.abilities import Ability, declared_needs


def needs_of(attack: object) -> frozenset[Ability]:
    """Returns the abilities that an attack needs: the abilities of its kind and its declared ones.

    >>> sorted(needs_of(object()))
    [<Ability.LOSSES: 'losses'>]
    """
    if isinstance(attack, GradientAttack):
        return declared_needs(attack) | {Ability.EMBEDDINGS}
    by_gradient = getattr(attack, "access", None) is Access.GRADIENTS
    return declared_needs(attack) | {Ability.TEXT_GRADIENTS if by_gradient else Ability.LOSSES}
