"""What NNAPI and Core ML would take of a graph, by onnxruntime's own usability checker: no run.

The checker knows the operators that a provider's source lists, and that free axes are refused. It
does not know of types, so nodes between QuantizeLinear and DequantizeLinear are counted as theirs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgetfm.errors import DeviceError


@dataclass(frozen=True)
class Partition:
    """What a provider would take: nodes, of how many, in how many pieces; and what it would not.

    unsupported: operator -> nodes. ranks: nodes whose tensors have more axes than it takes, 4 of
    NNAPI's and 5 of Core ML's. fixed: the sizes that free axes were given.
    """

    taken: int
    nodes: int
    pieces: int
    unsupported: dict[str, int]
    ranks: int

    @property
    def refused(self) -> str | None:
        """The operators it would not take, with their counts, None if there are none."""
        named = ", ".join(
            f"{n} {op.removeprefix('ai.onnx:')}" for op, n in self.unsupported.items()
        )
        return named or None


MOST_AXES = {"nnapi": 4, "coreml": 5}


def missing() -> str | None:
    """What `Device.missing` says of a device that is only predicted."""
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            return f"the package {package}: pip install 'edgetfm[export,cpu]'"
    return None


def predict(graph: Path, dimensions: Mapping[str, int], provider: str) -> Partition:
    """What `nnapi` or `coreml` would take of a graph whose free axes have these sizes.

    Raises DeviceError without onnx, which reads the graph.
    """
    request = json.dumps(
        {"graph": str(graph.resolve()), "provider": provider, "dimensions": dict(dimensions)}
    )
    with tempfile.TemporaryDirectory(prefix="edgetfm-") as place:
        # A process of its own: the checker speaks through the root logger.
        command = [sys.executable, "-m", "edgetfm.runtime.remote.checker", request]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise DeviceError(f"the usability checker failed: {said[-1][:300]}")
    return Partition(**json.loads(done.stdout.strip().splitlines()[-1]))


def _main(request: str) -> None:
    """Answer `predict` in this process, on stdout."""
    wanted = json.loads(request)
    print(json.dumps(_predicted(**wanted)))  # noqa: T201


def _predicted(graph: str, provider: str, dimensions: dict[str, int]) -> dict[str, object]:
    import onnx
    from onnxruntime.tools.mobile_helpers import usability_checker

    model = onnx.load(graph, load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in dimensions:
                axis.dim_value = dimensions[axis.dim_param]
    model = onnx.shape_inference.infer_shapes(model)
    tables = Path(usability_checker.__file__).parent
    files = {
        "nnapi": "nnapi_supported_ops.md",
        "coreml": "coreml_supported_mlprogram_ops.md",
    }
    found = usability_checker.check_partitioning(
        model.graph,
        usability_checker._SupportedOpsChecker(tables / files[provider]),
        require_fixed_input_sizes=provider == "nnapi",
        max_rank=MOST_AXES[provider],
    )
    operators = Counter(
        name
        for node in model.graph.node
        if (name := f"{node.domain or 'ai.onnx'}:{node.op_type}") in found.unsupported_ops
    )
    return {
        "taken": found.num_supported_nodes,
        "nodes": found.num_nodes,
        "pieces": found.num_partitions,
        "unsupported": dict(operators.most_common()),
        "ranks": found.num_unsupported_nodes_due_to_rank,
    }


if __name__ == "__main__":
    _main(sys.argv[1])
