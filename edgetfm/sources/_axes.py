"""Which axes of a user's module are free, found by torch.export, and cases of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import nn

from edgetfm.errors import SourceError, listed
from edgetfm.runtime.shapes import TEXT_INPUTS
from edgetfm.signature import BATCH, SEQUENCE, Feeds, Signature, TensorSpec
from edgetfm.sources._examples import Examples

MOST_FREE = 5
"""Free axes of one module; tracing tells them apart by their sizes."""

Fits = Callable[[Feeds], bool]


def traced_axes(module: nn.Module, examples: Examples, spec: str) -> Signature:
    """What the module takes and gives. An axis is free if torch.export does not fix its size.

    The first axis that all inputs share is `batch`, the second of token ids `sequence`; those of
    the user's signature keep their names. Raises SourceError if the module cannot be traced, or
    fixes an axis that the signature calls free.
    """
    feeds, program = _program(module, examples, spec)
    shapes = _shapes(program, feeds)
    if examples.signature is not None:
        inputs = examples.signature.inputs
        _check_free(examples.signature, shapes, spec)
        names = _names_of(examples.signature, shapes)
    else:
        names = _names(shapes)
        inputs = tuple(
            TensorSpec(name, array.dtype.name, _called(shapes[name], names, array.shape))
            for name, array in feeds.items()
        )
    (last,) = (node for node in program.graph.nodes if node.op == "output")
    free = {size for sizes in shapes.values() for size in sizes if isinstance(size, str)}
    outputs = []
    for name, node in zip(program.call_spec.out_spec.context, last.args[0], strict=True):
        value = node.meta["val"]
        if any(not isinstance(s, int) and s.node.hint is None for s in value.shape):
            raise SourceError(
                f"{spec} has no graph with shapes: the size of '{name}' depends on the values of "
                "its inputs, as that of torch.nonzero does; give a mask or scores of a fixed size"
            )
        sizes = [_size(size, free) for size in value.shape]
        unnamed = [f"{name}_{i}" for i in range(len(sizes))]
        dtype = str(value.dtype).removeprefix("torch.")
        outputs.append(TensorSpec(name, dtype, _called(sizes, names, unnamed)))
    return Signature(inputs, tuple(outputs))


def _size(size: Any, free: Collection[str]) -> int | str:
    """A size, or its expression if that depends on what is free in the inputs."""
    if isinstance(size, int):
        return size
    of = {str(symbol) for symbol in size.node.expr.free_symbols}
    return str(size.node.expr) if of & set(free) else int(size.node.hint)


def _called(
    sizes: Sequence[int | str], names: Mapping[str, str], otherwise: Sequence[int | str]
) -> tuple[int | str, ...]:
    """Sizes, the names of symbols, and what symbols without a name are."""
    return tuple(
        names.get(size, other) if isinstance(size, str) else size
        for size, other in zip(sizes, otherwise, strict=True)
    )


def _program(module: nn.Module, examples: Examples, spec: str) -> tuple[Feeds, Any]:
    """A traced program, and the inputs it was traced with.

    torch.export takes an axis of size 1 for a fixed one: a batch of one is traced as one of two,
    if the module takes that and does not fix it then.
    """
    given = examples.feeds
    if all(a.ndim and a.shape[0] == 1 for a in given.values()):
        two = {name: np.concatenate([a, a]) for name, a in given.items()}
        with suppress(SourceError):
            program = _traced(module, two, examples.signature, spec)
            if all(isinstance(sizes[0], str) for sizes in _shapes(program, two).values()):
                return two, program
    return given, _traced(module, given, examples.signature, spec)


def _traced(module: nn.Module, feeds: Feeds, signature: Signature | None, spec: str) -> Any:
    from edgetfm.export.adapter import reason
    from edgetfm.export.to_onnx import quiet_torch

    auto = torch.export.Dim.AUTO
    known = {t.name: t.shape for t in signature.inputs} if signature else {}
    free = {
        name: {
            i: auto for i, axis in enumerate(known.get(name, "?" * a.ndim)) if axis != a.shape[i]
        }
        for name, a in feeds.items()
    }
    tensors = {name: torch.from_numpy(a) for name, a in feeds.items()}
    nowhere = StringIO()  # torch prints the program that it gives up on
    try:
        with quiet_torch(), redirect_stdout(nowhere), redirect_stderr(nowhere), torch.no_grad():
            return torch.export.export(module, (), tensors, dynamic_shapes=free, strict=False)
    except (MemoryError, SourceError):
        raise
    except Exception as error:  # torch has errors of many kinds for what it cannot trace
        why = reason(error)
        if "data-dependent" in f"{error} {why}".lower():
            raise SourceError(
                f"{spec} has no graph: its control flow depends on the values of its inputs, "
                "which torch.where or torch.cond can say, or a choice when the module is built "
                f"({why})"
            ) from error
        raise SourceError(f"{spec} has no graph: torch.export cannot trace it ({why})") from error


def _shapes(program: Any, feeds: Feeds) -> dict[str, list[int | str]]:
    """The inputs' axes: sizes, and symbols for what is free. An expression is a fixed size."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    shapes: dict[str, list[int | str]] = {}
    for name, own in zip(feeds, program.graph_signature.user_inputs, strict=True):
        sizes = nodes[own].meta["val"].shape
        shapes[name] = [
            s if isinstance(s, int) else str(s.node.expr) if s.node.expr.is_Symbol else int(fixed)
            for s, fixed in zip(sizes, feeds[name].shape, strict=True)
        ]
    return shapes


def _names_of(signature: Signature, shapes: Mapping[str, Sequence[int | str]]) -> dict[str, str]:
    """Symbols of free axes -> what the user's signature calls them."""
    return {
        size: axis
        for tensor in signature.inputs
        for axis, size in zip(tensor.shape, shapes[tensor.name], strict=True)
        if isinstance(axis, str) and isinstance(size, str)
    }


def _names(shapes: Mapping[str, list[int | str]]) -> dict[str, str]:
    """Symbols of free axes -> what they are called; those beyond the most stay fixed."""
    names: dict[str, str] = {}
    firsts = {s[0] if s else None for s in shapes.values()}
    if len(firsts) == 1 and isinstance(first := firsts.pop(), str):
        names[first] = BATCH
    for name, sizes in shapes.items():
        if name in TEXT_INPUTS and len(sizes) == 2 and isinstance(sizes[1], str):
            names.setdefault(sizes[1], SEQUENCE)
        for i, size in enumerate(sizes):
            if isinstance(size, str) and size not in names and len(names) < MOST_FREE:
                names[size] = f"{name}_{i}"
    return names


def _check_free(signature: Signature, shapes: Mapping[str, list[int | str]], spec: str) -> None:
    problems = [
        f"forward of {spec} works for {axis} = {size} alone, the signature calls it free: {tensor}"
        for tensor in signature.inputs
        for axis, size in zip(tensor.shape, shapes[tensor.name], strict=True)
        if isinstance(axis, str) and isinstance(size, int)
    ]
    if problems:
        raise SourceError(listed(problems))


# --- cases --------------------------------------------------------------------------------------


def cases_of(feeds: Feeds, signature: Signature, fits: Fits) -> list[Feeds]:
    """The example inputs, and the same with other sizes of the free axes that the module takes.

    Rows and places are repeated or left out: nothing is made up.
    """
    given = {
        axis: array.shape[i]
        for spec, array in zip(signature.inputs, feeds.values(), strict=True)
        for i, axis in enumerate(spec.shape)
        if isinstance(axis, str)
    }
    cases: list[Feeds] = []
    seen: list[dict[str, int]] = []
    for sizes in _other_sizes(given):
        case = _resized(feeds, signature, sizes)
        if sizes not in seen and (not cases or fits(case)):
            cases.append(case)
        seen.append(sizes)
    return cases


def _other_sizes(given: dict[str, int]) -> Iterator[dict[str, int]]:
    """At most eight rows; shorter and longer than given in every other axis."""
    later = {axis: size for axis, size in given.items() if axis != BATCH}
    shorter = {axis: max(2, size * 2 // 3) for axis, size in later.items()}
    longer = {axis: size + 3 for axis, size in later.items()}
    if BATCH not in given:
        yield from (later, shorter, longer)
        return
    yield {BATCH: min(given[BATCH], 8), **later}
    for rows, others in ((1, later), (2, shorter), (3, longer), (8, later), (1, shorter)):
        yield {BATCH: rows, **others}


def _resized(feeds: Feeds, signature: Signature, sizes: Mapping[str, int]) -> Feeds:
    made: Feeds = {}
    for spec in signature.inputs:
        array = feeds[spec.name]
        for i, axis in enumerate(spec.shape):
            if isinstance(axis, str):
                places = np.arange(sizes[axis])
                # What is masked stays at the end of a row: a longer one repeats its last value.
                end = "mask" in spec.name and axis != BATCH
                last = array.shape[i] - 1
                places = np.minimum(places, last) if end else places % (last + 1)
                array = np.take(array, places, axis=i)
        made[spec.name] = np.ascontiguousarray(array)
    return made


def ask_of_sizes(ask: Callable[[Feeds], Feeds], signature: Signature) -> Fits:
    """Whether the module answers to inputs, in the shapes that the signature says."""

    def fits(feeds: Feeds) -> bool:
        try:
            answers = ask(feeds)
        except SourceError:
            return False
        return all(answers[t.name].ndim == len(t.shape) for t in signature.outputs)

    return fits
