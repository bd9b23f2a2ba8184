"""Any module as one that takes its inputs by name and gives its outputs by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from edgetfm.errors import SourceError, listed
from edgetfm.users_code import users_code


def parameters_of(module: nn.Module, spec: str) -> list[str]:
    """The parameters of a module's forward, in order; a SourceError if it has no names for them."""
    with users_code(f"forward of {spec}", "has no parameters to read", SourceError):
        found = inspect.signature(module.forward).parameters.values()
    loose = [p for p in found if p.kind is inspect.Parameter.VAR_POSITIONAL]
    unnamed = [p for p in found if p.kind is inspect.Parameter.POSITIONAL_ONLY]
    if loose or unnamed:
        which = f"*{loose[0].name}" if loose else f"{unnamed[0].name} by position only"
        raise SourceError(
            f"forward of {spec} takes {which}: inputs are called as its parameters are, "
            "so give each of them a name"
        )
    return [p.name for p in found if p.kind is not inspect.Parameter.VAR_KEYWORD]


class Named(nn.Module):
    """A module whose forward takes `inputs` by name and returns a dict of tensors.

    A single tensor is called `output`, those of a tuple `output_0` and so on, those of a dict, a
    ModelOutput, a named tuple or a dataclass as they are there; None is left out.
    """

    def __init__(self, module: nn.Module, inputs: tuple[str, ...], spec: str) -> None:
        super().__init__()
        self.module, self.spec = module, spec
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD

        def forward(**given: Tensor) -> dict[str, Tensor]:
            outputs = named_outputs(module(**given), spec)
            # What it hands through has the input's name in a graph, unless it is a copy.
            passed = [n for n, v in outputs.items() if any(v is g for g in given.values())]
            return {n: v.clone() if n in passed else v for n, v in outputs.items()}

        # torch.export binds inputs by the signature of forward, which differs from user to user.
        forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind) for name in inputs]
        )
        self.forward = forward


def named_outputs(answer: Any, spec: str) -> dict[str, Tensor]:
    """The tensors in what a module answers, by name; a SourceError lists what is none."""
    found = {name: value for name, value in _outputs(answer) if value is not None}
    problems = [
        f"{name} is a {type(value).__name__}"
        for name, value in found.items()
        if not isinstance(value, Tensor)
    ]
    if problems or not found:
        raise SourceError(
            f"forward of {spec} must return tensors, alone, in a tuple or in a dict:\n"
            f"{listed(problems or ['it returns none'])}"
        )
    copies = [n for i, n in enumerate(found) if any(found[n] is v for v in [*found.values()][:i])]
    return {n: v.clone() if n in copies else v for n, v in found.items()}


def _outputs(answer: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(answer, Mapping):
        yield from ((str(name), value) for name, value in answer.items())
    elif is_dataclass(answer) and not isinstance(answer, type):
        yield from ((f.name, getattr(answer, f.name)) for f in fields(answer))
    elif isinstance(answer, tuple) and hasattr(answer, "_fields"):
        yield from zip(answer._fields, answer, strict=True)
    elif isinstance(answer, (tuple, list)):
        yield from ((f"output_{i}", value) for i, value in enumerate(answer))
    else:
        yield "output", answer
