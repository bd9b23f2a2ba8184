"""Guesses are what followed the same tokens before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgetfm.runtime.generation.lookup import Lookup


def test_a_guess_goes_on_as_the_text_did_last_time() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 9, 1, 2], most=3, size=2)
    assert lookup.guess(10) == [3, 4, 5]
    assert lookup.guess(2) == [3, 4]
    assert lookup.guess(0) == []
    lookup.extend([3, 7, 7, 1, 2])
    assert lookup.guess(10) == [3, 7, 7]


def test_the_longest_run_that_is_alike_decides() -> None:
    text = [5, 1, 2, 30, 6, 1, 2, 40, 5, 1, 2]
    assert Lookup(text, most=1, size=3).guess(1) == [30]
    assert Lookup(text, most=1, size=2).guess(1) == [40]


def test_what_repeats_goes_on() -> None:
    assert Lookup([8, 1, 2, 1, 2, 1, 2], most=7, size=2).guess(7) == [1, 2, 1, 2, 1, 2, 1]


def test_bad_guesses_get_shorter_and_good_ones_longer() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 6, 7, 8, 1, 2], most=5, size=2)
    assert len(lookup.guess(9)) == 5
    lookup.judge(5, 0)
    assert len(lookup.guess(9)) == 1
    lookup.judge(1, 1)
    assert len(lookup.guess(9)) == 3


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 8), st.integers(1, 4))
def test_a_guess_follows_a_run_that_is_there(text: list[int], most: int, size: int) -> None:
    guess = Lookup(text, most=most, size=size).guess(most)
    assert len(guess) in (0, most)
    if guess:
        run = max(n for n in range(1, size + 1) if n <= len(text) and _inside(text[-n:], text[:-1]))
        assert _inside([*text[-run:], guess[0]], text)


def _inside(run: list[int], text: list[int]) -> bool:
    return any(text[i : i + len(run)] == run for i in range(len(text) - len(run) + 1))
