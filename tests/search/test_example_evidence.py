"""Example inputs are cases, and their rows are calibrated on and judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetfm.errors import DataError
from edgetfm.search.example_evidence import of_examples
from edgetfm.search.goal import Goal
from edgetfm.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("batch", 3)),), (TensorSpec("y", "float32", ("batch", 2)),)
)
EXAMPLES = {"x": np.arange(60, dtype=np.float32).reshape(20, 3)}
CASES = [{"x": EXAMPLES["x"][:2]}]


def rows(feeds: list[dict[str, np.ndarray]]) -> set[float]:
    return {float(row[0]) for batch in feeds for row in batch["x"]}


def test_without_quantization_the_cases_are_all() -> None:
    made = of_examples(CASES, EXAMPLES, SIGNATURE, Goal())
    assert made.cases == CASES
    assert (made.calibration, made.judged, made.facts) == ([], [], {})


def test_rows_are_calibrated_on_or_judged_by_never_both() -> None:
    made = of_examples(CASES, EXAMPLES, SIGNATURE, Goal("int8"))
    fit, judged = rows(made.calibration), rows(made.judged)
    assert fit | judged == set(EXAMPLES["x"][:, 0].tolist())
    assert not fit & judged
    assert made.facts["count"] == 20
    few = of_examples(CASES, EXAMPLES, SIGNATURE, Goal("int8", samples=8))
    assert len(rows(few.calibration) | rows(few.judged)) == 8
    other = of_examples(CASES, {"x": EXAMPLES["x"] + 1}, SIGNATURE, Goal("int8"))
    assert other.facts["sha256"] != made.facts["sha256"]


def test_arrays_of_the_users_come_before_the_examples(tmp_path: Path) -> None:
    np.savez(tmp_path / "items.npz", x=EXAMPLES["x"] + 1000)
    made = of_examples(CASES, EXAMPLES, SIGNATURE, Goal("int8", calibration=tmp_path / "items.npz"))
    assert made.cases == CASES
    assert min(rows(made.calibration) | rows(made.judged)) == 1000
    assert made.facts["name"] == "items.npz"


def test_noise_and_three_rows_are_too_few() -> None:
    for examples in (None, {"x": EXAMPLES["x"][:3]}):
        with pytest.raises(DataError, match=r"too few to calibrate on: give np\.savez"):
            of_examples(CASES, examples, SIGNATURE, Goal("int8"))


def test_an_input_without_a_batch_is_one_item() -> None:
    whole = Signature((TensorSpec("x", "float32", ("places", 3)),), SIGNATURE.outputs)
    with pytest.raises(DataError, match="1 example inputs are too few"):
        of_examples(CASES, EXAMPLES, whole, Goal("int8"))
