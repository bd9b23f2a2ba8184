"""Which products of a decoder get 8 bits: bytes beside loss."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.quantize.mix import Product, cheapest_mix

PRODUCTS = st.lists(
    st.builds(
        lambda loss, size, grown: (loss, size, size + grown),
        st.floats(-0.01, 1),
        st.integers(1, 1000),
        st.integers(1, 1000),
    ),
    min_size=1,
    max_size=7,
).map(lambda rows: [Product(f"p{i}", *row) for i, row in enumerate(rows)])


@given(PRODUCTS, st.floats(0, 0.1), st.floats(0, 3))
def test_a_mix_is_within_its_bound_or_all_in_8_bits(
    products: list[Product], base: float, target: float
) -> None:
    mix = cheapest_mix(products, base, target)
    names = [p.name for p in products]
    assert [n for n in names if n in mix.eight] == list(mix.eight), "in the order of the graph"
    assert mix.bytes == sum(p.large if p.name in mix.eight else p.small for p in products)
    lost = base + sum(max(0.0, p.loss) for p in products if p.name not in mix.eight)
    assert mix.loss == pytest.approx(lost, abs=1e-9)
    if mix.loss > target + 1e-9:
        losing = {p.name for p in products if p.loss > 0}
        assert losing <= set(mix.eight)


@given(PRODUCTS, st.floats(0, 3))
def test_nothing_in_8_bits_is_needless(products: list[Product], target: float) -> None:
    mix = cheapest_mix(products, 0.0, target)
    if mix.loss <= target:
        least = min((max(0.0, p.loss) for p in products if p.name in mix.eight), default=1e9)
        assert mix.loss + least > target


@given(PRODUCTS, st.floats(0, 3))
def test_no_smaller_mix_is_far_away(products: list[Product], target: float) -> None:
    """Greed is at most one product's bytes above the best, which is looked for here by force."""
    mix = cheapest_mix(products, 0.0, target)
    if mix.loss > target:
        return
    best = min(
        sum(p.large - p.small for p in eight)
        for count in range(len(products) + 1)
        for eight in combinations(products, count)
        if sum(max(0.0, p.loss) for p in products if p not in eight) <= target
    )
    added = mix.bytes - sum(p.small for p in products)
    assert added <= best + max(p.large - p.small for p in products)


def test_what_loses_most_for_its_bytes_is_first() -> None:
    products = [
        Product("wide", loss=0.5, small=1000, large=2000),
        Product("dear", loss=0.3, small=100, large=200),
        Product("cheap", loss=0.2, small=100, large=200),
    ]
    assert cheapest_mix(products, 0.01, 0.75).eight == ("dear",)
    assert cheapest_mix(products, 0.01, 0.60).eight == ("dear", "cheap")
    assert cheapest_mix(products, 0.01, 0.02).eight == ("wide", "dear", "cheap")
    assert cheapest_mix(products, 0.01, 0.0).eight == ("wide", "dear", "cheap")
    assert cheapest_mix(products, 0.01, 1.1).eight == ()
