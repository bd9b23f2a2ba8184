"""A user's own nn.Module, made by a function that the user names: module:function.

What is free in its inputs is found by torch.export, unless a signature says it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgetfm.errors import InputError, SourceError, listed
from edgetfm.models._family import Family
from edgetfm.signature import Feeds, Signature
from edgetfm.sources._axes import ask_of_sizes, cases_of, traced_axes
from edgetfm.sources._examples import Examples, read_examples
from edgetfm.sources._named import Named, parameters_of
from edgetfm.sources._source import Oracle, Source, eager
from edgetfm.task import OTHER
from edgetfm.tasks import TASKS, task_named
from edgetfm.users_code import import_function, users_code


@dataclass(frozen=True)
class ModuleConfig:
    """Nothing but the name of the class: all else is the user's."""

    model_type: str


def open_module(spec: str, task: str | None = None, inputs: str | None = None) -> Source:
    """The nn.Module that the function `spec` returns, alone or with example inputs.

    inputs: another such function, or a .npz file, for the example inputs or an
    edgetfm.signature.Signature; a module may also have an attribute `signature`. Examples are a
    dict by the names of forward's parameters, a tuple in their order, or a single tensor. The
    task is `other`, which compares every float output, unless one is given that the module does.

    Raises InputError for what cannot be imported or called, SourceError for a module that cannot
    be traced, with what to do about it.
    """
    module, returned = _built(spec)
    examples = read_examples(spec, module, returned, inputs)
    named = Named(module, tuple(examples.feeds), spec)
    ask = _answering(named, spec)
    first = ask(examples.feeds)
    _check_answers(first, ask(examples.feeds), spec)
    signature = traced_axes(named, examples, spec)
    chosen = _task(task, signature, spec)
    digest = _digest(module)
    cases = cases_of(examples.feeds, signature, ask_of_sizes(ask, signature))

    def build() -> Named:
        again, _ = _built(spec)
        if _digest(again) != digest:
            raise SourceError(
                f"{spec} gave other weights when it was called again: let it load them from a "
                "file, or seed what draws them"
            )
        return Named(again, tuple(examples.feeds), spec)

    return Source(
        kind="module",
        name=spec,
        family=Family(
            name=type(module).__name__,
            tasks=tuple(TASKS),
            config=ModuleConfig,
            build=lambda _config, _task: build(),
            inputs=lambda _config, _task: signature.inputs,
            outputs=lambda _config, _task: signature.outputs,
        ),
        config=ModuleConfig(type(module).__name__),
        task=chosen,
        provenance={"kind": "module", "name": spec, "sha256": {"weights": digest}},
        build_module=build,
        build_reference=lambda: _answering(build(), spec),
        cases=tuple(cases),
        examples=None if examples.meaningless else examples.feeds,
        notes=_notes(examples, signature),
        route="module",
    )


def _built(spec: str) -> tuple[nn.Module, Any]:
    """What the function returns: a module for inference in float32, and its example inputs."""
    function = import_function(spec)
    with users_code(spec), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # weights that nobody loads are the same at every call
        made = function()
    module, examples = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if isinstance(module, torch.jit.ScriptModule):
        raise SourceError(f"{spec} returns a TorchScript module: return the nn.Module it is of")
    if not isinstance(module, nn.Module):
        raise SourceError(
            f"{spec} returns {_kind(made)}, expected an nn.Module, or (nn.Module, example inputs)"
        )
    parameters_of(module, spec)
    return module.float().requires_grad_(False).eval(), examples


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(type(v).__name__ for v in value)})"
    return "nothing" if value is None else f"a {type(value).__name__}"


def _answering(named: Named, spec: str) -> Oracle:
    """The module as a function from arrays to arrays; a SourceError for what it does not take."""
    ask = eager(named)

    def run(feeds: Feeds) -> Feeds:
        try:
            return ask(feeds)
        except (MemoryError, InputError):
            raise
        except Exception as error:  # the user's code
            given = ", ".join(f"{n} {a.dtype}{list(a.shape)}" for n, a in feeds.items())
            reason = next(iter(str(error).splitlines()), "")
            raise SourceError(
                f"forward of {spec} does not take {given}: {type(error).__name__}: {reason}"
            ) from error

    return run


def _check_answers(first: Feeds, again: Feeds, spec: str) -> None:
    problems = [
        f"{spec} does not answer twice the same: '{name}' draws random numbers"
        for name, array in first.items()
        if not np.array_equal(array, again[name], equal_nan=True)
    ]
    problems += [
        f"{spec} gives no finite numbers in '{name}' for the example inputs"
        for name, array in first.items()
        if array.dtype.kind == "f" and not np.isfinite(array).any()
    ]
    if problems:
        raise SourceError(listed(problems))


def _task(wanted: str | None, signature: Signature, spec: str) -> str:
    """The task asked for, if the module does it, else `other`."""
    task = task_named(wanted) if wanted is not None else TASKS[OTHER]
    if problems := task.misfits(signature):
        hint = "" if task.name == OTHER else f"\nleave --task out, or give '{OTHER}'"
        raise SourceError(f"{spec} does not do {task.name}:\n{listed(problems)}{hint}")
    return task.name


def _digest(module: nn.Module) -> str:
    """The sha256 of all weights and buffers, by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(_tensors(module).items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _tensors(module: nn.Module) -> Mapping[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _notes(examples: Examples, signature: Signature) -> tuple[str, ...]:
    said = [f"inputs: {', '.join(map(str, signature.inputs))}"]
    if examples.meaningless:
        said.append("the signature came without example inputs: the graph is proven on noise")
    return tuple(said)
