"""Graphs made elsewhere, in the form that the passes here know: what one export says in Constant
nodes, functions or batched weights another says in plain initializers and matrix products.

Each step is model in, (model, changed) out, and leaves what the graph computes as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import (
    InlinePass,
    LiftConstantsToInitializersPass,
    NameFixPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
)

from edgetfm.errors import InputError, listed
from edgetfm.quantize import gelu_order
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import constant

Pass = Callable[[ir.Model], tuple[ir.Model, bool]]

OPSET = 13
"""The lowest that recipes need: before it QuantizeLinear knows no scale a channel."""

_QUANTIZED = frozenset(
    {"BlockQuantizedMatMul", "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear"}
    | {"DynamicQuantizeMatMul", "GatherBlockQuantized", "MatMulBnb4", "MatMulFpQ4"}
    | {"MatMulInteger", "MatMulInteger16", "MatMulIntegerToFloat", "MatMulNBits"}
    | {"DynamicQuantizeLSTM", "QuantizeLinear"}
)
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def normalize(model: ir.Model) -> ir.Model:
    """The same graph with constants as initializers and a name of its own for each node.

    Changes `model`. Names depend on the graph alone, so that a recipe can speak of nodes. Raises
    InputError for a graph that is not in float32, or that cannot be brought to opset 13.
    """
    check_float(model)
    for step in PASSES:
        model, _ = step(model)
    return model


def check_float(model: ir.Model) -> None:
    """Raise InputError for a graph that is already quantized, or whose weights are halves."""
    nodes = [node for graph in _graphs(model) for node in graph]
    done = Counter(node.op_type for node in nodes if _is_quantized(node))
    values = [v.const_value for g in model.graphs() for v in g.initializers.values()]
    values += [n.attributes["value"].as_tensor() for n in nodes if _is_tensor(n)]
    halves = Counter(
        t.dtype.name.lower() for t in values if t is not None and _is_weight(t, _HALVES)
    )
    problems = []
    if done:
        shown = ", ".join(f"{count} {op}" for op, count in sorted(done.items()))
        problems.append(f"it is already quantized ({shown})")
    problems += [f"{count} of its weights are {kind}" for kind, count in sorted(halves.items())]
    if problems:
        raise InputError(
            f"this graph cannot be quantized: {listed(problems)}\n"
            "give the float32 graph that it was made from"
        )


def _graphs(model: ir.Model) -> Iterator[ir.Graph | ir.Function]:
    yield from model.graphs()
    yield from model.functions.values()


def _is_quantized(node: ir.Node) -> bool:
    return node.op_type in _QUANTIZED or node.op_type.startswith(("QLinear", "QAttention", "QGemm"))


def _is_tensor(node: ir.Node) -> bool:
    return node.op_type == "Constant" and "value" in node.attributes


def _is_weight(tensor: ir.TensorProtocol, dtypes: tuple[ir.DataType, ...]) -> bool:
    return tensor.dtype in dtypes and len(tensor.shape) > 1


def plain_inputs(model: ir.Model) -> tuple[ir.Model, bool]:
    """Weights are no inputs: before IR version 4 files list them there too."""
    result = RemoveInitializersFromInputsPass()(model)
    return result.model, result.modified


def inline(model: ir.Model) -> tuple[ir.Model, bool]:
    """No function is left: each call has become the nodes of its body."""
    if not model.functions:
        return model, False
    inlined = InlinePass()(model).model
    inlined.functions.clear()
    return inlined, True


def raise_opset(model: ir.Model) -> tuple[ir.Model, bool]:
    """Opset 13 or later; InputError if onnx cannot convert an older graph."""
    now = model.graph.opset_imports.get("", OPSET)
    if now >= OPSET:
        return model, False
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(_inside(model)), OPSET)
    except Exception as error:  # the converter raises bare RuntimeErrors
        raise InputError(
            f"the graph has opset {now}, and onnx cannot raise it to {OPSET}: {error}\n"
            f"export it again with opset {OPSET} or later"
        ) from error
    return ir.from_proto(proto), True


def _inside(model: ir.Model) -> ir.Model:
    """The graph with its weights in memory: the converter would lose sight of their files."""
    for value in model.graph.initializers.values():
        if isinstance(tensor := value.const_value, ir.ExternalTensor):
            value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    return model


def lift_constants(model: ir.Model) -> tuple[ir.Model, bool]:
    """Every constant is an initializer."""
    result = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return result.model, result.modified


def skip_identities(model: ir.Model) -> tuple[ir.Model, bool]:
    """No Identity stands between a value and those that read it."""
    changed = False
    for node in list(model.graph):
        x = node.inputs[0] if node.inputs else None
        plain = node.domain == "" and node.op_type == "Identity"
        if not plain or x is None or node.outputs[0].is_graph_output():
            continue
        ir.convenience.replace_all_uses_with(node.outputs[0], x)
        model.graph.remove(node, safe=True)
        changed = True
    return model, changed


_FOLDED = ("Cast", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def fold_constants(model: ir.Model) -> tuple[ir.Model, bool]:
    """Weights that are cast, reshaped or transposed at run time are stored so.

    A matrix under a Transpose alone stays: the passes read through it, and it may be a table that
    an embedding shares.
    """
    editor = Editor(model)
    changed = False
    for node in list(model.graph):
        if _is_folded(node) and not _turns_matrix(node):
            node = _with_constants(editor, node)
            arrays = [None if v is None else constant(v) for v in node.inputs]
            name = str(node.outputs[0].name)
            editor.replace(node, editor.constant(f"{name}_folded", _computed(node, arrays)))
            changed = True
    if changed:
        editor.finish()
    return model, changed


def _is_folded(node: ir.Node) -> bool:
    """Whether it only moves or casts constants, perhaps behind a Transpose of one."""
    if node.domain != "" or node.op_type not in _FOLDED or node.outputs[0].is_graph_output():
        return False
    return all(
        v is None
        or v.const_value is not None
        or ((p := v.producer()) is not None and _turns_matrix(p))
        for v in node.inputs
    )


def _turns_matrix(node: ir.Node) -> bool:
    x = node.inputs[0] if node.inputs else None
    tensor = None if x is None else x.const_value
    turns = node.domain == "" and node.op_type == "Transpose"
    return turns and tensor is not None and len(tensor.shape) == 2


def _with_constants(editor: Editor, node: ir.Node) -> ir.Node:
    """The node with a Transpose in front of it computed."""
    for position, value in enumerate(node.inputs):
        if value is None or value.const_value is not None:
            continue
        turn = value.producer()
        assert turn is not None
        assert turn.inputs[0] is not None
        made = _computed(turn, [constant(turn.inputs[0])])
        node.replace_input_with(position, editor.constant(f"{value.name}_folded", made))
    return node


def _computed(node: ir.Node, arrays: list[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """What one node makes of these arrays, by onnx's own reference."""
    from onnx.reference import ReferenceEvaluator

    proto = ir.to_proto(node)
    (made,) = ReferenceEvaluator(proto).run(
        None, {n: a for n, a in zip(proto.input, arrays, strict=True) if a is not None}
    )
    return np.asarray(made)


def flat_weights(model: ir.Model) -> tuple[ir.Model, bool]:
    """A weight [1, inputs, outputs] is a matrix where the activation has as many axes."""
    editor = Editor(model)
    flat: dict[str, ir.Value] = {}
    for node, x, weight in _products(model):
        tensor = weight.const_value
        if tensor is None or x.const_value is not None or x.shape is None:
            continue
        sizes = [int(d) for d in tensor.shape.numpy()]
        if not 2 < len(sizes) <= len(x.shape) or any(size != 1 for size in sizes[:-2]):
            continue
        name = str(weight.name)
        if name not in flat:
            flat[name] = editor.constant(f"{name}_flat", constant(weight).reshape(sizes[-2:]))
        node.replace_input_with(1, flat[name])
    if flat:
        editor.finish()
    return model, bool(flat)


def weights_on_the_right(model: ir.Model) -> tuple[ir.Model, bool]:
    """weight @ x is the transpose of x^T @ weight^T: a product that can be quantized."""
    editor = Editor(model)
    changed = False
    for node, weight, x in list(_products(model)):
        tensor = weight.const_value
        if tensor is None or x.const_value is not None or len(tensor.shape) != 2:
            continue
        if x.shape is None or len(x.shape) < 2:
            continue
        axes = list(range(len(x.shape)))
        axes[-2:] = axes[:-3:-1]
        name, turned = node.name, constant(weight).T
        left = editor.before(node, "Transpose", [x], f"{name}_turned", perm=axes)[0]
        right = editor.constant(f"{weight.name}_turned", turned)
        product = editor.before(node, "MatMul", [left, right], f"{name}_product")[0]
        result = editor.before(node, "Transpose", [product], f"{name}_back", perm=axes)[0]
        made = product.producer()
        assert made is not None
        editor.replace(node, result)
        made.name = name
        changed = True
    if changed:
        editor.finish()
    return model, changed


def _products(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Value, ir.Value]]:
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "MatMul":
            x, y = node.inputs
            if x is not None and y is not None:
                yield node, x, y


def name_nodes(model: ir.Model) -> tuple[ir.Model, bool]:
    """Each node has a name, and no two have the same; names that were unique are kept."""
    result = NameFixPass(_Names())(model)
    return result.model, result.modified


class _Names:
    """A node without a name is called after what it does, a value after who made it."""

    def generate_node_name(self, node: ir.Node) -> str:
        return node.name or node.op_type

    def generate_value_name(self, value: ir.Value) -> str:
        producer = value.producer()
        return value.name or (f"{producer.name}:{value.index()}" if producer else "value")


def fresh_shapes(model: ir.Model) -> tuple[ir.Model, bool]:
    """The shapes in between are inferred anew: files carry some that older edits left behind."""
    outputs = {id(value) for value in model.graph.outputs}
    for node in model.graph:
        for value in node.outputs:
            if id(value) not in outputs:
                value.shape = None
    return ShapeInferencePass()(model).model, True


def drop_unused(model: ir.Model) -> tuple[ir.Model, bool]:
    """Nothing is left that no output needs."""
    result = RemoveUnusedNodesPass()(model)
    return result.model, result.modified


PASSES: tuple[Pass, ...] = (
    plain_inputs,
    inline,
    raise_opset,
    lift_constants,
    name_nodes,
    skip_identities,
    fold_constants,
    fresh_shapes,
    flat_weights,
    weights_on_the_right,
    gelu_order.run,
    drop_unused,
)
"""The steps in order. Functions go first, since the others look at the graph alone."""
