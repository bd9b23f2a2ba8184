"""One module to one graph without its weights in memory: traced by shapes, filled when written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from edgetfm.export.to_onnx import made_plain, trace
from edgetfm.models._lazy import LazyWeight
from edgetfm.progress import Progress, quiet
from edgetfm.signature import KEEP, TensorSpec

OPTIONAL = {KEEP: np.array(0, np.int64)}
"""Inputs that a graph has a value for: whoever does not know that there are fewer logits to be had
gets all of them, for which onnxruntime-genai, for one, has room."""


def to_onnx_streamed(
    skeleton: nn.Module,
    weights: Mapping[str, LazyWeight],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    progress: Progress = quiet,
) -> ir.Model:
    """The graph of a module on the meta device, as `to_onnx` gives it of one with its weights.

    The initializers are lazy tensors, which read, rename, pack and convert a weight to float32
    whenever they are asked for their values. An input named in OPTIONAL has a value, so that it
    may be left out.
    """
    progress("tracing", 0, 1)
    buffers = {name: LazyWeight.of(b) for name, b in skeleton.named_buffers()}
    with FakeTensorMode():
        _fake(skeleton)
        model = trace(skeleton, inputs, outputs)
    _fill(model, {**weights, **buffers})
    model = made_plain(model, inputs, outputs, progress)
    for value in model.graph.inputs:
        if value.name in OPTIONAL:
            value.const_value = ir.tensor(OPTIONAL[value.name], name=value.name)
            model.graph.initializers.add(value)
    return model


def _fake(module: nn.Module) -> None:
    """Give a module tensors that have shapes only; torch's exporter takes none on `meta`."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            empty = torch.empty(weight.shape, dtype=weight.dtype)
            part.register_parameter(name, nn.Parameter(empty, requires_grad=False))
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _fill(model: ir.Model, weights: Mapping[str, LazyWeight]) -> None:
    for name, value in model.graph.initializers.items():
        if name in weights:
            value.const_value = _tensor(name, weights[name])


def _tensor(name: str, weight: LazyWeight) -> ir.TensorProtocol:
    def read() -> ir.TensorProtocol:
        values = np.ascontiguousarray(weight.read().to(torch.float32).numpy())
        return ir.Tensor(values, name=name)

    shape = ir.Shape(list(weight.shape))
    return ir.LazyTensor(read, dtype=ir.DataType.FLOAT, shape=shape, name=name, cache=False)
