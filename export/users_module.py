"""A user's module to one graph, traced with the user's own example inputs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch
from torch import nn

from edgetfm.errors import EdgetfmError, SourceError
from edgetfm.export.adapter import reason
from edgetfm.export.to_onnx import TRACED_OPSET, made_plain, quiet_torch
from edgetfm.progress import Progress, quiet
from edgetfm.signature import Feeds, Signature


def export_users_module(
    module: nn.Module, signature: Signature, cases: Sequence[Feeds], *, progress: Progress = quiet
) -> ir.Model:
    """The graph of `module`, whose forward takes inputs by name and returns a dict of outputs.

    cases: arrays that the module takes; it is traced with those that tell its axes apart. Raises
    SourceError with the exporter's reason if it has no ONNX form.
    """
    inputs, outputs = signature.inputs, signature.outputs
    example = max(cases, key=lambda feeds: _distinct(feeds, signature))
    progress("tracing", 0, 1)
    free = {
        spec.name: {i: a for i, a in enumerate(spec.shape) if isinstance(a, str)} for spec in inputs
    }
    try:
        with quiet_torch(), torch.no_grad():
            program = torch.onnx.export(
                module,
                kwargs={name: torch.from_numpy(array) for name, array in example.items()},
                dynamo=True,
                optimize=False,
                verify=False,
                verbose=False,
                opset_version=TRACED_OPSET,
                dynamic_shapes=free,
                input_names=[spec.name for spec in inputs],
                output_names=[spec.name for spec in outputs],
            )
        assert program is not None
        return made_plain(program.model, inputs, outputs, progress)
    except (MemoryError, EdgetfmError):
        raise
    except Exception as error:  # torch's exporter has errors of many kinds
        raise SourceError(f"torch.onnx cannot export this module: {reason(error)}") from error


def _distinct(feeds: Feeds, signature: Signature) -> int:
    """How many sizes its free axes have; 1 does not count, for it is taken for a fixed one."""
    sizes = {
        size
        for spec in signature.inputs
        for axis, size in zip(spec.shape, feeds[spec.name].shape, strict=True)
        if isinstance(axis, str)
    }
    return len(sizes - {1}) - 10 * (1 in sizes)
