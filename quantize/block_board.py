"""A graph with every product in 4-bit and in 8-bit blocks, and an input that says which is used.

As with `switchboard`, the effect of a product on the outputs is measured by asking one graph again
with another choice. What is returned to 8 bits goes into the recipe's `by_block`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgetfm.graphs import infer_shapes
from edgetfm.progress import Progress, quiet
from edgetfm.quantize.apply import decide
from edgetfm.quantize.block_tables import BlockTables
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.items import of_whole_texts
from edgetfm.quantize.linear import CONTRIB, Linear, find_linears
from edgetfm.quantize.plan import Memo
from edgetfm.quantize.recipes import Recipe
from edgetfm.quantize.switchboard import Board
from edgetfm.quantize.weight_only import BlockPlan, constants_of, product_in_blocks
from edgetfm.signature import Feeds

CHOICE = "edgetfm_4_bit_nodes"
"""The added input: bool [products], true where 4 bits are used."""


class BlockBoard(Board):
    """Answers of `model` with any of its products in 8-bit blocks and the rest as in `recipe`.

    names: the products that can be switched, in graph order. costs: their shares of the bytes
    that 8 bits add to all of them, which a decoder must read for every token.
    """

    def __init__(
        self,
        model: ir.Model,
        recipe: Recipe,
        feeds: Sequence[Feeds],
        *,
        memo: Memo | None = None,
        progress: Progress = quiet,
    ) -> None:
        """`recipe`: of precision int4. `feeds`, `memo`: as in `quantize_graph`, which it spares."""
        copy = infer_shapes(model.clone())
        linears, left = find_linears(copy, recipe.keep_float)
        four = BlockPlan(
            copy, recipe, linears, Facts(linears, left), {}, BlockTables(copy, recipe, linears)
        )
        whole = [of_whole_texts(model, batch) for batch in feeds]
        decide(four, whole, Memo() if memo is None else memo, progress)
        wide = replace(recipe, precision="int8-weight", rounding="nearest")
        eight = BlockPlan(copy, wide, linears, Facts(linears, left), {}, _no_tables(copy, wide))
        decide(eight, [], Memo(), progress)
        super().__init__(copy, [linear.name for linear in linears], CHOICE)
        more = [_more(linear, four, eight) for linear in linears]
        self.costs = {n: m / sum(more) for n, m in zip(self.names, more, strict=True)}
        _add_choice(copy, linears, four, eight)


def _no_tables(model: ir.Model, recipe: Recipe) -> BlockTables:
    """Tables stay in float: what a head's weight does is measured apart from what a gather does."""
    return BlockTables(model, replace(recipe, embeddings=False), ())


def _more(linear: Linear, four: BlockPlan, eight: BlockPlan) -> int:
    small, large = (plan.weights[linear.name].blocks.bytes for plan in (four, eight))
    return max(1, large - small)


def _add_choice(
    model: ir.Model, linears: Sequence[Linear], four: BlockPlan, eight: BlockPlan
) -> None:
    """Put both forms in the place of every product, and a Where behind them."""
    editor = Editor(model)
    choice = ir.Value(
        name=CHOICE, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([len(linears)])
    )
    model.graph.inputs.append(choice)
    for place, linear in enumerate(linears):
        number = editor.constant(f"{linear.name}_number", np.array(place))
        chosen = editor.before(linear.node, "Gather", [choice, number], f"{linear.name}_on")[0]
        forms = []
        for plan in (four, eight):
            new = plan.weights[linear.name]
            constants = constants_of(editor, linear, new)
            forms.append(product_in_blocks(editor, linear, new.blocks, constants))
        last = linear.add or linear.node
        y = editor.before(last, "Where", [chosen, *forms], f"{linear.name}_switch")[0]
        editor.replace(last, y)
    model.opset_imports.setdefault(CONTRIB, 1)
    editor.finish()
