"""The dynamic int8 pass: matrix products in int8, the activation's scale found at each call.

    x -> DynamicQuantizeLinear -> MatMulInteger(u8, s8) -> Cast -> Mul(x's scale * weight's) -> Add

onnxruntime fuses this to one DynamicQuantizeMatMul, or a MatMulIntegerToFloat where several
products share the quantized activation; other runtimes run it as it stands.
"""

from __future__ import annotations

import onnx_ir as ir

from edgetfm.quantize import embeddings
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import Linear, by_activation
from edgetfm.quantize.plan import Int8Weight, Plan


def run(model: ir.Model, plan: Plan) -> tuple[ir.Model, bool]:
    """Put everything that `plan` decided into `model`, which it changes."""
    plan.fold()
    embeddings.run(model, plan.embeddings, plan.tables, plan.unsigned)
    editor = Editor(model)
    for x, group in by_activation(plan.linears):
        steps = quantized(editor, x, group[0].node, plan)
        for linear in group:
            y = product(editor, linear, plan.weights[linear.name], steps)
            editor.replace(linear.add or linear.node, y)
    editor.finish()
    return model, bool(plan.linears or plan.embeddings)


Int8Activation = tuple[ir.Value, ir.Value, ir.Value]


def quantized(editor: Editor, x: ir.Value, before: ir.Node, plan: Plan) -> Int8Activation:
    """The steps, scale and zero point of `x`, smoothed if the plan says so."""
    source, name = x, str(x.name)
    if name in plan.divisors:
        inverse = editor.constant(f"{name}_smoothing", 1 / plan.divisors[name])
        source = editor.before(before, "Mul", [x, inverse], f"{name}_smoothed")[0]
    steps, scale, zero = editor.before(
        before, "DynamicQuantizeLinear", [source], f"{name}_quantized", outputs=3
    )
    return steps, scale, zero


def product(editor: Editor, linear: Linear, new: Int8Weight, x: Int8Activation) -> ir.Value:
    """The layer's output in float, its bias added, from the quantized activation."""
    node, name, stem = linear.node, linear.name, str(linear.weight.name)
    steps, scale, zero = x
    if new.table is not None:
        table = editor.graph.initializers[embeddings.stored_name(new.table)]
        weight = editor.before(node, "Transpose", [table], f"{name}_weight", perm=[1, 0])[0]
    else:
        weight = editor.constant(f"{stem}_int8", new.weight.values)
    weight_scale = editor.constant(f"{stem}_scale", new.weight.scale)
    product = editor.before(node, "MatMulInteger", [steps, weight, zero], f"{name}_int32")[0]
    real = editor.before(node, "Cast", [product], f"{name}_cast", to=ir.DataType.FLOAT)[0]
    both = editor.before(node, "Mul", [scale, weight_scale], f"{name}_scale")[0]
    y = editor.before(node, "Mul", [real, both], f"{name}_scaled")[0]
    if linear.bias is not None:
        bias = linear.bias
        if new.bias is not None:
            bias = editor.constant(f"{linear.bias.name}_folded", new.bias)
        y = editor.before(node, "Add", [y, bias], f"{name}_biased")[0]
    return y
