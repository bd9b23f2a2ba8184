"""The search for the products to leave out of int8, on effects that are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.quantize.search import Effect, Measure, find_sensitive

NAMES = [f"node {i}" for i in range(12)]


def additive(effects: dict[str, float]) -> Measure:
    """Every product adds its own loss; the whole budget is a loss of 1."""

    def measure(kept: frozenset[str]) -> Effect:
        loss = sum(effect for name, effect in effects.items() if name not in kept)
        return Effect(loss, loss)

    return measure


def equal(names: list[str]) -> dict[str, float]:
    return dict.fromkeys(names, 1 / len(names))


def test_inside_the_target_nothing_is_left_out() -> None:
    found = find_sensitive(NAMES, equal(NAMES), additive(dict.fromkeys(NAMES, 0.01)), target=0.7)
    assert found.kept == ()
    assert found.use == pytest.approx(0.12)


def test_the_two_that_do_the_damage_are_found() -> None:
    effects = dict.fromkeys(NAMES, 0.01) | {"node 3": 2.0, "node 7": 1.0}
    found = find_sensitive(NAMES, equal(NAMES), additive(effects), target=0.7)
    assert set(found.kept) == {"node 3", "node 7"}
    assert found.order[:2] == ("node 3", "node 7")
    assert found.gains["node 3"] == pytest.approx(2.0)


def test_of_equal_damage_the_node_with_less_work_is_left_out() -> None:
    effects = dict.fromkeys(NAMES, 0.01) | {"node 3": 0.5, "node 7": 0.5}
    costs = equal(NAMES) | {"node 3": 0.5}
    found = find_sensitive(NAMES, costs, additive(effects), target=0.7)
    assert found.kept == ("node 7",)


def test_what_turns_out_needless_goes_back_to_int8() -> None:
    """The cheap one stands first in the order, but the dear one alone would have sufficed."""
    effects = {"cheap": 0.3, "dear": 1.0, "rest": 0.1}
    costs = {"cheap": 0.01, "dear": 0.9, "rest": 0.09}
    found = find_sensitive(list(effects), costs, additive(effects), target=0.7)
    assert found.order[0] == "cheap"
    assert found.kept == ("dear",)
    assert found.use == pytest.approx(0.4)


def test_if_nothing_will_do_all_are_left_out_and_the_use_says_so() -> None:
    found = find_sensitive(NAMES, equal(NAMES), lambda kept: Effect(5.0, 5.0), target=0.7)
    assert set(found.kept) == set(NAMES)
    assert found.use == 5.0


def test_out_of_time_what_was_measured_decides() -> None:
    left = iter([False, False, False])
    effects = dict.fromkeys(NAMES, 0.0) | {"node 1": 2.0, "node 9": 2.0}
    found = find_sensitive(
        NAMES,
        equal(NAMES),
        additive(effects),
        target=0.7,
        out_of_time=lambda: next(left, True),
    )
    assert set(found.gains) == {"node 0", "node 1", "node 2"}
    assert {"node 1", "node 9"} <= set(found.kept)


@given(
    st.lists(st.floats(0, 2), min_size=1, max_size=10),
    st.lists(st.floats(0.01, 1), min_size=10, max_size=10),
)
def test_what_is_found_holds_the_target_whenever_float_does(
    losses: list[float], work: list[float]
) -> None:
    names = [str(i) for i in range(len(losses))]
    measure = additive(dict(zip(names, losses, strict=True)))
    costs = dict(zip(names, work, strict=False))
    found = find_sensitive(names, costs, measure, target=0.7)
    assert found.use <= 0.7
    assert measure(frozenset(found.kept)).use == found.use
