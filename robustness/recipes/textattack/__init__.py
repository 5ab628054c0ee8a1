"""TextAttack's own recipes on this engine."""
