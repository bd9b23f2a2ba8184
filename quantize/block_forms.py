"""What the products of a model are in blocks by several recipes, decided in one observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from edgetfm.graphs import infer_shapes
from edgetfm.progress import Progress, quiet
from edgetfm.quantize.apply import foresee
from edgetfm.quantize.block_tables import BlockTables
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.items import of_whole_texts
from edgetfm.quantize.linear import Linear, by_activation, find_linears
from edgetfm.quantize.plan import Memo
from edgetfm.quantize.recipes import Recipe
from edgetfm.quantize.weight_only import BlockPlan, BlockWeight
from edgetfm.signature import Feeds


def weights_in_blocks(
    model: ir.Model,
    recipes: Sequence[Recipe],
    feeds: Sequence[Feeds],
    *,
    memo: Memo,
    progress: Progress = quiet,
) -> list[dict[str, BlockWeight]]:
    """For each weight-only recipe the weight that each product gets by it, by the node's name.

    What the memo does not know yet is observed once for all recipes and added to it.
    """
    copy = infer_shapes(model.clone())
    linears, _ = find_linears(copy, ())
    plans = [block_plan(copy, recipe, linears) for recipe in recipes]
    foresee(plans, [of_whole_texts(model, batch) for batch in feeds], memo, progress)
    found = []
    for plan in plans:
        weights: dict[str, BlockWeight] = {}
        for _, group in by_activation(linears):
            decided = memo.decisions[plan.key(group)]
            weights |= {li.name: one for li, one in zip(group, decided, strict=True)}
        found.append(weights)
    return found


def block_sizes(model: ir.Model, recipe: Recipe, sizes: Sequence[int]) -> list[int]:
    """Those of the sizes that make different graphs: no weight may have inputs for the largest."""
    copy = infer_shapes(model.clone())
    linears, _ = find_linears(copy, ())
    seen: dict[tuple[str, ...], int] = {}
    for size in sizes:
        plan = block_plan(copy, replace(recipe, block_size=size), linears)
        seen[tuple(str(plan.form(linear)) for linear in linears)] = size
    return list(seen.values())


def block_plan(model: ir.Model, recipe: Recipe, linears: Sequence[Linear]) -> BlockPlan:
    """The plan of all products by a recipe whose tables are in blocks, or in no product."""
    tables = BlockTables(model, recipe, linears)
    return BlockPlan(model, recipe, linears, Facts(linears, []), {}, tables)
