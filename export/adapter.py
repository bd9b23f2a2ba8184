"""One transformers model to one graph, through transformers.exporters.

They are experimental, and change with each minor version: only this file knows them.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence

import onnx_ir as ir
import torch
from torch import nn
from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

from edgetfm.errors import ParityError, SourceError, in_short
from edgetfm.export.to_onnx import TRACED_OPSET, example_of, made_plain, quiet_torch
from edgetfm.progress import Progress, quiet
from edgetfm.signature import TensorSpec


def adapt(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    progress: Progress = quiet,
) -> ir.Model:
    """The graph of a module around a transformers model, as `to_onnx` gives it for ours.

    Raises SourceError with the exporter's reason if it cannot be exported, or not with the free
    axes that the specs name.
    """
    progress("tracing", 0, 1)
    example = example_of(inputs)
    # Which sizes are allowed is worked out from the model; a size that it fixes shows below.
    free = {
        spec.name: {i: torch.export.Dim.AUTO for i, a in enumerate(spec.shape) if _is_free(a)}
        for spec in inputs
    }
    config = OnnxConfig(
        dynamic=True, dynamic_shapes=free, opset_version=TRACED_OPSET, optimize=False
    )
    try:
        with quiet_torch(), _silence():
            model = OnnxExporter().export(module, example, config).program
        with quiet_torch():
            _name_axes(model, inputs)
            return made_plain(model, inputs, outputs, progress)
    except MemoryError:
        raise
    except ParityError as error:
        hint = (
            "\nits pictures keep their aspect ratio: a size with height and width, and "
            "keep_aspect_ratio false, in preprocessor_config.json give them one size"
        )
        of_any_size = any("height" in spec.shape for spec in inputs)
        raise SourceError(
            f"transformers exports {_name(module)} with fixed sizes: {error}{hint * of_any_size}"
        ) from error
    except Exception as error:  # three libraries take part, each with errors of its own
        raise SourceError(
            f"transformers.exporters cannot export {_name(module)}: {reason(error)}"
        ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing on the terminal: what fails comes back as an error, torch prints its program too."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def reason(error: BaseException) -> str:
    """The first line of what was raised first, in at most a few hundred characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    kind, short = type(error).__name__, in_short(error)
    return kind if short == kind else f"{kind}: {short}"


def _name(module: nn.Module) -> str:
    return type(getattr(module, "model", module)).__name__


def _is_free(axis: int | str) -> bool:
    return isinstance(axis, str)


def _name_axes(model: ir.Model, inputs: Sequence[TensorSpec]) -> None:
    """Call the free axes as the specs do; torch numbers them, and expressions speak of those."""
    names: dict[str, str] = {}
    for value, spec in zip(model.graph.inputs, inputs, strict=True):
        for size, axis in zip(value.shape or (), spec.shape, strict=False):
            if isinstance(size, ir.SymbolicDim) and size.value is not None and _is_free(axis):
                names.setdefault(size.value, str(axis))
    values = [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(size, names) for size in value.shape])


def _renamed(size: int | ir.SymbolicDim, names: dict[str, str]) -> int | str | None:
    if isinstance(size, int) or size.value is None:
        return size if isinstance(size, int) else None
    return re.sub(r"\w+", lambda word: names.get(word.group(), word.group()), size.value)
