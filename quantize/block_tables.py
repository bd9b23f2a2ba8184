"""Embedding tables in blocks: GatherBlockQuantized (com.microsoft) makes float of what it gathers.

The product that is the other reader of a tied table takes the very same bytes. Its operator wants
them as [rows, blocks, bytes], the gather as [rows, bytes]: a Reshape of a constant, which
onnxruntime does while it loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.quantize.blocks import Blocks, Form, in_parts, shared_size
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.embeddings import Embedding, find_embeddings
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.linear import CONTRIB, Linear, column_parts, constant
from edgetfm.quantize.recipes import Recipe
from edgetfm.quantize.rounding import Matrix


class BlockTables:
    """The tables of a graph that go into blocks by `recipe`, and the products that share them.

    A table that is read in float elsewhere, by two products, or whose rows no blocks divide is
    left to the passes for int8 tables.
    """

    def __init__(self, model: ir.Model, recipe: Recipe, in_blocks: Sequence[Linear]) -> None:
        self.embeddings: dict[str, list[Embedding]] = {}
        self.forms: dict[str, Form] = {}
        if not (recipe.is_weight_only and recipe.embeddings and recipe.table_bits):
            return
        products = [linear.node for linear in in_blocks]
        for found in find_embeddings(model):
            name = str(found.table.name)
            sharing = [linear.name for linear in in_blocks if linear.weight is found.table]
            size = shared_size(_shape(found.table)[1], recipe.block_size)
            if len(sharing) > 1 or size is None or not found.may_be_int8(products):
                continue
            eight = {found.name, *sharing} & set(recipe.by_block)
            form = Form(8 if eight else recipe.table_bits, size, recipe.symmetric)
            self.embeddings.setdefault(name, []).append(found)
            if self.forms.get(name, form).bits <= form.bits:
                self.forms[name] = form

    def run(self, model: ir.Model, weights: Mapping[str, Blocks], facts: Facts) -> None:
        """Gather from blocks; changes `model`. weights: of tables that products decided about."""
        editor = Editor(model)
        for name, readers in self.embeddings.items():
            table = readers[0].table
            blocks, error = weights.get(name), None
            if blocks is None:
                blocks, error = _rounded(table, self.forms[name])
            facts.take_block_table(name, _shape(table), blocks, error, shared=name in weights)
            constants = table_constants(editor, name, blocks)
            for embedding in readers:
                row = gathered(editor, embedding, constants, blocks.form)
                editor.replace(embedding.node, row)
        if self.embeddings:
            model.opset_imports.setdefault(CONTRIB, 1)
        editor.finish()


def table_constants(editor: Editor, table: str, blocks: Blocks) -> list[ir.Value]:
    """The steps [rows, bytes], the scales and the zero points if there are any."""
    zero = blocks.packed_zero()
    arrays: dict[str, NDArray[Any]] = {
        "blocks": blocks.packed.reshape(len(blocks.packed), -1),
        "scales": blocks.scale,
    }
    if zero is not None:
        arrays["zero_points"] = zero
    return [editor.constant(f"{table}_{what}", array) for what, array in arrays.items()]


def shaped_for_product(editor: Editor, linear: Linear, blocks: Blocks) -> list[ir.Value | None]:
    """The same constants as a product in blocks takes them: steps, scales, zero points."""
    table, found = str(linear.weight.name), editor.graph.initializers
    shape = editor.constant(f"{linear.name}_blocks_shape", np.array(blocks.packed.shape, np.int64))
    steps = editor.before(
        linear.node, "Reshape", [found[f"{table}_blocks"], shape], f"{linear.name}_table"
    )[0]
    return [steps, found[f"{table}_scales"], found.get(f"{table}_zero_points")]


def gathered(
    editor: Editor, embedding: Embedding, constants: Sequence[ir.Value], form: Form
) -> ir.Value:
    """The rows of a table in blocks that an embedding gathers; `constants` of table_constants."""
    steps, *scales_and_zeros = constants
    return editor.before(
        embedding.node,
        "GatherBlockQuantized",
        [steps, embedding.node.inputs[1], *scales_and_zeros],
        f"{embedding.name}_blocks",
        domain=CONTRIB,
        bits=form.bits,
        block_size=form.block_size,
        gather_axis=0,
        quantize_axis=1,
    )[0]


def _rounded(table: ir.Value, form: Form) -> tuple[Blocks, float]:
    """A table that only gathers read, and its relative root mean square error."""
    rows, width = _shape(table)
    total = np.zeros(2)

    def judge(matrix: Matrix, part: Blocks) -> None:
        missed = part.dequantized() - matrix
        total[:] += np.square(missed).sum(dtype=float), np.square(matrix).sum(dtype=float)

    parts = column_parts(constant(table), transposed=True)
    blocks = in_parts(parts, form, (width, rows), judge=judge)
    return blocks, float(np.sqrt(total[0] / total[1])) if total[1] else 0.0


def _shape(table: ir.Value) -> tuple[int, int]:
    assert table.const_value is not None
    rows, width = (int(d) for d in table.const_value.shape.numpy())
    return rows, width
