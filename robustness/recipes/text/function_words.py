"""English function words: the closed classes of words, which recipes do not change.

Grouped by grammatical class. Together they are the 179 words of NLTK's English stop words corpus, so that recipes
skip the same words as TextAttack's.
"""

from __future__ import annotations

PRONOUNS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself
she her hers herself it its itself they them their theirs themselves
what which who whom this that these those
"""

VERBS = """
am is are was were be been being have has had having do does did doing
can will just should now don s t
"""

JOINING = """
a an the and but if or because as until while of at by for with about against between into through during
before after above below to from up down in out on off over under again further then once
"""

DEGREE_AND_PLACE = """
here there when where why how all any both each few more most other some such no nor not only own same so than
too very
"""

CONTRACTIONS = """
you're you've you'll you'd she's it's that'll should've
don't aren't couldn't didn't doesn't hadn't hasn't haven't isn't mightn't mustn't needn't shan't shouldn't
wasn't weren't won't wouldn't
"""

# The parts of a contraction that is split at its apostrophe.
PIECES = """
d ll m o re ve y ain aren couldn didn doesn hadn hasn haven isn ma mightn mustn needn shan shouldn wasn weren
won wouldn
"""

FUNCTION_WORDS: frozenset[str] = frozenset(
    " ".join((PRONOUNS, VERBS, JOINING, DEGREE_AND_PLACE, CONTRACTIONS, PIECES)).split()
)
