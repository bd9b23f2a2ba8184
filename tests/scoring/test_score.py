"""A score knows how sure its distance from another one is; texts are counted as others count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetfm.scoring.metrics import bleu, bleu_counts, rouge_l
from edgetfm.scoring.score import Score

SAID = ["the cat sat on the mat", "a dog barked at night", "nothing", "we went home together"]
WANTED = ["the cat sat on a mat", "a dog barked all night", "something else", "we went home"]


def test_bleu_of_counts_is_sacrebleus_of_the_corpus() -> None:
    from sacrebleu.metrics import BLEU

    found = Score.of_counts(list(map(bleu_counts, WANTED, SAID)), bleu)
    assert found.value == pytest.approx(BLEU().corpus_score(SAID, [WANTED]).score)
    assert 20 < found.value < 80
    same = Score.of_counts([bleu_counts(text, text) for text in WANTED], bleu)
    assert same.value == pytest.approx(100)


def test_rouge_l_is_the_f1_of_the_longest_common_run_of_words() -> None:
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(3 / 4)
    assert rouge_l("police killed the gunman", "the gunman kill police") == pytest.approx(2 / 4)
    assert rouge_l("The end.", "the END") == 1
    assert rouge_l("the end", "") == 0
    assert rouge_l("привет мир", "совсем другой текст") == 0, "words of every script count"
    assert rouge_l("привет мир", "Привет, друг") == pytest.approx(2 / 4)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=6), st.integers(0, 3))
def test_rouge_l_of_words_left_out_is_what_is_left(words: list[str], gone: int) -> None:
    rest = words[gone:]
    wanted = 2 * len(rest) / (len(words) + len(rest)) if words else 1.0
    assert rouge_l(" ".join(words), " ".join(rest)) == pytest.approx(wanted)


def test_the_error_of_a_difference_is_that_of_its_items() -> None:
    random = np.random.default_rng(1)
    one = random.integers(0, 2, 400).astype(float)
    other = np.where(random.random(400) < 0.1, 1 - one, one)
    found = Score.mean(one).error_beside(Score.mean(other))
    expected = float(np.std(one - other) / math.sqrt(400))
    assert found == pytest.approx(expected, rel=0.1)
    assert Score.mean(one).error_beside(Score.mean(one)) == 0
    assert Score.mean(one).error_beside(Score(0.5)) is None
