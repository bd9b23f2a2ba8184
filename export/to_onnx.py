"""One module to one graph: traced by torch.export, then made plain by the passes."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx_ir as ir
import torch
from torch import nn

from edgetfm.errors import ParityError, listed
from edgetfm.export.passes import PASSES
from edgetfm.progress import Progress, quiet
from edgetfm.signature import ASKED_SIZES, PAST, TensorSpec, nested

TRACED_OPSET = 18
"""The lowest opset that torch's exporter writes; the last pass lowers what it can."""

ROWS_OF_CACHE = "batch_size"
"""The one axis of an empty cache that Transformers.js does not take for empty; it goes by name."""

_SIZES = (2, 7, 3, 5, 11)
"""Sizes of free axes while tracing: none is 1 and no two are equal, so none is mistaken."""


def to_onnx(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    progress: Progress = quiet,
) -> ir.Model:
    """The graph of `module`, whose forward takes `inputs` by name and returns a dict of `outputs`.

    Axes that are names in the specs are free in the graph and called so. The weights stay in
    the module: the graph's initializers refer to them until they are written.
    """
    progress("tracing", 0, 1 + len(PASSES))
    model = trace(module, inputs, outputs)
    return made_plain(model, inputs, outputs, progress)


def made_plain(
    model: ir.Model,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    progress: Progress,
) -> ir.Model:
    """A traced graph after all passes, with the specs as its inputs and outputs.

    Raises ParityError if they are not what it takes and gives.
    """
    steps = 1 + len(PASSES)
    for done, change in enumerate(PASSES, start=1):
        progress("simplifying", done, steps)
        model, _ = change(model)
    declare(model, inputs, outputs)
    progress("simplifying", steps, steps)
    return model


def example_of(inputs: Sequence[TensorSpec]) -> dict[str, torch.Tensor]:
    """Zeros of each input's type, its free axes of the sizes for tracing."""
    axes = dict.fromkeys(a for spec in inputs for a in spec.shape if isinstance(a, str))
    sizes = dict(zip(axes, _SIZES, strict=False)) | {a: s[0] for a, s in ASKED_SIZES.items()}
    return {
        spec.name: torch.zeros(
            [sizes[a] if isinstance(a, str) else a for a in spec.shape],
            dtype=getattr(torch, spec.dtype),
        )
        for spec in inputs
    }


def trace(
    module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> ir.Model:
    """The graph of `module` as torch's exporter writes it."""
    example = example_of(inputs)
    free = {
        spec.name: {i: a for i, a in enumerate(spec.shape) if isinstance(a, str)} for spec in inputs
    }
    with quiet_torch(), torch.no_grad():
        program = torch.onnx.export(
            module,
            kwargs=nested(example),
            dynamo=True,
            optimize=False,
            verify=False,
            verbose=False,
            opset_version=TRACED_OPSET,
            dynamic_shapes=nested(free),
            input_names=list(example),
            output_names=[spec.name for spec in outputs],
        )
    assert program is not None
    model: ir.Model = program.model
    return model


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """torch without its notes on absent torchvision, its own deprecations and merged axis names."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def declare(model: ir.Model, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Write the specs into the graph; a ParityError if the graph is not what they say."""
    problems = []
    for kind, values, specs in (
        ("inputs", model.graph.inputs, inputs),
        ("outputs", model.graph.outputs, outputs),
    ):
        names = [v.name for v in values]
        if names != [s.name for s in specs]:
            problems.append(f"{kind} are {names}, expected {[s.name for s in specs]}")
            continue
        for value, spec in zip(values, specs, strict=True):
            problems += _mismatch(value, spec)
            value.shape = ir.Shape(list(spec.shape))
            if spec.name.startswith(PAST):
                value.shape = ir.Shape([ROWS_OF_CACHE, *spec.shape[1:]])
    if problems:
        raise ParityError(f"the exported graph is not the one wanted:\n{listed(problems)}")


def _mismatch(value: ir.Value, spec: TensorSpec) -> list[str]:
    dtype = value.dtype.numpy().name if value.dtype is not None else "unknown"
    if dtype != spec.dtype:
        return [f"{spec.name} is {dtype}, expected {spec}"]
    found = list(value.shape) if value.shape is not None else []
    fits = len(found) == len(spec.shape) and all(
        size == wanted if isinstance(wanted, int) else not isinstance(size, int)
        for size, wanted in zip(found, spec.shape, strict=True)
    )
    return [] if fits else [f"{spec.name} has shape {value.shape}, expected {spec}"]


def discard(module: nn.Module) -> None:
    """Free the weights of a module that is done with, although torch's caches still refer to it.

    torch.export keeps what it traced alive; without this the packed weights stay in memory.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if not tensor.is_meta:
            tensor.data = torch.empty(0)
