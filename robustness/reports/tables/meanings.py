"""What every column of the CSV tables means, in a phrase."""

from __future__ import annotations

from robustness.reports.tables.columns import COLUMNS, Column, Table

TABLE_MEANINGS: dict[Table, str] = {
    Table.EXAMPLES: "One row per checkpoint, example and attack, with both texts. Attack `none`: as it stands.",
    Table.TESTSETS: "One row per checkpoint, test set and metric, on the rows as they stand.",
    Table.ATTACKS: "One row per checkpoint, test set and attack, and one for the worst case over the attacks.",
    Table.PAIRS: "One row per comparison of reference and candidate on the same examples.",
    Table.TRANSFER: "How often a text that broke one checkpoint also breaks its partner or the untuned base.",
    Table.CURVES: "Accuracy under attack at every budget, or along a path of weights.",
    Table.FRAGILITY: "Every place where accuracy can differ, surest fragility of the candidate first.",
    Table.SURVIVAL: "How much it took to break half of the examples that both checkpoints answer rightly.",
    Table.PREDICTIONS: "How well each number of a probe tells which examples an attack breaks.",
    Table.SENSITIVITY: "What each probe measured, as a median or mean over examples.",
    Table.SENSITIVITY_EXAMPLES: "What each probe measured on each example.",
    Table.SENSITIVITY_PAIRS: "Reference and candidate in each number of each probe, on the same examples.",
    Table.LAYERS: "What probes measured in each layer or module.",
    Table.BRACKETS: "A lower beside an upper bound of one number. A violated bracket is a fault, not a finding.",
}

MEANINGS: dict[str, str] = {
    # What a row is about.
    "checkpoint": "Name of the checkpoint",
    "adaptation": "`full`, or the PEFT method that was found in the checkpoint",
    "base_precision": "The base under an adapter: `4bit` or `full`; of a pair the candidate's; empty: a whole model",
    "method": "The method by the name of its training, such as `lora+freelb`; without a record as `adaptation`",
    "method_digest": "Digest of the method's definition, base, task and training rows",
    "base": "The base model that both checkpoints come from",
    "task": "Name of the task",
    "train_seed": "Seed that the checkpoint was trained with",
    "trainable_parameters": "Parameters that were trained; of a pair, the candidate's",
    "trainable_share": "Trained parameters / all parameters with head and adapter; of a pair, the candidate's",
    "train_seconds": "Time of training, all learning rates together; of a pair the candidate's, over seeds the mean",
    "testset": "Name of the test set",
    "provenance": "Origin of the rows: `official`, `sample`, `generated`, `own` or `changed`",
    "attack": "Name of the attack; `none`: the row as it stands; `worst-case`: any attack of the test set succeeds",
    "attack_digest": "Digest of the attack's definition; it seeds the searches",
    "seed": "Seed of the run",
    "example_id": "Name of the row within its test set",
    "group_id": "Rows of one group come from one source and count as one unit in intervals and tests",
    "pair": "Name of the pair",
    "contrast": "What is compared, the reference first, such as `full-vs-peft`",
    "reference": "Checkpoint that the candidate is compared with",
    "candidate": "Checkpoint that is compared with the reference",
    "goal": "What counts as success: a wrong answer, or an answer that stays",
    # One example.
    "clean_correct": "1 where the answer to the text before the change is right, else 0",
    "correct": "1 where the answer to the judged text is right, else 0",
    "clean_quality": "Quality of the answer to the text before the change, by the task's metric",
    "quality": "Quality of the answer to the judged text, by the task's metric",
    "clean_response": "Answer to the text before the change",
    "response": "Answer to the judged text",
    "gold": "The right answer: a label, spans or texts",
    "queries": "Candidates that the attack asked about; the clean text is not counted",
    "forwards": "Texts that really ran through the model, clean text and judgement included",
    "backwards": "Backward passes",
    "decodes": "Responses that were generated",
    "generated_tokens": "Tokens of the generated responses",
    "modified_words": "Words replaced, removed or added, by the shortest way from one text to the other",
    "modified_share": "`modified_words` divided by the words of the clean text",
    "similarity": "Share of characters kept: 1 - edit distance / length of the longer text",
    "seconds": "Time spent",
    "original_text": "The text before the change; several fields are a JSON list",
    "adversarial_text": "The judged text; several fields are a JSON list",
    "error": "Why the row has no outcome; empty where it has one",
    "distance": "Size of the smallest perturbation that the attack found, in embedding space",
    "norm": "Norm of the distance or perturbation",
    "zero_gradients": "Gradients that were zero everywhere: a sign of masked gradients",
    "construction": "At what level a ready-made row was made: word, sentence or human",
    "original_gold": "The right answer of the row that this one was made from",
    "label_entropy": "Entropy of the annotators' labels",
    "cut": "1 where the judged response reached the token limit",
    "answer_marked": "The number behind the answer's marker; empty where there is none",
    "correct_marked": "1 where that number is right",
    "answer_last": "The last number of the response; empty where there is none",
    "correct_last": "1 where that number is right",
    # Rates and values.
    "n": "Examples, or groups of rows, that the row stands on",
    "n_skipped": "Examples that were answered wrongly before the attack",
    "n_errored": "Examples or values with an error, left out of the rates",
    "n_left_out": "Examples without an outcome or value on both sides",
    "n_cut": "Responses that reached the token limit",
    "n_seeds": "Distinct training seeds in the row",
    "n_broken": "Examples that the attack broke",
    "metric": "What is compared or reported, such as `robust_accuracy`, `f1` or `effort`",
    "aggregation": "How rows become the value: over all rows, altered rows, an official script, or one part",
    "population": "Which examples: `all`, `altered`, or `both_correct`: both arms are right before the attack",
    "value": "The measured value",
    "low": "Lower end of the 95 % interval",
    "high": "Upper end of the 95 % interval",
    "clean_accuracy": "Right before the attack / judged examples",
    "robust_accuracy": "Right before and after the attack / judged examples",
    "robust_accuracy_low": "Lower end of its 95 % Wilson interval",
    "robust_accuracy_high": "Upper end of its 95 % Wilson interval",
    "attack_success_rate": "Succeeded / (succeeded + failed)",
    "attack_success_rate_low": "Lower end of its 95 % Wilson interval",
    "attack_success_rate_high": "Upper end of its 95 % Wilson interval",
    "mean_queries": "Mean of `queries` over attacked examples",
    "mean_forwards": "Mean of `forwards` over attacked examples",
    "mean_modified_share": "Mean of `modified_share` over successes",
    "mean_similarity": "Mean of `similarity` over successes",
    "transfer_rate": "Texts that break the target too / texts whose clean form the target answers rightly",
    # Comparisons.
    "reference_value": "The reference's value",
    "candidate_value": "The candidate's value",
    "difference": "Above 0 the candidate is worse off, for every metric",
    "drop_difference": "How much more the candidate loses from clean to attacked; above 0 it loses more",
    "drop_low": "Lower end of its 95 % interval",
    "drop_high": "Upper end of its 95 % interval",
    "test": "Name of the statistical test",
    "p_value": "P-value of that test",
    "p_adjusted": "P-value adjusted over the comparison's family; empty for controls",
    "p_equivalence": "P-value of two one-sided tests against the margin",
    "verdict": "What the comparison shows: see Verdicts",
    "reason": "Why a verdict or value is withheld or changed; empty where it is not",
    "detectable": "True difference that this comparison would find with power .80",
    "family": "Comparisons that are adjusted together: `planned`, `effort` or `secondary`; controls have none",
    "noise_floor": "Share of answers that changed when the gate asked again in another way; the larger of both arms",
    "seed_sd": "Standard deviation of the difference between training seeds",
    "seed_sd_low": "Lower end of its 95 % interval",
    "seed_sd_high": "Upper end of its 95 % interval",
    "example_sd": "Standard deviation between examples that is the same under every seed",
    "interaction_sd": "Standard deviation of what examples do under some seeds only",
    "seed_share": "Share of the difference's variance that training seeds account for",
    "where": "Kind of place: test set, attack, attack family, budget or subgroup",
    "what": "The place itself",
    "source": "Checkpoint that the text was found against",
    "target": "Checkpoint or function that the value is about",
    "budget_kind": "What is limited: queries, share of words changed, a radius; or what changes in the weights",
    "budget": "The limit, or the place on the path",
    "reference_n": "Examples of the reference that were attacked",
    "candidate_n": "Examples of the candidate that were attacked",
    "reference_median": "Queries until half of the reference's examples broke; empty where fewer broke",
    "candidate_median": "Queries until half of the candidate's examples broke; empty where fewer broke",
    "statistic": "The test's statistic; above 0 the candidate breaks with less",
    # Probes.
    "probe": "Name of the probe",
    "space": "What is perturbed or looked at: `input`, `parameter` or `structure`",
    "quantity": "What was measured",
    "unit": "Unit of the value",
    "kind": "`exact`, a `lower` or `upper` bound, certified (`cert-det`, `cert-prob`), or an `estimate`",
    "radius": "Size of the ball: median token norms for inputs, Frobenius norm for weights",
    "sigma": "Standard deviation of the noise that smooths the classifier, in median token norms",
    "alpha": "Error probability of a `cert-prob`",
    "scope": "Which tokens, or which weights, may move",
    "aggregate": "How values of examples become one: `median` or `mean`",
    "ratio": "Candidate's value / reference's value; of bounds, upper / lower",
    "comparison": "Whether `low` and `high` belong to the `ratio` or the `difference`",
    "larger_values": "What larger values mean: `robust`, `fragile` or `neutral`",
    "layer": "Depth of the layer, from the embeddings on",
    "module": "Name of the module",
    "auc": "Chance that an example that broke has the larger value; .5 predicts nothing",
    "rank_correlation": "Spearman's correlation of value and effort to break",
    "effort": "What the effort is counted in: queries, words or distance",
    "of": "The number that both bounds are of",
    "lower": "Probe and quantity of the lower bound",
    "upper": "Probe and quantity of the upper bound",
    "lower_kind": "Kind of the lower bound",
    "upper_kind": "Kind of the upper bound",
    "lower_value": "The lower bound",
    "upper_value": "The upper bound",
}
"""By the column's name, which means the same in every table but for those below."""

_SENSITIVE = "`candidate-more-sensitive`, `reference-more-sensitive`, `no-difference-found`, or `neutral`: no claim"
_STATUS = "`ok`, `vacuous`, `not-converged`, `unsupported` or `errored`; the `reason` says why"
ELSEWHERE: dict[tuple[Table, str], str] = {
    (Table.EXAMPLES, "status"): "`skipped` (wrong before the attack), `succeeded`, `failed` or `errored`",
    (Table.EXAMPLES, "method"): "How a ready-made row was made, in its authors' words",
    (Table.SENSITIVITY, "direction"): "What larger values mean: `robust`, `fragile` or `neutral`",
    (Table.SENSITIVITY_PAIRS, "direction"): _SENSITIVE,
    (Table.BRACKETS, "status"): "`ok`, `vacuous` (over a thousand times apart) or `violated` (lower above upper)",
    **{
        (table, "status"): _STATUS
        for table in (Table.SENSITIVITY, Table.SENSITIVITY_EXAMPLES, Table.SENSITIVITY_PAIRS, Table.LAYERS)
    },
}
"""Where a table's column means something of its own."""


def meaning_of(table: Table, column: Column) -> str:
    """Returns what a column means, without a full stop.

    >>> meaning_of(Table.PAIRS, Column("n_seeds", "count"))
    'Distinct training seeds in the row'

    Raises:
        KeyError: a column that nothing is declared of.
    """
    return ELSEWHERE.get((table, column.name)) or MEANINGS[column.name]


def undeclared() -> set[str]:
    """Returns columns without a meaning, and meanings without a column; both are mistakes.

    >>> undeclared()
    set()
    """
    columns = {(table, column.name) for table, declared in COLUMNS.items() for column in declared}
    common = {name for table, name in columns if (table, name) not in ELSEWHERE}
    return (common ^ MEANINGS.keys()) | {name for table, name in ELSEWHERE.keys() - columns}
