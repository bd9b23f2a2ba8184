"""The runners in Python and in JavaScript judge alike what a device left to the CPU."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgetfm.runtime.remote import runner

SHAPE, ROW = {"int64": [3]}, {"float": [1, 8]}


def event(number: int, operator: str, *given: dict[str, list[int]], where: str) -> dict[str, Any]:
    about = {
        "op_name": operator,
        "node_index": str(number),
        "provider": f"{where}ExecutionProvider",
        "output_type_shape": list(given),
    }
    return {"cat": "Node", "name": f"node{number}_kernel_time", "args": about}


CALL = [
    {"cat": "Session", "name": "model_run", "args": {}},
    event(0, "Shape", SHAPE, where="CPU"),
    event(1, "Cast", {"float": [1]}, where="CPU"),
    event(2, "Split", SHAPE, ROW, where="WebGpu"),
    event(3, "Add", ROW, where="CPU"),
    event(4, "Gather", {"uint8": [4, 4]}, where="CPU"),
    event(5, "Concat", SHAPE, SHAPE, where="CPU"),
    event(6, "MatMulInteger", {"int32": [8, 8]}, where="CPU"),
    event(3, "Add", ROW, where="CPU"),
]


OTHER = Path(runner.__file__).with_name("runner.mjs")


def other_placed(lines: list[str]) -> subprocess.CompletedProcess[str]:
    """What the runner in JavaScript finds in the lines of a profile."""
    if shutil.which("node") is None:
        pytest.skip("the other runner needs Node.js")
    code = (
        f"import {{ placed }} from {json.dumps(OTHER.as_uri())};"
        f"console.log(JSON.stringify(placed({json.dumps(lines)}, {{ name: 'webgpu' }})));"
    )
    command = ["node", "--input-type=module", "-e", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["SHAPE_OPS", "SHAPE_TYPES"])
def test_both_know_the_same_arithmetic_of_shapes(name: str) -> None:
    (listed,) = re.findall(rf"const {name} = new Set\(\[(.*?)\]\)", OTHER.read_text(), re.DOTALL)
    assert set(re.findall(r"'(\w+)'", listed)) == set(getattr(runner, name))


def test_both_find_what_is_no_arithmetic_of_shapes() -> None:
    assert runner.not_of_shapes(CALL) == {"Add": 1, "Gather": 1}
    lines = ["[", *(f"{json.dumps(one, separators=(',', ':'))}," for one in CALL), "]"]
    done = other_placed(lines)
    cut = other_placed([*lines[:3], lines[3][:40]])
    assert cut.returncode
    assert "a line of the profile cannot be read" in cut.stderr
    assert json.loads(done.stdout) == {
        "placement": {"CPUExecutionProvider": 6, "WebGpuExecutionProvider": 1},
        "fallen": {"Add": 1, "Gather": 1, "MatMulInteger": 1},
    }
