"""Activations of which an item has no rows: those of experts that none of its tokens went to."""

from __future__ import annotations

import numpy as np

from edgetfm.quantize.observe import UNSEEN_ROWS, Activation


def test_items_without_rows_change_nothing() -> None:
    rows = np.random.default_rng(0).standard_normal((5, 8), np.float32)
    one, other = (Activation.empty(8, gram=True) for _ in range(2))
    for part in (rows[:2], rows[:0], rows[2:]):
        one.add(part)
    for part in (rows[:2], rows[2:]):
        other.add(part)
    for activation in (one, other):
        activation.settle()
    assert one.rows == other.rows == 5
    np.testing.assert_array_equal(one.largest, other.largest)
    np.testing.assert_array_equal(one.gram, other.gram)


def test_the_inputs_of_an_expert_nobody_was_sent_to_count_alike() -> None:
    activation = Activation.empty(8, gram=True)
    activation.add(np.zeros((0, 8), np.float32))
    activation.settle()
    assert activation.rows == sum(map(len, activation.sample)) == UNSEEN_ROWS
    assert np.isfinite(activation.largest).all()
    assert activation.gram is not None
    power = np.diag(activation.gram)
    assert power.max() < 2 * power.min()
    between = np.abs(activation.gram - np.diag(power))
    assert between.max() < 0.5 * power.min()
