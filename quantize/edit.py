"""Small edits of a graph: new constants, nodes put before others, values replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass


class Editor:
    """Changes one graph. Names it makes are unique; `finish` removes what became unused."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.graph = model.graph
        self._names = {v.name for v in self.graph.inputs} | set(self.graph.initializers)
        self._names |= {v.name for node in self.graph for v in node.outputs}

    def unique(self, name: str) -> str:
        """`name`, with a number behind it if it is taken."""
        free, number = name, 1
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        self._names.add(free)
        return free

    def constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        """A new initializer."""
        return self.initializer(name, ir.tensor(np.asarray(array, order="C")))

    def initializer(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """A new initializer with this content."""
        name = self.unique(name)
        tensor.name = name
        value = ir.Value(
            name=name,
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tensor.shape.numpy()),
        )
        self.graph.register_initializer(value)
        return value

    def before(
        self,
        node: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        *,
        outputs: int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> list[ir.Value]:
        """A new node in front of `node`; its outputs."""
        name = self.unique(name)
        new = ir.node(op_type, inputs, attributes, domain=domain, num_outputs=outputs, name=name)
        for number, value in enumerate(new.outputs):
            value.name = name if outputs == 1 else self.unique(f"{name}_{number}")
        self.graph.insert_before(node, new)
        return list(new.outputs)

    def replace(self, node: ir.Node, value: ir.Value) -> None:
        """Let `value` stand for the only output of `node` and take over its name."""
        old = node.outputs[0]
        name, value.type, value.shape = old.name, old.type, old.shape
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)
        old.name = None
        value.name = name

    def finish(self) -> None:
        """Remove nodes and initializers that nothing uses any more."""
        RemoveUnusedNodesPass()(self.model)
