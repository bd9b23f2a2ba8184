from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgetfm.quantize.linear import by_activation, find_linears


def test_products_with_constant_weights_are_found_and_the_others_say_why(
    builder: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", "m", 8])
    q, k = (b.linear("x", rng.normal(size=(8, 8)).astype("f4"), name=name) for name in "qk")
    scores = b("MatMul", q, b("Transpose", k, perm=[0, 2, 1]), name="scores")
    b("MatMul", scores, "x", name="mixed")
    linears, left = find_linears(b.model(mixed=["n", "m", 8]), keep_float=["k"])
    assert [linear.name for linear in linears] == ["q"]
    assert {entry.name: entry.reason for entry in left} == {
        "k": "the recipe keeps it in float",
        "scores": "both inputs are activations",
        "mixed": "both inputs are activations",
    }


def test_products_that_read_the_same_activation_are_one_group(
    builder: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", 8])
    weights = [rng.normal(size=(8, 8)).astype("f4") for _ in range(3)]
    h = b("Add", b.linear("x", weights[0], name="a"), b.linear("x", weights[1], name="b"))
    b.linear(h, weights[2], name="c")
    groups = list(by_activation(find_linears(b.model(c=["n", 8]))[0]))
    assert [[linear.name for linear in group] for _, group in groups] == [["a", "b"], ["c"]]


@pytest.mark.parametrize("stored", ["plain", "transposed", "gemm", "gemm transposed"])
def test_the_weight_is_inputs_by_outputs_however_it_is_stored(
    builder: Any, rng: np.random.Generator, stored: str
) -> None:
    weight = rng.normal(size=(8, 4)).astype("f4")
    bias = rng.normal(size=4).astype("f4")
    b = builder(x=["n", 8])
    if stored == "plain":
        b.linear("x", weight, bias, name="y")
        y = "y_add"
    elif stored == "transposed":
        b("MatMul", "x", b("Transpose", b.constant(weight.T), perm=[1, 0]), name="product")
        b("Add", "product:0", b.constant(bias), name="y_add")
        y = "y_add"
    else:
        turned = int("transposed" in stored)
        constant = b.constant(weight.T if turned else weight)
        b("Gemm", "x", constant, b.constant(bias), transB=turned, name="y")
        y = "y"
    (linear,), _ = find_linears(b.model(**{y: ["n", 4]}))
    assert linear.shape == (8, 4)
    assert (linear.matrix() == weight).all()
    assert linear.bias is not None


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"alpha": 2.0}, "alpha 2"),
        ({"beta": 0.5}, "beta 0.5"),
        ({"transA": 1}, "transposes its left input"),
    ],
)
def test_a_gemm_that_is_more_than_a_product_is_left(
    builder: Any, rng: np.random.Generator, attributes: dict[str, Any], said: str
) -> None:
    b = builder(x=[8, 8])
    weight, bias = rng.normal(size=(8, 4)).astype("f4"), np.ones(4, "f4")
    b("Gemm", "x", b.constant(weight), b.constant(bias), name="y", **attributes)
    linears, (left,) = find_linears(b.model(y=[8, 4]))
    assert not linears
    assert said in left.reason


def test_an_add_that_is_no_bias_is_not_taken_for_one(
    builder: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", 3, 8])
    y = b.linear("x", rng.normal(size=(8, 4)).astype("f4"), name="y")
    b("Add", y, b.constant(rng.normal(size=(3, 4)).astype("f4")), name="table")
    (linear,), _ = find_linears(b.model(table=["n", 3, 4]))
    assert linear.bias is None
