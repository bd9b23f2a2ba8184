"""One module to one graph without its weights in memory: traced by shapes, filled when written."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from edgetfm.export.repeated import grow
from edgetfm.export.to_onnx import declare, made_plain, trace
from edgetfm.models._lazy import LazyWeight
from edgetfm.progress import Progress, quiet
from edgetfm.signature import KEEP, TensorSpec
from edgetfm.spaces import space

OPTIONAL = {KEEP: np.array(0, np.int64)}
"""Inputs that a graph has a value for: whoever does not know that there are fewer logits to be had
gets all of them, for which onnxruntime-genai, for one, has room."""


@dataclass(frozen=True)
class Shallow:
    """The same module with few layers, all of which are equal, and what its graph takes and gives.

    depth: how many layers are wanted.
    """

    skeleton: nn.Module
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    depth: int


def to_onnx_streamed(
    skeleton: nn.Module,
    weights: Mapping[str, LazyWeight],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    shallow: Shallow | None = None,
    progress: Progress = quiet,
) -> ir.Model:
    """The graph of a module on the meta device, as `to_onnx` gives it of one with its weights.

    The initializers are lazy tensors, which read, rename, pack and convert a weight to float32
    whenever they are asked for their values. An input named in OPTIONAL has a value, so that it
    may be left out. shallow: what is traced instead, to repeat its layers, if that can be done.
    """
    progress("tracing", 0, 1)
    known = {**weights, **{name: LazyWeight.of(b) for name, b in skeleton.named_buffers()}}
    model = None
    if shallow is not None:
        model = _plain(shallow.skeleton, known, shallow.inputs, shallow.outputs, progress)
        if grow(model, shallow.depth) and _fill(model, known):
            _order(model.graph.inputs, inputs)
            _order(model.graph.outputs, outputs)
            declare(model, inputs, outputs)
        else:
            model = None
    model = model or _plain(skeleton, known, inputs, outputs, progress)
    for value in model.graph.inputs:
        if value.name in OPTIONAL:
            value.const_value = ir.tensor(OPTIONAL[value.name], name=value.name)
            model.graph.initializers.add(value)
    return model


def _plain(
    skeleton: nn.Module,
    weights: Mapping[str, LazyWeight],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    progress: Progress,
) -> ir.Model:
    with FakeTensorMode():
        _fake(skeleton)
        model = trace(skeleton, inputs, outputs)
    _fill(model, weights)
    return made_plain(model, inputs, outputs, progress)


def _order(values: MutableSequence[ir.Value], specs: Sequence[TensorSpec]) -> None:
    places = {spec.name: place for place, spec in enumerate(specs)}
    values[:] = sorted(values, key=lambda value: places.get(str(value.name), len(places)))


def _fake(module: nn.Module) -> None:
    """Give a module tensors that have shapes only; torch's exporter takes none on `meta`."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            empty = torch.empty(weight.shape, dtype=weight.dtype)
            part.register_parameter(name, nn.Parameter(empty, requires_grad=False))
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _fill(model: ir.Model, weights: Mapping[str, LazyWeight]) -> bool:
    """Give weights their values, by name; whether every initializer has one then."""
    initializers = model.graph.initializers
    for name, value in initializers.items():
        if name in weights:
            value.const_value = _tensor(name, weights[name])
    return all(value.const_value is not None for value in initializers.values())


def _tensor(name: str, weight: LazyWeight) -> ir.TensorProtocol:
    def read() -> ir.TensorProtocol:
        return ir.Tensor(in_float32(weight.read()), name=name)

    shape = ir.Shape(list(weight.shape))
    return ir.LazyTensor(read, dtype=ir.DataType.FLOAT, shape=shape, name=name, cache=False)


SLICE = 1 << 26
"""Numbers of a weight that become float32 in memory: a table has a row for each word."""


def in_float32(weight: torch.Tensor) -> NDArray[np.float32]:
    """The values of a weight; those of a large one in a file, some rows at a time."""
    if weight.dtype == torch.float32 or weight.numel() <= SLICE:
        return np.ascontiguousarray(weight.to(torch.float32).numpy())
    values = space(tuple(weight.shape), np.dtype(np.float32))
    some = max(1, SLICE // weight[0].numel())
    for start in range(0, len(values), some):
        values[start : start + some] = weight[start : start + some].to(torch.float32).numpy()
    return values
