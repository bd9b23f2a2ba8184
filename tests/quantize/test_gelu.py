from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.quantize import gelu, opset

Operators = Callable[[ir.Model], list[str]]


def written_out(builder: Any, form: str, root: float = 2**0.5, half: float = 0.5) -> ir.Model:
    b = builder(x=["n", 8])
    x = b("Identity", "x")
    numbers = {n: b.constant(np.float32(v)) for n, v in (("h", half), ("r", root), ("one", 1))}
    inverse = b.constant(np.float32(1 / root))
    inner = b("Mul", x, inverse) if form == "by the inverse" else b("Div", x, numbers["r"])
    plus_one = b("Add", b("Erf", inner), numbers["one"])
    if form == "half first":
        b("Mul", b("Mul", x, numbers["h"]), plus_one, name="y")
    else:
        b("Mul", b("Mul", plus_one, x), numbers["h"], name="y")
    made: ir.Model = b.model(y=["n", 8])
    opset.run(made)
    return made


@pytest.mark.parametrize("form", ["half last", "half first", "by the inverse"])
def test_a_gelu_that_is_written_out_becomes_one(
    builder: Any,
    run: Any,
    rng: np.random.Generator,
    ops: Callable[[ir.Model], list[str]],
    form: str,
) -> None:
    model, x = written_out(builder, form), rng.normal(size=(20, 8)).astype("f4") * 3
    wanted = run(model, x=x)["y:0"]
    made, changed = gelu.run(model)
    assert changed
    assert ops(made) == ["Identity", "Gelu"]
    assert np.abs(run(made, x=x)["y:0"] - wanted).max() < 1e-5


@pytest.mark.parametrize("other", [{"root": 1.5}, {"half": 0.4}])
def test_another_formula_stays(builder: Any, other: dict[str, float]) -> None:
    for form in ("half last", "half first"):
        assert not gelu.run(written_out(builder, form, **other))[1]


def test_an_opset_without_gelu_keeps_it_written_out(builder: Any) -> None:
    model = written_out(builder, "half last")
    model.opset_imports[""] = 19
    assert not gelu.run(model)[1]
