"""Beam search finds the likeliest answers, and copies no more of a cache than it has to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetfm.errors import InputError
from edgetfm.runtime.generation.beams import Beams
from edgetfm.runtime.generation.seq2seq_options import Seq2SeqOptions
from edgetfm.signature import Array

END = 0


@pytest.mark.parametrize("penalty", [10**400, 1e308, float("nan"), "2", True])
def test_a_penalty_that_no_number_holds_is_refused(penalty: object) -> None:
    with pytest.raises(InputError, match=r"length_penalty is .* a number from -100 to 100"):
        Seq2SeqOptions.of_model({}).changed(length_penalty=penalty)


def chain(seed: int, vocabulary: int) -> Array:
    """Log probabilities of each token after each other one, float32."""
    logits = np.random.default_rng(seed).normal(size=(vocabulary, vocabulary)).astype(np.float32)
    scores: Array = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return scores


def searched(scores: Array, size: int, limit: int, **options: object) -> Beams:
    """A search over answers that start after token 1; a place keeps what was put there."""
    beams = Beams(size, [END], limit, **options)  # type: ignore[arg-type]
    beams.advance(scores[[1]])
    kept: dict[int, tuple[int, ...]] = dict.fromkeys(range(size), ())
    kept |= dict(zip(beams.places, beams.tokens, strict=True))
    while not beams.done:
        assert [kept[place] for place in beams.places] == beams.tokens
        last = np.array([tokens[-1] for tokens in beams.tokens])
        copies = beams.advance(scores[last])
        for source, target in copies:
            kept[target] = kept[source]
        if not beams.done:
            kept = {place: (*kept[place], beams.last[place]) for place in kept}
    return beams


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.0, 1.0, 2.0]))
def test_with_room_for_all_it_finds_the_best_of_all(seed: int, penalty: float) -> None:
    scores, limit = chain(seed, 3), 4
    beams = searched(scores, 40, limit, length_penalty=penalty, early_stopping="never")
    best = max(
        total_of(scores, (*before, last)) / (len(before) + 1) ** penalty
        for length in range(limit)
        for before in itertools.product((1, 2), repeat=length)
        for last in ((END,) if length + 1 < limit else range(3))
    )
    assert beams.best[0].score == pytest.approx(best, rel=1e-5)


def total_of(scores: Array, tokens: tuple[int, ...]) -> float:
    """The log probability of an answer."""
    return sum(float(scores[a, b]) for a, b in itertools.pairwise((1, *tokens)))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 5))
def test_scores_are_those_of_the_answers(seed: int, size: int) -> None:
    scores = chain(seed, 12)
    best = searched(scores, size, 9, early_stopping=True).best
    assert [h.score for h in best] == sorted((h.score for h in best), reverse=True)
    for found in best:
        wanted = total_of(scores, found.tokens) / len(found.tokens)
        assert found.score == pytest.approx(wanted, rel=1e-5)


def test_only_what_branches_off_is_copied() -> None:
    beams = Beams(3, [END], 9)
    scores = np.full((1, 8), -9.0, np.float32)
    scores[0, [3, 4, 5]] = [-0.1, -0.2, -0.3]
    beams.advance(scores)
    before = dict(zip(beams.tokens, beams.places, strict=True))
    step = np.full((3, 8), -9.0, np.float32)
    step[beams.tokens.index((3,)), [1, 2]] = -0.5  # one branches in two, the last one is dropped
    step[beams.tokens.index((4,)), 6] = -0.5
    (copy,) = beams.advance(step)
    assert copy == (before[(3,)], before[(5,)])
    assert beams.places[beams.tokens.index((4, 6))] == before[(4,)]
