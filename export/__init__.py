"""From a PyTorch module to an ONNX graph that older runtimes read and that runs fast."""

from __future__ import annotations

from edgetfm.export.to_onnx import discard as discard
from edgetfm.export.to_onnx import to_onnx as to_onnx
