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
from edgetfm.quantize.apply import decide, foresee
from edgetfm.quantize.block_forms import block_plan
from edgetfm.quantize.block_tables import gathered, table_constants
from edgetfm.quantize.blocks import Blocks
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.embeddings import Embedding
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

    names: the products that can be switched, in graph order; a table that one of them shares is
    gathered from as it is multiplied by. bytes: what each takes in 4 and in 8 bits. costs: their
    shares of the bytes that 8 bits add to all of them, which a decoder must read for every token.
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
        linears, _ = find_linears(copy, recipe.keep_float)
        every = tuple(linear.name for linear in linears)
        memo = Memo() if memo is None else memo
        whole = [of_whole_texts(model, batch) for batch in feeds]
        four, eight = (
            block_plan(copy, replace(recipe, by_block=kept), linears) for kept in ((), every)
        )
        foresee((four, eight), whole, memo, progress)
        for plan in (four, eight):
            decide(plan, whole, memo, progress)
        super().__init__(copy, every, CHOICE)
        self.bytes = {
            n: (four.weights[n].blocks.bytes, eight.weights[n].blocks.bytes) for n in every
        }
        more = {name: max(1, large - small) for name, (small, large) in self.bytes.items()}
        self.costs = {name: added / sum(more.values()) for name, added in more.items()}
        _add_choice(copy, linears, four, eight)


def _add_choice(
    model: ir.Model, linears: Sequence[Linear], four: BlockPlan, eight: BlockPlan
) -> None:
    """Let an If for every product, and for a table that it shares, take one form or the other."""
    editor = Editor(model)
    choice = ir.Value(
        name=CHOICE, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([len(linears)])
    )
    model.graph.inputs.append(choice)
    first, chosen = model.graph[0], []
    for place, linear in enumerate(linears):
        number = editor.constant(f"{linear.name}_number", np.array(place))
        chosen += editor.before(first, "Gather", [choice, number], f"{linear.name}_on")
    for on, linear in zip(chosen, linears, strict=True):
        made = [plan.weights[linear.name] for plan in (four, eight)]
        table = str(linear.weight.name)
        for embedding in four.block_tables.embeddings.get(table, ()):
            rows = [_row(editor, embedding, new.blocks) for new in made]
            _switch(editor, embedding.node, on, rows)
        products = [
            product_in_blocks(editor, linear, new.blocks, constants_of(editor, linear, new))
            for new in made
        ]
        _switch(editor, linear.add or linear.node, on, products)
    model.opset_imports.setdefault(CONTRIB, 1)
    editor.finish()


def _row(editor: Editor, embedding: Embedding, blocks: Blocks) -> ir.Value:
    """What is gathered from a table of its own: a product's copy of it has another shape."""
    constants = table_constants(editor, str(embedding.table.name), blocks)
    return gathered(editor, embedding, constants, blocks.form)


def _switch(editor: Editor, last: ir.Node, chosen: ir.Value, forms: Sequence[ir.Value]) -> None:
    """Compute the first form or the second in the place of `last`: only the one that is chosen."""
    branches = []
    for form in forms:
        node = form.producer()
        assert node is not None
        editor.graph.remove(node)
        form.type = last.outputs[0].type
        branches.append(ir.Graph((), [form], nodes=[node], name=f"{form.name}_branch"))
    then, otherwise = branches
    name = f"{last.name}_switch"
    y = editor.before(last, "If", [chosen], name, then_branch=then, else_branch=otherwise)[0]
    editor.replace(last, y)
