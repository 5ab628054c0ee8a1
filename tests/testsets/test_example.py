from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.testsets.example import Example

ANY_TEXT = st.text(max_size=60)
WORDY_TEXT = st.text(st.sampled_from("ab'-_*@` .,\u00d7é漢\u0301\n1"), max_size=40)


def example(*texts: str, attacked: tuple[int, ...] = (0,)) -> Example:
    return Example("1", texts, label=1, attacked=attacked)


def test_words_are_those_of_textattack(shared_data: Path, textattack: Any) -> None:
    lines = (shared_data / "glue" / "SST-2" / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:301]
    texts = [line.rpartition("\t")[0].strip() for line in lines]
    tricky = [
        "'film'",
        "-a- _b_ *c* @d@",
        "it's well-made",
        "a'-b ' - '",
        "`x` a\u00d7b \u02d7",
        "naïve 3,000 e\u0301",
        "",
        "...",
    ]
    alphabet = [f"a{chr(code)}b" for code in range(0x300) if not chr(code).isspace()]

    for text in [*texts, *tricky, *alphabet]:
        assert list(example(text).words) == list(textattack.shared.AttackedText(text).words), text


def test_the_rule_of_words_holds_for_every_character() -> None:
    # Letters, digits, inner signs, and what TextAttack takes for letters because it looks like one.
    signs = "_'-*@" + "`\u02d7\u00d7"

    for code in range(0x11000):
        character = chr(code)
        if 0xD800 <= code < 0xE000:
            continue
        expected = character.isalnum() or character in signs
        assert (example(f"a{character}b").words == (f"a{character}b",)) is expected, hex(code)


@pytest.mark.parametrize("text", ["", " ", "...", "' - _ * @", "--", "\n\t", "!?", "\u0301"])
def test_without_a_letter_there_is_no_word(text: str) -> None:
    assert example(text).words == ()
    with pytest.raises(IndexError, match="has 0 words, no word 0"):
        example(text).replace_word(0, "x")


@pytest.mark.parametrize("index", [-1, 3, 1_000])
def test_a_word_that_is_not_there_cannot_be_replaced(index: int) -> None:
    with pytest.raises(IndexError, match=f"example 1 has 3 words, no word {index}"):
        example("a fine film").replace_word(index, "x")


@pytest.mark.parametrize("attacked", [(0,), (1,), (0, 1)])
@given(text=ANY_TEXT | WORDY_TEXT, other=WORDY_TEXT, word=ANY_TEXT | WORDY_TEXT, data=st.data())
def test_replacing_a_word_keeps_all_others(
    attacked: tuple[int, ...], text: str, other: str, word: str, data: st.DataObject
) -> None:
    clean = example(text, other, attacked=attacked)
    words = list(clean.words)
    if not words:
        return
    index = data.draw(st.integers(0, len(words) - 1))

    changed = clean.replace_word(index, word)

    words[index] = word
    assert list(changed.words) == words
    assert changed.replace_word(index, clean.words[index]).texts == clean.texts
    assert sum(map(len, changed.texts)) == sum(map(len, clean.texts)) + len(word) - len(clean.words[index])
    for segment in {0, 1} - set(attacked):
        assert changed.texts[segment] == clean.texts[segment]


@given(text=WORDY_TEXT, replacements=st.lists(ANY_TEXT, min_size=1, max_size=8), data=st.data())
def test_many_replacements_in_any_order_are_each_kept(
    text: str, replacements: list[str], data: st.DataObject
) -> None:
    current = example("first 'word' " + text)
    words = list(current.words)

    for replacement in replacements:
        index = data.draw(st.integers(0, len(words) - 1))
        current = current.replace_word(index, replacement)
        words[index] = replacement

    assert list(current.words) == words


@given(text=ANY_TEXT | WORDY_TEXT)
def test_words_stand_in_the_text_in_their_order(text: str) -> None:
    position = 0
    for word in example(text).words:
        found = text.find(word, position)
        assert found >= position
        assert word[0] not in "'-_*@"
        assert word[-1] not in "'-_*@"
        position = found + len(word)


def test_words_of_segments_that_are_not_attacked_are_not_offered() -> None:
    pair = example("A premise stays.", "A hypothesis changes.", attacked=(1,))

    assert pair.words == ("A", "hypothesis", "changes")
    assert pair.replace_word(0, "The").texts == ("A premise stays.", "The hypothesis changes.")


def test_words_of_a_pair_come_in_reading_order_and_change_their_own_segment() -> None:
    pair = example("same word", "same word", attacked=(0, 1))

    assert pair.words == ("same", "word", "same", "word")
    assert pair.replace_word(2, "other").texts == ("same word", "other word")
    assert pair.replace_word(1, "longer text").replace_word(3, "x").texts == ("same longer text", "same x")


def test_an_edit_makes_a_new_example() -> None:
    clean = example("a fine film")

    changed = clean.replace_word(1, "dull")

    assert clean.texts == ("a fine film",)
    assert (changed.id, changed.label, changed.group) == (clean.id, clean.label, clean.group)
    assert changed.with_texts(["a new text entirely"]).words == ("a", "new", "text", "entirely")


def test_examples_of_the_same_text_are_equal_and_hash_alike_however_they_came_about() -> None:
    written = example("a dull film")
    edited = example("a fine film").replace_word(1, "dull")

    assert written == edited
    assert hash(written) == hash(edited)


def test_an_example_without_a_group_is_its_own() -> None:
    assert example("a").group == "1"
    assert Example("1", ("a",), 0, group_id="g").group == "g"


def test_words_of_a_long_text_are_found_in_linear_time() -> None:
    text = "-'" * 200_000 + " word"

    assert example(text).words == ("word",)


def test_two_words_become_one_and_the_others_keep_their_index() -> None:
    pair = Example("1", ("a very, very fine film", "good"), label=1, attacked=(0, 1))

    merged = pair.merge_words(2, "superb")

    assert merged.texts == ("a very, superb film", "good")
    assert merged.words == ("a", "very", "superb", "", "film", "good")
    assert merged.replace_word(2, "good").replace_word(4, "song").texts[0] == "a very, good song"
    assert merged.replace_word(1, "truly").words[2:] == ("superb", "", "film", "good")


@pytest.mark.parametrize("index", [-1, 1, 2, 9])
def test_a_word_without_a_neighbour_in_its_segment_cannot_be_merged(index: int) -> None:
    with pytest.raises(IndexError, match="no neighbour"):
        Example("1", ("fine film", "good"), label=1, attacked=(0, 1)).merge_words(index, "x")


def test_the_clean_form_has_the_original_and_its_own_label_and_an_edit_keeps_both() -> None:
    row = Example("1", ("a dull film",), 0, original=("a fine film",), original_label=1)

    clean, edited = row.clean_form(), row.replace_word(1, "bleak")

    assert (clean.texts, clean.label, clean.original, clean.original_label) == (("a fine film",), 1, None, None)
    assert clean.words == ("a", "fine", "film")
    assert (edited.original, edited.original_label, edited.clean_label) == (("a fine film",), 1, 1)
    assert Example("1", ("a film",), 0, original=("the film",)).clean_form().label == 0
