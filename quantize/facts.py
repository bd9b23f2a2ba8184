"""What a quantization did, for people: which nodes, how, why not, and what share of the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from edgetfm.quantize.blocks import Blocks
from edgetfm.quantize.linear import Left, Linear
from edgetfm.quantize.rounding import Quantized
from edgetfm.quantize.work import unusual_work


class Facts:
    """Collects what happened to each node of one graph."""

    def __init__(self, linears: Sequence[Linear], left: Sequence[Left]) -> None:
        self._linears = list(linears)
        self._left = list(left)
        self._taken: list[dict[str, Any]] = []
        self._tables: list[dict[str, Any]] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._macs: dict[str, int] = {}

    @property
    def wanted(self) -> list[str]:
        """The tensors whose shapes tell how much work each node left in float is."""
        names = []
        for left in self._left:
            if left.inside:
                continue
            a, b = left.node.inputs[:2]
            names += [str(v.name) for v in (a, b) if v is not None and v.const_value is None]
            names.append(str(left.node.outputs[0].name))
        return list(dict.fromkeys(names))

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Count the work from the shapes that tensors have for the longest calibration item."""
        self._shapes |= shapes
        self._macs = self._counted()

    def _counted(self) -> dict[str, int]:
        """The multiply-accumulates of every matrix product whose shapes are known."""
        macs = {}
        for linear in self._linears:
            if shape := self._shapes.get(str(linear.x.name)):
                macs[linear.name] = prod(shape) * linear.shape[1]
        for left in self._left:
            work = 0 if left.inside else unusual_work(left.node, self._shape)
            if work is not None:
                macs |= {left.name: work} if work else {}
                continue
            output = self._output(left)
            if output and (inner := self._inner(left)):
                macs[left.name] = prod(output) * inner
        return macs

    def _output(self, left: Left) -> tuple[int, ...]:
        """The shape of its output, from its input where only that is known; () if neither is."""
        known = self._shapes.get(str(left.node.outputs[0].name), ())
        x, weight = left.node.inputs[:2]
        if known or x is None or weight is None or len(self._shape(weight)) != 2:
            return known
        turned = left.node.attributes.get("transB")
        columns = self._shape(weight)[0 if turned is not None and turned.as_int() else 1]
        rows = self._shape(x)[:-1]
        return (*rows, columns) if rows else ()

    def _inner(self, left: Left) -> int:
        """The length of the sums of a node left in float; 0 if it is not known."""
        a, b = left.node.inputs[:2]
        assert a is not None
        assert b is not None
        if left.node.op_type == "Conv":  # weight [outputs, inputs of a group, *kernel]
            return prod(self._shape(b)[1:])
        shape = self._shape(a)
        attribute = left.node.attributes.get("transA")
        turned = attribute is not None and attribute.as_int() == 1
        return (shape[0] if turned else shape[-1]) if shape else 0

    def _shape(self, value: ir.Value) -> tuple[int, ...]:
        if value.const_value is not None:
            return tuple(int(d) for d in value.const_value.shape.numpy())
        return self._shapes.get(str(value.name), ())

    def take(self, linear: Linear, alpha: float, where: str, error: float | None) -> None:
        """A product became int8, with this smoothing and this relative squared error."""
        entry: dict[str, Any] = {"node": linear.name, "shape": list(linear.shape)}
        if alpha:
            entry |= {"alpha": alpha, "smoothing": where}
        if error is not None:
            entry["error"] = _short(np.sqrt(error))
        self._taken.append(entry)

    def take_blocks(
        self, linear: Linear, blocks: Blocks, error: float | None, table: str | None
    ) -> None:
        """A product's weight is in blocks, with this relative squared error of its output.

        table: the name of the embedding table that is also its weight, and stored once. Where
        the two cannot share, the facts say that it is stored twice.
        """
        entry: dict[str, Any] = {"node": linear.name, "shape": list(linear.shape)}
        entry |= {"form": str(blocks.form), "bytes": 0 if table else blocks.bytes}
        if table:
            entry["shares"] = table
        elif any(
            "shape" in made and "form" not in made and made["table"] == linear.weight.name
            for made in self._tables
        ):
            entry["stored_twice"] = str(linear.weight.name)
        if error is not None:
            entry["error"] = _short(np.sqrt(error))
        self._taken.append(entry)

    def round_to_nearest(self, linears: Sequence[Linear]) -> None:
        """Taken products whose rounding makes up for no error: they have too many inputs."""
        names = {linear.name for linear in linears}
        for entry in self._taken:
            if entry["node"] in names:
                entry["rounding"] = "nearest: too many inputs to compensate"

    def take_rounded(self, is_rounded: Callable[[ir.Node], bool]) -> None:
        """Nodes that would stay in float are rounded too: products of activations, and Conv."""
        self._taken += [{"node": left.name} for left in self._left if is_rounded(left.node)]
        self._left = [left for left in self._left if not is_rounded(left.node)]

    def take_table(self, name: str, table: Quantized, error: float) -> None:
        """An embedding table became int8, with this relative root mean square error."""
        width, rows = table.values.shape
        entry = {"table": name, "shape": [rows, width], "error": _short(error)}
        self._tables.append(entry)

    def take_block_table(
        self,
        name: str,
        shape: tuple[int, int],
        blocks: Blocks,
        error: float | None,
        *,
        shared: bool,
    ) -> None:
        """An embedding table is in blocks, with this relative root mean square error.

        shared: with a product, among whose facts are its bytes and its error.
        """
        entry: dict[str, Any] = {"table": name, "shape": list(shape), "form": str(blocks.form)}
        entry["bytes"] = 0 if shared else blocks.bytes
        if error is not None:
            entry["error"] = _short(error)
        self._tables.append(entry)

    def leave_table(self, name: str, reason: str) -> None:
        """An embedding table stays in float."""
        self._tables.append({"table": name, "left_in_float": reason})

    def share(self, entries: Sequence[Mapping[str, Any]]) -> float | None:
        """The share of the multiply-accumulates that these are; None if nothing was measured."""
        macs = self._macs
        done = {entry["node"] for entry in entries}
        total = sum(macs.values())
        return sum(m for name, m in macs.items() if name in done) / total if total else None

    def to_json(self) -> dict[str, Any]:
        """The facts. `error` is the relative root mean square error of a node's output."""
        blocks = [entry for entry in self._taken if "form" in entry]
        parts = {"int8": [entry for entry in self._taken if "form" not in entry]}
        parts |= {"blocks": blocks} if blocks else {}
        facts: dict[str, Any] = {f"matrix_products_in_{k}": len(v) for k, v in parts.items()}
        facts["nodes_left_in_float"] = len(self._left)
        for name, entries in parts.items():
            if (share := self.share(entries)) is not None:
                facts[f"share_of_multiply_accumulates_in_{name}"] = round(share, 4)
        if blocks:
            facts["bytes_in_blocks"] = sum(entry["bytes"] for entry in blocks)
        facts["nodes"] = self._taken
        facts["left_in_float"] = [{"node": left.name, "reason": left.reason} for left in self._left]
        facts["embeddings"] = self._tables
        return facts


def _short(number: float) -> float:
    """Three digits: these are for people."""
    return float(f"{number:.3g}")
