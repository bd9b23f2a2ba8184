"""Weights in blocks: some inputs of an output share a scale, and a zero point where that pays.

The blocks are those of MatMulNBits: they run along the inputs, and steps have 4 or 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgetfm.quantize.recipes import BLOCKS
from edgetfm.quantize.rounding import Compensation, Matrix
from edgetfm.quantize.spool import space

Steps = NDArray[np.uint8]

CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65)
"""Shares of a block's range that are tried with 4 bits: what is cut off is paid for by finer
steps for the rest."""


@dataclass(frozen=True)
class Form:
    """How a weight is stored: bits a step, inputs a block, and whether zero is in the middle."""

    bits: int
    block_size: int
    symmetric: bool

    @property
    def middle(self) -> int:
        """The zero point of a symmetric grid, which MatMulNBits takes where none is given."""
        return 1 << (self.bits - 1)

    @property
    def largest(self) -> int:
        """The largest step."""
        return (1 << self.bits) - 1

    def blocks(self, inputs: int) -> int:
        """How many blocks so many inputs are; the last may be short."""
        return -(-inputs // self.block_size)

    def fitted(self, inputs: int) -> Form:
        """The same, with smaller blocks where a product then reads fewer bytes: also of padding.

        onnxruntime keeps two floats a block beside the steps: the scale, and the zero point's
        share of a sum. Of the same bytes the larger blocks are the faster: with 128 instead of 64
        for the 576 inputs of SmolLM2-135M's products, padded to 640, a token takes 0.93 of the
        time.
        """

        def size(form: Form) -> int:
            return form.blocks(inputs) * (form.block_size * form.bits // 8 + 8)

        forms = [replace(self, block_size=b) for b in BLOCKS if b <= self.block_size]
        return min(reversed(forms), key=size)

    def __str__(self) -> str:
        return f"{self.bits}-bit blocks of {self.block_size}"


def shared_size(inputs: int, block_size: int) -> int | None:
    """The largest blocks up to `block_size` that rows of a table divide into; None if none do."""
    return max((b for b in BLOCKS if b <= block_size and inputs % b == 0), default=None)


@dataclass(frozen=True)
class Blocks:
    """A weight of `inputs` by outputs in blocks, as MatMulNBits stores it.

    packed: [outputs, blocks, bytes], two 4-bit steps a byte, the first one low. scale:
    [outputs, blocks]. zero: [outputs, blocks] steps, None for a symmetric grid.
    """

    form: Form
    inputs: int
    packed: Steps
    scale: Matrix
    zero: Steps | None

    @classmethod
    def empty(cls, form: Form, inputs: int, outputs: int) -> Blocks:
        """Space for a weight, on disk if it is large."""
        shape = outputs, form.blocks(inputs)
        packed = space((*shape, form.block_size * form.bits // 8), np.dtype(np.uint8))
        zero = None if form.symmetric else space(shape, np.dtype(np.uint8))
        return cls(form, inputs, packed, space(shape, np.dtype(np.float32)), zero)

    def put(self, outputs: slice, part: Blocks) -> None:
        """Fill in some outputs."""
        self.packed[outputs], self.scale[outputs] = part.packed, part.scale
        if self.zero is not None and part.zero is not None:
            self.zero[outputs] = part.zero

    def part(self, outputs: slice) -> Blocks:
        """Some outputs of it."""
        zero = None if self.zero is None else self.zero[outputs]
        return replace(self, packed=self.packed[outputs], scale=self.scale[outputs], zero=zero)

    @classmethod
    def pack(cls, form: Form, steps: Steps, scale: Matrix, zero: Matrix) -> Blocks:
        """From steps [inputs, outputs], scales and zero points [blocks, outputs]."""
        inputs, outputs = steps.shape
        whole = np.full((form.blocks(inputs) * form.block_size, outputs), form.middle, np.uint8)
        whole[:inputs] = steps
        packed = _packed(whole.T, form.bits).reshape(outputs, form.blocks(inputs), -1)
        zeros = None if form.symmetric else zero.T.astype(np.uint8, order="C")
        return cls(form, inputs, packed, np.ascontiguousarray(scale.T), zeros)

    @property
    def bytes(self) -> int:
        """What it takes in a file."""
        zero = self.packed_zero()
        return self.packed.nbytes + self.scale.nbytes + (0 if zero is None else zero.nbytes)

    def packed_zero(self) -> Steps | None:
        """The zero points as MatMulNBits stores them, None if all are in the middle."""
        return None if self.zero is None else _packed(self.zero, self.form.bits)

    def dequantized(self) -> Matrix:
        """The float weight that it stands for, [inputs, outputs]."""
        steps = unpacked(self.packed, self.form.bits)
        zero = np.float32(self.form.middle) if self.zero is None else self.zero[..., None]
        real = (steps.astype(np.float32) - zero) * self.scale[..., None]
        return np.ascontiguousarray(real.reshape(len(real), -1)[:, : self.inputs].T)


def unpacked(packed: Steps, bits: int) -> Steps:
    """The steps in the last axis, one each; the last of an odd number has one too many behind."""
    if bits == 8:
        return packed
    both = np.stack([packed & 15, packed >> 4], axis=-1)
    return both.reshape(*packed.shape[:-1], -1)


def _packed(steps: Steps, bits: int) -> Steps:
    """The last axis in bytes."""
    if bits == 8:
        return np.ascontiguousarray(steps)
    if steps.shape[-1] % 2:
        steps = np.concatenate([steps, np.zeros((*steps.shape[:-1], 1), np.uint8)], axis=-1)
    return np.asarray(steps[..., 0::2] | steps[..., 1::2] << 4, np.uint8)


@dataclass(frozen=True)
class Grid:
    """The scale and the zero point of a block for each output, [outputs].

    Where all weights are zero the scale is 0: the kernels take the zero point's share away in
    float, and with any other scale something of it would stay.
    """

    scale: Matrix
    zero: Matrix

    def steps(self, rows: Matrix, form: Form) -> Matrix:
        """The nearest steps of weights [..., outputs]."""
        steps = np.rint(rows / _not_zero(self.scale) + self.zero)
        return np.asarray(np.clip(steps, 0, form.largest), np.float32)

    def real(self, steps: Matrix) -> Matrix:
        """The weights that steps stand for."""
        return (steps - self.zero) * self.scale


def in_parts(
    parts: Iterable[tuple[slice, Matrix]],
    form: Form,
    shape: tuple[int, int],
    power: Matrix | None = None,
    compensation: Compensation | None = None,
    judge: Callable[[Matrix, Blocks], None] | None = None,
) -> Blocks:
    """A weight of `shape` (inputs, outputs) in blocks, as `round_blocks` does it, in parts.

    parts: (which outputs, [inputs, those]). judge: is shown each part and what became of it.
    """
    whole = Blocks.empty(form, *shape)
    for outputs, matrix in parts:
        made = round_blocks(matrix, form, power, compensation)
        if judge is not None:
            judge(matrix, made)
        whole.put(outputs, made)
    return whole


def round_blocks(
    weight: Matrix,
    form: Form,
    power: Matrix | None = None,
    compensation: Compensation | None = None,
) -> Blocks:
    """The weight [inputs, outputs] in blocks: each entry to the nearest step, or compensated.

    power: [inputs], how much the error of an input counts in the choice of scales. Scales are
    chosen before anything is rounded. To choose that of a block on its compensated weights, as it
    is entered, was measured on MiniLM at 4 bits: no better (pooled cosine 0.9890 and 0.9890 at
    blocks of 32, 0.9815 and 0.9832 at 128), since inputs must then be taken block by block.
    """
    size, inputs = form.block_size, len(weight)
    parts = [slice(start, start + size) for start in range(0, inputs, size)]
    found = [_grid(weight[p], form, None if power is None else power[p]) for p in parts]
    steps = np.empty(weight.shape, np.uint8)
    if compensation is None:
        for part, grid in zip(parts, found, strict=True):
            steps[part] = grid.steps(weight[part], form)
    else:

        def rounded(k: int, row: Matrix) -> Matrix:
            grid = found[k // size]
            made = grid.steps(row, form)
            steps[k] = made
            return grid.real(made)

        compensation.sweep(weight, rounded)
    return Blocks.pack(
        form, steps, np.stack([g.scale for g in found]), np.stack([g.zero for g in found])
    )


def _grid(rows: Matrix, form: Form, power: Matrix | None) -> Grid:
    """The grid of one block [inputs, outputs] with the smallest squared error of those tried."""
    best, *others = _candidates(rows, form)
    if not others:
        return best
    counts = np.ones(len(rows), np.float32) if power is None else power

    def error(grid: Grid) -> Matrix:
        errors = np.square(grid.real(grid.steps(rows, form)) - rows)
        return np.asarray(counts @ errors, np.float32)

    least = error(best)
    for grid in others:
        errors = error(grid)
        better = errors < least
        best = Grid(
            np.where(better, grid.scale, best.scale), np.where(better, grid.zero, best.zero)
        )
        least = np.minimum(errors, least)
    return best


def _candidates(rows: Matrix, form: Form) -> Iterator[Grid]:
    """The grids to try for a block."""
    clips = CLIPS if form.bits == 4 else CLIPS[:1]
    low, high = np.minimum(rows.min(axis=0), 0), np.maximum(rows.max(axis=0), 0)
    if form.symmetric:
        zero = np.full(rows.shape[1], form.middle, np.float32)
        yield Grid(np.maximum(high, -low) / np.float32(form.middle - 1), zero)
        # There is one step more below zero than above. With few of them the largest weight gets
        # it, whatever its sign: a scale may be negative.
        peak = np.where(-low > high, -low, -high)
        for clip in clips if form.bits == 4 else ():
            yield Grid(peak * np.float32(clip / form.middle), zero)
        return
    for clip in clips:
        scale = (high - low) * np.float32(clip / form.largest)
        zero = np.rint(-low * np.float32(clip) / _not_zero(scale))
        yield Grid(scale, np.clip(zero, 0, form.largest))


def _not_zero(scale: Matrix) -> Matrix:
    return np.asarray(np.where(scale == 0, 1, scale), np.float32)
