"""Products whose weight alone is rounded, in blocks: MatMulNBits of the domain com.microsoft.

    x -> MatMulNBits(steps, scales, zero points, bias)

onnxruntime rounds the activation too, to 8 bits, but each token's blocks by themselves: an answer
does not depend on what else is in the batch, as it does with dynamic int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgetfm.quantize import embeddings
from edgetfm.quantize.block_tables import BlockTables, shaped_for_product
from edgetfm.quantize.blocks import Blocks, Form, in_parts, shared_size
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.linear import CONTRIB, Linear, by_activation
from edgetfm.quantize.observe import Activation
from edgetfm.quantize.plan import Key
from edgetfm.quantize.recipes import Recipe
from edgetfm.quantize.rounding import DAMPING, Compensation, Matrix, Quantized
from edgetfm.quantize.smoothing import sparing
from edgetfm.quantize.spool import spooled

ACCURACY_LEVEL = 4
"""Activations in 8 bits, a scale a token and block. In float32 the kernels are slower than
float32 products."""


JUDGING_ROWS = 256
"""About how many tokens, from all over the data, tell how far an output moves."""
FEW_ROWS = 64
"""The same where nothing is decided by it."""


@dataclass(frozen=True)
class BlockWeight:
    """What a product becomes. table: the name of the int8 table that the weight is, if shared."""

    blocks: Blocks
    table: str | None
    error: float | None


class BlockPlan:
    """Which products go into blocks, and how: decided one activation at a time, then applied.

    tables: the int8 tables of `embeddings` that nothing but gathers and these products read. Such
    a product takes the table as it is, which is then stored once. block_tables: those that go into
    blocks; there the product decides, and the gathers take what it made.
    """

    apart = True

    def __init__(
        self,
        model: ir.Model,
        recipe: Recipe,
        linears: Sequence[Linear],
        facts: Facts,
        tables: Mapping[str, Quantized],
        block_tables: BlockTables,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.linears = list(linears)
        self.facts = facts
        self.tables = tables
        self.block_tables = block_tables
        self.weights: dict[str, BlockWeight] = {}

    def key(self, group: Sequence[Linear]) -> Key:
        """What a decision depends on besides the model and the data."""
        tables = [str(li.weight.name) for li in group if li.weight.name in self.tables]
        forms = [f"{li.name} {self.form(li)}" for li in group]
        symmetric = str(self.recipe.symmetric)
        return ("blocks", self.recipe.rounding, symmetric, *tables, *forms)

    def decide(self, group: Sequence[Linear], seen: Activation | None) -> tuple[BlockWeight, ...]:
        """Round the weights of the products that read one activation."""
        power: Matrix | None = None
        if seen is not None and seen.gram is not None:
            power = np.diag(seen.gram) / np.float32(seen.rows)
            power = power + np.float32(DAMPING) * power.mean()
        compensation = self._compensation(seen)
        return tuple(self._rounded(linear, seen, power, compensation) for linear in group)

    def _compensation(self, seen: Activation | None) -> Compensation | None:
        if seen is None or seen.gram is None or self.recipe.rounding == "nearest":
            return None
        gram, seen.gram = seen.gram, None
        gram /= np.float32(seen.rows)
        # A scale a token and block leaves so little error in the activation that it adds nothing.
        return Compensation(gram, 0.0)

    def _rounded(
        self,
        linear: Linear,
        seen: Activation | None,
        power: Matrix | None,
        compensation: Compensation | None,
    ) -> BlockWeight:
        form, table = self.form(linear), str(linear.weight.name)
        rows = FEW_ROWS if self.recipe.rounding == "nearest" else JUDGING_ROWS
        judge = None if seen is None else _Judge(seen, form, linear.shape, rows)
        if table not in self.tables:
            parts = linear.parts()
            blocks = in_parts(parts, form, linear.shape, power, compensation, judge)
            return BlockWeight(blocks, None, None if judge is None else judge.error)
        blocks = _of_table(self.tables[table], form)
        if judge is not None:
            for outputs, matrix in linear.parts():
                judge(matrix, blocks.part(outputs))
        kept = replace(blocks, packed=spooled(blocks.packed))
        return BlockWeight(kept, table, None if judge is None else judge.error)

    def form(self, linear: Linear) -> Form:
        """How the weight of a product will be stored."""
        recipe = self.recipe
        if linear.weight.name in self.tables:
            size = shared_size(linear.shape[0], recipe.block_size)
            assert size is not None
            return Form(8, size, True)
        if linear.weight.name in self.block_tables.forms:
            return self.block_tables.forms[str(linear.weight.name)]
        bits = 4 if recipe.precision == "int4" and linear.name not in recipe.by_block else 8
        return Form(bits, recipe.block_size, recipe.symmetric).fitted(linear.shape[0])

    def accept(self, group: Sequence[Linear], decision: Sequence[BlockWeight]) -> None:
        """Take over what was decided, for this graph or another made from the same model."""
        for linear, weight in zip(group, decision, strict=True):
            self.weights[linear.name] = weight
            self.facts.take_blocks(linear, weight.blocks, weight.error, weight.table)


def _of_table(table: Quantized, form: Form) -> Blocks:
    """The weight that an int8 table [inputs, outputs] with a scale an output is."""
    inputs, outputs = table.values.shape
    steps = embeddings.unsigned_steps(table.values.T)
    steps = steps.reshape(outputs, form.blocks(inputs), form.block_size)
    scale = np.repeat(table.scale[:, None], form.blocks(inputs), axis=1)
    return Blocks(form, inputs, steps, scale, None)


def run(model: ir.Model, plan: BlockPlan) -> tuple[ir.Model, bool]:
    """Put everything that `plan` decided into `model`, which it changes."""
    shared = {str(li.weight.name): plan.weights[li.name].blocks for li in plan.linears}
    plan.block_tables.run(model, shared, plan.facts)
    editor = Editor(model)
    for _, group in by_activation(plan.linears):
        for linear in group:
            new = plan.weights[linear.name]
            is_table = linear.weight.name in plan.block_tables.forms
            constants = (
                shaped_for_product(editor, linear, new.blocks)
                if is_table
                else constants_of(editor, linear, new)
            )
            y = product_in_blocks(editor, linear, new.blocks, constants)
            editor.replace(linear.add or linear.node, y)
    if plan.linears:
        model.opset_imports.setdefault(CONTRIB, 1)
    editor.finish()
    return model, bool(plan.linears)


def product_in_blocks(
    editor: Editor, linear: Linear, blocks: Blocks, constants: Sequence[ir.Value | None]
) -> ir.Value:
    """The output of one MatMulNBits that is a product and the Add of its bias.

    The operator adds the bias itself, which is faster by 3 % of the whole of MiniLM than an Add.
    """
    inputs, outputs = linear.shape
    found = [*constants, *[None] * (4 - len(constants)), linear.bias]
    while found[-1] is None:
        found.pop()
    return editor.before(
        linear.node,
        "MatMulNBits",
        [linear.x, *found],
        f"{linear.name}_blocks",
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=blocks.form.bits,
        block_size=blocks.form.block_size,
        accuracy_level=ACCURACY_LEVEL,
    )[0]


def constants_of(editor: Editor, linear: Linear, new: BlockWeight) -> list[ir.Value | None]:
    """The steps, the scales and the zero points, None if all are in the middle."""
    blocks, stem = new.blocks, str(linear.weight.name)
    if new.table is not None:
        return _from_table(editor, linear, new.table, blocks)
    zero = blocks.packed_zero()
    return [
        editor.constant(f"{stem}_blocks", blocks.packed),
        editor.constant(f"{stem}_scales", blocks.scale),
        None if zero is None else editor.constant(f"{stem}_zero_points", zero),
    ]


def _from_table(
    editor: Editor, linear: Linear, table: str, blocks: Blocks
) -> list[ir.Value | None]:
    """The table and its scales in the shape of blocks: onnxruntime does that while it loads."""
    rows = editor.graph.initializers[embeddings.stored_name(table)]
    scales = editor.graph.initializers[embeddings.scale_name(table)]
    shapes = [
        editor.constant(f"{linear.name}_{what}_shape", np.array(array.shape, np.int64))
        for what, array in (("blocks", blocks.packed), ("scales", blocks.scale))
    ]
    return [
        editor.before(linear.node, "Reshape", [rows, shapes[0]], f"{linear.name}_table")[0],
        editor.before(linear.node, "Expand", [scales, shapes[1]], f"{linear.name}_scales")[0],
        None,
    ]


class _Judge:
    """Sums up the squared error of an output, relative to each token's float output, by parts."""

    def __init__(self, seen: Activation, form: Form, shape: tuple[int, int], most: int) -> None:
        rows = np.concatenate(seen.sample)
        every = max(sparing(len(rows), shape[1]), len(rows) // most)
        self._rows = rows[::every]
        self._rounded = as_quantized(self._rows, form.block_size)
        self._missed = np.zeros(len(self._rows))
        self._power = np.zeros(len(self._rows))

    def __call__(self, matrix: Matrix, made: Blocks) -> None:
        wanted = self._rows @ matrix
        error = self._rounded @ made.dequantized() - wanted
        self._missed += np.square(error).sum(axis=1, dtype=float)
        self._power += np.square(wanted).sum(axis=1, dtype=float)

    @property
    def error(self) -> float:
        """The mean over the tokens whose output is not all zero."""
        real = self._power > 0
        return float((self._missed[real] / self._power[real]).mean()) if real.any() else 0.0


def as_quantized(x: Matrix, block_size: int) -> Matrix:
    """What is left of x [tokens, inputs] in 8 bits, a scale for each block of each token."""
    tokens, inputs = x.shape
    whole = np.zeros((tokens, -(-inputs // block_size) * block_size), np.float32)
    whole[:, :inputs] = x
    parts = whole.reshape(tokens, -1, block_size)
    step = np.abs(parts).max(axis=2, keepdims=True) / np.float32(127)
    step = np.where(step > 0, step, np.float32(1))
    return np.asarray((np.rint(parts / step) * step).reshape(tokens, -1)[:, :inputs], np.float32)
