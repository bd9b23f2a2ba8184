"""Modules larger than memory: each part has its weights while it runs, and no longer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgetfm.quantize.spool import space

LARGE = 4 << 30
"""Bytes of float32 weights from which a model is asked part by part."""

SLICE = 1 << 25
"""Numbers of a weight that become float32 at once: a head has as many rows as there are words."""


@contextlib.contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules that are built here have parameters without memory, and buffers as ever.

    Under torch.device("meta") buffers would lose what a constructor computes, rotary tables for
    one.
    """
    plain = nn.Module.register_parameter

    def register(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        plain(self, name, parameter)
        if parameter is not None:
            self._parameters[name] = _without_memory(parameter)

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = plain  # type: ignore[method-assign]


def part_by_part(
    module: nn.Module, read: Callable[[str], Tensor], kept: Collection[str] = ()
) -> nn.Module:
    """The module, whose parts read their weights by name before they run, and drop them after.

    A table of embeddings is looked up as it is stored, and what was found becomes float32; a large
    product is computed some outputs at a time. kept: parts whose weights others use too: theirs
    are read now, and stay, in a file.
    """
    for prefix, part in module.named_modules():
        if prefix in kept:
            for name, _ in part.named_parameters():
                values = _in_file(read(f"{prefix}.{name}"))
                part._parameters[name] = nn.Parameter(values, requires_grad=False)
            continue
        names = {name: f"{prefix}.{name}" for name, _ in part.named_parameters(recurse=False)}
        if names:
            if _is_sliced(part):
                part.forward = partial(_in_slices, part)
            part.register_forward_pre_hook(lambda p, _, names=names: _load(names, read, p))
            part.register_forward_hook(_drop)
    return module.requires_grad_(False).eval()


def _load(names: dict[str, str], read: Callable[[str], Tensor], part: nn.Module) -> None:
    as_stored = type(part) is nn.Embedding or _is_sliced(part)
    for name, full in names.items():
        weight = read(full)
        values = weight if as_stored else weight.to(torch.float32)
        part._parameters[name] = nn.Parameter(values, requires_grad=False)


def _is_sliced(part: nn.Module) -> bool:
    return type(part) is nn.Linear and part.weight.numel() > SLICE


def _in_slices(part: nn.Linear, x: Tensor) -> Tensor:
    """What a product answers, [..., outputs], with some rows of its weight in float32 at a time."""
    answer = x.new_empty(*x.shape[:-1], part.out_features)
    some = max(1, SLICE // part.in_features)
    for start in range(0, part.out_features, some):
        rows = slice(start, start + some)
        bias = None if part.bias is None else part.bias[rows].to(torch.float32)
        weight = part.weight[rows].to(torch.float32)
        answer[..., rows] = nn.functional.linear(x, weight, bias)
    return answer


def _in_file(weight: Tensor) -> Tensor:
    """The same values in float32, mapped from a file where they are many."""
    values = space(tuple(weight.shape), np.dtype(np.float32))
    some = max(1, SLICE // max(1, weight[0].numel()))
    for start in range(0, len(values), some):
        values[start : start + some] = weight[start : start + some].to(torch.float32).numpy()
    return torch.from_numpy(values)


def _drop(part: nn.Module, _inputs: Any, output: Any) -> Any:
    for name, weight in list(part._parameters.items()):
        if weight is not None:
            part._parameters[name] = _without_memory(weight)
    return output.to(torch.float32) if type(part) is nn.Embedding else output


def _without_memory(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.to("meta"), requires_grad=False)
