"""Modules larger than memory: each part has its weights while it runs, and no longer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

LARGE = 4 << 30
"""Bytes of float32 weights from which a model is asked part by part."""


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

    A table of embeddings is looked up as it is stored, and what was found becomes float32. kept:
    parts whose weights others use too: theirs are read now, and stay.
    """
    for prefix, part in module.named_modules():
        if prefix in kept:
            _load({n: f"{prefix}.{n}" for n, _ in part.named_parameters()}, read, part, exact=True)
            continue
        names = {name: f"{prefix}.{name}" for name, _ in part.named_parameters(recurse=False)}
        if names:
            part.register_forward_pre_hook(lambda p, _, names=names: _load(names, read, p))
            part.register_forward_hook(_drop)
    return module.requires_grad_(False).eval()


def _load(
    names: dict[str, str], read: Callable[[str], Tensor], part: nn.Module, exact: bool = False
) -> None:
    looked_up = type(part) is nn.Embedding and not exact
    for name, full in names.items():
        weight = read(full)
        values = weight if looked_up else weight.to(torch.float32)
        part._parameters[name] = nn.Parameter(values, requires_grad=False)


def _drop(part: nn.Module, _inputs: Any, output: Any) -> Any:
    for name, weight in list(part._parameters.items()):
        if weight is not None:
            part._parameters[name] = _without_memory(weight)
    return output.to(torch.float32) if type(part) is nn.Embedding else output


def _without_memory(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.to("meta"), requires_grad=False)
