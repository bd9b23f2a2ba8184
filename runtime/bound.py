"""Answers that are written where the caller wants them: large ones need no memory of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from edgetfm.errors import InputError
from edgetfm.runtime._ort import ort
from edgetfm.runtime.placement import CPU
from edgetfm.runtime.session import NO_NAME, Session
from edgetfm.signature import Array, Feeds, TensorSpec

LARGE_ANSWER = 1 << 24
"""Bytes of an output from which it is bound: logits of 128 tokens over 128,256 words are 66 MB."""

MISFITS = ("computed output shape", "OrtValue shape verification failed")
"""What onnxruntime 1.31, and older ones, say of an output that does not fit its array."""

Room = Callable[[tuple[int, ...], np.dtype[np.generic]], Array]
"""An array of a shape and a type, to be filled."""


def run_into(
    session: Session, feeds: Feeds, room: Room, known: Mapping[str, int] | None = None
) -> Feeds:
    """What `session.run` gives, with large outputs in arrays that `room` made.

    onnxruntime would allocate them, keep what it allocated, and hand out a copy. Only on the CPU
    are the arrays its own memory, and only outputs are bound whose shape the inputs tell; known:
    the sizes of axes that they do not.
    """
    told, signature = session.asked(feeds)
    sizes = _sizes(session, told) | dict(known or {})
    made = {
        spec.name: room(shape, np.dtype(spec.dtype))
        for spec in signature.outputs
        if (shape := _shape(spec, sizes)) is not None
        and prod(shape) * np.dtype(spec.dtype).itemsize >= LARGE_ANSWER
    }
    if not made or session.device.provider != CPU:
        return session.run(feeds)
    binding = session.io_binding()
    held = {name: np.require(array, requirements="C") for name, array in told.items()}
    for name, array in held.items():
        if name in session.optional_inputs:  # arrays can be bound to those alone that have no value
            binding.bind_ortvalue_input(name, ort().OrtValue.ortvalue_from_numpy(array))
        else:
            binding.bind_cpu_input(name, array)
    for spec in signature.outputs:
        if spec.name in made:
            array = made[spec.name]
            binding.bind_output(
                spec.name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data
            )
        else:
            binding.bind_output(spec.name)
    try:
        session.run_bound(binding, told)
    except InputError as error:
        if not any(said in str(error) for said in MISFITS):
            raise
        return session.run(feeds)  # graphs made elsewhere may call an axis what it is not
    others = zip(signature.outputs, binding.get_outputs(), strict=True)
    return {
        spec.name: made[spec.name] if spec.name in made else value.numpy() for spec, value in others
    }


def _sizes(session: Session, told: Feeds) -> dict[str, int]:
    """The sizes of the free axes that are the same wherever they are."""
    seen: dict[str, set[int]] = {}
    for spec in session.signature.inputs:
        for axis, size in zip(spec.shape, np.shape(told.get(spec.name, 0)), strict=False):
            if isinstance(axis, str) and axis != NO_NAME:
                seen.setdefault(axis, set()).add(size)
    return {axis: found.pop() for axis, found in seen.items() if len(found) == 1}


def _shape(spec: TensorSpec, sizes: dict[str, int]) -> tuple[int, ...] | None:
    """The shape of an output, None where an axis is not known."""
    shape = [sizes.get(axis, -1) if isinstance(axis, str) else axis for axis in spec.shape]
    return None if -1 in shape else tuple(shape)
