"""multiply.py IN.npz OUT.npz: integer products as onnxruntime makes them on the CPU it runs on.

IN holds steps_0 (u8), weight_0 (s8), zero_0 (u8), steps_1, ...; OUT gets product_0, ... (int32).
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


def session(weight: np.ndarray) -> ort.InferenceSession:
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["steps", "weight", "zero"], ["product"])],
        "graph",
        [
            helper.make_tensor_value_info("steps", TensorProto.UINT8, [None, len(weight)]),
            helper.make_tensor_value_info("zero", TensorProto.UINT8, []),
        ],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [None, None])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    given = np.load(sys.argv[1])
    made = {}
    for number in range(len(given.files) // 3):
        steps, weight, zero = (given[f"{what}_{number}"] for what in ("steps", "weight", "zero"))
        feeds = {"steps": steps, "zero": zero}
        made[f"product_{number}"] = session(weight).run(None, feeds)[0]
    np.savez(sys.argv[2], **made)
