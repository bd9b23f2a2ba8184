"""The form for the NPU ships only as what the variant is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from edgetfm.errors import ParityError
from edgetfm.ledger import Ledger
from edgetfm.proof import Subject, answers_of
from edgetfm.signature import Feeds, Signature, TensorSpec
from edgetfm.tasks import TASKS
from edgetfm.workflow.npu import STATIC, _prove_static


def graph(path: Path, rows: str, operator: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        head (float[{rows}, 2] x) => (float[{rows}, 2] logits) {{ logits = {operator} (x) }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.mark.parametrize(("operator", "holds"), [("Relu", True), ("Abs", False)])
def test_fixed_sizes_change_no_answer(tmp_path: Path, operator: str, holds: bool) -> None:
    specs = (TensorSpec("x", "float32", ("batch", 2)),)
    outputs = (TensorSpec("logits", "float32", ("batch", 2)),)
    subject = Subject(TASKS["text-classification"], Signature(specs, outputs))
    case: Feeds = {"x": np.array([[1, -3]], np.float32)}
    wanted = answers_of(graph(tmp_path / "model.onnx", "batch", "Relu"), [case])
    graph(tmp_path / STATIC, "1", operator)
    writer = SimpleNamespace(path=lambda name: tmp_path / name)
    draft: Any = SimpleNamespace(writer=writer, subject=subject, session={}, ledger=Ledger())
    if holds:
        _prove_static(draft, "a16w8", case, wanted)
    else:
        with pytest.raises(ParityError, match=STATIC):
            _prove_static(draft, "a16w8", case, wanted)
    (rung,) = draft.ledger.rungs
    assert (rung.name, rung.against, rung.passed) == ("a16w8 of fixed sizes", "a16w8", holds)
