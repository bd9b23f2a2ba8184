"""A measurement fails beside an older one only where it is slower by more than they scatter."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.errors import BudgetError, InputError
from edgetfm.workflow.regression import LEAST, check_regression, read_measured


def measured(p50: float, p95: float, **changes: Any) -> dict[str, Any]:
    data = {"precision": "int8", "device": "cpu", "batch": 1, "sequence": 128, "threads": 1}
    held = {"model": {"task": "fill-mask", "name": "a", "sha256": "1"}, "files": {"onnx/a": "2"}}
    latency = {"p50": p50, "p95": p95}
    return {**data, **held, "latency_ms": latency, "machine": {"cpu": "one"}, **changes}


def kept(folder: Path, data: Any) -> Path:
    file = folder / "old.json"
    file.write_text(json.dumps(data))
    return file


def compared(new: dict[str, Any], file: Path) -> dict[str, Any]:
    return check_regression(new, read_measured(file), file)


@given(old=st.floats(0.1, 1e3), slower=st.floats(0.5, 3), scatter=st.floats(0, 1))
def test_the_bound_is_the_larger_scatter(
    tmp_path_factory: pytest.TempPathFactory, old: float, slower: float, scatter: float
) -> None:
    file = kept(tmp_path_factory.mktemp("old"), measured(old, old * (1 + scatter)))
    new, bound = measured(old * slower, old * slower), 1 + max(LEAST, scatter)
    if slower > bound * 1.0001:
        with pytest.raises(BudgetError, match="slower than"):
            compared(new, file)
    elif slower < bound * 0.9999:
        assert compared(new, file)["ratio"] == pytest.approx(slower, abs=1e-3)


def test_other_measurements_are_not_compared(tmp_path: Path) -> None:
    file = kept(tmp_path, measured(1, 1))
    with pytest.raises(InputError, match=r"(?s)batch was 1, it is 8.*CPU was one, it is two"):
        compared(measured(1, 1, batch=8, machine={"cpu": "two"}), file)


def test_another_model_is_refused_and_another_export_of_it_is_said(tmp_path: Path) -> None:
    file = kept(tmp_path, measured(1, 1))
    assert compared(measured(1, 1), file)["same_files"]
    assert not compared(measured(1, 1, files={"onnx/a": "3"}), file)["same_files"]
    other = {"task": "fill-mask", "name": "a", "sha256": "9"}
    with pytest.raises(InputError, match=r"the model was a \(fill-mask, \w+\), it is a"):
        compared(measured(1, 1, model=other), file)
    silent = measured(1, 1)
    del silent["model"]
    with pytest.raises(InputError, match="the model was not said, it is a"):
        compared(measured(1, 1), kept(tmp_path, silent))


@pytest.mark.parametrize(
    "held",
    [
        *([], {}, "text", measured(0, 1), measured(1, 0.9), measured(1, 1e300)),
        *(measured(10**400, 10**400), measured(math.inf, math.inf), measured(True, True)),
        *(measured(1, math.nan), measured(1, 1, machine=5), measured(1, 1, machine=None)),
    ],
)
def test_what_is_no_measurement_is_refused(tmp_path: Path, held: Any) -> None:
    with pytest.raises(InputError, match="no result of"):
        read_measured(kept(tmp_path, held))
    with pytest.raises(InputError, match="cannot be read"):
        compared(measured(1, 1), tmp_path / "none.json")
