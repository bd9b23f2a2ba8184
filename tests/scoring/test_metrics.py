"""Metrics count as the scripts do that people compare with."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from edgetfm.scoring.metrics import (
    accuracy,
    drop,
    entities,
    entity_f1,
    exact_match,
    normalized,
    spearman,
    word_f1,
)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("O O", set()),
        ("B-PER I-PER O B-LOC", {(0, 1, "PER"), (3, 3, "LOC")}),
        ("B-PER B-PER", {(0, 0, "PER"), (1, 1, "PER")}),
        ("I-PER I-LOC", {(0, 0, "PER"), (1, 1, "LOC")}),  # an I- alone counts
        ("O I-PER I-PER", {(1, 2, "PER")}),
        ("B-PER I-LOC I-LOC", {(0, 0, "PER"), (1, 2, "LOC")}),
        ("S-PER E-PER", {(0, 0, "PER"), (1, 1, "PER")}),
        ("B-PER I-PER E-PER I-PER", {(0, 2, "PER"), (3, 3, "PER")}),
    ],
)
def test_entities_are_those_of_conll(labels: str, found: set[tuple[int, int, str]]) -> None:
    assert entities(labels.split()) == found


def test_entity_f1_is_over_all_sentences_and_needs_the_whole_entity() -> None:
    wanted = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    got = [["B-PER", "O", "O", "B-LOC"], ["O", "B-LOC"]]
    assert entity_f1(wanted, got) == pytest.approx(2 * 2 / (3 + 3))
    assert entity_f1(wanted, wanted) == 1.0
    assert entity_f1([["O"]], [["O"]]) == 1.0
    assert entity_f1(wanted, [["O"] * 4, ["O"] * 2]) == 0.0


def test_answers_are_normalized_as_for_squad() -> None:
    assert normalized(" The  Eiffel-Tower, in a town!") == "eiffeltower in town"
    assert exact_match(["Berlin", "the city of Berlin"], "a City of Berlin.") == 1.0
    assert exact_match(["Berlin"], "Bern") == 0.0
    assert word_f1(["the old captain from Lisbon"], "captain of Lisbon") == pytest.approx(4 / 7)
    assert word_f1([""], "") == 1.0
    assert word_f1([""], "something") == 0.0
    assert word_f1(["a word", "no"], "No") == 1.0


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(-1e3, 1e3)), min_size=3, max_size=30).filter(
        lambda rows: all(len({row[side] for row in rows}) > 1 for side in (0, 1))
    )
)
def test_spearman_is_that_of_scipy(rows: list[tuple[int, float]]) -> None:
    one, other = zip(*rows, strict=True)
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-9)


def test_spearman_of_a_constant_or_of_no_number_is_none() -> None:
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1, np.nan, 3], [1, 2, 3]))


def test_accuracy_counts() -> None:
    assert accuracy(["a", "b", "c", "d"], ["a", "b", "c", "x"]) == 0.75


def test_a_drop_is_relative_to_what_was() -> None:
    assert drop(0.9, 0.891, higher_is_better=True) == pytest.approx(0.01)
    assert drop(10, 10.1, higher_is_better=False) == pytest.approx(0.01)
    assert drop(0.5, 0.6, higher_is_better=True) == pytest.approx(-0.2)
    assert drop(-0.2, -0.3, higher_is_better=True) == pytest.approx(0.5)
    assert drop(0.0, 0.0, higher_is_better=True) == 0.0
    assert drop(0.0, 0.1, higher_is_better=False) == math.inf
    assert drop(0.0, 0.1, higher_is_better=True) == -math.inf
    assert drop(0.9, math.nan, higher_is_better=True) == math.inf
    assert drop(5.0, math.inf, higher_is_better=False) == math.inf
