"""Goldens: what the attack engine did, one example after the other, so that a redesign can be held against it.

`tiny.json` holds runs on checkpoints of two layers and sentences of this project, with the texts themselves;
`minilm.json` holds runs on the real MiniLM and published rows, with 16 hexadecimal digits of the sha256 of each
segment in place of texts. Both say of each example of each cell: run, checkpoint, testset, attack, example, status,
text (null where there is none), queries and forwards. They know nothing of tables or of the store's columns: the
function `read_outcomes_of` alone does.

    python tests/goldens/export.py --compare             runs both again, lists every difference, exit code 1 if any
    python tests/goldens/export.py --compare --only tiny
    python tests/goldens/export.py --out DIR             writes both anew, into DIR

ROBUSTNESS_DATA names the folder with the published rows and lexical assets, NLTK_DATA that of NLTK's.

Checkpoints are made on the spot, the same everywhere: weights are whole thousandths drawn as integers, MiniLM's own
stay as they are, heads are fitted in closed form and rounded to hundredths. The files hold digests of the weights,
the rows and the recipes, the libraries' versions and the processor: where one of them differs, the comparison says
so, before it lists what may follow from it. Searches of many steps (gbda, embeddings) magnify the last digit of a
gradient: on another kind of processor they may end otherwise, without any fault of the engine.

A recipe that did not run stands under `left_out` with its reason, run by run. A recipe that ran then and cannot be
built now is lost, which counts as a difference; one that did not run then is noted, and is none. After a change that
is meant, export anew, and say in the changelog what moved.
"""
