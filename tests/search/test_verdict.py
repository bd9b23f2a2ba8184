"""The rules by which one of the variants tried is chosen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetfm import quantize_bundle
from edgetfm.errors import BudgetError, QuantizationError
from edgetfm.ledger import Rung
from edgetfm.quantize import RECIPES
from edgetfm.search.candidates import Candidate, Tried
from edgetfm.search.goal import Goal
from edgetfm.search.verdict import best_of, quickest, smallest


def rows(*tried: tuple[str, int, float, float, float]) -> dict[str, Tried]:
    """(name, bytes, latency, spread, use) of each."""
    return {
        name: Tried(name, "int8", size, {}, (), use=use, latency=latency, spread=spread)
        for name, size, latency, spread, use in tried
    }


def test_the_fastest_wins_by_more_than_the_spread() -> None:
    assert quickest(rows(("a", 100, 0.50, 0.01, 0.9), ("b", 50, 0.55, 0.01, 0.1))) == "a"


def test_a_tie_goes_to_the_smaller() -> None:
    assert quickest(rows(("a", 100, 0.50, 0.03, 0.1), ("b", 50, 0.55, 0.03, 0.9))) == "b"


def test_a_tie_of_one_size_goes_to_the_one_that_loses_least() -> None:
    assert quickest(rows(("a", 1000, 0.50, 0.03, 0.9), ("b", 1001, 0.52, 0.03, 0.1))) == "b"


def test_who_prefers_size_gets_the_smallest_however_slow() -> None:
    assert smallest(rows(("a", 100, 0.50, 0.0, 0.1), ("b", 50, 5.0, 0.0, 0.9))) == "b"


@pytest.fixture
def convolution(tmp_path: Path) -> tuple[Path, Path]:
    """A graph of one convolution, and arrays for it."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "conv.onnx")
    x = np.random.default_rng(1).standard_normal((12, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "items.npz", x=x)
    return tmp_path / "conv.onnx", tmp_path / "items.npz"


def test_what_a_recipe_changes_nothing_in_does_not_ship_under_its_name(
    convolution: tuple[Path, Path], tmp_path: Path
) -> None:
    graph, data = convolution
    with pytest.raises(QuantizationError, match="int8 changes nothing in this graph"):
        quantize_bundle(graph, tmp_path / "int8", quantize="int8", calibration=data)
    assert not (tmp_path / "int8").exists()
    with pytest.raises(BudgetError, match=r"made of this model:\n.*int8 changes nothing"):
        quantize_bundle(graph, tmp_path / "auto", quantize="auto", calibration=data)


def candidate(name: str, use: float, room: float = 1.0, *, passed: bool = True) -> Candidate:
    made = Candidate(name, RECIPES["int8"], Path("absent.onnx"), {}, room=room, use=use)
    made.rungs = [Rung("int8", "PyTorch", {}, "cosine:0.99", missed=() if passed else ("missed",))]
    return made


def test_what_holds_narrowly_ships_if_nothing_holds_with_room() -> None:
    draft = SimpleNamespace(notes=[], budget="cosine:0.99")
    far, near = candidate("far", 3.0, passed=False), candidate("near", 0.9, room=0.8)
    assert near.holds
    assert not near.inside
    assert best_of(draft, [far, near], Goal("auto")) is near  # type: ignore[arg-type]
    assert "near uses 90% of the budget" in draft.notes[0]
