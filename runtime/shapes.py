"""What a graph that was made elsewhere takes and gives, found by reading it and by asking it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir

from edgetfm.errors import InputError, listed
from edgetfm.runtime.cases import meaningless
from edgetfm.signature import ASKED_SIZES, DTYPES, Feeds, Signature, TensorSpec
from edgetfm.signature import BATCH as BATCH
from edgetfm.signature import SEQUENCE as SEQUENCE

Ask = Callable[[Feeds], Feeds]

TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
"""What a tokenizer makes."""

_SIZES = ((2, 7, 3, 5, 11, 13), (3, 4, 5, 7, 2, 17))
"""Sizes of free axes while asking: none is 1, no two are equal, no axis has the same twice."""


def read_signature(model: ir.Model, ask: Ask) -> Signature:
    """The signature of a graph, its free axes named.

    Names in the file are kept, but the first axis, if all inputs share it, is `batch`, and the
    second of token ids `sequence`, as everywhere in edgetfm. Output sizes are those that the
    graph gives: files often call an axis free that is not. ask: the graph itself. Raises one
    InputError for all inputs and outputs that cannot be.
    """
    problems: list[str] = []
    if not model.graph.inputs:
        problems.append("it takes no inputs")
    inputs = [_spec(v, problems, rank=True) for v in model.graph.inputs]
    outputs = [_spec(v, problems, rank=False) for v in model.graph.outputs]
    if problems:
        raise InputError(f"this graph cannot be used:\n{listed(problems)}")
    for named in _namings([s for s in inputs if s is not None]):
        given = [s for s in outputs if s is not None]
        with contextlib.suppress(InputError):
            found = asked(Signature(named, tuple(given)), ask)
            unknown: set[str | None] = set()
            break
    else:
        found = Signature(named, tuple(given))
        unknown = {v.name for v in model.graph.outputs if v.shape is None}
    if problems := list(_without_values(found, unknown)):
        raise InputError(f"this graph cannot be used:\n{listed(problems)}")
    return found


def _without_values(signature: Signature, unknown: set[str | None]) -> Iterator[str]:
    """Outputs that are single numbers, which no batch has, and tensors of size zero.

    unknown: outputs whose number of axes is not known.
    """
    for spec in (*signature.inputs, *signature.outputs):
        if 0 in spec.shape:
            yield f"'{spec.name}' has no values: {spec}"
    for spec in signature.outputs:
        if not spec.shape and spec.name not in unknown:
            yield f"'{spec.name}' is a single number: give an output with an axis for the batch"


def _spec(value: ir.Value, problems: list[str], *, rank: bool) -> TensorSpec | None:
    """The tensor as the file has it; axes without a name are called after it."""
    name, dtype = str(value.name), value.dtype
    known = dtype.numpy().name if isinstance(value.type, ir.TensorType) and dtype else None
    if known is None or known not in DTYPES:
        kind = "no tensor" if known is None else known
        problems.append(f"'{name}' is {kind}; known are tensors of {', '.join(DTYPES)}")
        return None
    if value.shape is None:
        if rank:
            problems.append(f"'{name}' has no shape: export the graph again with one")
        return TensorSpec(name, known, ())
    axes = tuple(_axis(a, f"{name}_{i}") for i, a in enumerate(value.shape))
    return TensorSpec(name, known, axes)


def _axis(axis: int | ir.SymbolicDim, unnamed: str) -> int | str:
    """The size or the name of an axis; some files write free ones as -1."""
    if isinstance(axis, int):
        return axis if axis >= 0 else unnamed
    return axis.value or unnamed


def _namings(inputs: list[TensorSpec]) -> Iterator[tuple[TensorSpec, ...]]:
    """Names of the inputs' axes, the likeliest first: equal names are equal sizes."""
    if {t.name for t in inputs} <= TEXT_INPUTS and all(len(t.shape) == 2 for t in inputs):
        yield tuple(_named(t, lambda i, _: (BATCH, SEQUENCE)[i]) for t in inputs)
        return
    later = [a for t in inputs for a in t.shape[1:] if isinstance(a, str)]
    first_is_batch = not any(BATCH in a.lower() for a in later)
    if first_is_batch and all(t.shape and isinstance(t.shape[0], str) for t in inputs):
        yield tuple(_named(t, lambda i, a: a if i else BATCH) for t in inputs)
        yield tuple(_named(t, lambda i, _: f"axis_{i}" if i else BATCH) for t in inputs)
    yield tuple(inputs)


def _named(spec: TensorSpec, name: Callable[[int, str], str]) -> TensorSpec:
    axes = (a if isinstance(a, int) else name(i, a) for i, a in enumerate(spec.shape))
    return TensorSpec(spec.name, spec.dtype, tuple(axes))


def asked(signature: Signature, ask: Ask) -> Signature:
    """The outputs' axes from two answers; InputError if the graph does not take such inputs."""
    sizes = [
        dict(zip(signature.axes, row, strict=False))
        | {axis: pair[i] for axis, pair in ASKED_SIZES.items() if axis in signature.axes}
        for i, row in enumerate(_SIZES)
    ]
    answers = [ask(meaningless(signature, given, 6)) for given in sizes]
    outputs = tuple(_shaped(spec, [a[spec.name] for a in answers], sizes)
                    for spec in signature.outputs)  # fmt: skip
    return Signature(signature.inputs, outputs)


def _shaped(spec: TensorSpec, answers: list[Any], sizes: list[dict[str, int]]) -> TensorSpec:
    axes: list[int | str] = []
    for i, pair in enumerate(zip(*(a.shape for a in answers), strict=True)):
        named = [n for n in sizes[0] if all(s[n] == d for s, d in zip(sizes, pair, strict=True))]
        known = spec.shape[i] if i < len(spec.shape) else f"{spec.name}_{i}"
        if named:
            axes.append(named[0])
        elif pair[0] == pair[1]:
            axes.append(int(pair[0]))
        else:
            axes.append(known)
    return TensorSpec(spec.name, spec.dtype, tuple(axes))
