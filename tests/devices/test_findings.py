"""What a device does otherwise, or cannot do, is found, and the node is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetfm.errors import DeviceError
from edgetfm.workflow.export import export_model
from edgetfm.workflow.verify import verify_bundle
from tests.devices.rows import ready
from tests.emulated.test_saturation import flat_model

pytestmark = pytest.mark.devices


def test_a_model_that_saturates_fails_on_avx2_alone_and_names_the_node(tmp_path: Path) -> None:
    devices = ready("cpu", "x86-sse", "x86-avx2", "arm64", "web-wasm")
    source = flat_model(tmp_path / "source")
    made = export_model(source, tmp_path / "int8", quantize="int8")
    ledger = verify_bundle(made.path, device=devices)
    failed = [rung for rung in ledger.rungs if not rung.passed]
    assert {rung.name for rung in failed} == {"int8 on x86-avx2"}
    assert all("the first node that diverges is " in rung.note for rung in failed)
    assert all("--target x86-avx2 makes weights" in rung.note for rung in failed)


def product(file: Path, rows: int | str, operator: str) -> Path:
    """x of so many rows, times a matrix, through an operator."""
    weight = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weight"], ["product"], "product"),
            helper.make_node(operator, ["product"], ["y"], "last"),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 8])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    return file


def exported(file: Path, items: NDArray[np.float32]) -> Path:
    """The graph as a bundle, calibrated on these values of x."""
    np.savez(file.with_suffix(".npz"), x=items)
    return export_model(file, file.with_suffix(""), calibration=file.with_suffix(".npz")).path


def test_a_graph_of_two_rows_is_refused_for_the_npu(tmp_path: Path) -> None:
    """Its second row would be wrong there."""
    ready("htp")
    made = exported(product(tmp_path / "two.onnx", 2, "Relu"), np.zeros((4, 2, 16), np.float32))
    with pytest.raises(DeviceError, match=r"htp takes batches of 1 at most.* x: float32\[2, 16\]"):
        verify_bundle(made, device="htp")


def test_an_operator_that_the_npu_lacks_is_named(tmp_path: Path) -> None:
    devices = ready("htp", "cpu", "web-wasm")
    items = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    made = exported(product(tmp_path / "celu.onnx", "batch", "Celu"), items)
    ledger = verify_bundle(made, device=devices)
    said = {row["device"]: row["error"] for row in ledger.devices}
    assert "fell back to the CPU: 1 Celu;" in said["htp"]
    assert (said["cpu"], said["web-wasm"]) == (None, None)
    assert {rung.name for rung in ledger.rungs} == {"fp32 on cpu", "fp32 on web-wasm"}
    assert all(rung.passed for rung in ledger.rungs)
