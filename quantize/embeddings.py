"""The int8 embedding pass: a table of int8 rows, each with its own scale."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import constant, name_of
from edgetfm.quantize.rounding import Quantized, round_nearest
from edgetfm.quantize.spool import space

SMALLEST = 1000
"""Rows a table must have: smaller ones (positions, token types) save next to nothing."""

MIDDLE = 128
"""The zero point of a table in uint8."""

_ROWS = 4096  # taken at once


@dataclass(frozen=True)
class Embedding:
    """A Gather of whole rows of a constant float table [rows, width]."""

    node: ir.Node
    table: ir.Value

    @property
    def name(self) -> str:
        """The node's name."""
        return name_of(self.node)

    def may_be_int8(self, products: Sequence[ir.Node]) -> bool:
        """Whether everything that reads the table can read int8: gathers, and these products."""
        readers: list[ir.Node] = []
        for user in self.table.consumers():
            readers += user.outputs[0].consumers() if user.op_type == "Transpose" else [user]
        return not self.table.is_graph_output() and all(
            _gathers_rows(user) or any(user is product for product in products) for user in readers
        )

    def quantized(self, *, pair_safe: bool = False) -> tuple[Quantized, float]:
        """The table, [width, rows] with a scale a row, and its relative root mean square error.

        pair_safe: as a product that reads the table may need its weights (see rounding).
        Read and rounded some rows at a time, and kept on disk if it is large.
        """
        table = constant(self.table)
        values, scale = space(table.shape, np.dtype(np.int8)), np.empty(len(table), np.float32)
        error = power = 0.0
        for start in range(0, len(table), _ROWS):
            rows = np.ascontiguousarray(table[start : start + _ROWS].T)
            part = round_nearest(rows, pair_safe=pair_safe)
            values[start : start + _ROWS] = part.values.T
            scale[start : start + _ROWS] = part.scale
            error += float(np.square(part.dequantized() - rows).sum(dtype=np.float64))
            power += float(np.square(rows).sum(dtype=np.float64))
        return Quantized(values.T, scale), (error / power) ** 0.5 if power else 0.0


def find_embeddings(model: ir.Model) -> list[Embedding]:
    """The tables that are worth storing in int8."""
    found = []
    for node in model.graph:
        table = node.inputs[0] if _gathers_rows(node) else None
        tensor = None if table is None else table.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
            continue
        if int(tensor.shape.numpy()[0]) >= SMALLEST:
            assert table is not None
            found.append(Embedding(node, table))
    return found


def _gathers_rows(node: ir.Node) -> bool:
    axis = node.attributes.get("axis")
    return node.op_type == "Gather" and node.domain == "" and (axis is None or axis.as_int() == 0)


def run(
    model: ir.Model,
    embeddings: Sequence[Embedding],
    tables: Mapping[str, Quantized],
    unsigned: Collection[str] = (),
) -> tuple[ir.Model, bool]:
    """Gather from int8 `tables` (initializer name -> quantized table); changes `model`.

    unsigned: the names of tables that are stored in uint8, with 128 added.
    """
    editor = Editor(model)
    made: dict[str, tuple[ir.Value, ir.Value]] = {}
    for embedding in embeddings:
        stem = str(embedding.table.name)
        if stem not in made:
            stored = tables[stem].values.T
            made[stem] = (
                editor.constant(stored_name(stem), unsigned_steps(stored))
                if stem in unsigned
                else editor.constant(stored_name(stem), stored),
                editor.constant(scale_name(stem), tables[stem].scale[:, None]),
            )
        rows, scales = made[stem]
        node, name, index = embedding.node, embedding.name, embedding.node.inputs[1]
        row = editor.before(node, "Gather", [rows, index], f"{name}_int8")[0]
        real = editor.before(node, "Cast", [row], f"{name}_cast", to=ir.DataType.FLOAT)[0]
        if stem in unsigned:
            middle = editor.constant(f"{name}_middle", np.array(MIDDLE, np.float32))
            real = editor.before(node, "Sub", [real, middle], f"{name}_signed")[0]
        scale = editor.before(node, "Gather", [scales, index], f"{name}_scale")[0]
        editor.replace(node, editor.before(node, "Mul", [real, scale], f"{name}_scaled")[0])
    editor.finish()
    return model, bool(embeddings)


def stored_name(table: str) -> str:
    """The name of the int8 table [rows, width] made of the float one."""
    return f"{table}_int8"


def scale_name(table: str) -> str:
    """The name of its scales, [rows, 1]."""
    return f"{table}_row_scale"


def unsigned_steps(steps: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Signed steps with 128 added; on disk if they are many."""
    made = space(steps.shape, np.dtype(np.uint8))
    np.bitwise_xor(steps.view(np.uint8), np.uint8(MIDDLE), out=made)
    return made
